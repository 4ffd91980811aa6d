//! Comparisons: runs from a shared start, equal budgets, kills, bad input.

use crate::binary::{Bench, repository};
use std::time::Duration;

/// Two entries, two seeds, seconds, on a task that a hasty policy can learn from.
pub(crate) const TINY: &str = r#"
base = "tiny.toml"
seeds = [1, 2]

[common]
task.arithmetic.modulus = 3
task.arithmetic.expressions = 1
task.arithmetic.largest_operand = 2
task.arithmetic.supervised_operations = [0, 0, 1, 1]
task.arithmetic.query_operations = [0, 0, 1]
supervised.steps = 60

[[entry]]
name = "Fixed"
method = "online-rft"

[[entry]]
name = "Adaptive"
method = "b-star"
"#;

/// A task that a hasty policy can learn from, so that a reward model has something to learn.
const WITH_MODEL: &str = r#"
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
reward_model = { queries = 20, responses = 4, completions = 4, steps = 12, batch_size = 8 }

[[entry]]
name = "Fixed"
method = "online-rft"

[[entry]]
name = "Base reset"
method = "rest-em"
train.reset_to = "base"

[[entry]]
name = "Model"
method = "b-star"
reward.kind = "answer-and-reward-model"

[[entry]]
name = "Model, t 0.5"
method = "online-rft"
reward.kind = "answer-and-reward-model"
balance.fixed_temperature = 0.5
"#;

/// Every run of a comparison: folder and trace.
fn traces(bench: &Bench, dir: &str, runs: &[&str]) -> Vec<(Vec<serde_json::Value>, String)> {
    runs.iter().map(|run| bench.trace(&format!("{dir}/runs/{run}"))).collect()
}

const RUNS: [&str; 4] =
    ["fixed/seed-0001", "adaptive/seed-0001", "fixed/seed-0002", "adaptive/seed-0002"];

#[test]
fn a_comparison_killed_again_and_again_ends_with_the_same_tables() {
    let bench = Bench::new();
    bench.write("c.toml", TINY);
    let start = std::time::Instant::now();
    let whole = bench.good("compare c.toml --dir whole --workers 1");
    let took = start.elapsed();
    assert!(whole.stderr.contains("[4/4]"), "{}", whole.stderr);
    assert!(!whole.stderr.contains("same settings"), "{}", whole.stderr);
    let right = bench.read("whole/results.json").contains("\"mean\": 0.");
    assert!(right, "some answers are right and some are not: {}", whole.stdout);
    for part in 1_u32..6 {
        let mut child =
            bench.command("compare c.toml --dir killed --quiet").spawn().expect("the binary runs");
        std::thread::sleep(took * part / 12 + Duration::from_millis(3));
        child.kill().expect("a child");
        child.wait().expect("a child");
    }
    let killed = bench.good("compare c.toml --dir killed --workers 2 --quiet");
    assert_eq!(killed.stdout, whole.stdout);
    for file in ["tables.md", "results.json", "results.csv", "iterations.csv", "runs.csv"] {
        assert_eq!(bench.read(&format!("killed/{file}")), bench.read(&format!("whole/{file}")));
    }
    for figure in ["greedy", "pass-4-2", "balance-score", "chosen-t", "differences"] {
        for form in ["svg", "png"] {
            let bytes =
                |dir: &str| std::fs::read(bench.path(&format!("{dir}/plots/{figure}.{form}")));
            assert_eq!(bytes("killed").expect(figure), bytes("whole").expect(figure));
        }
    }
    assert_eq!(traces(&bench, "killed", &RUNS), traces(&bench, "whole", &RUNS));
    // What is finished is not made again, and the tables can be made without running anything.
    let log = std::fs::metadata(bench.path("whole/runs/fixed/seed-0001/events.jsonl"));
    let again = bench.good("compare c.toml --dir whole --tables");
    assert_eq!(again.stdout, whole.stdout);
    let lock = std::fs::File::open(bench.path("whole/lock")).expect("a lock");
    lock.lock().expect("nobody works");
    std::fs::remove_file(bench.path("whole/tables.md")).expect("tables");
    let meanwhile = bench.good("compare c.toml --dir whole --tables");
    assert_eq!(meanwhile.stdout, whole.stdout);
    assert!(meanwhile.stderr.contains("whole is in use by"), "{}", meanwhile.stderr);
    assert!(!bench.path("whole/tables.md").exists(), "nothing is written meanwhile");
    drop(lock);
    bench.good("compare c.toml --dir whole");
    assert_eq!(bench.read("whole/tables.md"), whole.stdout);
    let after = std::fs::metadata(bench.path("whole/runs/fixed/seed-0001/events.jsonl"));
    let changed = |of: std::io::Result<std::fs::Metadata>| of.expect("a log").modified().ok();
    assert_eq!(changed(log), changed(after));
}

