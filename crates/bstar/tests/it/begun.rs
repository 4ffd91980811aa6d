//! Comparisons that were begun before: what goes on, and what is refused with nothing lost.

use crate::binary::{Bench, RECORDS};
use serde_json::{Value, json};

/// Samples of a test query beside its greedy response, in place of none.
const SAMPLED: &str = "sampled_queries = 4
samples = 2
k = [1, 2]
s = [1]
[run]
most_empty_iterations = 9
";

const COMPARED: &str =
    "base = \"records.toml\"\nseeds = [1]\n[[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n";

fn rows(count: usize, offset: usize) -> String {
    let row = |i: usize| {
        let answer = i + 1;
        format!(
            "{{\"id\": \"q{i}\", \"question\": \"{i}+1\", \"answer\": \"{answer}\", \
             \"solution\": \"A: {answer}\"}}\n"
        )
    };
    (offset..offset + count).map(row).collect()
}

fn records() -> Bench {
    let bench = Bench::new();
    bench.write("train.jsonl", rows(40, 0));
    bench.write("test.jsonl", rows(8, 100));
    bench.write("records.toml", RECORDS.replace("sampled_queries = 0\n", SAMPLED));
    bench.write("c.toml", COMPARED);
    bench
}

fn resolved(bench: &Bench, run: &str) -> Value {
    let text = bench.read(&format!("{run}/config.resolved.json"));
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn long_queries_that_are_left_out_change_no_accuracy() {
    let bench = records();
    let long = format!(
        "{{\"id\": \"long\", \"question\": \"{}1\", \"answer\": \"61\", \"solution\": null}}\n",
        "1+".repeat(60)
    );
    // In the midst, so that the answers of the samples would be taken for greedy ones.
    bench.write("test.jsonl", rows(4, 100) + &long + &rows(4, 104));
    let leave_out = "--set task.long_queries=leave-out";
    let results = bench.good(&format!("compare c.toml --json --quiet {leave_out}")).json();
    let events = bench.events("comparisons/c/runs/fixed/seed-0001");
    let last = events.iter().rfind(|e| e["event"] == "measured" && e["stage"] == "eval");
    let metrics = last.expect("an evaluation")["metrics"].as_array().expect("metrics");
    let mut compared = 0;
    for metric in metrics {
        let name = metric["name"].as_str().expect("a name");
        let found = &results["entries"][0]["metrics"][name];
        if name.starts_with("eval/") {
            assert_eq!(found["values"], 8, "{name}");
            assert_eq!(found["mean"], metric["value"], "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 2, "{metrics:?}");
    // Queries are left out of training too, also where a plan is given a model's size: the data are the same.
    bench.write("train.jsonl", rows(20, 0) + &long + &rows(20, 20));
    let again =
        format!("compare c.toml --quiet {leave_out} --set plan.parameters=1000 --dir again");
    bench.good(&again);
    bench.good(&again);
}

#[test]
fn other_data_are_noticed_in_a_finished_run() {
    let bench = records();
    bench.good("compare c.toml --quiet");
    bench.write("train.jsonl", rows(39, 0) + &rows(1, 50));
    let words = ["`Fixed` with seed 1", "the data hold something else", "--fresh"];
    bench.bad("compare c.toml --quiet", 4, &words);
    bench.bad("compare c.toml --quiet --tables", 4, &words);
    bench.write("train.jsonl", rows(40, 0));
    bench.good("compare c.toml --quiet");
}

#[test]
fn another_model_in_the_same_folder_is_noticed() {
    let bench = Bench::new();
    let copy = |seed: u32| {
        bench.good(&format!("run tiny.toml --dir made-{seed} --quiet --set seed={seed}"));
        let from = bench.path(&format!("made-{seed}/checkpoints/iter-0002"));
        for entry in std::fs::read_dir(from).expect("a checkpoint") {
            let entry = entry.expect("a file");
            let bytes = std::fs::read(entry.path()).expect("a file");
            bench.write(&format!("model/{}", entry.file_name().display()), bytes);
        }
    };
    copy(1);
    let config = "base = \"tiny.toml\"\nseeds = [1]\n[common]\nmodel.folder = \"model\"\n\
        supervised.steps = 0\n[[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n";
    bench.write("c.toml", config);
    bench.good("compare c.toml --quiet");
    bench.good("compare c.toml --quiet");
    copy(2);
    let words = ["P_0 of seed 1", "`model.folder` holds another model", "put back"];
    bench.bad("compare c.toml --quiet", 4, &words);
    // Without the folder there is nothing to compare with, and nothing to run.
    std::fs::remove_dir_all(bench.path("model")).expect("a folder");
    bench.good("compare c.toml --quiet --tables");
}

#[test]
fn a_budget_that_leaves_other_queries_is_noticed_where_labels_are_counted_too() {
    let bench = Bench::new();
    let config = r#"
base = "tiny.toml"
seeds = [3]
budget = "as-configured"
[common]
task.arithmetic.modulus = 3
task.arithmetic.expressions = 1
task.arithmetic.largest_operand = 2
task.arithmetic.supervised_operations = [0.0, 0.0, 1.0, 1.0]
task.arithmetic.query_operations = [0.0, 0.0, 1.0]
supervised.steps = 60
sample.queries = 40
reward_model = { queries = 16, responses = 4, completions = 1, steps = 12, batch_size = 8 }
[[entry]]
name = "Fixed"
method = "online-rft"
[[entry]]
name = "Model"
method = "online-rft"
reward.kind = "answer-and-reward-model"
"#;
    bench.write("c.toml", config);
    bench.good("compare c.toml --quiet");
    bench.write("c.toml", config.replace("as-configured", "equal-generations"));
    let words =
        ["`Model` with seed 3", "sample.queries: 40 → ", "`equal-generations` beside `Fixed`"];
    bench.bad("compare c.toml --quiet", 4, &words);
    assert!(bench.read("comparisons/c/config.toml").contains("as-configured"), "nothing is lost");
    // Begun with that budget it is accepted, though the labels are known afterwards only.
    bench.good("compare c.toml --quiet --fresh");
    bench.good("compare c.toml --quiet");
}

#[test]
fn a_comparison_of_a_build_that_knew_fewer_keys_goes_on() {
    let bench = Bench::new();
    let one =
        "base = \"tiny.toml\"\nseeds = [1]\n[[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n";
    bench.write("c.toml", one);
    bench.good("compare c.toml --quiet");
    let starts = || {
        let folders = std::fs::read_dir(bench.path("comparisons/c/starts")).expect("starts");
        folders.map(|entry| entry.expect("a start").path()).collect::<Vec<_>>()
    };
    let [start] = &starts()[..] else { panic!("one start") };
    let old = start.with_file_name("older");
    std::fs::rename(start, &old).expect("a folder");
    for run in ["runs/fixed", "starts/older"] {
        let name = format!("comparisons/c/{run}/seed-0001");
        let mut keys = resolved(&bench, &name);
        for (table, key) in [("sample", "min_p"), ("evaluate", "sampled_queries"), ("", "lora")] {
            let table = if table.is_empty() { &mut keys } else { &mut keys[table] };
            let removed = table.as_object_mut().expect("a table").remove(key);
            assert!(removed.is_some(), "{key}");
        }
        // Only what was the default may be missing.
        keys["evaluate"]["sampled_queries"] = json!(4);
        bench.write(&format!("{name}/config.resolved.json"), keys.to_string());
    }
    let more = "[[entry]]\nname = \"Adaptive\"\nmethod = \"b-star\"\n";
    bench.write("c.toml", one.to_owned() + more);
    let steps = |run: &str| bench.events(run).iter().filter(|e| e["event"] == "step").count();
    let made = steps("comparisons/c/starts/older/seed-0001");
    let text = bench.good("compare c.toml --quiet").stdout;
    assert!(text.contains("| Adaptive | 1/1"), "{text}");
    assert_eq!(starts(), [old], "the start is the same, whatever its name");
    assert_eq!(steps("comparisons/c/starts/older/seed-0001"), made);
    bench.write("c.toml", one.to_owned() + "sample.min_p = 0.1\n");
    bench.bad("compare c.toml --quiet", 4, &["sample.min_p: 0.0 → 0.1"]);
}

#[test]
fn a_run_of_a_build_that_knew_fewer_keys_goes_on() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir run --quiet");
    let mut keys = resolved(&bench, "run");
    keys.as_object_mut().expect("keys").remove("knobs").expect("a table");
    keys["task"]["arithmetic"]
        .as_object_mut()
        .expect("keys")
        .remove("largest_operand")
        .expect("a key");
    bench.write("run/config.resolved.json", keys.to_string());
    bench.good("run tiny.toml --dir run --quiet");
    let words = ["knobs.cap: [] → [4]"];
    bench.bad("run tiny.toml --dir run --set knobs.cap=[4]", 4, &words);
    let words = ["task.arithmetic.largest_operand: 9 → 5"];
    bench.bad("run tiny.toml --dir run --set task.arithmetic.largest_operand=5", 4, &words);
}
