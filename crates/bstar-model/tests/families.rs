//! Every family of models against transformers: logits, loss, gradients, decoding, training.
//!
//! The golden files come from `scripts/make_model_goldens.py` (double precision): tiny models of
//! random numbers, with windows and first contexts that the examples exceed. Gradients are also
//! checked against slopes of the loss itself.

#![expect(clippy::unwrap_used, reason = "a golden file that cannot be read fails the test")]

mod goldens;

use bstar_core::RngKey;
use bstar_core::ports::Decoding;
use bstar_core::rng::normal;
use bstar_model::decode::{DecodeRequest, Decoder};
use bstar_model::loss::TokenizedExample;
use bstar_model::optimizer::{AdamW, OptimizerSettings};
use bstar_model::trainer::Trainer;
use bstar_model::transformer::{Activations, PackedTokens, Transformer};
use bstar_model::weights::Weights;
use goldens::{FAMILIES, Golden, assert_close};

fn logits(golden: &Golden, weights: &Weights) -> Vec<f32> {
    let flat = weights.to_flat();
    let transformer = Transformer::new(&weights.config, &flat);
    let packed = PackedTokens::new(golden.examples.iter().map(TokenizedExample::inputs));
    let (mut activations, mut logits) = (Activations::default(), Vec::new());
    let hidden = transformer.forward(&packed, &mut activations);
    transformer.head().forward(hidden, &mut logits);
    logits
}

fn trainer(weights: &Weights, settings: OptimizerSettings) -> Trainer {
    let flat = weights.to_flat();
    let optimizer = AdamW::new(settings, flat.len());
    Trainer::new(&weights.config, flat, optimizer)
}

/// The gradient of the examples' loss, by name.
fn gradient(weights: &Weights, batch: &[&TokenizedExample]) -> Weights {
    let mut trainer = trainer(weights, OptimizerSettings::default());
    Weights::from_flat(&weights.config, &trainer.gradient(batch).unwrap().1)
}

#[test]
fn logits_and_gradients_are_those_of_transformers() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        assert_close(&logits(&golden, &golden.weights), &golden.tensor("logits"), 1e-4, family);
        let batch: Vec<_> = golden.examples.iter().collect();
        let gradient = gradient(&golden.weights, &batch);
        let mut seen = 0;
        for (name, tensor) in gradient.tensors() {
            if let Some(expected) = golden.maybe_tensor(&format!("gradients.{name}")) {
                assert_close(&tensor.data, &expected, 1e-4, name);
                seen += 1;
            }
        }
        assert!(seen >= 3, "{family} has {seen} gradients");
    }
}

#[test]
fn gradients_of_every_family_are_slopes_of_the_loss() {
    const STEP: f32 = 1.0 / 128.0;
    for family in FAMILIES {
        let Golden { weights, examples, .. } = Golden::read(family);
        let batch: Vec<_> = examples.iter().collect();
        let gradient = gradient(&weights, &batch).to_flat();
        let flat = weights.to_flat();
        let mut start = 0;
        for (name, shape) in weights.config.tensor_shapes() {
            let range = start..start + shape.iter().product::<usize>();
            start = range.end;
            let mut rng = RngKey::from_seed(3).child(&name).rng();
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            let mut direction: Vec<f32> = range.clone().map(|_| normal(&mut rng) as f32).collect();
            let norm = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
            for x in &mut direction {
                *x /= norm;
            }
            let loss = |by: f32| {
                let mut moved = flat.clone();
                for (weight, d) in moved[range.clone()].iter_mut().zip(&direction) {
                    *weight += by * d;
                }
                let moved = Weights::from_flat(&weights.config, &moved);
                trainer(&moved, OptimizerSettings::default()).gradient(&batch).unwrap().0.loss
            };
            let slope = (loss(STEP) - loss(-STEP)) / f64::from(2.0 * STEP);
            let found = gradient[range.clone()].iter().zip(&direction);
            let found: f64 = found.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            assert!(
                (found - slope).abs() < 2e-3 * (1.0 + slope.abs()),
                "{family}, {name}: gradient {found}, slope {slope}"
            );
        }
    }
}

#[test]
fn the_loss_curve_is_that_of_transformers() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let batch: Vec<_> = golden.examples.iter().collect();
        let mut trainer = trainer(&golden.weights, golden.settings);
        assert_eq!(golden.losses.len(), 50);
        for (step, &expected) in golden.losses.iter().enumerate() {
            let loss = trainer.step(&batch, golden.learning_rate).unwrap().loss;
            let difference = (loss - expected).abs();
            assert!(difference < 1e-3, "{family}, step {step}: {loss} is not {expected}");
        }
    }
}

#[test]
fn decoding_with_a_cache_is_the_full_forward_pass() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let decoder = Decoder::new(&golden.weights);
        let (prompt, expected) = &golden.greedy;
        let requests = [DecodeRequest { prompt, keys: vec![RngKey::from_seed(1)] }];
        let decoding = Decoding::greedy(expected.len());
        let drawn = decoder.generate(&requests, &decoding, &[1], &mut |_| Ok(())).unwrap();
        assert_eq!(&drawn[0][0].tokens, expected, "{family}");
        let decoding = Decoding { repetition_penalty: 1.4, ..decoding };
        let drawn = decoder.generate(&requests, &decoding, &[1], &mut |_| Ok(())).unwrap();
        assert_eq!(drawn[0][0].tokens, golden.penalised, "{family}");
        let logits = golden.tensor("logits");
        let mut rows = logits.chunks_exact(golden.weights.config.vocab_size);
        for example in &golden.examples {
            let (prompt, response) = example.tokens().split_at(1);
            let found = decoder.logprobs(&[(prompt.to_vec(), response.to_vec())]).unwrap();
            for (&token, found) in response.iter().zip(&found[0]) {
                let row = rows.next().unwrap();
                let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
                let expected = f64::from(row[token as usize]) - total.ln();
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{family}: {found}");
            }
        }
    }
}

#[test]
fn a_saved_folder_is_of_the_same_family_and_loads_the_same() {
    for family in FAMILIES {
        let Golden { weights, .. } = Golden::read(family);
        let dir = tempfile::tempdir().unwrap();
        weights.save(dir.path()).unwrap();
        assert_eq!(Weights::load(dir.path()).unwrap(), weights, "{family}");
        let config = std::fs::read(dir.path().join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        for key in ["model_type", "architectures"] {
            assert_eq!(config[key], Golden::config(family)[key], "{family}");
        }
    }
}
