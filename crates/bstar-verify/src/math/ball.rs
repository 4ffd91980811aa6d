//! Complex numbers of any magnitude with a bound on their error.
//!
//! A ball is `(re + i·im) · 2^scale`, at most `error · 2^scale` away from the true value. Magnitude
//! lives in the scale, so e^-1000 and 1/2^99 are as precise as 1. Bounds are first-order and a
//! little generous; two balls that do not touch are different values.

use std::f64::consts::{LN_2, PI};

/// Relative error of one operation.
const STEP: f64 = 4.0 * f64::EPSILON;

/// Scales beyond this are not handled.
const MAX_SCALE: i64 = 1 << 40;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ball {
    re: f64,
    im: f64,
    scale: i64,
    error: f64,
}

impl Ball {
    pub(super) const ZERO: Self = Self { re: 0.0, im: 0.0, scale: 0, error: 0.0 };
    pub(super) const I: Self = Self { re: 0.0, im: 1.0, scale: 0, error: 0.0 };

    /// A float that is right up to rounding.
    pub(super) fn rounded(value: f64) -> Option<Self> {
        Self { re: value, im: 0.0, scale: 0, error: value.abs() * f64::EPSILON }.normal()
    }

    /// A float that is meant exactly.
    pub(super) fn exact(value: f64) -> Option<Self> {
        Self { re: value, im: 0.0, scale: 0, error: 0.0 }.normal()
    }

    fn normal(self) -> Option<Self> {
        let size = self.re.abs().max(self.im.abs()).max(self.error);
        if !size.is_finite() || self.re.is_nan() || self.im.is_nan() || self.error.is_nan() {
            return None;
        }
        if size == 0.0 {
            return Some(Self::ZERO);
        }
        let shift = size.log2().floor();
        // Two steps: the inverse of a subnormal number would overflow.
        let (half, rest) = ((shift / 2.0).floor(), shift - (shift / 2.0).floor());
        let fit = |value: f64| value * (-half).exp2() * (-rest).exp2();
        #[expect(clippy::cast_possible_truncation, reason = "an exponent of a float")]
        let scale = self.scale + shift as i64;
        (scale.abs() <= MAX_SCALE).then(|| Self {
            re: fit(self.re),
            im: fit(self.im),
            scale,
            error: fit(self.error),
        })
    }

    fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    pub(super) fn is_zero(self) -> bool {
        self.size() == 0.0 && self.error == 0.0
    }

    /// Whether zero is a possible value.
    pub(super) fn holds_zero(self) -> bool {
        self.size() <= self.error
    }

    /// The error relative to the value.
    pub(super) fn uncertainty(self) -> f64 {
        if self.size() == 0.0 { self.error } else { self.error / self.size() }
    }

    /// Whether this is a real number below zero.
    pub(super) fn is_negative(self) -> bool {
        self.is_real() && self.re < -self.error
    }

    pub(super) fn is_real(self) -> bool {
        self.im.abs() <= self.error.max(self.re.abs() * STEP)
    }

    /// The real value as a float; none for numbers that are not real.
    pub(super) fn real(self) -> Option<f64> {
        let scale = i32::try_from(self.scale).ok()?;
        self.is_real().then(|| self.re * f64::from(scale).exp2()).filter(|value| value.is_finite())
    }

    fn error_size(self) -> f64 {
        i32::try_from(self.scale)
            .map_or(f64::INFINITY, |scale| self.error * f64::from(scale).exp2())
    }

    pub(super) fn negative(self) -> Self {
        Self { re: -self.re, im: -self.im, ..self }
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        if self.is_zero() {
            return Some(other);
        }
        if other.is_zero() {
            return Some(self);
        }
        let (big, small) = if self.scale >= other.scale { (self, other) } else { (other, self) };
        let gap = (big.scale - small.scale).min(2000);
        #[expect(clippy::cast_precision_loss, reason = "at most 2000")]
        let fit = (-(gap as f64)).exp2();
        let (re, im) = (big.re + small.re * fit, big.im + small.im * fit);
        let error =
            big.error + small.error * fit + (big.size() + small.size() * fit) * f64::EPSILON;
        // Small integers add up without rounding.
        let is_exact = big.error == 0.0 && small.error == 0.0 && gap < 50;
        let exact_sum = is_exact && re - big.re == small.re * fit && im - big.im == small.im * fit;
        Self { re, im, scale: big.scale, error: if exact_sum { 0.0 } else { error } }.normal()
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        let re = self.re * other.re - self.im * other.im;
        let im = self.re * other.im + self.im * other.re;
        let size = self.size() * other.size();
        let error = self.size() * other.error
            + other.size() * self.error
            + self.error * other.error
            + size * STEP;
        Self { re, im, scale: self.scale + other.scale, error }.normal()
    }

