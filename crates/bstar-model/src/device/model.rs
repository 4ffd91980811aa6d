//! A transformer on a device, forward and backward: what [`crate::transformer`] does, kernel by kernel.
//!
//! The residual stream and its gradient are `f32`; products add to it directly. What products read is
//! stored as the device stores it. Training keeps the stream before every layer and, while there is
//! memory, all that a layer leaves; otherwise a layer is run again before its backward pass, with the
//! same bits. Queries and keys are turned in their place, and their gradients turned back.

mod backward;

pub(super) use backward::{Gradient, GradientRoom};

use super::Device;
use super::memory::{Buffer, Place, Real};
use super::ops::{
    self, Attention, CacheShape, HeadRows, HeadShape, Linear, Matrix, Norm, TokenPlaces, rotate,
};
use super::weights::DeviceWeights;
use crate::config::ModelConfig;
use crate::ops::matmul::Write;
use crate::ops::rope::RotaryTable;
use crate::parameters::Groups;
use bstar_core::Fault;
use std::ops::Range;

/// A model on a device.
pub(super) struct Model<'a> {
    pub(super) device: &'a Device,
    pub(super) config: &'a ModelConfig,
    pub(super) weights: &'a DeviceWeights,
    pub(super) rotary: &'a Rotary,
}

/// Cosines and sines of every position that is used.
#[derive(Debug)]
pub(super) struct Rotary {
    positions: usize,
    cosines: Buffer<f32>,
    sines: Buffer<f32>,
}

impl Rotary {
    /// The table for positions below `positions`.
    pub(super) fn new(
        device: &Device,
        config: &ModelConfig,
        positions: usize,
    ) -> Result<Self, Fault> {
        let table = RotaryTable::new(config, positions);
        let [cosines, sines] = table.numbers().map(|numbers| Buffer::of(device, numbers));
        Ok(Self { positions, cosines: cosines?, sines: sines? })
    }

    /// Makes the table longer if it must.
    pub(super) fn reach(
        &mut self,
        device: &Device,
        config: &ModelConfig,
        positions: usize,
    ) -> Result<(), Fault> {
        if self.positions < positions {
            *self = Self::new(device, config, positions.next_power_of_two())?;
        }
        Ok(())
    }

    fn places(&self) -> [Place<f32>; 2] {
        [self.cosines.place(), self.sines.place()]
    }
}

/// Packed sequences on a device.
#[derive(Debug)]
pub(super) struct Batch {
    /// All tokens together.
    pub(super) count: usize,
    tokens: Buffer<u32>,
    positions: Buffer<u32>,
    tiles: Buffer<u32>,
    tile_count: usize,
    /// Where the tokens stand, for the backward pass.
    places: TokenPlaces,
}

impl Batch {
    /// Sequences packed in their order: all tokens, and the range of each.
    pub(super) fn new(
        device: &Device,
        tokens: &[u32],
        sequences: &[Range<usize>],
    ) -> Result<Self, Fault> {
        let positions: Vec<u32> =
            sequences.iter().flat_map(|sequence| (0..).take(sequence.len())).collect();
        let tiles = Attention::tiles(sequences);
        Ok(Self {
            count: tokens.len(),
            tokens: Buffer::of(device, tokens)?,
            positions: Buffer::of(device, &positions)?,
            tile_count: tiles.len() / 3,
            tiles: Buffer::of(device, &tiles)?,
            places: TokenPlaces::new(device, tokens)?,
        })
    }
}

/// Rows of tokens that run through the layers.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    /// How many.
    pub(super) count: usize,
    /// Their ids.
    pub(super) ids: Place<u32>,
    /// Their positions.
    pub(super) positions: Place<u32>,
}

impl From<&Batch> for Tokens {
    fn from(batch: &Batch) -> Self {
        let (ids, positions) = (batch.tokens.place(), batch.positions.place());
        Self { count: batch.count, ids, positions }
    }
}

