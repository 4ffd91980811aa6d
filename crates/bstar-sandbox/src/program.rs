//! What goes in and what comes out: a program with its limits, and the report on it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A program to run once, in a fresh working folder and a clean environment.
#[derive(Debug)]
pub struct Program {
    /// The command line; an absolute path first.
    pub command: Vec<OsString>,
    /// What it can read on its standard input.
    pub stdin: Vec<u8>,
    /// Files of the working folder: a relative name (folders are made) and the content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Added to the clean environment, which holds `PATH`, `LANG`, `HOME` and `TMPDIR`.
    pub env: Vec<(OsString, OsString)>,
    /// Open descriptors and the numbers they get inside the program. A number of 0, 1 or 2 replaces
    /// the standard stream of that number; what goes there is not in the report.
    pub descriptors: Vec<(OwnedFd, i32)>,
    /// What it may use.
    pub limits: Limits,
}

impl Program {
    /// A program with this command line, no input, no files and the default limits.
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            stdin: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            descriptors: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What a program and all its descendants may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Time on the clock from the start to the end. Default: 10 s.
    pub wall: Duration,
    /// Processor time of all processes together. Default: 10 s.
    pub cpu: Duration,
    /// Bytes of memory: the address space of each process (an allocation beyond it fails), and the
    /// resident memory of all together (beyond it they are killed). Default: 1 GiB.
    pub memory: u64,
    /// Bytes that are kept of each of standard output and standard error. Default: 1 MiB.
    pub output: usize,
    /// Bytes of one file (a write beyond it fails or ends the program). Default: 64 MiB.
    pub file_size: u64,
    /// Bytes of all files in the working folder and the private temporary folders. Default: 256 MiB.
    pub disk: u64,
    /// Open descriptors of one process. Default: 64.
    pub open_files: u64,
    /// Processes and threads at one time. Default: 64.
    pub processes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(10),
            memory: 1 << 30,
            output: 1 << 20,
            file_size: 64 << 20,
            disk: 256 << 20,
            open_files: 64,
            processes: 64,
        }
    }
}

/// How a program's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It left with this exit code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// The limit that ended a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Struck {
    /// [`Limits::wall`].
    Wall,
    /// [`Limits::cpu`].
    Cpu,
    /// [`Limits::memory`], of all processes together. A single allocation that is refused is not
    /// here: the program is told and may go on or end as it likes.
    Memory,
    /// [`Limits::output`].
    Output,
    /// [`Limits::file_size`], where the program did not handle the refusal.
    FileSize,
    /// [`Limits::disk`], where it is watched and not enforced by the file system.
    Disk,
    /// [`Limits::processes`], where they are watched: usually the program is refused instead.
    Processes,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How the main process ended.
    pub ended: Ended,
    /// The limit that ended it, if one did.
    pub struck: Option<Struck>,
    /// The first [`Limits::output`] bytes of standard output.
    pub stdout: Vec<u8>,
    /// The first [`Limits::output`] bytes of standard error.
    pub stderr: Vec<u8>,
    /// From the start to the end of the main process.
    pub wall: Duration,
    /// Processor time of all its processes that were waited for.
    pub cpu: Duration,
    /// Bytes of resident memory at the highest point seen, of the processes together.
    pub peak_memory: u64,
    /// Processes that had to be killed after the main one ended.
    pub left_over: u32,
}
