//! `bstar simulate` and runs that race: the verbs over what `bstar_core` computes.

use crate::binary::Bench;

#[test]
fn a_scenario_is_studied_and_an_unknown_one_is_named() {
    let bench = Bench::new();
    let flags = "--scenario lucky-checked --probe-queries 20 --seeds 2";
    let studies = bench.good(&format!("simulate choice {flags} --json")).json();
    let study = &studies[0]["study"];
    assert_eq!(study["chosen"].as_array().map(Vec::len), Some(2));
    let worth = |which: &str| study[which]["worth"].as_f64().expect("a worth");
    assert!(worth("expected") < 0.95 * worth("optimum"), "luck misleads: {study}");
    let verified = study["verified"]["expected"]["worth"].as_f64().expect("a worth");
    assert!(verified > 0.97 * worth("optimum"), "a bar sees luck: {study}");
    let table = bench.good(&format!("simulate choice {flags}")).stdout;
    assert!(table.contains("verified count"), "{table}");
    assert!(table.contains("worth most") && table.contains("2 probes of 20"), "{table}");
    bench.bad(&format!("simulate choice {flags} --verified-above nan"), 2, &["--verified-above"]);
    bench.bad("simulate choice --scenario lukcy", 2, &["lukcy", "lucky-weak"]);
}

#[test]
fn stored_surfaces_are_searched_for_less_than_everything() {
    let bench = Bench::new();
    let run = "run tiny.toml --quiet --set supervised.steps=40 --set balance.probe_queries=30";
    bench.good(&format!("{run} --run-dir whole"));
    let found = bench.good("simulate search whole --seeds 3 --budget 0.5 --json").json();
    assert_eq!(found.as_array().map(Vec::len), Some(2), "two iterations");
    for surface in found.as_array().expect("surfaces") {
        for search in surface["searches"].as_array().expect("searches") {
            assert!(search["net_cost"].as_f64().is_some_and(|cost| cost <= 0.5), "{search}");
        }
    }
    let whole = bench.good("simulate search whole --seeds 2 --exhaustive 30 --json").json();
    assert_eq!(whole[0]["searches"][0]["loss"], 0.0);
    bench.good(&format!("{run} --run-dir raced --set balance.search=racing"));
    bench.bad("simulate search raced", 2, &["raced", "exhaustive"]);
    bench.bad("simulate search whole --budget 2", 2, &["--budget"]);
}

#[test]
fn a_run_that_races_is_answered_for_by_whatif() {
    let bench = Bench::new();
    let racing = "--set balance.search=racing --set balance.search_budget=0.3";
    bench.good(&format!("run tiny.toml --run-dir run --quiet --set supervised.steps=40 {racing}"));
    let answer = bench.good("whatif run --json").json();
    for (iteration, event) in answer["iterations"]
        .as_array()
        .expect("iterations")
        .iter()
        .zip(bench.events("run").iter().filter(|event| event["event"] == "decided"))
    {
        assert_eq!(iteration["new"]["decision"]["race"], event["race"]);
        assert_eq!(iteration["new"]["decision"]["grid"], event["grid"]);
        assert!(event["race"]["net_cost"].as_f64().is_some_and(|cost| cost <= 0.3), "{event}");
    }
    bench.bad("whatif run --set balance.search=exhaustive", 2, &["`balance.search`"]);
    let shown = bench.good("runs show run").stdout;
    assert!(shown.contains("sure %"), "{shown}");
}
