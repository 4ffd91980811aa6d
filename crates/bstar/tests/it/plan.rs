//! `bstar plan`: sums made by hand, the paper's configs, and a plan beside the run that it was of.

use crate::binary::{Bench, repository};
use serde_json::Value;
use std::path::PathBuf;

/// A plan of which everything is told, so that nothing is measured.
const GIVEN: &str = r#"
method = "b-star"
iterations = 2
[task]
kind = "gsm8k"
[model]
folder = "nowhere"
[supervised]
steps = 6
batch_size = 8
[sample]
queries = 20
k = 4
[balance]
temperatures = "0.5,1"
probe_queries = 8
[train]
steps = 4
batch_size = 8
[evaluate]
sampled_queries = 4
samples = 4
k = [1, 4]
[plan]
train_queries = 100
test_queries = 10
solutions = 50
prompt_tokens = 10.0
response_tokens = 20.0
sampling_tokens_per_second = 1000.0
training_tokens_per_second = 2000.0
rollout_bytes = 50.0
parameters = 1e6
accelerators = 2.0
price_per_hour = 3.6
"#;

fn given(bench: &Bench, settings: &str) -> Value {
    bench.write("given.toml", GIVEN);
    bench.good(&format!("plan given.toml --json {settings}")).json()
}

fn row<'a>(plan: &'a Value, purpose: &str) -> &'a Value {
    let rows = plan["purposes"].as_array().expect("rows");
    rows.iter().find(|row| row["purpose"] == purpose).unwrap_or_else(|| panic!("no {purpose}"))
}

fn sum(plan: &Value, pointer: &str) -> f64 {
    let rows = plan["purposes"].as_array().expect("rows");
    rows.iter().map(|row| row.pointer(pointer).and_then(Value::as_f64).expect("a number")).sum()
}

#[test]
fn a_plan_of_given_numbers_is_what_a_hand_calculates() {
    let bench = Bench::new();
    let plan = given(&bench, "");
    let responses = |purpose| row(&plan, purpose)["responses"]["expected"].as_f64();
    assert_eq!(responses("probe"), Some(f64::from(2 * 2 * 8 * 4)));
    assert_eq!(responses("draw"), Some(f64::from(2 * 20 * 4)));
    assert_eq!(responses("evaluation"), Some(f64::from(3 * (10 + 4 * 4))));
    let drawn = f64::from(128 + 160 + 78);
    assert_eq!(sum(&plan, "/tokens/generated/expected"), 20.0 * drawn);
    let trained = f64::from((6 + 2 * 4) * 8 * 30);
    assert_eq!(sum(&plan, "/tokens/trained/expected"), trained);
    let seconds = 20.0 * drawn / 1000.0 + trained / 2000.0;
    let near = |found: f64, wanted: f64| {
        assert!((found / wanted - 1.0).abs() < 1e-9, "{found} is not {wanted}");
    };
    near(sum(&plan, "/seconds/expected"), seconds);
    let hours = plan["accelerator_hours"]["expected"].as_f64().expect("hours");
    near(hours, 2.0 * seconds / 3600.0);
    near(plan["price"]["expected"].as_f64().expect("a price"), hours * 3.6);
    let disk = &plan["disk"];
    assert_eq!(disk["checkpoints"], 3.0 * 12e6);
    assert_eq!(disk["optimizer"], 3.0 * 8e6);
    // Two iterations of probe and draw, and three evaluations: a file each.
    assert_eq!(disk["rollouts"]["expected"], 50.0 * drawn + 7.0 * 6000.0);
    let sources: Vec<_> =
        plan["facts"].as_array().expect("facts").iter().map(|fact| &fact["source"]).collect();
    assert!(sources.iter().all(|source| *source != "measured"), "{sources:?}");
    let text = bench.good("plan given.toml").stdout;
    for words in ["given", "assumed", "in all", "price", "36.0 MB", "accelerator hours"] {
        assert!(text.contains(words), "no {words} in: {text}");
    }
}

