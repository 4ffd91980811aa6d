//! Tests by calls of a function: one process for all cases, arguments and results over pipes.

use super::output::same_result;
use super::{CallCase, Judge, Outcome, ProgramsError, SERVE, failure, pipe};
use bstar_sandbox::Program;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;

/// Bytes of one reply that are read.
const LONGEST_REPLY: u64 = 4 << 20;

/// Why a conversation with a program ended before all cases passed.
enum Stopped {
    /// The program answered, and wrongly.
    Failed { reason: &'static str, detail: String },
    /// It stopped answering: its report tells why.
    Silent,
}

/// Calls the function with the arguments of each case, up to the first that fails.
pub(super) fn run(
    judge: &Judge,
    program: &str,
    function: &str,
    cases: &[CallCase],
) -> Result<Outcome, ProgramsError> {
    let (requests_in, requests) = pipe()?;
    let (replies, replies_out) = pipe()?;
    let candidate = Program {
        descriptors: vec![(requests_in, 3), (replies_out, 4)],
        ..judge.candidate(SERVE, program, &["3", "4"])
    };
    let (talk, report) = std::thread::scope(|scope| {
        let talk = scope.spawn(move || talk(requests, replies, function, cases));
        let report = judge.sandbox.run(candidate);
        (talk.join().expect("a conversation does not panic"), report)
    });
    let report = report?;
    Ok(match talk {
        Ok(()) => Outcome::passed(),
        Err(Stopped::Failed { reason, detail }) => Outcome::failed(reason, detail),
        Err(Stopped::Silent) => {
            let (reason, detail) = failure(&report);
            Outcome::failed(reason, detail)
        }
    })
}

/// Asks for every case. Dropping the pipes at the end tells the driver to end.
fn talk(
    requests: OwnedFd,
    replies: OwnedFd,
    function: &str,
    cases: &[CallCase],
) -> Result<(), Stopped> {
    let mut driver =
        Driver { requests: File::from(requests), replies: BufReader::new(File::from(replies)) };
    // The program itself is run first, and the driver says when that is done.
    driver.reply("")?;
    let found = driver.ask(&json!({"do": "find", "name": function}), "")?;
    let Some(target) = found.get("object") else {
        let detail = format!("the program defines no function `{function}`");
        return Err(Stopped::Failed { reason: "exception", detail });
    };
    for (number, case) in (1..).zip(cases) {
        let result = driver.ask(&call(target, case), &format!("test {number}: "))?;
        if !same_result(&result, &case.expected) {
            let detail = format!("test {number}");
            return Err(Stopped::Failed { reason: "wrong output", detail });
        }
    }
    Ok(())
}

/// `serve.py` in its process.
struct Driver {
    requests: File,
    replies: BufReader<File>,
}

impl Driver {
    fn ask(&mut self, request: &Value, place: &str) -> Result<Value, Stopped> {
        let line = format!("{request}\n");
        self.requests.write_all(line.as_bytes()).map_err(|_| Stopped::Silent)?;
        self.reply(place)
    }

    /// The value of the next reply; `place` stands before the exception that it may tell of.
    fn reply(&mut self, place: &str) -> Result<Value, Stopped> {
        let mut line = Vec::new();
        let mut limited = self.replies.by_ref().take(LONGEST_REPLY);
        limited.read_until(b'\n', &mut line).map_err(|_| Stopped::Silent)?;
        if line.len() as u64 == LONGEST_REPLY {
            let detail = format!("{place}a result of more than {LONGEST_REPLY} bytes");
            return Err(Stopped::Failed { reason: "output limit", detail });
        }
        let mut reply: Map<String, Value> =
            serde_json::from_slice(&line).map_err(|_| Stopped::Silent)?;
        if let Some(error) = reply.get("error") {
            let error = error.as_str().unwrap_or_default();
            let message = reply.get("message").and_then(Value::as_str).unwrap_or_default();
            let reason = if error == "MemoryError" { "memory limit" } else { "exception" };
            return Err(Stopped::Failed { reason, detail: format!("{place}{error}: {message}") });
        }
        reply.remove("value").ok_or(Stopped::Silent)
    }
}

fn call(target: &Value, case: &CallCase) -> Value {
    let arguments: Vec<Value> = case.arguments.iter().map(argument).collect();
    json!({"do": "call", "object": target, "arguments": arguments, "keywords": {}})
}

/// An argument as the driver reads it. Keys that are whole numbers become numbers: JSON has no such
/// keys, and the authors of the rows meant them.
fn argument(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(argument).collect(),
        Value::Object(fields) => {
            let whole: Option<Vec<i64>> = fields.keys().map(|key| key.parse().ok()).collect();
            let pair = |(index, (key, value)): (usize, (&String, &Value))| match &whole {
                Some(numbers) => json!([numbers[index], argument(value)]),
                None => json!([key, argument(value)]),
            };
            let pairs: Vec<Value> = fields.iter().enumerate().map(pair).collect();
            json!({ "dict": pairs })
        }
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_become_dictionaries() {
        let value = json!([{"1": {"a": [2]}}, "x", null]);
        assert_eq!(argument(&value), json!([{"dict": [[1, {"dict": [["a", [2]]]}]]}, "x", null]));
    }
}
