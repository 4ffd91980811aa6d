//! Real numbers of 384 bits: the arithmetic that tells values apart which agree in all of a float.
//!
//! Results are cut, not rounded, and right to more than [`SURE`] bits; [`super::precise`] keeps count of
//! errors.

use std::cmp::Ordering;
use std::sync::LazyLock;

const LIMBS: usize = 6;

/// The bits of all limbs.
const BITS: i64 = 384;

/// Bits behind the first that every function here gets right, for arguments of usual size.
pub(super) const SURE: i64 = 340;

/// The exponent of zero.
const NOTHING: i64 = i64::MIN / 8;

/// Terms of a series, at most.
const MAX_TERMS: u32 = 200;

/// A number `± 0.limbs · 2^top`; the first bit of the first limb is set, unless it is zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Float {
    is_negative: bool,
    pub(super) top: i64,
    limbs: [u64; LIMBS],
}

impl Float {
    pub(super) const ZERO: Self = Self { is_negative: false, top: NOTHING, limbs: [0; LIMBS] };

    pub(super) fn whole(value: u128) -> Self {
        let bytes = [high(value), low(value)];
        Self::normal(false, 128, &bytes)
    }

    /// A float exactly; zero for what is not finite.
    pub(super) fn of(value: f64) -> Self {
        let bits = value.abs().to_bits();
        let exponent = i64::try_from(bits >> 52).unwrap_or(0);
        if exponent == 0 || exponent == 0x7ff {
            return Self::ZERO;
        }
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let whole = Self::whole(u128::from(mantissa));
        Self { is_negative: value < 0.0, top: whole.top + exponent - 1075, ..whole }
    }

    /// With its first bit first; `wide` holds more limbs than are kept.
    fn normal(is_negative: bool, top: i64, wide: &[u64]) -> Self {
        let Some(first) = wide.iter().position(|limb| *limb != 0) else { return Self::ZERO };
        let shift = wide[first].leading_zeros();
        let limb = |at: usize| wide.get(at).copied().unwrap_or(0);
        let limbs = std::array::from_fn(|at| {
            let at = first + at;
            let next = if shift == 0 { 0 } else { limb(at + 1) >> (64 - shift) };
            (limb(at) << shift) | next
        });
        let top = top - 64 * i64::try_from(first).unwrap_or(0) - i64::from(shift);
        Self { is_negative, top, limbs }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.limbs[0] == 0
    }

    pub(super) fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// The nearest float, as far as one reaches.
    pub(super) fn float(&self) -> f64 {
        let top = i32::try_from(self.top.clamp(-2000, 2000)).unwrap_or(0);
        let size = self.mantissa() * 2_f64.powi(top);
        if self.is_negative { -size } else { size }
    }

    /// `0.limbs`.
    fn mantissa(&self) -> f64 {
        self.limbs[0] as f64 / 2_f64.powi(64)
    }

    pub(super) fn negative(self) -> Self {
        Self { is_negative: !self.is_negative, ..self }
    }

    pub(super) fn abs(self) -> Self {
        Self { is_negative: false, ..self }
    }

    /// Times a power of two.
    fn scaled(self, bits: i64) -> Self {
        if self.is_zero() { self } else { Self { top: self.top + bits, ..self } }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let is_larger = (self.top, self.limbs).cmp(&(other.top, other.limbs)) != Ordering::Less;
        let (big, small) = if is_larger { (self, other) } else { (other, self) };
        let gap = big.top - small.top;
        if small.is_zero() || gap >= BITS + 64 {
            return big;
        }
        let (mut left, mut right) = ([0; LIMBS + 2], [0; LIMBS + 2]);
        left[1..=LIMBS].copy_from_slice(&big.limbs);
        right[1..=LIMBS].copy_from_slice(&small.limbs);
        let right = shifted(&right, usize::try_from(gap).unwrap_or(0));
        if big.is_negative == small.is_negative {
            let mut carry = false;
            for at in (0..left.len()).rev() {
                let (sum, first) = left[at].overflowing_add(right[at]);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                (left[at], carry) = (sum, first || second);
            }
        } else {
            let mut borrow = false;
            for at in (0..left.len()).rev() {
                let (rest, first) = left[at].overflowing_sub(right[at]);
                let (rest, second) = rest.overflowing_sub(u64::from(borrow));
                (left[at], borrow) = (rest, first || second);
            }
        }
        Self::normal(big.is_negative, big.top + 64, &left)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(other.negative())
    }

