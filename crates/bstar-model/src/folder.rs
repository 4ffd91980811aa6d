//! A Hugging Face model folder: reading and writing weights and their config.
//!
//! Reads `config.json` and `model.safetensors`, or the shards that `model.safetensors.index.json`
//! lists, of `f32`, `bf16` or `f16` numbers; writes one file of `f32`. Files come from strangers:
//! headers are checked by the `safetensors` crate, names and shapes here, and what does not fit is
//! an error with file and tensor in it. A file is written whole and flushed; renaming the folder
//! into place is the caller's part.

use crate::config::{ConfigError, ModelConfig, all_finite};
use crate::files::{self, FileError};
use crate::trainer::DIVERGED_HINT;
use crate::weights::{WeightTensor, Weights, little_endian_bytes};
use bstar_core::{Fault, FaultClass};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A model folder that cannot be read or written.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The operating system refused a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The config is not one that the engine can run.
    #[error("cannot use {}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: ConfigError,
    },
    /// A file is truncated or is not what it should be.
    #[error("broken file {}: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the config needs is not there.
    #[error("no tensor `{tensor}` in {}", path.display())]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The file or folder that should hold it.
        path: PathBuf,
    },
    /// A tensor that no config of this family has: the arithmetic would differ.
    #[error("tensor `{tensor}` of {} has no place in a Llama model", path.display())]
    UnknownTensor {
        /// The tensor.
        tensor: String,
        /// The file that holds it.
        path: PathBuf,
    },
    /// A tensor has another shape than the config says.
    #[error(
        "tensor `{tensor}` of {} has shape {found:?}, but the config asks for {expected:?}",
        path.display()
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// The file that holds it.
        path: PathBuf,
        /// Its shape.
        found: Vec<usize>,
        /// The shape of the config.
        expected: Vec<usize>,
    },
    /// A tensor has numbers of a type that is not read.
    #[error("tensor `{tensor}` of {} has type {found:?}, not F32, F16 or BF16", path.display())]
    NumberType {
        /// The tensor.
        tensor: String,
        /// The file that holds it.
        path: PathBuf,
        /// Its type.
        found: Dtype,
    },
    /// A tensor to be written holds numbers that are infinite or not numbers.
    #[error("the weights `{tensor}` are not finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
}

impl From<FolderError> for Fault {
    fn from(error: FolderError) -> Self {
        let message = error.to_string();
        match error {
            FolderError::File(error) => error.into(),
            FolderError::Config { problem, .. } => {
                let mut fault = Self::from(problem);
                fault.message = message;
                fault
            }
            FolderError::Broken { .. } => Self::new(FaultClass::Data, message)
                .hint("fetch the model folder again; this file is damaged"),
            FolderError::NotFinite { .. } => {
                Self::new(FaultClass::Training, message).hint(DIVERGED_HINT)
            }
            _ => Self::new(FaultClass::Data, message)
                .hint("check that config.json and the tensors are of the same Llama model"),
        }
    }
}

impl Weights {
    /// Loads `config.json` and the tensors of a model folder.
    pub fn load(dir: &Path) -> Result<Self, FolderError> {
        let config = load_config(dir)?;
        let shapes: BTreeMap<_, _> = config.tensor_shapes().into_iter().collect();
        let mut tensors = BTreeMap::new();
        for path in tensor_files(dir)? {
            for (name, tensor) in read_tensors(&path, |name, found| {
                expected_shape(&config, &shapes, name, found, &path)
            })? {
                tensors.insert(name, tensor);
            }
        }
        if let Some(missing) = shapes.into_keys().find(|name| !tensors.contains_key(name)) {
            let single = dir.join(MODEL_FILE);
            let path = if single.exists() { single } else { dir.into() };
            return Err(FolderError::MissingTensor { tensor: missing, path });
        }
        Ok(Self::from_tensors(config, tensors))
    }

    /// Writes `config.json`, `generation_config.json` and `model.safetensors` into a folder, which
    /// is created if need be. Weights that are not finite are refused, and nothing is written.
    pub fn save(&self, dir: &Path) -> Result<(), FolderError> {
        if let Some((name, _)) = self.tensors().find(|(_, tensor)| !all_finite(&tensor.data)) {
            return Err(FolderError::NotFinite { tensor: name.to_owned() });
        }
        files::create_folder(dir)?;
        let (config, generation) = (self.config.to_json(), self.config.to_generation_json());
        files::write_synced(&dir.join(CONFIG_FILE), &pretty(&config))?;
        files::write_synced(&dir.join(GENERATION_FILE), &pretty(&generation))?;
        let tensors = self
            .tensors()
            .map(|(name, tensor)| (name.to_owned(), tensor.shape.clone(), tensor.data.as_slice()));
        write_tensors(&dir.join(MODEL_FILE), tensors)
    }
}

