//! What a policy keeps when an adapter is trained instead of all weights.

use super::EmbeddedPolicy;
use crate::lora::folder::{self, AdapterError};
use crate::lora::{Adapter, LoraSettings};
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::weights::Weights;
use bstar_core::{Fault, FaultClass, RngKey};
use std::path::Path;
use std::sync::Arc;

/// An adapter and what lies below it.
pub(super) struct Adapted {
    pub(super) base: Arc<Weights>,
    pub(super) adapter: Adapter,
    /// Where the base was loaded from, absolute: saved adapters refer to it.
    base_folder: String,
    /// The fingerprint of the base.
    pub(super) base_version: Arc<str>,
}

impl Adapted {
    /// The adapter in a folder, which has to have the shape of this one, as the new adapter.
    pub(super) fn load(&mut self, dir: &Path) -> Result<(), Fault> {
        let loaded = Adapter::load(dir, &self.base.config)?;
        if loaded.tensor_shapes() != self.adapter.tensor_shapes() {
            let message = format!("the adapter in {} has another rank or targets", dir.display());
            return Err(Fault::new(FaultClass::Run, message)
                .hint("set `lora` as it was when the adapter was trained, or start over"));
        }
        self.adapter = loaded;
        Ok(())
    }

    /// Writes the adapter; the base is not copied.
    pub(super) fn save(&self, dir: &Path) -> Result<(), AdapterError> {
        self.adapter.save(dir, &self.base_folder)
    }

    /// The model with the adapter as it is now.
    pub(super) fn weights(&self) -> Weights {
        self.adapter.merged(&self.base)
    }
}

impl EmbeddedPolicy {
    /// A policy that trains a fresh adapter on the model in a folder, which has to stay there: a
    /// saved policy refers to it.
    pub fn with_adapter(
        dir: &Path,
        settings: OptimizerSettings,
        lora: LoraSettings,
        key: RngKey,
    ) -> Result<Self, Fault> {
        if folder::is_adapter(dir) {
            let message = format!("{} holds an adapter, and `lora` wants a model", dir.display());
            return Err(Fault::new(FaultClass::Usage, message).hint(
                "merge it first: `bstar merge BASE ADAPTER -o OUT`, or train all weights: `lora.rank = 0`",
            ));
        }
        let mut policy = Self::from_folder(dir, settings)?;
        let base_folder = dir.canonicalize().unwrap_or_else(|_| dir.into());
        let adapter = Adapter::fresh(&policy.weights.config, lora, key);
        policy.optimizer = AdamW::new(settings, adapter.factors().len());
        policy.adapted = Some(Adapted {
            base: Arc::new(policy.weights.clone()),
            adapter,
            base_folder: base_folder.to_string_lossy().into_owned(),
            base_version: policy.weights.fingerprint(),
        });
        Ok(policy)
    }
}
