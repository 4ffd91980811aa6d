//! How fast answers are judged: plain numbers, LaTeX pairs of every kind, and hostile ones.

use bstar_verify::math::{Options, judge};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

/// Pairs as they come up: most are equal as text or plain numbers.
const USUAL: [(&str, &str); 10] = [
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
];

fn judging(criterion: &mut Criterion) {
    let options = Options::default();
    for (answer, gold) in USUAL {
        criterion.bench_function(&format!("{answer} against {gold}"), |bencher| {
            bencher.iter(|| judge(black_box(answer), black_box(gold), &options));
        });
    }
    let hostile = [
        ("factorials", "99999!,".repeat(60)),
        ("roots", "\\sqrt{x+1}+".repeat(90) + "1"),
        ("towers", "5^(5^(5^(5^5)))".to_owned()),
        ("braces", "{".repeat(4000)),
    ];
    for (name, text) in hostile {
        let other = text.clone() + "+x";
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| judge(black_box(&text), black_box(&other), &options));
        });
    }
}

criterion_group!(benches, judging);
criterion_main!(benches);
