//! `bstar config show` and `bstar config schema`.

use crate::config::{Config, layers};
use crate::output;
use bstar_core::Fault;
use std::path::Path;

/// Prints the resolved config as TOML or JSON.
pub(crate) fn show(file: Option<&Path>, settings: &[String], json: bool) -> Result<(), Fault> {
    let config = layers::load(file, settings)?.config;
    config.check()?;
    if json {
        return output::print_json(&config);
    }
    let text = toml::to_string_pretty(&config).expect("configs are TOML");
    output::print(&text)
}

/// Prints the JSON Schema.
pub(crate) fn schema() -> Result<(), Fault> {
    output::print_json(&schemars::schema_for!(Config))
}
