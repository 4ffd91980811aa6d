//! Estimates, differences and tables of a comparison made by hand.

use super::*;
use crate::iterations::IterationRow;
use bstar_core::monitor::Metric;

const ACCURACY: &str = "eval/toy/pass@1";

fn run(entry: usize, seed: u64, right: &[f64]) -> RunInput {
    let id = |place: usize| format!("q{place}").into();
    let sample: Sample = right.iter().enumerate().map(|(place, v)| (id(place), *v)).collect();
    let value = right.iter().sum::<f64>() / right.len() as f64;
    let metric = |value| Metric {
        name: ACCURACY.into(),
        estimator: String::new(),
        value: Some(value),
        low: None,
        high: None,
        queries: right.len(),
    };
    let row = |iteration, value, temperature: Option<f64>| IterationRow {
        iteration,
        committed: true,
        temperature,
        threshold: temperature.map(|_| 0.0),
        balance_score: temperature.filter(|_| entry == 1).map(|_| 0.5),
        metrics: [(ACCURACY.to_owned(), metric(value))].into(),
        ..IterationRow::default()
    };
    let tally = |responses| Tally { responses, tokens: 10 * responses };
    RunInput {
        entry,
        seed,
        report: RunReport {
            task: "toy".into(),
            iterations: vec![row(0, 0.25, None), row(1, value, Some(0.5 + seed as f64 / 10.0))],
            ..RunReport::default()
        },
        spent: Spent {
            probe: tally(if entry == 1 { 40 } else { 0 }),
            draw: tally(if entry == 1 { 60 } else { 100 }),
            ..Spent::default()
        },
        queries: 5,
        values: [(ACCURACY.to_owned(), sample)].into(),
    }
}

fn input() -> ComparisonInput {
    let entry = |name: &str| EntryInput {
        name: name.into(),
        budget: "equal-generations".into(),
        varied: Vec::new(),
    };
    ComparisonInput {
        title: "Toy".into(),
        entries: vec![entry("fixed"), entry("adaptive"), entry("nothing")],
        reference: 0,
        seeds: vec![1, 2, 3],
        shared_queries: false,
        runs: vec![
            run(0, 1, &[1.0, 0.0, 0.0, 0.0]),
            run(0, 2, &[1.0, 1.0, 0.0, 0.0]),
            run(0, 3, &[0.0, 0.0, 0.0, 0.0]),
            run(1, 1, &[1.0, 1.0, 0.0, 0.0]),
            run(1, 2, &[1.0, 1.0, 1.0, 0.0]),
        ],
        failures: vec![(1, 3, "nothing\nselected".into())],
    }
}

#[test]
fn an_entry_is_compared_over_the_seeds_that_both_have() {
    let report = ComparisonReport::of(&input());
    let [fixed, adaptive, nothing] = &report.entries[..] else { panic!("three entries") };
    assert_eq!(fixed.metrics[ACCURACY].estimate.mean, 0.25);
    assert_eq!(fixed.metrics[ACCURACY].difference, None);
    let difference = adaptive.metrics[ACCURACY].difference.expect("two common seeds");
    assert_eq!((difference.difference.mean, difference.difference.seeds), (0.25, 2));
    assert_eq!(difference.p_seeds, Some(0.5));
    assert!(nothing.metrics.is_empty() && nothing.seeds.is_empty());
    assert_eq!(adaptive.spent.generated, [100.0, 1000.0]);
}

#[test]
fn the_tables_show_results_differences_spending_and_choices() {
    let text = ComparisonReport::of(&input()).markdown();
    for line in [
        "# Toy",
        "**adaptive, seed 3 failed:** nothing selected",
        "| fixed    | 3/3   | 25.0 ± 62.1 ",
        "| adaptive | 2/3   | 62.5 ± 158.8 |",
        "| adaptive | +25.0 ± 0.0 | 0.5000",
        "| adaptive | t                  | 0.65  |",
        "| nothing  | –    | –    |",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("| fixed    | t "), "only entries that choose have choices");
}
