//! Matrix products of the sampler: weights times a group of lanes.
//!
//! A [`PackedMatrix`] holds `[out, in]` weights as tiles of [`TILE`] output rows, input by input,
//! so that the inner loop reads weights and activations front to back and keeps its `TILE` × 2 sums
//! in registers. Activations already have the order that a general matrix product would have to
//! copy them into, so nothing is copied. Each output is one chain of fused multiply-adds over the
//! inputs in order: no sum depends on the number of lanes or groups.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::lanes::{Buffer, Pair, Slab, add, pairs, pairs_mut, splat};
use pulp::{Arch, Simd, WithSimd};

/// Output rows that are computed at once: with two vectors of lanes, 12 of 16 registers hold sums.
const TILE: usize = 6;

/// A weight matrix in the order in which products read it.
#[derive(Debug)]
pub(super) struct PackedMatrix {
    inputs: usize,
    outputs: usize,
    /// `[tile][input][row of the tile]`, the last tile filled up with zeros.
    tiles: Buffer,
}

impl PackedMatrix {
    /// Packs matrices `[out, inputs]` with the same inputs, one below the other.
    pub(super) fn stack(inputs: usize, matrices: &[&[f32]]) -> Self {
        let rows: Vec<&[f32]> = matrices.iter().flat_map(|m| m.chunks_exact(inputs)).collect();
        let mut tiles = Buffer::zeroed(rows.len().div_ceil(TILE) * inputs * TILE);
        for (packed, rows) in tiles.chunks_exact_mut(inputs * TILE).zip(rows.chunks(TILE)) {
            for (place, row) in rows.iter().enumerate() {
                for (input, &weight) in row.iter().enumerate() {
                    packed[input * TILE + place] = weight;
                }
            }
        }
        Self { inputs, outputs: rows.len(), tiles }
    }

    /// For each of `groups`: `output = weights · input`.
    pub(super) fn apply(&self, arch: Arch, groups: &[usize], input: &Slab, output: &mut Slab) {
        arch.dispatch(Product::<false> { matrix: self, groups, input, output });
    }

    /// For each of `groups`: `output += weights · input`.
    pub(super) fn accumulate(&self, arch: Arch, groups: &[usize], input: &Slab, output: &mut Slab) {
        arch.dispatch(Product::<true> { matrix: self, groups, input, output });
    }
}

struct Product<'a, const ADD: bool> {
    matrix: &'a PackedMatrix,
    groups: &'a [usize],
    input: &'a Slab,
    output: &'a mut Slab,
}

impl<const ADD: bool> WithSimd for Product<'_, ADD> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let PackedMatrix { inputs, outputs, ref tiles } = *self.matrix;
        let tiles = tiles.chunks_exact(inputs * TILE);
        for (first, tile) in (0..outputs).step_by(TILE).zip(tiles) {
            let rows = TILE.min(outputs - first);
            // The tile stays in the nearest cache while every group passes over it.
            for &group in self.groups {
                let input = &pairs::<S>(self.input.group(group))[..inputs];
                let sums = multiply_tile(simd, tile, input);
                let output = &mut pairs_mut::<S>(self.output.group_mut(group))[first..][..rows];
                for (output, sum) in output.iter_mut().zip(sums) {
                    *output = if ADD { add(simd, *output, sum) } else { sum };
                }
            }
        }
    }
}

#[inline(always)]
fn multiply_tile<S: Simd>(simd: S, tile: &[f32], input: &[Pair<S>]) -> [Pair<S>; TILE] {
    let mut sums = [splat(simd, 0.0); TILE];
    for (weights, x) in tile.as_chunks::<TILE>().0.iter().zip(input) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            let weight = simd.splat_f32s(*weight);
            sum[0] = simd.mul_add_f32s(weight, x[0], sum[0]);
            sum[1] = simd.mul_add_f32s(weight, x[1], sum[1]);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::lanes::lane_count;

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        (salt..)
            .take(count)
            .map(|i| (i.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    /// Weights `[outputs, inputs]` times lanes of group 1, starting from ones.
    fn check(outputs: usize, inputs: usize) {
        let arch = Arch::new();
        let lanes = lane_count(arch);
        let weights = numbers(outputs * inputs, 7);
        let (above, below) = weights.split_at(outputs / 3 * inputs);
        let matrix = PackedMatrix::stack(inputs, &[above, below]);
        let mut input = Slab::zeroed(2, inputs, lanes);
        input.group_mut(1).copy_from_slice(&numbers(inputs * lanes, 3));
        let mut output = Slab::zeroed(2, outputs, lanes);
        output.group_mut(1).fill(1.0);
        matrix.accumulate(arch, &[1], &input, &mut output);
        for (row, sums) in output.group(1).chunks_exact(lanes).enumerate() {
            for (lane, &sum) in sums.iter().enumerate() {
                let products = (0..inputs).map(|i| {
                    f64::from(weights[row * inputs + i])
                        * f64::from(input.group(1)[i * lanes + lane])
                });
                let exact = 1.0 + products.sum::<f64>();
                assert!((f64::from(sum) - exact).abs() < 1e-5, "row {row}: {sum} is not {exact}");
            }
        }
        assert!(output.group(0).iter().all(|&number| number == 0.0), "group 0 was not asked for");
    }

    #[test]
    fn products_are_those_of_the_definition_for_any_number_of_rows() {
        for outputs in [1, 5, 6, 7, 18, 22] {
            check(outputs, 13);
        }
    }
}
