//! Blocked matrix products of `bf16` numbers with `f32` sums, for training and for the sampler.
//!
//! `dst (rows, outer) = left (rows, inner) · right (inner, outer)`, all `f32`; the operands are rounded.
//! Two neighbours along `inner` make a step, a [`pair::Pair`]. The left operand is packed whole
//! ([`Left`]), the right one a panel of [`COLUMNS`] columns at a time, unless it was packed before
//! ([`Panels`]), so that the kernels ([`kernel`]) read front to back from the nearest caches and keep
//! [`TILE`] × [`COLUMNS`] sums in registers.
//!
//! A sum is taken over blocks of [`BLOCK`] steps: within a block it is one chain in the order of
//! `inner`, and the blocks are added in order. Nothing depends on the number of rows or columns, on the
//! machine or on threads: a product has the same bits everywhere. Always on the calling thread, which
//! keeps the room for packed operands.

pub(crate) mod kernel;
pub(crate) mod pair;

use crate::ops::matmul::{Matrix, MatrixMut, Write};
use crate::ops::vectors::vectorised;
use kernel::{TILE, Tile, Unit};
use pair::Pair;
use pulp::{Arch, NullaryFnOnce};
use std::cell::RefCell;

/// Columns of a panel; a last one with at most half of them is half as wide.
pub(crate) const COLUMNS: usize = 32;

const HALF: usize = COLUMNS / 2;

/// Steps of a block: a panel of as many stays in the nearest cache.
const BLOCK: usize = 256;

/// Room for the operands of a product.
#[derive(Debug, Default)]
struct Room {
    left: Left,
    panel: Vec<Pair>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// A left operand in the order in which the kernels read it: rows in tiles of [`TILE`], the last one
/// filled up with zeros.
#[derive(Debug, Default)]
struct Left {
    data: Vec<Pair>,
    tile_stride: usize,
    row_stride: usize,
    step_stride: usize,
}

impl Left {
    fn pack(&mut self, matrix: Matrix<'_>) {
        if matrix.cols_are_neighbours() {
            self.pack_rows(matrix);
        } else {
            self.pack_columns(matrix);
        }
    }

    /// Packs a matrix whose rows are stretches of memory.
    fn pack_rows(&mut self, matrix: Matrix<'_>) {
        let (rows, steps) = (matrix.rows(), matrix.cols().div_ceil(Pair::NUMBERS));
        // Not a multiple of a large power of two, or all rows would meet in one place of the cache.
        let row_stride = steps.next_multiple_of(16) + 16;
        (self.tile_stride, self.row_stride, self.step_stride) = (TILE * row_stride, row_stride, 1);
        self.data.resize(rows.next_multiple_of(TILE) * row_stride, Pair::default());
        let (full, rest) = self.data.split_at_mut(rows * row_stride);
        rest.fill(Pair::default());
        pack_lines(matrix, steps, row_stride, full);
    }

    /// Packs a matrix whose columns are stretches of memory.
    fn pack_columns(&mut self, matrix: Matrix<'_>) {
        let (rows, steps) = (matrix.rows(), matrix.cols().div_ceil(Pair::NUMBERS));
        (self.tile_stride, self.row_stride, self.step_stride) = (steps * TILE, 1, TILE);
        self.data.resize(rows.div_ceil(TILE) * steps * TILE, Pair::default());
        if steps == 0 {
            return;
        }
        let columns = matrix.transposed();
        let tiles = self.data.chunks_exact_mut(steps * TILE);
        for (first, tile) in (0..rows).step_by(TILE).zip(tiles) {
            let lines = Lines { matrix: columns, first, width: TILE.min(rows - first) };
            lines.join_all(0, tile.as_chunks_mut::<TILE>().0);
        }
    }

    /// What the kernel reads for a tile, from a step on.
    fn tile(&self, tile: usize, step: usize) -> Tile<'_> {
        let start = tile * self.tile_stride + step * self.step_stride;
        Tile {
            steps: &self.data[start..],
            row_stride: self.row_stride,
            step_stride: self.step_stride,
        }
    }
}