#[test]
fn retention_adapters_and_number_formats_decide_the_disk() {
    let bench = Bench::new();
    let checkpoints = |settings: &str| {
        let disk = given(&bench, settings)["disk"].clone();
        let of = |name: &str| disk[name].as_f64().expect("bytes");
        (of("checkpoints"), of("checkpoints_at_once"))
    };
    let many = "--set iterations=9";
    assert_eq!(checkpoints(many), (10.0 * 12e6, 10.0 * 12e6));
    let last = "--set run.checkpoints=keep-last";
    assert_eq!(checkpoints(&format!("{many} {last}")), (3.0 * 12e6, 4.0 * 12e6));
    assert_eq!(checkpoints(&format!("--set method=sft {last}")), (12e6, 12e6));
    let bf16 = "--set plan.weight_bytes=2 --set plan.moment_bytes=2";
    assert_eq!(checkpoints(bf16).0, 3.0 * 6e6);
    // Rank 8 on queries and values of 2 layers: 8 (64 + 64) and 8 (64 + 32) numbers each.
    bench.write(
        "shape.toml",
        format!(
            "{GIVEN}\n[plan.shape]\nvocab_size = 100\nhidden_size = 64\nintermediate_size = 128\n\
             num_hidden_layers = 2\nnum_attention_heads = 4\nnum_key_value_heads = 2\n\
             tie_word_embeddings = false\n\n[lora]\nrank = 8\ntargets = [\"q_proj\", \"v_proj\"]\n"
        ),
    );
    let plan = bench.good("plan shape.toml --json").json();
    let adapter = f64::from(2 * 8 * (128 + 96));
    let found = plan["disk"]["optimizer"].as_f64().expect("bytes");
    assert_eq!(found, 3.0 * 8.0 * adapter);
    bench.bad("plan given.toml --set lora.rank=8", 2, &["`plan.shape`"]);
}

#[test]
fn what_is_missing_is_named_at_once() {
    let bench = Bench::new();
    bench.write("given.toml", GIVEN);
    let unset = "--set plan.response_tokens=0 --set plan.training_tokens_per_second=0";
    let words = ["`plan.response_tokens`", "`plan.training_tokens_per_second`", "hint:"];
    bench.bad(&format!("plan given.toml {unset}"), 2, &words);
    let no_model = "--set plan.parameters=0";
    bench.bad(&format!("plan given.toml {no_model}"), 2, &["`plan.train_queries`", "hint:"]);
    let elsewhere = "--set plan.train_queries=0";
    bench.bad(&format!("plan given.toml {elsewhere}"), 2, &["task.files.train"]);
    bench.bad("plan given.toml --against nowhere", 4, &["no run `nowhere` in runs or comparisons"]);
    bench.bad("plan given.toml --planned plan.json", 2, &["--against"]);
}

#[test]
fn every_config_of_the_paper_is_planned_with_every_method() {
    let bench = Bench::new();
    let folder = repository().join("configs/paper");
    let configs: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("configs of the paper")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(configs.len() >= 6, "only {} configs", configs.len());
    for config in configs {
        let config = config.display();
        for method in ["sft", "rest-em", "iterative-rft", "online-rft", "b-star"] {
            let plan = bench.good(&format!("plan {config} --set method={method} --json")).json();
            let iterations = if method == "sft" { 0.0 } else { 9.0 };
            let queries = plan["facts"][0]["value"].as_f64().expect("training queries");
            let drawn = sum(&plan, "/responses/expected");
            assert!(drawn >= iterations * queries * 32.0, "{config}: {drawn}");
            assert_eq!(plan["purposes"].to_string().contains("probe"), method == "b-star");
        }
    }
    // The paper's own numbers: 736,000 responses a draw, and a probe that is 42 % of it (spec §1.7).
    let plan = format!("plan {} --json", folder.join("math-mistral-7b.toml").display());
    let plan = bench.good(&plan).json();
    let responses = |purpose| row(&plan, purpose)["responses"]["expected"].as_f64();
    assert_eq!(responses("draw"), Some(9.0 * 736_000.0));
    assert_eq!(responses("probe"), Some(9.0 * 307_200.0));
    assert_eq!(responses("labels"), Some(172_500.0));
    let parameters = plan["facts"].as_array().expect("facts").iter();
    let parameters = parameters.filter(|fact| fact["what"] == "parameters");
    let parameters: Vec<_> = parameters.filter_map(|fact| fact["value"].as_f64()).collect();
    assert_eq!(parameters, [7_241_732_096.0], "Mistral-7B");
}

/// A task that is learnt in a second: sums modulo 3, of one length.
const SMALL: &str = "--set task.arithmetic.modulus=3 --set task.arithmetic.expressions=1 \
    --set task.arithmetic.largest_operand=2 --set model.size=32 --set supervised.steps=200 \
    --set supervised.batch_size=32 \
    --set task.arithmetic.supervised_operations=[0,0,1] \
    --set task.arithmetic.query_operations=[0,0,1]";

