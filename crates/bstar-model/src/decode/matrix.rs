//! Matrix products of the sampler: weights times a group of lanes.
//!
//! A [`PackedMatrix`] holds `[out, in]` weights as tiles of a few output rows, input by input,
//! so that the inner loop reads weights and activations front to back and keeps its sums (rows of a
//! tile × vectors of a group) in registers. Activations already have the order that a general matrix
//! product would have to copy them into, so nothing is copied. In `f32` each output is one chain of
//! fused multiply-adds over the inputs in order; in `bf16`, weights and activations are rounded and two
//! inputs make one step of the chain ([`crate::product`]). No sum depends on the number of lanes or
//! groups.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::lanes::{Buffer, Lanes, Row, Slab, WithLanes, add, rows, rows_mut, splat};
use crate::compute::Precision;
use crate::ops::vectors::vectorised;
use crate::product::kernel::{TILE, Tile, Unit};
use crate::product::pair::Pair;
use pulp::{Arch, Simd, WithSimd};

/// How matrices are packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    /// The numbers of weights and activations.
    pub(super) precision: Precision,
    /// Output rows that are computed at once in `f32`.
    rows: usize,
}

impl Packing {
    /// For products of this precision with these instructions.
    pub(super) fn new(precision: Precision, arch: Arch) -> Self {
        struct Registers;
        impl WithSimd for Registers {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> usize {
                S::REGISTER_COUNT
            }
        }
        // With two vectors of lanes, 24 of 32 registers hold sums, or 12 of 16.
        let rows = if arch.dispatch(Registers) >= 32 { WIDE_TILE } else { NARROW_TILE };
        Self { precision, rows }
    }
}

const WIDE_TILE: usize = 12;
const NARROW_TILE: usize = 6;

/// A weight matrix in the order in which products read it.
#[derive(Debug)]
pub(super) struct PackedMatrix {
    inputs: usize,
    outputs: usize,
    tiles: Tiles,
}

#[derive(Debug)]
enum Tiles {
    /// `[tile][input][row of the tile]`, the last tile filled up with zeros.
    Single { rows: usize, numbers: Buffer },
    /// `[tile][pair of inputs][row of the tile]`, filled up with zeros.
    Half(Vec<Pair>),
}

/// The activations of groups in `bf16`.
#[derive(Debug, Default)]
pub(super) struct HalfRoom(Vec<Pair>);

impl PackedMatrix {
    /// Packs matrices `[out, inputs]` with the same inputs, one below the other.
    pub(super) fn stack(packing: Packing, inputs: usize, matrices: &[&[f32]]) -> Self {
        let rows: Vec<&[f32]> = matrices.iter().flat_map(|m| m.chunks_exact(inputs)).collect();
        let tiles = match packing.precision {
            Precision::F32 => {
                let tile = packing.rows;
                let mut numbers = Buffer::zeroed(rows.len().div_ceil(tile) * inputs * tile);
                pack(&rows, tile, &mut numbers, |row, packed| packed.copy_from_slice(row));
                Tiles::Single { rows: tile, numbers }
            }
            Precision::Bf16 => {
                let steps = inputs.div_ceil(Pair::NUMBERS);
                let mut pairs = vec![Pair::default(); rows.len().div_ceil(TILE) * steps * TILE];
                pack(&rows, TILE, &mut pairs, Pair::join_neighbours);
                Tiles::Half(pairs)
            }
        };
        Self { inputs, outputs: rows.len(), tiles }
    }

    /// For each of `groups`: `output = weights · input`.
    pub(super) fn apply(
        &self,
        lanes: Lanes,
        groups: &[usize],
        input: &Slab,
        output: &mut Slab,
        room: &mut HalfRoom,
    ) {
        self.product::<false>(lanes, groups, input, output, room);
    }

    /// For each of `groups`: `output += weights · input`.
    pub(super) fn accumulate(
        &self,
        lanes: Lanes,
        groups: &[usize],
        input: &Slab,
        output: &mut Slab,
        room: &mut HalfRoom,
    ) {
        self.product::<true>(lanes, groups, input, output, room);
    }

