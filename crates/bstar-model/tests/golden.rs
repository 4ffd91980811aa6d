//! The transformer against PyTorch: logits, loss, every gradient, and twenty AdamW steps.
//!
//! The golden files come from `golden/make_goldens.py` (double precision). The cases cover plain,
//! grouped-query and multi-query attention, tied and untied heads and two rotary bases. Tolerances
//! are those of single precision over a few hundred operations.

#![expect(clippy::unwrap_used, reason = "a golden file that cannot be read fails the test")]

use bstar_model::config::ModelConfig;
use bstar_model::loss::TokenizedExample;
use bstar_model::optimizer::{AdamW, OptimizerSettings};
use bstar_model::trainer::Trainer;
use bstar_model::transformer::{Activations, PackedTokens, Transformer};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;

struct Golden {
    file: Vec<u8>,
    config: ModelConfig,
    losses: Vec<f64>,
    examples: Vec<TokenizedExample>,
    settings: OptimizerSettings,
    learning_rate: f64,
}

impl Golden {
    fn read(case: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let json = std::fs::read(folder.join("goldens.json")).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let tokens = |list: &Value| -> Vec<u32> { serde_json::from_value(list.clone()).unwrap() };
        let eos = serde_json::from_value(json["eos"].clone()).unwrap();
        let examples = json["examples"].as_array().unwrap().iter().map(|example| {
            TokenizedExample::new(&tokens(&example["prompt"]), &tokens(&example["response"]), eos)
        });
        let optimizer = |field: &str| json["optimizer"][field].as_f64().unwrap();
        let described = &json["cases"][case];
        Self {
            file: std::fs::read(folder.join(format!("{case}.safetensors"))).unwrap(),
            config: ModelConfig::from_json(described["config"].to_string().as_bytes()).unwrap(),
            losses: serde_json::from_value(described["losses"].clone()).unwrap(),
            examples: examples.collect(),
            settings: OptimizerSettings {
                beta1: optimizer("beta1"),
                beta2: optimizer("beta2"),
                epsilon: optimizer("epsilon"),
                weight_decay: optimizer("weight_decay"),
                clip_norm: optimizer("clip_norm"),
            },
            learning_rate: optimizer("learning_rate"),
        }
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.file).unwrap();
        let bytes = tensors.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
    }

    /// All tensors of one kind in the order of the flat buffer.
    fn flat(&self, kind: &str) -> Vec<f32> {
        let shapes = self.config.tensor_shapes();
        shapes.iter().flat_map(|(name, _)| self.tensor(&format!("{kind}.{name}"))).collect()
    }

    fn trainer(&self) -> Trainer {
        let parameters = self.flat("weights");
        let optimizer = AdamW::new(self.settings, parameters.len());
        Trainer::new(&self.config, parameters, optimizer)
    }
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what} {index}: {found} is not {expected}"
        );
    }
}

fn check(case: &str) {
    let golden = Golden::read(case);
    let weights = golden.flat("weights");
    let transformer = Transformer::new(&golden.config, &weights);
    let packed = PackedTokens::new(golden.examples.iter().map(TokenizedExample::inputs));
    let (mut activations, mut logits) = (Activations::default(), Vec::new());
    let hidden = transformer.forward(&packed, &mut activations);
    transformer.head().forward(hidden, &mut logits);
    assert_close(&logits, &golden.tensor("logits"), 1e-5, "logit");

    let batch: Vec<_> = golden.examples.iter().collect();
    let mut trainer = golden.trainer();
    let (report, gradient) = trainer.gradient(&batch).unwrap();
    assert!((report.loss - golden.losses[0]).abs() < 1e-6, "{report:?}");
    let expected = golden.flat("gradients");
    assert!(expected.iter().filter(|x| x.abs() > 1e-3).count() > expected.len() / 2);
    assert_close(&gradient, &expected, 1e-5, "gradient");

    for (step, &expected) in golden.losses.iter().enumerate() {
        let report = trainer.step(&batch, golden.learning_rate).unwrap();
        let difference = (report.loss - expected).abs();
        assert!(difference < 2e-5, "loss of step {step}: {} is not {expected}", report.loss);
    }
    assert_close(trainer.parameters(), &golden.flat("after"), 2e-4, "trained weight");
}

#[test]
fn a_plain_model_agrees_with_pytorch() {
    check("plain");
}

#[test]
fn grouped_query_attention_agrees_with_pytorch() {
    check("grouped");
}

#[test]
fn a_tied_multi_query_model_agrees_with_pytorch() {
    check("tied");
}