    pub(super) fn inverse(self) -> Option<Self> {
        let size = self.size();
        if size <= 2.0 * self.error {
            return None;
        }
        let square = size * size;
        let error = 2.0 * self.error / square + STEP / size;
        Self { re: self.re / square, im: -self.im / square, scale: -self.scale, error }.normal()
    }

    pub(super) fn to_integer(self, exponent: i128) -> Option<Self> {
        let mut left = exponent.unsigned_abs();
        let (mut square, mut result) = (self, Self::exact(1.0)?);
        while left > 0 {
            if left & 1 == 1 {
                result = result.times(square)?;
            }
            left >>= 1;
            if left > 0 {
                square = square.times(square)?;
            }
        }
        if exponent < 0 { result.inverse() } else { Some(result) }
    }

    pub(super) fn exp(self) -> Option<Self> {
        let scale = i32::try_from(self.scale).ok().filter(|&scale| scale < 40)?;
        let factor = f64::from(scale).exp2();
        let (re, im) = (self.re * factor, self.im * factor);
        let turns = (re / LN_2).round();
        let size = (re - turns * LN_2).exp();
        let error = size * (self.error * factor + STEP * (1.0 + re.abs() + im.abs()));
        #[expect(clippy::cast_possible_truncation, reason = "below 2^41")]
        Self { re: size * im.cos(), im: size * im.sin(), scale: turns as i64, error }.normal()
    }

    pub(super) fn ln(self) -> Option<Self> {
        let size = self.size();
        if size <= 2.0 * self.error {
            return None;
        }
        let re = size.ln() + self.scale as f64 * LN_2;
        let im = if self.is_real() {
            if self.re < 0.0 { PI } else { 0.0 }
        } else {
            self.im.atan2(self.re)
        };
        let error = 2.0 * self.error / size + STEP * (1.0 + re.abs() + im.abs());
        Self { re, im, scale: 0, error }.normal()
    }

    /// A root of a real number that is real, or else the principal one.
    pub(super) fn root(self, index: i128) -> Option<Self> {
        if self.is_zero() {
            return Some(Self::ZERO);
        }
        let is_flipped = index % 2 != 0 && self.is_real() && self.re < 0.0;
        let base = if is_flipped { self.negative() } else { self };
        let share = Self::exact(index as f64)?.inverse()?;
        let root = base.ln()?.times(share)?.exp()?;
        Some(if is_flipped { root.negative() } else { root })
    }

    pub(super) fn to_power(self, exponent: Self) -> Option<Self> {
        if self.is_zero() {
            return (exponent.is_real() && exponent.re > exponent.error).then_some(Self::ZERO);
        }
        self.ln()?.times(exponent)?.exp()
    }

    pub(super) fn abs(self) -> Option<Self> {
        Self { re: self.size(), im: 0.0, ..self }.normal()
    }

    /// A real function whose slope at the value is at most `slope`.
    pub(super) fn map_real(
        self,
        function: impl Fn(f64) -> f64,
        slope: impl Fn(f64) -> f64,
    ) -> Option<Self> {
        let at = self.real()?;
        let value = function(at);
        let error = self.error_size() * slope(at).abs() * 2.0
            + STEP * (value.abs() + at.abs() * slope(at).abs());
        Self { re: value, im: 0.0, scale: 0, error }.normal()
    }

    /// A function that jumps at integers; none where the value may be on either side of one.
    pub(super) fn step(self, function: impl Fn(f64) -> f64) -> Option<Self> {
        let at = self.real().filter(|at| at.abs() < 1e15)?;
        let error = self.error_size();
        let value = function(at - error);
        (value == function(at + error)).then(|| Self::exact(value))?
    }

    /// Whether the balls touch, or differ by less than `relative` of the larger.
    pub(super) fn is_near(self, other: Self, relative: f64) -> bool {
        let Some(difference) = self.plus(other.negative()) else { return false };
        if difference.holds_zero() {
            return true;
        }
        let larger =
            if (self.scale, self.size()) >= (other.scale, other.size()) { self } else { other };
        let ratio = larger.inverse().and_then(|inverse| difference.times(inverse));
        ratio.and_then(Self::abs).and_then(Self::real).is_some_and(|ratio| ratio <= relative)
    }
}
