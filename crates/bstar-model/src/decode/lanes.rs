//! Lanes: the layout that makes a row's arithmetic independent of its batch.
//!
//! Sequences that are decoded together sit in *lanes*: a group of `lanes` sequences keeps each
//! feature as `lanes` neighbouring numbers (`[feature][lane]`), and every kernel does to a lane
//! what it does to all others, with no sum across lanes. So the bits of a sequence depend neither
//! on its neighbours nor on its place, nor on the width of the machine's vectors: a group is two
//! vectors wide (16 lanes with AVX2, 32 with AVX-512), or one where samples are few, and each lane
//! sees the same fused multiply-adds in the same order. This module knows nothing of transformers.
//!
//! Vectors are worked on in loops, never in closures (`map`, `from_fn`): a closure that the compiler
//! leaves as a function of its own, which it does in a release build, has not the instructions of its
//! caller, and every operation in it becomes a call. That once made sampling five times slower.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use crate::ops::exponential::exp_vector;
use pulp::{Arch, Simd, WithSimd};
use std::ops::{Deref, DerefMut};

/// One feature of a group: a number for each lane, in `V` vectors.
pub(super) type Row<S, const V: usize> = [<S as Simd>::f32s; V];

/// Lanes of a group for the widest vectors known to us; bounds arrays on the stack.
pub(super) const MAX_LANES: usize = 32;

/// How many lanes a group has, and the instructions that work on them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    arch: Arch,
    narrow: bool,
}

impl Lanes {
    /// Groups of two vectors: twice the work for each weight that is read.
    pub(super) fn wide(arch: Arch) -> Self {
        Self { arch, narrow: false }
    }

    /// Groups of one vector, for so few samples that a second one would be empty.
    pub(super) fn narrow(arch: Arch) -> Self {
        Self { arch, narrow: true }
    }

    /// The instructions.
    pub(super) fn arch(self) -> Arch {
        self.arch
    }

    /// Lanes of a group.
    pub(super) fn count(self) -> usize {
        struct Count;
        impl WithLanes for Count {
            type Output = usize;
            #[inline(always)]
            fn with_lanes<S: Simd, const V: usize>(self, _: S) -> usize {
                lanes_of::<S, V>()
            }
        }
        self.dispatch(Count)
    }

    /// Runs a kernel on groups of this kind.
    pub(super) fn dispatch<K: WithLanes>(self, kernel: K) -> K::Output {
        if self.narrow {
            self.arch.dispatch(OnVectors::<K, 1>(kernel))
        } else {
            self.arch.dispatch(OnVectors::<K, 2>(kernel))
        }
    }
}

/// A kernel for vectors of any width and groups of any number of vectors.
pub(super) trait WithLanes {
    /// What it gives.
    type Output;
    /// Runs it on groups of `V` vectors.
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) -> Self::Output;
}

struct OnVectors<K, const V: usize>(K);

impl<K: WithLanes, const V: usize> WithSimd for OnVectors<K, V> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> K::Output {
        self.0.with_lanes::<S, V>(simd)
    }
}

/// Lanes of a group, where the vector type is known.
#[inline(always)]
pub(super) fn lanes_of<S: Simd, const V: usize>() -> usize {
    V * S::F32_LANES
}

/// A matrix `[feature][lane]` as vectors.
#[inline(always)]
pub(super) fn rows<S: Simd, const V: usize>(numbers: &[f32]) -> &[Row<S, V>] {
    S::as_simd_f32s(numbers).0.as_chunks().0
}

/// A matrix `[feature][lane]` as vectors.
#[inline(always)]
pub(super) fn rows_mut<S: Simd, const V: usize>(numbers: &mut [f32]) -> &mut [Row<S, V>] {
    S::as_mut_simd_f32s(numbers).0.as_chunks_mut().0
}

/// The same number in every lane.
#[inline(always)]
pub(super) fn splat<S: Simd, const V: usize>(simd: S, number: f32) -> Row<S, V> {
    [simd.splat_f32s(number); V]
}

