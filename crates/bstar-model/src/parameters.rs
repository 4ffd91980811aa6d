//! How a flat buffer of parameters is cut into the tensors that training works on.
//!
//! The buffer holds the tensors of [`ModelConfig::tensor_shapes`] one after another. Neighbours that
//! are multiplied with the same input (query, key and value; gate and up) are one group, so that one
//! product serves them; since matrices are `[out, in]`, a group is again a plain matrix.

use crate::config::ModelConfig;
use std::ops::Range;

/// A stretch of the flat buffer that training treats as one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterGroup {
    /// Its shape: `[out, in]`, or `[width]` for a norm or a bias.
    pub shape: Vec<usize>,
    /// Where it lies in the flat buffer.
    pub range: Range<usize>,
}

impl ParameterGroup {
    /// Whether weight decay pulls it to zero: matrices yes, norms and biases no.
    pub fn decays(&self) -> bool {
        self.shape.len() > 1
    }
}

/// The groups of a model: embedding; norm, query-key-value, output, norm, gate-up, down of each
/// layer, then its query-key-value bias, query norm and key norm where the family has them; last
/// norm; head unless tied.
pub fn parameter_groups(config: &ModelConfig) -> Vec<ParameterGroup> {
    let mut groups: Vec<ParameterGroup> = Vec::new();
    let mut end = 0;
    for (name, shape) in config.tensor_shapes() {
        let start = end;
        end += shape.iter().product::<usize>();
        let joins =
            ["k_proj.weight", "v_proj.weight", "up_proj.weight", "k_proj.bias", "v_proj.bias"];
        match groups.last_mut() {
            Some(group) if joins.iter().any(|suffix| name.ends_with(suffix)) => {
                group.shape[0] += shape[0];
                group.range.end = end;
            }
            _ => groups.push(ParameterGroup { shape, range: start..end }),
        }
    }
    groups
}

/// Where a kind of group is in the list of [`parameter_groups`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Groups {
    layers: usize,
    has_bias: bool,
    has_head_norms: bool,
    is_tied: bool,
}

impl Groups {
    /// The norm before attention of a layer, as its `group` in [`Groups::layer`].
    pub(crate) const NORM: usize = 0;
    /// Queries, keys and values.
    pub(crate) const QKV: usize = 1;
    /// From the heads back to the residual stream.
    pub(crate) const OUTPUT: usize = 2;
    /// The norm before the feed-forward block.
    pub(crate) const SECOND_NORM: usize = 3;
    /// Gate and up.
    pub(crate) const GATE_UP: usize = 4;
    /// From the feed-forward block back to the residual stream.
    pub(crate) const DOWN: usize = 5;
    /// Groups of a layer that every family has; biases and norms of heads follow them.
    const PLAIN: usize = 6;

    /// The token embedding.
    pub(crate) const EMBEDDING: usize = 0;

    /// The groups of a config.
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            has_bias: config.family.has_attention_bias(),
            has_head_norms: config.family.has_head_norms(),
            is_tied: config.tie_word_embeddings,
        }
    }

    /// A group of a layer.
    pub(crate) fn layer(self, layer: usize, group: usize) -> usize {
        let of_layer =
            Self::PLAIN + usize::from(self.has_bias) + 2 * usize::from(self.has_head_norms);
        Self::EMBEDDING + 1 + layer * of_layer + group
    }

    /// The biases of queries, keys and values of a layer, in families that have them.
    pub(crate) fn bias(self, layer: usize) -> Option<usize> {
        self.has_bias.then(|| self.layer(layer, Self::PLAIN))
    }

    /// The norms of query and key heads of a layer, in families that have them.
    pub(crate) fn head_norms(self, layer: usize) -> Option<[usize; 2]> {
        let first = Self::PLAIN + usize::from(self.has_bias);
        self.has_head_norms.then(|| [first, first + 1].map(|group| self.layer(layer, group)))
    }

    /// The last norm.
    pub(crate) fn final_norm(self) -> usize {
        self.layer(self.layers, 0)
    }

    /// The head: the embedding if they are tied.
    pub(crate) fn head(self) -> usize {
        if self.is_tied { Self::EMBEDDING } else { self.final_norm() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ModelSize;

    #[test]
    fn groups_cover_the_buffer_without_gaps() {
        for tied in [false, true] {
            let mut config = ModelSize::SMALL.config(50, 64, 1);
            config.tie_word_embeddings = tied;
            let groups = parameter_groups(&config);
            assert_eq!(groups.len(), 2 + 6 * 6 + usize::from(!tied));
            let mut end = 0;
            for group in &groups {
                assert_eq!(group.range.start, end);
                assert_eq!(group.range.len(), group.shape.iter().product::<usize>());
                end = group.range.end;
            }
            assert_eq!(end, config.parameter_count());
            assert_eq!(groups[2].shape, [512, 256]);
            assert_eq!(groups[5].shape, [1376, 256]);
        }
    }
}
