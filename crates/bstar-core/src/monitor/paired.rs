//! Two methods on the same queries from the same seeds: their difference, with an interval.
//!
//! Differences are taken query by query, so that what makes a query easy cancels. The interval is a
//! bootstrap of two levels: seeds are drawn with replacement, then queries within each, so that it
//! holds for other seeds and other queries alike.

use crate::rng::{RngKey, below};
use serde::Serialize;

/// Resamples drawn for an interval.
const RESAMPLES: usize = 2000;

/// A mean over seeds and queries with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over seeds of the mean over queries.
    pub mean: f64,
    /// Lower end of the interval; none for a single seed of a single query.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl Estimate {
    /// Whether the whole interval lies above 0 or below it.
    pub fn is_apart_from_zero(&self) -> bool {
        self.low.is_some_and(|low| low > 0.0) || self.high.is_some_and(|high| high < 0.0)
    }
}

/// The mean of one value a query, for each seed a list; `None` if a seed has no value.
pub fn estimate(values: &[Vec<f64>], key: RngKey) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(Vec::is_empty) {
        return None;
    }
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let means: Vec<f64> = values.iter().map(|list| mean(list)).collect();
    if values.iter().map(Vec::len).sum::<usize>() < 2 {
        return Some(Estimate { mean: mean(&means), low: None, high: None });
    }
    let mut rng = key.rng();
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let seeds = (0..values.len()).map(|_| {
                let list = &values[below(&mut rng, values.len())];
                let draws = (0..list.len()).map(|_| list[below(&mut rng, list.len())]);
                draws.sum::<f64>() / list.len() as f64
            });
            seeds.sum::<f64>() / values.len() as f64
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let tail = RESAMPLES / 40;
    let (low, high) = (resampled[tail], resampled[RESAMPLES - 1 - tail]);
    Some(Estimate { mean: mean(&means), low: Some(low), high: Some(high) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RngKey {
        RngKey::from_seed(1)
    }

    #[test]
    fn a_steady_difference_is_apart_from_zero_and_noise_is_not() {
        let steady: Vec<Vec<f64>> =
            (0..5).map(|_| (0..100).map(|i| f64::from(u8::from(i % 3 == 0))).collect()).collect();
        let found = estimate(&steady, key()).unwrap();
        assert!((found.mean - 0.34).abs() < 1e-12 && found.is_apart_from_zero(), "{found:?}");
        let noise: Vec<Vec<f64>> =
            (0..5).map(|_| (0..100).map(|i| f64::from(i % 2) - 0.5).collect()).collect();
        assert!(!estimate(&noise, key()).unwrap().is_apart_from_zero());
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval() {
        let of = |means: [f64; 4]| {
            let values: Vec<Vec<f64>> = means.iter().map(|mean| vec![*mean; 50]).collect();
            let found = estimate(&values, key()).unwrap();
            found.high.unwrap() - found.low.unwrap()
        };
        assert_eq!(of([0.1; 4]), 0.0);
        assert!(of([0.3, -0.1, 0.3, -0.1]) > 0.2);
    }

    #[test]
    fn what_has_no_values_has_no_estimate() {
        assert_eq!(estimate(&[], key()), None);
        assert_eq!(estimate(&[vec![1.0], vec![]], key()), None);
        assert_eq!(estimate(&[vec![1.0]], key()).unwrap().low, None);
    }
}
