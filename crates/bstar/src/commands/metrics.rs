//! Metrics as a table or as JSON.

use crate::output;
use bstar_core::Fault;
use bstar_core::monitor::Metric;
use bstar_report::{Align, Table, number};
use serde::Serialize;

#[derive(Serialize)]
struct Metrics<'a> {
    metrics: &'a [Metric],
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
    for metric in metrics {
        let interval = match (metric.low, metric.high) {
            (Some(low), Some(high)) => format!("{low:.4} … {high:.4}"),
            _ => "–".into(),
        };
        let value = number(metric.value, 4);
        let queries = metric.queries.to_string();
        table.row([metric.name.clone(), value, interval, queries, metric.estimator.clone()]);
    }
    table.render()
}
