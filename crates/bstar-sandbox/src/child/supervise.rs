//! The supervisor: outside the namespaces, it reads the output, watches the limits and reports.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::unistd::ForkResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};

use crate::child::keep::{self, Note, Tally};
use crate::child::link::Link;
use crate::child::streams::Capture;
use crate::child::watch::Watch;
use crate::child::{folder, namespaces, probe};
use crate::level::Namespaces;
use crate::program::{Ended, Report, Struck};
use crate::system;
use crate::wire::{self, Answer, Failure, Layer, Request, Spec, Step};

/// Numbers below are those that a program may ask for; the child's own copies lie above.
const FIRST_OWN: i32 = 256;

/// How long the layers may take to stand, and the keeper to end after it was told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves one request.
pub(super) fn main() -> ExitCode {
    let Ok(socket) = prepare() else { return ExitCode::FAILURE };
    let Ok((request, descriptors)) = wire::receive(&socket) else { return ExitCode::FAILURE };
    let answer = match request {
        Request::Probe(layers, place) => probe::probe(layers, &place).map(Answer::Level),
        Request::Run(spec) => run(&spec, descriptors, Some(&socket)).map(Answer::Report),
    };
    let answer = answer.unwrap_or_else(Answer::Broken);
    match wire::send(&socket, &answer, &[]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Cuts every tie to the parent but the socket, which was standard input.
fn prepare() -> io::Result<UnixStream> {
    system::close_from(3);
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST_OWN)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    // A Ctrl-C at the parent's terminal is for the parent.
    rustix::process::setsid()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(UnixStream::from(socket))
}

/// Runs one program to its end. Without a parent's socket there is nobody whose death would matter.
pub(super) fn run(
    spec: &Spec,
    descriptors: Vec<OwnedFd>,
    parent: Option<&UnixStream>,
) -> Result<Report, Failure> {
    let identity = folder::identity(spec.level.identity);
    // With namespaces the working folder is a file system of its own, which ends with them.
    let folder = match spec.level.namespaces {
        Namespaces::None => Some(folder::Folder::new(&spec.place.folder, identity)?),
        Namespaces::WithoutUser | Namespaces::Full => None,
    };
    let (inside, captures) = streams(spec, descriptors)?;
    let (ours, theirs) = Link::pair().step(Layer::Other, "open a link to the keeper")?;
    match system::fork().step(Layer::Other, "fork the keeper")? {
        ForkResult::Child => {
            drop((ours, captures));
            let folder = folder.map(folder::Folder::into_path);
            keep::main(spec, keep::Inside { descriptors: inside, link: theirs, folder, identity })
        }
        ForkResult::Parent { child } => {
            drop((inside, theirs));
            let child = Pid::from_raw(child.as_raw()).expect("a process id is positive");
            let supervisor = Supervisor {
                spec,
                parent,
                child,
                link: ours,
                captures,
                program: None,
                struck: None,
                watch: Watch::new(child, &spec.limits, folder.as_ref().map(folder::Folder::path)),
                identity,
            };
            let report = supervisor.run();
            drop(folder);
            report
        }
    }
}

/// The program's descriptors with their numbers, and the ends from which its output is read.
#[expect(clippy::type_complexity, reason = "the two ends of the same pipes")]
fn streams(
    spec: &Spec,
    descriptors: Vec<OwnedFd>,
) -> Result<(Vec<(OwnedFd, i32)>, [Capture; 2]), Failure> {
    let mut inside = Vec::new();
    for (descriptor, &number) in descriptors.into_iter().zip(&spec.numbers) {
        inside.push((lift(&descriptor)?, number));
    }
    if !spec.numbers.contains(&0) {
        inside.push((lift(&input(&spec.stdin)?)?, 0));
    }
    let mut captures = [Capture::closed(), Capture::closed()];
    for (number, capture) in (1..).zip(&mut captures) {
        if !spec.numbers.contains(&number) {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .step(Layer::Other, "open a pipe")?;
            inside.push((lift(&write)?, number));
            *capture =
                Capture::new(read, spec.limits.output).step(Layer::Other, "set a pipe up")?;
        }
    }
    Ok((inside, captures))
}

/// A copy above the numbers that a program may ask for, so that placing one never hits another.
fn lift(descriptor: &OwnedFd) -> Result<OwnedFd, Failure> {
    rustix::io::fcntl_dupfd_cloexec(descriptor, FIRST_OWN)
        .step(Layer::Other, "copy a descriptor (is the limit on open files below 400?)")
}

/// The input as a sealed file in memory: no pipe to feed, and nothing the program could grow.
fn input(bytes: &[u8]) -> Result<OwnedFd, Failure> {
    let make = || -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("input", flags)?);
        file.write_all(bytes)?;
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    };
    make().step(Layer::Other, "hold the program's input")
}

