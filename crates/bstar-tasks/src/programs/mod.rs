//! Programs as answers: finding them in responses, running them in the sandbox, judging them.
//!
//! What is expected of a program never enters its process. Runs are compared with the expected
//! output here; results of calls come back over a pipe as plain data and are compared here; and
//! assertions in Python run in a process of their own, in which the functions of the program are
//! stand-ins whose calls go over a pipe. A program can therefore print, forge, patch and exit as it
//! likes: it passes a test only by the right answer. See docs/concepts/sandbox.md.
//!
//! A verdict depends on the clock where a program is near its time limit; rollouts keep the verdict
//! they were given, so a continued run does not judge twice.

mod assertions;
mod calls;
mod config;
mod error;
mod output;
mod python;
mod source;
mod streams;
mod suite;

pub use config::ProgramsConfig;
pub use error::ProgramsError;
pub use python::Python;
pub use suite::{CallCase, StreamCase, Suite};

use bstar_core::Verdict;
use bstar_sandbox::{Ended, Launcher, Level, Limits, Program, Report, Sandbox, Settings, Struck};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The driver of a run.
const MAIN: &str = include_str!("main.py");

/// The driver of calls.
const SERVE: &str = concat!(include_str!("wire.py"), include_str!("serve.py"));

/// The driver of assertions.
const CHECK: &str = concat!(include_str!("wire.py"), include_str!("check.py"));

/// Characters of a program's last words that are kept.
const MOST_DETAIL: usize = 200;

/// How often a sandbox that broke is tried again.
const RETRIES: usize = 2;

/// Processes and threads of one program.
const MOST_PROCESSES: u64 = 64;

/// Bytes that a program may write into its working folder.
const MOST_WRITTEN: u64 = 64 << 20;

/// Judges programs.
#[derive(Clone, Debug)]
pub struct Judge {
    sandbox: Sandbox,
    python: Python,
    limits: Limits,
}

/// What is said of a response that should hold a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Correct if every test passes.
    pub verdict: Verdict,
    /// Why, from a fixed list of words.
    pub reason: &'static str,
    /// The program, if there is one.
    pub program: Option<String>,
    /// The test that failed and the program's last words; for people.
    pub detail: Option<String>,
}

/// What became of a program on its tests: the reason is one of a fixed list.
struct Outcome {
    verdict: Verdict,
    reason: &'static str,
    detail: Option<String>,
}

impl Outcome {
    fn passed() -> Self {
        Self { verdict: Verdict::Correct, reason: "all tests passed", detail: None }
    }

    fn failed(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Incorrect, reason, detail: Some(detail.into()) }
    }
}

impl Judge {
    /// Finds the interpreter, sets the sandbox up and tries it. `launcher` starts the child of the
    /// sandbox.
    pub fn new(config: &ProgramsConfig, launcher: Launcher) -> Result<Self, ProgramsError> {
        let wall = seconds(config.time_limit).ok_or_else(|| ProgramsError::Setting {
            key: "time_limit",
            value: config.time_limit.to_string(),
            allowed: "between 0.01 and 3600 seconds",
        })?;
        for (key, value) in
            [("memory_mib", config.memory_mib), ("output_mib", config.output_mib as u64)]
        {
            if !(1..=1 << 20).contains(&value) {
                let (value, allowed) = (value.to_string(), "between 1 and 1048576");
                return Err(ProgramsError::Setting { key, value, allowed });
            }
        }
        let python = Python::find(config.python.as_deref())?;
        let settings = Settings {
            slots: config.at_once,
            allow_weak: config.allow_weak_sandbox,
            readable: python.folders.clone(),
            ..Settings::default()
        };
        let limits = Limits {
            wall,
            cpu: wall,
            memory: config.memory_mib << 20,
            output: config.output_mib << 20,
            file_size: MOST_WRITTEN,
            processes: MOST_PROCESSES,
            ..Limits::default()
        };
        let judge = Self { sandbox: Sandbox::new(launcher, settings)?, python, limits };
        judge.try_out()?;
        Ok(judge)
    }

    /// How well programs are confined here.
    pub fn level(&self) -> &Level {
        self.sandbox.level()
    }

    /// The interpreter.
    pub fn python(&self) -> &Python {
        &self.python
    }

    /// Finds the program in a response and runs it on its tests, up to the first that fails.
    pub fn judge(&self, response: &str, suite: &Suite) -> Result<Judgement, ProgramsError> {
        let Some(program) = program_of(response, suite) else {
            let (verdict, reason) = (Verdict::NoAnswer, "no program found");
            return Ok(Judgement { verdict, reason, program: None, detail: None });
        };
        let mut tries = 0;
        let Outcome { verdict, reason, detail } = loop {
            match self.run(&program, suite) {
                // A sandbox may fail for a moment: out of processes, of memory.
                Err(ProgramsError::Sandbox(_)) if tries < RETRIES => tries += 1,
                outcome => break outcome?,
            }
        };
        Ok(Judgement { verdict, reason, program: Some(program), detail })
    }

