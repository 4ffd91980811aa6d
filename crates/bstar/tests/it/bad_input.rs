//! Bad input: a clear message with the fix, the documented exit code, nothing lost.

use crate::binary::{Bench, Outcome, RECORDS};
use std::process::Command;

fn rows(count: usize, offset: usize) -> String {
    let row = |i: usize| {
        let i = i + offset;
        format!(
            "{{\"id\": \"q{i}\", \"question\": \"{i}+1\", \"answer\": \"{}\", \"solution\": \"A: {}\"}}\n",
            i + 1,
            i + 1
        )
    };
    (0..count).map(row).collect()
}

/// 1-based line on which a word stands.
fn line_of(text: &str, word: &str) -> usize {
    text.lines().position(|line| line.contains(word)).expect(word) + 1
}

fn records() -> Bench {
    let bench = Bench::new();
    bench.write("records.toml", RECORDS);
    bench.write("train.jsonl", rows(20, 0));
    bench.write("test.jsonl", rows(5, 100));
    bench
}

#[test]
fn good_records_run() {
    records().good("run records.toml --quiet --set run.most_empty_iterations=9");
}

#[test]
fn a_missing_data_file_is_named() {
    let bench = records();
    std::fs::remove_file(bench.path("train.jsonl")).expect("a file");
    bench.bad("run records.toml", 3, &["train.jsonl", "hint:"]);
    assert!(!bench.path("runs").exists(), "no run folder for a run that cannot start");
}

#[test]
fn an_empty_data_file_is_named() {
    let bench = records();
    bench.write("train.jsonl", "");
    bench.bad("run records.toml", 3, &["train.jsonl", "no rows"]);
}

#[test]
fn a_broken_json_line_is_named_with_file_and_line() {
    let bench = records();
    bench.write("train.jsonl", rows(3, 0) + "{\"id\": \"q9\", \"question\": \n" + &rows(3, 50));
    bench.bad("run records.toml", 3, &["train.jsonl:4"]);
}

#[test]
fn a_missing_column_is_named_with_those_present() {
    let bench = records();
    bench.write("test.jsonl", "{\"id\": \"a\", \"query\": \"1+1\", \"answer\": \"2\"}\n");
    bench.bad("run records.toml", 3, &["test.jsonl", "question", "query", "hint:"]);
}

#[test]
fn a_parquet_file_without_the_needed_column_is_named_with_those_present() {
    let bench = records();
    bench.good("run tiny.toml --dir tiny --quiet");
    bench.good("eval tiny --task tiny.toml --rollouts rows.parquet --quiet");
    let run = "run records.toml --set task.files.test=rows.parquet";
    bench.bad(run, 3, &["rows.parquet", "question", "query_id", "hint:"]);
}

#[test]
fn a_task_without_a_split_that_the_run_needs_is_refused() {
    let bench = records();
    for (line, missing, key) in [
        ("train =", "training queries", "task.files.train"),
        ("test =", "test queries", "task.files.test"),
        ("columns =", "solutions", "task.files.columns"),
    ] {
        let kept: Vec<&str> = RECORDS.lines().filter(|kept| !kept.starts_with(line)).collect();
        bench.write("less.toml", kept.join("\n"));
        bench.bad("run less.toml", 3, &[missing, key]);
    }
    let unvalidated = "--set supervised.stop_at_accuracy=0.5 --set task.files.validation_size=0";
    bench.bad(&format!("run records.toml {unvalidated}"), 3, &["validation queries"]);
    assert!(!bench.path("runs").exists(), "no run folder for a run that cannot start");
}

#[test]
fn a_run_whose_data_changed_is_not_continued() {
    let bench = records();
    bench.good("run records.toml --quiet --set run.most_empty_iterations=9");
    bench.write("train.jsonl", rows(21, 0));
    let again = "run records.toml --quiet --set run.most_empty_iterations=9";
    bench.bad(again, 4, &["data files", "runs/records", "hint:"]);
}

#[test]
fn rows_that_are_left_out_are_told() {
    let bench = records();
    bench.write("train.jsonl", rows(20, 0) + &rows(1, 100).replace("q100", "met"));
    let outcome = bench.good("run records.toml --set run.most_empty_iterations=9");
    assert!(outcome.stderr.contains("note: "), "{}", outcome.stderr);
}

#[test]
fn duplicate_ids_are_named() {
    let bench = records();
    bench.write("train.jsonl", rows(3, 0) + &rows(1, 1));
    bench.bad("run records.toml", 3, &["train.jsonl", "q1"]);
}

#[test]
fn a_gold_answer_that_cannot_be_read_is_named() {
    let bench = records();
    let broken =
        "{\"id\": \"x\", \"question\": \"9+9\", \"answer\": \"many\", \"solution\": \"A: 1\"}\n";
    bench.write("train.jsonl", rows(2, 0) + broken);
    bench.bad("run records.toml", 3, &["train.jsonl", "3", "many"]);
}