/// One run, seen from outside.
struct Supervisor<'a> {
    spec: &'a Spec,
    parent: Option<&'a UnixStream>,
    /// The process that was forked: the keeper, or the one that unshares before it.
    child: Pid,
    link: Link,
    captures: [Capture; 2],
    /// The program in the host's numbering, where there are no namespaces.
    program: Option<Pid>,
    struck: Option<Struck>,
    watch: Watch<'a>,
    identity: Option<u32>,
}

impl Supervisor<'_> {
    fn run(mut self) -> Result<Report, Failure> {
        let result = self.follow();
        if result.is_err() {
            self.end_by_force();
        }
        self.wait_for_keeper();
        let tally = result?;
        for capture in &mut self.captures {
            if capture.drain() {
                self.struck.get_or_insert(Struck::Output);
            }
        }
        Ok(self.report(&tally))
    }

    /// Reads notes and output until the keeper's tally.
    fn follow(&mut self) -> Result<Tally, Failure> {
        let mut deadline = Instant::now() + PATIENCE;
        let mut next_sample = None;
        let mut told = false;
        loop {
            let now = Instant::now();
            if now >= deadline {
                let running = self.program.is_some() || next_sample.is_some();
                if told || !running {
                    let step = if told { "end the program" } else { "set the layers up" };
                    return Err(Failure::new(Layer::Other, step, &"it took too long"));
                }
                self.struck.get_or_insert(Struck::Wall);
            }
            if next_sample.is_some_and(|at| now >= at) && self.struck.is_none() {
                self.struck = self.watch.sample();
                next_sample = Some(now + self.watch.interval());
            }
            if self.struck.is_some() && !told {
                told = true;
                // The keeper may be gone already: its last note, or the end of the link, comes next.
                let _ = self.link.order(keep::KILL);
                deadline = now + PATIENCE;
            }
            let until = next_sample.filter(|_| !told).map_or(deadline, |at| at.min(deadline));
            if !self.wait_until(until)? {
                continue;
            }
            match self.link.note()? {
                None => {}
                Some(Note::Unshared) => {
                    let child = self.child.as_raw_nonzero().get();
                    namespaces::map_identities(child, self.identity)?;
                    self.link.order(keep::GO).step(Layer::Other, "tell the keeper")?;
                }
                Some(Note::Started(pid)) => {
                    if self.spec.level.namespaces == Namespaces::None {
                        self.program = Pid::from_raw(pid);
                    }
                    let now = Instant::now();
                    deadline = now + self.spec.limits.wall;
                    next_sample = Some(now + self.watch.interval());
                }
                Some(Note::Failed(failure)) => return Err(failure),
                Some(Note::Ended(tally)) => return Ok(tally),
            }
        }
    }

    /// Waits for something to read and reads output. True when there is a note.
    fn wait_until(&mut self, until: Instant) -> Result<bool, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, or the last microseconds would spin.
        let timeout = Timespec::try_from(left + Duration::from_micros(50))
            .step(Layer::Other, "wait that long")?;
        let mut sources: Vec<BorrowedFd<'_>> = vec![self.link.as_fd()];
        sources.extend(self.parent.map(AsFd::as_fd));
        sources.extend(self.captures.iter().filter_map(Capture::source));
        let mut polled: Vec<_> =
            sources.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timeout)) {
            Err(Errno::INTR) => return Ok(false),
            other => other.step(Layer::Other, "wait for the program")?,
        };
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        drop(polled);
        if self.parent.is_some() && ready[1] {
            return Err(Failure::new(Layer::Other, "serve the parent", &"it is gone"));
        }
        for capture in &mut self.captures {
            if capture.read() {
                self.struck.get_or_insert(Struck::Output);
            }
        }
        Ok(ready[0])
    }

    /// Ends everything without the keeper's help.
    fn end_by_force(&self) {
        let _ = rustix::process::kill_process(self.child, Signal::KILL);
        if let Some(program) = self.program {
            let _ = rustix::process::kill_process_group(program, Signal::KILL);
        }
    }

    /// Everything the keeper left comes to the supervisor; waits for all of it.
    fn wait_for_keeper(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Err(Errno::INTR) | Ok(Some(_)) => {}
                Err(_) => return,
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Ok(None) => return self.end_by_force(),
            }
        }
    }

    fn report(self, tally: &Tally) -> Report {
        let limits = &self.spec.limits;
        let cpu = tally.cpu.max(self.watch.cpu());
        let struck = self.struck.or(match tally.ended {
            Ended::Signal(signal) if signal == Signal::XCPU.as_raw() => Some(Struck::Cpu),
            Ended::Signal(signal) if signal == Signal::XFSZ.as_raw() => Some(Struck::FileSize),
            Ended::Signal(signal) if signal == Signal::KILL.as_raw() && cpu >= limits.cpu => {
                Some(Struck::Cpu)
            }
            _ => None,
        });
        let [stdout, stderr] = self.captures.map(Capture::into_bytes);
        Report {
            ended: tally.ended,
            struck,
            stdout,
            stderr,
            wall: tally.wall,
            cpu,
            peak_memory: tally.peak_memory.max(self.watch.peak_memory()),
            left_over: tally.left_over,
        }
    }
}