/// What the queries of a layer look at.
pub(super) enum Context<'a> {
    /// The tokens before them in their packed sequence.
    Packed(&'a Batch),
    /// The same, and keys and values go into lanes.
    Prompts(Prompts<'a>),
    /// The cache of their lane, layer by layer.
    Cache(&'a [CacheShape]),
}

/// Prompts that enter lanes.
pub(super) struct Prompts<'a> {
    /// The prompts, packed.
    pub(super) batch: &'a Batch,
    /// The cache, layer by layer.
    pub(super) caches: &'a [CacheShape],
    /// Three numbers for each lane (see [`CacheShape::store_prompts`]), and how many lanes.
    pub(super) entries: (Place<u32>, usize),
    /// Tokens of the longest.
    pub(super) longest: usize,
}

/// What a layer leaves. Buffers are `(tokens, width)` but where noted.
pub(super) struct LayerRoom {
    /// 1 / rms of the rows of the stream before attention, and before the feed-forward block.
    inverse: [Buffer<f32>; 2],
    normed_input: Buffer<Real>,
    /// `qkv` before the norms of its heads, in families that have them.
    raw_qkv: Buffer<Real>,
    /// 1 / rms of query heads and of key heads.
    inverse_heads: [Buffer<f32>; 2],
    /// `(tokens, (heads + 2 kv_heads) head_dim)`: what attention reads.
    qkv: Buffer<Real>,
    /// `(tokens, heads head_dim)`.
    attended: Buffer<Real>,
    /// `(tokens, heads)`.
    log_totals: Buffer<f32>,
    /// The stream between attention and feed-forward.
    middle: Buffer<f32>,
    normed_middle: Buffer<Real>,
    /// `(tokens, 2 inner)`.
    gate_up: Buffer<Real>,
    /// `(tokens, inner)`.
    activated: Buffer<Real>,
}

/// Buffers for a forward pass, kept from pass to pass.
pub(super) struct Room {
    capacity: usize,
    /// The residual stream before each layer and after the last, or one that travels through.
    streams: Vec<Buffer<f32>>,
    layers: Vec<LayerRoom>,
    last_inverse: Buffer<f32>,
    /// The stream after the last layer, normalised.
    pub(super) hidden: Buffer<Real>,
}

/// What a forward pass leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The last hidden states only.
    Nothing,
    /// The stream before each layer: a backward pass runs each layer again.
    Streams,
    /// Everything.
    Layers,
}

impl Room {
    /// Room for so many tokens at once.
    pub(super) fn new(
        device: &Device,
        config: &ModelConfig,
        capacity: usize,
        keep: Keep,
    ) -> Result<Self, Fault> {
        let layers = config.num_hidden_layers;
        let streams = if keep == Keep::Nothing { 1 } else { layers + 1 };
        let rooms = if keep == Keep::Layers { layers } else { 1 };
        let stream = |_| Buffer::new(device, capacity * config.hidden_size);
        Ok(Self {
            capacity,
            streams: (0..streams).map(stream).collect::<Result<_, _>>()?,
            layers: (0..rooms)
                .map(|_| LayerRoom::new(device, config, capacity))
                .collect::<Result<_, _>>()?,
            last_inverse: Buffer::new(device, capacity)?,
            hidden: Buffer::new(device, capacity * config.hidden_size)?,
        })
    }

    /// Bytes of a room for one token.
    pub(super) fn bytes_per_token(config: &ModelConfig, real: usize, keep: Keep) -> usize {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let packed = config.query_width() + 2 * config.key_value_width();
        let raw = if config.family.has_head_norms() { packed } else { 0 };
        let reals = 2 * width + packed + raw + config.query_width() + 3 * inner;
        let layer = reals * real + 4 * (width + 3 * config.num_attention_heads + 2);
        let layers = config.num_hidden_layers;
        let stream = 4 * width;
        let rest = width * (real + 4);
        rest + match keep {
            Keep::Nothing => stream + layer,
            Keep::Streams => (layers + 1) * stream + layer,
            Keep::Layers => (layers + 1) * stream + layers * layer,
        }
    }

    fn stream(&self, layer: usize) -> &Buffer<f32> {
        &self.streams[layer.min(self.streams.len() - 1)]
    }