#[test]
fn a_query_longer_than_the_context_is_named_before_anything_is_trained() {
    let bench = records();
    let question = "1+".repeat(60);
    let row = |id: &str, rest: &str| {
        format!("{{\"id\": \"{id}\", \"question\": \"{question}\", \"answer\": \"1\"{rest}}}\n")
    };
    for (file, rest) in [
        ("train.jsonl", ", \"solution\": \"A: 1\""),
        ("train.jsonl", ", \"solution\": null"),
        ("test.jsonl", ", \"solution\": null"),
    ] {
        bench.write("train.jsonl", rows(20, 0));
        bench.write("test.jsonl", rows(5, 100));
        let short = bench.read(file);
        bench.write(file, short + &row("long", rest));
        bench.bad("run records.toml", 3, &["long", "context of 64 tokens", "hint:"]);
        assert!(!bench.path("runs").exists(), "no run folder for a run that cannot start");
    }
    let left_out = "run records.toml --set run.most_empty_iterations=9 --dir left-out \
        --set task.long_queries=leave-out";
    assert!(bench.good(left_out).stderr.contains("left out 1 queries"));
    bench.write("test.jsonl", rows(5, 100));
    bench.good("run records.toml --quiet --set run.most_empty_iterations=9");
    bench.write("test.jsonl", rows(5, 100) + &row("long", ", \"solution\": null"));
    bench.bad("eval runs/records --task records.toml", 3, &["long", "context of 64 tokens"]);
}

#[test]
fn an_unknown_key_is_named_with_line_and_nearest_key() {
    let bench = Bench::new();
    let text = bench.read("tiny.toml").replace("probe_queries", "probe_querys");
    let place = format!("typo.toml:{}", line_of(&text, "probe_querys"));
    bench.write("typo.toml", text);
    bench.bad(
        "run typo.toml",
        2,
        &[&place, "balance.probe_querys", "did you mean `balance.probe_queries`?"],
    );
    bench.bad(
        "run tiny.toml --set sample.kk=3",
        2,
        &["--set", "sample.kk", "did you mean `sample.k`?"],
    );
    bench.bad(
        "run tiny.toml --set task.arithmetic.modulo=3",
        2,
        &["task.arithmetic.modulo", "modulus"],
    );
    bench.bad(
        "run tiny.toml --set model=3 --set model.size=small",
        2,
        &["--set model.size=small: `model` is a value, not a table", "hint:"],
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_line() {
    let bench = Bench::new();
    let text = bench.read("tiny.toml").replace("queries = 20", "queries = \"many\"");
    bench.write("wrong.toml", text);
    let place = format!("wrong.toml:{}", line_of(&bench.read("wrong.toml"), "\"many\""));
    bench.bad("run wrong.toml", 2, &[&place, "sample.queries"]);
    bench.write("syntax.toml", "iterations = 2\nmethod = \n");
    bench.bad("run syntax.toml", 2, &["syntax.toml:2"]);
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let bench = Bench::new();
    for (set, words) in [
        ("evaluate.k=[64]", ["evaluate.k", "evaluate.samples"]),
        ("sample.max_tokens=96", ["sample.max_tokens", "model.context_length"]),
        ("train.learning_rate_floor=1", ["train.learning_rate_floor", "train.learning_rate"]),
        ("supervised.steps=0", ["supervised.steps", "model.folder"]),
        ("iterations=0", ["iterations", "b-star"]),
        ("sample.k=0", ["sample.k", "above 0"]),
        ("balance.temperatures=0,1", ["balance.temperatures", "above 0"]),
        ("balance.thresholds=1:0:0.1", ["balance.thresholds", "min ≤ max"]),
    ] {
        bench.bad(&format!("run tiny.toml --set {set}"), 2, &words);
    }
}

#[test]
fn a_config_that_is_not_there_is_named() {
    Bench::new().bad("run nothing.toml", 2, &["nothing.toml", "bstar init"]);
}

#[test]
fn a_broken_model_folder_is_named() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir made --quiet");
    let model = "made/checkpoints/iter-0002/model.safetensors";
    let bytes = std::fs::read(bench.path(model)).expect("a model");
    bench.write("copy/config.json", bench.read("made/checkpoints/iter-0002/config.json"));
    bench.write("copy/tokenizer.json", bench.read("made/checkpoints/iter-0002/tokenizer.json"));
    let run = "run tiny.toml --set model.folder=copy --dir other";
    bench.bad(run, 3, &["model.safetensors"]);
    bench.write("copy/model.safetensors", &bytes[..bytes.len() / 2]);
    bench.bad(run, 3, &["model.safetensors"]);
    bench.write("copy/model.safetensors", &bytes);
    bench.good(&format!("{run} --quiet"));
}

#[test]
fn a_different_config_in_the_same_folder_is_refused_with_the_difference() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir r --quiet");
    let log = bench.read("r/events.jsonl");
    bench.bad("run tiny.toml --dir r --set sample.k=5", 4, &["sample.k", "4", "5", "--fresh"]);
    assert_eq!(bench.read("r/events.jsonl"), log, "the run is untouched");
    bench.good("run tiny.toml --dir r --set sample.k=5 --fresh --quiet");
}

