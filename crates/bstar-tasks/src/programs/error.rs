//! What can go wrong with running programs that is not the programs' fault.

use bstar_core::{Fault, FaultClass};
use bstar_sandbox::SandboxError;
use std::path::PathBuf;
use thiserror::Error;

/// Why programs cannot be judged.
#[derive(Debug, Error)]
pub enum ProgramsError {
    /// There is no interpreter.
    #[error("cannot use {} as Python: {problem}", name.display())]
    NoPython {
        /// What was tried.
        name: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The sandbox cannot be set up or broke.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A program that must run in any working sandbox did not.
    #[error("a trial program does not run in the sandbox: {problem}")]
    Trial {
        /// What became of it.
        problem: String,
    },
    /// A pipe between processes could not be made.
    #[error("cannot make a pipe to a program")]
    Pipe(#[source] std::io::Error),
    /// A setting that cannot be.
    #[error("`task.programs.{key}` is {value}, and must be {allowed}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl From<ProgramsError> for Fault {
    fn from(error: ProgramsError) -> Self {
        let message = error.to_string();
        match error {
            ProgramsError::NoPython { .. } => Self::new(FaultClass::Resource, message)
                .hint("install Python 3.8 or later, or name one in `task.programs.python`"),
            ProgramsError::Sandbox(SandboxError::TooWeak { .. }) => {
                Self::new(FaultClass::Resource, message).hint(
                    "give the process what is missing (docs/concepts/sandbox.md), or accept the \
                     risk with `task.programs.allow_weak_sandbox = true`",
                )
            }
            ProgramsError::Sandbox(_) => Self::new(FaultClass::Resource, message),
            ProgramsError::Trial { .. } => Self::new(FaultClass::Resource, message).hint(
                "see what `bstar doctor` says of the sandbox, and whether \
                 `task.programs.memory_mib` and `time_limit` suffice to start Python",
            ),
            ProgramsError::Pipe(error) => Self::new(FaultClass::Resource, message).because(error),
            ProgramsError::Setting { .. } => Self::new(FaultClass::Usage, message),
        }
    }
}
