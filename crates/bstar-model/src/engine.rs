//! Where a policy trains and samples: on the processor, or on a device. The one place that asks.

use crate::decode::{DecodeRequest, Decoder, Ends, Generation};
use crate::device::{DeviceDecoder, DeviceTrainer};
use crate::lora::Adapter;
use crate::loss::TokenizedExample;
use crate::optimizer::AdamW;
use crate::trainer::{StepReport, Trainer};
use bstar_core::Fault;
use bstar_core::ports::{Decoding, Tick};

/// A model laid out for sampling.
pub(crate) enum Sampler {
    /// On the processor.
    Cpu(Decoder),
    /// On a device.
    Device(DeviceDecoder),
}

impl Sampler {
    /// Draws responses, see [`Decoder::generate_until`].
    pub(crate) fn generate_until(
        &self,
        requests: &[DecodeRequest<'_>],
        decoding: &Decoding,
        ends: Ends<'_>,
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Generation>>, Fault> {
        match self {
            Self::Cpu(decoder) => decoder.generate_until(requests, decoding, ends, tick),
            Self::Device(decoder) => decoder.generate_until(requests, decoding, ends, tick),
        }
    }
}

/// Parameters being trained.
pub(crate) enum Training {
    /// On the processor.
    Cpu(Box<Trainer>),
    /// On a device.
    Device(Box<DeviceTrainer>),
}

/// What training leaves.
pub(crate) struct Outcome {
    /// The parameters, in the order of [`crate::config::ModelConfig::tensor_shapes`].
    pub(crate) parameters: Vec<f32>,
    /// The optimizer.
    pub(crate) optimizer: AdamW,
    /// The adapter, if one was trained.
    pub(crate) adapter: Option<Adapter>,
}

impl Training {
    /// Forgets the optimizer's moments and step count.
    pub(crate) fn reset_optimizer(&mut self) -> Result<(), Fault> {
        match self {
            Self::Cpu(trainer) => {
                trainer.reset_optimizer();
                Ok(())
            }
            Self::Device(trainer) => trainer.reset_optimizer(),
        }
    }

    /// Takes one step on a batch.
    pub(crate) fn step(
        &mut self,
        batch: &[&TokenizedExample],
        learning_rate: f64,
    ) -> Result<StepReport, Fault> {
        match self {
            Self::Cpu(trainer) => Ok(trainer.step(batch, learning_rate)?),
            Self::Device(trainer) => trainer.step(batch, learning_rate),
        }
    }

    /// What training leaves, after a step that failed too.
    pub(crate) fn finish(self) -> Result<Outcome, Fault> {
        match self {
            Self::Cpu(trainer) => {
                let adapter = trainer.adapter().cloned();
                let (parameters, optimizer) = trainer.finish();
                Ok(Outcome { parameters, optimizer, adapter })
            }
            Self::Device(trainer) => Ok(Outcome {
                parameters: trainer.parameters()?,
                optimizer: trainer.optimizer()?,
                adapter: trainer.adapter()?,
            }),
        }
    }
}