#[test]
fn a_run_of_a_newer_format_is_refused() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir r --quiet");
    let manifest = bench.read("r/manifest.json");
    let mut value: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let format = value
        .as_object_mut()
        .expect("an object")
        .iter_mut()
        .find(|(key, _)| key.contains("format"));
    let (_, format) = format.expect("a format version");
    *format = match format {
        serde_json::Value::Object(parts) => {
            parts.insert("major".into(), 99.into());
            serde_json::Value::Object(parts.clone())
        }
        _ => "99.0".into(),
    };
    bench.write("r/manifest.json", value.to_string());
    bench.bad("run tiny.toml --dir r", 4, &["99", "hint:"]);
    bench.bad("runs show r", 4, &["99"]);
    bench.write("r/manifest.json", manifest);
    bench.good("run tiny.toml --dir r --quiet");
}

#[test]
fn two_processes_cannot_work_on_one_run() {
    let bench = Bench::new();
    let mut first = bench
        .command("run tiny.toml --dir r --quiet --set supervised.steps=100000")
        .spawn()
        .expect("the binary runs");
    while !bench.path("r/events.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let second = "run tiny.toml --dir r --quiet --set supervised.steps=100000";
    bench.bad(second, 4, &["process", &first.id().to_string()]);
    bench.bad(&format!("{second} --fresh"), 4, &["process"]);
    first.kill().expect("a child");
    first.wait().expect("a child");
}

#[test]
fn a_loss_that_is_not_finite_stops_before_the_step_is_committed() {
    let bench = Bench::new();
    let words = ["NaN", "at step", "hint:"];
    bench.bad("run tiny.toml --dir r --set supervised.learning_rate=1e30", 6, &words);
    for line in bench.read("r/events.jsonl").lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("an event");
        assert!(event["event"] != "step" || event["loss"].is_f64(), "{line}");
    }
    bench.good("runs show r");
    bench.bad("run tiny.toml --dir r --set supervised.learning_rate=1e30", 6, &words);
}

#[test]
fn iterations_that_select_nothing_end_the_run_with_advice() {
    let bench = Bench::new();
    let settings =
        "--set method=online-rft --set balance.fixed_threshold=2 --set run.most_empty_iterations=2";
    let outcome = bench.bad(
        &format!("run tiny.toml --dir r {settings}"),
        6,
        &["2 iterations in a row", "hint:", "τ"],
    );
    assert!(outcome.stderr.contains("nothing selected (1 in a row)"), "{}", outcome.stderr);
    let shown = bench.good("runs show r --json").json();
    assert_eq!(shown["iterations"][1]["selected"], 0);
    let why = "nothing was selected in 2 iterations in a row";
    let shown = bench.good("runs show r").stdout;
    assert!(shown.contains(&format!("failed: {why}")), "{shown}");
    let listed = &bench.good("runs list --dir . --json").json()[0];
    assert_eq!(listed["state"], "failed");
    assert!(listed["problem"].as_str().is_some_and(|told| told.starts_with(why)), "{listed}");
    // One that was stopped earlier goes on, and says nothing of a failure.
    let log = bench.read("r/events.jsonl");
    let cut = log.find("\"nothing_selected\"").expect("the first");
    let cut = log[cut..].find('\n').map_or(cut, |end| cut + end + 1);
    bench.write("r/events.jsonl", &log[..cut]);
    let listed = &bench.good("runs list --dir . --json").json()[0];
    assert_eq!((&listed["state"], &listed["problem"]), (&"unfinished".into(), &().into()));
}

#[test]
fn a_full_disk_stops_the_run_and_loses_nothing() {
    if cfg!(not(target_os = "linux")) {
        eprintln!("skipped: needs tmpfs");
        return;
    }
    let bench = Bench::new();
    bench.good("run tiny.toml --dir whole --quiet");
    std::fs::create_dir(bench.path("small")).expect("a folder");
    // In a mount namespace of its own: a volume that is too small, then the same one, larger.
    let binary = env!("CARGO_BIN_EXE_bstar");
    let run = format!("{binary} run tiny.toml --dir small/r --quiet");
    let script = format!(
        "mount -t tmpfs -o size=120k none small || exit 99; {run}; code=$?; \
         mount -o remount,size=64m small && {run} && cp -r small/r after; exit $code"
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(bench.path(""))
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no unshare");
        return;
    };
    let outcome = Outcome::of(&output);
    if outcome.code == Some(99) || outcome.stderr.contains("unshare failed") {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    }
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("space") && outcome.stderr.contains("hint:"),
        "{}",
        outcome.stderr
    );
    assert_eq!(bench.trace("after"), bench.trace("whole"));
}
