//! Models by their name on the hub: from a cache, and from a hub on this machine.

use crate::binary::{Bench, Outcome};
use crate::server::{COMMIT, Server};
use std::path::Path;

/// A trained model, which other tests of this file give a name.
fn trained() -> (Bench, String) {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir made --quiet");
    (bench, "made/checkpoints/iter-0002".into())
}

/// The files of a model that a cache or a hub holds.
fn files(bench: &Bench, model: &str) -> Vec<(String, Vec<u8>)> {
    let names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
    let names = names.into_iter().chain(["tokenizer_config.json", "special_tokens_map.json"]);
    let read = |name: &str| std::fs::read(bench.path(&format!("{model}/{name}"))).expect(name);
    names.map(|name| (name.to_owned(), read(name))).collect()
}

/// Puts the model into a cache as `org/tiny`, at a commit that `main` then is.
fn put_into_cache(bench: &Bench, model: &str, commit: &str) {
    for (name, bytes) in files(bench, model) {
        bench.write(&format!("cache/models--org--tiny/snapshots/{commit}/{name}"), bytes);
    }
    bench.write("cache/models--org--tiny/refs/main", commit);
}

fn with(bench: &Bench, arguments: &str, variables: &[(&str, &str)]) -> Outcome {
    let mut command = bench.command(arguments);
    for name in ["HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT"] {
        command.env_remove(name);
    }
    command.env("HF_HUB_CACHE", bench.path("cache")).envs(variables.iter().copied());
    Outcome::of(&command.output().expect("the binary runs"))
}

fn offline(bench: &Bench, arguments: &str) -> Outcome {
    with(bench, arguments, &[("HF_HUB_OFFLINE", "1")])
}

fn good(outcome: Outcome) -> Outcome {
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome
}

fn bad(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "no `{word}` in: {}", outcome.stderr);
    }
}

#[test]
fn every_verb_takes_a_name_from_the_cache() {
    let (bench, model) = trained();
    put_into_cache(&bench, &model, COMMIT);
    let by_folder = good(offline(&bench, &format!("eval {model} --task tiny.toml --json --quiet")));
    let by_name = good(offline(&bench, "eval org/tiny --task tiny.toml --json --quiet"));
    assert_eq!(by_name.stdout, by_folder.stdout);
    let run = "run tiny.toml --set model.name=org/tiny --set supervised.steps=0 --quiet \
        --dir named";
    good(offline(&bench, run));
    let resolved: serde_json::Value =
        serde_json::from_str(&bench.read("named/config.resolved.json")).expect("JSON");
    assert_eq!(resolved["model_commit"], COMMIT);
    let adapt = "run tiny.toml --set model.name=org/tiny --set lora.rank=2 --quiet --dir lora";
    good(offline(&bench, adapt));
    good(offline(&bench, "merge org/tiny lora -o merged"));
    good(offline(&bench, "eval merged --task tiny.toml --quiet"));
    // An adapter of others names its base as the hub does.
    let adapter = "lora/checkpoints/iter-0002";
    let by_path = good(offline(&bench, &format!("eval {adapter} --task tiny.toml --json --quiet")));
    let config = bench.path(&format!("{adapter}/adapter_config.json"));
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).expect("a file")).expect("JSON");
    json["base_model_name_or_path"] = "org/tiny".into();
    std::fs::write(&config, json.to_string()).expect("a file");
    let by_name = good(offline(&bench, &format!("eval {adapter} --task tiny.toml --json --quiet")));
    assert_eq!(by_name.stdout, by_path.stdout);
}

#[test]
fn a_run_does_not_go_on_with_another_commit() {
    let (bench, model) = trained();
    put_into_cache(&bench, &model, COMMIT);
    let run = "run tiny.toml --set model.name=org/tiny --quiet --dir named";
    good(offline(&bench, run));
    put_into_cache(&bench, &model, "fedcba9876543210");
    bad(&offline(&bench, run), 4, &["model.name", "another commit", "name@commit"]);
}

#[test]
fn a_reward_model_is_taken_by_its_name_too() {
    let bench = Bench::new();
    let scored = "--set reward.kind=answer-and-reward-model --set reward_model.queries=20 \
        --set reward_model.responses=4 --set reward_model.completions=2 --set reward_model.steps=4 \
        --set reward_model.batch_size=8 --set task.arithmetic.modulus=3 \
        --set task.arithmetic.expressions=1 --set task.arithmetic.largest_operand=2 \
        --set supervised.steps=60 --set task.arithmetic.supervised_operations=[0,0,1,1] \
        --set task.arithmetic.query_operations=[0,0,1] --set iterations=1";
    bench.good(&format!("run tiny.toml {scored} --dir trained --quiet"));
    let put = |commit: &str| {
        let from = bench.path("trained/reward_models/iter-0000");
        for entry in std::fs::read_dir(from).expect("a reward model") {
            let (path, name) = entry.map(|it| (it.path(), it.file_name())).expect("a file");
            let (bytes, name) = (std::fs::read(path).expect("a file"), name.display().to_string());
            bench.write(&format!("cache/models--org--judge/snapshots/{commit}/{name}"), bytes);
        }
        bench.write("cache/models--org--judge/refs/main", commit);
    };
    put(COMMIT);
    let folder = "--set reward_model.folder=trained/reward_models/iter-0000";
    bench.good(&format!("run tiny.toml {scored} {folder} --dir folder --quiet"));
    let named = format!("run tiny.toml {scored} --set reward_model.name=org/judge");
    good(offline(&bench, &format!("{named} --dir named --quiet")));
    let version = |run: &str| bench.events(run)[0]["reward_model"].clone();
    assert!(version("folder").is_string() && version("named") == version("folder"));
    let resolved: serde_json::Value =
        serde_json::from_str(&bench.read("named/config.resolved.json")).expect("JSON");
    assert_eq!(resolved["reward_model_commit"], COMMIT);
    bench.write(
        "c.toml",
        "base = \"tiny.toml\"\nseeds = [1]\n[[entry]]\nname = \"Judged\"\nmethod = \"online-rft\"\n",
    );
    let compare = format!("compare c.toml {scored} --set reward_model.name=org/judge --quiet");
    good(offline(&bench, &compare));
    put("fedcba9876543210");
    let words = ["reward_model.name", "another commit", "name@commit"];
    bad(&offline(&bench, &format!("{named} --dir named --quiet")), 4, &words);
    let words = ["`Judged` with seed 1", "`reward_model.name` is another commit"];
    bad(&offline(&bench, &compare), 4, &words);
    let words = ["`reward_model.folder` and `reward_model.name` are both set"];
    bad(&offline(&bench, &format!("{named} {folder}")), 2, &words);
    let none = named.replace("org/judge", "org/none");
    bad(&offline(&bench, &format!("{none} --dir none")), 3, &["offline", "org/none"]);
    assert!(!bench.path("none").exists(), "refused before there is a run folder");
}

