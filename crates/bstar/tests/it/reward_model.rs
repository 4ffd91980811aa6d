//! Runs whose reward has a reward model in it.

use crate::binary::Bench;
use std::time::Duration;

/// A task so small that a hasty policy is often right: sums modulo 3.
const SMALL: &str = "--set task.arithmetic.modulus=3 --set task.arithmetic.expressions=1 \
    --set task.arithmetic.largest_operand=2 --set supervised.steps=60 \
    --set task.arithmetic.supervised_operations=[0,0,1,1] \
    --set task.arithmetic.query_operations=[0,0,1] --quiet";

/// The same with a reward model that is trained before the first and the second iteration.
fn run_with_model() -> String {
    format!(
        "run tiny.toml {SMALL} --set reward.kind=answer-and-reward-model \
         --set reward_model.queries=20 --set reward_model.responses=4 \
         --set reward_model.completions=4 --set reward_model.steps=12 \
         --set reward_model.batch_size=8 --set reward_model.refresh_every=1"
    )
}

#[test]
fn a_run_trains_its_reward_model_scores_with_it_and_saves_it() {
    let bench = Bench::new();
    let run = run_with_model();
    bench.good(&format!("{run} --dir run"));
    let events = bench.events("run");
    let of = |name: &str| events.iter().filter(|e| e["event"] == name).collect::<Vec<_>>();
    let trained = of("reward_model_trained");
    let iterations: Vec<_> = trained.iter().map(|e| e["iteration"].as_u64()).collect();
    assert_eq!(iterations, [Some(0), Some(2)]);
    for event in &trained {
        assert!(event["completions"].as_u64() > Some(0), "{event}");
        let metrics = event["metrics"].as_array().expect("metrics");
        let names: Vec<_> = metrics.iter().filter_map(|m| m["name"].as_str()).collect();
        assert!(names.contains(&"reward_model/step_auc"), "{names:?}");
        assert!(names.contains(&"reward_model/true_step_auc"), "{names:?}");
    }
    assert_eq!(of("reward_model_step").len(), 24);
    let exploited = events.iter().filter(|e| e["event"] == "measured" && e["stage"] == "eval");
    for event in exploited {
        let metrics = event["metrics"].as_array().expect("metrics");
        let best = metrics.iter().find(|m| m["name"] == "exploit/best_of_4").expect("a monitor");
        assert_eq!(best["queries"], 4, "every sampled query has scores: {best}");
    }
    for iteration in ["0000", "0002"] {
        let config = bench.read(&format!("run/reward_models/iter-{iteration}/config.json"));
        assert!(config.contains("LlamaForTokenClassification"), "{config}");
    }
    // The model of a run is a reward model for another, as it is.
    let given = "--set reward_model.folder=model";
    std::fs::rename(bench.path("run/reward_models/iter-0002"), bench.path("model")).expect("it");
    bench.good(&format!("{run} {given} --dir given"));
    let events = bench.events("given");
    assert!(events.iter().all(|e| e["event"] != "reward_model_trained"));
    assert_eq!(events[0]["reward_model"], trained[1]["version"]);
    // Only with it can the run go on.
    let log = bench.read("given/events.jsonl");
    let cut = log.find("\"iteration_committed\"").expect("a commit");
    bench.write("given/events.jsonl", &log[..cut]);
    std::fs::rename(bench.path("model"), bench.path("other")).expect("it");
    std::fs::rename(bench.path("run/reward_models/iter-0000"), bench.path("model")).expect("it");
    let words = ["began with another reward model", "reward_model.folder"];
    bench.bad(&format!("{run} {given} --dir given"), 4, &words);
    assert!(!bench.path("given/reward_models").exists());
    let config = bench.read("other/config.json");
    let context = "\"max_position_embeddings\": 96";
    assert!(config.contains(context), "{config}");
    bench.write("other/config.json", config.replace(context, "\"max_position_embeddings\": 16"));
    let words = ["query ", "reward model's context of 16 tokens", "sample.max_tokens"];
    bench.bad(&format!("{run} --set reward_model.folder=other --dir none"), 3, &words);
    let words = ["LlamaForCausalLM", "ForTokenClassification"];
    let policy = "--set reward_model.folder=run/checkpoints/iter-0000 --dir none";
    bench.bad(&format!("{run} {policy}"), 3, &words);
    assert!(!bench.path("none").exists(), "refused before there is a run folder");
}

