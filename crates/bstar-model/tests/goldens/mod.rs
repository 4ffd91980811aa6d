//! Reads the files that `scripts/make_model_goldens.py` wrote.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use bstar_model::loss::TokenizedExample;
use bstar_model::optimizer::OptimizerSettings;
use bstar_model::weights::Weights;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;

/// The folders of `tests/goldens`.
pub(crate) const FAMILIES: [&str; 5] = ["llama2", "llama3", "mistral", "qwen2", "qwen3"];

/// What transformers says of a tiny model.
pub(crate) struct Golden {
    /// The model.
    pub(crate) weights: Weights,
    /// What it is trained on, as one batch.
    pub(crate) examples: Vec<TokenizedExample>,
    /// A prompt and its greedy response.
    pub(crate) greedy: (Vec<u32>, Vec<u32>),
    /// Its greedy response under a repetition penalty of 1.4.
    pub(crate) penalised: Vec<u32>,
    /// Losses before each step of training all weights.
    pub(crate) losses: Vec<f64>,
    /// Losses before each step of training the adapter.
    pub(crate) lora_losses: Vec<f64>,
    /// The optimizer of both trainings.
    pub(crate) settings: OptimizerSettings,
    /// The learning rate of both trainings.
    pub(crate) learning_rate: f64,
    expected: Vec<u8>,
}

impl Golden {
    /// The golden files of a family.
    pub(crate) fn read(family: &str) -> Self {
        let folder = Self::folder(family);
        let json = read_json(family, "golden.json");
        let tokens = |list: &Value| -> Vec<u32> { serde_json::from_value(list.clone()).unwrap() };
        let eos = serde_json::from_value(json["eos"].clone()).unwrap();
        let examples = json["examples"].as_array().unwrap().iter().map(|example| {
            TokenizedExample::new(&tokens(&example["prompt"]), &tokens(&example["response"]), eos)
        });
        let optimizer = |field: &str| json["optimizer"][field].as_f64().unwrap();
        let losses = |field: &str| serde_json::from_value(json[field].clone()).unwrap();
        Self {
            weights: Weights::load(&folder).unwrap(),
            examples: examples.collect(),
            greedy: (tokens(&json["greedy"]["prompt"]), tokens(&json["greedy"]["response"])),
            penalised: tokens(&json["greedy"]["penalised"]),
            losses: losses("losses"),
            lora_losses: losses("lora_losses"),
            settings: OptimizerSettings {
                beta1: optimizer("beta1"),
                beta2: optimizer("beta2"),
                epsilon: optimizer("epsilon"),
                weight_decay: optimizer("weight_decay"),
                clip_norm: optimizer("clip_norm"),
            },
            learning_rate: optimizer("learning_rate"),
            expected: std::fs::read(folder.join("expected.safetensors")).unwrap(),
        }
    }

    /// The folder of a family.
    pub(crate) fn folder(family: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(family)
    }

    /// The model's `config.json`.
    pub(crate) fn config(family: &str) -> Value {
        read_json(family, "config.json")
    }

    /// An expected tensor.
    pub(crate) fn tensor(&self, name: &str) -> Vec<f32> {
        self.maybe_tensor(name).unwrap()
    }

    /// An expected tensor, if there is one of this name.
    pub(crate) fn maybe_tensor(&self, name: &str) -> Option<Vec<f32>> {
        let tensors = SafeTensors::deserialize(&self.expected).unwrap();
        let bytes = tensors.tensor(name).ok()?.data().to_vec();
        Some(bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect())
    }
}

fn read_json(family: &str, file: &str) -> Value {
    let text = std::fs::read(Golden::folder(family).join(file)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Asserts that numbers agree to a tolerance, relative for large ones.
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what} {index}: {found} is not {expected}"
        );
    }
}
