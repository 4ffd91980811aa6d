//! The weights of a model: named `f32` tensors with the shapes of their [`ModelConfig`].
//!
//! Names are those of Hugging Face (`model.layers.0.self_attn.q_proj.weight`), matrices are
//! `[out, in]`, row after row. A [`Weights`] that exists is complete: every tensor of
//! [`ModelConfig::tensor_shapes`] is there, with that shape, and no other. Training changes weights
//! as one flat buffer in that order; everything else reads tensors by name.

use crate::config::ModelConfig;
use bstar_core::RngKey;
use bstar_core::rng::normal;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// Sizes of the dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, last dimension fastest.
    pub data: Vec<f32>,
}

/// Every tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The shape of the model.
    pub config: ModelConfig,
    tensors: BTreeMap<String, WeightTensor>,
}

impl Weights {
    /// Fresh weights: norms are 1, biases 0, embeddings are normal with a small deviation, matrices with
    /// 1/sqrt(3 · inputs) — the usual 0.02 at a width of 768, and large enough for narrow models to
    /// leave the start — those that
    /// write into the residual stream divided by the root of twice the number of layers, so that
    /// the stream starts with the same variance at every depth.
    pub fn random(config: &ModelConfig, key: RngKey) -> Self {
        let residual_scale = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        let draw = |name: &str, shape: &[usize]| {
            let size = shape.iter().product();
            if shape.len() == 1 {
                return vec![if name.ends_with("bias") { 0.0 } else { 1.0 }; size];
            }
            let residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
            let own = match (name == EMBEDDING, shape) {
                (false, &[_, fan_in]) => 1.0 / (3.0 * fan_in as f64).sqrt(),
                _ => EMBEDDING_DEVIATION,
            };
            let deviation = if residual { own * residual_scale } else { own };
            let mut rng = key.child(name).rng();
            #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
            (0..size).map(|_| (normal(&mut rng) * deviation) as f32).collect()
        };
        let tensors = config
            .tensor_shapes()
            .into_iter()
            .map(|(name, shape)| {
                let data = draw(&name, &shape);
                (name, WeightTensor { shape, data })
            })
            .collect();
        Self { config: config.clone(), tensors }
    }

    /// Weights from one buffer with all tensors in the order of [`ModelConfig::tensor_shapes`].
    ///
    /// # Panics
    /// If the buffer has not [`ModelConfig::parameter_count`] numbers.
    pub fn from_flat(config: &ModelConfig, flat: &[f32]) -> Self {
        assert_eq!(flat.len(), config.parameter_count(), "one number for each parameter");
        let mut rest = flat;
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.tensor_shapes() {
            let (data, after) = rest.split_at(shape.iter().product());
            rest = after;
            tensors.insert(name, WeightTensor { shape, data: data.to_vec() });
        }
        Self { config: config.clone(), tensors }
    }

    /// Weights from named tensors; the caller has checked names and shapes.
    pub(crate) fn from_tensors(
        config: ModelConfig,
        tensors: BTreeMap<String, WeightTensor>,
    ) -> Self {
        let shapes = config.tensor_shapes();
        assert_eq!(shapes.len(), tensors.len(), "every tensor and no other");
        assert!(shapes.iter().all(|(name, shape)| &tensors[name].shape == shape));
        Self { config, tensors }
    }