    fn layer(&self, layer: usize) -> &LayerRoom {
        &self.layers[layer.min(self.layers.len() - 1)]
    }

    fn keeps_layers(&self) -> bool {
        self.layers.len() + 1 == self.streams.len()
    }
}

impl LayerRoom {
    fn new(device: &Device, config: &ModelConfig, tokens: usize) -> Result<Self, Fault> {
        let real = |width: usize| Buffer::<Real>::new(device, tokens * width);
        let float = |width: usize| Buffer::<f32>::new(device, tokens * width);
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let packed = config.query_width() + 2 * config.key_value_width();
        let has_norms = config.family.has_head_norms();
        let of_norms = |width: usize| if has_norms { width } else { 0 };
        Ok(Self {
            inverse: [float(1)?, float(1)?],
            normed_input: real(width)?,
            raw_qkv: real(of_norms(packed))?,
            inverse_heads: [
                float(of_norms(config.num_attention_heads))?,
                float(of_norms(config.num_key_value_heads))?,
            ],
            qkv: real(packed)?,
            attended: real(config.query_width())?,
            log_totals: float(config.num_attention_heads)?,
            middle: float(width)?,
            normed_middle: real(width)?,
            gate_up: real(2 * inner)?,
            activated: real(inner)?,
        })
    }
}

