//! Matrix products in `f32` over strided views: the one door to the `gemm` crate. Those in `bf16` are
//! [`crate::product`].
//!
//! Views are checked against their slices when they are made, so the product itself is safe to
//! call. Always on the calling thread.

use gemm::{Parallelism, gemm};

/// A matrix to read: element (i, j) is at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow one another.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_bounds(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Rows.
    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// Columns.
    pub(crate) fn cols(self) -> usize {
        self.cols
    }

    /// Whether a row is a stretch of memory; else a column is one.
    pub(crate) fn cols_are_neighbours(self) -> bool {
        self.col_stride == 1
    }

    /// A row, where it is a stretch of memory.
    ///
    /// # Panics
    /// If there is no such row, or it is no stretch.
    #[inline]
    pub(crate) fn line(self, row: usize) -> &'a [f32] {
        assert!(row < self.rows && self.col_stride == 1, "there is such a row");
        &self.data[row * self.row_stride..][..self.cols]
    }
}

/// A matrix to write, row after row.
pub(crate) struct MatrixMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A matrix whose rows follow one another.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` apart.
    pub(crate) fn strided(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        check_bounds(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride }
    }
}

/// Whether a product replaces what is in the destination or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// `dst = lhs · rhs`.
    Replace,
    /// `dst += lhs · rhs`.
    Add,
}

/// `dst (m, n) = lhs (m, k) · rhs (k, n)`, replacing or adding.
///
/// # Panics
/// If the shapes do not fit.
#[expect(unsafe_code, reason = "the gemm crate works on raw pointers")]
#[expect(clippy::cast_possible_wrap, reason = "no slice is longer than isize::MAX bytes")]
#[expect(clippy::needless_pass_by_value, reason = "a view of the destination is used up")]
pub(crate) fn matmul(dst: MatrixMut<'_>, write: Write, lhs: Matrix<'_>, rhs: Matrix<'_>) {
    assert_eq!((dst.rows, dst.cols), (lhs.rows, rhs.cols), "the destination fits the product");
    assert_eq!(lhs.cols, rhs.rows, "the inner dimensions agree");
    // SAFETY: `check_bounds` held for each view, so every element addressed lies in its slice;
    // `dst` is a unique borrow with `row_stride >= cols`, so no two of its elements overlap and it
    // overlaps no operand.
    unsafe {
        gemm(
            dst.rows,
            dst.cols,
            lhs.cols,
            dst.data.as_mut_ptr(),
            1,
            dst.row_stride as isize,
            write == Write::Add,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

fn check_bounds(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(row_stride >= cols, "rows of {cols} do not fit a stride of {row_stride}");
    let end = if rows == 0 { 0 } else { (rows - 1) * row_stride + cols };
    assert!(end <= len, "a {rows} × {cols} view of stride {row_stride} does not fit {len} numbers");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstar_core::RngKey;
    use bstar_core::rng::{below, normal};
    use proptest::prelude::*;

    #[test]
    #[should_panic(expected = "does not fit 11 numbers")]
    fn a_view_past_the_end_of_its_slice_is_refused() {
        Matrix::strided(&[0.0; 11], 3, 4, 4);
    }

    proptest! {
        #[test]
        fn products_of_strided_views_equal_the_definition(
            m in 1..20_usize, n in 1..20_usize, k in 1..20_usize, seed in 0..1000_u64
        ) {
            let mut rng = RngKey::from_seed(seed).rng();
            let strides = [k + below(&mut rng, 3), k + below(&mut rng, 3), n + below(&mut rng, 3)];
            #[expect(clippy::cast_possible_truncation, reason = "matrices are f32")]
            let mut draw = |rows: usize, stride: usize| -> Vec<f32> {
                (0..rows * stride).map(|_| normal(&mut rng) as f32).collect()
            };
            // The right operand is stored transposed: (n, k).
            let (lhs, rhs, start) = (draw(m, strides[0]), draw(n, strides[1]), draw(m, strides[2]));
            for write in [Write::Replace, Write::Add] {
                let mut dst = start.clone();
                matmul(
                    MatrixMut::strided(&mut dst, m, n, strides[2]),
                    write,
                    Matrix::strided(&lhs, m, k, strides[0]),
                    Matrix::strided(&rhs, n, k, strides[1]).transposed(),
                );
                for i in 0..m {
                    for j in 0..strides[2] {
                        let before = start[i * strides[2] + j];
                        let product: f32 =
                            (0..k).map(|l| lhs[i * strides[0] + l] * rhs.get(j * strides[1] + l)
                                .copied().unwrap_or(0.0)).sum();
                        let expected = match write {
                            _ if j >= n => before,
                            Write::Replace => product,
                            Write::Add => before + product,
                        };
                        let found = dst[i * strides[2] + j];
                        prop_assert!((found - expected).abs() < 1e-4, "{} {}", found, expected);
                    }
                }
            }
        }
    }
}
