//! Every shipped config resolves, and the real-data config runs on real data where there is any.

use crate::binary::{Bench, repository, shared};

#[test]
fn every_shipped_config_resolves() {
    let bench = Bench::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(repository().join("configs")).expect("configs") {
        let path = entry.expect("an entry").path();
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
    bench.bad("init mine.toml", 2, &["mine.toml", "hint:"]);
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
    let run = format!("run {} {settings} --run-dir quick", config.display());
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
        "run {} --set task.files.train={} --set task.files.test={} {settings} --run-dir gsm8k --json",
        config.display(),
        data.join("train.jsonl").display(),
        data.join("test.jsonl").display()
    );
    let report = bench.good(&run).json();
    assert_eq!(report["finished"], true);
    assert_eq!(report["iterations"].as_array().map(Vec::len), Some(3));
}
