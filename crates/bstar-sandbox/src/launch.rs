//! The parent's side: start the child, hand it a request, wait for its answer.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::level::{Layers, Level};
use crate::program::{Program, Report};
use crate::sandbox::{Launcher, SandboxError};
use crate::wire::{self, Answer, Place, Request, Spec};
use crate::workplace::Workplace;

/// What every run shares.
#[derive(Debug)]
pub(crate) struct Host {
    launcher: Launcher,
    readable: Vec<(OsString, OsString)>,
    workplace: Workplace,
}

/// A started child. Dropping it ends it, and with it everything it started.
struct Running {
    child: Child,
    socket: UnixStream,
}

impl Host {
    pub(crate) fn new(launcher: Launcher, readable: Vec<PathBuf>) -> Result<Self, SandboxError> {
        for path in readable.iter().chain([&launcher.program]) {
            if !path.is_absolute() {
                let what = format!("{} is not an absolute path", path.display());
                return Err(SandboxError::Program(what));
            }
        }
        let resolve = |given: PathBuf| match given.canonicalize() {
            Ok(real) => Ok((given.into(), real.into())),
            Err(error) => {
                let what = format!("cannot offer {}: {error}", given.display());
                Err(SandboxError::Program(what))
            }
        };
        let readable = readable.into_iter().map(resolve).collect::<Result<_, _>>()?;
        Ok(Self { launcher, readable, workplace: Workplace::new()? })
    }

    /// Which of the layers hold here.
    pub(crate) fn probe(&self, layers: Layers) -> Result<Level, SandboxError> {
        let running = self.start(&Request::Probe(layers, self.place()), &[])?;
        match running.answer()? {
            Answer::Level(level) => Ok(level),
            Answer::Broken(failure) => Err(failure.into()),
            Answer::Report(_) => Err(SandboxError::Died),
        }
    }

    /// Starts all programs, then waits for each.
    pub(crate) fn run(
        &self,
        level: &Level,
        programs: Vec<Program>,
    ) -> Result<Vec<Report>, SandboxError> {
        for program in &programs {
            check(program)?;
        }
        let mut running = Vec::with_capacity(programs.len());
        for program in programs {
            let (descriptors, numbers): (Vec<OwnedFd>, Vec<i32>) =
                program.descriptors.into_iter().unzip();
            let spec = Spec {
                level: level.clone(),
                place: self.place(),
                command: program.command,
                stdin: program.stdin,
                files: program.files,
                env: program.env,
                numbers,
                limits: program.limits,
            };
            running.push(self.start(&Request::Run(Box::new(spec)), &descriptors)?);
        }
        let mut reports = Vec::with_capacity(running.len());
        for one in running {
            match one.answer()? {
                Answer::Report(report) => reports.push(report),
                Answer::Broken(failure) => return Err(failure.into()),
                Answer::Level(_) => return Err(SandboxError::Died),
            }
        }
        Ok(reports)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.workplace.path()
    }

    fn place(&self) -> Place {
        Place {
            folder: self.workplace.path().as_os_str().to_owned(),
            readable: self.readable.clone(),
        }
    }

    fn start(&self, request: &Request, descriptors: &[OwnedFd]) -> Result<Running, SandboxError> {
        let broken =
            |source| SandboxError::Launch { program: self.launcher.program.clone(), source };
        let (socket, theirs) = UnixStream::pair().map_err(broken)?;
        let child = Command::new(&self.launcher.program)
            .args(&self.launcher.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(broken)?;
        let running = Running { child, socket };
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        wire::send(&running.socket, request, &borrowed).map_err(broken)?;
        Ok(running)
    }
}

impl Running {
    fn answer(self) -> Result<Answer, SandboxError> {
        let answer = wire::receive(&self.socket);
        answer.map(|(answer, _)| answer).map_err(|_: io::Error| SandboxError::Died)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child ends as soon as it sees the stream end; it kills and cleans on the way.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

impl From<wire::Failure> for SandboxError {
    fn from(failure: wire::Failure) -> Self {
        Self::Broken { step: failure.step, what: failure.what }
    }
}

/// Refuses what would not mean the same inside.
fn check(program: &Program) -> Result<(), SandboxError> {
    let refuse = |what: String| Err(SandboxError::Program(what));
    match program.command.first() {
        Some(first) if Path::new(first).is_absolute() => {}
        _ => return refuse("the command must begin with an absolute path".to_owned()),
    }
    for (name, _) in &program.files {
        let mut parts = Path::new(name).components().peekable();
        if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return refuse(format!("{name:?} is not a file name inside the working folder"));
        }
    }
    if program.descriptors.len() > wire::MOST_DESCRIPTORS {
        return refuse(format!("more than {} descriptors", wire::MOST_DESCRIPTORS));
    }
    let mut numbers: Vec<i32> = program.descriptors.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    let most = i32::try_from(program.limits.open_files).unwrap_or(i32::MAX).min(MOST_NUMBER);
    if numbers.iter().any(|number| !(0..most).contains(number)) {
        return refuse(format!("descriptor numbers must be from 0 to {}", most - 1));
    }
    if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse("two descriptors have the same number".to_owned());
    }
    Ok(())
}

/// Numbers from here on are the child's own while it arranges the others.
const MOST_NUMBER: i32 = 200;
