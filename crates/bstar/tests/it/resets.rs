//! Where `rest-em` goes back to in each iteration: weights, optimizer, schedule and adapter.

use crate::binary::Bench;
use serde_json::Value;

/// Below τ wrong responses are learnt too, so that every iteration trains.
const RUN: &str = "run tiny.toml --set supervised.steps=100 --set train.warmup_steps=2.0 \
    --set balance.fixed_threshold=-0.5 --quiet";

fn steps(bench: &Bench, run: &str, iteration: u64) -> Vec<Value> {
    let events = bench.events(run);
    let of = |event: &Value| event["event"] == "step" && event["iteration"] == iteration;
    events.into_iter().filter(of).collect()
}

fn floats(steps: &[Value], field: &str) -> Vec<f64> {
    steps.iter().map(|step| step[field].as_f64().expect("a number")).collect()
}

/// Fingerprints of the weights of each iteration.
fn versions(bench: &Bench, run: &str) -> Vec<String> {
    let events = bench.events(run);
    let committed = events.iter().filter(|event| event["event"] == "iteration_committed");
    committed.map(|event| event["policy_version"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn an_iteration_starts_from_base_or_p_0_with_a_new_optimizer_and_schedule() {
    let bench = Bench::new();
    for reset in ["initial", "base"] {
        let flags = format!("--set method=rest-em --set train.reset_to={reset}");
        bench.good(&format!("{RUN} {flags} --dir {reset}"));
        let [one, two] = [1, 2].map(|iteration| steps(&bench, reset, iteration));
        assert_eq!(one.len(), 4);
        let rates = floats(&one, "learning_rate");
        assert_eq!(floats(&two, "learning_rate"), rates, "{reset}: a schedule of its own");
        assert!(rates[0] < rates[1] && rates[2] > rates[3], "{rates:?}");
        assert_eq!(floats(&two, "step"), [0.0, 1.0, 2.0, 3.0]);
    }
    // What has learnt nothing is as surprised as it was before supervised fine-tuning.
    let untrained = floats(&steps(&bench, "base", 0), "loss");
    for iteration in [1, 2] {
        let [base, initial] =
            ["base", "initial"].map(|run| floats(&steps(&bench, run, iteration), "loss")[0]);
        assert!((base - untrained[0]).abs() < 0.5, "from base: {base}, at first {untrained:?}");
        assert!(initial < base - 0.5, "from P_0: {initial}, from base {base}");
    }
}

#[test]
fn with_nothing_before_the_loop_base_is_p_0_and_both_forget_what_iterations_learnt() {
    let bench = Bench::new();
    bench.good(&format!("{RUN} --set iterations=1 --dir first"));
    let model = bench.path("first/checkpoints/iter-0001");
    std::fs::rename(model, bench.path("model")).expect("a checkpoint");
    for (name, flags) in [
        ("whole", "--set supervised.steps=0"),
        ("adapter", "--set supervised.steps=0 --set lora.rank=2"),
    ] {
        let versions = |run: &str, method: &str| {
            let run_dir = format!("{name}-{run}");
            bench.good(&format!("{RUN} --set model.folder=model {flags} {method} --dir {run_dir}"));
            versions(&bench, &run_dir)
        };
        let initial = versions("initial", "--set method=rest-em");
        let base = versions("base", "--set method=rest-em --set train.reset_to=base");
        let goes_on = versions("goes-on", "--set method=iterative-rft");
        assert_eq!(initial, base, "{name}: weights, optimizer and schedule are the same");
        assert_eq!(initial[..2], goes_on[..2], "{name}: the first iteration has nothing to forget");
        assert_ne!(initial[2], goes_on[2], "{name}: the second has");
        assert_ne!(initial[1], initial[0], "{name}: it trains");
    }
}

#[test]
fn a_run_that_resets_goes_on_where_it_was_cut() {
    let bench = Bench::new();
    let run = format!("{RUN} --set method=rest-em --set train.reset_to=base");
    bench.good(&format!("{run} --dir whole"));
    let log = bench.read("whole/events.jsonl");
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    for kept in (1..lines.len()).step_by(13) {
        bench.good(&format!("{run} --dir cut --fresh"));
        bench.write("cut/events.jsonl", lines[..kept].concat());
        bench.good(&format!("{run} --dir cut"));
        assert_eq!(bench.trace("cut"), bench.trace("whole"), "cut after {kept} lines");
    }
}

#[test]
fn a_warm_up_as_long_as_its_schedule_is_told() {
    let bench = Bench::new();
    let told = |flags: &str| {
        let run = format!("run tiny.toml --set supervised.steps=2 --fresh --dir warm {flags}");
        bench.good(&run).stderr.contains("never gets past its warm-up")
    };
    let renewed = "--set train.schedule=renewed --set train.steps=4";
    assert!(told(&format!("{renewed} --set train.warmup_steps=4")));
    assert!(!told(&format!("{renewed} --set train.warmup_steps=3")));
    assert!(!told("--set train.steps=4 --set train.warmup_steps=4"), "it goes on over iterations");
}
