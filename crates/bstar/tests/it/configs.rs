//! Every shipped config resolves, and the real-data config runs on real data where there is any.

use crate::binary::{Bench, records_with, repository, shared};

#[test]
fn every_shipped_config_resolves() {
    let bench = Bench::new();
    let mut seen = 0;
    let mut left = vec![repository().join("configs")];
    while let Some(path) = left.pop() {
        // Those of comparisons name one of these as their base.
        if path.ends_with("compare") {
            continue;
        }
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("configs");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let shown = bench.good(&format!("config show {} --json", path.display())).json();
        assert!(shown["sample"]["k"].as_u64().is_some_and(|k| k > 0), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 2, "only {seen} configs");
}

#[test]
fn the_template_of_init_resolves_to_the_defaults() {
    let bench = Bench::new();
    bench.good("init mine.toml");
    let written = bench.good("config show mine.toml").stdout;
    assert_eq!(written, bench.good("config show").stdout);
    let template = bench.read("mine.toml");
    assert!(template.contains("# modulus = 10"), "the keys of the default task are shown");
    bench.bad("init mine.toml", 2, &["mine.toml", "hint:"]);
}

#[test]
fn a_refused_config_is_shown_before_it_is_refused() {
    let bench = Bench::new();
    for json in ["", " --json"] {
        let set = "--set optimizer.beta1=1.5 --set sample.k=77";
        let shown = bench.bad(
            &format!("config show tiny.toml {set}{json}"),
            2,
            &["`optimizer.beta1` is 1.5", "below 1", "bstar config show"],
        );
        assert!(shown.stdout.contains("77") && shown.stdout.contains("1.5"), "{}", shown.stdout);
    }
    bench.bad(
        "run tiny.toml --set train.steps=1000000 --set train.batch_size=9999999",
        2,
        &["times"],
    );
}

#[test]
fn a_grid_may_be_a_number_or_an_array() {
    let bench = Bench::new();
    bench.write("grids.toml", "[balance]\ntemperatures = [0.5, 0.8, 1]\nthresholds = 0\n");
    let shown = bench.good("config show grids.toml --json").json();
    assert_eq!(shown["balance"]["temperatures"], "0.5,0.8,1");
    assert_eq!(shown["balance"]["thresholds"], "0");
    let set = "--set balance.temperatures=0.8 --set balance.thresholds=-1,0.5";
    let shown = bench.good(&format!("config show {set} --json")).json();
    assert_eq!(shown["balance"]["temperatures"], "0.8");
    assert_eq!(shown["balance"]["thresholds"], "-1,0.5");
    bench.write("grids.toml", "[balance]\n\ntemperatures = []\n");
    let words = ["grids.toml:3", "balance.temperatures", "at least one number"];
    bench.bad("config show grids.toml", 2, &words);
    bench.bad("config show --set balance.thresholds=nan", 2, &["balance.thresholds", "decimal"]);
}

/// What a records config in the folder `task` has of its own, with its data in `task/data`.
const ELSEWHERE: &str = r#"
task.files = { train = "data/train.jsonl", test = "data/test.jsonl", extract = ["last_line"] }
sample.max_tokens = 8
run.most_empty_iterations = 9
"#;

fn sums(first: usize, count: usize) -> String {
    let row = |i: usize| {
        let sum = i + 1;
        format!("{{\"question\": \"{i}+1\", \"answer\": \"{sum}\", \"solution\": \"{sum}\"}}\n")
    };
    (first..first + count).map(row).collect()
}

#[test]
fn relative_paths_start_at_the_folder_of_the_config_and_those_of_set_where_the_command_is_given() {
    let bench = Bench::new();
    bench.write("task/c.toml", records_with(ELSEWHERE));
    bench.write("task/data/train.jsonl", sums(0, 20));
    bench.write("task/data/test.jsonl", sums(50, 5));
    bench.write("here.jsonl", sums(70, 3));
    bench.good("run task/c.toml --dir a --quiet");

    // The model folder follows the same rule: it lies beside the config, not where we stand.
    std::fs::rename(bench.path("a/checkpoints/iter-0001"), bench.path("task/model"))
        .expect("moved");
    let with_model = format!("{ELSEWHERE}model.folder = \"model\"\n");
    bench.write("task/m.toml", records_with(&with_model));
    bench.good("run task/m.toml --dir b --quiet");
    bench.bad("run task/c.toml --dir c --set model.folder=model", 3, &["model"]);
    bench.good("run task/c.toml --dir d --quiet --set model.folder=task/model");

    let eval = "eval task/model --quiet --json --task task/c.toml --set evaluate.samples=32";
    let queries =
        |outcome: crate::binary::Outcome| outcome.stdout.matches("\"queries\": 3").count();
    assert_eq!(queries(bench.good(eval)), 0);
    assert!(queries(bench.good(&format!("{eval} --set task.files.test=here.jsonl"))) > 0);
    let words = ["data/test.jsonl", "hint:", "folder of the config file", "working directory"];
    bench.bad(&format!("{eval} --set task.files.test=data/test.jsonl"), 3, &words);
}

#[test]
fn a_cap_of_nothing_is_refused() {
    let bench = Bench::new();
    bench.bad(
        "balance rollouts.jsonl --target-count 6 --cap-to-pool 0",
        2,
        &["--cap-to-pool", "0"],
    );
}

#[test]
fn a_wrong_value_of_set_is_not_blamed_on_the_file() {
    let bench = Bench::new();
    let outcome = bench.bad(
        "config show tiny.toml --set sample.k=abc",
        2,
        &["--set sample.k=abc: `sample.k`"],
    );
    assert!(outcome.stderr.contains("expected a whole number"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("tiny.toml:"), "{}", outcome.stderr);
}

#[test]
fn every_preset_resolves_and_single_keys_win_over_it() {
    let bench = Bench::new();
    for (preset, k, target) in [
        ("recommended", 64, 0),
        ("paper-main", 64, 0),
        ("paper-dynamics", 32, 0),
        ("official-code", 64, 8),
    ] {
        let config = bench.good(&format!("config show --set preset={preset} --json")).json();
        assert_eq!(config["sample"]["k"], k, "{preset}");
        assert_eq!(config["balance"]["target_count"], target, "{preset}");
    }
    let config = bench.good("config show tiny.toml --set preset=paper-dynamics --json").json();
    assert_eq!(config["sample"]["k"], 4, "the file wins over the preset");
    let config = bench.good("config show tiny.toml --set sample.k=9 --json").json();
    assert_eq!(config["sample"]["k"], 9, "--set wins over the file");
    bench.bad("config show --set preset=best", 2, &["best", "recommended"]);
}

#[test]
fn the_schema_names_every_key_of_the_defaults() {
    let bench = Bench::new();
    let schema = bench.good("config schema").json();
    let config = bench.good("config show --json").json();
    for key in config.as_object().expect("an object").keys() {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
}

#[test]
fn the_quickstart_runs_on_a_smaller_scale() {
    let bench = Bench::new();
    let config = repository().join("configs/quickstart.toml");
    let settings = "--set model.size=16 --set supervised.steps=4 --set sample.queries=10 --set sample.k=4 \
        --set train.steps=2 --set balance.probe_queries=4 --set evaluate.sampled_queries=2 \
        --set iterations=4 --set run.most_empty_iterations=9 --set evaluate.queries=20 --set task.arithmetic.train=100 --set task.arithmetic.supervised=500";
    let run = format!("run {} {settings} --dir quick", config.display());
    let outcome = bench.good(&run);
    assert!(
        outcome.stdout.contains("P_0") && outcome.stdout.contains("model: quick"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn the_gsm8k_config_runs_on_the_real_files() {
    let Some(shared) = shared() else { return };
    let bench = Bench::new();
    let config = repository().join("configs/gsm8k-nano.toml");
    let data = shared.join("data/gsm8k");
    let settings = "--set model.size=16 --set supervised.steps=2 --set supervised.batch_size=2 \
        --set sample.queries=4 --set sample.k=2 --set sample.max_tokens=16 --set train.steps=1 \
        --set balance.probe_queries=2 --set evaluate.queries=4 --set evaluate.sampled_queries=2 --set model.vocab_size=300 \
        --set model.context_length=1600 --set evaluate.samples=8";
    let run = format!(
        "run {} --set task.files.train={} --set task.files.test={} {settings} --dir gsm8k --json",
        config.display(),
        data.join("train.jsonl").display(),
        data.join("test.jsonl").display()
    );
    let report = bench.good(&run).json();
    assert_eq!(report["finished"], true);
    assert_eq!(report["iterations"].as_array().map(Vec::len), Some(3));
}
