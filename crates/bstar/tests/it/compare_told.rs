//! What is told of comparisons and their runs: names, tables without runs, entries alike, missed goals.

use crate::binary::Bench;
use crate::compare::TINY;

#[test]
fn runs_of_comparisons_are_listed_and_found() {
    let bench = Bench::new();
    bench.write("c.toml", TINY.replace("[1, 2]", "[1]"));
    bench.good("compare c.toml --quiet");
    bench.good("run tiny.toml --dir comparisons/alone --quiet");
    let ids = |dir: &str| -> Vec<String> {
        let listed = bench.good(&format!("runs list --dir {dir} --json")).json();
        let rows = listed.as_array().expect("rows").iter();
        rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids("comparisons"), ["alone", "c/adaptive/seed-0001", "c/fixed/seed-0001"]);
    assert_eq!(ids("comparisons/c"), ["adaptive/seed-0001", "fixed/seed-0001"]);
    assert_eq!(ids("comparisons/c/runs/fixed"), ["seed-0001"]);
    let shown = bench.good("runs show comparisons/c/runs/adaptive/seed-0001").stdout;
    for name in ["adaptive/seed-0001 --dir comparisons/c", "c/ad --dir comparisons"] {
        assert_eq!(bench.good(&format!("runs show {name}")).stdout, shown);
    }
    bench.good("whatif c/ad --dir comparisons");
    let words = ["comparisons/c is a comparison", "comparisons/c/runs/adaptive/seed-0001"];
    bench.bad("runs show comparisons/c", 4, &words);
    bench.bad("runs show c/ --dir comparisons", 2, &["c/adaptive/seed-0001", "name more of it"]);
    // What is listed names the run wherever a run is taken, and so does a part of it.
    let listed = bench.good("runs list").stdout;
    assert!(listed.contains("c/adaptive/seed-0001 ") && listed.contains("alone "), "{listed}");
    for name in ["c/adaptive/seed-0001", "adaptive/seed-0001", "adaptive"] {
        assert_eq!(bench.good(&format!("runs show {name}")).stdout, shown, "{name}");
    }
    bench.bad("runs show seed-0001", 2, &["is several runs in runs or comparisons"]);
    let told = bench.good("runs show adaptive").stderr;
    assert_eq!(told, "note: `adaptive` is the run comparisons/c/runs/adaptive/seed-0001\n");
    assert_eq!(bench.good("runs show c/adaptive/seed-0001").stderr, "");
    bench.bad("runs show adaptve", 4, &["the runs there are alone, c/adaptive/seed-0001"]);
    let elsewhere = bench.good("runs list --dir comparisons/c").stdout;
    assert!(elsewhere.contains("comparisons/c/runs/adaptive/seed-0001 "), "{elsewhere}");
}

#[test]
fn every_verb_that_takes_a_run_takes_its_name() {
    let bench = Bench::new();
    bench.write("c.toml", TINY.replace("[1, 2]", "[1]"));
    bench.good("compare c.toml --quiet");
    let run = "comparisons/c/runs/adaptive/seed-0001";
    let name = "adaptive/seed-0001";
    let same = |before: &str, after: &str| {
        let [by_folder, by_name] =
            [run, name].map(|run| bench.good(&format!("{before} {run} {after}")).stdout);
        assert_eq!(by_name, by_folder, "{before}");
        by_name
    };
    same("whatif", "--json");
    same("eval", "--task tiny.toml --json");
    let all = same("analyze", "--json");
    for stage in ["\"probe\"", "\"train\"", "\"eval\""] {
        assert!(all.contains(stage), "{all}");
    }
    assert_eq!(all, bench.good(&format!("analyze {name} --task arithmetic --json")).stdout);
    assert_ne!(all, bench.good(&format!("analyze {name} --task records --json")).stdout);
    let own = bench.good(&format!("balance {name} --json"));
    assert!(own.stderr.contains("as in the run"), "{}", own.stderr);
    let target = own.stderr.split("n* = ").nth(1).and_then(|rest| rest.split(',').next());
    let flag = format!("--target-count {} --json", target.expect("n* is told"));
    assert_eq!(own.stdout, bench.good(&format!("balance {name} {flag}")).stdout);
    let search = "--target-count 3 --json";
    let last = same("balance", search);
    let file = |iteration: u32, stage: &str| {
        let path = format!("{run}/rollouts/iter-{iteration:04}/{stage}.parquet");
        bench.good(&format!("balance {path} {search}")).stdout
    };
    assert_eq!(last, file(2, "probe"), "the last probe");
    let asked = "--iteration 1 --stage train";
    assert_eq!(bench.good(&format!("balance {name} {asked} {search}")).stdout, file(1, "train"));
    bench.bad(
        &format!("balance {name} --iteration 7 {search}"),
        3,
        &["no rollouts of iteration 7"],
    );
    bench.bad("balance fixed --target-count 3", 3, &["has stored no rollouts (probe)"]);
    bench.bad("simulate search fixed", 3, &["fixed stored no probe"]);
    let plan = "plan tiny.toml --set plan.calibration_seconds=0.1 --against";
    let told = bench.good(&format!("{plan} {name} --json")).json();
    assert_eq!(told["spent"]["finished"], true);
    let plan = "plan c.toml --set plan.calibration_seconds=0.1 --against c --json";
    assert_eq!(bench.good(plan).json()["spent"]["finished"], true);
    // The rows of two runs are of two policies under the same ids.
    let words = ["two runs are named", "seed-0001 and comparisons/c/runs/fixed", "hint:"];
    bench.bad("analyze adaptive fixed", 2, &words);
    // Several runs and comparisons are no names of models on the hub.
    bench.write("c.toml", TINY);
    bench.good("compare c.toml --quiet");
    let several = ["`c/adaptive` is several runs", "name more of it"];
    bench.bad("eval c/adaptive --task tiny.toml", 2, &several);
    bench.bad("eval comparisons/c --task tiny.toml", 4, &["comparisons/c is a comparison"]);
    // Nothing of that name is there.
    let words = ["no model adaptve/seed/1", "no run `adaptve/seed/1`", "c/adaptive/seed-0001"];
    bench.bad("eval adaptve/seed/1 --task tiny.toml", 3, &words);
    bench.bad("analyze adaptve", 4, &["no run `adaptve`", "nor is adaptve a file"]);
    bench.bad("balance gone.jsonl --target-count 3", 3, &["gone.jsonl"]);
}

