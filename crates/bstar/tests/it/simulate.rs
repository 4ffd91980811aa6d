//! `bstar simulate` and runs that race: the verbs over what `bstar_core` computes.

use crate::binary::{Bench, records_with};

/// Records whose gold solutions compete with what is sampled.
const GOLD: &str = r#"
iterations = 2
task = { kind = "math", files.columns = {} }
sample = { queries = 20, k = 4 }
balance = { temperatures = "0.5,1", thresholds = "-0.5,0.5", probe_queries = 20 }
selection.gold_solutions = "compete"
run.most_empty_iterations = 9
"#;

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
    bench.good(&format!("{run} --dir whole"));
    let found = bench.good("simulate search whole --seeds 3 --budget 0.5 --json").json();
    assert_eq!(found.as_array().map(Vec::len), Some(2), "two iterations");
    for surface in found.as_array().expect("surfaces") {
        for search in surface["searches"].as_array().expect("searches") {
            assert!(search["net_cost"].as_f64().is_some_and(|cost| cost <= 0.5), "{search}");
        }
    }
    let whole = bench.good("simulate search whole --seeds 2 --exhaustive 30 --json").json();
    assert_eq!(whole[0]["searches"][0]["loss"], 0.0);
    let racing = "--set balance.search=racing --set balance.search_budget=0.5";
    bench.good(&format!("{run} --dir raced {racing}"));
    bench.bad("simulate search raced", 2, &["raced", "exhaustive"]);
    bench.bad("simulate search whole --budget 2", 2, &["--budget"]);
    bench.bad(
        "simulate search whole --budget 0.1",
        2,
        &["whole 1", "at least 8 queries", "--budget"],
    );
    let without = ["whole 1", "log-probabilities", "balance.candidate_logprobs"];
    bench.bad("simulate search whole --search reweighting --budget 1", 2, &without);
    bench.good(&format!("{run} --dir fixed --set method=online-rft --set iterations=1"));
    bench.bad("simulate search fixed", 3, &["fixed stored no probe"]);
}

#[test]
fn a_surface_with_its_log_probabilities_is_searched_by_weights() {
    let bench = Bench::new();
    let keeping = "--set balance.candidate_logprobs=true --set balance.temperatures=0.4:1.4:0.2 \
                   --set balance.probe_queries=30 --set sample.queries=0 --set supervised.steps=40";
    bench.good(&format!("run tiny.toml --quiet --dir whole {keeping}"));
    let search = "simulate search whole --search reweighting --seeds 3 --budget 0.5";
    let found = bench.good(&format!("{search} --json")).json();
    assert_eq!(found.as_array().map(Vec::len), Some(2), "two iterations");
    for surface in found.as_array().expect("surfaces") {
        // All 40 training queries were drawn.
        assert_eq!(surface["draw_queries"], 40);
        for search in surface["searches"].as_array().expect("searches") {
            assert!(search["net_cost"].as_f64().is_some_and(|cost| cost <= 0.5), "{search}");
        }
    }
    assert_eq!(bench.good(&format!("{search} --json")).json(), found, "seeded");
    let table = bench.good(search).stdout;
    assert!(table.contains("all 2 surfaces"), "{table}");
    // Without the draw nobody knows M.
    std::fs::remove_file(bench.path("whole/rollouts/iter-0002/train.parquet")).expect("a draw");
    bench.bad(search, 3, &["iteration 2 is not stored", "--queries"]);
    bench.good(&format!("{search} --queries 40"));
    for (setting, key) in
        [("sample.top_k=5", "`sample.top_k`"), ("knobs.top_p=0.5,1", "`knobs.top_p`")]
    {
        let flags = format!("run tiny.toml {keeping} --set {setting}");
        bench.bad(&flags, 2, &[key, "balance.candidate_logprobs"]);
    }
}