    pub(super) fn times(self, other: Self) -> Self {
        let mut wide = [0_u64; 2 * LIMBS];
        for left in (0..LIMBS).rev() {
            let mut carry = 0;
            for right in (0..LIMBS).rev() {
                let at = left + right + 1;
                let product = u128::from(self.limbs[left]) * u128::from(other.limbs[right])
                    + u128::from(wide[at])
                    + u128::from(carry);
                wide[at] = low(product);
                carry = high(product);
            }
            wide[left] = carry;
        }
        Self::normal(self.is_negative != other.is_negative, self.top + other.top, &wide)
    }

    pub(super) fn times_small(self, factor: u64) -> Self {
        self.times(Self::whole(u128::from(factor)))
    }

    /// Over a number that is not zero.
    pub(super) fn over_small(self, divisor: u32) -> Self {
        let mut wide = [0_u64; LIMBS + 1];
        let divisor = u64::from(divisor.max(1));
        let mut rest = 0_u64;
        for (at, limb) in wide.iter_mut().enumerate() {
            let whole = self.limbs.get(at).copied().unwrap_or(0);
            // By halves: a division of 128 bits is many times slower.
            let upper = (rest << 32) | (whole >> 32);
            let lower = ((upper % divisor) << 32) | (whole & 0xffff_ffff);
            *limb = (upper / divisor) << 32 | (lower / divisor);
            rest = lower % divisor;
        }
        Self::normal(self.is_negative, self.top, &wide)
    }

    /// One over a number that is not zero.
    pub(super) fn inverse(self) -> Self {
        let one = Self::whole(1);
        let size = Self { is_negative: false, top: 0, ..self };
        let mut found = Self::of(1.0 / size.mantissa());
        for _ in 0..4 {
            found = found.plus(found.times(one.minus(size.times(found))));
        }
        Self { is_negative: self.is_negative, top: found.top - self.top, ..found }
    }

    /// The square root of a number above zero.
    pub(super) fn sqrt(self) -> Self {
        let is_odd = self.top.rem_euclid(2);
        let size = Self { top: -is_odd, ..self };
        let one = Self::whole(1);
        let mut found = Self::of(1.0 / size.float().sqrt());
        for _ in 0..4 {
            let rest = one.minus(size.times(found.times(found)));
            found = found.plus(found.times(rest).scaled(-1));
        }
        size.times(found).scaled((self.top + is_odd).div_euclid(2))
    }

    /// For arguments below 2^30.
    pub(super) fn exp(self) -> Self {
        const HALVINGS: i64 = 12;
        #[expect(clippy::cast_possible_truncation, reason = "below 2^31")]
        let turns = (self.float() / std::f64::consts::LN_2).round() as i64;
        let whole = LN_2.times_small(turns.unsigned_abs());
        let rest = if turns < 0 { self.plus(whole) } else { self.minus(whole) };
        let mut sum = Self::whole(1).plus(series(rest.scaled(-HALVINGS), Self::whole(1), 1, 1));
        for _ in 0..HALVINGS {
            sum = sum.times(sum);
        }
        sum.scaled(turns)
    }

    /// The natural logarithm of a number above zero.
    pub(super) fn ln(self) -> Self {
        let size = Self { top: 0, ..self };
        let mut found = Self::of(size.mantissa().ln());
        for _ in 0..3 {
            let power = found.exp();
            let step = size.minus(power).times(size.plus(power).inverse());
            found = found.plus(step.scaled(1));
        }
        let whole = LN_2.times_small(self.top.unsigned_abs());
        if self.top < 0 { found.minus(whole) } else { found.plus(whole) }
    }

    /// Sine and cosine of an argument below 2^20.
    pub(super) fn sin_cos(self) -> (Self, Self) {
        let half = HALF_PI.float();
        #[expect(clippy::cast_possible_truncation, reason = "below 2^20")]
        let turns = (self.float() / half).round() as i64;
        let whole = HALF_PI.times_small(turns.unsigned_abs());
        let rest = if turns < 0 { self.plus(whole) } else { self.minus(whole) };
        let square = rest.times(rest).negative();
        let sine = rest.plus(series(square, rest, 2, 2));
        let cosine = Self::whole(1).plus(series(square, Self::whole(1), 1, 2));
        match turns.rem_euclid(4) {
            0 => (sine, cosine),
            1 => (cosine, sine.negative()),
            2 => (sine.negative(), cosine.negative()),
            _ => (cosine.negative(), sine),
        }
    }

    pub(super) fn arctan(self) -> Self {
        if self.is_zero() {
            return self;
        }
        if self.float().abs() > 1.0 {
            let rest = self.inverse().arctan();
            let quarter = if self.is_negative { HALF_PI.negative() } else { *HALF_PI };
            return quarter.minus(rest);
        }
        let mut found = Self::of(self.float().atan());
        for _ in 0..3 {
            let (sine, cosine) = found.sin_cos();
            let tangent = sine.times(cosine.inverse());
            let below = Self::whole(1).plus(self.times(tangent)).inverse();
            let step = self.minus(tangent).times(below);
            let cube = step.times(step).times(step).over_small(3);
            found = found.plus(step).minus(cube);
        }
        found
    }

