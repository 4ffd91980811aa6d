//! The backward pass, in the reverse order of the forward pass.
//!
//! `grad_x` is the gradient of the residual stream, to which each block adds its share. Gradients of
//! weights are `f32` and are added to what is there, so that parts of a batch add up in their order.

use super::{Batch, Context, LayerRoom, Model, Room};
use crate::config::ModelConfig;
use crate::device::Device;
use crate::device::memory::{Buffer, Place, Real, as_real};
use crate::device::ops::{self, Matrix, Saved, rotate};
use crate::parameters::{Groups, ParameterGroup, parameter_groups};
use bstar_core::Fault;

/// Buffers for gradients of activations; each is used again in every layer.
pub(in crate::device) struct GradientRoom {
    /// Of the stream.
    x: Buffer<f32>,
    /// The same as products read it, where that is another.
    rounded_x: Option<Buffer<Real>>,
    /// Of what a norm gave; first, of the last hidden states.
    pub(in crate::device) normed: Buffer<Real>,
    qkv: Buffer<Real>,
    attended: Buffer<Real>,
    deltas: Buffer<f32>,
    gate_up: Buffer<Real>,
    activated: Buffer<Real>,
    /// Sums over some of the rows.
    partial: Buffer<f32>,
}

impl GradientRoom {
    /// Room for so many tokens at once.
    pub(in crate::device) fn new(
        device: &Device,
        config: &ModelConfig,
        tokens: usize,
    ) -> Result<Self, Fault> {
        let real = |width: usize| Buffer::<Real>::new(device, tokens * width);
        let packed = config.query_width() + 2 * config.key_value_width();
        let is_rounded = as_real(device, Place::NONE).is_none();
        Ok(Self {
            x: Buffer::new(device, tokens * config.hidden_size)?,
            rounded_x: if is_rounded { Some(real(config.hidden_size)?) } else { None },
            normed: real(config.hidden_size)?,
            qkv: real(packed)?,
            attended: real(config.query_width())?,
            deltas: Buffer::new(device, tokens * config.num_attention_heads)?,
            gate_up: real(2 * config.intermediate_size)?,
            activated: real(config.intermediate_size)?,
            partial: Buffer::new(device, 0)?,
        })
    }

    /// Bytes of a room for one token.
    pub(in crate::device) fn bytes_per_token(config: &ModelConfig, real: usize) -> usize {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let packed = config.query_width() + 2 * config.key_value_width();
        real * (2 * width + packed + config.query_width() + 3 * inner)
            + 4 * (width + config.num_attention_heads)
            // Partial sums of one row in 64.
            + (2 * inner).max(packed) / 16
    }

    /// The gradient of the stream as products read it.
    fn as_factor(&self, device: &Device, count: usize) -> Result<Place<Real>, Fault> {
        match &self.rounded_x {
            None => Ok(as_real(device, self.x.place()).expect("stored alike")),
            Some(rounded) => {
                ops::convert(device, self.x.place(), rounded.place(), count)?;
                Ok(rounded.place())
            }
        }
    }
}

/// The gradient of all parameters, in their order.
pub(in crate::device) struct Gradient<'a> {
    buffer: &'a Buffer<f32>,
    groups: Vec<ParameterGroup>,
}

impl<'a> Gradient<'a> {
    /// A gradient in a buffer of the parameters' size.
    pub(in crate::device) fn new(config: &ModelConfig, buffer: &'a Buffer<f32>) -> Self {
        Self { buffer, groups: parameter_groups(config) }
    }

    /// That of a group.
    pub(in crate::device) fn of(&self, group: usize) -> Place<f32> {
        self.buffer.at(self.groups[group].range.start)
    }
}

