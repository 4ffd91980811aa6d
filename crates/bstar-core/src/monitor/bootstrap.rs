//! Percentile bootstrap over queries, seeded (so that a table can be printed twice).

use crate::rng::{Rng, RngKey};
use rand_core::Rng as _;

/// Resamples drawn for an interval.
const RESAMPLES: usize = 1000;

/// The 95 % interval of the mean of `values`, one value a query; `None` for fewer than two.
pub fn mean_interval(values: &[f64], key: RngKey) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let mut rng = key.rng();
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resampled_mean(values, &mut rng)).collect();
    means.sort_by(f64::total_cmp);
    let tail = RESAMPLES / 40;
    Some((means[tail], means[RESAMPLES - 1 - tail]))
}

/// The mean of as many values drawn with replacement.
///
/// Each half of a random number draws one, by its share of 2³²: no division, and no value is drawn
/// more often than another by more than n / 2³².
fn resampled_mean(values: &[f64], rng: &mut Rng) -> f64 {
    let count = values.len() as u64;
    let mut sum = 0.0;
    for pair in 0..values.len().div_ceil(2) {
        let drawn = rng.next_u64();
        let halves = [drawn >> 32, drawn & u64::from(u32::MAX)];
        for half in &halves[..(values.len() - 2 * pair).min(2)] {
            // Below `count`, so it is a place.
            sum += values[((half * count) >> 32) as usize];
        }
    }
    sum / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_fair_coin_is_about_two_standard_errors_wide() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let (low, high) = mean_interval(&values, RngKey::from_seed(1)).expect("many values");
        assert!((low - 0.451).abs() < 0.01 && (high - 0.549).abs() < 0.01, "{low} {high}");
        assert_eq!(mean_interval(&values, RngKey::from_seed(1)), Some((low, high)));
    }

    #[test]
    fn one_value_has_no_interval() {
        assert_eq!(mean_interval(&[0.5], RngKey::from_seed(1)), None);
    }

    #[test]
    fn every_value_is_drawn_equally_often() {
        // Seven values, so that half a random number is left over; the mean counts the one that is 7.
        for place in 0..7 {
            let (mut values, mut rng) = ([0.0; 7], RngKey::from_seed(3).rng());
            values[place] = 7.0;
            let drawn: f64 = (0..10_000).map(|_| resampled_mean(&values, &mut rng)).sum();
            assert!((9_600.0..10_400.0).contains(&drawn), "{place}: {drawn}");
        }
    }
}
