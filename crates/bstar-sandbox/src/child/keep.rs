//! The keeper: starts the program, reaps every orphan, kills and counts what is left at the end.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::child::link::Link;
use crate::child::{confine, namespaces, processes};
use crate::level::Namespaces;
use crate::program::Ended;
use crate::system;
use crate::wire::{Failure, Layer, Spec, Step};

/// The order to end everything.
pub(super) const KILL: u8 = b'k';
/// The order to go on, after the user ids are set.
pub(super) const GO: u8 = b'g';

const KILLED: Ended = Ended::Signal(9);

/// What the keeper tells the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Note {
    /// The user namespace stands and waits for its ids.
    Unshared,
    /// The program's process exists, with this id in the keeper's numbering.
    Started(i32),
    /// A step failed; nothing untrusted has run.
    Failed(Failure),
    /// Everything has ended.
    Ended(Tally),
}

/// What a program used and left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) ended: Ended,
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
    pub(super) peak_memory: u64,
    pub(super) left_over: u32,
}

/// What a keeper works with.
pub(super) struct Inside {
    /// The program's descriptors and their numbers.
    pub(super) descriptors: Vec<(OwnedFd, i32)>,
    pub(super) link: Link,
    /// The working folder on the host; nothing where namespaces give one.
    pub(super) folder: Option<PathBuf>,
    /// The program's user and group id, if not the keeper's own.
    pub(super) identity: Option<u32>,
}

/// The rest of a freshly forked process: set up, start, keep, end.
pub(super) fn main(spec: &Spec, mut inside: Inside) -> ! {
    let code = match keep(spec, &mut inside) {
        Ok(tally) => {
            inside.link.tell(&Note::Ended(tally));
            0
        }
        Err(failure) => {
            inside.link.tell(&Note::Failed(failure));
            1
        }
    };
    system::leave(code)
}

fn keep(spec: &Spec, inside: &mut Inside) -> Result<Tally, Failure> {
    let folder = match inside.folder.clone() {
        Some(folder) => folder,
        None => namespaces::enter(spec, inside)?,
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .step(Layer::Other, "become the reaper")?;
    write_files(spec, &folder, inside.identity).step(Layer::Other, "write the program's files")?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().step(Layer::Other, "hold signals back")?;
    let deaths = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .step(Layer::Other, "listen for ends")?;
    let started = Instant::now();
    let program = match system::fork().step(Layer::Other, "fork the program")? {
        ForkResult::Child => {
            let failure = confine::enter(spec, inside, &folder);
            if let Some(failure) = failure {
                inside.link.tell(&Note::Failed(failure));
            }
            system::leave(0)
        }
        ForkResult::Parent { child } => child,
    };
    inside.descriptors.clear();
    inside.link.tell(&Note::Started(program.as_raw()));
    let namespaces = spec.level.namespaces;
    let mut keeper =
        Keeper { namespaces, program, ended: None, wall: Duration::ZERO, left_over: 0 };
    keeper.wait(&deaths, &inside.link, started);
    keeper.clear(started);
    Ok(keeper.tally())
}

/// Fills the working folder.
fn write_files(spec: &Spec, folder: &Path, identity: Option<u32>) -> std::io::Result<()> {
    for (name, content) in &spec.files {
        let mut made = folder.to_owned();
        let mut parts = Path::new(name).components().peekable();
        while let Some(part) = parts.next() {
            made.push(part);
            if parts.peek().is_none() {
                fs::write(&made, content)?;
            } else if !made.is_dir() {
                fs::create_dir(&made)?;
            }
            chown(&made, identity, identity)?;
        }
    }
    Ok(())
}

struct Keeper {
    namespaces: Namespaces,
    program: Pid,
    ended: Option<Ended>,
    wall: Duration,
    left_over: u32,
}

impl Keeper {
    /// Until the program has ended, or the supervisor says so, or is gone.
    fn wait(&mut self, deaths: &SignalFd, link: &Link, started: Instant) {
        while self.ended.is_none() {
            let mut polled = [
                PollFd::from_borrowed_fd(deaths.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) => {}
            }
            if !polled[1].revents().is_empty() {
                return;
            }
            while let Ok(Some(_)) = deaths.read_signal() {}
            self.reap(started, false);
        }
    }

    /// Takes in the processes that have ended. False when there is none left to wait for. While
    /// clearing up, those that were killed count as left over.
    fn reap(&mut self, started: Instant, clearing: bool) -> bool {
        loop {
            let (pid, ended) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ended::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Ended::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) => return true,
                Err(nix::errno::Errno::ECHILD) => return false,
                Ok(_) | Err(_) => continue,
            };
            if pid == self.program {
                self.ended = Some(ended);
                self.wall = started.elapsed();
            } else if clearing && ended == KILLED {
                self.left_over += 1;
            }
        }
    }

    /// Kills all that is left and waits for it.
    fn clear(&mut self, started: Instant) {
        loop {
            self.kill_all();
            if !self.reap(started, true) {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// There may be nothing to kill, which is well.
    fn kill_all(&self) {
        if self.namespaces != Namespaces::None {
            // All of this namespace but its first process, which is this one.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            return;
        }
        // All of one group, at one stroke: where system calls are filtered, none can leave it.
        let _ = killpg(self.program, Signal::SIGKILL);
        for pid in processes::below(std::process::id().cast_signed()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn tally(self) -> Tally {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("a valid target");
        let time = |value: nix::sys::time::TimeVal| {
            Duration::from_secs(value.tv_sec().unsigned_abs())
                + Duration::from_micros(value.tv_usec().unsigned_abs())
        };
        Tally {
            ended: self.ended.unwrap_or(KILLED),
            wall: self.wall,
            cpu: time(usage.user_time()) + time(usage.system_time()),
            peak_memory: usage.max_rss().unsigned_abs() * 1024,
            left_over: self.left_over,
        }
    }
}
