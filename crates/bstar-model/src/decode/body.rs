//! The forward pass over groups of lanes.
//!
//! Every lane is one token with its position; where its keys and values are kept and which ones it
//! sees is the business of a [`Context`]. Weights are packed once, when a [`Body`] is made. Follows
//! the Hugging Face conventions: RMS norm before each block, rotary embedding that pairs the two
//! halves of a head, `SwiGLU`, a final norm and a head that may be the embedding.

use super::cache::CacheShape;
use super::kernels::{AddBias, NormHeads, RmsNorm, Rotate, SwiGlu};
use super::lanes::{Lanes, Slab};
use super::matrix::{HalfRoom, PackedMatrix, Packing};
use crate::compute::Precision;
use crate::config::ModelConfig;
use crate::config::family::SlidingWindow;
use crate::weights::Weights;
use pulp::Arch;

/// What the tokens of the lanes attend to.
pub(super) trait Context {
    /// Remembers the keys and values `[keys, values][head][feature][lane]` of a group's tokens.
    fn write(&mut self, group: usize, layer: usize, keys_values: &[f32]);

    /// The attention of a group, from queries `[head][feature][lane]` to output of that shape.
    fn attend(
        &mut self,
        body: &Body,
        lanes: Lanes,
        group: usize,
        layer: usize,
        queries: &[f32],
        out: &mut [f32],
    );
}

/// How far a forward pass goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// To the keys and values of the last layer: all that a prompt leaves behind.
    Cache,
    /// To the logits.
    Logits,
}

/// Packed weights.
#[derive(Debug)]
pub(super) struct Body {
    /// The vector instructions of this machine.
    pub(super) arch: Arch,
    /// The shape of the model.
    pub(super) config: ModelConfig,
    layers: Vec<Layer>,
    /// `[token][feature]`.
    embedding: Vec<f32>,
    norm: Vec<f32>,
    head: PackedMatrix,
    /// Of half a head: radians a position.
    frequencies: Vec<f64>,
    /// What caches keep of layers with a window: that of the config.
    pub(super) kept: Option<SlidingWindow>,
    /// Floating-point operations of the matrix products for one token.
    pub(super) work_per_token: u64,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    queries_keys_values: PackedMatrix,
    /// Of queries, keys and values, where the family has them.
    bias: Option<Vec<f32>>,
    /// Of query and key heads, where the family has them.
    head_norms: Option<[Vec<f32>; 2]>,
    attention_output: PackedMatrix,
    mlp_norm: Vec<f32>,
    gates_ups: PackedMatrix,
    down: PackedMatrix,
}

/// The numbers of a forward pass, with the tokens that go in and the logits that come out.
#[derive(Debug)]
pub(super) struct Activations {
    /// Of each group.
    pub(super) lanes: Lanes,
    /// `[group][lane]`: token ids.
    pub(super) tokens: Vec<u32>,
    /// `[group][lane]`.
    pub(super) positions: Vec<usize>,
    /// `[token][lane]` for each group.
    pub(super) logits: Slab,
    residual: Slab,
    normed: Slab,
    queries_keys_values: Slab,
    attended: Slab,
    gates_ups: Slab,
    cosines: Slab,
    sines: Slab,
    half: HalfRoom,
    /// `[position][half a head]`, cosine and sine, as far as positions have come by: a context may
    /// be much longer than anything that is drawn.
    angles: Vec<[f32; 2]>,
}

impl Activations {
    /// Room for `groups` groups.
    pub(super) fn new(body: &Body, lanes: Lanes, groups: usize) -> Self {
        let config = &body.config;
        let slab = |features| Slab::zeroed(groups, features, lanes.count());
        let heads = config.num_attention_heads + 2 * config.num_key_value_heads;
        Self {
            lanes,
            tokens: vec![0; groups * lanes.count()],
            positions: vec![0; groups * lanes.count()],
            logits: slab(config.vocab_size),
            residual: slab(config.hidden_size),
            normed: slab(config.hidden_size),
            queries_keys_values: slab(heads * config.head_dim),
            attended: slab(config.num_attention_heads * config.head_dim),
            gates_ups: slab(2 * config.intermediate_size),
            cosines: slab(config.head_dim / 2),
            sines: slab(config.head_dim / 2),
            half: HalfRoom::default(),
            angles: Vec::new(),
        }
    }
}

impl Body {
    /// Packs the weights.
    pub(super) fn new(weights: &Weights, precision: Precision, arch: Arch) -> Self {
        let packing = Packing::new(precision, arch);
        let stack = |inputs, matrices: &[&[f32]]| PackedMatrix::stack(packing, inputs, matrices);
        let config = weights.config.clone();
        let width = config.hidden_size;
        let layers = (0..config.num_hidden_layers).map(|layer| {
            let get = |name| weights.layer(layer, name);
            let attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(get);
            let gates_ups = ["mlp.gate_proj", "mlp.up_proj"].map(get);
            let heads_width = config.num_attention_heads * config.head_dim;
            Layer {
                attention_norm: get("input_layernorm").to_vec(),
                queries_keys_values: stack(width, &attention),
                bias: weights.attention_bias(layer),
                head_norms: weights.head_norms(layer).map(|norms| norms.map(<[f32]>::to_vec)),
                attention_output: stack(heads_width, &[get("self_attn.o_proj")]),
                mlp_norm: get("post_attention_layernorm").to_vec(),
                gates_ups: stack(width, &gates_ups),
                down: stack(config.intermediate_size, &[get("mlp.down_proj")]),
            }
        });
        Self {
            arch,
            layers: layers.collect(),
            embedding: weights.embedding().to_vec(),
            norm: weights.get("model.norm.weight").to_vec(),
            head: stack(width, &[weights.head()]),
            frequencies: config.rotary_frequencies(),
            kept: config.sliding_window,
            work_per_token: 2 * config.parameter_count() as u64,
            config,
        }
    }