impl Model<'_> {
    /// Runs the tokens through the model; the last hidden states, normalised, are then in
    /// `room.hidden`.
    pub(super) fn forward(
        &self,
        tokens: Tokens,
        context: &Context<'_>,
        room: &Room,
    ) -> Result<(), Fault> {
        assert!(tokens.count <= room.capacity, "the tokens have room");
        let table = self.weights.matrix(Groups::EMBEDDING);
        ops::embed(self.device, table, tokens.ids, self.stream(room.stream(0), tokens.count))?;
        for layer in 0..self.config.num_hidden_layers {
            let input = room.stream(layer);
            self.forward_attention(layer, tokens, context, input, room.layer(layer))?;
            self.forward_feed_forward(layer, tokens.count, room.layer(layer))?;
            let output = room.stream(layer + 1);
            output.copy_from(&room.layer(layer).middle, tokens.count * self.config.hidden_size)?;
            self.down_product(tokens.count).forward(
                self.device,
                room.layer(layer).activated.place(),
                self.layer_matrix(layer, Groups::DOWN),
                Write::Add,
                output.place(),
            )?;
        }
        let last = room.stream(self.config.num_hidden_layers);
        let norm = self.norm(self.weights.groups.final_norm(), &room.last_inverse);
        norm.forward(self.device, self.stream(last, tokens.count), room.hidden.place())
    }

    /// From the stream in `input` to `room.middle`.
    fn forward_attention(
        &self,
        layer: usize,
        tokens: Tokens,
        context: &Context<'_>,
        input: &Buffer<f32>,
        room: &LayerRoom,
    ) -> Result<(), Fault> {
        let (device, count) = (self.device, tokens.count);
        let norm = self.norm(self.weights.groups.layer(layer, Groups::NORM), &room.inverse[0]);
        norm.forward(device, self.stream(input, count), room.normed_input.place())?;
        self.forward_qkv(layer, count, room)?;
        let heads = self.heads(layer);
        let (qkv, positions) = (room.qkv.place(), tokens.positions);
        rotate(device, heads, count, qkv, positions, self.rotary.places(), 1.0)?;
        let attended = room.attended.place();
        match context {
            Context::Packed(batch) | Context::Prompts(Prompts { batch, .. }) => {
                let log_totals = room.log_totals.place();
                self.attention(layer, batch).forward(device, qkv, attended, log_totals)?;
            }
            Context::Cache(layers) => {
                layers[layer].step(device, count, qkv, positions, attended)?;
            }
        }
        if let Context::Prompts(Prompts { caches, entries, longest, .. }) = context {
            caches[layer].store_prompts(device, qkv, *entries, *longest)?;
        }
        room.middle.copy_from(input, count * self.config.hidden_size)?;
        let weight = self.layer_matrix(layer, Groups::OUTPUT);
        let product = self.output_product(count);
        product.forward(device, attended, weight, Write::Add, room.middle.place())
    }

    /// From `room.normed_input` to queries, keys and values before they are turned.
    fn forward_qkv(&self, layer: usize, count: usize, room: &LayerRoom) -> Result<(), Fault> {
        let device = self.device;
        let product = self.qkv_product(count);
        let write = match self.weights.groups.bias(layer) {
            None => Write::Replace,
            Some(group) => {
                let rows = Matrix { place: room.qkv.place(), rows: count, width: product.outer };
                ops::fill_rows(device, self.weights.vector(group), rows)?;
                Write::Add
            }
        };
        let (x, weight) = (room.normed_input.place(), self.layer_matrix(layer, Groups::QKV));
        product.forward(device, x, weight, write, room.qkv.place())?;
        if let Some(groups) = self.weights.groups.head_norms(layer) {
            room.raw_qkv.copy_from(&room.qkv, count * product.outer)?;
            for (kind, group) in groups.into_iter().enumerate() {
                let norm = self.norm(group, &room.inverse_heads[kind]);
                let rows = self.head_rows(kind, count);
                norm.forward_heads(device, rows, room.raw_qkv.place(), room.qkv.place())?;
            }
        }
        Ok(())
    }

    /// From `room.middle` to `room.activated`.
    fn forward_feed_forward(
        &self,
        layer: usize,
        count: usize,
        room: &LayerRoom,
    ) -> Result<(), Fault> {
        let device = self.device;
        let group = self.weights.groups.layer(layer, Groups::SECOND_NORM);
        let norm = self.norm(group, &room.inverse[1]);
        norm.forward(device, self.stream(&room.middle, count), room.normed_middle.place())?;
        let weight = self.layer_matrix(layer, Groups::GATE_UP);
        let (x, gate_up) = (room.normed_middle.place(), room.gate_up.place());
        self.gate_up_product(count).forward(device, x, weight, Write::Replace, gate_up)?;
        ops::swiglu(device, gate_up, self.inner(&room.activated, count))
    }

    fn norm(&self, group: usize, inverse: &Buffer<f32>) -> Norm {
        #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
        let epsilon = self.config.rms_norm_eps as f32;
        Norm { weight: self.weights.vector(group), epsilon, inverse: inverse.place() }
    }

    fn heads(&self, layer: usize) -> HeadShape {
        Self::heads_of(self.config, layer)
    }

    /// The heads of a layer, for a cache.
    pub(super) fn heads_of(config: &ModelConfig, layer: usize) -> HeadShape {
        HeadShape {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            window: config.window(layer),
        }
    }

    fn attention(&self, layer: usize, batch: &Batch) -> Attention {
        let (tiles, count) = (batch.tiles.place(), batch.tile_count);
        Attention { heads: self.heads(layer), tiles, count }
    }

    /// Query heads (kind 0) or key heads (1) among queries, keys and values.
    fn head_rows(&self, kind: usize, tokens: usize) -> HeadRows {
        let queries = self.config.num_attention_heads;
        HeadRows {
            tokens,
            heads: [queries, self.config.num_key_value_heads][kind],
            head_dim: self.config.head_dim,
            stride: self.config.query_width() + 2 * self.config.key_value_width(),
            offset: kind * queries * self.config.head_dim,
        }
    }

    fn stream(&self, buffer: &Buffer<f32>, rows: usize) -> Matrix<f32> {
        Matrix { place: buffer.place(), rows, width: self.config.hidden_size }
    }

    fn inner(&self, buffer: &Buffer<Real>, rows: usize) -> Matrix<Real> {
        Matrix { place: buffer.place(), rows, width: self.config.intermediate_size }
    }

    fn layer_matrix(&self, layer: usize, group: usize) -> Place<Real> {
        self.weights.matrix(self.weights.groups.layer(layer, group))
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

    /// The product of the language-model head.
    pub(super) fn head_product(&self, rows: usize) -> Linear {
        Linear { rows, inner: self.config.hidden_size, outer: self.config.vocab_size }
    }
}
