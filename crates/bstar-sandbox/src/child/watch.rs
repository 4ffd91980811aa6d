//! Watches what all processes of a program use together, from outside, through `/proc`.
//!
//! The kernel's limits are for each process; a program that forks could have a multiple of them.
//! All descendants, orphans too, stay below the keeper, so its children and theirs are the program.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::child::processes::Use;
use crate::program::{Limits, Struck};
use crate::removal;

/// The time between the first looks, which find a bomb early, and later ones.
const FIRST_INTERVAL: Duration = Duration::from_millis(10);
const INTERVAL: Duration = Duration::from_millis(25);

/// Looking at the working folder takes longer than looking at the processes.
const FOLDER_INTERVAL: Duration = Duration::from_millis(100);

/// The processes below one, sampled now and then.
pub(super) struct Watch<'a> {
    root: Pid,
    limits: &'a Limits,
    /// The folder on the host's disk, where no file system bounds it.
    folder: Option<PathBuf>,
    folder_seen: Instant,
    samples: u32,
    cpu: Duration,
    peak_memory: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(root: Pid, limits: &'a Limits, folder: Option<PathBuf>) -> Self {
        Self {
            root,
            limits,
            folder,
            folder_seen: Instant::now(),
            samples: 0,
            cpu: Duration::ZERO,
            peak_memory: 0,
        }
    }

    /// How long to wait until the next sample.
    pub(super) fn interval(&self) -> Duration {
        if self.samples < 5 { FIRST_INTERVAL } else { INTERVAL }
    }

    /// Looks once. The limit that is exceeded, if one is.
    pub(super) fn sample(&mut self) -> Option<Struck> {
        self.samples += 1;
        let used = Use::of_tree(self.root.as_raw_nonzero().get());
        self.cpu = self.cpu.max(used.cpu);
        if self.cpu >= self.limits.cpu {
            return Some(Struck::Cpu);
        }
        // Pages that several processes share count once for each, until it matters.
        let memory = match used.resident {
            many if many > self.limits.memory && used.pids.len() > 1 => used.proportional(),
            few => few,
        };
        self.peak_memory = self.peak_memory.max(memory);
        if memory > self.limits.memory {
            return Some(Struck::Memory);
        }
        // The keeper and the process before it are among them.
        if used.tasks > self.limits.processes + 2 {
            return Some(Struck::Processes);
        }
        self.folder_is_full().then_some(Struck::Disk)
    }

    fn folder_is_full(&mut self) -> bool {
        let Some(folder) = &self.folder else { return false };
        if self.folder_seen.elapsed() < FOLDER_INTERVAL {
            return false;
        }
        let full = removal::exceeds(folder, self.limits.disk);
        self.folder_seen = Instant::now();
        full
    }

    /// Processor time at the highest point seen.
    pub(super) fn cpu(&self) -> Duration {
        self.cpu
    }

    /// Bytes of resident memory at the highest point seen.
    pub(super) fn peak_memory(&self) -> u64 {
        self.peak_memory
    }
}
