//! `bstar balance` as a whole command, reading included: 15 temperatures × 600 queries × 64 samples
//! (576,000 rows with responses of about 200 characters) searched over 201 thresholds and caps 1–64,
//! from Parquet and, a tenth of it, from JSON Lines.
//!
//! On Unix each command may use 1 GB of address space, so a measurement is also a proof that this is
//! enough. The files are made first; responses are unique, so that no dictionary makes the work
//! easier than real rollouts do.

use bstar_core::{RngKey, Rollout, Verdict};
use bstar_store::rollout_file::write_rollouts;
use criterion::{Criterion, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn rollouts(temperatures: u32, queries: u32, samples: u32) -> Vec<Rollout> {
    let key = RngKey::from_seed(1).child("bench");
    let mut rollouts = Vec::new();
    for temperature in 0..temperatures {
        for query in 0..queries {
            for sample in 0..samples {
                let coordinates = u64::from((temperature * queries + query) * samples + sample);
                rollouts.push(rollout(temperature, query, sample, key.index(coordinates)));
            }
        }
    }
    rollouts
}

fn rollout(temperature: u32, query: u32, sample: u32, key: RngKey) -> Rollout {
    let mut rng = key.rng();
    let mut response = String::new();
    let mut number = || bstar_core::rng::below(&mut rng, 1000);
    while response.len() < 180 {
        let (a, b) = (number(), number());
        writeln!(response, "First, {a} + {b} = {} apples.", a + b).expect("a string takes all");
    }
    let answer = number();
    write!(response, "#### {answer}").expect("a string takes all");
    let verdict = if number() < 400 { Verdict::Correct } else { Verdict::Incorrect };
    Rollout {
        query_id: format!("query/{query}").into(),
        sample_index: sample,
        temperature: 0.5 + f64::from(temperature) / 20.0,
        top_p: None,
        response: response.into(),
        answer: Some(answer.to_string()),
        verdict,
        reason: None,
        reward_model_score: Some(number() as f64 / 100.0 - 5.0),
        step_scores: Some((0..4).map(|_| number() as f64 / 100.0 - 5.0).collect()),
        iteration: Some(1),
        stage: None,
        prompt: Some(format!("A question about apples, number {query}?").into()),
        reward: None,
        selected: None,
        finish_reason: None,
        token_count: Some(60),
        logprob: Some(-30.0),
        entropy: None,
        steps_correct: None,
        policy_version: None,
        candidate_logprobs: None,
    }
}

fn balance(file: &Path, wanted: u32) {
    let binary = env!("CARGO_BIN_EXE_bstar");
    let file = file.display();
    let search = format!(
        "{binary} balance {file} --target-count 6 --cap-to-pool {wanted} --thresholds=-1:1:0.01 --json"
    );
    let mut command = if cfg!(unix) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v 976562 && exec {search}")]);
        shell
    } else {
        let mut words = search.split(' ');
        let mut plain = Command::new(words.next().expect("a binary"));
        plain.args(words);
        plain
    };
    let status = command.stdout(Stdio::null()).status().expect("the command starts");
    assert!(status.success(), "{status}");
}

fn bench_balance(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (all, tenth) = (path("all.parquet"), path("tenth.jsonl"));
    write_rollouts(&all, &rollouts(15, 600, 64)).expect("space for the fixture");
    write_rollouts(&tenth, &rollouts(15, 60, 64)).expect("space for the fixture");
    let mut group = criterion.benchmark_group("balance");
    group.sample_size(10);
    group.bench_function("576000 rows of parquet", |bench| bench.iter(|| balance(&all, 6000)));
    group.bench_function("57600 rows of json lines", |bench| bench.iter(|| balance(&tenth, 600)));
    group.finish();
}

criterion_group!(benches, bench_balance);
criterion_main!(benches);
