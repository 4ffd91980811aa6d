//! Planned against actual: the same lines of a plan and of what a run has spent, or all runs of a
//! comparison together.

use super::table::{bytes, duration, quantity};
use super::{Plan, TIMED};
use bstar_core::plan::{Purpose, Span};
use bstar_report::{Actual, ActualFor, Align, Table};
use serde::Serialize;
use std::fmt::Write as _;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Responses.
    Responses,
    /// Generated tokens.
    Generated,
    /// Optimizer steps.
    Steps,
    /// Response tokens that losses were taken over.
    Learned,
    /// Time.
    Seconds,
    /// On disk.
    Bytes,
}

/// A line of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    /// What for.
    pub(crate) what: String,
    /// What of it.
    pub(crate) unit: Unit,
    /// As planned.
    pub(crate) planned: Span,
    /// As it was.
    pub(crate) actual: f64,
    /// Planned as a multiple of actual; none where nothing was spent.
    pub(crate) ratio: Option<f64>,
}

impl Line {
    fn new(what: impl Into<String>, unit: Unit, planned: Span, actual: f64) -> Self {
        let ratio = (actual > 0.0).then(|| planned.expected / actual);
        Self { what: what.into(), unit, planned, actual, ratio }
    }
}

/// Every line of which either side has something.
pub(crate) fn lines(plan: &Plan, spent: &Actual) -> Vec<Line> {
    let planned = |purposes: &[Purpose], of: &dyn Fn(&super::PurposePlan) -> Span| -> Span {
        plan.purposes.iter().filter(|row| purposes.contains(&row.purpose)).map(of).sum()
    };
    let mut lines = Vec::new();
    let all = Purpose::ALL.as_slice();
    // What validations generate is not on record.
    let is_recorded =
        |purpose: &Purpose| !matches!(purpose, Purpose::Validation | Purpose::Stretches);
    let recorded: Vec<Purpose> = all.iter().copied().filter(is_recorded).collect();
    let mut add = |what: String, purposes: &[Purpose], recorded: &[Purpose]| {
        let mut push =
            |unit, of: &dyn Fn(&super::PurposePlan) -> Span, on: fn(&ActualFor) -> f64| {
                let purposes = if unit == Unit::Generated { recorded } else { purposes };
                lines.push(Line::new(
                    what.clone(),
                    unit,
                    planned(purposes, of),
                    spent.sum(purposes, on),
                ));
            };
        push(Unit::Responses, &|row| row.responses, |on| on.responses);
        push(Unit::Generated, &|row| row.tokens.generated, |on| on.generated);
        push(Unit::Steps, &|row| row.steps, |on| on.steps);
        push(Unit::Learned, &|row| row.tokens.learned, |on| on.learned);
        push(Unit::Seconds, &|row| row.seconds, |on| on.seconds);
    };
    for purposes in TIMED {
        let is_there = |purpose: &&Purpose| {
            let planned = plan.purposes.iter().any(|row| row.purpose == **purpose);
            planned || spent.on.contains_key(*purpose)
        };
        let names: Vec<&str> =
            purposes.iter().filter(is_there).map(|purpose| purpose.name()).collect();
        let known: Vec<Purpose> =
            purposes.iter().copied().filter(|purpose| recorded.contains(purpose)).collect();
        add(names.join(", "), purposes, &known);
    }
    add("in all".into(), all, &recorded);
    let disk = &plan.disk;
    for (what, planned, actual) in [
        ("checkpoints", Span::same(disk.checkpoints), spent.disk.checkpoints),
        ("reward models", Span::same(disk.reward_models), spent.disk.reward_models),
        ("rollouts", disk.rollouts, spent.disk.rollouts),
        ("events", disk.events, spent.disk.events),
        ("disk in all", disk.total(), spent.disk.total()),
    ] {
        lines.push(Line::new(what, Unit::Bytes, planned, actual));
    }
    lines.retain(|line| line.planned.most > 0.0 || line.actual > 0.0);
    lines
}

/// The lines as a table.
pub(crate) fn render(lines: &[Line]) -> String {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("of it", Align::Left),
        ("planned", Align::Right),
        ("actual", Align::Right),
        ("planned / actual", Align::Right),
    ]);
    for line in lines {
        let (name, show): (&str, fn(f64) -> String) = match line.unit {
            Unit::Responses => ("responses", quantity),
            Unit::Generated => ("generated tokens", quantity),
            Unit::Steps => ("steps", quantity),
            Unit::Learned => ("learned tokens", quantity),
            Unit::Seconds => ("time", duration),
            Unit::Bytes => ("bytes", bytes),
        };
        table.row([
            line.what.clone(),
            name.to_owned(),
            super::table::span(line.planned, show),
            show(line.actual),
            line.ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    table.render()
}

/// What the next plan of such a run can be given, as flags. With an accuracy goal, P_0 was made
/// `starts` times; without one its steps are no question.
pub(crate) fn shown(spent: &Actual, starts: Option<usize>) -> String {
    let of = |purpose| spent.on.get(&purpose).copied().unwrap_or_default();
    let (start, draw) = (of(Purpose::Supervised), of(Purpose::Draw));
    let mut flags = String::new();
    if let Some(starts) = starts.filter(|starts| *starts > 0 && start.steps > 0.0) {
        let steps = start.steps / starts as f64;
        write!(flags, " --set plan.supervised_steps={steps:.0}").expect("text");
    }
    if draw.responses > 0.0 {
        let tokens = draw.generated / draw.responses;
        write!(flags, " --set plan.response_tokens={tokens:.1}").expect("text");
    }
    if flags.is_empty() { flags } else { format!("the run showed, for the next plan:{flags}\n") }
}
