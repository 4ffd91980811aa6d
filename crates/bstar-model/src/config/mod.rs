//! The shape of a model: the fields of a Hugging Face `config.json`.
//!
//! A [`ModelConfig`] that exists is valid: counts are positive, heads divide evenly, and nothing in
//! the file asks for arithmetic that this engine does not do (other biases, other activations,
//! other scalings of the rotary embedding, other architectures); such a file is an error that names
//! the field. The module knows no tensors' values, only their names and shapes. [`family`] tells
//! what sets the families apart, `json` reads and writes the file.

pub mod family;
mod fields;
mod json;
pub mod rope;

use bstar_core::{Fault, FaultClass};
use family::{Family, SlidingWindow};
use rayon::prelude::*;
use rope::RopeScaling;
use serde_json::{Map, Value};
use thiserror::Error;

/// A `config.json` that this engine cannot run.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not a JSON object.
    #[error("the model config is not JSON: {0}")]
    NotJson(String),
    /// A field is needed and absent.
    #[error("the model config has no `{0}`")]
    Missing(&'static str),
    /// A field has a value of another type or out of range.
    #[error("the model config has `{field}` = {value}, but it must be {expected}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Another family of models.
    #[error(
        "the model config has `{field}` = `{value}`; Llama, Mistral, Qwen2 and Qwen3 can be loaded"
    )]
    Architecture {
        /// `model_type` or `architectures`.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Arithmetic that is not there.
    #[error("the model config asks for `{field}` = {value}, which is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
    },
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Self {
        Self::new(FaultClass::Data, error.to_string()).hint(
            "use a dense model of the families llama, mistral, qwen2 or qwen3 (see \
             docs/design/engine.md)",
        )
    }
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// What sets it apart from plain Llama.
    pub family: Family,
    /// Rows of the embedding: token ids are below it.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// What is done to the frequencies of the rotary embedding.
    pub rope_scaling: RopeScaling,
    /// How far back a token sees, if there is a bound.
    pub sliding_window: Option<SlidingWindow>,
    /// Longest prompt with response, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the head reuses the embedding.
    pub tie_word_embeddings: bool,
    /// Beginning-of-sequence token, if the model has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a response; the first is the one that training appends.
    pub eos_token_ids: Vec<u32>,
    /// Padding token, if the model has one.
    pub pad_token_id: Option<u32>,
    /// What `generation_config.json` says beside these token ids: kept for those who read the folder
    /// later, without a meaning here.
    pub generation: Map<String, Value>,
}

impl ModelConfig {
    /// Name and shape of every tensor, in the one order used for flat buffers: embedding, layers
    /// (norm, q, k, v, o, norm, gate, up, down; biases of q, k, v or norms of q, k in the families
    /// that have them), last norm, head unless tied. Matrices are `[out, in]`.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.query_width(), self.key_value_width());
        let mut shapes = vec![("model.embed_tokens.weight".into(), vec![self.vocab_size, width])];
        let matrices = [
            ("input_layernorm.weight", vec![width]),
            ("self_attn.q_proj.weight", vec![queries, width]),
            ("self_attn.k_proj.weight", vec![keys, width]),
            ("self_attn.v_proj.weight", vec![keys, width]),
            ("self_attn.o_proj.weight", vec![width, queries]),
            ("post_attention_layernorm.weight", vec![width]),
            ("mlp.gate_proj.weight", vec![inner, width]),
            ("mlp.up_proj.weight", vec![inner, width]),
            ("mlp.down_proj.weight", vec![width, inner]),
        ];
        let biases = [
            ("self_attn.q_proj.bias", vec![queries]),
            ("self_attn.k_proj.bias", vec![keys]),
            ("self_attn.v_proj.bias", vec![keys]),
        ];
        let norms = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"]
            .map(|name| (name, vec![self.head_dim]));
        let mut of_layer = Vec::from(matrices);
        of_layer.extend(biases.into_iter().filter(|_| self.family.has_attention_bias()));
        of_layer.extend(norms.into_iter().filter(|_| self.family.has_head_norms()));
        for layer in 0..self.num_hidden_layers {
            for (name, shape) in &of_layer {
                shapes.push((format!("model.layers.{layer}.{name}"), shape.clone()));
            }
        }
        shapes.push(("model.norm.weight".into(), vec![width]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".into(), vec![self.vocab_size, width]));
        }
        shapes
    }

    /// The first tensor of a flat buffer in which a number is infinite or not a number.
    pub(crate) fn first_not_finite(&self, flat: &[f32]) -> Option<String> {
        if flat.par_chunks(1 << 15).all(all_finite) {
            return None;
        }
        let mut rest = flat;
        self.tensor_shapes().into_iter().find_map(|(name, shape)| {
            let (data, after) = rest.split_at(shape.iter().product());
            rest = after;
            (!all_finite(data)).then_some(name)
        })
    }

    /// Numbers in all tensors together.
    pub fn parameter_count(&self) -> usize {
        self.tensor_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Whether the weights fit into the caches of a processor, or nearly: below a million parameters.
    pub(crate) fn is_small(&self) -> bool {
        self.parameter_count() < 1_000_000
    }

    /// Tokens that a token of a layer sees, itself included; `usize::MAX` where there is no bound.
    pub fn window(&self, layer: usize) -> usize {
        match self.sliding_window {
            Some(SlidingWindow { tokens, first_layer }) if layer >= first_layer => tokens,
            _ => usize::MAX,
        }
    }

    /// Frequencies (radians a position) of the pairs of a head in the rotary embedding.
    pub fn rotary_frequencies(&self) -> Vec<f64> {
        let half = self.head_dim / 2;
        let unscaled = |i: usize| self.rope_theta.powf(-(i as f64) / half as f64);
        (0..half).map(|i| self.rope_scaling.apply(unscaled(i))).collect()
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads.
    pub fn key_value_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |field, value: usize, expected| {
            Err(ConfigError::Invalid { field, value: value.to_string(), expected })
        };
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = "a divisor of `num_attention_heads`";
            return invalid("num_key_value_heads", self.num_key_value_heads, expected);
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return invalid("head_dim", self.head_dim, "even and positive");
        }
        let ids = self.eos_token_ids.iter().chain(&self.bos_token_id);
        if let Some(&id) = ids.into_iter().find(|&&id| id as usize >= self.vocab_size) {
            return invalid("eos_token_id", id as usize, "below `vocab_size`");
        }
        Ok(())
    }
}

/// Whether no number is infinite or not a number; without a branch, so that it runs on vectors.
pub(crate) fn all_finite(numbers: &[f32]) -> bool {
    numbers.iter().fold(true, |finite, number| finite & number.is_finite())
}

#[cfg(test)]
mod tests;