/// Reads every tensor of a safetensors file as `f32`. `check` is asked about each name and shape
/// first: `Ok(false)` leaves a tensor out.
pub(crate) fn read_tensors(
    path: &Path,
    mut check: impl FnMut(&str, &[usize]) -> Result<bool, FolderError>,
) -> Result<Vec<(String, WeightTensor)>, FolderError> {
    let bytes = files::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| FolderError::Broken { path: path.into(), reason: error.to_string() })?;
    let mut read = Vec::new();
    for (name, view) in tensors.iter() {
        if check(name, view.shape())? {
            let data = numbers(&view).ok_or_else(|| FolderError::NumberType {
                tensor: name.into(),
                path: path.into(),
                found: view.dtype(),
            })?;
            read.push((name.into(), WeightTensor { shape: view.shape().to_vec(), data }));
        }
    }
    Ok(read)
}

/// Writes a safetensors file of `f32` tensors and flushes it to the disk.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, Vec<usize>, &'a [f32])>,
) -> Result<(), FolderError> {
    let bytes: Vec<_> =
        tensors.map(|(name, shape, data)| (name, shape, little_endian_bytes(data))).collect();
    let views: Vec<_> = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name.as_str(), view.expect("four bytes for each number"))
        })
        .collect();
    // `transformers` refuses files without it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).expect("the views are valid");
    Ok(files::write_synced(path, &file)?)
}

const CONFIG_FILE: &str = "config.json";
const GENERATION_FILE: &str = "generation_config.json";
const MODEL_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// The config, with what the generation config adds to it.
fn load_config(dir: &Path) -> Result<ModelConfig, FolderError> {
    let path = dir.join(CONFIG_FILE);
    let mut config = ModelConfig::from_json(&files::read(&path)?)
        .map_err(|problem| FolderError::Config { path, problem })?;
    let path = dir.join(GENERATION_FILE);
    if path.exists() {
        let Value::Object(fields) = read_json(&path)? else {
            let reason = "the top level is not an object".to_owned();
            return Err(FolderError::Broken { path, reason });
        };
        config.join_generation(fields).map_err(|problem| FolderError::Config { path, problem })?;
    }
    Ok(config)
}

/// The safetensors files of a folder, each once, in the order of their names.
fn tensor_files(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let index_path = dir.join(INDEX_FILE);
    if dir.join(MODEL_FILE).exists() || !index_path.exists() {
        return Ok(vec![dir.join(MODEL_FILE)]);
    }
    let broken =
        |reason: &str| FolderError::Broken { path: index_path.clone(), reason: reason.to_owned() };
    let index = read_json(&index_path)?;
    let map = index["weight_map"].as_object().ok_or_else(|| broken("it has no `weight_map`"))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().ok_or_else(|| broken("a file name is not a string"))?;
        // A name with a folder in it could point anywhere on the disk.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(broken("a file name leads out of the folder"));
        }
        names.insert(name.to_owned());
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn expected_shape(
    config: &ModelConfig,
    shapes: &BTreeMap<String, Vec<usize>>,
    name: &str,
    found: &[usize],
    path: &Path,
) -> Result<bool, FolderError> {
    // Older files store tables that are computed, and tied heads twice.
    let redundant = name.ends_with("rotary_emb.inv_freq")
        || (config.tie_word_embeddings && name == "lm_head.weight");
    match shapes.get(name) {
        Some(expected) if expected == found => Ok(true),
        Some(expected) => Err(FolderError::Shape {
            tensor: name.into(),
            path: path.into(),
            found: found.to_vec(),
            expected: expected.clone(),
        }),
        None if redundant => Ok(false),
        None => Err(FolderError::UnknownTensor { tensor: name.into(), path: path.into() }),
    }
}

/// The numbers of a tensor as `f32`; nothing for other types.
fn numbers(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    let halves = || bytes.as_chunks::<2>().0.iter().map(|&half| u16::from_le_bytes(half));
    match view.dtype() {
        Dtype::F32 => {
            Some(bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect())
        }
        Dtype::BF16 => Some(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        Dtype::F16 => Some(halves().map(f32_from_f16).collect()),
        _ => None,
    }
}

/// An IEEE half-precision number; every one of them is an `f32`.
fn f32_from_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    let value = match magnitude >> 10 {
        // Infinity and not-a-number keep their mark and payload.
        31 => f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13),
        // Subnormal: the fraction counts units of 2^-24.
        0 => magnitude as f32 / 16_777_216.0,
        // The exponent's bias goes from 15 to 127.
        _ => f32::from_bits((magnitude << 13) + ((127 - 15) << 23)),
    };
    f32::from_bits(value.to_bits() | sign)
}

