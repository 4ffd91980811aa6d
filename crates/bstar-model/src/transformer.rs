//! The transformer, forward and backward, for training.
//!
//! Sequences are packed: their tokens lie one after another in one `(tokens, width)` buffer, so no
//! work is spent on padding; only attention knows where a sequence begins. The forward pass leaves
//! in [`Activations`] what the backward pass needs; buffers are kept from step to step, because
//! fresh memory costs more than the arithmetic of small models. With checkpoints
//! ([`Transformer::recomputing`]) only the input of each layer is kept, and the backward pass computes
//! the rest of a layer again, to the same bits. Behind the last attention only those rows are computed
//! whose hidden states are read ([`PackedTokens::reading`]): of an example that is learned, not its
//! prompt. The body is separate from the head ([`Head`]), so that another head (the scalar head of a
//! reward model) can stand on the same body.
//!
//! The backward pass is written out by hand in the reverse order of the forward pass: `grad_x` is
//! the gradient of the residual stream, to which each block adds its share. Everything runs on the
//! calling thread. What some families add (biases, norms of heads, windows) is in `forward_attention`
//! and `backward_attention`. Departure from the usual layout: query, key and value weights are one matrix,
//! gate and up another; see [`crate::parameters`].

use crate::compute::{HalfWeights, Precision};
use crate::config::ModelConfig;
use crate::ops::attention::{Attention, Scratch};
use crate::ops::bias::{bias_backward, fill_rows};
use crate::ops::gather::{gather_rows, gather_rows_backward, keep_rows, spread_rows};
use crate::ops::head_norms::{HeadNorms, HeadWeights};
use crate::ops::linear::{Linear, Weight};
use crate::ops::matmul::Write;
use crate::ops::rms_norm::{rms_norm, rms_norm_backward};
use crate::ops::swiglu::{swiglu, swiglu_backward};
use crate::parameters::parameter_groups;
use std::ops::Range;

/// Token sequences, packed.
#[derive(Clone, Debug)]
pub struct PackedTokens {
    tokens: Vec<u32>,
    sequences: Vec<Range<usize>>,
    /// The tokens whose hidden states are read, in order.
    read: Vec<u32>,
}

impl PackedTokens {
    /// Packs sequences in the given order; the hidden states of all tokens are read.
    pub fn new<'a>(sequences: impl Iterator<Item = &'a [u32]>) -> Self {
        let mut packed = Self { tokens: Vec::new(), sequences: Vec::new(), read: Vec::new() };
        for sequence in sequences {
            let start = packed.tokens.len();
            packed.tokens.extend_from_slice(sequence);
            packed.sequences.push(start..packed.tokens.len());
        }
        packed.read = (0..).take(packed.tokens.len()).collect();
        packed
    }

    /// The same, but only the hidden states of these packed tokens are read, by their number among all.
    ///
    /// # Panics
    /// If the numbers are not strictly ascending, or one is not below the count of tokens.
    #[must_use]
    pub fn reading(mut self, rows: Vec<u32>) -> Self {
        assert!(rows.is_sorted_by(|a, b| a < b), "rows are strictly ascending");
        let there = rows.last().is_none_or(|&row| (row as usize) < self.tokens.len());
        assert!(there, "there are such rows");
        self.read = rows;
        self
    }

    /// All tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Where each sequence lies among the packed tokens.
    pub fn sequences(&self) -> &[Range<usize>] {
        &self.sequences
    }
}

/// What a forward pass leaves for the backward pass, and room for gradients.
#[derive(Debug, Default)]
pub struct Activations {
    layers: Vec<LayerActivations>,
    /// With checkpoints: the layer at hand, of which `layers` keeps the input only.
    recomputed: LayerActivations,
    /// The residual stream after the last layer.
    last: Vec<f32>,
    /// `last`, normalised.
    hidden: Vec<f32>,
    scratch: Scratch,
    gradients: GradientRoom,
}

/// Buffers are `(tokens, width)` but where noted.
#[derive(Debug, Default)]
struct LayerActivations {
    /// The residual stream before the layer.
    input: Vec<f32>,
    normed_input: Vec<f32>,
    /// `(tokens, (heads + 2 kv_heads) head_dim)`: what attention reads.
    qkv: Vec<f32>,
    /// `qkv` before the norms of its heads, in families that have them.
    raw_qkv: Vec<f32>,
    /// `(tokens, heads head_dim)`.
    attended: Vec<f32>,
    /// The residual stream between attention and feed-forward.
    middle: Vec<f32>,
    normed_middle: Vec<f32>,
    /// `(tokens, 2 inner)`.
    gate_up: Vec<f32>,
    /// `(tokens, inner)`.
    activated: Vec<f32>,
}

