//! One file of a model folder, named by the first byte, beside good ones: the folder is refused with an
//! error, or its weights are the same when they are saved and loaded again.
#![no_main]

use bstar_model::folder::FolderError;
use bstar_model::lora::Adapter;
use bstar_model::weights::Weights;
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A model of 66 numbers.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 5,
    "hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 1,
    "eos_token_id": 1}"#;
const ADAPTER: &str = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"]}"#;
/// Each is what the input replaces.
const FILES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "generation_config.json",
    "shard.safetensors",
    "adapter_config.json",
    "adapter_model.safetensors",
];

fuzz_target!(|input: &[u8]| {
    let Some((&which, bytes)) = input.split_first() else { return };
    let name = FILES[which as usize % FILES.len()];
    let dir = folder();
    for file in FILES {
        let _ = std::fs::remove_file(dir.join(file));
    }
    write(dir, "config.json", CONFIG.as_bytes());
    write(dir, "adapter_config.json", ADAPTER.as_bytes());
    let good = good_tensors();
    if name == "shard.safetensors" {
        write(dir, FILES[1], br#"{"weight_map": {"x": "shard.safetensors"}}"#);
    } else if name != FILES[1] {
        write(dir, FILES[0], good);
    }
    write(dir, name, bytes);
    match Weights::load(dir) {
        Ok(weights) => {
            drop(Adapter::load(dir, &weights.config));
            let out = dir.join("again");
            match weights.save(&out) {
                Err(FolderError::NotFinite { .. }) => {}
                saved => {
                    saved.expect("weights can be saved");
                    assert_eq!(Weights::load(&out).expect("and loaded"), weights);
                }
            }
        }
        // Whose text is the user's: it names the file.
        Err(error) => assert!(error.to_string().contains(&*dir.to_string_lossy()), "{error}"),
    }
});

/// A folder of this process, in memory where the system has such a place.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let shared = Path::new("/dev/shm");
        let place = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let folder = place.join(format!("bstar-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    })
}

fn good_tensors() -> &'static [u8] {
    static TENSORS: OnceLock<Vec<u8>> = OnceLock::new();
    TENSORS.get_or_init(|| {
        let config = bstar_model::config::ModelConfig::from_json(CONFIG.as_bytes()).expect("good");
        let out = folder().join("good");
        let numbers = vec![0.5; config.parameter_count()];
        Weights::from_flat(&config, &numbers).save(&out).expect("a folder");
        std::fs::read(out.join(FILES[0])).expect("a file")
    })
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).expect("a file");
}
