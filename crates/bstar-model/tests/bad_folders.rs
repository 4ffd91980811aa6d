//! Model folders that are damaged or hostile: each is refused by file and key, quickly, without a
//! panic.

#![expect(clippy::unwrap_used, reason = "a file that cannot be written fails the test")]

mod goldens;

use bstar_core::RngKey;
use bstar_core::rng::{Rng, below};
use bstar_core::{Fault, FaultClass};
use bstar_model::config::ModelConfig;
use bstar_model::weights::Weights;
use goldens::Golden;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CONFIG: &str = "config.json";
const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const QUERY: &str = "model.layers.0.self_attn.q_proj.weight";

/// A copy of a golden model's folder.
fn copy(family: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in [CONFIG, MODEL, "generation_config.json"] {
        fs::copy(Golden::folder(family).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// The header of a file, and the bytes behind it.
fn parts(file: &[u8]) -> (Value, Vec<u8>) {
    let (length, rest) = file.split_at(8);
    let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
    (serde_json::from_slice(&rest[..length]).unwrap(), rest[length..].to_vec())
}

fn with_header(header: &str, numbers: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), numbers].concat()
}

fn check(family: &str, words: &[&str], damage: impl FnOnce(&Path)) {
    let dir = copy(family);
    damage(dir.path());
    let start = Instant::now();
    let error = Weights::load(dir.path()).err().unwrap_or_else(|| panic!("{words:?} is missed"));
    let fault = Fault::from(error);
    assert!(start.elapsed() < Duration::from_secs(1), "{fault}");
    assert_eq!(fault.class, FaultClass::Data, "{fault}");
    assert!(fault.hint.is_some(), "{fault}");
    for word in words {
        assert!(fault.message.contains(word), "{word} is not in: {fault}");
    }
}

/// Changes a field of the config.
fn check_config(family: &str, field: &str, value: &Value) {
    check(family, &[CONFIG, field], |dir| {
        let path = dir.join(CONFIG);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[field] = value.clone();
        fs::write(path, config.to_string()).unwrap();
    });
}

/// Changes the header of the tensors.
fn check_header(words: &[&str], change: impl FnOnce(&mut Value)) {
    check("llama3", &[&[MODEL], words].concat(), |dir| {
        let path = dir.join(MODEL);
        let (mut header, numbers) = parts(&fs::read(&path).unwrap());
        change(&mut header);
        fs::write(path, with_header(&header.to_string(), &numbers)).unwrap();
    });
}

/// Writes a whole header.
fn check_text(words: &[&str], header: &str) {
    check("llama3", &[&[MODEL], words].concat(), |dir| {
        fs::write(dir.join(MODEL), with_header(header, &[0; 64])).unwrap();
    });
}

#[test]
fn configs_of_models_that_the_engine_cannot_run_are_refused_by_key() {
    for (family, field, value) in [
        ("llama2", "architectures", json!(["MambaForCausalLM"])),
        ("llama2", "model_type", json!("mixtral")),
        ("mistral", "model_type", json!("llama")),
        ("qwen3", "num_experts", json!(128)),
        ("qwen3", "attention_bias", json!(true)),
        ("qwen2", "layer_types", json!(["sliding_attention", "full_attention"])),
        ("qwen2", "sliding_window", json!(0)),
        ("qwen2", "max_window_layers", json!(-1)),
        ("mistral", "sliding_window", json!("wide")),
        ("llama3", "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        ("llama3", "rope_scaling", json!({"rope_type": "dynamic", "factor": 4.0})),
        ("llama3", "rope_scaling", json!([1])),
        ("llama3", "rope_parameters", json!({"rope_type": "longrope"})),
        ("llama3", "hidden_act", json!("gelu")),
        ("llama3", "mlp_bias", json!(true)),
        ("llama3", "quantization_config", json!({"bits": 4})),
        ("llama3", "partial_rotary_factor", json!(0.5)),
        ("llama3", "hidden_size", json!(1_u64 << 60)),
        ("llama3", "head_dim", json!(7)),
    ] {
        check_config(family, field, &value);
    }
}

#[test]
fn damaged_tensor_files_are_refused_by_file_and_tensor() {
    check_header(&["v_proj", "has to begin at"], |header| {
        drop(header.as_object_mut().unwrap().shift_remove(QUERY));
    });
    check_header(&["`other`", "no place"], |header| {
        let entry = header.as_object_mut().unwrap().shift_remove(QUERY).unwrap();
        header["other"] = entry;
    });
    check_header(&[QUERY, "type I32"], |header| header[QUERY]["dtype"] = json!("I32"));
    check_header(&[QUERY, "bytes for shape"], |header| header[QUERY]["dtype"] = json!("F16"));
    check_header(&[QUERY, "unknown type"], |header| header[QUERY]["dtype"] = json!("F37"));
    check_header(&[QUERY, "has shape [32, 64]"], |header| {
        header[QUERY]["shape"] = json!([32, 64]);
    });
    check_header(&[QUERY, "bytes for shape"], |header| {
        header[QUERY]["shape"] = json!([1_u64 << 62, 4]);
    });
    check_header(&["has to begin at"], |header| {
        header[QUERY]["data_offsets"] = json!([0, 8192]);
    });
    check_header(&["has to begin at"], |header| {
        header[QUERY]["data_offsets"] = json!([1_u64 << 50, (1_u64 << 50) + 8192]);
    });
    check_header(&["has to begin at"], |header| {
        let [from, to] = [0, 1].map(|i| header[QUERY]["data_offsets"][i].clone());
        header[QUERY]["data_offsets"] = json!([to, from]);
    });
    check_header(&["unknown field `extra`"], |header| header[QUERY]["extra"] = json!(1));
    check_text(
        &["`x` is there twice"],
        r#"{"x": {"dtype": "F32", "shape": [8],
        "data_offsets": [0, 32]}, "x": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]}}"#,
    );
    check_text(&["header is wrong"], &format!("{{\"__metadata__\": {}", "[".repeat(100_000)));
    check_text(&["the header"], "{}");
    check_text(&["header is wrong"], &"[".repeat(1 << 20));
    check_text(&["header is wrong"], "{\"x\": 3}");
}