    /// All numbers in one buffer, in the order of [`ModelConfig::tensor_shapes`].
    pub fn to_flat(&self) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.config.parameter_count());
        for (name, _) in self.config.tensor_shapes() {
            flat.extend_from_slice(self.get(&name));
        }
        flat
    }

    /// The numbers of a tensor.
    ///
    /// # Panics
    /// If the config has no tensor of this name.
    pub fn get(&self, name: &str) -> &[f32] {
        let tensor = self.tensors.get(name);
        &tensor.unwrap_or_else(|| panic!("the config has no tensor `{name}`")).data
    }

    /// The numbers of a tensor of a layer: `layer(2, "self_attn.q_proj")`.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn layer(&self, layer: usize, name: &str) -> &[f32] {
        self.get(&format!("model.layers.{layer}.{name}.weight"))
    }

    /// The biases of queries, keys and values of a layer, one after another; none in families
    /// without them.
    pub fn attention_bias(&self, layer: usize) -> Option<Vec<f32>> {
        self.config.family.has_attention_bias().then(|| {
            let bias = |name| self.get(&format!("model.layers.{layer}.self_attn.{name}.bias"));
            ["q_proj", "k_proj", "v_proj"].map(bias).concat()
        })
    }

    /// The norms of query and key heads of a layer; none in families without them.
    pub fn head_norms(&self, layer: usize) -> Option<[&[f32]; 2]> {
        let norms = ["self_attn.q_norm", "self_attn.k_norm"];
        self.config.family.has_head_norms().then(|| norms.map(|name| self.layer(layer, name)))
    }

    /// The token embedding, `[vocab, width]`.
    pub fn embedding(&self) -> &[f32] {
        self.get("model.embed_tokens.weight")
    }

    /// The head, `[vocab, width]`: the embedding if they are tied.
    pub fn head(&self) -> &[f32] {
        if self.config.tie_word_embeddings { self.embedding() } else { self.get("lm_head.weight") }
    }

    /// Every tensor with its name, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &WeightTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The first 16 hex digits of the SHA-256 of names, shapes and bits: equal weights, equal text.
    pub fn fingerprint(&self) -> Arc<str> {
        let mut hasher = Sha256::new();
        for (name, tensor) in self.tensors() {
            hasher.update((name.len() as u64).to_le_bytes());
            hasher.update(name);
            hasher.update((tensor.shape.len() as u64).to_le_bytes());
            for &size in &tensor.shape {
                hasher.update((size as u64).to_le_bytes());
            }
            for piece in tensor.data.chunks(1 << 20) {
                hasher.update(little_endian_bytes(piece));
            }
        }
        short_hex(hasher)
    }
}

/// The first 16 hex digits of a hash.
pub(crate) fn short_hex(hasher: Sha256) -> Arc<str> {
    let mut hex = String::new();
    for byte in &hasher.finalize()[..8] {
        write!(hex, "{byte:02x}").expect("a string takes every write");
    }
    hex.into()
}

/// The numbers as a file stores them.
pub(crate) fn little_endian_bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The token embedding's name and its initial standard deviation.
const EMBEDDING: &str = "model.embed_tokens.weight";
const EMBEDDING_DEVIATION: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ModelSize;

    fn tiny() -> Weights {
        let config = ModelSize::from_width(16).unwrap().config(11, 32, 1);
        Weights::random(&config, RngKey::from_seed(1))
    }

    #[test]
    fn weights_survive_the_flat_buffer() {
        let weights = tiny();
        assert_eq!(Weights::from_flat(&weights.config, &weights.to_flat()), weights);
    }

    #[test]
    fn a_change_of_one_bit_changes_the_fingerprint() {
        let weights = tiny();
        let mut flat = weights.to_flat();
        assert_eq!(Weights::from_flat(&weights.config, &flat).fingerprint(), weights.fingerprint());
        flat[77] = f32::from_bits(flat[77].to_bits() ^ 1);
        assert_ne!(Weights::from_flat(&weights.config, &flat).fingerprint(), weights.fingerprint());
        assert_eq!(weights.fingerprint().len(), 16);
    }

    #[test]
    fn a_tensor_depends_on_its_name_and_the_key_only() {
        let size = ModelSize::from_width(16).unwrap();
        let wider_vocabulary = Weights::random(&size.config(13, 32, 1), RngKey::from_seed(1));
        assert_eq!(wider_vocabulary.layer(1, "mlp.up_proj"), tiny().layer(1, "mlp.up_proj"));
        let other_key = Weights::random(&size.config(11, 32, 1), RngKey::from_seed(2));
        assert_ne!(other_key.embedding(), tiny().embedding());
    }

    #[test]
    fn initial_deviations_are_those_of_the_recipe() {
        let config = ModelSize::PICO.config(100, 32, 1);
        let weights = Weights::random(&config, RngKey::from_seed(3));
        for (name, expected) in [
            ("model.embed_tokens.weight", 0.5),
            ("model.layers.1.self_attn.q_proj.weight", 1.0 / 192_f32.sqrt()),
            ("model.layers.1.mlp.down_proj.weight", 1.0 / (504_f32 * 6.0).sqrt()),
        ] {
            let data = weights.get(name);
            let square: f32 = data.iter().map(|x| x * x).sum::<f32>() / data.len() as f32;
            assert!((square.sqrt() / expected - 1.0).abs() < 0.05, "{name}: {}", square.sqrt());
        }
        assert!(weights.layer(0, "input_layernorm").iter().all(|&x| x == 1.0));
    }
}