#[test]
fn entries_that_a_setting_makes_alike_are_told() {
    let bench = Bench::new();
    bench.write("c.toml", TINY);
    let told = bench.good("compare c.toml --tables --set method=online-rft");
    let line = "entries `Fixed` and `Adaptive` have the same settings";
    assert!(told.stderr.contains(line), "{}", told.stderr);
}

#[test]
fn tables_of_nothing_say_so() {
    let bench = Bench::new();
    bench.write("c.toml", TINY);
    let told = bench.good("compare c.toml --tables");
    assert!(told.stdout.contains("No run has finished"), "{}", told.stdout);
    assert!(!told.stdout.contains('|'), "no table: {}", told.stdout);
    assert!(!told.stderr.contains("run has finished"), "said once: {}", told.stderr);
    assert!(told.stderr.contains("comparisons/c: `bstar compare` without"), "{}", told.stderr);
    assert!(!bench.path("comparisons").exists(), "a name that is none becomes no folder");
    std::fs::create_dir(bench.path("empty")).expect("a folder");
    bench.good("compare c.toml --tables --dir empty");
    let left = std::fs::read_dir(bench.path("empty")).expect("a folder").count();
    assert_eq!(left, 0, "an empty folder stays empty");
    bench.write("other/notes.txt", "mine");
    bench.bad("compare c.toml --tables --dir other", 4, &["other", "notes.txt"]);
    let gone = "compare c.toml --set model.folder=gone --set supervised.steps=0";
    bench.bad(gone, 3, &["`model.folder`", "gone is not there"]);
    assert!(!bench.path("comparisons").exists(), "no folder for runs that cannot start");
    assert_eq!(bench.good("compare c.toml --tables --json").json()["entries"][0]["name"], "Fixed");
}

#[test]
fn a_missed_goal_of_p_0_is_told_at_every_end() {
    let bench = Bench::new();
    let goal = "--set supervised.stop_at_accuracy=1.0 --set supervised.validate_every=3";
    let line = "P_0 missed its goal: ";
    let run = bench.good(&format!("run tiny.toml {goal}"));
    assert!(run.stderr.contains("below the goal"), "{}", run.stderr);
    assert!(run.stdout.contains(line), "{}", run.stdout);
    let shown = bench.good("runs show tiny");
    assert!(shown.stdout.contains(line) && shown.stdout.contains("after 6 steps, not 100.0 %"));
    let missed = bench.good("runs show tiny --json").json()["missed_goal"].clone();
    assert_eq!((&missed["step"], &missed["goal"]), (&6.into(), &1.0.into()));
    bench.write("c.toml", TINY.replace("supervised.steps = 60", ""));
    let listed = bench.good("runs list");
    assert!(listed.stdout.contains("finished, P_0 below its goal"), "{}", listed.stdout);
    assert_eq!(bench.good("runs list --json").json()[0]["missed_goal"], missed);
    let compared = bench.good(&format!("compare c.toml {goal}"));
    let made = "P_0 of seed 1: ";
    let made = compared.stderr.lines().find(|line| line.contains(made)).expect("a line of P_0");
    assert!(made.contains("it missed its goal: "), "{made}");
    assert!(!compared.stderr.contains("about 0 seconds"), "{}", compared.stderr);
    let table = compared.stdout;
    for words in ["| 6 \\* ", "P_0 missed its goal", "after 6 steps, not 100.0 % (Fixed; Adaptive)"]
    {
        assert!(table.contains(words), "no `{words}` in {table}");
    }
    // All that is shown is 0: where no interval stands, nothing is said of intervals.
    let told = table.contains("an interval is over queries only");
    assert_eq!([table.contains('±'), told], [false; 2], "{table}");
}