#[test]
fn truncated_files_are_refused() {
    for keep in [0, 7, 8, 100, 5000, 60_000] {
        check("llama3", &[MODEL], |dir| {
            let bytes = fs::read(dir.join(MODEL)).unwrap();
            fs::write(dir.join(MODEL), &bytes[..keep]).unwrap();
        });
    }
    for length in [u64::MAX, 1 << 40, 1 << 24] {
        check("llama3", &[MODEL, "header"], |dir| {
            fs::write(dir.join(MODEL), length.to_le_bytes()).unwrap();
        });
    }
    check("llama3", &[MODEL, "need"], |dir| {
        let bytes = fs::read(dir.join(MODEL)).unwrap();
        fs::write(dir.join(MODEL), [&bytes[..], &[0]].concat()).unwrap();
    });
    check("llama3", &[CONFIG, "recursion limit"], |dir| {
        fs::write(dir.join(CONFIG), "[".repeat(1 << 20)).unwrap();
    });
}

/// Cuts the tensors into shards with an index.
fn shard(dir: &Path) -> Value {
    let file = fs::read(dir.join(MODEL)).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut map = json!({});
    let names: Vec<String> = tensors.names().into_iter().map(ToOwned::to_owned).collect();
    for (number, names) in names.chunks(7).enumerate() {
        let shard = format!("model-{number}.safetensors");
        let views = names.iter().map(|name| (name, tensors.tensor(name).unwrap()));
        let views: Vec<(&String, TensorView<'_>)> = views.collect();
        fs::write(dir.join(&shard), safetensors::serialize(views, None).unwrap()).unwrap();
        for name in names {
            map[name] = json!(shard);
        }
    }
    fs::remove_file(dir.join(MODEL)).unwrap();
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(dir.join(INDEX), index.to_string()).unwrap();
    index
}

#[test]
fn shards_are_joined_and_missing_ones_are_named() {
    let dir = copy("qwen2");
    shard(dir.path());
    assert_eq!(Weights::load(dir.path()).unwrap(), Golden::read("qwen2").weights);
    check("qwen2", &["no such file", "model-1.safetensors"], |dir| {
        shard(dir);
        fs::remove_file(dir.join("model-1.safetensors")).unwrap();
    });
    check("qwen2", &["model-7.safetensors", "is also in another file"], |dir| {
        let mut index = shard(dir);
        fs::copy(dir.join("model-1.safetensors"), dir.join("model-7.safetensors")).unwrap();
        index["weight_map"]["more"] = json!("model-7.safetensors");
        fs::write(dir.join(INDEX), index.to_string()).unwrap();
    });
    for file in ["../model-1.safetensors", "/model-1.safetensors", "..", ""] {
        check("qwen2", &[INDEX, "leads out of the folder"], |dir| {
            let mut index = shard(dir);
            index["weight_map"]["more"] = json!(file);
            fs::write(dir.join(INDEX), index.to_string()).unwrap();
        });
    }
}

#[test]
fn half_precision_and_stored_tied_heads_load() {
    let dir = copy("llama3");
    let file = fs::read(dir.path().join(MODEL)).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let upper_halves = |name: &str| {
        let words = tensors.tensor(name).unwrap().data().to_vec();
        words.as_chunks::<4>().0.iter().flat_map(|word| [word[2], word[3]]).collect::<Vec<u8>>()
    };
    let mut stored: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec(), upper_halves(name)))
        .collect();
    let head = (vec![32, 32], upper_halves("model.embed_tokens.weight"));
    stored.push(("lm_head.weight".into(), head.0, head.1));
    let views = stored.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::BF16, shape.clone(), bytes).unwrap())
    });
    let file = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    fs::write(dir.path().join(MODEL), file).unwrap();
    let (halved, whole) = (Weights::load(dir.path()).unwrap(), Golden::read("llama3").weights);
    assert_eq!(halved.config, whole.config);
    for (half, full) in halved.to_flat().iter().zip(whole.to_flat()) {
        assert_eq!(half.to_bits(), full.to_bits() & 0xffff_0000);
    }
}

