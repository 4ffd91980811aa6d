//! Training and sampling on a graphics card.
//!
//! | module | its job |
//! |---|---|
//! | `accelerator` | what a device can do, and nothing of what for: the seam |
//! | `memory` | typed buffers of a device |
//! | `ops`, `kernels` | the operations of `crate::ops` and AdamW as kernels |
//! | `weights`, `model` | a transformer on a device, forward and backward |
//! | `trainer` | one optimizer step, as [`crate::trainer`] takes it |
//! | `cache`, `decoder` | sampling, as [`crate::decode`] does it |
//! | `cuda` | NVIDIA cards, with the feature `cuda` |
//!
//! The host code knows no particular device. A key gives the same draws as on the CPU, so a response
//! has the same distribution; it may be another response where rounding decides.
//! `docs/design/engine.md` tells how this is tested without a card, and what is rounded where.

#[cfg_attr(not(any(feature = "cuda", test)), expect(dead_code, reason = "drivers read it"))]
mod accelerator;
mod cache;
#[cfg(feature = "cuda")]
mod cuda;
mod decoder;
#[cfg(test)]
mod emulator;
#[cfg_attr(not(any(feature = "cuda", test)), expect(dead_code, reason = "drivers read it"))]
mod kernels;
mod memory;
mod model;
mod ops;
#[cfg(test)]
mod tests;
mod trainer;
mod weights;

use accelerator::{Accelerator, Launch};
use bstar_core::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub use crate::compute::Precision;
pub use decoder::DeviceDecoder;
pub use trainer::DeviceTrainer;

/// Where training and sampling run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A card if there is one that this build can use, else the CPU.
    Auto,
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA card; a fault if there is none.
    Cuda,
}

/// A device that is open.
#[derive(Clone, Debug)]
pub struct Device {
    accelerator: Arc<dyn Accelerator>,
}

impl Device {
    /// The device that was chosen; none is the CPU. In `bf16` matrices and activations are stored in
    /// `bf16`; the residual stream, sums, gradients of weights and the optimizer's numbers are `f32`
    /// in both.
    ///
    /// Faults (class Usage): a card is asked for and this build has no support for one, or there is
    /// none; (class Resource): it cannot be used.
    pub fn open(choice: DeviceChoice, precision: Precision) -> Result<Option<Self>, Fault> {
        match choice {
            DeviceChoice::Cpu => Ok(None),
            DeviceChoice::Auto if available().is_none_or(|found| found.is_err()) => Ok(None),
            DeviceChoice::Auto | DeviceChoice::Cuda => open_cuda(precision).map(Some),
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        self.accelerator.name()
    }

    /// How it stores matrices and activations.
    pub fn precision(&self) -> Precision {
        self.accelerator.precision()
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        // A grid without blocks is refused by the driver and means nothing to do.
        if launch.grid.contains(&0) { Ok(()) } else { self.accelerator.launch(launch) }
    }
}

/// The card that [`DeviceChoice::Cuda`] would take, or why there is none; nothing if this build knows
/// no cards.
pub fn available() -> Option<Result<String, Fault>> {
    #[cfg(feature = "cuda")]
    return Some(cuda::name_of_card());
    #[cfg(not(feature = "cuda"))]
    None
}

#[cfg(feature = "cuda")]
fn open_cuda(precision: Precision) -> Result<Device, Fault> {
    Ok(Device { accelerator: Arc::new(cuda::Card::open(precision)?) })
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: Precision) -> Result<Device, Fault> {
    Err(Fault::new(bstar_core::FaultClass::Usage, "this build of bstar computes on the CPU only")
        .hint(
            "build it with `cargo build --release --features cuda`, or set `run.device = \"cpu\"`",
        ))
}
