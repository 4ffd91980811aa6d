//! Reading the pools of a configuration search from disk: 15 temperatures × 600 queries × 64 samples
//! (576,000 rows with responses of about 200 characters), as Parquet and, a tenth of it, as JSON
//! Lines.
//!
//! The files are made first, in a temporary folder; responses are unique, so that no dictionary
//! makes the work easier than real rollouts do.

use bstar_core::reward::StepReduction;
use bstar_core::{RngKey, Rollout, Verdict};
use bstar_store::rollout_file::{read_scored, write_rollouts};
use criterion::{Criterion, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::PathBuf;

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
        response: response.into(),
        answer: Some(answer.to_string()),
        verdict,
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
    }
}

fn bench_read_scored(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let all = [folder.path().join("all.parquet")];
    write_rollouts(&all[0], &rollouts(15, 600, 64)).expect("space for the fixture");
    let tenth: [PathBuf; 1] = [folder.path().join("tenth.jsonl")];
    write_rollouts(&tenth[0], &rollouts(15, 60, 64)).expect("space for the fixture");
    let mut group = criterion.benchmark_group("read_scored");
    group.sample_size(10);
    for (name, paths) in [("576000 rows of parquet", &all), ("57600 rows of json lines", &tenth)] {
        group.bench_function(name, |bench| {
            bench.iter(|| read_scored(black_box(paths), StepReduction::Min).expect("readable"));
        });
    }
    group.finish();
}

criterion_group!(benches, bench_read_scored);
criterion_main!(benches);
