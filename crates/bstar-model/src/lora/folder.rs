//! Adapter folders in the format of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What an adapter asks for and the engine does not compute (other biases, DoRA, ranks that differ
//! between layers, modules saved whole) is refused by the key's name, and so are tensors that do not
//! fit the base. Files are written as `folder` writes a model's.

use super::{Adapter, LoraSettings, LoraTarget};
use crate::config::{ModelConfig, all_finite};
use crate::files;
use crate::folder::{FolderError, pretty, read_json};
use crate::tensor_file::{read_tensors, write_tensors};
use bstar_core::{Fault, FaultClass};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// An adapter folder that cannot be read or written.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// A file or a tensor.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A key of the config is absent, or has a value of another type or out of range.
    #[error("{} has `{key}` = {value}, but it must be {expected}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value, as JSON; `null` where it is absent.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Arithmetic that is not there.
    #[error("{} asks for `{key}` = {value}, which is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value, as JSON.
        value: String,
    },
    /// The base model is not where the config says.
    #[error("the base model {base:?} of {} is not a model folder here", path.display())]
    NoBase {
        /// The file.
        path: PathBuf,
        /// Where the base should be.
        base: String,
    },
}

impl From<AdapterError> for Fault {
    fn from(error: AdapterError) -> Self {
        let message = error.to_string();
        let hint = match error {
            AdapterError::Folder(FolderError::NotFinite { .. } | FolderError::File(_)) => None,
            AdapterError::Folder(FolderError::Broken { .. }) => {
                Some("fetch the adapter folder again; this file is damaged")
            }
            AdapterError::Folder(_) => Some("check that adapter and base model belong together"),
            AdapterError::Invalid { .. } => Some("check that PEFT opens this adapter"),
            AdapterError::Unsupported { .. } => {
                Some("only plain LoRA on the matrices of the layers is read (docs/guide/lora.md)")
            }
            AdapterError::NoBase { .. } => {
                Some("merge it with its base: `bstar merge BASE ADAPTER -o OUT`")
            }
        };
        let fault = match error {
            AdapterError::Folder(error) => Self::from(error),
            _ => Self::new(FaultClass::Data, message),
        };
        match hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}

/// Whether a folder holds an adapter rather than a whole model.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(CONFIG_FILE).is_file() && !dir.join("config.json").exists()
}

/// What an adapter says it was trained on: the path of a model folder, or its name on a hub.
pub fn base_name(dir: &Path) -> Result<String, AdapterError> {
    let path = dir.join(CONFIG_FILE);
    let config = AdapterConfig::read(&path)?;
    match config.fields.get(BASE).and_then(Value::as_str) {
        Some(base) => Ok(base.to_owned()),
        None => Err(config.invalid(BASE, "the folder of a model")),
    }
}

/// The model folder that an adapter says it was trained on.
pub fn base_of(dir: &Path) -> Result<PathBuf, AdapterError> {
    let base = base_name(dir)?;
    let folder = PathBuf::from(&base);
    if !folder.join("config.json").is_file() {
        return Err(AdapterError::NoBase { path: dir.join(CONFIG_FILE), base });
    }
    Ok(folder)
}

impl Adapter {
    /// Reads an adapter for a model of this config.
    pub fn load(dir: &Path, config: &ModelConfig) -> Result<Self, AdapterError> {
        let path = dir.join(CONFIG_FILE);
        let mut adapter = Self::empty(config, AdapterConfig::read(&path)?.settings()?);
        let path = dir.join(TENSOR_FILE);
        let shapes: BTreeMap<_, _> = adapter.tensor_shapes().into_iter().collect();
        let read = read_tensors(&path, |name, found| match shapes.get(name) {
            Some(expected) if expected == found => Ok(true),
            Some(expected) => Err(FolderError::Shape {
                tensor: name.into(),
                path: path.clone(),
                found: found.to_vec(),
                expected: expected.clone(),
            }),
            None => Err(FolderError::UnknownTensor { tensor: name.into(), path: path.clone() }),
        })?;
        let mut tensors: BTreeMap<_, _> = read.into_iter().collect();
        let mut factors = Vec::with_capacity(adapter.factors.len());
        for (tensor, _) in adapter.tensor_shapes() {
            match tensors.remove(&tensor) {
                Some(found) => factors.extend_from_slice(&found.data),
                None => return Err(FolderError::MissingTensor { tensor, path }.into()),
            }
        }
        adapter.factors = factors;
        Ok(adapter)
    }