#[test]
fn a_run_is_as_planned_in_tokens_and_bytes() {
    let bench = Bench::new();
    let quick = "--set plan.calibration_seconds=0.5 --quiet";
    let planned = bench.good(&format!("plan tiny.toml {SMALL} {quick} --json")).stdout;
    bench.write("plan.json", planned);
    bench.good(&format!("run tiny.toml {SMALL} --dir run --quiet"));
    let against = format!("plan tiny.toml {SMALL} {quick} --against run");
    let compared = bench.good(&format!("{against} --planned plan.json --json")).json();
    let mut seen = Vec::new();
    for line in compared["lines"].as_array().expect("lines") {
        let (what, unit) = (line["what"].as_str().expect("a name"), &line["unit"]);
        let name = format!("{what}, {unit}");
        let ratio = line["ratio"].as_f64();
        match unit.as_str().expect("a unit") {
            // Machines are noisy; but something was planned and something was measured.
            "seconds" => {
                let planned = line["planned"]["expected"].as_f64();
                assert!(planned > Some(0.0), "{name}");
            }
            "responses" | "steps" if what != "validation" => {
                assert_eq!(ratio, Some(1.0), "{name}: {line}");
            }
            _ => {
                let ratio = ratio.unwrap_or_else(|| panic!("{name}: {line}"));
                assert!((0.8..=1.2).contains(&ratio), "{name}: {line}");
            }
        }
        seen.push(name);
    }
    for name in ["in all, \"generated\"", "fine-tuning, \"learned\"", "disk in all, \"bytes\""] {
        assert!(seen.iter().any(|seen| seen == name), "no {name} in {seen:?}");
    }
    // A race draws what its plan allows, and its winner's responses count once.
    let racing =
        format!("tiny.toml {SMALL} --set balance.search=racing --set balance.search_budget=0.5");
    bench.good(&format!("run {racing} --dir raced --quiet"));
    let raced = bench.good(&format!("plan {racing} {quick} --against raced --json")).json();
    let lines = raced["lines"].as_array().expect("lines");
    let responses =
        |what: &str| lines.iter().find(|line| line["what"] == what && line["unit"] == "responses");
    assert_eq!(responses("draw").expect("a draw")["ratio"], 1.0);
    let probe = responses("probe").expect("a probe");
    let bound = |name: &str| probe["planned"][name].as_f64();
    let actual = probe["actual"].as_f64();
    assert!(bound("least") <= actual && actual <= bound("most"), "{probe}");

    let table = bench.good(&format!("{against} --planned plan.json")).stdout;
    assert!(table.contains("planned / actual"), "{table}");
    assert!(table.contains("--set plan.response_tokens="), "{table}");
    assert!(!table.contains("plan.supervised_steps"), "it does all its steps: {table}");
    bench.bad(&format!("{against} --planned tiny.toml"), 3, &["tiny.toml", "hint:"]);
    // A plan of another config is none of this one.
    let words = ["plan.json is the plan of another config", "sample.k: 4 → 8", "hint:"];
    bench.bad(&format!("{against} --planned plan.json --set sample.k=8"), 2, &words);
    bench.good(&format!("{against} --planned plan.json --set run.threads=1"));
    let mut old: Value = serde_json::from_str(&bench.read("plan.json")).expect("a plan");
    old.as_object_mut().expect("a plan").remove("config");
    bench.write("old.json", old.to_string());
    let told = bench.good(&format!("plan tiny.toml {SMALL} --against run --planned old.json"));
    assert!(told.stderr.contains("old.json does not say which config"), "{}", told.stderr);
}