#[test]
fn a_shared_start_gives_the_run_that_makes_its_own() {
    let bench = Bench::new();
    bench.write("c.toml", WITH_MODEL);
    bench.good("compare c.toml --dir c --quiet");
    let starts = std::fs::read_dir(bench.path("c/starts")).expect("starts").count();
    assert_eq!(starts, 2, "one with and one without a reward model");
    for entry in ["fixed", "base-reset", "model", "model-t-0.5"] {
        let run = format!("c/runs/{entry}/seed-0003");
        let written = bench.read(&format!("{run}/config.toml"));
        let sets: String = written.lines().filter_map(|line| line.strip_prefix('#')).collect();
        bench.good(&format!("run tiny.toml --quiet --dir alone --fresh {sets}"));
        assert_eq!(bench.trace("alone"), bench.trace(&run), "{entry}");
        let names = ["checkpoints/iter-0000/trainer_state.json", "rollouts/iter-0000/eval.parquet"];
        for name in names {
            let bytes =
                |run: &str| std::fs::read(bench.path(&format!("{run}/{name}"))).expect("it");
            assert_eq!(bytes("alone"), bytes(&run), "{entry}: {name}");
        }
    }
    // The supervised stage was made once.
    let steps = |run: &str| {
        let events = bench.events(run);
        let taught = |e: &&serde_json::Value| e["event"] == "step" && e["iteration"] == 0;
        events.iter().filter(taught).count()
    };
    let logs = std::fs::read_dir(bench.path("c/starts")).expect("starts");
    let logs = logs.map(|entry| entry.expect("a start").file_name().into_string().expect("a name"));
    let all: Vec<usize> = logs.map(|name| steps(&format!("c/starts/{name}/seed-0003"))).collect();
    assert_eq!(all, [60, 60], "both logs tell how P_0 was made");
}

#[test]
fn a_search_is_paid_for_with_training_queries() {
    let bench = Bench::new();
    bench.write("c.toml", TINY);
    let results = bench.good("compare c.toml --dir c --json --quiet").json();
    let spent = |entry: usize| results["entries"][entry]["spent"].clone();
    // Fixed: 20 queries × 4. Adaptive: 8 probe queries × 4 × 2 temperatures leave 4 queries.
    assert_eq!(spent(0)["generated"][0], 160.0);
    assert_eq!(spent(1)["generated"][0], 160.0);
    assert_eq!((&spent(1)["queries"], &spent(1)["probe"][0]), (&4.0.into(), &128.0.into()));
    assert!(spent(1)["generated"][1].as_f64() > Some(0.0), "tokens are counted");
    let free = TINY.replace("seeds", "budget = \"as-configured\"\nseeds");
    bench.write("free.toml", free);
    let results = bench.good("compare free.toml --json --quiet").json();
    assert_eq!(results["entries"][1]["spent"]["generated"][0], 288.0);
    assert!(bench.path("comparisons/free/tables.md").exists());
    // A search that leaves nothing is refused before anything is run.
    bench.write("dear.toml", TINY.replace("\"b-star\"", "\"b-star\"\nbalance.probe_queries = 10"));
    let words = ["entry `Adaptive`", "80 responses", "nothing to train on", "hint:"];
    bench.bad("compare dear.toml", 2, &words);
    assert!(!bench.path("comparisons/dear").exists(), "nothing is written, no folder is made");
}

