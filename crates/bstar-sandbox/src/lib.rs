//! Runs an untrusted program with limits and reports what happened; the one home of system calls.
//!
//! A [`Sandbox`] starts each [`Program`] through a fresh, single-threaded child of this product (the
//! [`Launcher`]'s command, which ends in [`child::main`]). That child puts the layers around the
//! program, watches its limits, kills what is left, and sends one [`Report`]. What goes wrong with
//! the sandbox itself is a [`SandboxError`], never a statement about the program.
//!
//! What is promised at which [`Level`] is in `docs/concepts/sandbox.md`. This crate knows nothing of
//! tasks, rewards or languages.

pub mod child;
mod level;
mod program;
mod sandbox;

#[cfg(target_os = "linux")]
mod launch;
#[cfg(target_os = "linux")]
mod removal;
#[cfg(target_os = "linux")]
mod system;
#[cfg(target_os = "linux")]
mod wire;
#[cfg(target_os = "linux")]
mod workplace;

pub use level::{Identity, Layers, Level, Namespaces};
pub use program::{Ended, Limits, Program, Report, Struck};
pub use sandbox::{Launcher, Sandbox, SandboxError, Settings};