    fn product<const ADD: bool>(
        &self,
        lanes: Lanes,
        groups: &[usize],
        input: &Slab,
        output: &mut Slab,
        room: &mut HalfRoom,
    ) {
        match &self.tiles {
            Tiles::Single { rows, numbers } => {
                lanes.dispatch(Product::<ADD> {
                    matrix: self,
                    rows: *rows,
                    numbers,
                    groups,
                    input,
                    output,
                });
            }
            Tiles::Half(pairs) => {
                let width = lanes.count();
                let steps = self.inputs.div_ceil(Pair::NUMBERS);
                room.round(lanes, self.inputs, groups, input);
                let unit = Unit::of(lanes.arch());
                let mut sums = [0.0; TILE * super::lanes::MAX_LANES];
                let sums = &mut sums[..TILE * width];
                let tiles = pairs.chunks_exact(steps * TILE);
                for (first, tile) in (0..self.outputs).step_by(TILE).zip(tiles) {
                    let tile = Tile { steps: tile, row_stride: 1, step_stride: TILE };
                    for (&group, columns) in groups.iter().zip(room.0.chunks_exact(steps * width)) {
                        unit.multiply(tile, columns, width, sums);
                        let rows = TILE.min(self.outputs - first) * width;
                        let output = &mut output.group_mut(group)[first * width..][..rows];
                        if ADD {
                            output.iter_mut().zip(&*sums).for_each(|(to, sum)| *to += sum);
                        } else {
                            output.copy_from_slice(&sums[..rows]);
                        }
                    }
                }
            }
        }
    }
}

impl HalfRoom {
    /// Holds the first `inputs` features of groups, `[group][pair][lane]`.
    fn round(&mut self, lanes: Lanes, inputs: usize, groups: &[usize], input: &Slab) {
        let (width, steps) = (lanes.count(), inputs.div_ceil(Pair::NUMBERS));
        self.0.resize(groups.len() * steps * width, Pair::default());
        let rooms = self.0.chunks_exact_mut(steps * width);
        for (&group, room) in groups.iter().zip(rooms) {
            round(&input.group(group)[..inputs * width], width, room);
        }
    }
}

vectorised! {
    /// Joins neighbouring features `[feature][lane]` to pairs `[pair][lane]`.
    fn round<'a>(features: &'a [f32], width: usize, pairs: &'a mut [Pair]) {
        let features = features.chunks(Pair::NUMBERS * width);
        for (pairs, features) in pairs.chunks_exact_mut(width).zip(features) {
            let (first, second) = features.split_at(width);
            if second.is_empty() {
                for (pair, first) in pairs.iter_mut().zip(first) {
                    *pair = Pair::join(*first, 0.0);
                }
            } else {
                for ((pair, first), second) in pairs.iter_mut().zip(first).zip(second) {
                    *pair = Pair::join(*first, *second);
                }
            }
        }
    }
}

/// Packs rows in tiles, each row first turned into steps.
fn pack<T: Copy + Default>(
    rows: &[&[f32]],
    tile: usize,
    packed: &mut [T],
    steps_of: impl Fn(&[f32], &mut [T]),
) {
    let count = packed.len() / (rows.len().div_ceil(tile) * tile).max(1);
    if count == 0 {
        return;
    }
    let mut steps = vec![T::default(); count];
    for (packed, rows) in packed.chunks_exact_mut(count * tile).zip(rows.chunks(tile)) {
        for (place, row) in rows.iter().enumerate() {
            steps_of(row, &mut steps);
            for (packed, step) in packed.iter_mut().skip(place).step_by(tile).zip(&steps) {
                *packed = *step;
            }
        }
    }
}

struct Product<'a, const ADD: bool> {
    matrix: &'a PackedMatrix,
    rows: usize,
    numbers: &'a [f32],
    groups: &'a [usize],
    input: &'a Slab,
    output: &'a mut Slab,
}

