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
        selected: (entry == 1).then(|| (1, [(ACCURACY.to_owned(), sample.clone())].into())),
        values: [(ACCURACY.to_owned(), sample)].into(),
    }
}

fn input() -> ComparisonInput {
    let entry = |name: &str| EntryInput {
        name: name.into(),
        references: if name == "fixed" { vec![] } else { vec![0] },
        group: name.into(),
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
    assert!(fixed.metrics[ACCURACY].differences.is_empty());
    let difference = adaptive.metrics[ACCURACY].against("fixed").expect("two common seeds");
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
        "| adaptive | 2/3   | 62.5 ± 47.0 |",
        "| adaptive | +25.0 ± 43.3 | 0.5000",
        "| adaptive | t                  | 0.65  |",
        "| nothing  | –    | –    |",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("| fixed    | t "), "only entries that choose have choices");
}

#[test]
fn an_entry_may_be_compared_with_any_others() {
    let mut input = input();
    input.runs.push(run(2, 1, &[0.0, 0.0, 0.0, 0.0]));
    input.entries[1].references = vec![0, 2];
    let report = ComparisonReport::of(&input);
    let metric = &report.entries[1].metrics[ACCURACY];
    let mean = |reference: &str| metric.against(reference).map(|found| found.difference.mean);
    assert_eq!((mean("fixed"), mean("nothing"), mean("adaptive")), (Some(0.25), Some(0.5), None));
    // The test against the reference of all is the same as when it is the only one.
    let alone = ComparisonReport::of(&self::input());
    assert_eq!(metric.differences[..1], alone.entries[1].metrics[ACCURACY].differences[..]);
    let text = report.markdown();
    for line in [
        "| entry    | compared with | Δ greedy % ",
        "| adaptive | fixed         | +25.0 ± 43.3 ",
        "| adaptive | nothing       | +50.0 ",
        "| nothing  | fixed         | -25.0 ",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let rows = report.results_csv();
    assert!(rows.contains(",2,8,fixed,0.25,") && rows.contains(",2,8,nothing,0.5,"), "{rows}");
    let figure =
        report.plots().expect("figures").into_iter().find(|plot| plot.name == "differences");
    assert!(figure.expect("differences").svg.contains("adaptive − nothing"));
}

#[test]
fn two_varied_keys_are_shown_as_a_grid() {
    let mut input = input();
    for (entry, value) in input.entries.iter_mut().zip(["0.5", "0.7", "0.9"]) {
        entry.group = "Fixed".into();
        entry.varied = vec![("a.t".into(), value.into()), ("a.tau".into(), "0.2".into())];
    }
    let text = ComparisonReport::of(&input).markdown();
    for line in [
        "| Fixed, greedy %: a.t by a.tau | 0.2 ",
        "| 0.7                           | 62.5 ± 47.0 |",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn checkpoints_that_validation_chose_have_tables_of_their_own() {
    let text = ComparisonReport::of(&input()).markdown();
    let chosen = text.split_once("## At the checkpoints that validation chose").expect("a head").1;
    assert!(chosen.contains("| adaptive | 1, 1"), "{chosen}");
}

#[test]
fn values_are_told_as_csv() {
    let report = ComparisonReport::of(&input());
    let results = report.results_csv();
    assert!(results.contains("\nadaptive,eval/toy/pass@1,0.625,"), "{results}");
    assert!(report.runs_csv().contains("\nfixed,2,eval/toy/pass@1,0.5\n"), "{results}");
    assert!(report.iterations_csv().contains("\nadaptive,1,t,0.6"), "{results}");
}

#[test]
fn figures_are_drawn_in_both_forms_and_name_their_entries() {
    let plots = ComparisonReport::of(&input()).plots().expect("figures");
    let names: Vec<&str> = plots.iter().map(|plot| plot.name.as_str()).collect();
    assert_eq!(names, ["greedy", "differences"]);
    for plot in &plots {
        assert!(plot.svg.starts_with("<svg") && plot.svg.contains("adaptive"), "{}", plot.svg);
        assert_eq!(plot.png[1..4], *b"PNG");
    }
    assert_eq!(plots, ComparisonReport::of(&input()).plots().expect("the same figures"));
}

const FEW: &str = "fewer than three seeds an interval is over queries only";

#[test]
fn a_line_under_a_table_says_where_an_interval_is_of_queries_only() {
    let text = ComparisonReport::of(&input()).markdown();
    let parts = |text: &str| text.matches(FEW).count();
    // Results, differences, and results at the checkpoints that validation chose.
    assert_eq!(parts(&text), 3, "{text}");
    let mut whole = input();
    whole.runs.push(run(1, 3, &[1.0, 0.0, 1.0, 0.0]));
    let text = ComparisonReport::of(&whole).markdown();
    assert_eq!(parts(&text), 0, "{text}");
    assert!(text.contains("| adaptive | 3/3   | 58.3 ± 35.9 |"), "{text}");
    // Where nothing varies there is no interval to speak of.
    let mut alike = input();
    alike.entries[1].references = Vec::new();
    alike.runs.retain(|run| run.entry == 0);
    alike.runs.push(run(1, 1, &[1.0, 1.0, 1.0, 1.0]));
    let text = ComparisonReport::of(&alike).markdown();
    assert!(text.contains("| adaptive | 1/3   | 100.0 "), "{text}");
    assert!(!text.contains("100.0 ±") && parts(&text) == 0, "{text}");
    let plots = ComparisonReport::of(&input()).plots().expect("figures");
    let differences = plots.iter().find(|plot| plot.name == "differences").expect("it");
    assert!(differences.svg.contains("+25.0 ± 43.3"), "{}", differences.svg);
}

#[test]
fn metrics_that_no_table_shows_have_no_line_under_one() {
    let mut input = input();
    input.entries[1].references = Vec::new();
    input.runs.retain(|run| run.seed == 1);
    for run in &mut input.runs {
        run.selected = None;
        let values = run.values.get_mut(ACCURACY).expect("accuracy");
        for value in values.values_mut() {
            *value = 1.0;
        }
    }
    let lines =
        |input: &ComparisonInput| ComparisonReport::of(input).markdown().matches(FEW).count();
    assert_eq!(lines(&input), 0);
    let varied = run(1, 1, &[1.0, 0.0, 1.0, 0.0]).values.remove(ACCURACY).expect("accuracy");
    let metrics = &mut input.runs[1].values;
    metrics.insert("hidden".into(), varied.clone());
    assert_eq!(lines(&input), 0);
    input.runs[1].values.insert(ACCURACY.into(), varied);
    assert_eq!(lines(&input), 1);
}

#[test]
fn a_difference_without_an_interval_is_drawn_without_one() {
    let mut input = input();
    input.runs.retain(|run| run.seed == 1);
    input.runs[1] = run(1, 1, &[1.0, 1.0, 1.0, 1.0]);
    input.runs[0] = run(0, 1, &[0.0, 0.0, 0.0, 0.0]);
    let plots = ComparisonReport::of(&input).plots().expect("figures");
    let differences = plots.iter().find(|plot| plot.name == "differences").expect("it");
    assert!(differences.svg.contains("+100.0"), "{}", differences.svg);
    assert!(!differences.svg.contains('±'), "{}", differences.svg);
}

#[test]
fn a_p_0_below_its_goal_is_told_under_what_was_run() {
    let missed = MissedGoal { step: 60, accuracy: 0.45, queries: 40, goal: 0.9 };
    let mut input = input();
    for run in &mut input.runs {
        run.report.missed_goal = (run.seed == 2).then_some(missed);
    }
    input.runs[2].report.missed_goal = Some(MissedGoal { accuracy: 0.5, ..missed });
    let report = ComparisonReport::of(&input);
    let text = report.markdown();
    for line in [
        "| 0 \\*             |",
        "P_0 missed its goal (`supervised.stop_at_accuracy`)",
        "- seed 2: 45.0 % of 40 validation queries after 60 steps, not 90.0 % (fixed; adaptive)",
        "- seed 3: 50.0 % of 40 validation queries after 60 steps, not 90.0 % (fixed)",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert_eq!(report.entries[1].missed_goals, [(2, missed)].into());
    let text = ComparisonReport::of(&self::input()).markdown();
    assert!(!text.contains("goal"), "{text}");
}

#[test]
fn a_bar_in_a_name_ends_no_cell() {
    let mut input = input();
    input.entries[1].name = "a|b".into();
    let text = ComparisonReport::of(&input).markdown();
    let row = text.lines().find(|line| line.starts_with("| a\\|b")).expect("a row of the entry");
    let head = text.lines().find(|line| line.starts_with("| entry")).expect("a head");
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    assert_eq!(bars(row), bars(head), "{text}");
}

#[test]
fn where_nothing_has_finished_that_is_said_instead_of_tables() {
    let mut input = input();
    input.runs.clear();
    let text = ComparisonReport::of(&input).markdown();
    assert!(text.contains("No run has finished"), "{text}");
    assert!(text.contains("adaptive, seed 3 failed"), "{text}");
    assert!(!text.contains('|'), "{text}");
}

#[test]
fn the_head_says_how_intervals_are_made_of_so_many_seeds() {
    let head = |seeds: u64, shared: bool| {
        let mut input = input();
        input.runs.retain(|run| run.seed <= seeds);
        input.shared_queries = shared;
        let text = ComparisonReport::of(&input).markdown();
        text.lines().find(|line| line.starts_with("Task toy")).expect("a head").to_owned()
    };
    for shared in [false, true] {
        let one = head(1, shared);
        assert!(one.contains("one seed. 95 % intervals: over queries only."), "{one}");
        assert!(!one.contains("Student") && !one.contains("p over seeds"), "{one}");
        let two = head(2, shared);
        assert!(two.contains("Mean over seeds") && two.contains("intervals: over queries only."));
        assert!(!two.contains("Student") && two.contains("p over seeds and over queries"), "{two}");
        let three = head(3, shared);
        assert!(three.contains("Student's t over seed means"), "{three}");
        assert!(three.contains("fewer than three seeds: over queries only"), "{three}");
        let mut all = input();
        all.shared_queries = shared;
        all.runs.push(run(1, 3, &[1.0, 0.0, 1.0, 0.0]));
        let text = ComparisonReport::of(&all).markdown();
        assert!(text.contains("Student's t") && !text.contains("over queries only"), "{text}");
    }
}
