//! `bstar init`: a commented config file with every key at its default.

use crate::config::DEFAULTS;
use crate::output;
use bstar_core::{Fault, FaultClass};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// Writes the file; refuses to overwrite one.
pub(crate) fn init(file: &Path) -> Result<(), Fault> {
    let name = file.display();
    let mut out = OpenOptions::new().write(true).create_new(true).open(file).map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        let hint = if exists {
            "name another file: bstar init my.toml"
        } else {
            "is the folder there and writable?"
        };
        Fault::new(FaultClass::Usage, format!("cannot create {name}")).hint(hint).because(error)
    })?;
    out.write_all(DEFAULTS.as_bytes()).map_err(|error| {
        Fault::new(FaultClass::Resource, format!("cannot write {name}")).because(error)
    })?;
    output::print(&format!(
        "wrote {name}\nnext: bstar plan {name}   (what it will take)\n      bstar run {name}\n"
    ))
}
