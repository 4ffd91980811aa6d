//! e^x for `f32` in operations that the compiler can vectorise, the same bits on every machine.
//!
//! The result is within 2 units in the last place. Arguments below -87.3 give about 1e-38 instead
//! of a smaller number or zero, those above 88.3 give about 2e38; not-a-number stays so.

#![expect(clippy::inline_always, reason = "it is vectorised only where it is inlined")]

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

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

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
