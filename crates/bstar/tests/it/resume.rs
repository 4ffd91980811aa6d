//! A run that is killed anywhere ends like one that was not, whatever the number of threads.

use crate::binary::{Bench, Outcome};
use bstar_core::RngKey;
use bstar_core::rng::uniform;
use std::time::{Duration, Instant};

const KILLS: usize = 20;

/// A run of a few seconds that trains in each iteration: below τ, wrong responses are learnt too.
const RUN: &str = "run tiny.toml --set iterations=6 --set supervised.steps=40 \
    --set balance.thresholds=\"-0.5\" --quiet";

/// Begins, waits until `file` holds `word`, and interrupts as Ctrl-C does.
fn interrupt_at(bench: &Bench, command: &str, file: impl Fn() -> String, word: &str) -> Outcome {
    let child = bench.command(command).stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("the binary runs");
    let began = Instant::now();
    while !std::fs::read_to_string(bench.path(&file())).is_ok_and(|text| text.contains(word)) {
        assert!(began.elapsed() < Duration::from_mins(1), "no {word} in {}", file());
        std::thread::sleep(Duration::from_millis(20));
    }
    let signal = ["-INT", &child.id().to_string()];
    assert!(std::process::Command::new("kill").args(signal).status().expect("kill").success());
    let outcome = Outcome::of(&child.wait_with_output().expect("a child"));
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    outcome
}

/// Kills a run after `delay`; returns whether it was still at work.
fn kill_after(bench: &Bench, run: &str, delay: Duration) -> bool {
    let mut child = bench.command(run).spawn().expect("the binary runs");
    std::thread::sleep(delay);
    // SIGKILL on Unix: the process gets no chance to tidy up.
    let at_work = child.try_wait().expect("a child").is_none();
    child.kill().expect("a child");
    child.wait().expect("a child");
    at_work
}

#[test]
fn a_run_killed_twenty_times_ends_like_one_that_was_not() {
    let bench = Bench::new();
    let start = Instant::now();
    bench.good(&format!("{RUN} --dir whole"));
    let whole = start.elapsed().as_secs_f64();
    let expected = bench.trace("whole");
    let trains = |event: &serde_json::Value| event["event"] == "step" && event["iteration"] == 6;
    assert!(expected.0.iter().any(trains), "the last iteration trains");
    let mut rng = RngKey::from_seed(5).child("kills").rng();
    let mut killed = 0;
    for run in 0.. {
        let name = format!("killed-{run}");
        // One thread and two by turns: the threads of a run may change, its result may not.
        let run = |threads: usize| format!("{RUN} --set run.threads={threads} --dir {name}");
        // Several kills while one run comes to its end, then another run.
        let mut delay = || Duration::from_secs_f64(uniform(&mut rng) * whole / 2.0);
        while kill_after(&bench, &run(1 + killed % 2), delay()) {
            killed += 1;
        }
        bench.good(&run(1 + killed % 2));
        let (events, weights) = bench.trace(&name);
        assert_eq!(weights, expected.1, "{name}");
        assert_eq!(events, expected.0, "{name}");
        if killed >= KILLS {
            break;
        }
    }
}

#[test]
fn one_thread_and_two_threads_make_the_same_run() {
    let bench = Bench::new();
    // The older name of `--dir`.
    bench.good("run tiny.toml --run-dir one --set run.threads=1 --quiet");
    bench.good("run tiny.toml --dir two --set run.threads=2 --quiet");
    let (one, two) = (bench.trace("one"), bench.trace("two"));
    assert_eq!(one.1, two.1, "weights");
    assert_eq!(one.0, two.0, "events");
}

#[test]
fn a_checkpoint_that_lost_its_trainer_state_is_not_trained_on() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir run --quiet");
    let log = bench.read("run/events.jsonl");
    let cut = log.find("\"iteration_committed\"").expect("a commit");
    bench.write("run/events.jsonl", &log[..cut]);
    std::fs::remove_file(bench.path("run/checkpoints/iter-0000/trainer_state.json")).expect("it");
    bench.bad("run tiny.toml --dir run --quiet", 4, &["error: no trainer_state.json in"]);
}

#[test]
fn a_kill_at_each_stage_loses_at_most_that_stage() {
    let bench = Bench::new();
    bench.good("run tiny.toml --dir whole --quiet");
    let log = bench.read("whole/events.jsonl");
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    for kept in (1..lines.len()).step_by(3) {
        bench.good("run tiny.toml --dir cut --quiet --fresh");
        // A torn line, as a crash in the middle of a write leaves it.
        let torn = &lines[kept][..lines[kept].len() / 2];
        bench.write("cut/events.jsonl", lines[..kept].concat() + torn);
        bench.good("run tiny.toml --dir cut --quiet");
        assert_eq!(bench.trace("cut"), bench.trace("whole"), "cut after {kept} lines");
    }
}

/// A P_0 that never reaches its goal.
const LONG: &str = "--set supervised.steps=1000000 --set supervised.stop_at_accuracy=1 \
                    --set supervised.validate_every=2";

#[test]
fn an_interrupted_p_0_is_not_told_as_if_it_had_ended_and_begins_again() {
    let bench = Bench::new();
    let log = || "runs/tiny/events.jsonl".to_owned();
    let run = format!("run tiny.toml {LONG}");
    let outcome = interrupt_at(&bench, &run, log, "\"validated\"");
    let line = outcome.stderr.lines().find(|line| line.contains("supervised fine-tuning:"));
    let line = line.unwrap_or_else(|| panic!("{}", outcome.stderr));
    assert!(line.contains(" of 1000000 steps") && line.ends_with("broken off"), "{line}");
    assert!(!outcome.stderr.contains("below the goal"), "{}", outcome.stderr);
    let told = "again to go on: the supervised fine-tuning of P_0 begins again from its start";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    assert!(!bench.path("runs/tiny/checkpoints/iter-0000").exists(), "nothing of it is kept");
}

#[test]
fn an_interrupted_comparison_says_what_begins_again() {
    let bench = Bench::new();
    let text =
        "base = \"tiny.toml\"\nseeds = [1]\n[[entry]]\nname = \"Fixed\"\nmethod = \"online-rft\"\n";
    bench.write("c.toml", text);
    let log = || {
        let starts = std::fs::read_dir(bench.path("comparisons/c/starts"));
        let start = starts.ok().and_then(|mut starts| starts.next()?.ok());
        let name = start.map(|start| start.file_name().display().to_string()).unwrap_or_default();
        format!("comparisons/c/starts/{name}/seed-0001/events.jsonl")
    };
    let outcome = interrupt_at(&bench, &format!("compare c.toml {LONG}"), log, "\"validated\"");
    let told = "P_0 of seed 1: the supervised fine-tuning of P_0 begins again from its start";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}