/// Some places of the lines of a matrix.
#[derive(Clone, Copy)]
struct Lines<'a> {
    matrix: Matrix<'a>,
    first: usize,
    width: usize,
}

vectorised! {
    /// Packs the lines of a matrix, `row_stride` apart.
    fn pack_lines<'a>(matrix: Matrix<'a>, steps: usize, row_stride: usize, packed: &'a mut [Pair]) {
        for (row, packed) in packed.chunks_exact_mut(row_stride).enumerate() {
            Pair::join_neighbours(matrix.line(row), &mut packed[..steps]);
        }
    }

    /// Packs the lines of `matrix` from `start[0]` on, `steps` steps from number `start[1]` on.
    fn join_square<'a>(
        matrix: Matrix<'a>,
        start: [usize; 2],
        joined: &'a mut [[Pair; SQUARE]],
        steps: usize,
    ) {
        for (line, joined) in (start[0]..).zip(joined) {
            Pair::join_neighbours(&matrix.line(line)[start[1]..], &mut joined[..steps]);
        }
    }
}

/// [`Lines::join`] for all steps from one on.
struct Join<'a, const N: usize> {
    lines: Lines<'a>,
    from: usize,
    packed: &'a mut [[Pair; N]],
}

impl<const N: usize> NullaryFnOnce for Join<'_, N> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "what is inlined has the instructions")]
    #[inline(always)]
    fn call(self) {
        for (step, packed) in self.packed.iter_mut().enumerate() {
            self.lines.join(self.from + step, packed);
        }
    }
}

impl Lines<'_> {
    fn join_all<const N: usize>(self, from: usize, packed: &mut [[Pair; N]]) {
        Arch::new().dispatch(Join { lines: self, from, packed });
    }

    /// Joins the lines of a step; zeros stand for what is not there.
    #[expect(clippy::inline_always, reason = "what is inlined has the instructions")]
    #[inline(always)]
    fn join<const N: usize>(self, step: usize, packed: &mut [Pair; N]) {
        let line = |number| -> &[f32] {
            if number < self.matrix.rows() {
                &self.matrix.line(number)[self.first..self.first + self.width]
            } else {
                &[]
            }
        };
        let low = line(step * Pair::NUMBERS);
        let high = line(step * Pair::NUMBERS + 1);
        let zeros = [0.0; N];
        match (low.first_chunk::<N>(), high.first_chunk::<N>().unwrap_or(&zeros)) {
            (Some(low), all_high) if high.len() == N || high.is_empty() => {
                for (packed, (low, high)) in packed.iter_mut().zip(low.iter().zip(all_high)) {
                    *packed = Pair::join(*low, *high);
                }
            }
            _ => {
                let at = |line: &[f32], place: usize| line.get(place).copied().unwrap_or(0.0);
                *packed = std::array::from_fn(|i| Pair::join(at(low, i), at(high, i)));
            }
        }
    }
}

/// A right operand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Right<'a> {
    /// As it is.
    Plain(Matrix<'a>),
    /// Packed before.
    Packed(&'a Panels),
}

/// A right operand in the order in which the kernels read it: `[panel][step][column]`.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    inner: usize,
    outer: usize,
    data: Vec<Pair>,
}

impl Panels {
    /// Packs a matrix `(inner, outer)`.
    pub(crate) fn pack(&mut self, matrix: Matrix<'_>) {
        (self.inner, self.outer) = (matrix.rows(), matrix.cols());
        let steps = self.inner.div_ceil(Pair::NUMBERS);
        self.data.resize(self.outer.next_multiple_of(HALF) * steps, Pair::default());
        let mut rest = &mut self.data[..];
        for first in (0..self.outer).step_by(COLUMNS) {
            let (panel, after) = rest.split_at_mut(steps * panel_width(self.outer, first));
            pack_panel(matrix, first, 0, panel);
            rest = after;
        }
    }
}

/// Columns of the panel that begins with a column, zeros included.
fn panel_width(outer: usize, first: usize) -> usize {
    if outer - first <= HALF { HALF } else { COLUMNS }
}