#[test]
fn a_search_that_its_budget_does_not_pay_for_is_refused_before_anything_runs() {
    let bench = Bench::new();
    let race = "\"b-star\"\nbalance.search = \"racing\"\nbalance.search_budget = 0.5";
    let text = TINY.replace("\"b-star\"", race);
    // With 20 queries of its own it could search; the equal budget leaves it 13 of them.
    bench.write("c.toml", &text);
    let words = ["c.toml: entry `Adaptive`", "13 queries allows 6", "give the reference more"];
    for command in ["compare c.toml", "plan c.toml"] {
        bench.bad(command, 2, &words);
    }
    assert!(!bench.path("comparisons").exists(), "nothing is written, no folder is made");
    bench.write("few.toml", format!("budget = \"as-configured\"\n{text}"));
    let words = ["few.toml: entry `Adaptive`", "allows 6", "raise `balance.search_budget`"];
    bench.bad("compare few.toml --set sample.queries=13", 2, &words);
    bench.good("plan few.toml --set plan.calibration_seconds=0.1");
}

#[test]
fn an_entry_whose_search_is_not_paid_for_leaves_the_tables_of_the_others() {
    let bench = Bench::new();
    let small = TINY.replace("[1, 2]", "[1]");
    let (fixed, _) = small.split_once("[[entry]]\nname = \"Adaptive\"").expect("two entries");
    bench.write("c.toml", fixed);
    bench.good("compare c.toml --quiet");
    let race = "\"b-star\"\nbalance.search = \"racing\"\nbalance.search_budget = 0.5";
    bench.write("c.toml", small.replace("\"b-star\"", race));
    let shown = bench.good("compare c.toml --tables --quiet").stdout;
    assert!(shown.contains("| Fixed    | 1/1"), "{shown}");
    // To begin it is refused.
    bench.bad("compare c.toml --quiet", 2, &["c.toml: entry `Adaptive`", "13 queries allows 6"]);
    // One that was begun, by a build that did not refuse it, fails by itself.
    let few = format!("budget = \"as-configured\"\n{}", small.replace("\"b-star\"", race));
    let few = few.replace("supervised.steps", "sample.queries = 13\nsupervised.steps");
    bench.write("few.toml", few.replace("0.5", "0.9"));
    bench.good("compare few.toml --quiet");
    let run = "comparisons/few/runs/adaptive/seed-0001";
    let resolved = bench.read(&format!("{run}/config.resolved.json"));
    assert!(resolved.contains("\"search_budget\": 0.9"), "{resolved}");
    let poor = resolved.replace("\"search_budget\": 0.9", "\"search_budget\": 0.5");
    bench.write(&format!("{run}/config.resolved.json"), poor);
    bench.write("few.toml", few);
    let shown = bench.good("compare few.toml --quiet").stdout;
    assert!(shown.contains("| Adaptive | 1/1"), "finished, it is not made again: {shown}");
    let events = bench.read(&format!("{run}/events.jsonl"));
    let (begun, last) = events.trim_end().rsplit_once('\n').expect("events");
    assert!(last.contains("run_finished"), "{last}");
    bench.write(&format!("{run}/events.jsonl"), format!("{begun}\n"));
    let words = ["1 of 2 runs failed", "entry `Adaptive`", "allows 6"];
    bench.bad("compare few.toml --quiet", 2, &words);
    let shown = bench.read("comparisons/few/tables.md");
    assert!(
        shown.contains("| Fixed    | 1/1") && shown.contains("Adaptive, seed 1 failed"),
        "{shown}"
    );
    // All is begun anew with `--fresh`: then it is refused, and nothing is lost.
    bench.bad("compare few.toml --quiet --fresh", 2, &["few.toml: entry `Adaptive`", "allows 6"]);
    assert!(bench.path(run).exists());
}

#[test]
fn an_entry_names_what_it_is_compared_with() {
    let bench = Bench::new();
    let third = "reference = [\"Fixed\", \"Third\"]\n[[entry]]\nname = \"Third\"\nreference = \"Adaptive\"\n\
        method = \"rest-em\"\n";
    bench.write("c.toml", TINY.to_owned() + third);
    let results = bench.good("compare c.toml --json --quiet").json();
    let metric = |entry: usize| &results["entries"][entry]["metrics"]["eval/arithmetic/pass@1"];
    let names = |entry: usize| -> Vec<&str> {
        let differences = metric(entry)["differences"].as_array().expect("a list");
        differences.iter().filter_map(|found| found["reference"].as_str()).collect()
    };
    assert_eq!([names(0), names(1), names(2)], [vec![], vec!["Fixed", "Third"], vec!["Adaptive"]]);
    let difference = |entry: usize, place: usize| {
        metric(entry)["differences"][place]["difference"]["mean"].as_f64().expect("a mean")
    };
    let mean = |entry: usize| metric(entry)["mean"].as_f64().expect("a mean");
    assert!((difference(1, 1) - (mean(1) - mean(2))).abs() < 1e-12);
    assert_eq!(difference(1, 1), -difference(2, 0));
    let table = bench.read("comparisons/c/tables.md");
    assert!(table.contains("| Adaptive | Third         |"), "{table}");
}

