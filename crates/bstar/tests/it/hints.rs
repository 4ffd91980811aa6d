//! What a person types nearly right: the answer names the key, the file or the command that was meant.

use crate::binary::Bench;

const COMPARISON: &str =
    "base = \"tiny.toml\"\nseeds = [1]\n[[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n";

#[test]
fn a_config_of_the_other_kind_names_the_command_that_takes_it() {
    let bench = Bench::new();
    bench.write("c.toml", COMPARISON);
    let words = ["c.toml is a comparison", "`bstar compare c.toml`", "`bstar plan c.toml`"];
    for command in ["run c.toml", "config show c.toml", "eval runs/x --task c.toml"] {
        bench.bad(command, 2, &words);
    }
    bench.bad(
        "compare tiny.toml",
        2,
        &["tiny.toml is the config of one run", "`bstar run tiny.toml`"],
    );
    assert!(!bench.path("comparisons").exists() && !bench.path("runs").exists());
    // A comparison with a key that is none still has its line named.
    bench.write("c.toml", format!("method = \"sft\"\n{COMPARISON}"));
    bench.bad("compare c.toml", 2, &["c.toml:1", "`method`"]);
}

#[test]
fn a_base_that_is_not_there_is_named_with_its_line() {
    let bench = Bench::new();
    bench.write("c.toml", format!("title = \"A\"\n{}", COMPARISON.replace("tiny", "none")));
    bench.bad("compare c.toml", 2, &["c.toml:2: `base`: there is no file none.toml", "hint:"]);
}

#[test]
fn a_key_that_is_nearly_right_names_the_right_one() {
    let bench = Bench::new();
    bench.bad("run tiny.toml --set sample.K=16", 2, &["`sample.K`", "did you mean `sample.k`?"]);
    bench.bad("run tiny.toml --set evaluate.k=16", 2, &["`evaluate.k`", "`evaluate.samples`"]);
}

#[test]
fn a_model_folder_that_is_none_is_named_by_its_key() {
    let bench = Bench::new();
    bench.write("empty/readme.txt", "nothing");
    let words = ["`model.folder`: ", "nowhere is not there", "hint:"];
    bench.bad("run tiny.toml --set model.folder=nowhere", 3, &words);
    let words = ["`model.folder`: ", "empty holds no model", "config.json"];
    bench.bad("run tiny.toml --set model.folder=empty", 3, &words);
    let scored = "--set reward.kind=answer-and-reward-model --set reward_model.folder=nowhere";
    bench.bad(&format!("run tiny.toml {scored}"), 3, &["`reward_model.folder`: ", "nowhere"]);
    let scored = scored.replace("nowhere", "tiny.toml");
    bench.bad(&format!("run tiny.toml {scored}"), 3, &["tiny.toml is a file", "name the folder"]);
    assert!(!bench.path("runs").exists(), "no run folder for a run that cannot start");
}

#[test]
fn help_and_init_name_what_there_is() {
    let bench = Bench::new();
    let told = bench.good("init mine.toml").stdout;
    assert!(
        told.contains("bstar plan mine.toml") && told.contains("bstar run mine.toml"),
        "{told}"
    );
    let written = bench.read("mine.toml");
    let kinds =
        "# arithmetic | gsm8k | math | arc_challenge | apps | humaneval | mbpp | game24 | records";
    assert!(written.contains(kinds), "{written}");
    // Every kind that there is, as the parser names them.
    let known = bench.bad("run tiny.toml --set task.kind=no", 2, &[]).stderr;
    let (_, listed) = known.split_once("expected one of ").expect("a list");
    let listed = listed.lines().next().expect("a line");
    let named: Vec<&str> = listed.split(", ").map(|kind| kind.trim_matches('`')).collect();
    assert_eq!(named.join(" | "), kinds.trim_start_matches("# "));
    let help = bench.good("bench --help").stdout;
    for size in ["pico", "small", "base"] {
        assert!(help.contains(&format!("`model.size = \"{size}\"`")), "{help}");
    }
    assert!(help.contains("--workload") && help.contains("small-train"), "{help}");
    bench.bad("bench --workload none", 2, &["pico-train", "large-sample-32"]);
    let help = bench.good("whatif --help").stdout;
    for key in ["`balance.*`", "`knobs.*`", "`reward.*`", "`selection.*`", "`sample.k`"] {
        assert!(help.contains(key), "no {key} in {help}");
    }
}