/// Packs the columns from `first` on, for the steps from `from` on: as many as `panel
/// [step][column]` holds.
fn pack_panel(matrix: Matrix<'_>, first: usize, from: usize, panel: &mut [Pair]) {
    match panel_width(matrix.cols(), first) {
        HALF => pack_panel_of::<HALF>(matrix, first, from, panel),
        _ => pack_panel_of::<COLUMNS>(matrix, first, from, panel),
    }
}

fn pack_panel_of<const N: usize>(
    matrix: Matrix<'_>,
    first: usize,
    from: usize,
    panel: &mut [Pair],
) {
    let width = N.min(matrix.cols() - first);
    let panel = panel.as_chunks_mut::<N>().0;
    if matrix.cols_are_neighbours() {
        let lines = Lines { matrix, first, width };
        lines.join_all(from, panel);
        return;
    }
    let columns = matrix.transposed();
    let mut joined = [[Pair::default(); SQUARE]; N];
    for (number, square) in panel.chunks_mut(SQUARE).enumerate() {
        let start = (from + number * SQUARE) * Pair::NUMBERS;
        join_square(columns, [first, start], &mut joined[..width], square.len());
        for (step, packed) in square.iter_mut().enumerate() {
            for (packed, joined) in packed.iter_mut().zip(&joined) {
                *packed = joined[step];
            }
        }
    }
}

/// Steps that are turned at once, so that what is written stays in a few lines of the cache.
const SQUARE: usize = 16;

/// `dst (rows, outer) = left (rows, inner) · right (inner, outer)`, replacing or adding.
///
/// # Panics
/// If the shapes do not fit.
pub(crate) fn multiply(
    unit: Unit,
    dst: MatrixMut<'_>,
    write: Write,
    left: Matrix<'_>,
    right: Right<'_>,
) {
    ROOM.with_borrow_mut(|room| multiply_in(room, unit, dst, write, left, right));
}

fn multiply_in(
    room: &mut Room,
    unit: Unit,
    dst: MatrixMut<'_>,
    write: Write,
    left: Matrix<'_>,
    right: Right<'_>,
) {
    let (inner, outer) = match right {
        Right::Plain(matrix) => (matrix.rows(), matrix.cols()),
        Right::Packed(panels) => (panels.inner, panels.outer),
    };
    let MatrixMut { data, rows, cols, row_stride } = dst;
    assert_eq!((rows, cols), (left.rows(), outer), "the destination fits the product");
    assert_eq!(left.cols(), inner, "the inner dimensions agree");
    room.left.pack(left);
    let all = inner.div_ceil(Pair::NUMBERS);
    if all == 0 && write == Write::Replace {
        data.chunks_mut(row_stride).take(rows).for_each(|row| row[..cols].fill(0.0));
    }
    let mut sums = [0.0; TILE * COLUMNS];
    for from in (0..all).step_by(BLOCK) {
        let steps = BLOCK.min(all - from);
        let replaces = from == 0 && write == Write::Replace;
        for first in (0..outer).step_by(COLUMNS) {
            let columns = panel_width(outer, first);
            let panel = match right {
                Right::Packed(panels) => {
                    &panels.data[first * all + from * columns..][..steps * columns]
                }
                Right::Plain(matrix) => {
                    room.panel.resize(BLOCK * COLUMNS, Pair::default());
                    let panel = &mut room.panel[..steps * columns];
                    pack_panel(matrix, first, from, panel);
                    panel
                }
            };
            let width = columns.min(outer - first);
            let sums = &mut sums[..TILE * columns];
            for row in (0..rows).step_by(TILE) {
                unit.multiply(room.left.tile(row / TILE, from), panel, columns, sums);
                let sums = sums.chunks_exact(columns).take(rows - row);
                for (row, sums) in (row..).zip(sums) {
                    let to = &mut data[row * row_stride + first..][..width];
                    if replaces {
                        to.copy_from_slice(&sums[..width]);
                    } else {
                        to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
