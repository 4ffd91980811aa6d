//! `bstar audit`: our verdicts beside a second opinion.
//!
//! A verdict is only as good as its checker. Two checkers that err in different ways show each
//! other's mistakes: this counts where they differ, estimates how many right answers we miss if the
//! other is right, and shows the cases that matter most.

use crate::cli::{AnswerKind, AuditArgs, SecondCheck};
use crate::commands::grade::{name, next_rows, parse_row, unreadable_file};
use crate::countdown::Countdown;
use crate::grading::{Grader, Ungraded};
use crate::opinion::{External, Opinion};
use crate::output::{self, Notes};
use bstar_core::{Fault, FaultClass, Grade, Verdict};
use bstar_report::{Align, Table};
use bstar_table::Lines;
use bstar_verify::math::{self, Options};
use bstar_verify::{Sameness, Verifier};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rows that are graded side by side.
const ROWS_AT_ONCE: usize = 1024;

/// Characters of an answer in the table of examples.
const MOST_SHOWN: usize = 40;

/// A row with both opinions.
struct Compared {
    pred: String,
    gold: String,
    extracted: Option<String>,
    reason: &'static str,
    ours: Verdict,
    second: Opinion,
}

/// A kind of disagreement: the same pair, as often as it was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Disagreement {
    pred: String,
    gold: String,
    extracted: Option<String>,
    ours: Verdict,
    reason: &'static str,
    second: bool,
    rows: u64,
}

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Audit {
    rows: u64,
    unreadable: u64,
    /// Rows on which the second opinion has none.
    no_opinion: u64,
    both_correct: u64,
    both_not_correct: u64,
    /// Correct for the second opinion alone: what we miss, if it is right.
    second_only: u64,
    /// Correct for us alone: what we wrongly accept, if it is right.
    ours_only: u64,
    agreement: Option<f64>,
    /// Share of the second opinion's correct answers that we do not accept, with its 95 % interval.
    false_negatives: Option<[f64; 3]>,
    /// Share of our correct answers that the second opinion does not accept, likewise.
    false_positives: Option<[f64; 3]>,
    disagreements: Vec<Disagreement>,
}

/// Compares and prints.
pub(crate) fn audit(args: &AuditArgs, notes: Notes) -> Result<(), Fault> {
    check_kind(args)?;
    let grader = Grader::new(&args.grading)?;
    let mut external = match &args.second.command {
        Some(command) => Some(External::start(command)?),
        None => None,
    };
    let mut audit = Audit::default();
    let mut pairs = BTreeMap::new();
    let mut countdown = Countdown::over_files(std::slice::from_ref(&args.file), notes);
    let mut lines = Lines::open(&args.file).map_err(unreadable_file)?;
    loop {
        let rows = next_rows(&mut lines, ROWS_AT_ONCE)?;
        if rows.is_empty() {
            break;
        }
        let compared: Vec<_> =
            rows.par_iter().map(|(_, text)| compare(args, &grader, text)).collect();
        for ((line, text), compared) in rows.iter().zip(compared) {
            match compared {
                Ok(mut compared) => {
                    if let Some(external) = &mut external {
                        compared.second = external.opinion(&compared.pred, &compared.gold)?;
                    }
                    audit.add(compared, &mut pairs);
                }
                Err(Ungraded::Unreadable(why)) => {
                    audit.unreadable += 1;
                    name(&args.file, *line, &why, audit.unreadable, notes);
                }
                Err(Ungraded::Broken(fault)) => return Err(fault),
            }
            countdown.rows(text.len() + 1, 1);
        }
    }
    audit.finish(pairs);
    if let Some(hung) = external.map(|external| external.hung()).filter(|hung| *hung > 0) {
        notes.tell(&format!("the command hung or ended {hung} times and was started again"));
    }
    if args.json {
        output::print_json(&audit)?;
    } else {
        output::print(&audit.told(args.examples))?;
    }
    match audit.unreadable {
        0 => Ok(()),
        count => {
            let message = format!("{count} rows could not be read; the others are compared");
            Err(Fault::new(FaultClass::Data, message).hint("see what `bstar grade` needs of a row"))
        }
    }
}

/// Refuses a second opinion that says nothing about this kind of answer.
fn check_kind(args: &AuditArgs) -> Result<(), Fault> {
    let is_text = !matches!(args.grading.kind, AnswerKind::Code | AnswerKind::Game24);
    let problem = match args.second.against {
        Some(_) if !is_text => "`--against` compares answers that are text",
        Some(SecondCheck::OtherStrictness) if args.grading.kind != AnswerKind::Math => {
            "only `--kind math` has a strictness"
        }
        _ => return Ok(()),
    };
    Err(Fault::new(FaultClass::Usage, problem).hint("give `--label` or `--command` instead"))
}

fn compare(args: &AuditArgs, grader: &Grader, line: &[u8]) -> Result<Compared, Ungraded> {
    let row = parse_row(line)?;
    let (pred, gold) = grader.texts(&row).map_err(Ungraded::Unreadable)?;
    let Grade { answer, verdict, reason } = grader.grade(&row)?.grade;
    let second = match (&args.second.label, args.second.against) {
        (Some(column), _) => label(&row, column).map_err(Ungraded::Unreadable)?,
        (None, Some(check)) => {
            let answer = answer.as_deref().unwrap_or_default();
            let accepts = !answer.is_empty() && accepts(check, args.grading.strict, answer, &gold);
            if accepts { Opinion::Correct } else { Opinion::NotCorrect }
        }
        (None, None) => Opinion::Unknown,
    };
    Ok(Compared { pred, gold, extracted: answer, reason, ours: verdict, second })
}