/// Replaces, drops, doubles or adds a few bytes.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    const WORDS: [&[u8]; 12] = [
        b"-1",
        b"0",
        b"null",
        b"1e309",
        b"18446744073709551615",
        b"\"\"",
        b"[[",
        b"{}",
        b"9",
        b"}",
        b"\xff",
        b"true",
    ];
    for _ in 0..=below(rng, 3) {
        let at = below(rng, bytes.len().max(1)).min(bytes.len());
        let end = (at + below(rng, 6)).min(bytes.len());
        let word = match below(rng, 4) {
            0 => Vec::new(),
            1 => [&bytes[at..end], &bytes[at..end]].concat(),
            2 => vec![u8::try_from(below(rng, 256)).unwrap()],
            _ => WORDS[below(rng, WORDS.len())].to_vec(),
        };
        bytes.splice(at..end, word);
    }
}

#[test]
fn mutated_configs_and_headers_never_panic() {
    let mut rng = RngKey::from_seed(17).child("mutations").rng();
    let dir = copy("qwen2");
    let [config, model] = [CONFIG, MODEL].map(|file| fs::read(dir.path().join(file)).unwrap());
    let mut outcomes = [0; 4];
    for _ in 0..4000 {
        let mut text = config.clone();
        mutate(&mut text, &mut rng);
        outcomes[usize::from(ModelConfig::from_json(&text).is_ok())] += 1;
    }
    let length = usize::try_from(u64::from_le_bytes(model[..8].try_into().unwrap())).unwrap();
    for round in 0..400 {
        let (mut head, numbers) = (model[..8 + length].to_vec(), &model[8 + length..]);
        if round % 4 == 0 {
            mutate(&mut head, &mut rng);
        } else {
            let mut header = head.split_off(8);
            mutate(&mut header, &mut rng);
            head = [&(header.len() as u64).to_le_bytes(), &header[..]].concat();
        }
        fs::write(dir.path().join(MODEL), [&head[..], numbers].concat()).unwrap();
        outcomes[2 + usize::from(Weights::load(dir.path()).is_ok())] += 1;
    }
    // Every kind of outcome occurs, so the mutations are neither all fatal nor all harmless.
    assert!(outcomes.iter().all(|&count| count > 5), "{outcomes:?}");
}
