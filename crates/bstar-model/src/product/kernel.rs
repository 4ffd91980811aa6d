//! The innermost loops: a tile of rows times a panel of columns, all sums in registers.
//!
//! One kernel is portable; the other uses the `bf16` dot products of AVX-512 where the machine has
//! them. Both give the same bits (`pair` tells how).

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::pair::Pair;
use pulp::{Arch, Simd, WithSimd};

/// Rows of a tile: with two vectors of columns, 24 of 32 registers hold sums.
pub(crate) const TILE: usize = 12;

/// The rows of a tile: pair `s` of row `r` is at `r * row_stride + s * step_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile<'a> {
    pub(crate) steps: &'a [Pair],
    pub(crate) row_stride: usize,
    pub(crate) step_stride: usize,
}

/// What multiplies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// The instructions for `bf16` where the machine has them, else those of [`Arch::new`].
    Best,
    /// These instructions.
    Portable(Arch),
}

impl Unit {
    /// The best unit among the instructions that a vector type stands for: the special ones belong to
    /// the widest.
    pub(crate) fn of(arch: Arch) -> Self {
        #[cfg(target_arch = "x86_64")]
        if matches!(arch, Arch::V4(_)) {
            return Self::Best;
        }
        Self::Portable(arch)
    }

    /// `sums [row][column] = tile · columns`, for `columns [step][column]` of `width` columns: a
    /// multiple of the lanes of a vector.
    ///
    /// # Panics
    /// If the tile has fewer pairs than the columns, or the sums another width.
    pub(crate) fn multiply(self, tile: Tile<'_>, columns: &[Pair], width: usize, sums: &mut [f32]) {
        assert_eq!(sums.len(), TILE * width, "a sum for each row and column");
        let arch = match self {
            Self::Portable(arch) => arch,
            Self::Best => {
                #[cfg(target_arch = "x86_64")]
                if x86::is_there() && matches!(width, 16 | 32) {
                    return x86::multiply(tile, columns, sums);
                }
                Arch::new()
            }
        };
        arch.dispatch(Portable { tile, columns, width, sums });
    }
}

struct Portable<'a> {
    tile: Tile<'a>,
    columns: &'a [Pair],
    width: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Portable<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let pairs_fit = self.width.is_multiple_of(2 * S::F32_LANES);
        match (S::REGISTER_COUNT >= 32, pairs_fit) {
            (true, true) => self.blocks::<S, TILE, 2>(simd),
            (true, false) => self.blocks::<S, TILE, 1>(simd),
            (false, true) => self.blocks::<S, 6, 2>(simd),
            (false, false) => self.blocks::<S, 6, 1>(simd),
        }
    }
}

impl Portable<'_> {
    /// All sums, `R` rows and `V` vectors of columns at a time.
    #[inline(always)]
    fn blocks<S: Simd, const R: usize, const V: usize>(&mut self, simd: S) {
        let (lanes, width) = (S::F32_LANES, self.width);
        for column in (0..width).step_by(V * lanes) {
            for row in (0..TILE).step_by(R) {
                let sums = self.block::<S, R, V>(simd, row, column);
                for (r, sums) in sums.iter().enumerate() {
                    let to = &mut self.sums[(row + r) * width + column..][..V * lanes];
                    S::as_mut_simd_f32s(to).0.copy_from_slice(sums);
                }
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        row: usize,
        column: usize,
    ) -> [[S::f32s; V]; R] {
        let Tile { steps, row_stride, step_stride } = self.tile;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (step, columns) in self.columns.chunks_exact(self.width).enumerate() {
            let columns = &columns[column..][..V * S::F32_LANES];
            let mut loaded = [[simd.splat_f32s(0.0); 2]; V];
            for (vector, pairs) in loaded.iter_mut().zip(columns.chunks_exact(S::F32_LANES)) {
                *vector = Pair::load::<S>(pairs);
            }
            let tile = &steps[row * row_stride + step * step_stride..];
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = Pair::splat(simd, tile[r * row_stride]);
                for (sum, column) in sums.iter_mut().zip(loaded) {
                    *sum = Pair::mul_add(simd, left, column, *sum);
                }
            }
        }
        sums
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{TILE, Tile};
    use crate::product::pair::Pair;
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_epi32, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    };

    /// Columns of a vector.
    const LANES: usize = 16;

    /// Whether this machine has the instructions.
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }

    /// The product, for panels of 16 or 32 columns.
    ///
    /// # Panics
    /// On a machine without the instructions.
    #[expect(unsafe_code, reason = "the instructions have no safe wrapper")]
    pub(super) fn multiply(tile: Tile<'_>, columns: &[Pair], sums: &mut [f32]) {
        assert!(is_there(), "this machine has the instructions");
        let vectors = sums.len() / (TILE * LANES);
        let steps = columns.len() / (vectors * LANES);
        if let Some(last) = steps.checked_sub(1) {
            let last = (TILE - 1) * tile.row_stride + last * tile.step_stride;
            assert!(last < tile.steps.len(), "the tile has all steps of all rows");
        }
        // SAFETY: the features are there, as was just checked. All that is read of the tile ends at the number just checked; of `columns` `steps · V · 16` pairs are
        // read and of `sums` 12 · V · 16 numbers are written, which is at most what they hold.
        unsafe {
            match vectors {
                1 => multiply_vectors::<1>(tile, steps, columns, sums),
                2 => multiply_vectors::<2>(tile, steps, columns, sums),
                _ => unreachable!("a panel has 16 or 32 columns"),
            }
        }
    }

    /// # Safety
    /// As `multiply` says: the tile has `steps` steps in all rows, `columns` as many of `V` vectors,
    /// and `sums` 12 times `V` vectors.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[expect(unsafe_code, reason = "vectors are read and written by address")]
    #[expect(clippy::cast_possible_wrap, reason = "bits are bits")]
    #[expect(clippy::needless_range_loop, reason = "registers are numbered")]
    unsafe fn multiply_vectors<const V: usize>(
        tile: Tile<'_>,
        steps: usize,
        columns: &[Pair],
        sums: &mut [f32],
    ) {
        let mut registers = [[_mm512_setzero_ps(); V]; TILE];
        let (left, right) = (tile.steps.as_ptr(), columns.as_ptr());
        for step in 0..steps {
            // SAFETY: the caller vouches for the lengths; `__m512i` and `__m512bh` are the same bits.
            unsafe {
                let mut columns = [_mm512_setzero_si512(); V];
                for v in 0..V {
                    let address = right.wrapping_add((step * V + v) * LANES);
                    columns[v] = _mm512_loadu_epi32(address.cast::<i32>());
                }
                for row in 0..TILE {
                    let at = row * tile.row_stride + step * tile.step_stride;
                    let pair = _mm512_set1_epi32((*left.wrapping_add(at)).0 as i32);
                    for v in 0..V {
                        registers[row][v] = _mm512_dpbf16_ps(
                            registers[row][v],
                            std::mem::transmute::<__m512i, __m512bh>(pair),
                            std::mem::transmute::<__m512i, __m512bh>(columns[v]),
                        );
                    }
                }
            }
        }
        for row in 0..TILE {
            for v in 0..V {
                // SAFETY: the caller vouches for the length of `sums`.
                unsafe {
                    let address = sums.as_mut_ptr().wrapping_add((row * V + v) * LANES);
                    _mm512_storeu_ps(address, registers[row][v]);
                }
            }
        }
    }
}
