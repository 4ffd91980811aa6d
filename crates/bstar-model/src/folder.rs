//! A Hugging Face model folder: reading and writing weights and their config.
//!
//! Reads `config.json` and `model.safetensors`, or the shards that `model.safetensors.index.json`
//! lists, of `f32`, `bf16` or `f16` numbers; writes one file of `f32`. Files come from strangers:
//! `tensor_file` checks headers and reads tensors one at a time, names and shapes are checked here,
//! and what does not fit is an error with file and tensor in it. A file is written whole and flushed; renaming the folder
//! into place is the caller's part.

use crate::config::{ConfigError, ModelConfig, all_finite};
use crate::files::{self, FileError};
use crate::tensor_file::{read_tensors, write_tensors};
use crate::trainer::DIVERGED_HINT;
use crate::weights::{WeightTensor, Weights};
use bstar_core::{Fault, FaultClass};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
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
    /// A reward model is wanted, and this is the folder of another model.
    #[error(
        "{} holds a model of another kind, {architecture:?}: a reward model is one that ends in \
         \"ForTokenClassification\" or \"ForTokenReward\"",
        path.display()
    )]
    NoRewardModel {
        /// The folder.
        path: PathBuf,
        /// Its architecture, as its config names it.
        architecture: String,
    },
    /// A tensor that the config needs is not there.
    #[error("no tensor `{tensor}` in {}", path.display())]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The file or folder that should hold it.
        path: PathBuf,
    },
    /// A tensor that no model of this config has: the arithmetic would differ.
    #[error("tensor `{tensor}` of {} has no place in a model of this config", path.display())]
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
    #[error("tensor `{tensor}` of {} has type {found}, not F32, F16 or BF16", path.display())]
    NumberType {
        /// The tensor.
        tensor: String,
        /// The file that holds it.
        path: PathBuf,
        /// Its type, as the file writes it.
        found: String,
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
            FolderError::NoRewardModel { .. } => Self::new(FaultClass::Data, message).hint(
                "a run with `reward.kind = \"answer-and-reward-model\"` that is given none trains one \
                 and keeps it, as reward_models/iter-0000 of its folder",
            ),
            FolderError::NotFinite { .. } => {
                Self::new(FaultClass::Training, message).hint(DIVERGED_HINT)
            }
            _ => Self::new(FaultClass::Data, message)
                .hint("check that config.json and the tensors are of the same model"),
        }
    }
}

impl Weights {
    /// Loads `config.json` and the tensors of a model folder.
    pub fn load(dir: &Path) -> Result<Self, FolderError> {
        let config = load_config(dir)?;
        // Older files store tied heads twice.
        let tied = config.tie_word_embeddings;
        let tensors =
            read_folder(dir, &config.tensor_shapes(), |name| tied && name == "lm_head.weight")?;
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

const CONFIG_FILE: &str = "config.json";
const GENERATION_FILE: &str = "generation_config.json";
const MODEL_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// The config, with what the generation config adds to it.
fn load_config(dir: &Path) -> Result<ModelConfig, FolderError> {
    let path = dir.join(CONFIG_FILE);
    let mut config = ModelConfig::from_json(&read_text(&path)?)
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

/// The tensors of these names and shapes, all of them, out of a folder; any other is an error, unless
/// it is `redundant` or a table that is computed, which older files store.
pub(crate) fn read_folder(
    dir: &Path,
    shapes: &[(String, Vec<usize>)],
    redundant: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, WeightTensor>, FolderError> {
    let shapes: BTreeMap<_, _> =
        shapes.iter().map(|(name, shape)| (name.as_str(), shape)).collect();
    let mut tensors = BTreeMap::new();
    for path in tensor_files(dir)? {
        let check = |name: &str, found: &[usize]| match shapes.get(name) {
            Some(expected) if *expected == found => Ok(true),
            Some(expected) => Err(FolderError::Shape {
                tensor: name.into(),
                path: path.clone(),
                found: found.to_vec(),
                expected: (*expected).clone(),
            }),
            None if name.ends_with("rotary_emb.inv_freq") || redundant(name) => Ok(false),
            None => Err(FolderError::UnknownTensor { tensor: name.into(), path: path.clone() }),
        };
        for (name, tensor) in read_tensors(&path, check)? {
            if tensors.insert(name.clone(), tensor).is_some() {
                let reason = format!("tensor `{name}` is also in another file of the folder");
                return Err(FolderError::Broken { path, reason });
            }
        }
    }
    if let Some(missing) = shapes.into_keys().find(|name| !tensors.contains_key(*name)) {
        let single = dir.join(MODEL_FILE);
        let path = if single.exists() { single } else { dir.into() };
        return Err(FolderError::MissingTensor { tensor: missing.into(), path });
    }
    Ok(tensors)
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

pub(crate) fn read_json(path: &Path) -> Result<Value, FolderError> {
    serde_json::from_slice(&read_text(path)?)
        .map_err(|error| FolderError::Broken { path: path.into(), reason: error.to_string() })
}

/// The bytes of a JSON file, which no model has larger than [`LARGEST_TEXT`].
fn read_text(path: &Path) -> Result<Vec<u8>, FolderError> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > LARGEST_TEXT) {
        let reason = format!("it is larger than {LARGEST_TEXT} bytes");
        return Err(FolderError::Broken { path: path.into(), reason });
    }
    Ok(files::read(path)?)
}

/// Bytes of the largest JSON file that is read.
const LARGEST_TEXT: u64 = 1 << 26;

pub(crate) fn pretty(value: &Value) -> Vec<u8> {
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
}
