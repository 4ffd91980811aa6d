//! Pairs of `bf16` numbers: what a product works on at once along its inner dimension.
//!
//! A `bf16` number is the upper half of an `f32`. Rounding is to nearest, ties to even; numbers below
//! the least normal one become zero, and not-a-number stays so. The product of two such numbers is
//! exact in `f32`. A pair adds to a sum as the instruction `vdpbf16ps` does: first the product of the
//! second numbers, then that of the first ones, each a fused multiply-add after which a number below
//! the least normal one becomes zero. That order was found by comparing 12.8 million products with the
//! instruction of a Zen 5, which gives the same bits in all of them.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use pulp::Simd;

/// Two `bf16` numbers, the first in the low half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Pair(pub(crate) u32);

impl Pair {
    /// Numbers in a pair.
    pub(crate) const NUMBERS: usize = 2;

    /// The pair of these numbers, rounded.
    #[inline(always)]
    pub(crate) fn join(first: f32, second: f32) -> Self {
        Self(round(first) | (round(second) << 16))
    }

    /// Pairs of neighbouring numbers; a zero follows the last one.
    #[inline(always)]
    pub(crate) fn join_neighbours(numbers: &[f32], steps: &mut [Self]) {
        let (pairs, rest) = numbers.as_chunks::<2>();
        let (whole, last) = steps.split_at_mut(pairs.len().min(steps.len()));
        for (step, [first, second]) in whole.iter_mut().zip(pairs) {
            *step = Self::join(*first, *second);
        }
        if let [step] = last {
            *step = Self::join(rest[0], 0.0);
        }
    }

    /// First and second numbers of as many pairs as a vector has lanes.
    #[inline(always)]
    pub(crate) fn load<S: Simd>(steps: &[Self]) -> [S::f32s; 2] {
        let numbers = |number: fn(Self) -> f32| {
            let mut lanes = [0.0; MOST_LANES];
            for (lane, step) in lanes.iter_mut().zip(&steps[..S::F32_LANES]) {
                *lane = number(*step);
            }
            S::as_simd_f32s(&lanes).0[0]
        };
        [numbers(Self::first), numbers(Self::second)]
    }

    /// The same pair in every lane.
    #[inline(always)]
    pub(crate) fn splat<S: Simd>(simd: S, step: Self) -> [S::f32s; 2] {
        [simd.splat_f32s(step.first()), simd.splat_f32s(step.second())]
    }

    /// `a · b + sum`.
    #[inline(always)]
    pub(crate) fn mul_add<S: Simd>(
        simd: S,
        a: [S::f32s; 2],
        b: [S::f32s; 2],
        sum: S::f32s,
    ) -> S::f32s {
        let sum = flush(simd, simd.mul_add_f32s(a[1], b[1], sum));
        flush(simd, simd.mul_add_f32s(a[0], b[0], sum))
    }

    #[inline(always)]
    fn first(self) -> f32 {
        f32::from_bits(self.0 << 16)
    }

    #[inline(always)]
    fn second(self) -> f32 {
        f32::from_bits(self.0 & 0xffff_0000)
    }
}

/// The widest vectors known to us.
const MOST_LANES: usize = 16;

/// The nearest `bf16` number, in the low half.
#[inline(always)]
fn round(number: f32) -> u32 {
    let bits = number.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    let rounded = if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { nearest };
    // Without an exponent it is zero or below the least normal number.
    if rounded & 0x7f80 == 0 { rounded & 0x8000 } else { rounded }
}

/// Numbers below the least normal one become zero, with their sign.
#[inline(always)]
fn flush<S: Simd>(simd: S, number: S::f32s) -> S::f32s {
    let bits = simd.transmute_u32s_f32s(number);
    let sign = simd.transmute_f32s_u32s(simd.and_u32s(bits, simd.splat_u32s(1 << 31)));
    let small = simd.less_than_f32s(simd.abs_f32s(number), simd.splat_f32s(f32::MIN_POSITIVE));
    simd.select_f32s(small, sign, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(number: f32) -> f32 {
        Pair::join(number, 0.0).first()
    }

    #[test]
    fn rounding_is_to_the_nearest_and_ties_go_to_even() {
        // One unit in the last place of a bf16 number near 1 is 2^-7.
        let unit = 1.0 / 128.0;
        assert_eq!(rounded(1.0 + 0.49 * unit), 1.0);
        assert_eq!(rounded(1.0 + 0.51 * unit), 1.0 + unit);
        assert_eq!(rounded(1.0 + 0.5 * unit), 1.0);
        assert_eq!(rounded(1.0 + 1.5 * unit), 1.0 + 2.0 * unit);
        assert_eq!(rounded(-3.0), -3.0);
        assert_eq!(rounded(f32::MAX), f32::INFINITY);
        assert_eq!(rounded(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert!(rounded(f32::NAN).is_nan() && rounded(f32::from_bits(0x7f80_0001)).is_nan());
    }

    #[test]
    fn numbers_below_the_least_normal_one_are_zero() {
        assert_eq!(rounded(-1e-39).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(rounded(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
    }

    #[test]
    fn an_odd_neighbour_is_joined_with_zero() {
        let mut steps = [Pair(7); 2];
        Pair::join_neighbours(&[1.0, 2.0, 3.0], &mut steps);
        assert_eq!(steps, [Pair::join(1.0, 2.0), Pair::join(3.0, 0.0)]);
    }
}
