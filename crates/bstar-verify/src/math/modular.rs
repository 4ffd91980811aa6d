//! Exact arithmetic modulo primes: are two rational expressions the same function?
//!
//! Both are evaluated at random points of fields with about 2^61 elements. Different values prove
//! that the expressions differ; equal values at several points of several fields mean that they are
//! equal but for a chance below 2^-100 (Schwartz and Zippel). The primes are 1 modulo 4, so that `i`
//! is a number; π and e behave like names, because no rational identity connects them. Size costs
//! nothing here: 2^99 and 1/2004! are as exact as 3.

use super::budget::Budget;
use super::expr::{Constant, Expr, Literal};

/// Primes and a square root of -1 in each.
const FIELDS: [(u64, u64); 3] = [
    (2_063_322_497_467_419_953, 466_376_938_130_938_527),
    (1_264_262_427_107_894_341, 641_239_940_164_939_663),
    (1_647_981_809_807_871_613, 1_053_031_078_195_089_131),
];

/// Steps that a power or an inverse in a field takes.
const COST_OF_INVERSE: u64 = 32;

/// Whether two expressions are the same rational function; none where one is not rational, or a
/// denominator vanishes.
pub(super) fn same(left: &Expr, right: &Expr, work: &Budget) -> Option<bool> {
    for (round, &field) in FIELDS.iter().enumerate() {
        let point = Point { field, round: round as u64 };
        let left = point.value(left, work)?;
        let right = point.value(right, work)?;
        if left != right {
            return Some(false);
        }
    }
    Some(true)
}

/// The factor between two expressions, if it is the same constant everywhere and not zero.
pub(super) fn are_proportional(left: &Expr, right: &Expr, work: &Budget) -> Option<bool> {
    for &field in &FIELDS {
        let mut factor = None;
        for round in 0..3 {
            let point = Point { field, round };
            let (left, right) = (point.value(left, work)?, point.value(right, work)?);
            if (left == 0) != (right == 0) {
                return Some(false);
            }
            if right == 0 {
                continue;
            }
            let found = multiply(left, inverse(right, field.0)?, field.0);
            if *factor.get_or_insert(found) != found {
                return Some(false);
            }
        }
    }
    Some(true)
}

struct Point {
    field: (u64, u64),
    round: u64,
}

impl Point {
    fn value(&self, expr: &Expr, work: &Budget) -> Option<u64> {
        let p = self.field.0;
        work.spend(1)?;
        Some(match expr {
            Expr::Number(literal) => {
                work.spend_on(literal.digits.len())?;
                self.literal(literal)?
            }
            Expr::Constant(Constant::Pi) => self.of_name("\u{0}pi"),
            Expr::Constant(Constant::E) => self.of_name("\u{0}e"),
            Expr::Constant(Constant::I) => self.field.1,
            Expr::Name(name) => self.of_name(name),
            Expr::Based(digits, base) => digits.chars().try_fold(0, |value, digit| {
                let digit = digit.to_digit(*base)?;
                Some((multiply(value, u64::from(*base), p) + u64::from(digit)) % p)
            })?,
            Expr::Sum(parts) => {
                let mut total = 0;
                for part in parts {
                    total = (total + self.value(part, work)?) % p;
                }
                total
            }
            Expr::Product(parts) => {
                let mut total = 1;
                for part in parts {
                    total = multiply(total, self.value(part, work)?, p);
                }
                total
            }
            Expr::Negative(inner) => (p - self.value(inner, work)?) % p,
            Expr::Quotient(above, below) => {
                work.spend(COST_OF_INVERSE)?;
                let below = inverse(self.value(below, work)?, p)?;
                multiply(self.value(above, work)?, below, p)
            }
            Expr::Power(base, exponent) => {
                work.spend(COST_OF_INVERSE)?;
                let exponent = integer(exponent)?;
                let base = self.value(base, work)?;
                let raised = power(base, exponent.unsigned_abs(), p);
                if exponent < 0 || (exponent == 0 && base == 0) {
                    inverse(raised, p)?
                } else {
                    raised
                }
            }
            Expr::Factorial(inner) => {
                let top = u64::try_from(integer(inner)?).ok()?;
                work.spend(top)?;
                (1..=top).fold(1, |value, factor| multiply(value, factor, p))
            }
            Expr::Binomial(above, below) => binomial(integer(above)?, integer(below)?, p, work)?,
            Expr::Percent(inner) => multiply(self.value(inner, work)?, inverse(100, p)?, p),
            _ => return None,
        })
    }

    fn literal(&self, literal: &Literal) -> Option<u64> {
        let p = self.field.0;
        let digits = literal
            .digits
            .bytes()
            .fold(0, |value, digit| (multiply(value, 10, p) + u64::from(digit - b'0')) % p);
        if literal.places == 0 {
            return Some(digits);
        }
        let scale = power(10, literal.places as u128, p);
        Some(multiply(digits, inverse(scale, p)?, p))
    }

    /// The value that a name has at this point: the same for the same name, like random otherwise.
    fn of_name(&self, name: &str) -> u64 {
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ self.round.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        for byte in name.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        mix(state) % self.field.0
    }
}

/// A step of SplitMix64.
pub(super) fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The value of a constant expression that is a small integer.
pub(super) fn integer(expr: &Expr) -> Option<i128> {
    let value = match expr {
        Expr::Number(literal) => literal.integer()?,
        Expr::Negative(inner) => -integer(inner)?,
        Expr::Sum(parts) => {
            parts.iter().try_fold(0_i128, |total, part| total.checked_add(integer(part)?))?
        }
        Expr::Product(parts) => {
            parts.iter().try_fold(1_i128, |total, part| total.checked_mul(integer(part)?))?
        }
        Expr::Quotient(above, below) => {
            let (above, below) = (integer(above)?, integer(below)?);
            if below == 0 || above % below != 0 {
                return None;
            }
            above / below
        }
        Expr::Power(base, exponent) => {
            integer(base)?.checked_pow(u32::try_from(integer(exponent)?).ok()?)?
        }
        Expr::Factorial(inner) => {
            let top = integer(inner).filter(|top| (0..=30).contains(top))?;
            (1..=top).product()
        }
        _ => return None,
    };
    (value.unsigned_abs() < 1 << 100).then_some(value)
}