    /// Writes the adapter into a folder, which is created if need be. `base` is where PEFT and
    /// [`base_of`] find the model below it. Factors that are not finite are refused, and nothing is
    /// written.
    pub fn save(&self, dir: &Path, base: &str) -> Result<(), AdapterError> {
        let (mut tensors, mut rest) = (Vec::new(), self.factors());
        for (name, shape) in self.tensor_shapes() {
            let (data, after) = rest.split_at(shape.iter().product());
            rest = after;
            if !all_finite(data) {
                return Err(FolderError::NotFinite { tensor: name }.into());
            }
            tensors.push((name, shape, data));
        }
        files::create_folder(dir).map_err(FolderError::from)?;
        let config = pretty(&self.config_json(base));
        files::write_synced(&dir.join(CONFIG_FILE), &config).map_err(FolderError::from)?;
        Ok(write_tensors(&dir.join(TENSOR_FILE), tensors.into_iter())?)
    }

    fn config_json(&self, base: &str) -> Value {
        let LoraSettings { rank, alpha, targets, rslora } = self.settings();
        let targets: Vec<_> = targets.iter().map(|target| target.name()).collect();
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            BASE: base,
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "target_modules": targets,
            "use_rslora": rslora,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "modules_to_save": null,
        })
    }
}

const CONFIG_FILE: &str = "adapter_config.json";
const TENSOR_FILE: &str = "adapter_model.safetensors";
const BASE: &str = "base_model_name_or_path";

/// Far above any rank in use.
const LARGEST_RANK: u64 = 1 << 16;

/// Keys that must be off: absent, `null`, `false`, 0 or empty.
const MUST_BE_OFF: [&str; 14] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "exclude_modules",
    "fan_in_fan_out",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
];

/// The fields of `adapter_config.json`.
struct AdapterConfig<'a> {
    path: &'a Path,
    fields: Map<String, Value>,
}

impl<'a> AdapterConfig<'a> {
    fn read(path: &'a Path) -> Result<Self, AdapterError> {
        let Value::Object(fields) = read_json(path)? else {
            let reason = "the top level is not an object".to_owned();
            return Err(FolderError::Broken { path: path.into(), reason }.into());
        };
        Ok(Self { path, fields })
    }

    fn settings(&self) -> Result<LoraSettings, AdapterError> {
        if self.value("peft_type") != "LORA" {
            return Err(self.unsupported("peft_type"));
        }
        if !matches!(self.value("bias").as_str(), None | Some("none")) {
            return Err(self.unsupported("bias"));
        }
        if let Some(key) = MUST_BE_OFF.into_iter().find(|key| !is_off(&self.value(key))) {
            return Err(self.unsupported(key));
        }
        let rank = self.value("r").as_u64().filter(|rank| (1..=LARGEST_RANK).contains(rank));
        let rank = rank.ok_or_else(|| self.invalid("r", "a whole number from 1 to 65536"))?;
        let alpha = self.value("lora_alpha").as_f64();
        Ok(LoraSettings {
            rank: usize::try_from(rank).expect("at most 2^16"),
            alpha: alpha.ok_or_else(|| self.invalid("lora_alpha", "a number"))?,
            targets: self.targets()?,
            rslora: match self.value("use_rslora") {
                Value::Null => false,
                Value::Bool(rslora) => rslora,
                _ => return Err(self.invalid("use_rslora", "true or false")),
            },
        })
    }

    fn targets(&self) -> Result<Vec<LoraTarget>, AdapterError> {
        const KEY: &str = "target_modules";
        let names = match self.value(KEY) {
            Value::String(all) if all == "all-linear" => return Ok(LoraTarget::ALL.into()),
            // A pattern over whole names.
            Value::String(_) => return Err(self.unsupported(KEY)),
            Value::Array(names) if !names.is_empty() => names,
            _ => return Err(self.invalid(KEY, "a list of modules")),
        };
        let target = |name: &Value| {
            let name = name.as_str().ok_or_else(|| self.invalid(KEY, "a list of modules"))?;
            LoraTarget::from_name(name).ok_or_else(|| self.unsupported(KEY))
        };
        let mut targets: Vec<_> = names.iter().map(target).collect::<Result<_, _>>()?;
        targets.sort_unstable();
        targets.dedup();
        Ok(targets)
    }

    fn value(&self, key: &str) -> Value {
        self.fields.get(key).cloned().unwrap_or_default()
    }

    fn invalid(&self, key: &'static str, expected: &'static str) -> AdapterError {
        let value = self.value(key).to_string();
        AdapterError::Invalid { path: self.path.into(), key, value, expected }
    }

    fn unsupported(&self, key: &'static str) -> AdapterError {
        let value = self.value(key).to_string();
        AdapterError::Unsupported { path: self.path.into(), key, value }
    }
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) | Value::String(_) => false,
    }
}
