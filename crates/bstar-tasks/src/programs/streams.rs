//! Tests by standard input and output: one run of the program for each case.

use super::output::same_text;
use super::{Judge, MAIN, Outcome, ProgramsError, StreamCase, failure};
use bstar_sandbox::{Ended, Program};

/// All cases together may take as long as this many that use up their time.
const MOST_CASES_OF_FULL_TIME: u32 = 20;

/// Runs the cases in order, up to the first that fails.
pub(super) fn run(
    judge: &Judge,
    program: &str,
    cases: &[StreamCase],
) -> Result<Outcome, ProgramsError> {
    let mut left = judge.limits.wall * MOST_CASES_OF_FULL_TIME;
    for (number, case) in (1..).zip(cases) {
        if left.is_zero() {
            return Ok(Outcome::failed("time limit", format!("before test {number}, in all")));
        }
        let stdin = case.input.as_bytes().to_vec();
        let report = judge.sandbox.run(Program { stdin, ..judge.candidate(MAIN, program, &[]) })?;
        left = left.saturating_sub(report.wall);
        // A program that ends with an error has not solved the problem, whatever it printed.
        if report.struck.is_some() || report.ended != Ended::Code(0) {
            let (reason, detail) = failure(&report);
            return Ok(Outcome::failed(reason, format!("test {number}: {detail}")));
        }
        let printed = String::from_utf8_lossy(&report.stdout);
        if !same_text(&printed, &case.output) {
            return Ok(Outcome::failed("wrong output", format!("test {number}")));
        }
    }
    Ok(Outcome::passed())
}
