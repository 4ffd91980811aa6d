//! Which examples each optimizer step sees: shuffled passes over the pool, without replacement.

use crate::rng::{RngKey, shuffle};

/// Indices of the examples of each step. Passes follow one another without a gap: a batch may end
/// one pass and begin the next, so every step has exactly `batch_size` examples, and over any number
/// of steps the counts of two examples differ by at most one (two across a pass boundary).
///
/// # Panics
/// If there is nothing to draw from.
pub fn batches(examples: usize, batch_size: usize, steps: usize, key: RngKey) -> Vec<Vec<usize>> {
    assert!(examples > 0 && batch_size > 0, "{examples} examples in batches of {batch_size}");
    let mut stream = (0..).flat_map(|pass| {
        let mut order: Vec<usize> = (0..examples).collect();
        shuffle(&mut order, &mut key.index(pass).rng());
        order
    });
    (0..steps).map(|_| stream.by_ref().take(batch_size).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_sees_every_example_once() {
        let steps = batches(12, 4, 3, RngKey::from_seed(1));
        let mut seen: Vec<usize> = steps.concat();
        assert_ne!(seen, (0..12).collect::<Vec<_>>(), "not shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_pool_smaller_than_a_batch_fills_it_by_passing_again() {
        let steps = batches(3, 7, 2, RngKey::from_seed(1));
        assert!(steps.iter().all(|step| step.len() == 7));
        for example in 0..3 {
            let count = steps.concat().iter().filter(|i| **i == example).count();
            assert!((4..=5).contains(&count), "{example} seen {count} times");
        }
    }
}
