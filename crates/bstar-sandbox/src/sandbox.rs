//! The sandbox: probed once, then any number of programs, a bounded number at a time.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::level::{Layers, Level};
use crate::program::{Program, Report};

/// How a sandboxed child is started: a command line of this product that ends in
/// [`crate::child::main`].
#[derive(Debug, Clone)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing is started there"))]
pub struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
}

impl Launcher {
    /// This program with these arguments.
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        Self { program, args }
    }

    /// The running program with one hidden argument.
    pub fn this_program(arg: impl Into<OsString>) -> io::Result<Self> {
        // The file may be replaced while a long run works (a rebuild, an upgrade); the child looks
        // this up in itself before it becomes anything else, and finds what is running now.
        let running = PathBuf::from("/proc/self/exe");
        let program = if running.exists() { running } else { std::env::current_exe()? };
        Ok(Self::new(program, vec![arg.into()]))
    }
}

/// What a sandbox may use and must have.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Groups of programs that run at one time; 0 means one per processor core.
    pub slots: usize,
    /// Go on below the floor of [`Level::is_enough`].
    pub allow_weak: bool,
    /// Folders and files, besides the system's own, that a program may read and execute: absolute
    /// paths such as an interpreter's prefix.
    pub readable: Vec<PathBuf>,
    /// The layers that may be used.
    pub layers: Layers,
}

/// Why a sandbox cannot be had, or broke. Never a statement about the program in it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The host is below the floor.
    #[error("failed to reach a safe level ({level}): {}{}", missing.join("; "), reasons_of(level))]
    TooWeak {
        /// What there is.
        level: Box<Level>,
        /// What is not, with advice.
        missing: Vec<&'static str>,
    },
    /// Not this operating system.
    #[error("failed to start a sandbox: programs can be confined on Linux only")]
    Unsupported,
    /// The program's description cannot be run as it stands.
    #[error("failed to accept the program: {0}")]
    Program(String),
    /// The sandbox's own child did not start.
    #[error("failed to start the sandbox's child {program}")]
    Launch {
        /// What was to be started.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A working folder could not be made.
    #[error("failed to make a working folder in {path}")]
    Folder {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A step of the child failed.
    #[error("failed to {step}: {what}")]
    Broken {
        /// The step, completing "failed to".
        step: String,
        /// The system's answer.
        what: String,
    },
    /// The child ended without a report.
    #[error("failed to get a report: the sandbox's child died")]
    Died,
}

/// The host's own words about what it refused, for people to act on.
fn reasons_of(level: &Level) -> String {
    if level.reasons.is_empty() {
        return String::new();
    }
    format!(" [{}]", level.reasons.join("; "))
}

/// Runs untrusted programs. Clones share the slots and the working folder.
#[derive(Debug, Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    level: Level,
    free: Mutex<usize>,
    freed: Condvar,
    #[cfg(target_os = "linux")]
    host: crate::launch::Host,
}

impl Sandbox {
    /// Probes the host once: a child tries each layer. Below the floor this is
    /// [`SandboxError::TooWeak`] unless the settings allow it.
    #[cfg(target_os = "linux")]
    pub fn new(launcher: Launcher, settings: Settings) -> Result<Self, SandboxError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = if settings.slots == 0 { cores } else { settings.slots };
        let host = crate::launch::Host::new(launcher, settings.readable)?;
        let level = host.probe(settings.layers)?;
        if !level.is_enough() && !settings.allow_weak {
            let missing = level.missing();
            return Err(SandboxError::TooWeak { level: Box::new(level), missing });
        }
        let (free, freed) = (Mutex::new(slots), Condvar::new());
        Ok(Self { inner: Arc::new(Inner { level, free, freed, host }) })
    }

    /// Always [`SandboxError::Unsupported`]: only Linux has the layers.
    #[cfg(not(target_os = "linux"))]
    pub fn new(_: Launcher, _: Settings) -> Result<Self, SandboxError> {
        Err(SandboxError::Unsupported)
    }

    /// What holds around every program.
    pub fn level(&self) -> &Level {
        &self.inner.level
    }

    /// Where working folders are made at the levels without namespaces. Removed on drop.
    #[cfg(target_os = "linux")]
    pub fn folder(&self) -> &std::path::Path {
        self.inner.host.folder()
    }

    /// Runs programs at the same time (they may be joined by pipes) and returns one report for each
    /// when all have ended. Blocks until a slot is free; a group takes one slot.
    pub fn run_together(&self, programs: Vec<Program>) -> Result<Vec<Report>, SandboxError> {
        let _slot = self.inner.take_slot();
        #[cfg(target_os = "linux")]
        return self.inner.host.run(&self.inner.level, programs);
        #[cfg(not(target_os = "linux"))]
        return if programs.is_empty() { Ok(Vec::new()) } else { Err(SandboxError::Unsupported) };
    }

    /// Runs one program: a group of one.
    pub fn run(&self, program: Program) -> Result<Report, SandboxError> {
        let mut reports = self.run_together(vec![program])?;
        Ok(reports.pop().expect("one report per program"))
    }
}

impl Inner {
    fn take_slot(&self) -> Slot<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

/// A slot, given back on drop.
struct Slot<'a>(&'a Inner);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