/// `a · b + c`, rounded once.
#[inline(always)]
pub(super) fn mul_add<S: Simd, const V: usize>(
    simd: S,
    a: Row<S, V>,
    b: Row<S, V>,
    mut c: Row<S, V>,
) -> Row<S, V> {
    for ((c, a), b) in c.iter_mut().zip(&a).zip(&b) {
        *c = simd.mul_add_f32s(*a, *b, *c);
    }
    c
}

/// `a · b`.
#[inline(always)]
pub(super) fn mul<S: Simd, const V: usize>(simd: S, mut a: Row<S, V>, b: Row<S, V>) -> Row<S, V> {
    for (a, b) in a.iter_mut().zip(&b) {
        *a = simd.mul_f32s(*a, *b);
    }
    a
}

/// `a + b`.
#[inline(always)]
pub(super) fn add<S: Simd, const V: usize>(simd: S, mut a: Row<S, V>, b: Row<S, V>) -> Row<S, V> {
    for (a, b) in a.iter_mut().zip(&b) {
        *a = simd.add_f32s(*a, *b);
    }
    a
}

/// `a - b`.
#[inline(always)]
pub(super) fn sub<S: Simd, const V: usize>(simd: S, mut a: Row<S, V>, b: Row<S, V>) -> Row<S, V> {
    for (a, b) in a.iter_mut().zip(&b) {
        *a = simd.sub_f32s(*a, *b);
    }
    a
}

/// `a / b`.
#[inline(always)]
pub(super) fn div<S: Simd, const V: usize>(simd: S, mut a: Row<S, V>, b: Row<S, V>) -> Row<S, V> {
    for (a, b) in a.iter_mut().zip(&b) {
        *a = simd.div_f32s(*a, *b);
    }
    a
}

/// The larger number of each lane; `b` where they do not compare.
#[inline(always)]
pub(super) fn max<S: Simd, const V: usize>(simd: S, mut a: Row<S, V>, b: Row<S, V>) -> Row<S, V> {
    for (a, b) in a.iter_mut().zip(&b) {
        *a = simd.select_f32s(simd.greater_than_f32s(*a, *b), *a, *b);
    }
    a
}

/// The square root.
#[inline(always)]
pub(super) fn sqrt<S: Simd, const V: usize>(simd: S, mut x: Row<S, V>) -> Row<S, V> {
    for x in &mut x {
        *x = simd.sqrt_f32s(*x);
    }
    x
}

/// The exponential ([`exp_vector`]).
#[inline(always)]
pub(super) fn exp<S: Simd, const V: usize>(simd: S, mut x: Row<S, V>) -> Row<S, V> {
    for x in &mut x {
        *x = exp_vector(simd, *x);
    }
    x
}

/// Numbers whose first one starts a cache line, so that no vector straddles two.
#[derive(Debug)]
pub(super) struct Buffer {
    numbers: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub(super) fn zeroed(len: usize) -> Self {
        const LINE: usize = 64;
        let slack = LINE / size_of::<f32>() - 1;
        let numbers = vec![0.0_f32; len + slack];
        // Alignment is for speed alone: where it cannot be had, the first number will do.
        let offset = numbers.as_ptr().align_offset(LINE);
        Self { numbers, start: if offset <= slack { offset } else { 0 }, len }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.numbers[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..self.start + self.len]
    }
}

/// A matrix `[feature][lane]` for each group.
#[derive(Debug)]
pub(super) struct Slab {
    numbers: Buffer,
    size: usize,
}

impl Slab {
    /// Zeros.
    pub(super) fn zeroed(groups: usize, features: usize, lanes: usize) -> Self {
        Self { numbers: Buffer::zeroed(groups * features * lanes), size: features * lanes }
    }

    /// The matrix of a group.
    #[inline(always)]
    pub(super) fn group(&self, group: usize) -> &[f32] {
        &self.numbers[group * self.size..][..self.size]
    }

    /// The matrix of a group.
    #[inline(always)]
    pub(super) fn group_mut(&mut self, group: usize) -> &mut [f32] {
        &mut self.numbers[group * self.size..][..self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_a_cache_line() {
        for len in [0, 1, 15, 1000] {
            let buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
        }
    }
}