    pub(super) fn half_pi() -> Self {
        *HALF_PI
    }
}

/// The terms that follow `first` in the series of the exponential function (a step of 1), or of
/// sine and cosine (a step of 2): each is the last times `factor` over the next numbers from `from` on.
fn series(factor: Float, first: Float, from: u32, step: u32) -> Float {
    let (mut term, mut sum) = (first, Float::ZERO);
    let mut next = from;
    for _ in 0..MAX_TERMS {
        let below = if step == 2 { next * (next + 1) } else { next };
        term = term.times(factor).over_small(below);
        next += step;
        sum = sum.plus(term);
        if term.is_zero() || term.top < first.top.min(0) - BITS {
            break;
        }
    }
    sum
}

static LN_2: LazyLock<Float> = LazyLock::new(|| {
    // 18 artanh(1/26) - 2 artanh(1/4801) + 8 artanh(1/8749).
    let part = |factor, below| odd_series(below, false).times_small(factor);
    part(18, 26).minus(part(2, 4801)).plus(part(8, 8749))
});

static HALF_PI: LazyLock<Float> = LazyLock::new(|| {
    // Machin: pi/4 = 4 arctan(1/5) - arctan(1/239).
    let part = |factor, below| odd_series(below, true).times_small(factor);
    part(8, 5).minus(part(2, 239))
});

/// `1/b ∓ 1/(3 b^3) + 1/(5 b^5) ∓ …`: the arctangent of 1/b, or its hyperbolic sibling.
fn odd_series(below: u32, is_alternating: bool) -> Float {
    let mut power = Float::whole(1).over_small(below);
    let mut sum = power;
    for term in 1..MAX_TERMS {
        power = power.over_small(below * below);
        let part = power.over_small(2 * term + 1);
        sum = if is_alternating && term % 2 == 1 { sum.minus(part) } else { sum.plus(part) };
    }
    sum
}

/// Limbs moved towards the last by this many bits.
fn shifted(limbs: &[u64; LIMBS + 2], bits: usize) -> [u64; LIMBS + 2] {
    let (whole, part) = (bits / 64, bits % 64);
    let limb = |at: Option<usize>| at.and_then(|at| limbs.get(at)).copied().unwrap_or(0);
    std::array::from_fn(|at| {
        let here = limb(at.checked_sub(whole));
        if part == 0 {
            return here;
        }
        (here >> part) | (limb(at.checked_sub(whole + 1)) << (64 - part))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn low(value: u128) -> u64 {
    value as u64
}

fn high(value: u128) -> u64 {
    low(value >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: Float, expected: Float) {
        let difference = found.minus(expected);
        assert!(
            difference.is_zero() || difference.top < expected.top.max(0) - SURE,
            "{} {}",
            difference.top,
            found.float()
        );
    }

    #[test]
    fn functions_undo_one_another() {
        for value in [0.5, 1.0, 2.0, 3.0, 0.001, 1234.5, 1e-9, 7e8] {
            let value = Float::of(value);
            check(value.inverse().inverse(), value);
            check(value.sqrt().times(value.sqrt()), value);
            check(value.ln().exp(), value);
        }
        for value in [0.25, 0.75, 1.5, -1.25, 0.0] {
            let value = Float::of(value);
            let (sine, cosine) = value.sin_cos();
            check(sine.times(cosine.inverse()).arctan(), value);
            check(sine.times(sine).plus(cosine.times(cosine)), Float::whole(1));
        }
    }

    #[test]
    fn values_are_those_of_floats() {
        for value in [-3.5, 0.1, 0.75, 2.0, 100.0, 1e5] {
            let float = Float::of(value);
            let near = |found: Float, expected: f64| {
                assert!((found.float() - expected).abs() <= 1e-13 * expected.abs().max(1.0));
            };
            near(float, value);
            near(float.sin_cos().0, value.sin());
            near(float.sin_cos().1, value.cos());
            near(float.arctan(), value.atan());
            near(float.scaled(-10).exp(), (value / 1024.0).exp());
            near(float.abs().ln(), value.abs().ln());
            near(float.over_small(7).times_small(7).minus(float), 0.0);
        }
        near_pi();
    }

    fn near_pi() {
        // 4 arctan 1 is pi, and the logarithm of 2 is what the series says.
        check(Float::whole(1).arctan().scaled(1), Float::half_pi());
        check(Float::whole(2).ln(), *LN_2);
    }
}
