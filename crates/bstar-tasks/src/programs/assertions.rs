//! Tests in Python: they run in a process of their own, the program in another, pipes between them.

use super::source::prelude_of_tests;
use super::{CHECK, Judge, Outcome, ProgramsError, SERVE, environment, failure, last_words, pipe};
use bstar_core::Verdict;
use bstar_sandbox::{Ended, Program, Report};

/// Exit codes of `check.py`.
const PASSED: i32 = 40;
const FAILED: i32 = 41;
const RAISED: i32 = 42;
const ENDED: i32 = 43;

/// Runs all tests.
pub(super) fn run(
    judge: &Judge,
    program: &str,
    setup: &str,
    tests: &str,
    entry_point: Option<&str>,
) -> Result<Outcome, ProgramsError> {
    let (requests_in, requests_out) = pipe()?;
    let (replies_in, replies_out) = pipe()?;
    let candidate = Program {
        descriptors: vec![(requests_in, 3), (replies_out, 4)],
        ..judge.candidate(SERVE, program, &["3", "4"])
    };
    let entry_point = entry_point.unwrap_or_default();
    let setup = format!("{}{setup}", prelude_of_tests(tests));
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let checker = Program {
        files: vec![file("check.py", CHECK), file("setup.py", &setup), file("tests.py", tests)],
        descriptors: vec![(requests_out, 3), (replies_in, 4)],
        limits: judge.limits.clone(),
        env: environment(),
        ..Program::new(judge.python.command("check.py", &["3", "4", entry_point]))
    };
    let reports = judge.sandbox.run_together(vec![candidate, checker])?;
    let [candidate, checker] = &reports[..] else {
        unreachable!("a group has a report for each of its programs")
    };
    Ok(outcome(candidate, checker))
}

/// What the reports of program and checker say together.
fn outcome(candidate: &Report, checker: &Report) -> Outcome {
    let words = last_words(&checker.stderr);
    match checker.ended {
        Ended::Code(PASSED) if checker.struck.is_none() => Outcome::passed(),
        Ended::Code(FAILED) => Outcome::failed("wrong output", words),
        Ended::Code(RAISED) if words.starts_with("MemoryError") => {
            Outcome::failed("memory limit", words)
        }
        Ended::Code(RAISED) => Outcome::failed("exception", words),
        Ended::Code(ENDED) => {
            let (reason, detail) = failure(candidate);
            Outcome::failed(reason, detail)
        }
        // The checker waits while the program computes, so both meet the clock.
        _ if checker.struck.is_some() => {
            let (reason, detail) = failure(checker);
            Outcome::failed(reason, detail)
        }
        _ => Outcome {
            verdict: Verdict::Ungradable,
            reason: "tests cannot run",
            detail: Some(words),
        },
    }
}
