//! Keys and values of all lanes of a device.
//!
//! Each layer has its own buffers. A layer with a window has as many slots as the window is long, the
//! others as many as the longest prompt with its response.

use super::Device;
use super::memory::{Buffer, Real};
use super::model::Model;
use super::ops::CacheShape;
use crate::config::ModelConfig;
use bstar_core::Fault;

/// The cache of some lanes.
pub(super) struct LaneCaches {
    layers: Vec<Layer>,
}

struct Layer {
    capacity: usize,
    keys: Buffer<Real>,
    values: Buffer<Real>,
}

impl LaneCaches {
    /// Room for so many lanes of so many tokens.
    pub(super) fn new(
        device: &Device,
        config: &ModelConfig,
        lanes: usize,
        tokens: usize,
    ) -> Result<Self, Fault> {
        let layer = |layer| {
            let capacity = capacity(config, layer, tokens);
            let room = || Buffer::new(device, lanes * capacity * config.key_value_width());
            Ok(Layer { capacity, keys: room()?, values: room()? })
        };
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_, Fault>>()?;
        Ok(Self { layers })
    }

    /// Keys and values of one lane, in numbers.
    pub(super) fn numbers_per_lane(config: &ModelConfig, tokens: usize) -> usize {
        let slots = (0..config.num_hidden_layers).map(|layer| capacity(config, layer, tokens));
        slots.sum::<usize>() * 2 * config.key_value_width()
    }

    /// As the layers of the model read it.
    pub(super) fn shapes(&self, config: &ModelConfig) -> Vec<CacheShape> {
        let shape = |(layer, Layer { capacity, keys, values }): (usize, &Layer)| CacheShape {
            heads: Model::heads_of(config, layer),
            capacity: *capacity,
            keys: keys.place(),
            values: values.place(),
        };
        self.layers.iter().enumerate().map(shape).collect()
    }
}

fn capacity(config: &ModelConfig, layer: usize, tokens: usize) -> usize {
    tokens.min(config.window(layer))
}