#[test]
fn a_measurement_too_short_for_a_full_step_does_not_make_memory_small() {
    let bench = Bench::new();
    let large = "--set model.size=128 --set supervised.batch_size=200 --set train.batch_size=200 \
                 --set sample.max_tokens=20 --set run.threads=2 --quiet --json";
    let memory = |seconds: &str| {
        let plan = format!("plan tiny.toml {large} --set plan.calibration_seconds={seconds}");
        let plan = bench.good(&plan).json();
        let facts = plan["facts"].as_array().expect("facts").iter();
        let mut facts = facts.filter(|fact| fact["what"] == "bytes of memory before a draw");
        let how = facts.next().expect("memory")["how"].as_str().expect("how").to_owned();
        let foretold = how.contains("a full step from small ones");
        (plan["memory_bytes"].as_f64().expect("bytes"), foretold)
    };
    let ((short, foretold), (long, made)) = (memory("0.01"), memory("10"));
    assert!(foretold && !made, "{foretold} {made}");
    // Peaks of processes: a step that was left out made it less than half.
    let ratio = short / long;
    assert!((0.6..3.0).contains(&ratio), "{ratio}");
    // Keys and values of longer responses than were drawn are told apart.
    let long = "--set model.context_length=1024 --set sample.max_tokens=900";
    let plan = format!("plan tiny.toml {long} --set plan.calibration_seconds=0.3 --json --quiet");
    let plan = bench.good(&plan).json();
    let facts = plan["facts"].as_array().expect("facts").iter();
    let mut facts = facts.filter(|fact| fact["what"] == "bytes of memory of long responses");
    assert!(facts.next().expect("it")["value"].as_f64() > Some(1e6), "{plan}");
}

#[test]
fn weighing_takes_time_at_a_rate_of_its_own() {
    let bench = Bench::new();
    let search = "--set balance.search=reweighting --set balance.search_budget=0.5";
    let seconds = |more: &str| {
        let plan = given(&bench, &format!("{search} {more}"));
        row(&plan, "probe")["seconds"]["expected"].as_f64().expect("seconds")
    };
    // Two anchors on 10 of 20 queries, four responses each, twice: 30 tokens of prompt and response.
    let weighed = f64::from(2 * 10 * 4 * 2 * 30);
    let free = seconds("--set plan.weighing_tokens_per_second=1e15");
    // Two thirds of them, for the others repeat.
    for (more, rate) in [("--set plan.weighing_tokens_per_second=50", 50.0), ("", 3.0 * 2000.0)] {
        let taken = seconds(more) - free;
        assert!((taken / (2.0 / 3.0 * weighed / rate) - 1.0).abs() < 1e-9, "{taken} {rate}");
    }
    // One candidate is told from no other.
    let told = |more: &str| bench.good(&format!("plan given.toml {search} {more}")).stdout;
    assert!(told("").contains("tokens weighed in a second"));
    assert!(!told("--set balance.temperatures=1").contains("weighed"));
    let kept = "--set balance.temperatures=1 --set balance.candidate_logprobs=true";
    assert!(told(kept).contains("tokens weighed in a second"));
    let exhaustive = |more: &str| sum(&given(&bench, more), "/tokens/weighed/expected");
    assert_eq!(exhaustive(""), 0.0);
    let kept = exhaustive("--set balance.candidate_logprobs=true");
    assert_eq!(kept, f64::from(2 * 2 * 8 * 4 * 30));
    // Measured, it is told with the other speeds.
    let quick = "--set plan.calibration_seconds=0.3 --quiet";
    let text = bench.good(&format!("plan tiny.toml {search} --set sample.queries=40 {quick}"));
    assert!(text.stdout.contains("tokens weighed in a second"), "{}", text.stdout);
    assert!(!bench.good(&format!("plan tiny.toml {quick}")).stdout.contains("weighed"));
}

#[test]
fn a_comparison_is_the_sum_of_its_runs_with_their_start_counted_once() {
    let bench = Bench::new();
    bench.write(
        "compared.toml",
        "base = \"tiny.toml\"\nseeds = [1, 2]\nbudget = \"as-configured\"\nworkers = 2\n\
         [common]\nplan.calibration_seconds = 0.3\n\
         [[entry]]\nname = \"SFT\"\nmethod = \"sft\"\n\
         [[entry]]\nname = \"Online RFT\"\nmethod = \"online-rft\"\n\
         [[entry]]\nname = \"B-STaR\"\nmethod = \"b-star\"\n",
    );
    let plan = bench.good("plan compared.toml --json --quiet").json();
    let total = &plan["total"];
    let responses = |purpose| row(total, purpose)["responses"]["expected"].as_f64();
    let steps = |purpose| row(total, purpose)["steps"]["expected"].as_f64();
    assert_eq!(steps("supervised"), Some(f64::from(2 * 6)), "two seeds, three entries");
    assert_eq!(steps("train"), Some(f64::from(2 * 2 * 2 * 4)));
    assert_eq!(responses("draw"), Some(f64::from(2 * 2 * 2 * 20 * 4)));
    assert_eq!(responses("probe"), Some(f64::from(2 * 2 * 2 * 8 * 4)));
    // One of each start, and one after each iteration of the two that train themselves.
    assert_eq!(responses("evaluation"), Some(f64::from((2 + 2 * 2 * 2) * (10 + 4 * 4))));
    let runs: Vec<_> =
        plan["entries"].as_array().expect("entries").iter().map(|entry| &entry["runs"]).collect();
    assert_eq!(runs, [2, 2, 2]);
    let (all, wall) = (sum(total, "/seconds/expected"), plan["wall_seconds"]["expected"].as_f64());
    assert!(wall >= Some(all / 2.0) && wall < Some(all), "{wall:?} of {all}");
    let text = bench.good("plan compared.toml --quiet").stdout;
    assert!(
        text.contains("what they start from") && text.contains("2 runs side by side"),
        "{text}"
    );
    bench.bad("plan compared.toml --against run", 4, &["run holds no comparison", "hint:"]);
}

