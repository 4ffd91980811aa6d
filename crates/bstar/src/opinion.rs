//! A checker of the user's own, as a process: asked row by row, stopped when it hangs.
//!
//! The command is trusted like the shell it is typed into. It is started once and kept; where it
//! does not answer in time, or ends, that row has no opinion, and it is started again for the next.

use bstar_core::{Fault, FaultClass};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long a row may take; the first row also waits for the command to start.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PATIENCE: Duration = Duration::from_mins(1);

/// Restarts after which the command is given up.
const MOST_RESTARTS: u64 = 100;

/// What somebody else says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opinion {
    Correct,
    NotCorrect,
    /// Nothing.
    Unknown,
}

impl Opinion {
    /// What a JSON value says: a flag, 0 or 1, a verdict, or null for nothing.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let flag = |correct| Some(if correct { Self::Correct } else { Self::NotCorrect });
        match value {
            Value::Null => Some(Self::Unknown),
            Value::Bool(correct) => flag(*correct),
            Value::Number(number) => match number.as_f64() {
                Some(0.0) => flag(false),
                Some(1.0) => flag(true),
                _ => None,
            },
            Value::String(word) => match word.to_ascii_lowercase().as_str() {
                "correct" | "true" => flag(true),
                "incorrect" | "false" | "no_answer" => flag(false),
                "ungradable" => Some(Self::Unknown),
                _ => None,
            },
            Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// A running command.
pub(crate) struct External {
    command: String,
    process: Option<Process>,
    hung: u64,
    any: bool,
}

struct Process {
    child: Child,
    rows: ChildStdin,
    lines: Receiver<String>,
    is_fresh: bool,
}

impl External {
    /// Starts the command.
    pub(crate) fn start(command: &str) -> Result<Self, Fault> {
        let process = Some(Process::start(command)?);
        Ok(Self { command: command.to_owned(), process, hung: 0, any: false })
    }

    /// How often it did not answer.
    pub(crate) fn hung(&self) -> u64 {
        self.hung
    }

    /// What it says of an answer; nothing where it says `null`, hangs or ends.
    pub(crate) fn opinion(&mut self, pred: &str, gold: &str) -> Result<Opinion, Fault> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(&self.command)?,
        };
        let Some(line) = process.ask(pred, gold) else {
            drop(process);
            self.hung += 1;
            if !self.any || self.hung > MOST_RESTARTS {
                let message = format!("`{}` does not answer", self.command);
                return Err(Fault::new(FaultClass::Usage, message).hint(
                    "it must write one line for each line it reads, and flush it: `true`, `false` \
                     or `null`",
                ));
            }
            return Ok(Opinion::Unknown);
        };
        self.process = Some(process);
        self.any = true;
        let value = serde_json::from_str(&line).ok();
        value.as_ref().and_then(Opinion::of).ok_or_else(|| {
            let message = format!("`{}` wrote {line:?}", self.command);
            Fault::new(FaultClass::Usage, message)
                .hint("it must write `true`, `false` or `null` on a line for each row")
        })
    }
}

impl Process {
    fn start(command: &str) -> Result<Self, Fault> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let mut child = shell.spawn().map_err(|error| {
            Fault::new(FaultClass::Usage, format!("cannot start `{command}`")).because(error)
        })?;
        let rows = child.stdin.take().expect("its input is a pipe");
        let output = child.stdout.take().expect("its output is a pipe");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, rows, lines, is_fresh: true })
    }

    fn ask(&mut self, pred: &str, gold: &str) -> Option<String> {
        // A line that nobody asked for would shift every opinion after it.
        if let Ok(line) = self.lines.try_recv() {
            // Neither of these is an opinion; a line that is none says more about what is wrong.
            let is_opinion = ["true", "false", "null"].contains(&line.trim());
            return Some(if is_opinion { "more lines than rows".to_owned() } else { line });
        }
        let row = json!({"pred": pred, "gold": gold});
        writeln!(self.rows, "{row}").and_then(|()| self.rows.flush()).ok()?;
        let patience = if self.is_fresh { FIRST_PATIENCE } else { PATIENCE };
        self.is_fresh = false;
        self.lines.recv_timeout(patience).ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The whole group: a shell would leave its children behind. It may be gone already.
        #[cfg(unix)]
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opinions_are_flags_or_verdicts() {
        for (text, expected) in [
            ("true", Some(Opinion::Correct)),
            ("0", Some(Opinion::NotCorrect)),
            ("\"Correct\"", Some(Opinion::Correct)),
            ("\"no_answer\"", Some(Opinion::NotCorrect)),
            ("null", Some(Opinion::Unknown)),
            ("2", None),
            ("\"maybe\"", None),
            ("[]", None),
        ] {
            assert_eq!(Opinion::of(&serde_json::from_str(text).unwrap()), expected, "{text}");
        }
    }
}
