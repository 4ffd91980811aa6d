//! Settings of tasks whose answers are programs: the `[task.programs]` table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How programs are run and what they may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProgramsConfig {
    /// The Python interpreter; without it `python3` on the PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<PathBuf>,
    /// Seconds that a program may take: for each test case that is a run of its own (standard
    /// input and output), and for all tests together where they are calls.
    pub time_limit: f64,
    /// Memory that a program may take, in MiB.
    pub memory_mib: u64,
    /// Output that a program may write for a test case, in MiB.
    pub output_mib: usize,
    /// Programs that run side by side; 0 is one per core.
    pub at_once: usize,
    /// Run programs even where the machine cannot confine them well (docs/concepts/sandbox.md).
    pub allow_weak_sandbox: bool,
}

impl Default for ProgramsConfig {
    fn default() -> Self {
        Self {
            python: None,
            time_limit: 4.0,
            memory_mib: 1024,
            output_mib: 8,
            at_once: 0,
            allow_weak_sandbox: false,
        }
    }
}
