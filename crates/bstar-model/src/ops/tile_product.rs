//! Products of matrices that are at hand: nothing is packed, and sums stay in registers.
//!
//! Attention over sequences of a few dozen tokens is thousands of products of a few dozen rows in every
//! step, and a general product ([`super::matmul`]) spends more time on packing their operands than on
//! multiplying. Each number is one chain of fused multiply-adds in the order of the inner
//! dimension, so the bits depend neither on the width of vectors nor on the blocks.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::matmul::{Matrix, MatrixMut, Write};
use pulp::{Arch, Simd, WithSimd};

/// `dst (m, n) = lhs (m, k) · rhs (k, n)`, replacing or adding, where `lhs` is stored by rows or by
/// columns and `rhs` by rows.
///
/// # Panics
/// If the shapes do not fit, or `rhs` is not stored by rows.
pub(crate) fn tile_product(dst: MatrixMut<'_>, write: Write, lhs: Matrix<'_>, rhs: Matrix<'_>) {
    tile_product_with(Arch::new(), dst, write, lhs, rhs);
}

fn tile_product_with(
    arch: Arch,
    dst: MatrixMut<'_>,
    write: Write,
    lhs: Matrix<'_>,
    rhs: Matrix<'_>,
) {
    assert_eq!((dst.rows, dst.cols), (lhs.rows(), rhs.cols()), "the destination fits the product");
    assert_eq!(lhs.cols(), rhs.rows(), "the inner dimensions agree");
    assert!(rhs.cols_are_neighbours(), "the right operand is stored by rows");
    if lhs.cols_are_neighbours() {
        arch.dispatch(Product { dst, write, lhs: ByRows(lhs), rhs });
    } else {
        arch.dispatch(Product { dst, write, lhs: ByColumns(lhs.transposed()), rhs });
    }
}

struct Product<'a, L> {
    dst: MatrixMut<'a>,
    write: Write,
    lhs: L,
    rhs: Matrix<'a>,
}

/// How the left operand is read.
trait Left: Copy {
    /// Some rows.
    type Rows<const R: usize>: Rows<R>;
    /// `R` rows from `first` on.
    fn rows<const R: usize>(self, first: usize) -> Self::Rows<R>;
}

/// Rows of the left operand.
trait Rows<const R: usize> {
    /// Their numbers at a place of the inner dimension.
    fn at(&self, inner: usize) -> [f32; R];
}

#[derive(Clone, Copy)]
struct ByRows<'a>(Matrix<'a>);

struct Lines<'a, const R: usize>([&'a [f32]; R]);

impl<'a> Left for ByRows<'a> {
    type Rows<const R: usize> = Lines<'a, R>;

    #[inline(always)]
    fn rows<const R: usize>(self, first: usize) -> Lines<'a, R> {
        let mut lines: [&[f32]; R] = [&[]; R];
        for (row, line) in lines.iter_mut().enumerate() {
            *line = &self.0.line(first + row)[..self.0.cols()];
        }
        Lines(lines)
    }
}

impl<const R: usize> Rows<R> for Lines<'_, R> {
    #[inline(always)]
    fn at(&self, inner: usize) -> [f32; R] {
        let mut numbers = [0.0; R];
        for (number, line) in numbers.iter_mut().zip(&self.0) {
            *number = line[inner];
        }
        numbers
    }
}

/// The columns, as rows of a matrix.
#[derive(Clone, Copy)]
struct ByColumns<'a>(Matrix<'a>);

struct Part<'a, const R: usize> {
    columns: Matrix<'a>,
    first: usize,
}

impl<'a> Left for ByColumns<'a> {
    type Rows<const R: usize> = Part<'a, R>;

    #[inline(always)]
    fn rows<const R: usize>(self, first: usize) -> Part<'a, R> {
        Part { columns: self.0, first }
    }
}

impl<const R: usize> Rows<R> for Part<'_, R> {
    #[inline(always)]
    fn at(&self, inner: usize) -> [f32; R] {
        let column = self.columns.line(inner)[self.first..].first_chunk();
        *column.expect("the rows are there")
    }
}