#[test]
fn a_checkpoint_can_be_chosen_by_validation_queries() {
    let bench = Bench::new();
    bench.write("c.toml", TINY.replace("seeds = [1, 2]", "seeds = [1]\nvalidation_queries = 8"));
    let results = bench.good("compare c.toml --dir c --json --quiet").json();
    let entry = &results["entries"][1];
    let chosen = entry["selected_iterations"]["1"].as_u64().expect("an iteration");
    let found: serde_json::Value =
        serde_json::from_str(&bench.read("c/validation/adaptive/seed-0001.json")).expect("JSON");
    let accuracy = |iteration: u64| found["accuracy"][iteration.to_string()].as_f64();
    assert!(accuracy(0).is_some(), "P_0 is measured too");
    assert!((1..=2).contains(&chosen) && (1..=2).all(|i| accuracy(i) <= accuracy(chosen)));
    // The same model on the same queries as `bstar eval` would take them.
    let name = "eval/arithmetic/pass@1";
    let events = bench.events("c/runs/adaptive/seed-0001");
    let measured = events
        .iter()
        .find(|e| e["event"] == "measured" && e["stage"] == "eval" && e["iteration"] == chosen);
    let metrics = measured.expect("an evaluation")["metrics"].as_array().expect("metrics");
    let value = &metrics.iter().find(|m| m["name"] == name).expect("accuracy")["value"];
    assert_eq!(&entry["selected"][name]["mean"], value, "of the checkpoint that was chosen");
    let again = bench.good("compare c.toml --dir c --json --quiet").json();
    assert_eq!(again, results);
    bench.write("keep.toml", TINY.replace("seeds", "validation_queries = 8\nseeds"));
    let words = ["validation_queries", "keep-all"];
    bench.bad("compare keep.toml --set run.checkpoints=keep-last", 2, &words);
}

#[test]
fn entries_and_seeds_may_be_added_but_not_changed() {
    let bench = Bench::new();
    let one =
        "base = \"tiny.toml\"\nseeds = [1]\n[[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n";
    bench.write("c.toml", one);
    bench.good("compare c.toml --quiet");
    bench.write(
        "c.toml",
        one.replace("[1]", "[1, 2]") + "[[entry]]\nname = \"P_0\"\nmethod = \"sft\"\n",
    );
    let more = bench.good("compare c.toml --workers 1");
    assert!(more.stdout.contains("| Fixed | 2/2"), "{}", more.stdout);
    let of_seed = |seed: u64| {
        let name = format!("P_0 of seed {seed}: ");
        let line = more.stderr.lines().find_map(|line| line.split_once(&name));
        line.unwrap_or_else(|| panic!("no {name} in {}", more.stderr)).1.to_owned()
    };
    assert!(of_seed(1).starts_with("already there, greedy accuracy "), "{}", of_seed(1));
    assert!(of_seed(2).contains(" s, greedy accuracy "), "{}", of_seed(2));
    bench.write("c.toml", one.to_owned() + "sample.k = 3\n");
    let kept = bench.read("comparisons/c/config.toml");
    let words = ["`Fixed` with seed 1", "sample.k: 4 → 3", "another `--dir`", "--fresh"];
    bench.bad("compare c.toml --quiet", 4, &words);
    assert_eq!(bench.read("comparisons/c/config.toml"), kept, "what it was made by is not lost");
    bench.good("compare c.toml --quiet --fresh");
    bench.write("other/mine.txt", "mine");
    bench.bad("compare c.toml --dir other", 4, &["mine.txt", "--dir"]);
}

