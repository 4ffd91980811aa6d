//! `bstar grade`: verdicts on answers that lie in files.
//!
//! Rows go out in the order in which they came in, each with `verdict`, `extracted` and `reason`
//! added. A row that cannot be read is named and does not stop the rest.

use crate::cli::{AnswerKind, GradeArgs};
use crate::output::{self, Notes};
use bstar_core::event::VerdictCounts;
use bstar_core::{Fault, FaultClass, Verdict};
use bstar_store::rollout_file::RolloutFileError;
use bstar_table::{Lines, TableError};
use bstar_verify::math::{self, Options, Reason};
use bstar_verify::{Rule, Sameness, Verifier, choice, extract};
use rayon::prelude::*;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Instant;

/// Rows that are graded side by side.
const ROWS_AT_ONCE: usize = 4096;

/// Unreadable rows that are named one by one.
const MOST_NAMED: u64 = 20;

/// What was found of one answer.
struct Graded {
    verdict: Verdict,
    extracted: Option<String>,
    reason: &'static str,
}

/// Grades and prints.
pub(crate) fn grade(args: &GradeArgs, notes: Notes) -> Result<(), Fault> {
    let began = Instant::now();
    let mut counts = VerdictCounts::default();
    let mut unreadable = 0;
    for path in &args.files {
        let mut lines = Lines::open(path).map_err(unreadable_file)?;
        loop {
            let rows = next_rows(&mut lines)?;
            if rows.is_empty() {
                break;
            }
            let graded: Vec<_> =
                rows.par_iter().map(|(line, text)| (*line, grade_line(args, text))).collect();
            let mut out = String::new();
            for (line, result) in graded {
                match result {
                    Ok((verdict, text)) => {
                        counts.add(verdict);
                        out.push_str(&text);
                        out.push('\n');
                    }
                    Err(why) => {
                        unreadable += 1;
                        name(path, line, &why, unreadable, notes);
                    }
                }
            }
            output::print(&out)?;
        }
    }
    summarize(&counts, unreadable, began, notes)
}

fn summarize(
    counts: &VerdictCounts,
    unreadable: u64,
    began: Instant,
    notes: Notes,
) -> Result<(), Fault> {
    let VerdictCounts { correct, incorrect, no_answer, ungradable } = *counts;
    let all = correct + incorrect + no_answer + ungradable;
    let seconds = began.elapsed().as_secs_f64();
    notes.tell(&format!(
        "{all} rows graded in {seconds:.1} s: {correct} correct, {incorrect} incorrect, {no_answer} \
         without an answer, {ungradable} ungradable"
    ));
    if unreadable == 0 {
        return Ok(());
    }
    let message = format!("{unreadable} rows could not be read; the others are graded");
    Err(Fault::new(FaultClass::Data, message)
        .hint("a row is a JSON object with the answer and the gold answer as text: --pred, --gold"))
}

fn name(path: &Path, line: u64, why: &str, count: u64, notes: Notes) {
    if count <= MOST_NAMED {
        notes.tell(&format!("{}:{line}: {why}", path.display()));
    }
    if count == MOST_NAMED {
        notes.tell("more rows that cannot be read are counted only");
    }
}

fn unreadable_file(error: TableError) -> Fault {
    RolloutFileError::Table(error).into()
}

/// The next lines with their numbers; none at the end.
fn next_rows(lines: &mut Lines) -> Result<Vec<(u64, String)>, Fault> {
    let mut rows = Vec::new();
    while rows.len() < ROWS_AT_ONCE {
        match lines.next_line().map_err(unreadable_file)? {
            Some((line, text)) => rows.push((line, text.to_owned())),
            None => break,
        }
    }
    Ok(rows)
}

/// A row with what was found added, or why it cannot be read.
fn grade_line(args: &GradeArgs, text: &str) -> Result<(Verdict, String), String> {
    let mut row: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("broken JSON: {error}"))?;
    let gold = text_of(&row, &args.gold)?;
    let pred = text_of(&row, &args.pred)?;
    let Graded { verdict, extracted, reason } = grade_answer(args, &pred, &gold);
    row.insert("verdict".into(), serde_json::to_value(verdict).expect("a word"));
    row.insert("extracted".into(), extracted.into());
    row.insert("reason".into(), reason.into());
    Ok((verdict, Value::Object(row).to_string()))
}

fn text_of(row: &Map<String, Value>, column: &str) -> Result<String, String> {
    match row.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ Value::Number(_)) => Ok(value.to_string()),
        Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(format!("`{column}` holds neither text nor a number")),
        None => Err(format!("no `{column}`")),
    }
}

fn grade_answer(args: &GradeArgs, pred: &str, gold: &str) -> Graded {
    if gold.trim().is_empty() {
        return Graded { verdict: Verdict::Ungradable, extracted: None, reason: "no gold answer" };
    }
    match args.kind {
        AnswerKind::Math => grade_math(pred, gold, args.strict),
        AnswerKind::Number => {
            let marked = [Rule::Boxed, Rule::AfterLast("####".into()), Rule::AnswerIs];
            let rules =
                [&marked[..], &[Rule::AfterLast("# Answer".into()), Rule::LastNumber]].concat();
            let gold = extract(gold, &marked).unwrap_or(gold);
            by_verifier(Verifier::Number, extract(pred, &rules), gold)
        }
        AnswerKind::Choice => {
            let rules = [Rule::FinalAnswerLetter, Rule::Boxed, Rule::AnswerIs];
            let letter = choice::parse(pred).map(|_| pred.trim());
            by_verifier(Verifier::Choice, letter.or_else(|| extract(pred, &rules)), gold)
        }
        AnswerKind::Exact => {
            let text = Some(pred.trim()).filter(|text| !text.is_empty());
            by_verifier(Verifier::Exact, text, gold)
        }
    }
}

/// The answer as a whole, or else what a reader would take for the answer in it.
fn grade_math(pred: &str, gold: &str, strict: bool) -> Graded {
    let options = if strict { Options::STRICT } else { Options::default() };
    let whole = math::judge(pred, gold, &options);
    if whole.sameness == Sameness::Same {
        let extracted = Some(pred.trim().to_owned());
        return Graded { verdict: Verdict::Correct, extracted, reason: whole.reason.name() };
    }
    let Some(answer) = math::answer::find(pred) else {
        let verdict = Verdict::NoAnswer;
        return Graded { verdict, extracted: None, reason: "no answer found" };
    };
    let gold = math::answer::find(gold).unwrap_or_else(|| gold.to_owned());
    let judgement = math::judge(&answer, &gold, &options);
    let verdict = match (judgement.sameness, judgement.reason) {
        (Sameness::Same, _) => Verdict::Correct,
        (Sameness::Different, _) => Verdict::Incorrect,
        (Sameness::CannotTell, Reason::Empty) => Verdict::NoAnswer,
        (Sameness::CannotTell, _) => Verdict::Ungradable,
    };
    Graded { verdict, extracted: Some(answer), reason: judgement.reason.name() }
}

fn by_verifier(verifier: Verifier, answer: Option<&str>, gold: &str) -> Graded {
    let Some(answer) = answer else {
        return Graded { verdict: Verdict::NoAnswer, extracted: None, reason: "no answer found" };
    };
    let (verdict, reason) = match verifier.compare(answer, gold) {
        Sameness::Same => (Verdict::Correct, "the same answer"),
        Sameness::Different => (Verdict::Incorrect, "different value"),
        Sameness::CannotTell => (Verdict::Ungradable, "cannot parse"),
    };
    Graded { verdict, extracted: Some(answer.to_owned()), reason }
}