fn accepts(check: SecondCheck, strict: bool, answer: &str, gold: &str) -> bool {
    let sameness = match check {
        SecondCheck::Exact => Verifier::Exact.compare(answer, gold),
        SecondCheck::Number => Verifier::Number.compare(answer, gold),
        SecondCheck::OtherStrictness => {
            let options = if strict { Options::default() } else { Options::STRICT };
            math::judge(answer, gold, &options).sameness
        }
    };
    sameness == Sameness::Same
}

/// An opinion in a column; null is none.
fn label(row: &Map<String, Value>, column: &str) -> Result<Opinion, String> {
    match row.get(column) {
        None => Err(format!("no `{column}`")),
        Some(value) => Opinion::of(value)
            .ok_or_else(|| format!("`{column}` holds {value}, expected true, false or a verdict")),
    }
}

type Pairs = BTreeMap<(String, String, bool), Disagreement>;

impl Audit {
    fn add(&mut self, row: Compared, pairs: &mut Pairs) {
        self.rows += 1;
        let second = match row.second {
            Opinion::Correct => true,
            Opinion::NotCorrect => false,
            Opinion::Unknown => {
                self.no_opinion += 1;
                return;
            }
        };
        match (row.ours.is_correct(), second) {
            (true, true) => self.both_correct += 1,
            (false, false) => self.both_not_correct += 1,
            (false, true) => self.second_only += 1,
            (true, false) => self.ours_only += 1,
        }
        if row.ours.is_correct() != second {
            let Compared { pred, gold, extracted, reason, ours, .. } = row;
            let key = (pred.clone(), gold.clone(), second);
            pairs
                .entry(key)
                .or_insert(Disagreement { pred, gold, extracted, ours, reason, second, rows: 0 })
                .rows += 1;
        }
    }

    fn finish(&mut self, pairs: Pairs) {
        let agree = self.both_correct + self.both_not_correct;
        let judged = agree + self.second_only + self.ours_only;
        self.agreement = (judged > 0).then(|| agree as f64 / judged as f64);
        self.false_negatives = share(self.second_only, self.second_only + self.both_correct);
        self.false_positives = share(self.ours_only, self.ours_only + self.both_correct);
        self.disagreements = pairs.into_values().collect();
        self.disagreements.sort_by_key(|pair| std::cmp::Reverse(pair.rows));
    }

    fn told(&self, examples: usize) -> String {
        let mut counts = Table::new(&[
            ("", Align::Left),
            ("second: correct", Align::Right),
            ("second: not correct", Align::Right),
        ]);
        let mut row = |name: &str, first: u64, second: u64| {
            counts.row([name.to_owned(), first.to_string(), second.to_string()]);
        };
        row("ours: correct", self.both_correct, self.ours_only);
        row("ours: not correct", self.second_only, self.both_not_correct);
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let interval = |share: Option<[f64; 3]>| match share {
            Some([share, low, high]) => {
                format!("{} (95 %: {} to {})", percent(share), percent(low), percent(high))
            }
            None => "unknown: no correct answer".to_owned(),
        };
        let mut told = counts.render();
        writeln!(
            told,
            "{} rows, {} without a second opinion; agreement {}\n\
             if the second opinion is right, we miss {} of the correct answers\n\
             and {} of what we accept is wrong",
            self.rows,
            self.no_opinion,
            self.agreement.map_or_else(|| "unknown".to_owned(), percent),
            interval(self.false_negatives),
            interval(self.false_positives),
        )
        .expect("a string takes every write");
        if self.disagreements.is_empty() || examples == 0 {
            return told;
        }
        let mut shown = Table::new(&[
            ("rows", Align::Right),
            ("gold", Align::Left),
            ("answer found", Align::Left),
            ("ours", Align::Left),
            ("second", Align::Left),
        ]);
        for pair in self.disagreements.iter().take(examples) {
            let answer = pair.extracted.as_deref().unwrap_or(&pair.pred);
            let second = if pair.second { "correct" } else { "not correct" };
            shown.row([
                pair.rows.to_string(),
                cut(&pair.gold),
                cut(answer),
                pair.reason.to_owned(),
                second.to_owned(),
            ]);
        }
        let (count, all) = (examples.min(self.disagreements.len()), self.disagreements.len());
        write!(told, "\n{count} of {all} kinds of disagreement:\n{}", shown.render())
            .expect("a string takes every write");
        told
    }
}

/// A text on one line, short enough for a table.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MOST_SHOWN {
        return line;
    }
    let start: String = line.chars().take(MOST_SHOWN - 1).collect();
    format!("{start}…")
}

/// A share with its 95 % interval (Wilson 1927); none of nothing.
fn share(count: u64, all: u64) -> Option<[f64; 3]> {
    const Z: f64 = 1.96;
    if all == 0 {
        return None;
    }
    let (n, p) = (all as f64, count as f64 / all as f64);
    let middle = p + Z * Z / (2.0 * n);
    let width = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some([p, ((middle - width) / scale).max(0.0), ((middle + width) / scale).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn an_interval_holds_its_share() {
        let [middle, low, high] = share(2, 10).unwrap();
        assert_eq!(middle, 0.2);
        assert!((low - 0.0567).abs() < 1e-3 && (high - 0.5098).abs() < 1e-3, "{low} {high}");
        assert_eq!(share(0, 0), None);
        let [middle, low, high] = share(0, 10).unwrap();
        assert!(middle == 0.0 && low == 0.0 && high > 0.2);
    }
}