impl Model<'_> {
    /// Given the gradient of the last hidden states in `gradients.normed`, adds the gradients of all
    /// parameters of the body. `room` is that of the forward pass of the same batch.
    pub(in crate::device) fn backward(
        &self,
        batch: &Batch,
        room: &Room,
        gradients: &mut GradientRoom,
        gradient: &Gradient<'_>,
    ) -> Result<(), Fault> {
        let layers = self.config.num_hidden_layers;
        let group = self.weights.groups.final_norm();
        gradients.x.clear_first(batch.count * self.config.hidden_size)?;
        let norm = (group, &room.last_inverse, room.stream(layers));
        self.backward_norm(norm, batch.count, gradients, gradient)?;
        for layer in (0..layers).rev() {
            let (input, of_layer) = (room.stream(layer), room.layer(layer));
            if !room.keeps_layers() {
                self.forward_attention(
                    layer,
                    batch.into(),
                    &Context::Packed(batch),
                    input,
                    of_layer,
                )?;
                self.forward_feed_forward(layer, batch.count, of_layer)?;
            }
            self.backward_feed_forward(layer, batch.count, of_layer, gradients, gradient)?;
            self.backward_attention(layer, batch, input, of_layer, gradients, gradient)?;
        }
        let grad_x = self.stream(&gradients.x, batch.count);
        ops::embed_backward(self.device, &batch.places, grad_x, gradient.of(Groups::EMBEDDING))
    }

    fn backward_feed_forward(
        &self,
        layer: usize,
        count: usize,
        room: &LayerRoom,
        gradients: &mut GradientRoom,
        gradient: &Gradient<'_>,
    ) -> Result<(), Fault> {
        let device = self.device;
        let of_group = |group| gradient.of(self.weights.groups.layer(layer, group));
        let grad_x = gradients.as_factor(device, count * self.config.hidden_size)?;
        let activated = room.activated.place();
        let product = self.down_product(count);
        product.backward_weight(device, grad_x, activated, of_group(Groups::DOWN))?;
        let grad_activated = self.inner(&gradients.activated, count);
        let weight = self.layer_matrix(layer, Groups::DOWN);
        product.backward_input(device, grad_x, weight, grad_activated.place)?;
        let grad_gate_up = gradients.gate_up.place();
        ops::swiglu_backward(device, room.gate_up.place(), grad_activated, grad_gate_up)?;
        let product = self.gate_up_product(count);
        let normed = room.normed_middle.place();
        product.backward_weight(device, grad_gate_up, normed, of_group(Groups::GATE_UP))?;
        let weight = self.layer_matrix(layer, Groups::GATE_UP);
        product.backward_input(device, grad_gate_up, weight, gradients.normed.place())?;
        let group = self.weights.groups.layer(layer, Groups::SECOND_NORM);
        let norm = (group, &room.inverse[1], &room.middle);
        self.backward_norm(norm, count, gradients, gradient)
    }

    fn backward_attention(
        &self,
        layer: usize,
        batch: &Batch,
        input: &Buffer<f32>,
        room: &LayerRoom,
        gradients: &mut GradientRoom,
        gradient: &Gradient<'_>,
    ) -> Result<(), Fault> {
        let (device, count) = (self.device, batch.count);
        let of_group = |group| gradient.of(self.weights.groups.layer(layer, group));
        let grad_x = gradients.as_factor(device, count * self.config.hidden_size)?;
        let attended = room.attended.place();
        let product = self.output_product(count);
        product.backward_weight(device, grad_x, attended, of_group(Groups::OUTPUT))?;
        let grad_attended = gradients.attended.place();
        let weight = self.layer_matrix(layer, Groups::OUTPUT);
        product.backward_input(device, grad_x, weight, grad_attended)?;
        let (qkv, log_totals) = (room.qkv.place(), room.log_totals.place());
        let saved = Saved { qkv, output: attended, log_totals };
        let (deltas, grad_qkv) = (gradients.deltas.place(), gradients.qkv.place());
        let attention = self.attention(layer, batch);
        attention.backward(device, count, &saved, grad_attended, deltas, grad_qkv)?;
        let positions = batch.positions.place();
        let tables = self.rotary.places();
        rotate(device, self.heads(layer), count, grad_qkv, positions, tables, -1.0)?;
        self.backward_qkv(layer, count, room, gradients, gradient)?;
        let norm = (self.weights.groups.layer(layer, Groups::NORM), &room.inverse[0], input);
        self.backward_norm(norm, count, gradients, gradient)
    }

    /// From the gradient of queries, keys and values before they are turned to that of
    /// `room.normed_input`.
    fn backward_qkv(
        &self,
        layer: usize,
        count: usize,
        room: &LayerRoom,
        gradients: &mut GradientRoom,
        gradient: &Gradient<'_>,
    ) -> Result<(), Fault> {
        let (device, grad_qkv) = (self.device, gradients.qkv.place());
        let product = self.qkv_product(count);
        let partial = &mut gradients.partial;
        if let Some(groups) = self.weights.groups.head_norms(layer) {
            for (kind, group) in groups.into_iter().enumerate() {
                let norm = self.norm(group, &room.inverse_heads[kind]);
                let (rows, raw) = (self.head_rows(kind, count), room.raw_qkv.place());
                let of_weight = gradient.of(group);
                norm.backward_heads(device, rows, raw, grad_qkv, of_weight, partial)?;
            }
        }
        if let Some(group) = self.weights.groups.bias(layer) {
            let rows = Matrix { place: grad_qkv, rows: count, width: product.outer };
            ops::bias_backward(device, rows, gradient.of(group), partial)?;
        }
        let group = self.weights.groups.layer(layer, Groups::QKV);
        let normed = room.normed_input.place();
        product.backward_weight(device, grad_qkv, normed, gradient.of(group))?;
        let weight = self.weights.matrix(group);
        product.backward_input(device, grad_qkv, weight, gradients.normed.place())
    }

    /// Given the gradient of what a norm gave in `gradients.normed`, adds to those of the stream and
    /// of the weight.
    fn backward_norm(
        &self,
        (group, inverse, x): (usize, &Buffer<f32>, &Buffer<f32>),
        count: usize,
        gradients: &mut GradientRoom,
        gradient: &Gradient<'_>,
    ) -> Result<(), Fault> {
        let GradientRoom { x: grad_x, normed, partial, .. } = gradients;
        let norm = self.norm(group, inverse);
        let x = self.stream(x, count);
        let of_weight = gradient.of(group);
        norm.backward(self.device, x, normed.place(), grad_x.place(), of_weight, partial)
    }
}