#[cfg(test)]
impl Activations {
    /// Numbers that are held, the buffers of one head of attention apart.
    pub(crate) fn numbers(&self) -> usize {
        let layer = |layer: &LayerActivations| {
            let LayerActivations { input, normed_input, qkv, raw_qkv, attended, .. } = layer;
            let LayerActivations { middle, normed_middle, gate_up, activated, .. } = layer;
            let all = [input, normed_input, qkv, raw_qkv, attended, middle, normed_middle];
            all.map(Vec::len).iter().sum::<usize>() + gate_up.len() + activated.len()
        };
        let GradientRoom { x, normed, qkv, attended, gate_up, activated } = &self.gradients;
        let room = [x, normed, qkv, attended, gate_up, activated, &self.last, &self.hidden];
        let layers = self.layers.iter().map(layer).sum::<usize>() + layer(&self.recomputed);
        layers + room.map(Vec::len).iter().sum::<usize>()
    }
}

/// Gradients of activations; each is used again in every layer.
#[derive(Debug, Default)]
struct GradientRoom {
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    activated: Vec<f32>,
}

/// A transformer body over a flat buffer of parameters.
pub struct Transformer<'a> {
    config: &'a ModelConfig,
    parameters: &'a [f32],
    ranges: Vec<Range<usize>>,
    epsilon: f32,
    half: Option<&'a HalfWeights>,
    recomputes: bool,
}

impl<'a> Transformer<'a> {
    /// A transformer with the parameters of a flat buffer.
    ///
    /// # Panics
    /// If the buffer has not [`ModelConfig::parameter_count`] numbers.
    pub fn new(config: &'a ModelConfig, parameters: &'a [f32]) -> Self {
        assert_eq!(parameters.len(), config.parameter_count(), "one number for each parameter");
        let ranges = parameter_groups(config).into_iter().map(|group| group.range).collect();
        #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
        let epsilon = config.rms_norm_eps as f32;
        Self { config, parameters, ranges, epsilon, half: None, recomputes: false }
    }

    /// The same with products in `bf16`, if its matrices are given: those of the same parameters.
    #[must_use]
    pub fn in_half(self, half: Option<&'a HalfWeights>) -> Self {
        Self { half, ..self }
    }

    /// The same with or without checkpoints of activations: less memory for a second forward pass.
    #[must_use]
    pub fn recomputing(self, recomputes: bool) -> Self {
        Self { recomputes, ..self }
    }

    /// Width of the hidden states.
    pub fn width(&self) -> usize {
        self.config.hidden_size
    }

    /// Numbers in the flat buffer.
    pub fn parameter_count(&self) -> usize {
        self.parameters.len()
    }

    /// Where the embedding lies in the flat buffer.
    pub fn embedding_range(&self) -> Range<usize> {
        self.ranges[EMBEDDING].clone()
    }

