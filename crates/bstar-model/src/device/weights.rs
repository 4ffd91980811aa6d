//! The parameters of a model on a device, by group of [`crate::parameters`].
//!
//! Products and the embedding read matrices as the device stores them; norms and biases are read as
//! `f32`. While a model is trained both are places in the trainer's buffers.

use super::Device;
use super::memory::{Buffer, Place, Real, as_real};
use crate::config::ModelConfig;
use crate::parameters::{Groups, ParameterGroup, parameter_groups};
use bstar_core::Fault;

/// Where the parameters are.
#[derive(Debug)]
pub(super) struct DeviceWeights {
    pub(super) groups: Groups,
    matrices: Vec<Place<Real>>,
    vectors: Vec<Place<f32>>,
    /// What the places point into, where nobody else holds it.
    owned: (Option<Buffer<f32>>, Option<Buffer<Real>>),
}

impl DeviceWeights {
    /// Parameters that are only read, from a flat buffer of the host.
    pub(super) fn new(device: &Device, config: &ModelConfig, flat: &[f32]) -> Result<Self, Fault> {
        if as_real(device, Place::NONE).is_some() {
            let buffer = Buffer::of(device, flat)?;
            let mut weights = Self::over(device, config, &buffer, None);
            weights.owned.0 = Some(buffer);
            return Ok(weights);
        }
        let groups = parameter_groups(config);
        let rounded = Buffer::rounded(device, flat)?;
        let mut numbers = Vec::new();
        let mut starts = Vec::new();
        for ParameterGroup { shape, range } in &groups {
            starts.push(numbers.len());
            if shape.len() == 1 {
                numbers.extend_from_slice(&flat[range.clone()]);
            }
        }
        let vectors = Buffer::of(device, &numbers)?;
        Ok(Self {
            groups: Groups::new(config),
            matrices: groups.iter().map(|group| rounded.at(group.range.start)).collect(),
            vectors: starts.into_iter().map(|start| vectors.at(start)).collect(),
            owned: (Some(vectors), Some(rounded)),
        })
    }

    /// Parameters in the flat buffer of a trainer, and the copy that products read where it is another.
    /// Both buffers have to outlive this.
    pub(super) fn over(
        device: &Device,
        config: &ModelConfig,
        parameters: &Buffer<f32>,
        working: Option<&Buffer<Real>>,
    ) -> Self {
        let groups = parameter_groups(config);
        let vectors: Vec<_> = groups.iter().map(|group| parameters.at(group.range.start)).collect();
        let matrix = |(group, &vector): (&ParameterGroup, &Place<f32>)| match working {
            Some(working) => working.at(group.range.start),
            None => as_real(device, vector).expect("a copy where numbers are stored otherwise"),
        };
        let matrices = groups.iter().zip(&vectors).map(matrix).collect();
        Self { groups: Groups::new(config), matrices, vectors, owned: (None, None) }
    }

    /// A matrix, as products read it.
    pub(super) fn matrix(&self, group: usize) -> Place<Real> {
        self.matrices[group]
    }

    /// A norm or bias.
    pub(super) fn vector(&self, group: usize) -> Place<f32> {
        self.vectors[group]
    }
}
