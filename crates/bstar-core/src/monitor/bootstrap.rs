//! Percentile bootstrap over queries, seeded (so that a table can be printed twice).

use crate::rng::{RngKey, below};

/// Resamples drawn for an interval.
const RESAMPLES: usize = 1000;

/// The 95 % interval of the mean of `values`, one value a query; `None` for fewer than two.
pub fn mean_interval(values: &[f64], key: RngKey) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let mut rng = key.rng();
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let draws = (0..values.len()).map(|_| values[below(&mut rng, values.len())]);
            draws.sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = RESAMPLES / 40;
    Some((means[tail], means[RESAMPLES - 1 - tail]))
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
}
