//! Runs that train an adapter, and `bstar merge`.

use crate::binary::Bench;
use std::path::Path;

const LORA: &str = "run tiny.toml --set model.folder=base --set lora.rank=4 --set \
    lora.targets=[\"q_proj\",\"down_proj\"] --set balance.thresholds=\"-0.5\" --quiet";

/// A bench with a model in `base`.
fn bench_with_model() -> Bench {
    let bench = Bench::new();
    bench.good("run tiny.toml --set iterations=1 --dir first --quiet");
    let model = bench.path("first/checkpoints/iter-0001");
    std::fs::rename(model, bench.path("base")).expect("a checkpoint");
    bench
}

fn bytes(bench: &Bench, name: &str) -> Vec<u8> {
    std::fs::read(bench.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> =
        entries.map(name).map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_run_with_an_adapter_goes_on_where_it_was_cut_and_copies_no_base() {
    let bench = bench_with_model();
    bench.good(&format!("{LORA} --dir whole"));
    let files = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "trainer_state.json",
    ];
    assert_eq!(names(&bench.path("whole/checkpoints/iter-0002")), files);
    let adapter = |run: &str, iteration: u8| {
        let folder = format!("{run}/checkpoints/iter-000{iteration}");
        files.map(|file| bytes(&bench, &format!("{folder}/{file}")))
    };
    assert_ne!(adapter("whole", 0), adapter("whole", 2), "the iterations train");
    let log = bench.read("whole/events.jsonl");
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    for kept in (1..lines.len()).step_by(7) {
        bench.good(&format!("{LORA} --dir cut --fresh"));
        bench.write("cut/events.jsonl", lines[..kept].concat());
        bench.good(&format!("{LORA} --dir cut --set run.threads=1"));
        assert_eq!(bench.events("cut"), bench.events("whole"), "cut after {kept} lines");
        assert_eq!(adapter("cut", 2), adapter("whole", 2), "cut after {kept} lines");
    }
}

#[test]
fn a_run_refuses_another_base_than_it_began_with() {
    let bench = bench_with_model();
    bench.good(&format!("{LORA} --dir run"));
    let log = bench.read("run/events.jsonl");
    let cut = log.find("\"iteration_committed\"").expect("a commit");
    bench.write("run/events.jsonl", &log[..cut]);
    bench.good("run tiny.toml --set seed=2 --set iterations=1 --dir other --quiet");
    std::fs::remove_dir_all(bench.path("base")).expect("the base");
    std::fs::rename(bench.path("other/checkpoints/iter-0001"), bench.path("base")).expect("it");
    bench.bad(&format!("{LORA} --dir run"), 4, &["another base model", "hint:"]);
    // Nor do its adapters go with another.
    let words = ["was trained on another model", "hint:"];
    bench.bad("merge base run -o merged", 3, &words);
    bench.bad("eval run --task tiny.toml", 3, &words);
    assert!(!bench.path("merged").exists());
    // Without the state, or with that of another trainer, nobody can tell.
    let state = "run/checkpoints/iter-0002/trainer_state.json";
    bench.write(state, "{\"global_step\": 7, \"base\": null}");
    bench.good("merge base run -o merged");
    std::fs::remove_file(bench.path(state)).expect("a file");
    bench.good("merge base run -o again");
}

#[test]
fn a_merged_folder_answers_as_base_and_adapter_do() {
    let bench = bench_with_model();
    bench.good(&format!("{LORA} --dir run"));
    let told = bench.good("merge base run -o merged").stdout;
    assert_eq!(told, "wrote merged\n");
    assert_eq!(
        names(&bench.path("merged")),
        names(&bench.path("base"))
            .into_iter()
            .filter(|name| !name.starts_with("optimizer") && !name.starts_with("trainer"))
            .collect::<Vec<_>>()
    );
    assert_ne!(bytes(&bench, "merged/model.safetensors"), bytes(&bench, "base/model.safetensors"));
    let eval = |model: &str| bench.good(&format!("eval {model} --task tiny.toml --json")).stdout;
    assert_eq!(eval("merged"), eval("run"));
    // The folder of an adapter is named, too.
    bench.good("merge base run/checkpoints/iter-0000 -o earlier");
    assert_ne!(
        bytes(&bench, "earlier/model.safetensors"),
        bytes(&bench, "merged/model.safetensors")
    );
}

#[test]
fn merge_never_overwrites_and_leaves_nothing_behind_where_it_fails() {
    let bench = bench_with_model();
    bench.good(&format!("{LORA} --dir run"));
    bench.write("there/mine.txt", "mine");
    bench.bad("merge base run -o there", 2, &["there exists already", "hint:"]);
    assert_eq!(names(&bench.path("there")), ["mine.txt"]);
    bench.bad("merge base base -o new", 3, &["base holds no adapter", "hint:"]);
    bench.bad("merge ./no/such run -o new", 3, &["no such file: ./no/such/config.json"]);
    bench.bad("merge there/such run -o new", 3, &["no such file: there/such/config.json"]);
    bench.bad("merge base run -o ..", 2, &["hint:"]);
    let config = bench.read("run/checkpoints/iter-0002/adapter_config.json");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let from = bytes(&bench, &format!("run/checkpoints/iter-0002/{file}"));
        bench.write(&format!("dora/{file}"), from);
    }
    bench.write("dora/adapter_config.json", config.replacen('{', "{\"use_dora\": true,", 1));
    bench.bad("merge base dora -o new", 3, &["`use_dora` = true", "not supported"]);
    assert!(!bench.path("new").exists() && !bench.path(".new.unfinished").exists());
}

#[test]
fn settings_that_train_no_adapter_are_refused() {
    let bench = bench_with_model();
    for (set, words) in [
        ("--set lora.rank=4", "an adapter needs a model"),
        ("--set lora.rank=4 --set model.folder=base --set lora.targets=[]", "nothing would be"),
        ("--set lora.targets=[\"k_project\"]", "k_project"),
    ] {
        bench.bad(&format!("run tiny.toml {set}"), 2, &[words, "hint:"]);
    }
    bench.good(&format!("{LORA} --dir run"));
    let on_adapter = "run tiny.toml --set lora.rank=2 --set model.folder=run --dir second";
    bench.bad(on_adapter, 2, &["holds an adapter", "bstar merge"]);
    let whole = "run tiny.toml --set model.folder=run --dir second --quiet";
    bench.good(whole);
    assert!(bench.path("second/checkpoints/iter-0002/model.safetensors").exists());
}
