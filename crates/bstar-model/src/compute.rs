//! How the engine computes: in which numbers, how much at once, and what it keeps.
//!
//! Weights, moments, gradients, activations and all other arithmetic are `f32` in either precision; with
//! `bf16` the operands of the products of linear layers (attention's own products are not among them)
//! are rounded to `bf16` and summed in `f32` (`crate::product`).

use crate::config::ModelConfig;
use crate::ops::matmul::Matrix;
use crate::parameters::parameter_groups;
use crate::product::Panels;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The numbers of the products of linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Rounded to the upper half of an `f32`; faster on processors with AVX512_BF16.
    Bf16,
}

/// How to train and sample. Only the first of them changes what is computed; the second changes
/// rounding, and the third nothing but time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeSettings {
    /// The numbers that linear layers are multiplied in, training and sampling. Weights and the
    /// optimizer's moments are always `f32`.
    pub precision: Precision,
    /// Most examples in one forward and backward pass; gradients of a batch are added up. 0 sets no
    /// limit. A pass has about 4096 tokens at most in any case (512 of a model of less than a million
    /// parameters), on a card 16,384.
    pub micro_batch_size: usize,
    /// Keep only the input of each layer for the backward pass and compute the rest again: less memory,
    /// more time (a second forward pass), the same bits.
    pub checkpoint_activations: bool,
}

/// The matrices of a model as right operands of the forward products, in `bf16`: two bytes a number.
/// Made again after each change of the parameters.
#[derive(Debug, Default)]
pub struct HalfWeights {
    /// One for each parameter group; empty for those that are no matrices.
    groups: Vec<Panels>,
}

impl HalfWeights {
    /// Rounds and packs the matrices of a flat buffer of parameters, on all threads.
    ///
    /// # Panics
    /// If the buffer has not [`ModelConfig::parameter_count`] numbers.
    pub fn pack(&mut self, config: &ModelConfig, parameters: &[f32]) {
        assert_eq!(parameters.len(), config.parameter_count(), "one number for each parameter");
        let groups = parameter_groups(config);
        self.groups.resize_with(groups.len(), Panels::default);
        // Only a tied embedding is multiplied with.
        let skipped = usize::from(!config.tie_word_embeddings);
        let packed = self.groups.par_iter_mut().zip(&groups).skip(skipped);
        packed.for_each(|(packed, group)| {
            if let &[outer, inner] = &*group.shape {
                let matrix = Matrix::new(&parameters[group.range.clone()], outer, inner);
                packed.pack(matrix.transposed());
            }
        });
    }

    /// The matrix of a parameter group.
    pub(crate) fn group(&self, group: usize) -> &Panels {
        &self.groups[group]
    }
}