/// Gold solutions compete, and one query has none.
#[test]
fn gold_solutions_that_compete_take_part_where_there_are_any() {
    let bench = Bench::new();
    let row = |i: u32| {
        let a = i + 1;
        // The third has no solution.
        let gold = if i == 2 { String::new() } else { format!(", \"solution\": \"A: {a}\"") };
        format!("{{\"problem\": \"{i}+1\", \"answer\": \"{a}\"{gold}}}\n")
    };
    bench.write("train.jsonl", (0..20).map(row).collect::<String>());
    bench.write("test.jsonl", (100..105).map(row).collect::<String>());
    bench.write("gold.toml", records_with(GOLD));
    bench.good("run gold.toml --quiet --dir run");
    let answer = bench.good("whatif run --json").json();
    assert_eq!(answer["iterations"].as_array().map(Vec::len), Some(2));
    // A gold solution always counts, so that no surface is empty.
    let searches = "simulate search run --budget 0.5 --seeds 2 --json";
    let found = bench.good(searches).json();
    let decided = bench.events("run");
    let decided = decided.iter().filter(|event| event["event"] == "decided");
    for (surface, event) in found.as_array().expect("surfaces").iter().zip(decided) {
        // Exactly what the run measured, gold included.
        assert_eq!(surface["best_balance_score"], event["balance_score"], "{surface}");
        assert!(surface["best_balance_score"].as_f64() > Some(0.1), "{surface}");
    }
    // Without the data the note says so, and nobody is accused of changing files.
    std::fs::remove_file(bench.path("train.jsonl")).expect("the data");
    let blind = bench.bstar("whatif run");
    assert!(blind.stderr.contains("gold solutions compete"), "{}", blind.stderr);
    assert!(!blind.stderr.contains("were changed"), "{}", blind.stderr);
}

#[test]
fn a_run_that_races_is_answered_for_by_whatif() {
    let bench = Bench::new();
    let racing = "--set balance.search=racing --set balance.search_budget=0.5";
    bench.good(&format!("run tiny.toml --dir run --quiet --set supervised.steps=40 {racing}"));
    let answer = bench.good("whatif run --json").json();
    for (iteration, event) in answer["iterations"]
        .as_array()
        .expect("iterations")
        .iter()
        .zip(bench.events("run").iter().filter(|event| event["event"] == "decided"))
    {
        assert_eq!(iteration["new"]["decision"]["race"], event["race"]);
        assert_eq!(iteration["new"]["decision"]["grid"], event["grid"]);
        assert!(event["race"]["net_cost"].as_f64().is_some_and(|cost| cost <= 0.5), "{event}");
    }
    bench.bad("whatif run --set balance.search=exhaustive", 2, &["`balance.search`"]);
    let shown = bench.good("runs show run").stdout;
    assert!(shown.contains("sure %"), "{shown}");
}

#[test]
fn a_run_that_reweights_draws_little_and_is_answered_for_by_whatif() {
    let bench = Bench::new();
    let flags = "--set balance.search=reweighting --set balance.search_budget=0.4 \
                 --set balance.temperatures=0.4:1.4:0.2 --set balance.probe_queries=8 \
                 --set sample.queries=40 --set supervised.steps=40";
    bench.good(&format!("run tiny.toml --dir run --quiet {flags}"));
    let answer = bench.good("whatif run --json").json();
    let events = bench.events("run");
    let decided = events.iter().filter(|event| event["event"] == "decided");
    for (iteration, event) in answer["iterations"].as_array().expect("some").iter().zip(decided) {
        assert_eq!(iteration["new"]["decision"]["race"], event["race"]);
        assert_eq!(event["race"]["estimates"].as_array().map(Vec::len), Some(6), "{event}");
        let contenders = event["race"]["contenders"].as_array().expect("contenders");
        let drawn = |t: f64| contenders.iter().any(|contender| contender["temperature"] == t);
        assert!(drawn(0.8) && drawn(1.0) && contenders.len() <= 3, "{event}");
        assert!(event["race"]["net_cost"].as_f64().is_some_and(|cost| cost <= 0.4), "{event}");
    }
    // One thread or two, the same run.
    bench.good(&format!("run tiny.toml --dir one --quiet {flags} --set run.threads=1"));
    assert_eq!(bench.events("one"), events);
    bench.bad("whatif run --set balance.temperatures=0.8,1", 2, &["`balance.temperatures`"]);
    for (setting, key) in [
        ("sample.top_p=0.9", "`sample.top_p`"),
        ("selection.deduplication=never", "`selection.deduplication`"),
        ("balance.empty_queries=skip", "`balance.empty_queries`"),
    ] {
        bench.bad(&format!("run tiny.toml {flags} --set {setting}"), 2, &[key, "reweighting"]);
    }
    let poor = format!("run tiny.toml {flags} --set balance.search_budget=0.1 --dir poor");
    bench.bad(&poor, 2, &["at least 8 queries", "`balance.search_budget`"]);
    assert!(!bench.path("poor").exists(), "found before a folder is made");
    let poor = format!("plan tiny.toml {flags} --set balance.search_budget=0.1");
    bench.bad(&poor, 2, &["at least 8 queries"]);
}