/// Two entries with two seeds that start from the model of the hub.
const COMPARED: &str = "base = \"tiny.toml\"\nseeds = [1, 2]\n[common]\nmodel.name = \"org/tiny\"\n\
    supervised.steps = 0\n[[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n\
    [[entry]]\nname = \"Adaptive\"\nmethod = \"b-star\"\n";

#[test]
fn a_comparison_fetches_its_model_once_before_its_workers_begin() {
    let (bench, model) = trained();
    let files = files(&bench, &model);
    let offered: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let server = Server::start(&offered);
    bench.write("c.toml", COMPARED);
    let online = [("HF_ENDPOINT", server.endpoint.as_str())];
    good(with(&bench, "compare c.toml --workers 2", &online));
    let asked = server.asked();
    for (name, _) in &files {
        let whole = |(path, range, _): &&(String, Option<String>, bool)| {
            path.ends_with(&format!("/{name}")) && range.as_deref() != Some("0-0")
        };
        assert_eq!(asked.iter().filter(whole).count(), 1, "{name}: {asked:?}");
    }
    let revisions = asked.iter().filter(|(path, ..)| path.ends_with("/revision/main")).count();
    assert_eq!(revisions, 1, "{asked:?}");
}

#[test]
fn a_comparison_notices_another_commit_in_finished_runs() {
    let (bench, model) = trained();
    put_into_cache(&bench, &model, COMMIT);
    bench.write("c.toml", COMPARED);
    good(offline(&bench, "compare c.toml --quiet"));
    put_into_cache(&bench, &model, "fedcba9876543210");
    let words = ["`Fixed` with seed 1", "`model.name` is another commit", COMMIT, "fedcba"];
    bad(&offline(&bench, "compare c.toml --quiet"), 4, &words);
}

#[test]
fn offline_names_what_is_missing() {
    let (bench, model) = trained();
    put_into_cache(&bench, &model, COMMIT);
    let snapshot = format!("cache/models--org--tiny/snapshots/{COMMIT}");
    std::fs::remove_file(bench.path(&format!("{snapshot}/model.safetensors"))).expect("a file");
    let place = bench.path(&snapshot).display().to_string();
    let words = ["offline", "org/tiny lacks model.safetensors", &place, "HF_HUB_OFFLINE"];
    bad(&offline(&bench, "run tiny.toml --set model.name=org/tiny"), 3, &words);
    bad(&offline(&bench, "eval org/tiny --task tiny.toml"), 3, &words);
    let words = ["revision main of org/none", "there is no folder org/none here either"];
    bad(&offline(&bench, "eval org/none --task tiny.toml"), 3, &words);
    assert!(!bench.path("runs").exists(), "no run folder for a run that cannot start");
}

#[test]
fn a_name_is_fetched_once_and_progress_is_told() {
    let (bench, model) = trained();
    let files = files(&bench, &model);
    let offered: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let server = Server::start(&offered);
    let online = [("HF_ENDPOINT", server.endpoint.as_str()), ("HF_TOKEN", "secret")];
    server.state.lock().expect("no panic").refuse = Some(403);
    let eval = "eval org/tiny --task tiny.toml";
    let refused = with(&bench, eval, &online);
    bad(&refused, 3, &["refuses org/tiny", "403", "HF_TOKEN"]);
    assert!(!refused.stderr.contains("secret"));
    server.state.lock().expect("no panic").refuse = None;
    let outcome = good(with(&bench, eval, &online));
    assert!(outcome.stderr.contains("fetching org/tiny: 1 file,"), "{}", outcome.stderr);
    assert!(Path::new(&bench.path("cache/models--org--tiny/refs/main")).exists());
    good(offline(&bench, eval));
}

#[test]
fn contradictions_and_wrong_names_are_refused() {
    let bench = Bench::new();
    let both = "run tiny.toml --set model.name=org/tiny --set model.folder=there";
    bench.bad(both, 2, &["`model.folder` and `model.name`", "one model"]);
    bench.bad("run tiny.toml --set model.name=../x", 2, &["`model.name`", "organisation/model"]);
}
