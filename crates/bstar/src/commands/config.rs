//! `bstar config show`, `bstar config schema` and `bstar config reference`.

use crate::config::{layers, reference, schema};
use crate::output;
use bstar_core::Fault;
use std::path::Path;

/// Prints the resolved config as TOML or JSON, and only then says what is wrong with it: a refused
/// config is the one that needs to be looked at.
pub(crate) fn show(file: Option<&Path>, settings: &[String], json: bool) -> Result<(), Fault> {
    let config = layers::load(file, settings)?.config;
    if json {
        output::print_json(&config)?;
    } else {
        output::print(&toml::to_string_pretty(&config).expect("configs are TOML"))?;
    }
    config.check()
}

/// Prints the JSON Schema of config files.
pub(crate) fn schema() -> Result<(), Fault> {
    output::print_json(&schema::of_files())
}

/// Prints the reference of all keys.
pub(crate) fn reference() -> Result<(), Fault> {
    output::print(&reference::render())
}
