//! Metrics as a table or as JSON.

use crate::output::{self, Notes};
use bstar_core::Fault;
use bstar_core::monitor::Metric;
use bstar_report::{Align, Table, number};
use bstar_store::rollout_file::ReadNotes;
use serde::Serialize;

#[derive(Serialize)]
struct Metrics<'a> {
    metrics: &'a [Metric],
}

/// Tells what the reader of rollouts files had to assume.
pub(crate) fn tell_assumptions(read: &ReadNotes, notes: Notes) {
    for (rows, assumed) in [
        (read.assumed_temperature, "no temperature and count as drawn at 1.0"),
        (read.numbered_samples, "no sample_index and are numbered in the order of the file"),
        (
            read.answers_for_responses,
            "no response; the answer stands for it, so equal answers count as duplicates",
        ),
    ] {
        if rows > 0 {
            notes.tell(&format!("note: {rows} of {} rows have {assumed}", read.rows));
        }
    }
}

/// Prints metrics.
pub(crate) fn print(metrics: &[Metric], json: bool) -> Result<(), Fault> {
    if json { output::print_json(&Metrics { metrics }) } else { output::print(&table(metrics)) }
}

/// Metrics as a table.
pub(crate) fn table(metrics: &[Metric]) -> String {
    let (left, right) = (Align::Left, Align::Right);
    let columns = [
        ("metric", left),
        ("value", right),
        ("95 %", right),
        ("queries", right),
        ("estimator", left),
    ];
    let mut table = Table::new(&columns);
    let (known, unknown): (Vec<&Metric>, Vec<&Metric>) =
        metrics.iter().partition(|metric| metric.value.is_some());
    for metric in known {
        let interval = match (metric.low, metric.high) {
            (Some(low), Some(high)) => format!("{low:.4} … {high:.4}"),
            _ => "–".into(),
        };
        let value = number(metric.value, 4);
        let queries = metric.queries.to_string();
        table.row([metric.name.clone(), value, interval, queries, metric.estimator.clone()]);
    }
    let text = table.render();
    match unknown.len() {
        0 => text,
        count => format!("{text}({count} metrics have no value here; --json names them)\n"),
    }
}
