//! The verbs that look at what is there: eval, analyze, balance, runs, doctor.

use crate::binary::Bench;
use serde_json::Value;
use std::fmt::Write as _;

/// The pools of spec §6.2 as rollout rows, in one file with both temperatures.
fn worked_pools() -> String {
    let rows: [(f64, &str, &str, bool, f64); 16] = [
        (0.5, "q1", "a1", true, 4.0),
        (0.5, "q1", "a2", true, 2.0),
        (0.5, "q1", "a2", true, 2.0),
        (0.5, "q1", "a3", false, -3.0),
        (0.5, "q2", "b1", false, 1.0),
        (0.5, "q2", "b2", false, -2.0),
        (0.5, "q2", "b3", true, -1.0),
        (0.5, "q2", "b4", false, -4.0),
        (1.0, "q1", "c1", true, 3.0),
        (1.0, "q1", "c2", true, 1.0),
        (1.0, "q1", "c3", true, -2.0),
        (1.0, "q1", "c4", false, 0.5),
        (1.0, "q2", "d1", true, 0.5),
        (1.0, "q2", "d2", false, -0.4),
        (1.0, "q2", "d3", false, -3.0),
        (1.0, "q2", "d4", false, 2.0),
    ];
    let mut text = String::new();
    for (index, (temperature, query, response, correct, score)) in rows.into_iter().enumerate() {
        let verdict = if correct { "correct" } else { "incorrect" };
        let sample = index % 4;
        writeln!(
            text,
            r#"{{"query_id": "{query}", "sample_index": {sample}, "temperature": {temperature}, "response": "{response}", "answer": null, "verdict": "{verdict}", "reward_model_score": {score}}}"#
        )
        .expect("text");
    }
    text
}

fn cell(grid: &Value, temperature: f64, threshold: f64) -> &Value {
    let cells = grid["grid"].as_array().expect("a grid");
    let found = cells
        .iter()
        .find(|cell| cell["temperature"] == temperature && cell["threshold"] == threshold);
    found.unwrap_or_else(|| panic!("no cell ({temperature}, {threshold})"))
}

