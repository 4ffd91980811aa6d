//! `bstar whatif` on a real run: with nothing changed the run itself, else what can be known.

use crate::binary::Bench;
use serde_json::Value;

fn drawn_by(bench: &Bench, flags: &str) {
    bench.good(&format!("run tiny.toml --dir run --quiet --set supervised.steps=40 {flags}"));
}

fn of_kind(events: &[Value], kind: &str) -> Vec<Value> {
    events.iter().filter(|event| event["event"] == kind).cloned().collect()
}

/// Every field of the decision and of the selection that the answer has is that of the log.
fn check_equal(answer: &Value, events: &[Value]) {
    let (decided, selected) = (of_kind(events, "decided"), of_kind(events, "selected"));
    let iterations = answer["iterations"].as_array().expect("iterations");
    assert_eq!(iterations.len(), decided.len());
    for ((iteration, decided), selected) in iterations.iter().zip(&decided).zip(&selected) {
        for outcome in [&iteration["old"], &iteration["new"]] {
            let decision = outcome["decision"].as_object().expect("a decision");
            assert!(decision.len() >= 7);
            for (field, value) in decision {
                assert_eq!(*value, decided[field], "{field}");
            }
            for (field, value) in outcome["selection"].as_object().expect("a selection") {
                assert_eq!(*value, selected[field], "{field}");
            }
        }
        assert_eq!((&iteration["added"], &iteration["dropped"]), (&0.into(), &0.into()));
    }
}

#[test]
fn nothing_changed_is_the_run_itself() {
    let bench = Bench::new();
    for flags in ["", "--set preset=official-code --set sample.k=4 --set balance.probe_queries=8"] {
        drawn_by(&bench, &format!("{flags} --fresh"));
        let outcome = bench.good("whatif run --json");
        assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
        let answer = outcome.json();
        assert_eq!(answer["changed"], Value::Array(Vec::new()));
        check_equal(&answer, &bench.events("run"));
    }
    let table = bench.good("whatif run").stdout;
    assert!(table.contains("nothing changed") && table.contains("unique correct"), "{table}");
    bench.good("run tiny.toml --dir fixed --set method=online-rft --quiet");
    check_equal(&bench.good("whatif fixed --json").json(), &bench.events("fixed"));
}

#[test]
fn other_settings_are_those_of_a_fresh_run() {
    let bench = Bench::new();
    drawn_by(&bench, "--set balance.temperatures=1");
    for change in [
        "--set balance.thresholds=-0.3,0.2",
        "--set selection.cap_to_pool=false --set balance.target_count=2",
        "--set sample.k=2 --set sample.queries=7",
        "--set selection.deduplication=never --set sample.target_samples=30",
        "--set method=b-star-threshold",
    ] {
        let answer = bench.good(&format!("whatif run --json --iteration 1 {change}")).json();
        let once = "--set balance.temperatures=1 --set supervised.steps=40 --set iterations=1";
        bench.good(&format!("run tiny.toml --dir fresh --fresh --quiet {once} {change}"));
        let events = bench.events("fresh");
        let new = &answer["iterations"][0]["new"];
        let (decided, selected) =
            (&of_kind(&events, "decided")[0], &of_kind(&events, "selected")[0]);
        for (field, value) in new["decision"].as_object().expect("a decision") {
            assert_eq!(*value, decided[field], "{change}: {field}");
        }
        for (field, value) in new["selection"].as_object().expect("a selection") {
            assert_eq!(*value, selected[field], "{change}: {field}");
        }
    }
}

#[test]
fn a_run_that_remembers_its_queries_is_answered_for() {
    let bench = Bench::new();
    drawn_by(&bench, "--set sample.query_order=ada-star");
    let events = bench.events("run");
    let renewed = of_kind(&events, "queries_renewed");
    assert_eq!(renewed.len(), 2);
    assert!(renewed.iter().all(|event| event["taken"] == 20), "{renewed:?}");
    check_equal(&bench.good("whatif run --json").json(), &events);
    bench.bad("whatif run --set sample.queries=7", 2, &["`sample.queries`", "ada-star"]);
    bench.bad("whatif run --set sample.query_order=shuffled", 2, &["`sample.query_order`"]);
}

#[test]
fn what_stored_rollouts_cannot_tell_is_refused() {
    let bench = Bench::new();
    drawn_by(&bench, "");
    for (change, words) in [
        ("--set train.steps=9", ["`train.steps`", "only a new run"]),
        ("--set reward.reduction=mean", ["`reward.reduction`", "only a new run"]),
        ("--set sample.k=5", ["`sample.k` is 5", "drew 4"]),
        ("--set sample.queries=21", ["`sample.queries` is 21", "drew 20"]),
        ("--set balance.temperatures=0.7,1", ["temperature 0.7", "0.5, 1"]),
        ("--set balance.tresholds=1", ["did you mean", "balance.thresholds"]),
        ("--set reward.kind=answer-and-reward-model", ["no reward-model scores", "answer"]),
        ("--set balance.counts=verified", ["`balance.counts", "answer-and-reward-model"]),
        ("--iteration 3", ["no iteration 3", "1 to 2"]),
    ] {
        bench.bad(&format!("whatif run {change}"), 2, &words);
    }
    bench.bad("whatif gone", 4, &["gone"]);
    let log = bench.read("run/events.jsonl");
    let (before, event) = log.split_once("\"event\":\"selected\"").expect("a selection");
    let event = event.replacen("\"selected\":", "\"selected\":9", 1);
    bench.write("run/events.jsonl", format!("{before}\"event\":\"selected\"{event}"));
    bench.bad("whatif run", 4, &["do not lead to what the run recorded", "changed"]);
}