impl<L: Left> WithSimd for Product<'_, L> {
    type Output = ();

    /// Two vectors of columns at a time, then one, then what is left.
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut column = 0;
        while column + 2 * S::F32_LANES <= self.dst.cols {
            let row = self.blocks::<S, 4, 2>(simd, 0, column);
            let row = self.blocks::<S, 2, 2>(simd, row, column);
            self.blocks::<S, 1, 2>(simd, row, column);
            column += 2 * S::F32_LANES;
        }
        while column < self.dst.cols {
            let row = self.blocks::<S, 8, 1>(simd, 0, column);
            let row = self.blocks::<S, 4, 1>(simd, row, column);
            let row = self.blocks::<S, 2, 1>(simd, row, column);
            self.blocks::<S, 1, 1>(simd, row, column);
            column += S::F32_LANES;
        }
    }
}

impl<L: Left> Product<'_, L> {
    /// As many blocks of `R` rows as there are from a row on, for `V` vectors of columns, the last of which
    /// may be cut; returns where they end.
    #[inline(always)]
    fn blocks<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        mut row: usize,
        column: usize,
    ) -> usize {
        let width = (V * S::F32_LANES).min(self.dst.cols - column);
        while row + R <= self.dst.rows {
            let left = self.lhs.rows::<R>(row);
            let sums = if width == V * S::F32_LANES {
                sums::<S, _, R, V, false>(simd, &left, self.rhs, column, width)
            } else {
                sums::<S, _, R, V, true>(simd, &left, self.rhs, column, width)
            };
            for (r, sums) in sums.into_iter().enumerate() {
                let start = (row + r) * self.dst.row_stride + column;
                let to = &mut self.dst.data[start..][..width];
                for (to, mut sum) in to.chunks_mut(S::F32_LANES).zip(sums) {
                    if self.write == Write::Add {
                        sum = simd.add_f32s(simd.partial_load_f32s(to), sum);
                    }
                    simd.partial_store_f32s(to, sum);
                }
            }
            row += R;
        }
        row
    }
}

/// The sums of `R` rows and `V` vectors of columns, of which one is cut or none.
#[inline(always)]
fn sums<S: Simd, L: Rows<R>, const R: usize, const V: usize, const CUT: bool>(
    simd: S,
    left: &L,
    rhs: Matrix<'_>,
    column: usize,
    width: usize,
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for inner in 0..rhs.rows() {
        let right = &rhs.line(inner)[column..][..width];
        let mut vectors = [simd.splat_f32s(0.0); V];
        if CUT {
            vectors[0] = simd.partial_load_f32s(right);
        } else {
            vectors.copy_from_slice(&S::as_simd_f32s(right).0[..V]);
        }
        for (left, sums) in left.at(inner).into_iter().zip(&mut sums) {
            let left = simd.splat_f32s(left);
            for (sum, right) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add_f32s(left, right, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::draw;

    #[test]
    fn products_are_those_of_the_definition_with_the_same_bits_for_any_vectors() {
        for (m, n, k) in
            [(1, 1, 1), (27, 16, 27), (13, 7, 5), (16, 35, 16), (31, 80, 9), (4, 64, 0)]
        {
            let (lhs, rhs, start) =
                (draw(1, m * k), draw(2, k * (n + 3) + 3), draw(3, m * (n + 2)));
            let by_rows = Matrix::new(&lhs, m, k);
            let by_columns = Matrix::new(&lhs, k, m).transposed();
            let rhs_rows =
                if k == 0 { Matrix::new(&[], 0, n) } else { Matrix::strided(&rhs, k, n, n + 3) };
            for (left, write) in [(by_rows, Write::Replace), (by_columns, Write::Add)] {
                let run = |arch: Arch| {
                    let mut dst = start.clone();
                    let view = MatrixMut::strided(&mut dst, m, n, n + 2);
                    tile_product_with(arch, view, write, left, rhs_rows);
                    dst
                };
                let found = run(Arch::new());
                assert_eq!(found, run(Arch::Scalar), "the same bits for any vectors");
                for (place, found) in found.into_iter().enumerate() {
                    let (i, j) = (place / (n + 2), place % (n + 2));
                    let at = |p: usize| {
                        if write == Write::Add { lhs[p * m + i] } else { lhs[i * k + p] }
                    };
                    let product = |j: usize| -> f64 {
                        (0..k).map(|p| f64::from(at(p)) * f64::from(rhs[p * (n + 3) + j])).sum()
                    };
                    let expected = match write {
                        _ if j >= n => f64::from(start[place]),
                        Write::Replace => product(j),
                        Write::Add => f64::from(start[place]) + product(j),
                    };
                    assert!(
                        (f64::from(found) - expected).abs() < 1e-4,
                        "{m} {n} {k}: {found} {expected}"
                    );
                }
            }
        }
    }
}
