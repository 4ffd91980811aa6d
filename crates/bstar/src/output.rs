//! Results go to stdout, everything else to stderr; a closed pipe is no error.

use bstar_core::{Fault, FaultClass};
use serde::Serialize;
use std::io::Write as _;

/// Prints a result.
pub(crate) fn print(text: &str) -> Result<(), Fault> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Fault::new(FaultClass::Resource, "cannot write to standard output").because(error))
        }
        _ => Ok(()),
    }
}

/// Prints a result as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(value).expect("our results are JSON");
    print(&(text + "\n"))
}

/// Where the user is told what is not a result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notes {
    /// Tells nothing.
    pub(crate) quiet: bool,
}

impl Notes {
    /// Writes a line to stderr.
    pub(crate) fn tell(self, text: &str) {
        if !self.quiet {
            // A closed stderr must not end a run.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }
}