/// A comparison of which speeds and lengths are told, so that nothing is measured.
const TOLD: &str = r#"
base = "tiny.toml"
seeds = [1, 2]
[common]
plan = { parameters = 1e6, prompt_tokens = 10.0, response_tokens = 20.0, steps_per_response = 3.0, sampling_tokens_per_second = 1000.0, training_tokens_per_second = 2000.0 }
reward_model = { queries = 4, responses = 2, completions = 3, steps = 5, batch_size = 8 }
[[entry]]
name = "Online RFT"
method = "online-rft"
[[entry]]
name = "With a reward model"
method = "online-rft"
reward.kind = "answer-and-reward-model"
"#;

fn told(bench: &Bench, text: &str) -> Value {
    bench.write("told.toml", text);
    bench.good("plan told.toml --json --quiet").json()
}

#[test]
fn labels_are_paid_for_with_training_queries_in_a_plan_too() {
    let bench = Bench::new();
    let plan = told(&bench, TOLD);
    let responses = |purpose| row(&plan["total"], purpose)["responses"]["expected"].as_f64();
    // 8 responses are labelled, by 3 completions of nine tenths of their 16 beginnings: 51.2 in all.
    let completions = responses("completions").expect("completions") / 2.0;
    assert!((completions - 0.9 * 16.0 * 3.0).abs() < 1e-9, "{completions}");
    // Of 2 × 20 × 4 responses 109 are left: 13 queries in each of two iterations.
    let drawn = f64::from(2 * 2 * 20 * 4) + f64::from(2 * 2 * 13 * 4);
    assert_eq!(responses("draw"), Some(drawn));
    let given = told(&bench, &TOLD.replace("seeds", "budget = \"equal-without-labels\"\nseeds"));
    let drawn = row(&given["total"], "draw")["responses"]["expected"].as_f64();
    assert_eq!(drawn, Some(f64::from(2 * 2 * 2 * 20 * 4)));
}

#[test]
fn workers_take_memory_each_and_wait_for_what_they_need() {
    let bench = Bench::new();
    let with = |workers: usize| {
        let plan = told(&bench, &TOLD.replace("seeds", &format!("workers = {workers}\nseeds")));
        let number = |value: &Value| value.as_f64().expect("a number");
        let all = sum(&plan["total"], "/seconds/expected");
        let wall = number(&plan["wall_seconds"]["expected"]);
        let starts = number(&plan["starts"]["seconds"]["expected"]);
        let runs = plan["entries"].as_array().expect("entries").iter();
        let longest = runs.map(|entry| number(&entry["seconds"]["expected"]) / 2.0);
        let longest = longest.fold(0.0, f64::max);
        (number(&plan["total"]["memory_bytes"]), all, wall, starts, longest)
    };
    let (memory, all, wall, ..) = with(1);
    assert!((wall - all).abs() < 1e-9, "{wall} {all}");
    let (two, _, halved, ..) = with(2);
    assert!((two / memory - 2.0).abs() < 1e-9, "two runs at a time: {two} {memory}");
    assert!(halved >= all / 2.0 && halved < all);
    // Four runs cannot keep forty workers busy, and each waits for the start of its seed.
    let (many, all, wall, starts, longest) = with(40);
    assert!(many > 3.5 * memory && many < 4.0 * memory + 1.0, "{many} {memory}");
    assert!(wall > starts / 4.0 + longest && wall < all / 2.0 + 1e-9, "{wall} {starts} {longest}");
}