    fn run(&self, program: &str, suite: &Suite) -> Result<Outcome, ProgramsError> {
        if program.len() > source::MAX_PROGRAM {
            return Ok(Outcome::failed("program too long", format!("{} bytes", program.len())));
        }
        if program.contains('\0') {
            return Ok(Outcome::failed("exception", "SyntaxError: a null byte"));
        }
        match suite {
            Suite::Streams { cases } => streams::run(self, program, cases),
            Suite::Calls { function, cases } => calls::run(self, program, function, cases),
            Suite::Assertions { setup, tests, entry_point, .. } => {
                assertions::run(self, program, setup, tests, entry_point.as_deref())
            }
        }
    }

    /// A program that must run in any sandbox that works.
    fn try_out(&self) -> Result<(), ProgramsError> {
        let case = StreamCase { input: "20 22\n".into(), output: "42".into() };
        let program = "print(sum(map(int, input().split())))";
        let outcome = streams::run(self, program, &[case])?;
        if outcome.verdict == Verdict::Correct {
            return Ok(());
        }
        let detail = outcome.detail.unwrap_or_default();
        Err(ProgramsError::Trial { problem: format!("{} ({detail})", outcome.reason) })
    }

    /// A driver with the program and its prelude in the working folder.
    fn candidate(&self, driver: &str, program: &str, arguments: &[&str]) -> Program {
        let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        Program {
            files: vec![
                file("driver.py", driver),
                file("prelude.py", &source::prelude(program)),
                file("program.py", program),
            ],
            limits: self.limits.clone(),
            env: environment(),
            ..Program::new(self.python.command("driver.py", arguments))
        }
    }
}

/// What a program that prints a set must not depend on, and a folder of its own to import from not.
fn environment() -> Vec<(OsString, OsString)> {
    [("PYTHONHASHSEED", "0"), ("PYTHONSAFEPATH", "1")].map(|(k, v)| (k.into(), v.into())).to_vec()
}

/// A settable time, if it is in range.
fn seconds(time: f64) -> Option<Duration> {
    (0.01..=3600.0).contains(&time).then(|| Duration::from_secs_f64(time))
}

/// The program that a response stands for.
fn program_of(response: &str, suite: &Suite) -> Option<String> {
    let found = source::program_in(response, suite.entry_point())?;
    let (prefix, entry_point) = match suite {
        Suite::Assertions { prefix, entry_point: Some(name), .. } if !prefix.is_empty() => {
            (prefix, name)
        }
        _ => return Some(found.to_owned()),
    };
    Some(if source::defines(found, entry_point) {
        // The imports and helpers of the prompt are the response's too.
        format!("{prefix}\n    pass\n\n{found}")
    } else {
        format!("{prefix}{}", source::continuation(found))
    })
}

/// A pipe: what is read, and what is written.
fn pipe() -> Result<(OwnedFd, OwnedFd), ProgramsError> {
    let (reader, writer) = std::io::pipe().map_err(ProgramsError::Pipe)?;
    Ok((reader.into(), writer.into()))
}

/// Why a program that ended by itself or was ended did not do its work.
fn failure(report: &Report) -> (&'static str, String) {
    let words = last_words(&report.stderr);
    let reason = match (report.struck, report.ended) {
        (Some(Struck::Wall | Struck::Cpu), _) => "time limit",
        (Some(Struck::Memory), _) => "memory limit",
        (Some(Struck::Output), _) => "output limit",
        (Some(Struck::FileSize | Struck::Disk), _) => "disk limit",
        (Some(Struck::Processes), _) => "process limit",
        (None, Ended::Signal(_)) => "crash",
        (None, Ended::Code(_)) if words.starts_with("MemoryError") => "memory limit",
        (None, Ended::Code(_)) => "exception",
    };
    let detail = match report.ended {
        Ended::Signal(signal) if words.is_empty() => format!("signal {signal}"),
        Ended::Code(code) if words.is_empty() => format!("exit code {code}"),
        _ => words,
    };
    (reason, detail)
}

/// The last line that a program wrote to standard error, which names its exception.
fn last_words(stderr: &[u8]) -> String {
    let tail = &stderr[stderr.len().saturating_sub(4096)..];
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().take(MOST_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_goes_on_from_its_prompt_or_stands_alone() {
        let prompt = "from math import sqrt\n\ndef f(x):\n    \"\"\"Double.\"\"\"\n";
        let suite = Suite::from_check(prompt, "def check(candidate): pass", "f");
        let program = program_of("    return 2 * x\n\nprint(f(1))\n", &suite).unwrap();
        assert_eq!(program, format!("{prompt}    return 2 * x\n\n"));
        let alone = "```python\ndef f(x):\n    return x + x\n```";
        let program = program_of(alone, &suite).unwrap();
        assert!(program.starts_with(prompt) && program.ends_with("return x + x\n"), "{program}");
        assert_eq!(program_of("", &suite), None);
    }

    #[test]
    fn last_words_are_short_and_of_the_last_line() {
        assert_eq!(last_words(b"Traceback\n  File\nNameError: x\n\n"), "NameError: x");
        assert_eq!(last_words(b""), "");
        assert_eq!(last_words("é".repeat(9000).as_bytes()).chars().count(), MOST_DETAIL);
    }
}
