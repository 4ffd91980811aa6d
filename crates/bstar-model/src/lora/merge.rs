//! A model folder out of a base and an adapter.

use super::Adapter;
use super::folder::is_adapter;
use crate::files;
use crate::folder::FolderError;
use crate::tokenizer::FILES;
use crate::weights::Weights;
use bstar_core::{Fault, FaultClass};
use std::path::Path;

/// Writes the model of `base` with the adapter of `adapter` merged into the folder `out`: config and
/// weights (`f32`) as [`Weights::save`] writes them, the files of the tokenizer copied. Nothing is
/// written before both are read. An adapter that says that it was trained on another base is refused.
pub fn merge_folders(base: &Path, adapter: &Path, out: &Path) -> Result<(), Fault> {
    let model = Weights::load(base)?;
    if !is_adapter(adapter) {
        let message = format!("{} holds no adapter", adapter.display());
        return Err(Fault::new(FaultClass::Data, message)
            .hint("an adapter folder has an adapter_config.json and no config.json"));
    }
    let adapter = Adapter::load_onto(&model, adapter)?;
    let merged = adapter.merged(&model);
    merged.save(out)?;
    for name in FILES.into_iter().chain(OTHER_TOKENIZER_FILES) {
        let from = base.join(name);
        if from.is_file() {
            let bytes = files::read(&from).map_err(FolderError::from)?;
            files::write_synced(&out.join(name), &bytes).map_err(FolderError::from)?;
        }
    }
    Ok(())
}

/// What makes up the tokenizers of others.
const OTHER_TOKENIZER_FILES: [&str; 3] = ["vocab.json", "merges.txt", "tokenizer.model"];
