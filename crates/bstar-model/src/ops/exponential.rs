//! e^x for `f32`, the same bits on every machine.
//!
//! [`exp`] is for element-wise operations that the compiler makes into vectors; it has no fused
//! multiply-adds, which would be calls where a machine has none. [`exp_vector`] is for kernels that are
//! written in vectors; it ends in an exact zero, which masks rely on.
//!
//! The result of [`exp`] is within 2 units in the last place. Arguments below -87.3 give about 1e-38 instead
//! of a smaller number or zero, those above 88.3 give about 2e38; not-a-number stays so.

#![expect(clippy::inline_always, reason = "it is vectorised only where it is inlined")]

use pulp::Simd;

/// e^x.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two pieces; the first has few enough bits that n · `LN_2_HIGH` is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // |r| ≤ ln 2 / 2.
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 1.987_569_1e-4_f32;
    for coefficient in [1.398_2e-3_f32, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * r + coefficient;
    }
    let fraction = sum * (r * r) + r + 1.0;
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    fraction * power_of_two
}

/// e^x of a vector: relative error below 2e-7 in [-87, 88]; 0 below, e^88 above, not-a-number stays so.
#[inline(always)]
pub(crate) fn exp_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // e^x = 2^n · e^r with n whole and |r| ≤ ln 2 / 2. Adding 1.5·2^23 rounds to a whole number
    // and leaves it in the low bits, from where a shift makes it an exponent. ln 2 is split so that
    // n times its first part is exact.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // (e^r - 1 - r) / r², fitted by us to the least largest relative error of e^r (3e-9).
    const SERIES: [f32; 5] =
        [1.381_453_9e-3, 8.368_745e-3, 4.166_839e-2, 1.666_652_1e-1, 4.999_999_4e-1];
    let too_large = simd.less_than_f32s(simd.splat_f32s(88.0), x);
    let too_small = simd.less_than_f32s(x, simd.splat_f32s(-87.0));
    let bounded = simd.select_f32s(too_large, simd.splat_f32s(88.0), x);
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.mul_add_f32s(bounded, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let whole = simd.sub_f32s(shifted, round);
    let rest = simd.mul_add_f32s(whole, simd.splat_f32s(-LN_2_HIGH), bounded);
    let rest = simd.mul_add_f32s(whole, simd.splat_f32s(-LN_2_LOW), rest);
    let mut series = simd.splat_f32s(SERIES[0]);
    for coefficient in &SERIES[1..] {
        series = simd.mul_add_f32s(series, rest, simd.splat_f32s(*coefficient));
    }
    let less_one = simd.mul_add_f32s(series, simd.mul_f32s(rest, rest), rest);
    let mantissa = simd.add_f32s(less_one, simd.splat_f32s(1.0));
    let exponent = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let power = simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23));
    let value = simd.mul_f32s(mantissa, simd.transmute_f32s_u32s(power));
    simd.select_f32s(too_small, simd.splat_f32s(0.0), value)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Exponentials<'a>(&'a mut [f32]);

    impl WithSimd for Exponentials<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for vector in S::as_mut_simd_f32s(self.0).0 {
                *vector = exp_vector(simd, *vector);
            }
        }
    }

    /// Of a multiple of 16 numbers.
    fn exponentials(arch: Arch, numbers: &[f32]) -> Vec<f32> {
        let mut values = numbers.to_vec();
        arch.dispatch(Exponentials(&mut values));
        values
    }

    #[test]
    fn vectors_are_right_to_two_parts_in_ten_million() {
        let numbers: Vec<f32> = (0..256_000).map(|i| -87.0 + 175.0 * i as f32 / 256e3).collect();
        for (x, value) in numbers.iter().zip(exponentials(Arch::new(), &numbers)) {
            let exact = f64::from(*x).exp();
            let error = (f64::from(value) / exact - 1.0).abs();
            assert!(error < 2e-7, "e^{x} is {exact}, not {value}: off by {error}");
        }
    }

    #[test]
    fn vectors_have_defined_ends() {
        let mut numbers = [0.0; 16];
        numbers[..6].copy_from_slice(&[-1e30, -87.5, f32::NEG_INFINITY, 1e9, f32::NAN, 0.0]);
        let values = exponentials(Arch::new(), &numbers);
        assert_eq!(values[..3], [0.0; 3]);
        assert!((values[3] / 88.0_f32.exp() - 1.0).abs() < 1e-5);
        assert!(values[4].is_nan());
        assert_eq!(values[5], 1.0);
    }

    #[test]
    fn vectors_of_every_width_give_the_same_bits() {
        let numbers: Vec<f32> = (0..3200).map(|i| 0.0371 * i as f32 - 60.0).collect();
        assert_eq!(exponentials(Arch::Scalar, &numbers), exponentials(Arch::new(), &numbers));
    }

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for step in -870_000..883_000 {
            let x = step as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - exact) / exact).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
    }

    #[test]
    fn extreme_arguments_stay_finite_and_nan_stays_nan() {
        assert!(exp(-1e30) < 1.3e-38 && exp(f32::NEG_INFINITY) >= 0.0);
        assert!(exp(1e30).is_finite());
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
        assert_eq!((sigmoid(100.0), sigmoid(0.0)), (1.0, 0.5));
    }
}
