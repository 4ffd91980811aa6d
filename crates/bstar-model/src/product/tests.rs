//! Products against the definition, the kernels against each other, and independence of the shape.

use super::kernel::{TILE, Tile, Unit};
use super::pair::Pair;
use super::*;
use bstar_core::RngKey;
use bstar_core::rng::{below, normal};

#[expect(clippy::cast_possible_truncation, reason = "matrices are f32")]
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = RngKey::from_seed(seed).rng();
    (0..count).map(|_| normal(&mut rng) as f32).collect()
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| matrix[i * columns + j])).collect()
}

/// `left (rows, inner) · right (inner, outer)`, added to ones, for each order of the operands.
fn products([rows, inner, outer]: [usize; 3], left: &[f32], right: &[f32]) -> Vec<Vec<f32>> {
    let (left_turned, right_turned) =
        (transposed(left, rows, inner), transposed(right, inner, outer));
    let lefts =
        [Matrix::new(left, rows, inner), Matrix::new(&left_turned, inner, rows).transposed()];
    let rights =
        [Matrix::new(right, inner, outer), Matrix::new(&right_turned, outer, inner).transposed()];
    let mut products = Vec::new();
    for left in lefts {
        for matrix in rights {
            let mut panels = Panels::default();
            panels.pack(matrix);
            for right in [Right::Plain(matrix), Right::Packed(&panels)] {
                let mut dst = vec![1.0; rows * outer];
                let to = MatrixMut::new(&mut dst, rows, outer);
                multiply(Unit::Best, to, Write::Add, left, right);
                products.push(dst);
            }
        }
    }
    products
}

fn check(shape: [usize; 3], unit_in_last_place: f64) {
    let [rows, inner, outer] = shape;
    let (left, right) = (numbers(rows * inner, 1), numbers(inner * outer, 2));
    let found = products(shape, &left, &right);
    assert!(found.iter().all(|product| *product == found[0]), "{shape:?}: packing changes bits");
    for i in 0..rows {
        for j in 0..outer {
            let terms = (0..inner)
                .map(|k| f64::from(left[i * inner + k]) * f64::from(right[k * outer + j]));
            let exact = 1.0 + terms.clone().sum::<f64>();
            let size = 1.0 + terms.map(f64::abs).sum::<f64>();
            let error = (f64::from(found[0][i * outer + j]) - exact).abs();
            assert!(error <= unit_in_last_place * size, "{shape:?} {i} {j}: {error}");
        }
    }
    let alone = &found[0][..outer];
    let first = products([1, inner, outer], &left[..inner], &right);
    assert_eq!(first[0], alone, "{shape:?}: a row depends on the others");
}

#[test]
fn products_are_those_of_the_definition_for_any_shape() {
    for shape in
        [[1, 1, 1], [12, 2, 32], [13, 7, 33], [5, 513, 40], [30, 700, 70], [2, 300, 50], [3, 0, 4]]
    {
        // Two numbers are rounded by at most 2^-9 each; the sums of an f32 are far more exact.
        check(shape, 1.0 / 250.0);
    }
}

#[test]
fn replacing_forgets_what_was_there() {
    let mut dst = [f32::NAN; 2];
    let (left, right) = ([2.0, 3.0], [1.0, 10.0, 100.0, 1000.0]);
    let to = MatrixMut::new(&mut dst, 1, 2);
    let right = Right::Plain(Matrix::new(&right, 2, 2));
    multiply(Unit::Best, to, Write::Replace, Matrix::new(&left, 1, 2), right);
    assert_eq!(dst, [302.0, 3020.0]);
}

/// Pairs with exponents near an end of their range, so that sums overflow and underflow.
fn wild_pairs(count: usize, seed: u64) -> Vec<Pair> {
    let mut rng = RngKey::from_seed(seed).rng();
    let mut half = || {
        let bits = |rng: &mut _, below_this| u32::try_from(below(rng, below_this)).unwrap();
        let exponent = [1, 60, 64, 120, 127, 190, 254][below(&mut rng, 7)];
        (bits(&mut rng, 2) << 15) | (exponent << 7) | bits(&mut rng, 128)
    };
    (0..count).map(|_| Pair(half() | (half() << 16))).collect()
}

#[test]
fn every_kernel_gives_the_same_bits() {
    let portable = [Unit::Portable(pulp::Arch::Scalar), Unit::Portable(pulp::Arch::new())];
    for (steps, width) in [(1, 32), (9, 16), (9, 32), (200, 32), (0, 32)] {
        for seed in 0..20 {
            let (left, columns) = (wild_pairs(TILE * steps, seed), wild_pairs(steps * width, 99));
            let tile = Tile { steps: &left, row_stride: steps, step_stride: 1 };
            let sums = |unit: Unit| -> Vec<u32> {
                let mut sums = vec![f32::NAN; TILE * width];
                unit.multiply(tile, &columns, width, &mut sums);
                // Which not-a-number it is has no meaning.
                let bits = |sum: f32| if sum.is_nan() { u32::MAX } else { sum.to_bits() };
                sums.into_iter().map(bits).collect()
            };
            let best = sums(Unit::Best);
            for unit in portable {
                assert_eq!(sums(unit), best, "{unit:?} {steps} {width}");
            }
        }
    }
}
