//! Adapter folders in the format of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What an adapter asks for and the engine does not compute (other biases, DoRA, ranks that differ
//! between layers, modules saved whole, a base that the adapter's beginning changed) is refused by
//! the key's name, and so are tensors that do not fit the base. Files are written as `folder` writes a model's.

use super::{Adapter, LoraSettings, LoraTarget};
use crate::config::{ModelConfig, all_finite};
use crate::files;
use crate::folder::{FolderError, pretty, read_json};
use crate::tensor_file::{read_tensors, write_tensors};
use crate::trainer_state::{self, TrainerStateError};
use crate::weights::Weights;
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
        key: String,
        /// Its value, as JSON.
        value: String,
    },
    /// The base is another than the adapter was trained on.
    #[error("the adapter in {} was trained on another model than this base", dir.display())]
    OtherBase {
        /// The folder of the adapter.
        dir: PathBuf,
    },
    /// The trainer's state beside the adapter.
    #[error(transparent)]
    State(#[from] TrainerStateError),
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
            AdapterError::Folder(FolderError::NotFinite { .. } | FolderError::File(_))
            | AdapterError::State(_) => None,
            AdapterError::Folder(FolderError::Broken { .. }) => {
                Some("fetch the adapter folder again; this file is damaged")
            }
            AdapterError::Folder(_) => Some("check that adapter and base model belong together"),
            AdapterError::Invalid { .. } => Some("check that PEFT opens this adapter"),
            AdapterError::Unsupported { .. } => Some(
                "only plain LoRA on the matrices of the layers is read (docs/guide/lora.md); PEFT \
                     can merge the adapter, or save it as a plain one",
            ),
            AdapterError::OtherBase { .. } => Some(
                "its adapter_config.json says where the base lay; what lies there or is named now has \
                 other weights",
            ),
            AdapterError::NoBase { .. } => {
                Some("merge it with its base: `bstar merge BASE ADAPTER -o OUT`")
            }
        };
        let fault = match error {
            AdapterError::Folder(error) => Self::from(error),
            AdapterError::State(error) => Self::from(error),
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

    /// Reads an adapter for this base, and refuses it where it is known to be trained on another: its
    /// change would be added to what it is no change of.
    pub fn load_onto(base: &Weights, dir: &Path) -> Result<Self, AdapterError> {
        let adapter = Self::load(dir, &base.config)?;
        match trainer_state::base_of(dir)? {
            Some(trained_on) if *trained_on != *base.fingerprint() => {
                Err(AdapterError::OtherBase { dir: dir.into() })
            }
            _ => Ok(adapter),
        }
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

/// Keys that are read one by one.
const READ: [&str; 8] =
    [BASE, BIAS, INITIALISATION, "lora_alpha", "peft_type", "r", "target_modules", "use_rslora"];

/// Keys that say how the adapter was trained or how PEFT would hold it, and leave the sum of base and
/// adapter as it is. Every other key must be off: absent, `null`, `false`, 0 or empty. So the
/// variants of a later PEFT are refused by their key, rather than merged as what they are not.
const NEUTRAL: [&str; 15] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "velora_config",
];

const BIAS: &str = "bias";
const INITIALISATION: &str = "init_lora_weights";

/// Beginnings of an adapter that leave the base as it is. The others (such as PiSSA, OLoRA, CorDA,
/// LoftQ) subtract from it what they give to the adapter, and only PEFT knows what that was.
const PLAIN_INITIALISATIONS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

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
        if !matches!(self.value(BIAS).as_str(), None | Some("none")) {
            return Err(self.unsupported(BIAS));
        }
        match self.value(INITIALISATION) {
            Value::Null | Value::Bool(_) => {}
            Value::String(name)
                if PLAIN_INITIALISATIONS.contains(&name.to_ascii_lowercase().as_str()) => {}
            _ => return Err(self.unsupported(INITIALISATION)),
        }
        let must_be_off = |key: &str| !READ.iter().chain(&NEUTRAL).any(|known| *known == key);
        if let Some((key, _)) =
            self.fields.iter().find(|(key, value)| must_be_off(key) && !is_off(value))
        {
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

    fn unsupported(&self, key: &str) -> AdapterError {
        let value = self.value(key).to_string();
        AdapterError::Unsupported { path: self.path.into(), key: key.into(), value }
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
