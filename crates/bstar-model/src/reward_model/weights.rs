//! The weights of a reward model: a transformer body, and one row of weights with a bias as its head.

use crate::config::ModelConfig;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::parameters::{ParameterGroup, parameter_groups};
use crate::transformer::Transformer;
use crate::weights::{Weights, little_endian_bytes, short_hex};
use bstar_core::RngKey;
use bstar_core::rng::normal;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Name of the head's weights, `[1, width]`, as in `transformers`.
pub(super) const HEAD: &str = "score.weight";
/// Name of the head's bias, `[1]`.
pub(super) const BIAS: &str = "score.bias";

/// Standard deviation of a fresh head.
const DEVIATION: f64 = 0.02;

/// Body, head and bias as one flat buffer, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RewardWeights {
    /// The shape of the body; its head counts as tied, so that there is none.
    config: ModelConfig,
    flat: Vec<f32>,
}

impl RewardWeights {
    /// The body of a policy with a fresh head.
    pub(super) fn from_policy(weights: &Weights, key: RngKey) -> Self {
        let config = ModelConfig { tie_word_embeddings: true, ..weights.config.clone() };
        let mut flat = weights.to_flat();
        flat.truncate(config.parameter_count());
        let mut rng = key.rng();
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        flat.extend((0..config.hidden_size).map(|_| (normal(&mut rng) * DEVIATION) as f32));
        flat.push(0.0);
        Self::from_flat(config, flat)
    }

    /// Weights from one buffer: body, head, bias.
    ///
    /// # Panics
    /// If the buffer has another size, or the config a language-model head.
    pub(super) fn from_flat(config: ModelConfig, flat: Vec<f32>) -> Self {
        assert!(config.tie_word_embeddings, "a reward model has no language-model head");
        assert_eq!(flat.len(), config.parameter_count() + config.hidden_size + 1);
        Self { config, flat }
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The body.
    pub(super) fn transformer(&self) -> Transformer<'_> {
        Transformer::new(&self.config, &self.flat[..self.body_count()])
    }

    /// The weights of the head, one for each hidden number, and its bias.
    pub(super) fn head(&self) -> (&[f32], f32) {
        let (bias, weights) = self.flat[self.body_count()..].split_last().expect("a bias");
        (weights, *bias)
    }

    pub(super) fn body_count(&self) -> usize {
        self.flat.len() - self.config.hidden_size - 1
    }

    pub(super) fn flat(&self) -> &[f32] {
        &self.flat
    }

    pub(super) fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.flat
    }

    /// A fresh optimizer for them.
    pub(super) fn optimizer(&self, settings: OptimizerSettings) -> AdamW {
        AdamW::new(settings, self.flat.len())
    }

    /// What the optimizer works on: the groups of the body, the head, the bias.
    pub(super) fn groups(&self) -> Vec<ParameterGroup> {
        let mut groups = parameter_groups(&self.config);
        let (head, width) = (self.body_count(), self.config.hidden_size);
        groups.push(ParameterGroup { shape: vec![1, width], range: head..head + width });
        groups.push(ParameterGroup { shape: vec![1], range: head + width..head + width + 1 });
        groups
    }

    /// Name and shape of every tensor, in the order of the buffer.
    pub(super) fn shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
        let mut shapes = config.tensor_shapes();
        shapes.push((HEAD.into(), vec![1, config.hidden_size]));
        shapes.push((BIAS.into(), vec![1]));
        shapes
    }

    /// Every tensor with its name and shape.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let mut rest = self.flat.as_slice();
        let cut = |(name, shape): (String, Vec<usize>)| {
            let (data, after) = rest.split_at(shape.iter().product());
            rest = after;
            (name, shape, data)
        };
        Self::shapes(&self.config).into_iter().map(cut).collect()
    }

    /// The first 16 hex digits of the SHA-256 of names and bits: equal weights, equal text.
    pub(super) fn fingerprint(&self) -> Arc<str> {
        let mut hasher = Sha256::new();
        for (name, _, data) in self.tensors() {
            hasher.update(name);
            hasher.update(little_endian_bytes(data));
        }
        short_hex(hasher)
    }
}