#[test]
fn a_run_counts_what_its_reward_model_verifies_and_whatif_does_too() {
    let bench = Bench::new();
    let run = run_with_model()
        + " --set supervised.steps=200 --set reward_model.steps=30 --set iterations=1 \
           --set balance.thresholds=-1:1.2:0.2";
    let verified = "--set balance.counts=verified --set balance.verified_above=0.1";
    // One temperature, so that both runs draw the same.
    let one = "--set balance.temperatures=1";
    bench.good(&format!("{run} {one} {verified} --dir verified"));
    bench.good(&format!("{run} {one} --dir plain"));
    let of = |dir: &str, name: &str| {
        bench.events(dir).into_iter().find(|event| event["event"] == name).expect("an event")
    };
    let (selected, decided) = (of("verified", "selected"), of("verified", "decided"));
    let count = |name: &str| selected[name].as_u64().expect("a count");
    assert!(count("verified") <= count("correct"), "{selected}");
    assert!(of("plain", "selected").get("verified").is_none(), "only where it is asked for");
    let grids = [decided["grid"].clone(), of("plain", "decided")["grid"].clone()];
    let sum = |grid: &serde_json::Value| -> u64 {
        grid.as_array().expect("cells").iter().filter_map(|cell| cell["correct"].as_u64()).sum()
    };
    assert!(sum(&grids[0]) < sum(&grids[1]), "some right answers are below the bar");
    let asked = bench.good(&format!("whatif plain --json {verified}")).json();
    let new = &asked["iterations"][0]["new"];
    assert_eq!(new["decision"]["grid"], decided["grid"]);
    assert_eq!(new["selection"]["verified"], selected["verified"]);
    let bad = format!("{run} {verified} --set reward.kind=answer --dir none");
    bench.bad(&bad, 2, &["`balance.counts", "answer-and-reward-model"]);
}

#[test]
fn a_run_with_a_reward_model_killed_again_and_again_ends_like_one_that_was_not() {
    let bench = Bench::new();
    // Also what the loop remembers beside events: references of ranks, and records of queries.
    let remembered = "--set reward.scale=rank --set sample.query_order=ada-star";
    let run = format!("{} {remembered}", run_with_model());
    let start = std::time::Instant::now();
    bench.good(&format!("{run} --dir whole"));
    let whole = start.elapsed();
    for part in 1_u32..8 {
        // Pruned on the way: what is needed to go on stays.
        let killed = format!("{run} --dir killed --set run.checkpoints=keep-last");
        let mut child = bench.command(&killed).spawn().expect("the binary runs");
        std::thread::sleep(whole * part / 16 + Duration::from_millis(7));
        child.kill().expect("a child");
        child.wait().expect("a child");
    }
    let last = "--set run.threads=1 --set run.checkpoints=keep-last";
    bench.good(&format!("{run} --dir killed {last}"));
    assert_eq!(bench.trace("killed"), bench.trace("whole"));
    assert!(bench.path("whole/reward_models/iter-0000").exists());
    assert!(!bench.path("killed/reward_models/iter-0000").exists());
    assert!(bench.path("killed/reward_models/iter-0002").exists());
}

#[test]
fn a_policy_that_is_never_right_teaches_no_reward_model() {
    let bench = Bench::new();
    let run = "run tiny.toml --quiet --set reward.kind=answer-and-reward-model \
        --set reward_model.queries=8 --dir run";
    let words = ["all steps have the label 0", "reward_model.queries", "another --dir"];
    bench.bad(run, 6, &words);
}

#[test]
fn a_token_head_is_trained_scores_and_is_used_again_from_its_folder() {
    let bench = Bench::new();
    let run = run_with_model();
    bench.good(&format!("{run} --dir run --set reward_model.head=token"));
    let scored = |events: &[serde_json::Value]| {
        let of_kind = |e: &&serde_json::Value| e["event"] == "decided";
        events.iter().filter(of_kind).map(|e| e["balance_score"].clone()).collect::<Vec<_>>()
    };
    assert!(!scored(&bench.events("run")).is_empty());
    let folder = bench.path("run/reward_models/iter-0000");
    bench.good(&format!("{run} --dir again --set reward_model.folder={}", folder.display()));
    let first = |events: &[serde_json::Value]| scored(events)[0].clone();
    assert_eq!(first(&bench.events("run")), first(&bench.events("again")));
}