    /// The shape of a cache of this model.
    pub(super) fn cache_shape(&self) -> CacheShape {
        CacheShape { window: self.kept, ..CacheShape::of(&self.config) }
    }

    /// Runs the tokens of `groups`; the logits are in `numbers` afterwards, if asked for.
    pub(super) fn forward(
        &self,
        numbers: &mut Activations,
        groups: &[usize],
        context: &mut impl Context,
        until: Until,
    ) {
        self.embed(numbers, groups);
        let config = &self.config;
        let lanes = numbers.lanes;
        let query_size = config.num_attention_heads * config.head_dim * lanes.count();
        for (index, layer) in self.layers.iter().enumerate() {
            self.normalise(&layer.attention_norm, numbers, groups);
            let Activations {
                normed, queries_keys_values: heads, attended, residual, half, ..
            } = numbers;
            layer.queries_keys_values.apply(lanes, groups, normed, heads, half);
            for &group in groups {
                let heads = heads.group_mut(group);
                self.prepare_heads(layer, lanes, heads);
                let rotated = config.num_attention_heads + config.num_key_value_heads;
                lanes.dispatch(Rotate {
                    cosines: numbers.cosines.group(group),
                    sines: numbers.sines.group(group),
                    query_scale: 1.0 / (config.head_dim as f32).sqrt(),
                    query_heads: config.num_attention_heads,
                    heads: &mut heads[..rotated * config.head_dim * lanes.count()],
                });
                context.write(group, index, &heads[query_size..]);
            }
            if until == Until::Cache && index + 1 == self.layers.len() {
                return;
            }
            for &group in groups {
                let queries = &heads.group(group)[..query_size];
                context.attend(self, lanes, group, index, queries, attended.group_mut(group));
            }
            layer.attention_output.accumulate(lanes, groups, attended, residual, half);
            self.feed_forward(layer, numbers, groups);
        }
        self.normalise(&self.norm, numbers, groups);
        let Activations { normed, logits, half, .. } = numbers;
        self.head.apply(lanes, groups, normed, logits, half);
    }

    /// What some families do to queries, keys and values before they are turned.
    fn prepare_heads(&self, layer: &Layer, lanes: Lanes, heads: &mut [f32]) {
        if let Some(bias) = &layer.bias {
            lanes.dispatch(AddBias { bias, features: heads });
        }
        if let Some([query_norm, key_norm]) = &layer.head_norms {
            let queries = self.config.query_width() * lanes.count();
            let keys = self.config.key_value_width() * lanes.count();
            let (queries, rest) = heads.split_at_mut(queries);
            let epsilon = self.epsilon();
            lanes.dispatch(NormHeads { weight: query_norm, epsilon, heads: queries });
            lanes.dispatch(NormHeads { weight: key_norm, epsilon, heads: &mut rest[..keys] });
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "arithmetic is f32")]
    fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    fn feed_forward(&self, layer: &Layer, numbers: &mut Activations, groups: &[usize]) {
        self.normalise(&layer.mlp_norm, numbers, groups);
        let Activations { lanes, normed, gates_ups, residual, half, .. } = numbers;
        layer.gates_ups.apply(*lanes, groups, normed, gates_ups, half);
        for &group in groups {
            lanes.dispatch(SwiGlu { gates_ups: gates_ups.group_mut(group) });
        }
        layer.down.accumulate(*lanes, groups, gates_ups, residual, half);
    }

    fn normalise(&self, weight: &[f32], numbers: &mut Activations, groups: &[usize]) {
        for &group in groups {
            numbers.lanes.dispatch(RmsNorm {
                weight,
                epsilon: self.epsilon(),
                input: numbers.residual.group(group),
                output: numbers.normed.group_mut(group),
            });
        }
    }

    /// Looks up the embedding of each token and the angles of each position.
    fn embed(&self, numbers: &mut Activations, groups: &[usize]) {
        let lanes = numbers.lanes.count();
        let width = self.config.hidden_size;
        let half = self.config.head_dim / 2;
        for &group in groups {
            let residual = numbers.residual.group_mut(group);
            let cosines = numbers.cosines.group_mut(group);
            let sines = numbers.sines.group_mut(group);
            for lane in 0..lanes {
                let token = numbers.tokens[group * lanes + lane] as usize;
                let position = numbers.positions[group * lanes + lane];
                let embedded = &self.embedding[token * width..][..width];
                for (row, &number) in residual.chunks_exact_mut(lanes).zip(embedded) {
                    row[lane] = number;
                }
                self.reach(position, &mut numbers.angles);
                let angles = &numbers.angles[position * half..][..half];
                let rows = cosines.chunks_exact_mut(lanes).zip(sines.chunks_exact_mut(lanes));
                for ((cosines, sines), [cosine, sine]) in rows.zip(angles) {
                    cosines[lane] = *cosine;
                    sines[lane] = *sine;
                }
            }
        }
    }

    /// Extends the table of angles to a position.
    fn reach(&self, position: usize, angles: &mut Vec<[f32; 2]>) {
        #[expect(clippy::cast_possible_truncation, reason = "arithmetic is f32")]
        let pair = |angle: f64| [angle.cos() as f32, angle.sin() as f32];
        for position in angles.len() / self.frequencies.len()..=position {
            angles.extend(self.frequencies.iter().map(|f| pair(position as f64 * f)));
        }
    }
}