fn read_json(path: &Path) -> Result<Value, FolderError> {
    serde_json::from_slice(&files::read(path)?)
        .map_err(|error| FolderError::Broken { path: path.into(), reason: error.to_string() })
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("a JSON value can be written");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ModelSize;
    use bstar_core::RngKey;
    use serde_json::json;
    use std::fs;
    use tempfile::TempDir;

    fn saved() -> (TempDir, Weights) {
        let config = ModelSize::from_width(16).unwrap().config(11, 32, 1);
        let weights = Weights::random(&config, RngKey::from_seed(1));
        let dir = tempfile::tempdir().unwrap();
        weights.save(dir.path()).unwrap();
        (dir, weights)
    }

    /// Damages a saved folder and asserts the class of the fault and words of its message.
    fn check(damage: impl FnOnce(&Path), words: &[&str]) {
        let (dir, _) = saved();
        damage(dir.path());
        let fault = Fault::from(Weights::load(dir.path()).unwrap_err());
        assert_eq!(fault.class, FaultClass::Data);
        assert!(words.iter().all(|word| fault.message.contains(word)), "{fault}");
        assert!(fault.hint.is_some());
    }

    fn rewrite(dir: &Path, change: impl Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) {
        let path = dir.join(MODEL_FILE);
        let mut tensors: Vec<_> = read_tensors(&path, |_, _| Ok(true))
            .unwrap()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.shape, tensor.data))
            .collect();
        change(&mut tensors);
        write_tensors(&path, tensors.iter().map(|(n, s, d)| (n.clone(), s.clone(), d.as_slice())))
            .unwrap();
    }

    #[test]
    fn weights_survive_the_folder_bit_for_bit() {
        let (dir, weights) = saved();
        let loaded = Weights::load(dir.path()).unwrap();
        assert_eq!(loaded, weights);
        assert_eq!(loaded.fingerprint(), weights.fingerprint());
    }

    #[test]
    fn a_tied_head_is_not_stored_and_a_stored_one_is_left_out() {
        let mut config = ModelSize::from_width(16).unwrap().config(11, 32, 1);
        config.tie_word_embeddings = true;
        let weights = Weights::random(&config, RngKey::from_seed(1));
        let dir = tempfile::tempdir().unwrap();
        weights.save(dir.path()).unwrap();
        rewrite(dir.path(), |tensors| {
            assert!(tensors.iter().all(|(name, ..)| name != "lm_head.weight"));
            tensors.push(("lm_head.weight".into(), vec![1], vec![0.0]));
        });
        assert_eq!(Weights::load(dir.path()).unwrap(), weights);
    }

    #[test]
    fn missing_files_are_named() {
        check(|dir| fs::remove_file(dir.join(CONFIG_FILE)).unwrap(), &["config.json"]);
        check(|dir| fs::remove_file(dir.join(MODEL_FILE)).unwrap(), &["model.safetensors"]);
    }

    #[test]
    fn truncated_and_hostile_files_are_named() {
        for keep in [0, 5, 9, 300, 5000] {
            check(
                |dir| {
                    let path = dir.join(MODEL_FILE);
                    let bytes = fs::read(&path).unwrap();
                    fs::write(&path, &bytes[..keep]).unwrap();
                },
                &["model.safetensors"],
            );
        }
        let overlong = u64::MAX.to_le_bytes().to_vec();
        let header = |json: &str| [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
        for bytes in [
            overlong,
            header("{\"x\": {\"dtype\": \"F32\", \"shape\": [9, 9], \"data_offsets\": [0, 4]}}"),
            header(
                "{\"x\": {\"dtype\": \"F32\", \"shape\": [4611686018427387904, 4], \
                    \"data_offsets\": [0, 0]}}",
            ),
            header("[]"),
        ] {
            check(|dir| fs::write(dir.join(MODEL_FILE), bytes).unwrap(), &["model.safetensors"]);
        }
        check(|dir| fs::write(dir.join(CONFIG_FILE), "{").unwrap(), &["config.json"]);
    }

    #[test]
    fn tensors_that_do_not_fit_the_config_are_named() {
        check(|dir| rewrite(dir, |tensors| drop(tensors.pop())), &["no tensor", "model."]);
        check(
            |dir| {
                rewrite(dir, |tensors| {
                    let tensor = tensors.iter_mut().find(|t| t.0 == "lm_head.weight").unwrap();
                    tensor.1 = vec![16, 11];
                });
            },
            &["lm_head.weight", "[16, 11]", "[11, 16]"],
        );
        check(
            |dir| {
                rewrite(dir, |tensors| {
                    let name = "model.layers.0.self_attn.q_proj.bias".to_owned();
                    tensors.push((name, vec![1], vec![0.0]));
                });
            },
            &["q_proj.bias"],
        );
    }

    #[test]
    fn an_unknown_architecture_is_named_with_its_file() {
        check(
            |dir| {
                let text = fs::read_to_string(dir.join(CONFIG_FILE)).unwrap();
                let text = text.replace("LlamaForCausalLM", "MambaForCausalLM");
                fs::write(dir.join(CONFIG_FILE), text).unwrap();
            },
            &["config.json", "MambaForCausalLM"],
        );
    }

    #[test]
    fn shards_are_joined_and_may_not_leave_the_folder() {
        let (dir, weights) = saved();
        let all = read_tensors(&dir.path().join(MODEL_FILE), |_, _| Ok(true)).unwrap();
        fs::remove_file(dir.path().join(MODEL_FILE)).unwrap();
        let mut map = serde_json::Map::new();
        for (shard, tensors) in all.chunks(11).enumerate() {
            let file = format!("model-{shard}.safetensors");
            for (name, _) in tensors {
                map.insert(name.clone(), json!(file));
            }
            let tensors = tensors.iter().map(|(n, t)| (n.clone(), t.shape.clone(), &t.data[..]));
            write_tensors(&dir.path().join(file), tensors).unwrap();
        }
        let write_index = |map: &serde_json::Map<String, Value>| {
            let index = json!({ "weight_map": map }).to_string();
            fs::write(dir.path().join(INDEX_FILE), index).unwrap();
        };
        write_index(&map);
        assert_eq!(Weights::load(dir.path()).unwrap(), weights);
        map.insert("lm_head.weight".into(), json!("../model-0.safetensors"));
        write_index(&map);
        let fault = Fault::from(Weights::load(dir.path()).unwrap_err());
        assert!(fault.message.contains("leads out of the folder"), "{fault}");
    }

    #[test]
    fn half_precision_numbers_are_widened_exactly() {
        for (bits, expected) in [
            (0x0000_u16, 0.0_f32),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(f32_from_f16(bits), expected, "{bits:#x}");
        }
        assert!(f32_from_f16(0x7e00).is_nan());
        assert!(f32_from_f16(0x8000).is_sign_negative());
        let bytes: Vec<u8> = [0x3f80_u16, 0xc049].iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::BF16, vec![2], &bytes).unwrap();
        assert_eq!(numbers(&view).unwrap(), [1.0, -3.140_625]);
        assert!(numbers(&TensorView::new(Dtype::I32, vec![1], &bytes).unwrap()).is_none());
    }

    #[test]
    fn end_tokens_may_come_from_the_generation_config() {
        let (dir, _) = saved();
        let text = fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap();
        let text = text.replace("\"eos_token_id\": 1", "\"eos_token_id\": null");
        fs::write(dir.path().join(CONFIG_FILE), text).unwrap();
        fs::write(dir.path().join(GENERATION_FILE), "{\"eos_token_id\": [3, 4]}").unwrap();
        assert_eq!(Weights::load(dir.path()).unwrap().config.eos_token_ids, [3, 4]);
    }

    #[test]
    fn end_tokens_of_both_configs_count_and_other_generation_keys_are_kept() {
        let (dir, _) = saved();
        let text = r#"{"eos_token_id": [3, 1, 4], "temperature": 0.6, "pad_token_id": 0}"#;
        fs::write(dir.path().join(GENERATION_FILE), text).unwrap();
        let weights = Weights::load(dir.path()).unwrap();
        assert_eq!(weights.config.eos_token_ids, [1, 3, 4]);
        let again = tempfile::tempdir().unwrap();
        let trained = Weights::from_flat(&weights.config, &weights.to_flat());
        trained.save(again.path()).unwrap();
        let generation = read_json(&again.path().join(GENERATION_FILE)).unwrap();
        assert_eq!(generation["temperature"], 0.6);
        assert_eq!(generation["eos_token_id"], json!([1, 3, 4]));
        assert_eq!(Weights::load(again.path()).unwrap(), weights);
        for (text, words) in [
            ("{\"eos_token_id\": 11}", ["generation_config.json", "below `vocab_size`"]),
            ("[]", ["generation_config.json", "not an object"]),
            ("{", ["generation_config.json", "EOF"]),
        ] {
            check(|dir| fs::write(dir.join(GENERATION_FILE), text).unwrap(), &words);
        }
    }

    #[test]
    fn a_hostile_config_is_refused_before_anything_is_built() {
        for (from, to) in [
            ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 268435456"),
            ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4096"),
            ("\"vocab_size\": 11", "\"vocab_size\": 268435456"),
        ] {
            check(
                |dir| {
                    let text = fs::read_to_string(dir.join(CONFIG_FILE)).unwrap();
                    assert!(text.contains(from), "{text}");
                    fs::write(dir.join(CONFIG_FILE), text.replace(from, to)).unwrap();
                },
                &[""],
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_a_resource_fault() {
        let error = write_tensors(Path::new("/dev/full"), std::iter::empty()).unwrap_err();
        assert_eq!(Fault::from(error).class, FaultClass::Resource);
    }
}