#[test]
fn a_comparison_is_as_planned_in_responses_and_bytes() {
    let bench = Bench::new();
    let config = "base = \"tiny.toml\"\nseeds = [1, 2]\n[common]\nplan.calibration_seconds = 0.3\n\
        knobs.steps = [2, 4]\nknobs.steps_queries = 5\n\
        reward_model = { queries = 20, responses = 4, completions = 4, steps = 12, batch_size = 8 }\n\
        [[entry]]\nname = \"SFT\"\nmethod = \"sft\"\n\
        [[entry]]\nname = \"Online RFT\"\nmethod = \"online-rft\"\n\
        [[entry]]\nname = \"B-STaR\"\nmethod = \"b-star\"\n\
        [[entry]]\nname = \"With a reward model\"\nmethod = \"online-rft\"\n\
        reward.kind = \"answer-and-reward-model\"\nbudget = \"equal-without-labels\"\n";
    bench.write("c.toml", config);
    let planned = bench.good(&format!("plan c.toml {SMALL} --json --quiet")).stdout;
    bench.write("plan.json", planned);
    bench.good(&format!("compare c.toml {SMALL} --quiet"));
    let against = format!("plan c.toml {SMALL} --against comparisons/c --planned plan.json");
    let compared = bench.good(&format!("{against} --json --quiet")).json();
    assert_eq!(compared["spent"]["finished"], true);
    let mut seen = 0;
    for line in compared["lines"].as_array().expect("lines") {
        let (what, unit) = (line["what"].as_str().expect("a name"), &line["unit"]);
        let (ratio, actual) = (line["ratio"].as_f64(), line["actual"].as_f64());
        let bound = |name: &str| line["planned"][name].as_f64();
        match unit.as_str().expect("a unit") {
            "responses" if what == "probe" || what == "draw" || what == "evaluation" => {
                assert_eq!(ratio, Some(1.0), "{line}");
                seen += 1;
            }
            "learned" if what.contains("reward model") => {
                assert!((0.8..=1.2).contains(&ratio.expect("a ratio")), "{line}");
                seen += 1;
            }
            "responses" | "steps" => {
                assert!(bound("least") <= actual && actual <= bound("most"), "{line}");
            }
            "bytes" => {
                let ratio = ratio.unwrap_or_else(|| panic!("{line}"));
                assert!((0.8..=1.2).contains(&ratio), "{line}");
                seen += 1;
            }
            _ => {}
        }
    }
    assert_eq!(seen, 3 + 1 + 5, "{compared}");
    let table = bench.good(&format!("{against} --quiet")).stdout;
    assert!(table.contains("validation of stretches"), "{table}");
    // A run that is not there is told.
    let run = bench.path("comparisons/c/runs/b-star/seed-0002");
    std::fs::remove_dir_all(run).expect("a run");
    assert!(bench.good(&against).stderr.contains("1 run is not finished"));
    bench.bad("plan c.toml --against comparisons/c --planned c.toml", 3, &["no plan"]);
    let words = ["plan.json is the plan of another config", "entry.B-STaR.sample.k: 4 → 8"];
    bench.bad(&format!("{against} --set sample.k=8"), 2, &words);
}

