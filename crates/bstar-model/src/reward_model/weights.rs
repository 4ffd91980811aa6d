//! The weights of a reward model: a transformer body, and a head. A scalar head is one row of weights
//! with a bias; a token head is the language-model head with a bias.

use super::token_head::FRESH_BIAS;
use crate::compute::HalfWeights;
use crate::config::ModelConfig;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::parameters::{ParameterGroup, parameter_groups};
use crate::transformer::Transformer;
use crate::weights::{Weights, little_endian_bytes, short_hex};
use bstar_core::RngKey;
use bstar_core::ports::RewardHead;
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
    /// The shape of the body. With a scalar head its language-model head counts as tied, so that
    /// there is none.
    config: ModelConfig,
    head: RewardHead,
    flat: Vec<f32>,
}

impl RewardWeights {
    /// The body of a policy with a fresh head.
    pub(super) fn from_policy(weights: &Weights, head: RewardHead, key: RngKey) -> Self {
        let mut flat = weights.to_flat();
        if head == RewardHead::Token {
            flat.push(FRESH_BIAS);
            return Self::from_flat(weights.config.clone(), head, flat);
        }
        let config = ModelConfig { tie_word_embeddings: true, ..weights.config.clone() };
        flat.truncate(config.parameter_count());
        let mut rng = key.rng();
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        flat.extend((0..config.hidden_size).map(|_| (normal(&mut rng) * DEVIATION) as f32));
        flat.push(0.0);
        Self::from_flat(config, head, flat)
    }

    /// Weights from one buffer: body, head, bias.
    ///
    /// # Panics
    /// If the buffer has another size, or the config of a scalar head a language-model head.
    pub(super) fn from_flat(config: ModelConfig, head: RewardHead, flat: Vec<f32>) -> Self {
        assert!(config.tie_word_embeddings || head == RewardHead::Token, "it has two heads");
        let weights = Self { config, head, flat };
        assert_eq!(weights.flat.len(), weights.body_count() + weights.row() + 1);
        weights
    }

    /// Of which kind its head is.
    pub(super) fn head_kind(&self) -> RewardHead {
        self.head
    }

    /// Weights in the row of a scalar head.
    fn row(&self) -> usize {
        match self.head {
            RewardHead::Scalar => self.config.hidden_size,
            RewardHead::Token => 0,
        }
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The body.
    pub(super) fn transformer(&self) -> Transformer<'_> {
        Transformer::new(&self.config, &self.flat[..self.body_count()])
    }

    /// Packs the matrices of the transformer for products in `bf16`.
    pub(super) fn pack_half(&self, half: &mut HalfWeights) {
        half.pack(&self.config, &self.flat[..self.body_count()]);
    }

    /// The weights of a scalar head, one for each hidden number.
    pub(super) fn head(&self) -> &[f32] {
        &self.flat[self.body_count()..self.flat.len() - 1]
    }

    /// The bias of the head.
    pub(super) fn bias(&self) -> f32 {
        *self.flat.last().expect("a bias")
    }

    /// Numbers of the body; with a token head, of the language-model head too.
    pub(super) fn body_count(&self) -> usize {
        self.config.parameter_count()
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
        let (head, width) = (self.body_count(), self.row());
        if width > 0 {
            groups.push(ParameterGroup { shape: vec![1, width], range: head..head + width });
        }
        groups.push(ParameterGroup { shape: vec![1], range: head + width..head + width + 1 });
        groups
    }

    /// Name and shape of every tensor, in the order of the buffer.
    pub(super) fn shapes(config: &ModelConfig, head: RewardHead) -> Vec<(String, Vec<usize>)> {
        let mut shapes = config.tensor_shapes();
        if head == RewardHead::Scalar {
            shapes.push((HEAD.into(), vec![1, config.hidden_size]));
        }
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
        Self::shapes(&self.config, self.head).into_iter().map(cut).collect()
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
