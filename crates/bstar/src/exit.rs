//! Exit codes, and how an error is shown: what failed, why, and the fix.

use bstar_core::{Fault, FaultClass};
use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Everything went well.
pub(crate) const OK: u8 = 0;
/// A bug in bstar.
pub(crate) const BUG: u8 = 1;
/// The command line or the config asks for something that cannot be.
pub(crate) const USAGE: u8 = 2;
/// A data file or model folder is missing, broken or does not fit.
pub(crate) const DATA: u8 = 3;
/// The run folder belongs to another config, another process or a newer version.
pub(crate) const RUN: u8 = 4;
/// Disk, memory or permissions ran out.
pub(crate) const RESOURCE: u8 = 5;
/// Training cannot go on.
pub(crate) const TRAINING: u8 = 6;
/// Interrupted; what was published is safe.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code of a class of faults.
pub(crate) fn code(class: FaultClass) -> u8 {
    match class {
        FaultClass::Usage => USAGE,
        FaultClass::Data => DATA,
        FaultClass::Run => RUN,
        FaultClass::Resource => RESOURCE,
        FaultClass::Training => TRAINING,
        FaultClass::Interrupted => INTERRUPTED,
        FaultClass::Bug => BUG,
    }
}

/// Prints a fault with its causes and its hint to stderr.
pub(crate) fn report(fault: &Fault) -> ExitCode {
    let mut lines = vec![format!("error: {fault}")];
    let mut cause = fault.source();
    while let Some(error) = cause {
        lines.push(format!("  because: {error}"));
        cause = error.source();
    }
    if let Some(hint) = &fault.hint {
        lines.push(format!("\nhint: {hint}"));
    }
    // Nothing can be done if stderr is closed.
    let _ = std::io::stderr().write_all((lines.join("\n") + "\n").as_bytes());
    ExitCode::from(code(fault.class))
}
