//! Rank calibration: what a reward-model score means among the scores of its iteration.
//!
//! The raw scores of two reward models, or of one before and after it was trained again, have no
//! common unit, so the same threshold asks different things of them. Their ranks have one: a score
//! becomes `2 F - 1`, where F is the share of *reference scores* below it, ties counted half. Only the
//! order enters, so any strictly increasing change of all scores changes no reward, to the bit.
//!
//! The reference is one for an iteration: all responses of the probe that have a score, at every
//! temperature, or those of the draw where nothing is probed. Probe and draw are ranked in the same
//! reference, which is part of the decision and of its event.

use serde::{Deserialize, Serialize};

/// Scores that a reference keeps. A rank among so many is known to 1/512, well below the steps of
/// threshold grids, and events stay small.
const MOST: usize = 512;

/// The reference scores that others are ranked among.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Scores that it was taken from.
    pub responses: u64,
    /// Of these in ascending order: all, or as many as are kept, evenly spaced by rank.
    pub scores: Vec<f64>,
}

impl Calibration {
    /// The reference of these raw scores; those that are not finite are left out.
    pub fn of(scores: impl IntoIterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = scores.into_iter().filter(|score| score.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        let responses = all.len() as u64;
        if all.len() > MOST {
            // The middle of each of the equal parts that the ranks are cut into.
            let middle = |part: usize| all[(2 * part + 1) * all.len() / (2 * MOST)];
            all = (0..MOST).map(middle).collect();
        }
        Self { responses, scores: all }
    }

    /// A raw score as a number in [-1, 1]; 0 where there is nothing to rank it among.
    pub fn scaled(&self, raw: f64) -> f64 {
        if self.scores.is_empty() {
            return 0.0;
        }
        let below = self.scores.partition_point(|score| *score < raw);
        let not_above = self.scores.partition_point(|score| *score <= raw);
        // Twice F in units of one reference score.
        let twice = (below + not_above) as f64;
        twice / self.scores.len() as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_shares_below_with_ties_counted_half() {
        let reference = Calibration::of([3.0, -1.0, 3.0, f64::NAN, 7.0]);
        assert_eq!((reference.responses, reference.scores.len()), (4, 4));
        for (raw, share) in
            [(-2.0, 0.0), (-1.0, 0.125), (0.0, 0.25), (3.0, 0.5), (5.0, 0.75), (7.0, 0.875)]
        {
            assert_eq!(reference.scaled(raw), 2.0 * share - 1.0, "{raw}");
        }
        assert_eq!(reference.scaled(f64::INFINITY), 1.0);
        assert_eq!(Calibration::of([]).scaled(4.0), 0.0);
    }

    #[test]
    fn a_reference_of_many_keeps_their_ranks() {
        let of = |count: u32| (0..count).map(f64::from);
        for count in [511, 512, 513, 10_000] {
            let reference = Calibration::of(of(count));
            assert!(reference.scores.len() <= MOST);
            assert_eq!(reference.responses, u64::from(count));
            for raw in of(count) {
                let exact = 2.0 * (raw + 0.5) / f64::from(count) - 1.0;
                let error = (reference.scaled(raw) - exact).abs();
                assert!(error <= 2.0 / MOST as f64, "{raw} of {count}: off by {error}");
            }
        }
    }

    #[test]
    fn scores_that_are_alike_lie_in_the_middle() {
        assert_eq!(Calibration::of(vec![0.7; 3000]).scaled(0.7), 0.0);
    }

    #[test]
    fn the_reference_survives_its_event() {
        let reference = Calibration::of((0..2000_u32).map(|i| (f64::from(i) * 0.37).sin()));
        let json = serde_json::to_string(&reference).expect("JSON");
        assert_eq!(serde_json::from_str::<Calibration>(&json).expect("JSON"), reference);
    }
}
