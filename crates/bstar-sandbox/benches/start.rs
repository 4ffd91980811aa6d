//! What a sandbox costs: a Python program that does nothing, with and without one.
//!
//! `cargo bench -p bstar-sandbox --bench start`

#![expect(clippy::print_stdout, reason = "the figures are what this is for")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bstar_sandbox::{Launcher, Layers, Program, Sandbox, Settings};

const PYTHON: &str = "/usr/bin/python3";
const ROUNDS: usize = 200;

fn main() {
    if !std::path::Path::new(PYTHON).exists() {
        println!("skipped: no {PYTHON}");
        return;
    }
    let levels = [
        Layers::default(),
        Layers { landlock: 0, ..Layers::default() },
        Layers { namespaces: false, ..Layers::default() },
    ];
    for layers in levels {
        let launcher = Launcher::new(env!("CARGO_BIN_EXE_sandbox-child").into(), Vec::new());
        let settings = Settings { layers, ..Settings::default() };
        let sandbox = Sandbox::new(launcher, settings).expect("a sandbox");
        println!("{}", sandbox.level());
        compare(&sandbox, 1);
        compare(&sandbox, std::thread::available_parallelism().map_or(1, usize::from));
    }
}

/// Alternates between both ways, so that a busy machine slows both down.
fn compare(sandbox: &Sandbox, threads: usize) {
    let (mut plain, mut boxed) = (Duration::ZERO, Duration::ZERO);
    let blocks = 10;
    for _ in 0..blocks {
        plain += timed(threads, ROUNDS / blocks, run_plainly);
        boxed += timed(threads, ROUNDS / blocks, || run_boxed(sandbox));
    }
    let programs = (ROUNDS / blocks * blocks * threads) as f64;
    let (plain, boxed) = (plain.as_secs_f64() / programs, boxed.as_secs_f64() / programs);
    println!(
        "  {threads} at a time: plain {:.2} ms ({:.0}/s), in the sandbox {:.2} ms ({:.0}/s): \
         {:.2} times, {:+.2} ms",
        plain * 1e3,
        plain.recip(),
        boxed * 1e3,
        boxed.recip(),
        boxed / plain,
        (boxed - plain) * 1e3
    );
}

fn timed(threads: usize, rounds: usize, run: impl Fn() + Sync) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..rounds).for_each(|_| run()));
        }
    });
    started.elapsed()
}

fn run_plainly() {
    let output = Command::new(PYTHON)
        .args(["-I", "-c", "pass"])
        .stdin(Stdio::null())
        .output()
        .expect("an interpreter");
    assert!(output.status.success());
}

fn run_boxed(sandbox: &Sandbox) {
    let report = sandbox.run(Program::new([PYTHON, "-I", "-c", "pass"])).expect("a report");
    assert_eq!(report.ended, bstar_sandbox::Ended::Code(0), "{report:?}");
}
