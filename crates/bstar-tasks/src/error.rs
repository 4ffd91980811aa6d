//! Why a task cannot be loaded.
//!
//! Each module has an error of its own; this one only brings them together, and adds settings that
//! contradict each other. Mistakes in the configuration are faults of class usage, broken files of
//! class data.

use crate::arithmetic::ArithmeticError;
use crate::programs::ProgramsError;
use crate::records::RecordError;
use crate::splits::SplitError;
use crate::template::TemplateError;
use bstar_core::{Fault, FaultClass};
use thiserror::Error;

/// Why a task cannot be loaded.
#[derive(Debug, Error)]
pub enum TaskError {
    /// Settings that are missing or contradict each other.
    #[error("{problem}")]
    Config {
        /// What is wrong.
        problem: String,
        /// What to change.
        hint: String,
    },
    /// Arithmetic queries cannot be generated.
    #[error(transparent)]
    Arithmetic(#[from] ArithmeticError),
    /// A prompt or target template is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file or a row of it is wrong.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The splits do not fit together.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Programs cannot be run.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
}

impl TaskError {
    pub(crate) fn config(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Config { problem: problem.into(), hint: hint.into() }
    }
}

impl From<TaskError> for Fault {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Config { problem, hint } => Self::new(FaultClass::Usage, problem).hint(hint),
            TaskError::Arithmetic(error) => error.into(),
            TaskError::Template(error) => error.into(),
            TaskError::Record(error) => error.into(),
            TaskError::Split(error) => error.into(),
            TaskError::Programs(error) => error.into(),
        }
    }
}
