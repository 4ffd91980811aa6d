//! `[knobs]` through the binary: a run that turns them, what it shows, what-if and a stored search.

use crate::binary::Bench;
use serde_json::Value;

const KNOBS: &str = "--set knobs.top_p=0.5,1 --set knobs.k=2,4 --set knobs.k_tolerance=0.5 \
                     --set knobs.cap=0,2 --set knobs.steps=1,2,4 --set knobs.steps_queries=20 \
                     --set knobs.steps_margin=-100";

/// Queries that a tiny policy learns to answer now and then.
const EASY: &str = "--set supervised.steps=400 --set supervised.batch_size=32 \
                    --set task.arithmetic.expressions=1 \
                    --set task.arithmetic.query_operations=[0.2,1.0] \
                    --set task.arithmetic.supervised_operations=[1.0,1.0]";

fn of_kind(bench: &Bench, run: &str, kind: &str) -> Vec<Value> {
    bench.events(run).into_iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn a_run_turns_every_knob_and_shows_what_it_chose() {
    let bench = Bench::new();
    bench
        .write("knobs.toml", bench.read("tiny.toml") + "\n[knobs]\ntop_p = [0.5, 1]\nk = [2, 4]\n");
    bench.good("config show knobs.toml");
    let outcome = bench
        .good(&format!("run tiny.toml --dir run --set balance.thresholds=-0.5 {EASY} {KNOBS}"));
    assert!(outcome.stderr.contains("top-p"), "{}", outcome.stderr);
    let decided = of_kind(&bench, "run", "decided");
    for event in &decided {
        assert!(event["top_p"] == 0.5 || event["top_p"] == 1.0, "{event}");
        assert!(event["k"] == 2 || event["k"] == 4, "{event}");
        let grid = event["grid"].as_array().expect("a grid");
        let ways = |key: &str| {
            let mut values: Vec<String> = grid.iter().map(|cell| cell[key].to_string()).collect();
            values.sort();
            values.dedup();
            values.len()
        };
        assert_eq!([ways("top_p"), ways("k"), ways("fixed_cap")], [2; 3]);
    }
    let chosen = of_kind(&bench, "run", "steps_chosen");
    assert_eq!(chosen.len(), decided.len());
    assert!(chosen.iter().all(|event| event["steps"] == 4), "nothing is a loss beyond noise");
    let shown = bench.good("runs show run").stdout;
    assert!(shown.contains("iteration 1: top-p") && shown.contains("4 steps"), "{shown}");
    let answer = bench.good("whatif run --json").json();
    for (iteration, event) in answer["iterations"].as_array().expect("some").iter().zip(&decided) {
        assert_eq!(iteration["new"]["decision"]["grid"], event["grid"]);
    }
    bench.good("whatif run --set knobs.cap=[1] --set knobs.top_p=[1]");
    bench.bad("whatif run --set knobs.top_p=[0.7]", 2, &["0.7", "top-p", "not probed"]);
    bench.bad("whatif run --set knobs.steps=[1]", 2, &["`knobs.steps`"]);
}

#[test]
fn a_stored_search_chooses_what_the_run_chose() {
    let bench = Bench::new();
    let knobs =
        "--set knobs.top_p=0.5,1 --set knobs.k=2,4 --set knobs.k_tolerance=0.1 --set knobs.cap=1,2";
    bench.good(&format!("run tiny.toml --dir run --quiet --set iterations=1 {EASY} {knobs}"));
    let decided = &of_kind(&bench, "run", "decided")[0];
    assert!(decided["balance_score"].as_f64() > Some(0.0), "a choice for a reason: {decided}");
    let flags = format!(
        "--thresholds=-0.5,0,0.5 --target-count {} --k 4,2 --k-tolerance 0.1 --cap 1,2",
        decided["target_count"]
    );
    let probe = "run/rollouts/iter-0001/probe.parquet";
    let found = bench.good(&format!("balance {probe} {flags} --json")).json();
    for key in ["temperature", "top_p", "k", "fixed_cap", "balance_score"] {
        assert_eq!(found["chosen"][key], decided[key], "{key}");
    }
    let shown = bench.good(&format!("balance {probe} {flags}")).stdout;
    assert!(shown.contains("<- chosen") && shown.contains("cap 2"), "{shown}");
    bench.bad(&format!("balance {probe} {flags} --k 5"), 2, &["--k 5", "from 1 to 4"]);
    bench.bad(&format!("balance {probe} {flags} --k-tolerance 2"), 2, &["--k-tolerance"]);
}

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    let bench = Bench::new();
    for (setting, words) in [
        ("knobs.k=[5]", ["`knobs.k`", "at most 4"]),
        ("knobs.top_p=[0]", ["`knobs.top_p`", "above 0"]),
        ("knobs.steps=[0]", ["`knobs.steps`", "above 0"]),
        ("knobs.kk=5", ["kk", "knobs"]),
    ] {
        bench.bad(&format!("run tiny.toml --set {setting}"), 2, &words);
    }
}