#[test]
fn balance_finds_the_worked_choice_in_one_file_or_two() {
    let bench = Bench::new();
    let pools = worked_pools();
    bench.write("both.jsonl", &pools);
    let lines: Vec<&str> = pools.lines().collect();
    bench.write("a.jsonl", lines[..8].join("\n"));
    bench.write("b.jsonl", lines[8..].join("\n"));
    let flags = "--target-count 3 --thresholds -1,-0.5,-0.1,0,0.1,0.5,1 --json";
    let both = bench.good(&format!("balance both.jsonl {flags}")).json();
    assert_eq!(both["chosen"]["temperature"], 1.0);
    assert_eq!(both["chosen"]["threshold"], 0.5);
    assert!((both["chosen"]["balance_score"].as_f64().expect("a score") - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(both["grid"].as_array().map(Vec::len), Some(14));
    let at = cell(&both, 0.5, -1.0);
    assert!((at["balance_score"].as_f64().expect("a score") - 0.263_889).abs() < 1e-6);
    assert_eq!((&at["selected"], &at["correct"], &at["cap"]), (&7.into(), &3.into(), &Value::Null));
    assert_eq!(bench.good(&format!("balance a.jsonl b.jsonl {flags}")).json(), both);
}

#[test]
fn balance_reproduces_the_official_search() {
    let bench = Bench::new();
    bench.write("both.jsonl", worked_pools());
    let result =
        bench.good("balance both.jsonl --preset official-code --cap-to-pool 6 --json").json();
    assert_eq!(result["chosen"]["temperature"], 1.0);
    assert_eq!(result["chosen"]["threshold"], 0.400_000_000_000_000_97);
    assert!((result["chosen"]["balance_score"].as_f64().expect("a score") - 0.375).abs() < 1e-9);
    let chosen = cell(&result, 1.0, 0.400_000_000_000_000_97);
    assert_eq!((&chosen["cap"], &chosen["selected"]), (&4.into(), &6.into()));
    let tied =
        bench.good("balance both.jsonl --preset official-code --cap-to-pool 4 --json").json();
    assert_eq!(tied["chosen"]["temperature"], 0.5, "a tie goes to the first");
}

#[test]
fn balance_counts_what_a_bar_verifies() {
    let bench = Bench::new();
    let pools = worked_pools();
    bench.write("both.jsonl", &pools);
    let flags = "--target-count 2 --thresholds -1,0 --json --verified-above";
    let low = bench.good(&format!("balance both.jsonl {flags} -0.5")).json();
    let plain = bench.good("balance both.jsonl --target-count 2 --thresholds -1,0 --json").json();
    assert_eq!(low, plain, "every correct response is above the bar");
    let high = bench.good(&format!("balance both.jsonl {flags} 0")).json();
    // At t = 1, τ = -1 all eight are selected; c3 (-2) is right and not verified.
    let at = cell(&high, 1.0, -1.0);
    assert_eq!((&at["selected"], &at["correct"]), (&8.into(), &3.into()));
    // q1: 2 of 4 with quota 2, q2: 1 of 4.
    let expected = f64::midpoint(0.5, 0.125);
    assert!((at["balance_score"].as_f64().expect("a score") - expected).abs() < 1e-12, "{at}");
    let table = bench.good("balance both.jsonl --target-count 2 --verified-above 0").stdout;
    assert!(table.contains("unique verified"), "{table}");
    bench.write("bare.jsonl", pools.replace("reward_model_score", "other"));
    let bare = "balance bare.jsonl --target-count 2 --verified-above 0";
    bench.bad(bare, 2, &["--verified-above", "carry none"]);
}

#[test]
fn balance_searches_one_draw_of_a_run() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir run --quiet");
    let files = |stage: &str| {
        format!("run/rollouts/iter-0001/{stage}.parquet run/rollouts/iter-0002/{stage}.parquet")
    };
    let both = format!("balance {} {} --target-count 3", files("probe"), files("train"));
    bench.bad(&both, 2, &["iteration 1, probe; iteration 1, train", "--iteration", "--stage"]);
    let one = bench.good(&format!("{both} --iteration 2 --stage probe --json")).json();
    let alone = "balance run/rollouts/iter-0002/probe.parquet --target-count 3 --json";
    assert_eq!(one, bench.good(alone).json());
    bench.bad(&format!("{both} --iteration 7"), 3, &["no row is left", "--iteration"]);
    let eval = "balance run/rollouts/iter-0001/eval.parquet --target-count 3";
    assert!(bench.good(eval).stderr.contains("10 greedy rows"), "temperature 0 is no candidate");
}

#[test]
fn balance_says_what_it_needs() {
    let bench = Bench::new();
    bench.write("both.jsonl", worked_pools());
    bench.bad("balance both.jsonl", 2, &["--target-count"]);
    bench.bad("balance both.jsonl --target-count 0", 2, &["--target-count"]);
    bench.bad("balance both.jsonl --target-count 3 --thresholds 1:0:1", 2, &["min ≤ max"]);
    bench.bad("balance both.jsonl --target-count 3 --rm-clip wide", 2, &["--rm-clip", "none"]);
    bench.bad("balance gone.jsonl --target-count 3", 3, &["gone.jsonl"]);
    bench.write("broken.jsonl", worked_pools() + "{\"query_id\": \n");
    bench.bad("balance broken.jsonl --target-count 3", 3, &["broken.jsonl:17"]);
    bench.write("column.jsonl", "{\"query_id\": \"a\", \"text\": \"b\"}\n");
    bench.bad("balance column.jsonl --target-count 3", 3, &["column.jsonl", "response"]);
}

#[test]
fn analyze_names_estimator_queries_and_interval_of_every_monitor() {
    let bench = Bench::new();
    bench.write("both.jsonl", worked_pools());
    let result = bench.good("analyze both.jsonl --k 1,4 --s 1,2 --json").json();
    let metrics = result["metrics"].as_array().expect("metrics");
    let value = |name: &str, temperature: f64| -> f64 {
        let metric = metrics.iter().find(|m| m["name"] == name && m["temperature"] == temperature);
        let metric = metric.unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(metric["queries"], 2, "{name}");
        assert!(metric["low"].is_number() && metric["high"].is_number(), "{name}");
        assert!(metric["estimator"].as_str().is_some_and(|text| text.len() > 10), "{name}");
        metric["value"].as_f64().expect(name)
    };
    assert_eq!(value("explore/pass@1", 0.5), 0.5);
    assert_eq!(value("explore/pass@4-2", 0.5), 0.5);
    assert_eq!(value("exploit/best_of_4", 1.0), 0.5);
    assert_eq!(value("data/duplicate_rate", 0.5), 0.125);
    let again = bench.good("analyze both.jsonl --k 1,4 --s 1,2 --json").json();
    assert_eq!(again, result, "seeded");
}

#[test]
fn foreign_rollouts_with_a_correct_column_are_read() {
    let bench = Bench::new();
    let row = |sample: usize, correct: bool| {
        format!("{{\"query_id\": 7, \"response\": \"r{sample}\", \"correct\": {correct}}}\n")
    };
    bench.write("foreign.jsonl", row(0, true) + &row(1, false));
    let outcome = bench.good("analyze foreign.jsonl --k 1,2 --s 1 --json");
    assert!(outcome.stderr.contains("temperature"), "{}", outcome.stderr);
    let result = outcome.json();
    let pass = result["metrics"]
        .as_array()
        .expect("metrics")
        .iter()
        .find(|m| m["name"] == "explore/pass@1");
    assert_eq!(pass.expect("pass@1")["value"], 0.5);
}

#[test]
fn pieces_that_take_turns_are_told_once_and_as_a_whole() {
    let bench = Bench::new();
    let told = bench.good("run tiny.toml --set iterations=1").stderr;
    for piece in ["probe", "checking probe"] {
        let begins = format!("[1/1] {piece}: ");
        let lines: Vec<&str> = told.lines().filter(|line| line.starts_with(&begins)).collect();
        assert!(lines.len() == 1 && !lines[0].contains(" of "), "{told}");
    }
}

#[test]
fn eval_checks_the_model_it_is_given_and_where_it_writes() {
    let bench = Bench::new();
    bench.good("run tiny.toml --set model.context_length=200 --set iterations=1 --quiet");
    // The default context of a model from scratch (128) is not this model's.
    let eval = "eval runs/tiny --task tiny.toml --set sample.max_tokens=150";
    let outcome = bench.good(eval);
    assert!(outcome.stdout.contains("eval/arithmetic/truncated"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("evaluating runs/tiny/checkpoints/iter-0001"));
    for (name, code, word) in [("no/r.jsonl", 2, "folder"), ("r.txt", 2, ".jsonl")] {
        let outcome = bench.bad(&format!("{eval} --rollouts {name}"), code, &[word, "hint:"]);
        assert!(!outcome.stderr.contains("responses in"), "{name} is refused before sampling");
    }
    bench.good(&format!("{eval} --set evaluate.samples=2 --set evaluate.k=1,2"));
    let wrong = bench.bad(&format!("{eval} --set evaluate.k=1,9"), 2, &["--set evaluate.k=1,8"]);
    assert!(wrong.stdout.is_empty());
}

#[test]
fn text_that_the_tokenizer_does_not_know_is_told() {
    let bench = Bench::new();
    bench.good("run tiny.toml --set iterations=1 --quiet");
    bench.write("words.jsonl", "{\"question\": \"how many?\", \"answer\": \"1\"}\n");
    let eval = "eval runs/tiny --task records --set evaluate.samples=32 \
        --set task.files.test=words.jsonl --set sample.max_tokens=8";
    let outcome = bench.good(eval);
    assert!(outcome.stderr.contains("warning: 1 of 1 prompts"), "{}", outcome.stderr);
}

#[test]
fn analyze_leaves_open_what_a_file_does_not_tell() {
    let bench = Bench::new();
    let row = |i: u8| {
        format!(
            "{{\"query_id\": \"q\", \"response\": \"r{i}\", \"correct\": {}}}\n",
            i.is_multiple_of(2)
        )
    };
    bench.write("plain.jsonl", (0..8).map(row).collect::<String>());
    let result = bench.good("analyze plain.jsonl --k 1,4 --json").json();
    let value = |name: &str| {
        let metrics = result["metrics"].as_array().expect("metrics");
        metrics.iter().find(|m| m["name"] == name).expect(name)["value"].clone()
    };
    assert_eq!(value("explore/distinct_answers"), Value::Null);
    assert_eq!(value("verify/no_answer"), Value::Null);
    assert!((value("explore/pass@1").as_f64().expect("known") - 0.5).abs() < 1e-12);
    let table = bench.good("analyze plain.jsonl --k 1,4").stdout;
    assert!(table.contains("have no value here") && !table.contains("distinct_answers"), "{table}");
}

#[test]
fn balance_tells_of_queries_that_a_temperature_lacks() {
    let bench = Bench::new();
    let row = |query: u8, t: f64| {
        format!(
            "{{\"query_id\": \"q{query}\", \"temperature\": {t}, \"response\": \"r\", \"correct\": false}}\n"
        )
    };
    bench.write("uneven.jsonl", row(0, 0.5) + &row(1, 0.5) + &row(0, 1.0));
    let outcome = bench.good("balance uneven.jsonl --target-count 2");
    assert!(outcome.stderr.contains("1 of 2 queries have no rows at temperature 1"));
    assert!(outcome.stderr.contains("no candidate selects a correct response"));
}

#[test]
fn grade_gives_the_same_rows_with_verdicts_and_names_what_it_cannot_read() {
    let bench = Bench::new();
    let rows = r#"{"id": 7, "gold": "\\frac{1}{2}", "pred": "So we get \\boxed{0.5}."}
{"gold": "(0,1)", "pred": "(0,1.5)"}
{"gold": "3", "pred": ""}
not json
{"gold": "3"}
{"gold": "", "pred": "3"}
"#;
    // A line that is no text does not stop the rest either.
    let rows = [b"{\"gold\": \"\xff\"}\n", rows.as_bytes()].concat();
    bench.write("rows.jsonl", rows);
    let words = ["rows.jsonl:1: text is not UTF-8", "rows.jsonl:5", "rows.jsonl:6", "`pred`"];
    let outcome = bench.bad("grade rows.jsonl", 3, &words);
    let graded: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let verdicts: Vec<&str> = graded.iter().filter_map(|row| row["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["correct", "incorrect", "no_answer", "ungradable"]);
    assert_eq!((&graded[0]["id"], &graded[0]["extracted"]), (&7.into(), &"0.5".into()));
    assert!(graded.iter().all(|row| row["reason"].as_str().is_some_and(|why| !why.is_empty())));
    assert!(outcome.stderr.contains("4 rows graded"), "{}", outcome.stderr);

    bench.write("n.jsonl", "{\"gold\": \"2 + 2 = 4 #### 4\", \"pred\": \"so 4 eggs\"}\n");
    let number = bench.good("grade n.jsonl --kind number --quiet");
    assert!(number.stdout.contains("\"correct\"") && number.stderr.is_empty());
    bench.write("c.jsonl", "{\"key\": \"B\", \"out\": \"Final answer: (b)\"}\n");
    let choice = bench.good("grade c.jsonl --kind choice --gold key --pred out");
    assert!(choice.stdout.contains("\"correct\""), "{}", choice.stdout);
    bench.write("s.jsonl", "{\"gold\": \"1/3\", \"pred\": \"0.333333\"}\n");
    assert!(bench.good("grade s.jsonl").stdout.contains("\"correct\""));
    assert!(bench.good("grade s.jsonl --strict").stdout.contains("\"incorrect\""));
}

#[test]
fn audit_compares_with_a_second_opinion() {
    let bench = Bench::new();
    let rows = r#"{"gold": "1/2", "pred": "0.5", "label": true}
{"gold": "7", "pred": "7", "label": 1}
{"gold": "7", "pred": "7.0", "label": "incorrect"}
{"gold": "3", "pred": "4", "label": false}
{"gold": "3", "pred": "4", "label": null}
{"gold": "3", "pred": "5", "label": "correct"}
"#;
    bench.write("rows.jsonl", rows);
    let found = bench.good("audit rows.jsonl --label label --json").json();
    for (name, count) in
        [("rows", 6), ("no_opinion", 1), ("both_correct", 2), ("ours_only", 1), ("second_only", 1)]
    {
        assert_eq!(found[name], count, "{name}");
    }
    assert_eq!(found["agreement"], 0.6);
    assert_eq!(found["disagreements"].as_array().map(Vec::len), Some(2));
    let told = bench.good("audit rows.jsonl --against exact").stdout;
    assert!(told.contains("0.5") && told.contains("equal as"), "{told}");
    let second = "#!/bin/sh\nwhile read row; do case $row in *:?7*) echo true;; \
                  *) echo null;; esac; done";
    let path = bench.write("second.sh", second);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, executable).expect("a mode");
    let external = bench.good("audit rows.jsonl --json --command ./second.sh").json();
    assert_eq!((&external["no_opinion"], &external["rows"]), (&4.into(), &6.into()));
    bench.bad("audit rows.jsonl --command false", 2, &["`false` does not answer"]);
    bench.bad("audit rows.jsonl --command yes", 2, &["wrote \"y\""]);
    bench.bad("audit rows.jsonl", 2, &["--label", "--command"]);
    bench.bad("audit rows.jsonl --kind game24 --against exact", 2, &["--label"]);
}

#[test]
fn a_run_can_be_listed_shown_evaluated_and_analyzed() {
    let bench = Bench::new();
    let run = bench.good("run tiny.toml --json").json();
    assert_eq!(run["finished"], true);
    let listed = bench.good("runs list --json").json();
    assert_eq!(listed[0]["id"], "tiny");
    assert!(bench.good("runs list").stdout.contains("finished"));
    let shown = bench.good("runs show tin --json").json();
    assert_eq!(shown, run, "a unique beginning of the name is enough");
    assert_eq!(shown["iterations"].as_array().map(Vec::len), Some(3));
    for row in shown["iterations"].as_array().expect("rows") {
        assert!(row["metrics"]["eval/arithmetic/pass@1"]["value"].is_number(), "{row}");
        let pass = |k: &str| row["metrics"][k]["value"].as_f64().expect("a value");
        assert!(pass("explore/pass@4") >= pass("explore/pass@1") - 1e-12);
    }
    assert!(bench.good("runs show runs/tiny").stdout.contains("P_0"));
    bench.bad("runs show nothing", 4, &["nothing", "the runs there are tiny"]);

    // Evaluating the last checkpoint again gives the numbers of the run.
    let eval = bench
        .good("eval runs/tiny --task tiny.toml --rollouts out.jsonl.zst --json --quiet")
        .json();
    let metric = |name: &str| {
        eval["metrics"].as_array().and_then(|all| all.iter().find(|m| m["name"] == name)).cloned()
    };
    let last = &shown["iterations"][2]["metrics"];
    for name in ["eval/arithmetic/pass@1", "explore/pass@4", "explore/entropy"] {
        assert_eq!(metric(name).expect(name), last[name], "{name}");
    }
    bench.good("analyze out.jsonl.zst runs/tiny/rollouts/iter-0002/train.parquet --k 1,4");
    bench.good("balance runs/tiny/rollouts/iter-0002/probe.parquet --target-count 2");
    let jsonl = bench.good("analyze out.jsonl.zst --k 1,4 --json").json();
    let parquet =
        bench.good("analyze runs/tiny/rollouts/iter-0002/eval.parquet --k 1,4 --json").json();
    let values = |result: &Value| -> Vec<Value> {
        result["metrics"].as_array().expect("metrics").iter().map(|m| m["value"].clone()).collect()
    };
    assert_eq!(values(&jsonl), values(&parquet));
}

#[test]
fn what_balance_chooses_on_a_probe_is_what_the_run_chose() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir r --quiet");
    let mut previous: Option<(f64, f64)> = None;
    for line in bench.read("r/events.jsonl").lines() {
        let event: Value = serde_json::from_str(line).expect("an event");
        if event["event"] != "decided" {
            continue;
        }
        let best = event["grid"]
            .as_array()
            .expect("a grid")
            .iter()
            .map(|c| c["balance_score"].as_f64().expect("a score"));
        let best = best.fold(f64::MIN, f64::max);
        assert!((event["balance_score"].as_f64().expect("a score") - best).abs() < 1e-12);
        if previous.is_none() {
            let probe = format!(
                "balance r/rollouts/iter-0001/probe.parquet --target-count {} --thresholds -0.5,0,0.5 --cap-to-pool 13 --json",
                event["target_count"]
            );
            let searched = bench.good(&probe).json();
            assert_eq!(searched["chosen"]["temperature"], event["temperature"]);
            assert_eq!(searched["chosen"]["threshold"], event["threshold"]);
            assert_eq!(searched["grid"], event["grid"]);
        }
        previous = Some((
            event["temperature"].as_f64().expect("t"),
            event["threshold"].as_f64().expect("τ"),
        ));
    }
    assert!(previous.is_some());
}

#[test]
fn doctor_and_help_say_something() {
    let bench = Bench::new();
    assert!(bench.good("doctor --json").json().as_array().is_some_and(|all| all.len() > 4));
    for verb in [
        "",
        "run",
        "eval",
        "analyze",
        "balance",
        "runs",
        "runs show",
        "config",
        "init",
        "doctor",
        "merge",
        "bench",
    ] {
        let help = bench.good(&format!("{verb} --help")).stdout;
        assert!(help.contains("Usage: bstar"), "{verb}: {help}");
    }
    bench.bad("tune", 2, &["tune"]);
}

#[test]
fn bench_measures_each_workload_beside_the_peak() {
    let bench = Bench::new();
    let outcome = bench.good("bench --size pico --quick --json");
    assert!(outcome.stderr.contains("[1/4] pico-train"), "{}", outcome.stderr);
    let report = outcome.json();
    assert!(report["gflops"].as_f64() > Some(0.0));
    let workloads = report["workloads"].as_array().expect("workloads");
    assert_eq!(workloads.len(), 4);
    for row in workloads {
        assert!(row["tokens_per_second"].as_f64() > Some(0.0), "{row}");
        let samples = row["workload"].as_str().is_some_and(|name| name.contains("sample"));
        assert_eq!(row["gigabytes_per_second"].is_number(), samples, "{row}");
    }
    bench.bad("bench --workload medium-train", 2, &["medium-train", "hint:"]);
}
