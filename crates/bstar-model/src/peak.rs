//! What this machine can do at most: matrix products and reading memory.
//!
//! Measured with the kernels that the engine itself uses, on every thread of the pool at once, so
//! that a share of the peak says how well the engine uses them, not how good they are.

use crate::compute::Precision;
use crate::ops::matmul::{Matrix, MatrixMut, Write, matmul};
use crate::product::kernel::Unit;
use crate::product::{Panels, Right, multiply};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// The most operations a second in matrix products, over all threads together.
pub fn product_rate(precision: Precision) -> f64 {
    /// Width of the square matrices: large enough for the kernels, small enough for the caches.
    const WIDTH: usize = 768;
    let operations = 2.0 * (WIDTH as f64).powi(3);
    let work = |_| {
        let numbers = |shift: usize| -> Vec<f32> {
            (0..WIDTH * WIDTH).map(|i| ((i + shift) % 7) as f32 - 3.0).collect()
        };
        let (lhs, rhs, mut product) = (numbers(0), numbers(3), numbers(5));
        let (lhs, rhs) = (Matrix::new(&lhs, WIDTH, WIDTH), Matrix::new(&rhs, WIDTH, WIDTH));
        let mut packed = Panels::default();
        packed.pack(rhs);
        let start = Instant::now();
        let mut products = 0.0;
        while start.elapsed() < WINDOW {
            let to = MatrixMut::new(&mut product, WIDTH, WIDTH);
            match precision {
                Precision::F32 => matmul(to, Write::Replace, lhs, rhs),
                Precision::Bf16 => {
                    multiply(Unit::Best, to, Write::Replace, lhs, Right::Packed(&packed));
                }
            }
            products += 1.0;
        }
        products * operations / start.elapsed().as_secs_f64()
    };
    best(|| rayon::broadcast(|context| work(context.index())).into_iter().sum())
}

/// The most bytes a second that are read from memory, over all threads together.
pub fn read_rate() -> f64 {
    /// Numbers read: 256 MiB, more than any cache holds.
    const COUNT: usize = 1 << 26;
    let numbers = vec![1.0_f32; COUNT];
    best(|| {
        let start = Instant::now();
        let sum: f32 = numbers.par_chunks(1 << 16).map(sum).sum();
        assert!(sum > 0.0, "the numbers are positive");
        (COUNT * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
    })
}

/// How long one try takes.
const WINDOW: Duration = Duration::from_millis(250);

/// The best of a few tries: what disturbs a peak only lowers it.
fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..4).map(|_| measure()).fold(0.0, f64::max)
}

/// In lanes, so that it runs on vectors.
fn sum(numbers: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 32];
    for chunk in numbers.chunks_exact(lanes.len()) {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += number;
        }
    }
    lanes.iter().sum()
}