#[test]
fn a_run_folder_that_is_not_there_has_one_exit_code() {
    let bench = Bench::new();
    for command in [
        "runs show nowhere",
        "whatif nowhere",
        "plan tiny.toml --against nowhere",
        "simulate search nowhere",
    ] {
        bench.bad(command, 4, &["no run", "nowhere", "hint:"]);
    }
}

#[test]
fn a_value_that_is_no_name_is_told_the_names_and_a_file_is_named_once() {
    let bench = Bench::new();
    for (set, names) in [
        ("train.optimizer_state=true", "`\"method\"`, `\"carried\"` or `\"renewed\"`"),
        ("train.optimizer_state=3", "`\"method\"`, `\"carried\"` or `\"renewed\"`"),
        ("method=3", "`\"b-star\"`"),
    ] {
        let told = bench.bad(&format!("run tiny.toml --set {set}"), 2, &["expected", names]);
        assert!(!told.stderr.contains("variant"), "{}", told.stderr);
    }
    bench.write("c.toml", format!("{COMPARISON}[[entry]]\nmethod = \"sft\"\n"));
    let told = bench.bad("compare c.toml", 2, &["c.toml: entry 2 has no name"]).stderr;
    assert!(!told.contains(" or c.toml"), "{told}");
    bench.write("c.toml", COMPARISON);
    for set in ["seeds=[3]", "title=Mine", "common.sample.k=3"] {
        let words = ["stands at the top of a comparison file", "edit the file"];
        bench.bad(&format!("compare c.toml --set {set}"), 2, &words);
    }
}

#[test]
fn what_is_no_run_and_no_model_is_told() {
    let bench = Bench::new();
    bench.bad("runs list --dir nope", 2, &["no folder nope"]);
    bench.write("c.toml", COMPARISON);
    let told = bench.good("compare c.toml --set iterations=1").stderr;
    assert!(
        told.starts_with("1 run of 1 entry and 1 seed, 1 side by side, in comparisons/c\n"),
        "{told}"
    );
    let words = ["comparisons/c is a comparison", "comparisons/c/runs/fixed/seed-0001"];
    bench.bad("eval comparisons/c --task tiny.toml", 4, &words);
    let hub = "is not there";
    let scored = "--set reward.kind=answer-and-reward-model";
    let words = [hub, "named in `model.name`"];
    bench.bad("run tiny.toml --set model.folder=org/tiny", 3, &words);
    let words = [hub, "named in `reward_model.name`"];
    bench.bad(&format!("run tiny.toml {scored} --set reward_model.folder=org/tiny"), 3, &words);
    let told = bench.good("run tiny.toml --set supervised.steps=1 --set iterations=1").stderr;
    assert!(told.contains("supervised fine-tuning: 1 step in "), "{told}");
}

#[test]
fn a_folder_that_holds_no_reward_model_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    bench.good("run tiny.toml --set iterations=1 --dir run --quiet");
    let copied = "run/reward_models/iter-0000/config.json";
    let config = bench.read("run/checkpoints/iter-0001/config.json");
    bench.write(copied, config.replace("ForCausalLM", "ForTokenClassification"));
    bench.write("c.toml", COMPARISON);
    for (folder, words) in [
        ("none", vec!["none is not there"]),
        ("run", vec!["holds no model, but", "run/reward_models/iter-0000"]),
        ("run/reward_models", vec!["holds no model, but", "run/reward_models/iter-0000"]),
        (
            "run/checkpoints/iter-0001",
            vec![
                "model of another kind, \"LlamaForCausalLM\"",
                "a run with `reward.kind",
                "trains one",
            ],
        ),
    ] {
        let words: Vec<&str> = [vec!["`reward_model.folder`: "], words].concat();
        let set =
            format!("--set reward.kind=answer-and-reward-model --set reward_model.folder={folder}");
        for command in
            ["run tiny.toml --dir new", "compare c.toml", "plan tiny.toml", "plan c.toml"]
        {
            let told = bench.bad(&format!("{command} {set}"), 3, &words).stderr;
            assert!(!told.contains("damaged"), "{told}");
            assert!(!bench.path("comparisons").exists() && !bench.path("new").exists());
        }
    }
}
