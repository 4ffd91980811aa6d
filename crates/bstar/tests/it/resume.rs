//! A run that is killed anywhere ends like one that was not, whatever the number of threads.

use crate::binary::Bench;
use bstar_core::rng::below;
use bstar_core::{RngKey, rng::Rng};
use std::time::{Duration, Instant};

const KILLS: usize = 20;

/// Kills a run after `delay`; returns whether it was still at work.
fn kill_after(bench: &Bench, arguments: &str, delay: Duration) -> bool {
    let mut child = bench.command(arguments).spawn().expect("the binary runs");
    std::thread::sleep(delay);
    let at_work = child.try_wait().expect("a child").is_none();
    // SIGKILL on Unix: the process gets no chance to tidy up.
    child.kill().expect("a child");
    child.wait().expect("a child");
    at_work
}

fn delay(rng: &mut Rng, whole: Duration) -> Duration {
    let millis = usize::try_from(whole.as_millis()).expect("a short run");
    Duration::from_millis(below(rng, millis.max(1)) as u64)
}

#[test]
fn a_run_killed_twenty_times_ends_like_one_that_was_not() {
    let bench = Bench::new();
    let start = Instant::now();
    bench.good("run tiny.toml --run-dir whole --quiet");
    let whole = start.elapsed();
    let mut rng = RngKey::from_seed(5).child("kills").rng();
    let mut killed = 0;
    for _ in 0..KILLS {
        let delay = delay(&mut rng, whole / 8);
        killed += usize::from(kill_after(&bench, "run tiny.toml --run-dir killed --quiet", delay));
    }
    assert!(killed > 0, "every run had ended before it was killed");
    bench.good("run tiny.toml --run-dir killed --quiet");
    let (events, weights) = bench.trace("killed");
    let (expected_events, expected_weights) = bench.trace("whole");
    assert_eq!(weights, expected_weights);
    assert_eq!(events, expected_events);
}

#[test]
fn one_thread_and_two_threads_make_the_same_run() {
    let bench = Bench::new();
    bench.good("run tiny.toml --run-dir one --set run.threads=1 --quiet");
    bench.good("run tiny.toml --run-dir two --set run.threads=2 --quiet");
    let (one, two) = (bench.trace("one"), bench.trace("two"));
    assert_eq!(one.1, two.1, "weights");
    assert_eq!(one.0, two.0, "events");
}

#[test]
fn a_checkpoint_that_lost_its_trainer_state_is_not_trained_on() {
    let bench = Bench::new();
    bench.good("run tiny.toml --run-dir run --quiet");
    let log = bench.read("run/events.jsonl");
    let cut = log.find("\"iteration_committed\"").expect("a commit");
    bench.write("run/events.jsonl", &log[..cut]);
    std::fs::remove_file(bench.path("run/checkpoints/iter-0000/trainer_state.json")).expect("it");
    bench.bad("run tiny.toml --run-dir run --quiet", 4, &["error: no trainer_state.json in"]);
}

#[test]
fn a_kill_at_each_stage_loses_at_most_that_stage() {
    let bench = Bench::new();
    bench.good("run tiny.toml --run-dir whole --quiet");
    let log = bench.read("whole/events.jsonl");
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    for kept in (1..lines.len()).step_by(3) {
        bench.good("run tiny.toml --run-dir cut --quiet --fresh");
        // A torn line, as a crash in the middle of a write leaves it.
        let torn = &lines[kept][..lines[kept].len() / 2];
        bench.write("cut/events.jsonl", lines[..kept].concat() + torn);
        bench.good("run tiny.toml --run-dir cut --quiet");
        assert_eq!(bench.trace("cut"), bench.trace("whole"), "cut after {kept} lines");
    }
}
