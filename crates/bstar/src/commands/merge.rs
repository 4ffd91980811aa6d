//! `bstar merge`: an adapter and its base as one model folder.

use crate::cli::MergeArgs;
use crate::models;
use crate::output::{self, Notes};
use bstar_core::{Fault, FaultClass};
use bstar_model::lora::merge::merge_folders;
use std::path::{Path, PathBuf};

/// Writes the merged folder; whatever is there is left alone.
pub(crate) fn merge(args: &MergeArgs, notes: Notes) -> Result<(), Fault> {
    let out = &args.out;
    refuse_to_overwrite(out)?;
    let base = models::of_argument(&args.base, notes)?;
    let adapter = models::of_argument(&args.adapter, notes)?;
    let unfinished = unfinished_name(out)?;
    refuse_to_overwrite(&unfinished)?;
    let merged = merge_folders(&base, &adapter, &unfinished).and_then(|()| {
        refuse_to_overwrite(out)?;
        std::fs::rename(&unfinished, out).map_err(|error| {
            let message = format!("cannot create the folder {}", out.display());
            Fault::new(FaultClass::Resource, message).because(error)
        })
    });
    if merged.is_err() {
        // What failed is told; what is left of it here is only in the way.
        let _ = std::fs::remove_dir_all(&unfinished);
    }
    merged?;
    output::print(&format!("wrote {}\n", out.display()))
}

/// A folder that is not there yet appears under this name first, and whole under its own.
fn unfinished_name(out: &Path) -> Result<PathBuf, Fault> {
    let name = out.file_name().ok_or_else(|| {
        let message = format!("{} is no name for a new folder", out.display());
        Fault::new(FaultClass::Usage, message).hint("name a folder that does not exist")
    })?;
    let mut unfinished = std::ffi::OsString::from(".");
    unfinished.push(name);
    unfinished.push(".unfinished");
    Ok(out.with_file_name(unfinished))
}

fn refuse_to_overwrite(path: &Path) -> Result<(), Fault> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("{} exists already", path.display());
    Err(Fault::new(FaultClass::Usage, message)
        .hint("name a folder that does not exist, or remove it"))
}