#[test]
fn a_run_that_fails_is_named_and_the_others_go_on() {
    let bench = Bench::new();
    let entry = "[[entry]]\nname = \"Never\"\nmethod = \"online-rft\"\nbalance.fixed_threshold = 2.0\n\
        run.most_empty_iterations = 1\n";
    bench.write("c.toml", TINY.to_owned() + entry);
    let words = ["2 of 6 runs failed", "Never, seed 2: nothing was selected"];
    let outcome = bench.bad("compare c.toml --dir c", 6, &words);
    assert!(outcome.stderr.contains("another --dir"), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("**Never, seed 1 failed:**"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("| Adaptive | 2/2"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("the other runs are complete"), "{}", outcome.stderr);
    // Where all failed there are no others.
    let alone = TINY.replace("[1, 2]", "[1]");
    let (head, _) = alone.split_once("[[entry]]").expect("entries");
    bench.write("c.toml", format!("{head}{entry}"));
    let told = bench.bad("compare c.toml --dir d", 6, &["1 of 1 runs failed"]).stderr;
    assert!(!told.contains("the other runs"), "{told}");
}

#[test]
fn vary_makes_an_entry_of_each_combination() {
    let bench = Bench::new();
    let vary = "[[entry]]\nname = \"Grid\"\nmethod = \"online-rft\"\n[entry.vary]\n\
        balance.fixed_temperature = [0.5, 1.0]\nbalance.fixed_threshold = [-0.5, 0.0]\n";
    bench.write("c.toml", format!("base = \"tiny.toml\"\nseeds = [1]\n{vary}"));
    let results = bench.good("compare c.toml --dir c --json --quiet --set iterations=1").json();
    let names = results["entries"].as_array().expect("entries").iter().map(|e| e["name"].clone());
    let expected = ["t 0.5, τ -0.5", "t 0.5, τ 0.0", "t 1.0, τ -0.5", "t 1.0, τ 0.0"];
    assert_eq!(names.collect::<Vec<_>>(), expected.map(|name| format!("Grid, {name}")));
    let run = bench.events("c/runs/grid-t-0.5-tau-neg0.5/seed-0001");
    let decided = run.iter().find(|e| e["event"] == "decided").expect("a decision");
    assert_eq!((&decided["temperature"], &decided["threshold"]), (&0.5.into(), &(-0.5).into()));
}

#[test]
fn what_is_wrong_with_a_comparison_is_said_with_its_line() {
    let bench = Bench::new();
    let refuse = |text: String, words: &[&str]| {
        bench.write("c.toml", text);
        bench.bad("compare c.toml", 2, words);
        assert!(!bench.path("comparisons").exists(), "nothing is run, and no folder is made");
    };
    refuse(
        TINY.replace("seeds", "seed"),
        &["c.toml:3: unknown key `seed`", "did you mean `seeds`?"],
    );
    refuse(
        TINY.to_owned() + "sample.kk = 3\n",
        &["c.toml:20: unknown key `sample.kk`", "did you mean `sample.k`?"],
    );
    refuse(
        TINY.to_owned() + "sample.k = \"many\"\n",
        &["entry `Adaptive`", "`sample.k`", "number"],
    );
    refuse(TINY.to_owned() + "evaluate.samples = 5\n", &["entry `Adaptive`", "[common]"]);
    refuse(TINY.to_owned() + "optimizer.beta1 = 1.5\n", &["entry `Adaptive`", "`optimizer.beta1`"]);
    refuse(TINY.to_owned() + "sample.queries = 3\n", &["`sample.queries`", "as-configured"]);
    refuse(TINY.to_owned() + "seed = 3\n", &["entry `Adaptive`", "`seeds`"]);
    refuse(TINY.replace("\"Adaptive\"", "\"fixed\""), &["too much alike", "own name"]);
    refuse(TINY.replace("[1, 2]", "[1, 1]"), &["c.toml:3", "none twice"]);
    refuse(format!("reference = \"No\"\n{TINY}"), &["c.toml:1", "`No`", "Fixed; Adaptive"]);
    let named = |name: &str| TINY.to_owned() + "reference = " + name + "\n";
    refuse(named("\"No\""), &["c.toml:20", "`No`", "Fixed; Adaptive"]);
    refuse(named("[\"Fixed\", \"Not\"]"), &["c.toml:20", "`Not`", "Fixed; Adaptive"]);
    refuse(named("[\"Fixed\", \"Fixed\"]"), &["c.toml:20", "`Fixed`", "twice"]);
    refuse(named("\"Adaptive\""), &["c.toml:20", "`Adaptive`", "itself"]);
    refuse(named("[3]"), &["c.toml:20", "`reference`", "list of names"]);
    refuse(format!("budget = \"free\"\n{TINY}"), &["c.toml", "free", "as-configured"]);
    refuse(TINY.replace("tiny.toml", "none.toml"), &["none.toml"]);
    refuse("seeds = [1]\n".into(), &["nothing to compare", "[[entry]]"]);
    refuse(
        TINY.to_owned()
            + "task.arithmetic.order = \"left_to_right\"\ntask.arithmetic.modulus = 11\n",
        &["other queries", "[common]"],
    );
}

#[test]
fn what_is_wrong_with_a_setting_is_said_with_who_gave_it() {
    let bench = Bench::new();
    bench.write("c.toml", TINY);
    let refuse = |arguments: &str, words: &[&str]| {
        let told = bench.bad(&format!("compare c.toml {arguments}"), 2, words).stderr;
        assert!(!told.contains("c.toml"), "the file is not to blame: {told}");
    };
    refuse("--set sample.k=many", &["--set sample.k=many: `sample.k`: ", "whole number"]);
    refuse("--set sample.kk=3", &["--set sample.kk=3: unknown key", "did you mean `sample.k`?"]);
    refuse("--set optimizer.beta1=1.5", &["--set optimizer.beta1=1.5: `optimizer.beta1` is 1.5"]);
    refuse("--set seed=3", &["--set seed=3: `seed` is given by `seeds`"]);
    refuse(
        "--set k=8",
        &["unknown key `k`", "did you mean `sample.k` or `knobs.k` or `evaluate.k`?"],
    );
    refuse("--set workers=2", &["`workers` stands at the top of a comparison file"]);
    let words = ["--set evaluate.k=8: `evaluate.k`: ", "list such as", "`evaluate.samples`"];
    refuse("--set evaluate.k=8", &words);
    let in_file = |text: String, words: &[&str]| {
        bench.write("c.toml", text);
        bench.bad("compare c.toml", 2, words);
    };
    let own = |line: &str| format!("{TINY}{line}\n");
    in_file(own("sample.k = \"many\""), &["c.toml:20: entry `Adaptive`: `sample.k`: "]);
    in_file(own("optimizer.beta1 = 1.5"), &["c.toml:20: entry `Adaptive`: `optimizer.beta1` is"]);
    let common = |line: &str| TINY.replace("[common]", &format!("[common]\n{line}"));
    in_file(common("sample.k = \"many\""), &["c.toml:6: [common]: `sample.k`: "]);
    in_file(common("optimizer.beta1 = 1.5"), &["c.toml:6: [common]: `optimizer.beta1` is 1.5"]);
    // A flag that mends what the file says wrong is taken.
    bench.good("compare c.toml --set optimizer.beta1=0.9 --set iterations=1 --quiet");
    let vary = format!("{TINY}[entry.vary]\nsample.k = [2, \"many\"]\n");
    in_file(vary, &["c.toml:20: entry `Adaptive, k many`: `sample.k`: "]);
    let top = |line: &str| format!("{line}\n{TINY}");
    let words = ["c.toml:1: unknown key `evaluate`", "stand in [common]", "`evaluate`"];
    in_file(top("evaluate.k = [1, 4]"), &words);
    in_file(top("k = 8"), &["c.toml:1: unknown key `k`", "[common]", "`sample.k`"]);
    bench.write("run.toml", "base = \"tiny.toml\"\n");
    let words = ["run.toml:1: unknown key `base`", "comparison file, which `bstar compare` takes"];
    let told = bench.bad("run run.toml", 2, &words).stderr;
    assert!(!told.contains("did you mean"), "{told}");
    bench.write("run.toml", "seeds = [1]\n");
    bench.bad("run run.toml", 2, &["`seeds` stands at the top", "a run has `seed`"]);
    bench.write("run.toml", "steps = 3\n");
    let words = ["run.toml:1: unknown key `steps`", "`supervised.steps`", "`train.steps`"];
    bench.bad("run run.toml", 2, &words);
}

#[test]
fn every_shipped_comparison_resolves() {
    let bench = Bench::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(repository().join("configs/compare")).expect("configs") {
        let path = entry.expect("an entry").path();
        let outcome = bench.good(&format!("compare {} --tables --json", path.display()));
        assert!(outcome.json()["entries"].as_array().is_some_and(|e| e.len() > 2), "{path:?}");
        seen += 1;
    }
    assert!(seen >= 2, "only {seen} comparisons");
}
