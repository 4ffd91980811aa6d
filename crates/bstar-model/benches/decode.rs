//! Sampling speed: new tokens a second, prompts included, at the quickstart's size and at `small`.
//!
//! The quickstart draws 64 samples for each of 20 prompts of 12 tokens, with responses that end by
//! chance (40 tokens at most), `groups` 24 samples for each of 50 such prompts (64 tokens at most);
//! `small` runs 512 prompts of 32 tokens for 64 new tokens each. `long` and `small-long` draw 64 samples
//! for each of 8 and 2 prompts of 400 tokens.
//! Throughput is what criterion reports as elements a second. Run it with
//! `cargo bench -p bstar-model --bench decode`.

use bstar_core::RngKey;
use bstar_core::ports::Decoding;
use bstar_model::config::ModelConfig;
use bstar_model::decode::{DecodeRequest, Decoder};
use bstar_model::size::ModelSize;
use bstar_model::weights::Weights;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone)]
struct Workload {
    name: &'static str,
    config: ModelConfig,
    prompts: usize,
    prompt_tokens: usize,
    samples: usize,
    new_tokens: usize,
    eos: &'static [u32],
}

fn decode(criterion: &mut Criterion) {
    let quickstart = Workload {
        name: "quickstart",
        config: ModelSize::PICO.config(22, 64, 1),
        prompts: 20,
        prompt_tokens: 12,
        samples: 64,
        new_tokens: 40,
        eos: &[1],
    };
    let small = Workload {
        name: "small",
        config: ModelSize::SMALL.config(64, 128, 1),
        prompts: 512,
        prompt_tokens: 32,
        samples: 1,
        new_tokens: 64,
        eos: &[],
    };
    let groups =
        Workload { name: "groups", prompts: 50, samples: 24, new_tokens: 64, ..quickstart.clone() };
    let long = Workload {
        name: "long",
        config: ModelSize::PICO.config(22, 512, 1),
        prompts: 8,
        prompt_tokens: 400,
        samples: 64,
        new_tokens: 64,
        eos: &[1],
    };
    let small_long = Workload {
        name: "small-long",
        config: ModelSize::SMALL.config(64, 512, 1),
        prompts: 2,
        eos: &[],
        ..long.clone()
    };
    for workload in [quickstart, groups, small, long, small_long] {
        for threads in [1, 2] {
            measure(criterion, &workload, threads);
        }
    }
}

fn measure(criterion: &mut Criterion, workload: &Workload, threads: usize) {
    let Workload { config, prompts, prompt_tokens, samples, new_tokens, .. } = workload;
    let decoder = Decoder::new(&Weights::random(config, RngKey::from_seed(1)));
    let token = |i: usize| u32::try_from(i % config.vocab_size).expect("a small vocabulary");
    let prompts: Vec<Vec<u32>> = (0..*prompts)
        .map(|prompt| (0..*prompt_tokens).map(|i| token(7 * prompt + 13 * i)).collect())
        .collect();
    let keys = |prompt: usize| {
        let key = RngKey::from_seed(5).index(prompt as u64);
        (0..*samples as u64).map(|sample| key.index(sample)).collect()
    };
    let requests: Vec<_> = prompts
        .iter()
        .enumerate()
        .map(|(number, prompt)| DecodeRequest { prompt, keys: keys(number) })
        .collect();
    let decoding = Decoding { temperature: 1.0, ..Decoding::greedy(*new_tokens) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.expect("a pool of two threads");
    let generate = || {
        let run = || decoder.generate(&requests, &decoding, workload.eos, &mut |_| Ok(()));
        pool.install(run).expect("the requests are valid")
    };
    let tokens: usize = generate().iter().flatten().map(|response| response.tokens.len()).sum();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(tokens as u64)).sample_size(10);
    group.bench_function(format!("{}/{threads} threads", workload.name), |b| b.iter(generate));
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
