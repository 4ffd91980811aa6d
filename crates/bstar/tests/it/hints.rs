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
