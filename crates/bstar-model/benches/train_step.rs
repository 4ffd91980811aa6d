//! Time of one optimizer step: gradient, clipping and AdamW.
//!
//! `pico` is the quickstart's shape: 149 thousand parameters, 64 sequences of 35 to 55 tokens
//! (45 on average). `small` is the shape of the engine comparison in the design notes: 4.4 million
//! parameters, 64 sequences of 96 tokens. `long` is `small` with 6 sequences of 1024. Throughput counts
//! tokens that the transformer is run on. The allocator is the one of the program, for it matters here.

use bstar_core::RngKey;
use bstar_core::rng::below;
use bstar_model::loss::TokenizedExample;
use bstar_model::optimizer::{AdamW, OptimizerSettings};
use bstar_model::size::ModelSize;
use bstar_model::trainer::Trainer;
use bstar_model::weights::Weights;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn train_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(10);
    for (name, size, vocabulary, count, shortest, longest) in [
        ("pico", ModelSize::PICO, 21, 64, 35, 55),
        ("small", ModelSize::SMALL, 64, 64, 96, 96),
        ("long", ModelSize::SMALL, 64, 6, 1024, 1024),
    ] {
        let config = size.config(vocabulary, 1024, 1);
        let weights = Weights::random(&config, RngKey::from_seed(1));
        let optimizer = AdamW::new(OptimizerSettings::default(), config.parameter_count());
        let mut trainer = Trainer::new(&config, weights.to_flat(), optimizer);
        let examples = examples(vocabulary, count, shortest, longest);
        let batch: Vec<_> = examples.iter().collect();
        let tokens: usize = examples.iter().map(|example| example.inputs().len()).sum();
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| trainer.step(&batch, 1e-4).expect("the loss is finite"));
        });
    }
    group.finish();
}

fn examples(
    vocabulary: usize,
    count: usize,
    shortest: usize,
    longest: usize,
) -> Vec<TokenizedExample> {
    let mut rng = RngKey::from_seed(2).rng();
    let mut draw = |length: usize| -> Vec<u32> {
        let token = |_| u32::try_from(below(&mut rng, vocabulary)).expect("a small vocabulary");
        (0..length).map(token).collect()
    };
    let spread = longest - shortest + 1;
    (0..count)
        .map(|index| {
            let length = shortest + index * 7 % spread;
            TokenizedExample::new(&draw(12), &draw(length - 12), 1)
        })
        .collect()
}

criterion_group!(benches, train_step);
criterion_main!(benches);