impl<const ADD: bool> WithLanes for Product<'_, ADD> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        if self.rows == WIDE_TILE {
            self.by_tiles::<S, V, WIDE_TILE>(simd);
        } else {
            self.by_tiles::<S, V, NARROW_TILE>(simd);
        }
    }
}

impl<const ADD: bool> Product<'_, ADD> {
    #[inline(always)]
    fn by_tiles<S: Simd, const V: usize, const R: usize>(self, simd: S) {
        let PackedMatrix { inputs, outputs, .. } = *self.matrix;
        let tiles = self.numbers.chunks_exact(inputs * R);
        for (first, tile) in (0..outputs).step_by(R).zip(tiles) {
            let count = R.min(outputs - first);
            // The tile stays in the nearest cache while every group passes over it.
            for &group in self.groups {
                let input = &rows::<S, V>(self.input.group(group))[..inputs];
                let sums = multiply_tile::<S, V, R>(simd, tile, input);
                let output = &mut rows_mut::<S, V>(self.output.group_mut(group))[first..][..count];
                for (output, sum) in output.iter_mut().zip(sums) {
                    *output = if ADD { add(simd, *output, sum) } else { sum };
                }
            }
        }
    }
}

#[inline(always)]
fn multiply_tile<S: Simd, const V: usize, const R: usize>(
    simd: S,
    tile: &[f32],
    input: &[Row<S, V>],
) -> [Row<S, V>; R] {
    let mut sums = [splat(simd, 0.0); R];
    for (weights, x) in tile.as_chunks::<R>().0.iter().zip(input) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            let weight = simd.splat_f32s(*weight);
            for (sum, x) in sum.iter_mut().zip(x) {
                *sum = simd.mul_add_f32s(weight, *x, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        (salt..)
            .take(count)
            .map(|i| (i.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    /// Weights `[outputs, inputs]` times lanes of group 1, starting from ones.
    fn check(precision: Precision, lanes: Lanes, outputs: usize, inputs: usize) {
        let width = lanes.count();
        let weights = numbers(outputs * inputs, 7);
        let (above, below) = weights.split_at(outputs / 3 * inputs);
        let packing = Packing::new(precision, lanes.arch());
        let matrix = PackedMatrix::stack(packing, inputs, &[above, below]);
        let mut input = Slab::zeroed(2, inputs, width);
        input.group_mut(1).copy_from_slice(&numbers(inputs * width, 3));
        let mut output = Slab::zeroed(2, outputs, width);
        output.group_mut(1).fill(1.0);
        matrix.accumulate(lanes, &[1], &input, &mut output, &mut HalfRoom::default());
        for (row, sums) in output.group(1).chunks_exact(width).enumerate() {
            for (lane, &sum) in sums.iter().enumerate() {
                let products = (0..inputs).map(|i| {
                    f64::from(weights[row * inputs + i])
                        * f64::from(input.group(1)[i * width + lane])
                });
                let exact = 1.0 + products.clone().sum::<f64>();
                // A bf16 number is rounded by at most 2^-9 of itself.
                let tolerance = match precision {
                    Precision::F32 => 1e-5,
                    Precision::Bf16 => 1e-5 + products.map(f64::abs).sum::<f64>() / 250.0,
                };
                let error = (f64::from(sum) - exact).abs();
                assert!(error < tolerance, "{precision:?} row {row}: {sum} is not {exact}");
            }
        }
        assert!(output.group(0).iter().all(|&number| number == 0.0), "group 0 was not asked for");
    }

    #[test]
    fn products_are_those_of_the_definition_for_any_number_of_rows() {
        for arch in [Arch::new(), Arch::Scalar] {
            for outputs in [1, 5, 6, 7, 12, 18, 22] {
                for precision in [Precision::F32, Precision::Bf16] {
                    check(precision, Lanes::wide(arch), outputs, 13);
                    check(precision, Lanes::narrow(arch), outputs, 14);
                }
            }
        }
    }
}