/// What is left of a whole number divided by a modulus, however large the number.
pub(super) fn residue(expr: &Expr, modulus: i128, work: &Budget) -> Option<i128> {
    if !(1..1 << 62).contains(&modulus) {
        return None;
    }
    work.spend(4)?;
    let of = |part: &Expr| residue(part, modulus, work);
    Some(match expr {
        Expr::Number(literal) if literal.places == 0 => {
            work.spend_on(literal.digits.len())?;
            literal
                .digits
                .bytes()
                .fold(0, |value, digit| (value * 10 + i128::from(digit - b'0')) % modulus)
        }
        Expr::Negative(inner) => (-of(inner)?).rem_euclid(modulus),
        Expr::Sum(parts) => {
            parts.iter().try_fold(0, |total, part| Some((total + of(part)?) % modulus))?
        }
        Expr::Product(parts) => {
            parts.iter().try_fold(1 % modulus, |total, part| Some(total * of(part)? % modulus))?
        }
        Expr::Power(base, exponent) => {
            work.spend(COST_OF_INVERSE)?;
            let mut left = u128::try_from(integer(exponent)?).ok()?;
            let (mut square, mut result) = (of(base)?, 1 % modulus);
            while left > 0 {
                if left & 1 == 1 {
                    result = result * square % modulus;
                }
                square = square * square % modulus;
                left >>= 1;
            }
            result
        }
        other => integer(other)?.rem_euclid(modulus),
    })
}

fn binomial(above: i128, below: i128, p: u64, work: &Budget) -> Option<u64> {
    if below < 0 || above < 0 {
        return None;
    }
    if below > above {
        return Some(0);
    }
    let count = u64::try_from(below.min(above - below)).ok()?;
    work.spend(count.checked_mul(2)?)?;
    let above = u64::try_from(above).ok()?;
    let (mut top, mut bottom) = (1, 1);
    for step in 0..count {
        top = multiply(top, (above - step) % p, p);
        bottom = multiply(bottom, (step + 1) % p, p);
    }
    Some(multiply(top, inverse(bottom, p)?, p))
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of a 64-bit modulus")]
fn multiply(left: u64, right: u64, p: u64) -> u64 {
    (u128::from(left) * u128::from(right) % u128::from(p)) as u64
}

fn power(base: u64, mut exponent: u128, p: u64) -> u64 {
    let (mut square, mut result) = (base % p, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, square, p);
        }
        square = multiply(square, square, p);
        exponent >>= 1;
    }
    result
}

/// By Euclid's algorithm, which is several times faster than a power.
fn inverse(value: u64, p: u64) -> Option<u64> {
    let (mut above, mut below) = (i128::from(p), i128::from(value % p));
    let (mut last, mut factor) = (0_i128, 1_i128);
    while below != 0 {
        let quotient = above / below;
        (above, below) = (below, above - quotient * below);
        (last, factor) = (factor, last - quotient * factor);
    }
    (above == 1).then(|| u64::try_from(last.rem_euclid(i128::from(p))).expect("below p"))
}

/// Whether two constants are the same fraction of small integers; none where one is not.
pub(super) fn same_fraction(left: &Expr, right: &Expr) -> Option<bool> {
    let (left, right) = (fraction(left)?, fraction(right)?);
    Some(left.0.checked_mul(right.1)? == right.0.checked_mul(left.1)?)
}

/// A constant as numerator and positive denominator, not always in lowest terms.
fn fraction(expr: &Expr) -> Option<(i128, i128)> {
    let (above, below) = match expr {
        Expr::Number(literal) if literal.digits.len() <= 18 => {
            let above = if literal.digits.is_empty() { 0 } else { literal.digits.parse().ok()? };
            (above, 10_i128.pow(u32::try_from(literal.places).ok()?))
        }
        Expr::Negative(inner) => {
            let (above, below) = fraction(inner)?;
            (-above, below)
        }
        Expr::Quotient(above, below) => {
            let (above, below) = (fraction(above)?, fraction(below)?);
            let sign = below.0.signum();
            (sign * above.0.checked_mul(below.1)?, sign * above.1.checked_mul(below.0)?)
        }
        Expr::Sum(parts) => parts.iter().try_fold((0, 1), |total: (i128, i128), part| {
            let part = fraction(part)?;
            let sum = total.0.checked_mul(part.1)?.checked_add(part.0.checked_mul(total.1)?)?;
            Some((sum, total.1.checked_mul(part.1)?))
        })?,
        Expr::Product(parts) => parts.iter().try_fold((1, 1), |total: (i128, i128), part| {
            let part = fraction(part)?;
            Some((total.0.checked_mul(part.0)?, total.1.checked_mul(part.1)?))
        })?,
        _ => return None,
    };
    let is_small = above.unsigned_abs() < 1 << 62 && (1..1 << 62).contains(&below);
    is_small.then_some((above, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses_are_inverses() {
        for (p, root) in FIELDS {
            for value in [1, 2, 3, root, p - 1] {
                let inverse = inverse(value, p).expect("not zero");
                assert_eq!(multiply(inverse, value, p), 1);
            }
            assert_eq!(multiply(root, root, p), p - 1);
            assert_eq!(inverse(0, p), None);
        }
    }
}
