//! What can go wrong across a crate boundary, with what the user can do about it.
//!
//! Libraries have small error types of their own; where one crosses a trait of [`crate::ports`] it
//! becomes a [`Fault`]: a class (which decides the exit code), a message that says what is the case,
//! and a hint naming the key, flag or file to change. A wrong *answer* is never a fault: it
//! is a [`crate::Verdict`].

use std::error::Error;
use std::fmt;

/// Whose turn it is when something fails; the command line maps each class to one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// The command line or the configuration asks for something that cannot be.
    Usage,
    /// A data file or model folder is missing, broken or does not fit.
    Data,
    /// The run folder belongs to another run, another process or a newer version.
    Run,
    /// The machine ran out of something: disk, memory, permission.
    Resource,
    /// Training cannot go on: a loss that is not finite, nothing selected again and again.
    Training,
    /// The user interrupted; what was committed is safe.
    Interrupted,
    /// A bug in bstar.
    Bug,
}

/// An error with a class and, where there is one, the fix.
#[derive(Debug)]
pub struct Fault {
    /// Whose turn it is.
    pub class: FaultClass,
    /// What is wrong: a lower-case sentence without a full stop, with the path, key or value in it.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The piece of work that an interrupt broke off and that begins again from its start, if any.
    pub begun: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault without a hint or a cause.
    pub fn new(class: FaultClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, begun: None, source: None }
    }

    /// The same fault with the fix named.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same fault with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
