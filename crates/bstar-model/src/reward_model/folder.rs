//! A reward model as a Hugging Face folder: `config.json` and `model.safetensors`.
//!
//! With a scalar head it is a model for token classification with one label, `score` being the head.
//! With a token head it is a language model whose architecture ends in `ForTokenReward`;
//! `AutoModelForCausalLM` opens it, and `score.bias` is the bias. Shards are read too,
//! as a model's.

use super::weights::RewardWeights;
use crate::config::{ModelConfig, all_finite};
use crate::files;
use crate::folder::{FolderError, read_folder};
use crate::tensor_file::write_tensors;
use bstar_core::ports::RewardHead;
use serde_json::{Value, json};
use std::path::Path;

const CONFIG_FILE: &str = "config.json";
const MODEL_FILE: &str = "model.safetensors";
/// What the name of an architecture ends with, here and in a policy.
const CLASSIFIER: &str = "ForTokenClassification";
const TOKEN_REWARD: &str = "ForTokenReward";
const LANGUAGE_MODEL: &str = "ForCausalLM";

/// Config, family and head of a reward model. The folder of another model is refused.
pub(super) fn read_kind(dir: &Path) -> Result<(Value, String, RewardHead), FolderError> {
    let path = dir.join(CONFIG_FILE);
    let json: Value = serde_json::from_slice(&files::read(&path)?)
        .map_err(|error| FolderError::Broken { path, reason: error.to_string() })?;
    let architecture = json["architectures"][0].as_str().unwrap_or_default().to_owned();
    let kinds = [(CLASSIFIER, RewardHead::Scalar), (TOKEN_REWARD, RewardHead::Token)];
    let known = |(ending, head)| Some((architecture.strip_suffix(ending)?.to_owned(), head));
    match kinds.into_iter().find_map(known) {
        Some((family, head)) => Ok((json, family, head)),
        None => Err(FolderError::NoRewardModel { path: dir.to_owned(), architecture }),
    }
}

impl RewardWeights {
    /// Loads config and tensors. A folder of a policy is refused.
    pub(super) fn load(dir: &Path) -> Result<Self, FolderError> {
        let (mut json, family, head) = read_kind(dir)?;
        json["architectures"] = json!([format!("{family}{LANGUAGE_MODEL}")]);
        if head == RewardHead::Scalar {
            json["tie_word_embeddings"] = true.into();
        }
        let text = serde_json::to_vec(&json).expect("a JSON value can be written");
        let config = ModelConfig::from_json(&text)
            .map_err(|problem| FolderError::Config { path: dir.join(CONFIG_FILE), problem })?;
        let shapes = Self::shapes(&config, head);
        let tensors = read_folder(dir, &shapes, |_| false)?;
        let mut flat = Vec::with_capacity(config.parameter_count() + config.hidden_size + 1);
        for (name, _) in shapes {
            flat.extend_from_slice(&tensors[&name].data);
        }
        Ok(Self::from_flat(config, head, flat))
    }

    /// Writes config and tensors into a folder, which is created if need be. Weights that are not
    /// finite are refused, and nothing is written.
    pub(super) fn save(&self, dir: &Path) -> Result<(), FolderError> {
        let tensors = self.tensors();
        if let Some((name, ..)) = tensors.iter().find(|(_, _, data)| !all_finite(data)) {
            return Err(FolderError::NotFinite { tensor: name.clone() });
        }
        files::create_folder(dir)?;
        let mut config = self.config().to_json();
        let name = config["architectures"][0].as_str().unwrap_or_default();
        match self.head_kind() {
            RewardHead::Scalar => {
                config["architectures"] = json!([name.replace(LANGUAGE_MODEL, CLASSIFIER)]);
                config["num_labels"] = 1.into();
                config["id2label"] = json!({ "0": "right so far" });
                config["label2id"] = json!({ "right so far": 0 });
            }
            RewardHead::Token => {
                config["architectures"] = json!([name.replace(LANGUAGE_MODEL, TOKEN_REWARD)]);
            }
        }
        let mut text = serde_json::to_vec_pretty(&config).expect("a JSON value can be written");
        text.push(b'\n');
        files::write_synced(&dir.join(CONFIG_FILE), &text)?;
        write_tensors(&dir.join(MODEL_FILE), tensors.into_iter())
    }
}
