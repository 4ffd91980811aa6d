//! `bstar grade`: verdicts on answers that lie in files.
//!
//! Rows go out in the order in which they came in, each with `verdict`, `extracted` and `reason`
//! added (for programs also `sandbox`, the level at which they ran, and `detail`, where a test failed).
//! A row that cannot be read is named and does not stop the rest.

use crate::cli::GradeArgs;
use crate::countdown::Countdown;
use crate::grading::{Graded, Grader, Ungraded};
use crate::output::{self, Notes};
use bstar_core::event::VerdictCounts;
use bstar_core::{Fault, FaultClass, Verdict};
use bstar_store::rollout_file::RolloutFileError;
use bstar_table::{Lines, TableError};
use rayon::prelude::*;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Rows that are graded side by side: answers are quick, programs are not.
const ANSWERS_AT_ONCE: usize = 4096;
const PROGRAMS_AT_ONCE: usize = 64;

/// Unreadable rows that are named one by one.
const MOST_NAMED: u64 = 20;

/// What has been seen so far.
#[derive(Default)]
struct Tally {
    counts: VerdictCounts,
    reasons: BTreeMap<&'static str, u64>,
    unreadable: u64,
}

/// Grades and prints.
pub(crate) fn grade(args: &GradeArgs, notes: Notes) -> Result<(), Fault> {
    let began = Instant::now();
    let grader = Grader::new(&args.grading)?;
    if let Some(judge) = grader.judge() {
        let (python, level) = (judge.python(), judge.level());
        notes.tell(&format!("Python {} in a sandbox: {level}", python.version));
    }
    let at_once = if grader.judge().is_some() { PROGRAMS_AT_ONCE } else { ANSWERS_AT_ONCE };
    let mut tally = Tally::default();
    let mut countdown = Countdown::over_files(&args.files, notes);
    for path in &args.files {
        let mut lines = Lines::open(path).map_err(unreadable_file)?;
        loop {
            let rows = next_rows(&mut lines, at_once)?;
            if rows.is_empty() {
                break;
            }
            let results: Vec<_> =
                rows.par_iter().map(|(line, text)| (*line, grade_line(&grader, text))).collect();
            let mut out = String::new();
            for (line, result) in results {
                match result {
                    Ok((verdict, reason, text)) => {
                        tally.counts.add(verdict);
                        *tally.reasons.entry(reason).or_default() += 1;
                        out.push_str(&text);
                        out.push('\n');
                    }
                    Err(Ungraded::Unreadable(why)) => {
                        tally.unreadable += 1;
                        name(path, line, &why, tally.unreadable, notes);
                    }
                    Err(Ungraded::Broken(fault)) => {
                        output::print(&out)?;
                        return Err(fault);
                    }
                }
            }
            output::print(&out)?;
            countdown.rows(rows.iter().map(|(_, text)| text.len() + 1).sum(), rows.len());
        }
    }
    tally.tell(began, notes)
}

impl Tally {
    fn tell(&self, began: Instant, notes: Notes) -> Result<(), Fault> {
        let VerdictCounts { correct, incorrect, no_answer, ungradable } = self.counts;
        let all = self.counts.total();
        let seconds = began.elapsed().as_secs_f64();
        notes.tell(&format!(
            "{all} rows graded in {seconds:.1} s: {correct} correct, {incorrect} incorrect, \
             {no_answer} without an answer, {ungradable} ungradable"
        ));
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), **reason));
        let told = reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
        if all > 0 {
            notes.tell(&format!("by reason: {}", told.collect::<Vec<_>>().join(", ")));
        }
        if self.unreadable == 0 {
            return Ok(());
        }
        let count = self.unreadable;
        let message = format!("{count} rows could not be read; the others are graded");
        Err(Fault::new(FaultClass::Data, message).hint(
            "a row is a JSON object with the answer and the gold answer as text (`--pred`, \
             `--gold`), or a program and its tests (`--pred`, `--tests`)",
        ))
    }
}

/// Names a row that cannot be read; after many, only counts.
pub(crate) fn name(path: &Path, line: u64, why: &str, count: u64, notes: Notes) {
    if count <= MOST_NAMED {
        notes.tell(&format!("{}:{line}: {why}", path.display()));
    }
    if count == MOST_NAMED {
        notes.tell("more rows that cannot be read are counted only");
    }
}

pub(crate) fn unreadable_file(error: TableError) -> Fault {
    RolloutFileError::Table(error).into()
}

/// The next lines with their numbers; none at the end.
pub(crate) fn next_rows(lines: &mut Lines, most: usize) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
    let mut rows = Vec::new();
    while rows.len() < most {
        match lines.next_bytes().map_err(unreadable_file)? {
            Some((line, bytes)) => rows.push((line, bytes.to_owned())),
            None => break,
        }
    }
    Ok(rows)
}

/// A line as a row.
pub(crate) fn parse_row(line: &[u8]) -> Result<Map<String, Value>, Ungraded> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let byte = error.valid_up_to() + 1;
        Ungraded::Unreadable(format!("text is not UTF-8 at byte {byte}"))
    })?;
    serde_json::from_str(text)
        .map_err(|error| Ungraded::Unreadable(format!("broken JSON: {error}")))
}

/// A row with what was found added.
fn grade_line(grader: &Grader, line: &[u8]) -> Result<(Verdict, &'static str, String), Ungraded> {
    let mut row = parse_row(line)?;
    let Graded { grade, detail } = grader.grade(&row)?;
    row.insert("verdict".into(), serde_json::to_value(grade.verdict).expect("a word"));
    row.insert("extracted".into(), grade.answer.into());
    row.insert("reason".into(), grade.reason.into());
    row.remove("detail");
    if let Some(detail) = detail {
        row.insert("detail".into(), detail.into());
    }
    if let Some(judge) = grader.judge() {
        row.insert("sandbox".into(), judge.level().to_string().into());
    }
    Ok((grade.verdict, grade.reason, Value::Object(row).to_string()))
}
