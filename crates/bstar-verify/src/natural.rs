//! Natural numbers of any size: just enough arithmetic to compare fractions exactly.
//!
//! Limbs are base 10^9, least significant first, without leading zero limbs, so that equal numbers
//! have equal limbs. Callers cap the digits, so schoolbook multiplication is fast enough. Nothing
//! here knows signs, fractions or text beyond plain digits.

use std::cmp::Ordering;

const LIMB: u64 = 1_000_000_000;
const LIMB_DIGITS: usize = 9;

/// A natural number, zero included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Natural {
    limbs: Vec<u32>,
}

impl Natural {
    /// Reads ASCII digits; no digits are zero.
    pub(crate) fn from_digits(digits: &[u8]) -> Self {
        let limbs = digits
            .rchunks(LIMB_DIGITS)
            .map(|chunk| chunk.iter().fold(0, |limb, digit| limb * 10 + u32::from(digit - b'0')))
            .collect();
        Self { limbs }.trimmed()
    }

    /// Ten to the power `exponent`.
    pub(crate) fn power_of_ten(exponent: usize) -> Self {
        let mut digits = vec![b'0'; exponent + 1];
        digits[0] = b'1';
        Self::from_digits(&digits)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0_u32; self.limbs.len() + other.limbs.len()];
        for (shift, &factor) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            for (at, &limb) in other.limbs.iter().enumerate() {
                let place = &mut limbs[shift + at];
                carry += u64::from(*place) + u64::from(factor) * u64::from(limb);
                *place = low_limb(carry);
                carry /= LIMB;
            }
            limbs[shift + other.limbs.len()] = low_limb(carry);
        }
        Self { limbs }.trimmed()
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        let length = self.limbs.len().max(other.limbs.len());
        let mut limbs = Vec::with_capacity(length + 1);
        let mut carry = 0;
        for at in 0..length {
            carry += self.limb(at) + other.limb(at);
            limbs.push(low_limb(carry));
            carry /= LIMB;
        }
        limbs.push(low_limb(carry));
        Self { limbs }.trimmed()
    }

    /// The distance between two numbers.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let (large, small) = if *self >= *other { (self, other) } else { (other, self) };
        let mut limbs = Vec::with_capacity(large.limbs.len());
        let mut borrow = 0;
        for at in 0..large.limbs.len() {
            let rest = LIMB + large.limb(at) - small.limb(at) - borrow;
            borrow = u64::from(rest < LIMB);
            limbs.push(low_limb(rest));
        }
        Self { limbs }.trimmed()
    }

    fn limb(&self, at: usize) -> u64 {
        self.limbs.get(at).copied().map_or(0, u64::from)
    }

    fn trimmed(mut self) -> Self {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        self
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }
}

fn low_limb(value: u64) -> u32 {
    u32::try_from(value % LIMB).expect("less than 10^9")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn natural(value: u128) -> Natural {
        Natural::from_digits(value.to_string().as_bytes())
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_128_bit_integers(
            a in 0..u128::from(u64::MAX),
            b in 0..u128::from(u64::MAX),
        ) {
            prop_assert_eq!(natural(a).times(&natural(b)), natural(a * b));
            prop_assert_eq!(natural(a).plus(&natural(b)), natural(a + b));
            prop_assert_eq!(natural(a).difference(&natural(b)), natural(a.abs_diff(b)));
            prop_assert_eq!(natural(a).cmp(&natural(b)), a.cmp(&b));
        }

        #[test]
        fn small_and_large_numbers_mix(a in 0..1000_u128, b in 0..u128::from(u64::MAX)) {
            prop_assert_eq!(natural(a).times(&natural(b)), natural(a * b));
            prop_assert_eq!(natural(b).difference(&natural(a)), natural(a.abs_diff(b)));
        }
    }

    #[test]
    fn leading_zeros_do_not_matter() {
        assert_eq!(Natural::from_digits(b"0000000000000000000007"), natural(7));
        assert!(
            Natural::from_digits(b"000000000000").is_zero() && Natural::from_digits(b"").is_zero()
        );
        assert_eq!(Natural::power_of_ten(20), natural(10_u128.pow(20)));
    }
}