    /// The language-model head.
    pub fn head(&self) -> Head<'a> {
        let tied = self.config.tie_word_embeddings;
        let group = if tied { EMBEDDING } else { self.ranges.len() - 1 };
        Head {
            width: self.config.hidden_size,
            vocabulary: self.config.vocab_size,
            range: self.ranges[group].clone(),
            weight: self.matrix(group),
            precision: self.precision(),
        }
    }

    /// Runs the body and returns the last hidden states, normalised, of the tokens that are read: `(read,
    /// width)`.
    ///
    /// # Panics
    /// If a token is not below the vocabulary.
    pub fn forward<'b>(
        &self,
        packed: &PackedTokens,
        activations: &'b mut Activations,
    ) -> &'b [f32] {
        let Activations { layers, recomputed, last, hidden, scratch, gradients: _ } = activations;
        layers.resize_with(self.config.num_hidden_layers, LayerActivations::default);
        let attention = Attention::new(self.config, &packed.sequences);
        // `last` travels through the layers as the residual stream.
        last.resize(packed.tokens.len() * self.config.hidden_size, 0.0);
        gather_rows(self.weight(EMBEDDING), self.config.hidden_size, &packed.tokens, last);
        for (layer, kept) in layers.iter_mut().enumerate() {
            let activations = if self.recomputes {
                copy(last, &mut kept.input);
                &mut *recomputed
            } else {
                kept
            };
            self.forward_attention(layer, &attention, last, activations, scratch);
            if layer + 1 == self.config.num_hidden_layers {
                keep_rows(&packed.read, self.config.query_width(), &mut activations.attended);
                keep_rows(&packed.read, self.config.hidden_size, &mut activations.middle);
            }
            self.forward_output(layer, activations);
            self.forward_gate(layer, activations);
            self.forward_down(layer, activations, last);
        }
        hidden.resize(last.len(), 0.0);
        rms_norm(last, self.weight(self.final_norm()), self.epsilon, hidden);
        hidden
    }

    /// Given the gradient of the hidden states that are read, writes the gradients of all parameters of the
    /// body into their places of the flat buffer `gradients`. That of the embedding is added to what is
    /// there.
    ///
    /// `activations` must be those of the forward pass of the same tokens and the same rows read.
    pub fn backward(
        &self,
        packed: &PackedTokens,
        activations: &mut Activations,
        grad_hidden: &[f32],
        gradients: &mut [f32],
    ) {
        let Activations { layers, recomputed, last, hidden: _, scratch, gradients: room } =
            activations;
        let attention = Attention::new(self.config, &packed.sequences);
        room.x.clear();
        room.x.resize(grad_hidden.len(), 0.0);
        let norm = self.final_norm();
        self.backward_norm(norm, last, grad_hidden, &mut room.x, gradients);
        for (layer, kept) in layers.iter().enumerate().rev() {
            // Of the last layer everything is still there.
            let is_last = layer + 1 == layers.len();
            if self.recomputes && !is_last {
                self.forward_attention(layer, &attention, &kept.input, recomputed, scratch);
                self.forward_output(layer, recomputed);
                self.forward_gate(layer, recomputed);
            }
            let activations = if self.recomputes { &*recomputed } else { kept };
            self.backward_feed_forward(layer, activations, room, gradients);
            self.backward_output(layer, activations, room, gradients);
            if is_last {
                let (read, tokens) = (&packed.read, packed.tokens.len());
                spread_rows(read, self.config.query_width(), tokens, &mut room.attended);
                spread_rows(read, self.config.hidden_size, tokens, &mut room.x);
            }
            self.backward_attention(layer, &attention, activations, room, gradients, scratch);
        }
        let grad_embedding = &mut gradients[self.ranges[EMBEDDING].clone()];
        gather_rows_backward(&room.x, self.config.hidden_size, &packed.tokens, grad_embedding);
    }

    /// From the stream in `x` to `activations.attended`; `activations.middle` is `x`.
    fn forward_attention(
        &self,
        layer: usize,
        attention: &Attention<'_>,
        x: &[f32],
        activations: &mut LayerActivations,
        scratch: &mut Scratch,
    ) {
        let LayerActivations { input, normed_input, qkv, raw_qkv, attended, middle, .. } =
            activations;
        let tokens = x.len() / self.config.hidden_size;
        copy(x, input);
        normed_input.resize(x.len(), 0.0);
        rms_norm(input, self.layer_weight(layer, NORM), self.epsilon, normed_input);
        let product = self.qkv_product(tokens);
        qkv.resize(tokens * product.outer, 0.0);
        let write = match self.bias_group() {
            None => Write::Replace,
            Some(group) => {
                fill_rows(self.layer_weight(layer, group), qkv);
                Write::Add
            }
        };
        let weight = self.layer_matrix(layer, QKV);
        product.forward(normed_input, weight, write, qkv);
        if let Some(groups) = self.head_norm_groups() {
            copy(qkv, raw_qkv);
            let weights = groups.map(|group| self.layer_weight(layer, group));
            self.head_norms().forward(raw_qkv, HeadWeights(weights), qkv);
        }
        attended.resize(tokens * self.config.query_width(), 0.0);
        attention.forward(self.config.window(layer), qkv, attended, scratch);
        copy(input, middle);
    }

    /// Adds what `activations.attended` gives to `activations.middle`.
    fn forward_output(&self, layer: usize, activations: &mut LayerActivations) {
        let LayerActivations { attended, middle, .. } = activations;
        let product = self.output_product(middle.len() / self.config.hidden_size);
        let weight = self.layer_matrix(layer, OUTPUT);
        product.forward(attended, weight, Write::Add, middle);
    }

    /// From `activations.middle` to `activations.activated`.
    fn forward_gate(&self, layer: usize, activations: &mut LayerActivations) {
        let LayerActivations { middle, normed_middle, gate_up, activated, .. } = activations;
        let tokens = middle.len() / self.config.hidden_size;
        normed_middle.resize(middle.len(), 0.0);
        rms_norm(middle, self.layer_weight(layer, SECOND_NORM), self.epsilon, normed_middle);
        let product = self.gate_up_product(tokens);
        gate_up.resize(tokens * product.outer, 0.0);
        let weight = self.layer_matrix(layer, GATE_UP);
        product.forward(normed_middle, weight, Write::Replace, gate_up);
        activated.resize(tokens * self.config.intermediate_size, 0.0);
        swiglu(gate_up, self.config.intermediate_size, activated);
    }

    /// From `activations.middle` and `activations.activated` to the stream in `x`.
    fn forward_down(&self, layer: usize, activations: &LayerActivations, x: &mut Vec<f32>) {
        let LayerActivations { middle, activated, .. } = activations;
        copy(middle, x);
        let product = self.down_product(middle.len() / self.config.hidden_size);
        let weight = self.layer_matrix(layer, DOWN);
        product.forward(activated, weight, Write::Add, x);
    }

    fn backward_feed_forward(
        &self,
        layer: usize,
        activations: &LayerActivations,
        room: &mut GradientRoom,
        gradients: &mut [f32],
    ) {
        let LayerActivations { middle, normed_middle, gate_up, activated, .. } = activations;
        let GradientRoom { x, normed, gate_up: grad_gate_up, activated: grad_activated, .. } = room;
        let inner = self.config.intermediate_size;
        let tokens = middle.len() / self.config.hidden_size;
        let product = self.down_product(tokens);
        let (precision, range) = (self.precision(), self.layer_range(layer, DOWN));
        product.backward_weight(precision, x, activated, &mut gradients[range]);
        grad_activated.resize(activated.len(), 0.0);
        product.backward_input(x, self.layer_matrix(layer, DOWN), grad_activated);
        grad_gate_up.resize(gate_up.len(), 0.0);
        swiglu_backward(gate_up, inner, grad_activated, grad_gate_up);
        let product = self.gate_up_product(tokens);
        let grad_weight = &mut gradients[self.layer_range(layer, GATE_UP)];
        product.backward_weight(precision, grad_gate_up, normed_middle, grad_weight);
        normed.resize(middle.len(), 0.0);
        product.backward_input(grad_gate_up, self.layer_matrix(layer, GATE_UP), normed);
        self.backward_norm(self.layer_group(layer, SECOND_NORM), middle, normed, x, gradients);
    }

    /// Leaves the gradient of `activations.attended` in the room.
    fn backward_output(
        &self,
        layer: usize,
        activations: &LayerActivations,
        room: &mut GradientRoom,
        gradients: &mut [f32],
    ) {
        let attended = &activations.attended;
        let product = self.output_product(attended.len() / self.config.query_width());
        let grad_weight = &mut gradients[self.layer_range(layer, OUTPUT)];
        product.backward_weight(self.precision(), &room.x, attended, grad_weight);
        room.attended.resize(attended.len(), 0.0);
        product.backward_input(&room.x, self.layer_matrix(layer, OUTPUT), &mut room.attended);
    }

    fn backward_attention(
        &self,
        layer: usize,
        attention: &Attention<'_>,
        activations: &LayerActivations,
        room: &mut GradientRoom,
        gradients: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let LayerActivations { input, normed_input, qkv, raw_qkv, .. } = activations;
        let GradientRoom { x, normed, qkv: grad_qkv, attended: grad_attended, .. } = room;
        grad_qkv.resize(qkv.len(), 0.0);
        let window = self.config.window(layer);
        attention.backward(window, qkv, grad_attended, grad_qkv, scratch);
        if let Some(groups) = self.head_norm_groups() {
            let weights = HeadWeights(groups.map(|group| self.layer_weight(layer, group)));
            // The two norms are neighbours in the buffer.
            let [first, last] = groups.map(|group| self.layer_range(layer, group));
            let grad_weights = &mut gradients[first.start..last.end];
            self.head_norms().backward(raw_qkv, weights, grad_qkv, grad_weights);
        }
        if let Some(group) = self.bias_group() {
            bias_backward(grad_qkv, &mut gradients[self.layer_range(layer, group)]);
        }
        let product = self.qkv_product(input.len() / self.config.hidden_size);
        let grad_weight = &mut gradients[self.layer_range(layer, QKV)];
        product.backward_weight(self.precision(), grad_qkv, normed_input, grad_weight);
        normed.resize(input.len(), 0.0);
        product.backward_input(grad_qkv, self.layer_matrix(layer, QKV), normed);
        self.backward_norm(self.layer_group(layer, NORM), input, normed, x, gradients);
    }

    /// Adds to the gradient of the input `x` of a norm; writes that of its weight.
    fn backward_norm(
        &self,
        group: usize,
        x: &[f32],
        grad_y: &[f32],
        grad_x: &mut [f32],
        gradients: &mut [f32],
    ) {
        let grad_weight = &mut gradients[self.ranges[group].clone()];
        grad_weight.fill(0.0);
        rms_norm_backward(x, self.weight(group), self.epsilon, grad_y, grad_x, grad_weight);
    }

    /// The group of the biases, in families that have them.
    fn bias_group(&self) -> Option<usize> {
        self.config.family.has_attention_bias().then_some(PLAIN_GROUPS)
    }

    /// The groups of the norms of query and key heads, in families that have them.
    fn head_norm_groups(&self) -> Option<[usize; 2]> {
        let first = PLAIN_GROUPS + usize::from(self.config.family.has_attention_bias());
        self.config.family.has_head_norms().then_some([first, first + 1])
    }

    fn head_norms(&self) -> HeadNorms {
        HeadNorms {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            epsilon: self.epsilon,
        }
    }

    fn qkv_product(&self, rows: usize) -> Linear {
        let outer = self.config.query_width() + 2 * self.config.key_value_width();
        Linear { rows, inner: self.config.hidden_size, outer }
    }

    fn output_product(&self, rows: usize) -> Linear {
        Linear { rows, inner: self.config.query_width(), outer: self.config.hidden_size }
    }

    fn gate_up_product(&self, rows: usize) -> Linear {
        let outer = 2 * self.config.intermediate_size;
        Linear { rows, inner: self.config.hidden_size, outer }
    }

    fn down_product(&self, rows: usize) -> Linear {
        Linear { rows, inner: self.config.intermediate_size, outer: self.config.hidden_size }
    }

    fn weight(&self, group: usize) -> &'a [f32] {
        &self.parameters[self.ranges[group].clone()]
    }

    fn precision(&self) -> Precision {
        if self.half.is_some() { Precision::Bf16 } else { Precision::F32 }
    }

    fn matrix(&self, group: usize) -> Weight<'a> {
        Weight { numbers: self.weight(group), half: self.half.map(|half| half.group(group)) }
    }

    fn layer_matrix(&self, layer: usize, group: usize) -> Weight<'a> {
        self.matrix(self.layer_group(layer, group))
    }

    fn layer_weight(&self, layer: usize, group: usize) -> &'a [f32] {
        self.weight(self.layer_group(layer, group))
    }

    fn layer_range(&self, layer: usize, group: usize) -> Range<usize> {
        self.ranges[self.layer_group(layer, group)].clone()
    }

    fn final_norm(&self) -> usize {
        self.layer_group(self.config.num_hidden_layers, 0)
    }

    fn layer_group(&self, layer: usize, group: usize) -> usize {
        let biases = usize::from(self.config.family.has_attention_bias());
        let norms = 2 * usize::from(self.config.family.has_head_norms());
        EMBEDDING + 1 + layer * (PLAIN_GROUPS + biases + norms) + group
    }
}

