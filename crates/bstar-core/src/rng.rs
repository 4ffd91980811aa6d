//! Randomness derived from coordinates, never from a shared stream.
//!
//! A run has one 128-bit [`RngKey`]; every other key is a child of it, named by the coordinates of
//! what is drawn (stream, iteration, query, sample). A leaf key builds a `ChaCha8` generator. So the
//! result of a draw depends on its coordinates only: not on batch size, thread count, the order of
//! work or the point at which a run was resumed.
//!
//! Children are hashed with SipHash-2-4 (128 bit), whose algorithm is published and fixed; golden
//! values below hold it in place. Nothing here reads the operating system's entropy.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::hash::Hasher as _;

/// The generator that leaves build. Its algorithm is part of the file formats: never change it.
pub type Rng = ChaCha8Rng;

/// A 128-bit key from which every draw below it is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RngKey {
    high: u64,
    low: u64,
}

impl RngKey {
    /// The root key of a run with this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self { high: 0x6273_7461_722d_7631, low: seed }.child("run")
    }

    /// The child named `stream`: one stream per purpose, so that adding a draw to one purpose never
    /// shifts another.
    #[must_use]
    pub fn child(self, stream: &str) -> Self {
        self.derive(b's', stream.as_bytes())
    }

    /// The child with number `index`.
    #[must_use]
    pub fn index(self, index: u64) -> Self {
        self.derive(b'i', &index.to_le_bytes())
    }

    /// A generator seeded with this key.
    pub fn rng(self) -> Rng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.high.to_le_bytes());
        seed[8..16].copy_from_slice(&self.low.to_le_bytes());
        Rng::from_seed(seed)
    }

    fn derive(self, kind: u8, name: &[u8]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(self.high, self.low);
        hasher.write(&[kind]);
        hasher.write(name);
        let hash = hasher.finish128();
        Self { high: hash.h1, low: hash.h2 }
    }
}

/// A float drawn uniformly from `[0, 1)` with 53 random bits.
pub fn uniform(rng: &mut Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// An integer drawn uniformly from `0..bound`.
///
/// # Panics
/// If `bound` is zero.
pub fn below(rng: &mut Rng, bound: usize) -> usize {
    assert!(bound > 0, "an empty range has no member to draw");
    let bound = bound as u64;
    // Values past the last whole multiple of `bound` would favour small results: draw again.
    let zone = u64::MAX - (u64::MAX % bound + 1) % bound;
    loop {
        let drawn = rng.next_u64();
        if drawn <= zone {
            return usize::try_from(drawn % bound).expect("less than a usize bound");
        }
    }
}

/// A standard normal draw (Box and Muller).
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// Shuffles in place (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn derived_keys_have_golden_values() {
        let key = RngKey::from_seed(1).child("sample").index(7);
        assert_eq!(
            format!("{key:?}"),
            "RngKey { high: 6454172356406638209, low: 2411601534649717 }"
        );
        assert_eq!(key.rng().next_u64(), 17_819_274_542_582_925_377);
    }

    #[test]
    fn keys_do_not_collide_on_a_grid() {
        let mut seen = BTreeSet::new();
        for seed in 0..4 {
            for stream in ["sample", "probe", "train"] {
                for index in 0..200 {
                    let key = RngKey::from_seed(seed).child(stream).index(index);
                    assert!(seen.insert((key.high, key.low)), "{seed} {stream} {index}");
                }
            }
        }
    }

    #[test]
    fn a_bounded_draw_is_uniform() {
        let mut rng = RngKey::from_seed(3).rng();
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[below(&mut rng, 7)] += 1;
        }
        // Five standard deviations of a binomial with n = 70,000 and p = 1/7.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 463), "{counts:?}");
    }

    #[test]
    fn normal_draws_have_unit_variance() {
        let mut rng = RngKey::from_seed(4).rng();
        let draws: Vec<f64> = (0..50_000).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / 50_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 50_000.0;
        assert!(mean.abs() < 0.025 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
