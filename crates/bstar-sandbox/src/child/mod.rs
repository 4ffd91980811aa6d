//! The child of a sandbox: what the hidden command runs.
//!
//! It has one thread, a clean environment and no inherited descriptors, so it may fork. Three
//! processes stand in a row. The *supervisor* (`supervise.rs`) stays outside, reads the output and
//! watches the limits. The *keeper* (`keep.rs`) is the first process inside the namespaces, or a
//! reaper of orphans where there are none; it starts the program, and it kills and counts what is
//! left. The *program* confines itself (`confine.rs`) before it becomes the untrusted command.
//! Whichever of them dies, those after it die too.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod confine;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod folder;
#[cfg(target_os = "linux")]
mod keep;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod streams;
#[cfg(target_os = "linux")]
mod supervise;
#[cfg(target_os = "linux")]
mod watch;

/// Serves one request of the parent, which is on standard input, and ends.
#[cfg(target_os = "linux")]
pub fn main() -> ExitCode {
    supervise::main()
}

/// There is no sandbox on this system.
#[cfg(not(target_os = "linux"))]
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