/// The language-model head: hidden states to next-token logits.
pub struct Head<'a> {
    width: usize,
    vocabulary: usize,
    range: Range<usize>,
    weight: Weight<'a>,
    precision: Precision,
}

impl Head<'_> {
    /// `hidden (rows, width)` to `logits (rows, vocabulary)`.
    pub fn forward(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        let product = self.product(hidden.len() / self.width);
        logits.resize(product.rows * self.vocabulary, 0.0);
        product.forward(hidden, self.weight, Write::Replace, logits);
    }

    /// Writes the gradient of the weight into its place of the flat buffer `gradients`, and that of
    /// the hidden states into `grad_hidden`.
    pub fn backward(
        &self,
        hidden: &[f32],
        grad_logits: &[f32],
        grad_hidden: &mut Vec<f32>,
        gradients: &mut [f32],
    ) {
        let (product, precision) = (self.product(hidden.len() / self.width), self.precision);
        let gradient = &mut gradients[self.range.clone()];
        product.backward_weight(precision, grad_logits, hidden, gradient);
        grad_hidden.resize(hidden.len(), 0.0);
        product.backward_input(grad_logits, self.weight, grad_hidden);
    }

    fn product(&self, rows: usize) -> Linear {
        Linear { rows, inner: self.width, outer: self.vocabulary }
    }
}

/// Where the groups of a layer lie in [`parameter_groups`], after those before it.
const NORM: usize = 0;
const QKV: usize = 1;
const OUTPUT: usize = 2;
const SECOND_NORM: usize = 3;
const GATE_UP: usize = 4;
const DOWN: usize = 5;
/// Groups that every family has; biases and norms of heads follow them.
const PLAIN_GROUPS: usize = 6;

const EMBEDDING: usize = 0;

fn copy(from: &[f32], to: &mut Vec<f32>) {
    to.clear();
    to.extend_from_slice(from);
}