#[test]
fn steps_to_the_goal_of_p_0_are_those_of_earlier_runs() {
    let bench = Bench::new();
    let goal = "--set supervised.stop_at_accuracy=0.01 --set supervised.validate_every=3 \
                --set supervised.steps=60 --set task.arithmetic.modulus=3 \
                --set task.arithmetic.expressions=1 --set task.arithmetic.largest_operand=2 \
                --set task.arithmetic.supervised_operations=[0,0,1,1] \
                --set task.arithmetic.query_operations=[0,0,1]";
    let planned = |more: &str| {
        let plan =
            format!("plan tiny.toml {goal} --set plan.calibration_seconds=0.1 --json --quiet");
        let plan = bench.good(&format!("{plan} {more}")).json();
        let facts = plan["facts"].as_array().expect("facts").iter();
        let mut facts = facts.filter(|fact| fact["what"] == "steps of supervised fine-tuning");
        (facts.next().expect("it").clone(), row(&plan, "supervised")["steps"].clone())
    };
    let (fact, steps) = planned("");
    assert_eq!((&fact["source"], &fact["value"]), (&"assumed".into(), &30.0.into()));
    assert!(fact["how"].as_str().is_some_and(|how| how.contains("plan.supervised_steps=N")));
    assert_eq!((&steps["least"], &steps["most"]), (&3.0.into(), &60.0.into()));
    bench.good(&format!("run tiny.toml {goal} --quiet"));
    let events = bench.events("runs/tiny");
    let is_taught = |event: &&Value| event["event"] == "step" && event["iteration"] == 0;
    let took = events.iter().filter(is_taught).count() as f64;
    // What comes after P_0 may be another.
    let (fact, steps) = planned("--set sample.k=2 --set iterations=1 --set method=online-rft");
    assert_eq!((&fact["source"], &fact["value"]), (&"recorded".into(), &took.into()), "{fact}");
    assert_eq!((&steps["least"], &steps["most"]), (&took.into(), &took.into()));
    let (fact, steps) = planned("--set seed=2");
    assert_eq!((&fact["source"], &fact["value"]), (&"recorded".into(), &took.into()), "{fact}");
    assert_eq!((&steps["expected"], &steps["most"]), (&took.into(), &60.0.into()));
    // What a plan is held against does not make it.
    let against = "--against tiny --json --quiet --set plan.calibration_seconds=0.1";
    let told = bench.good(&format!("plan tiny.toml {goal} {against}")).json();
    let facts = told["plan"]["facts"].as_array().expect("facts");
    let fact = facts.iter().find(|fact| fact["what"] == "steps of supervised fine-tuning");
    assert_eq!(fact.expect("it")["source"], "assumed");
    // Of other data the same seed tells about as much as another seed.
    let stored = "runs/tiny/config.resolved.json";
    let mut keys: Value = serde_json::from_str(&bench.read(stored)).expect("keys");
    keys["data_fingerprint"] = "another".into();
    bench.write(stored, keys.to_string());
    let (fact, steps) = planned("");
    assert_eq!((&fact["source"], &fact["value"]), (&"recorded".into(), &took.into()), "{fact}");
    assert!(fact["how"].as_str().is_some_and(|how| how.contains("with other data")), "{fact}");
    assert_eq!((&steps["expected"], &steps["most"]), (&took.into(), &60.0.into()));
    let (fact, _) = planned("--set supervised.batch_size=9");
    assert_eq!(fact["source"], "assumed", "another P_0 tells nothing");
    let (fact, _) = planned("--set plan.supervised_steps=12");
    assert_eq!((&fact["source"], &fact["value"]), (&"given".into(), &12.0.into()));
}

#[test]
fn a_run_of_a_comparison_is_held_beside_its_plan_with_the_time_of_its_p_0() {
    let bench = Bench::new();
    let text = "base = \"tiny.toml\"\nseeds = [1]\n\
        [[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n";
    bench.write("c.toml", text);
    bench.good("compare c.toml --quiet");
    let starts = std::fs::read_dir(bench.path("comparisons/c/starts")).expect("starts");
    let start = starts.map(|it| it.expect("a start").path()).next().expect("one");
    // A time that no machine takes by chance.
    let log = start.join("seed-0001/events.jsonl");
    let text = std::fs::read_to_string(&log).expect("a log");
    let timed = |line: &str| {
        let mut event: Value = serde_json::from_str(line).expect("an event");
        if event["event"] == "step" {
            event["elapsed_s"] = 100.0.into();
        }
        format!("{event}\n")
    };
    std::fs::write(&log, text.lines().map(timed).collect::<String>()).expect("a log");
    let steps = text.lines().filter(|line| line.contains("\"event\":\"step\"")).count();
    assert!(steps > 0, "{text}");
    let against = "plan tiny.toml --set plan.calibration_seconds=0.1 --against \
        comparisons/c/runs/fixed/seed-0001";
    let told = bench.good(&format!("{against} --json"));
    let spent = &told.json()["spent"]["on"]["supervised"];
    assert_eq!(spent["steps"], steps as f64, "{spent}");
    assert!(spent["seconds"].as_f64() >= Some(100.0 * steps as f64), "{spent}");
    assert!(told.stderr.contains("shares its P_0"), "{}", told.stderr);
    let table = bench.good(against).stdout;
    assert!(table.contains("probe") && !table.contains("-0"), "{table}");
    std::fs::remove_dir_all(bench.path("comparisons/c/starts")).expect("starts");
    assert!(bench.good(against).stderr.contains("has no time of it"));
}
