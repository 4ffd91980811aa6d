//! How fast answers are judged: pairs of every usual kind, and hostile ones.
//!
//! `scripts/compare_with_math_verify.py` has the times on pairs of MATH and of model outputs.

use bstar_verify::math::{Options, judge};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};

#[path = "../tests/hostile/mod.rs"]
mod hostile;

/// Pairs as they come up: most are equal as text or plain numbers.
const USUAL: [(&str, &str); 12] = [
    ("42", "42"),
    ("18", "17"),
    ("\\dfrac{3}{4}", "\\frac{3}{4}"),
    ("0.75", "\\frac{3}{4}"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("(1, -2)", "(1,-2)"),
    ("x^2 + 2x + 1", "(x+1)^2"),
    ("[0, 1)", "(0, 1)"),
    ("12\\text{ feet}", "12"),
    ("\\text{even}", "\\text{odd}"),
    ("0.\\overline{3}", "\\frac{1}{3}"),
    ("|x - 2| < 5", "(-3, 7)"),
];

/// What the slowest pair of hostile answers may take on an idle machine.
const MOST: Duration = Duration::from_millis(50);

fn judging(criterion: &mut Criterion) {
    let options = Options::default();
    let mut group = criterion.benchmark_group("one pair");
    for (answer, gold) in USUAL {
        group.bench_function(format!("{answer} against {gold}"), |bencher| {
            bencher.iter(|| judge(black_box(answer), black_box(gold), &options));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("pairs");
    group.throughput(Throughput::Elements(USUAL.len() as u64));
    group.bench_function("all usual kinds", |bencher| {
        bencher.iter(|| USUAL.map(|(answer, gold)| judge(black_box(answer), gold, &options)));
    });
    group.finish();
}

/// Each hostile answer against changed ones of its kind and against every other, the faster of two
/// times; panics where a pair is above the bar.
fn worst_case(criterion: &mut Criterion) {
    let options = Options::default();
    let answers = hostile::answers();
    let time = |left: &str, right: &str| {
        (0..2)
            .map(|_| {
                let start = Instant::now();
                black_box(judge(black_box(left), black_box(right), &options));
                start.elapsed()
            })
            .min()
            .unwrap_or_default()
    };
    let mut slowest = (Duration::ZERO, String::new(), String::new());
    for left in &answers {
        let near = [left.clone() + "+x", left.clone() + ",x", left.replace('1', "2")];
        for right in near.iter().chain(&answers) {
            let took = time(left, right);
            assert!(took < MOST, "{left:.60} against {right:.60}: {took:?}");
            if took > slowest.0 {
                slowest = (took, left.clone(), right.clone());
            }
        }
    }
    let (_, left, right) = slowest;
    criterion.bench_function("the slowest hostile pair", |bencher| {
        bencher.iter(|| judge(black_box(&left), black_box(&right), &options));
    });
}

criterion_group!(benches, judging, worst_case);
criterion_main!(benches);
