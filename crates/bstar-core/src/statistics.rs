//! Estimates over seeds and queries, and paired comparisons of two methods.
//!
//! A *sample* holds one value for each query of one seed. Each seed gives one mean, and these means
//! are what varies: the estimate is their mean, its interval that of Student's t over the seeds.
//! Where every seed has its own queries, the means vary with the queries too and nothing is missing.
//! Where the seeds share their queries, what the choice of queries adds is estimated from the means
//! over seeds of each query and added to the variance; the interval is then a little too wide rather
//! than too narrow, since noise within a cell counts in both parts.
//!
//! Fewer than three seeds say next to nothing about other seeds: two that happen to agree would give no
//! width, two that do not an interval of 12.7 standard errors. So the interval is then over the queries
//! only, as for a single seed, and there is none where no query differs from another.
//!
//! Paired differences are estimated in the same way from the difference of each seed. Two sign-flip
//! tests go with them: over seeds ("would other seeds show it?", never below 2/2^seeds) and over
//! queries ("do these policies differ, on other queries?"); both are exact where few signs can be
//! flipped, and keyed draws otherwise.

use crate::rng::{Rng, RngKey};
use crate::rollout::QueryId;
use rand_core::Rng as _;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF as _, StudentsT};
use std::collections::BTreeMap;

/// One value for each query of a seed.
pub type Sample = BTreeMap<QueryId, f64>;

/// Fewer seeds than this tell nothing of how seeds vary.
pub const FEWEST_SEEDS: usize = 3;
/// Signs up to which every way to flip them is tried.
const MOST_EXACT: usize = 12;
/// Draws of a sign-flip test beyond that.
const DRAWS: u64 = 4999;
/// Statistics that differ by less are equal.
const EQUAL: f64 = 1e-12;

/// A mean over seeds and queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over seeds of the mean over queries.
    pub mean: f64,
    /// Lower end of the 95 % interval; none where the values do not say how they vary.
    pub low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub high: Option<f64>,
    /// Seeds with a value.
    pub seeds: usize,
    /// Values in all.
    pub values: usize,
}

/// A method minus the reference, seed by seed on the same queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairedDifference {
    /// The difference.
    pub difference: Estimate,
    /// Chance of a difference at least as large if seeds could swap the two; none for one seed.
    pub p_seeds: Option<f64>,
    /// Chance of a difference at least as large if queries could swap the two; none where the two
    /// have values for different queries.
    pub p_queries: Option<f64>,
}

/// The mean over `samples`, one a seed. `shared_queries` says that all seeds have the same queries.
/// None where no seed has a value.
pub fn estimate(samples: &[&Sample], shared_queries: bool) -> Option<Estimate> {
    let means: Vec<f64> = samples.iter().filter_map(|sample| mean(sample.values())).collect();
    let (center, half_width) = interval(&means, shared_queries, samples)?;
    Some(Estimate {
        mean: center,
        low: half_width.map(|half| center - half),
        high: half_width.map(|half| center + half),
        seeds: means.len(),
        values: samples.iter().map(|sample| sample.len()).sum(),
    })
}

/// `method` minus `reference`: pairs of samples, one a seed.
pub fn paired(
    pairs: &[(&Sample, &Sample)],
    shared_queries: bool,
    key: RngKey,
) -> Option<PairedDifference> {
    let pairs: Vec<(&Sample, &Sample)> =
        pairs.iter().copied().filter(|(a, b)| !a.is_empty() && !b.is_empty()).collect();
    let of_seed = |(a, b): &(&Sample, &Sample)| Some(mean(a.values())? - mean(b.values())?);
    let means: Vec<f64> = pairs.iter().filter_map(of_seed).collect();
    let differences: Vec<Sample> = pairs.iter().map(|(a, b)| difference(a, b)).collect();
    let differences: Vec<&Sample> = differences.iter().collect();
    let (center, half_width) = interval(&means, shared_queries, &differences)?;
    let same_queries = pairs.iter().all(|(a, b)| a.keys().eq(b.keys()));
    let units = if shared_queries { by_query(&differences) } else { scaled(&differences) };
    Some(PairedDifference {
        difference: Estimate {
            mean: center,
            low: half_width.map(|half| center - half),
            high: half_width.map(|half| center + half),
            seeds: means.len(),
            values: differences.iter().map(|sample| sample.len()).sum(),
        },
        p_seeds: (means.len() > 1).then(|| sign_flip(&means, key.child("seeds"))),
        p_queries: same_queries.then(|| sign_flip(&units, key.child("queries"))),
    })
}

/// Centre and half width of the interval of seed means.
fn interval(
    means: &[f64],
    shared_queries: bool,
    samples: &[&Sample],
) -> Option<(f64, Option<f64>)> {
    let center = mean(means.iter())?;
    if means.len() < FEWEST_SEEDS {
        let width = half_width(&over_queries(samples, shared_queries));
        return Some((center, width.filter(|width| *width > 0.0)));
    }
    let mut parts: Vec<(f64, f64)> = variance_of_mean(means).into_iter().collect();
    if shared_queries {
        parts.extend(variance_of_mean(&by_query(samples)));
    }
    Some((center, half_width(&parts)))
}

/// What queries alone add to the variance of the mean over seeds: shared by all of them, or each seed's
/// own. Nothing where a seed has one query only.
fn over_queries(samples: &[&Sample], shared_queries: bool) -> Vec<(f64, f64)> {
    if shared_queries {
        return variance_of_mean(&by_query(samples)).into_iter().collect();
    }
    let samples: Vec<_> = samples.iter().filter(|sample| !sample.is_empty()).collect();
    let scale = (samples.len() as f64).powi(2);
    let of_seed = |sample: &&&Sample| {
        let values: Vec<f64> = sample.values().copied().collect();
        variance_of_mean(&values).map(|(variance, freedom)| (variance / scale, freedom))
    };
    samples.iter().map(of_seed).collect::<Option<_>>().unwrap_or_default()
}

/// Half of a 95 % interval from parts of a variance, each with its degrees of freedom, which are
/// joined as Welch and Satterthwaite do.
fn half_width(parts: &[(f64, f64)]) -> Option<f64> {
    let variance: f64 = parts.iter().map(|(variance, _)| variance).sum();
    if parts.is_empty() {
        return None;
    }
    let scatter: f64 = parts.iter().map(|(variance, freedom)| variance.powi(2) / freedom).sum();
    if scatter <= 0.0 {
        return Some(0.0);
    }
    let student = StudentsT::new(0.0, 1.0, variance.powi(2) / scatter).ok()?;
    Some(student.inverse_cdf(0.975) * variance.sqrt())
}

/// Variance of the mean of some values, with its degrees of freedom; none for fewer than two.
fn variance_of_mean(values: &[f64]) -> Option<(f64, f64)> {
    let count = values.len() as f64;
    if count < 2.0 {
        return None;
    }
    let center = mean(values.iter())?;
    let sum: f64 = values.iter().map(|value| (value - center).powi(2)).sum();
    Some((sum / (count - 1.0) / count, count - 1.0))
}

/// The mean over seeds of each query.
fn by_query(samples: &[&Sample]) -> Vec<f64> {
    let mut sums: BTreeMap<&QueryId, (f64, f64)> = BTreeMap::new();
    for (id, value) in samples.iter().flat_map(|sample| sample.iter()) {
        let sum = sums.entry(id).or_default();
        *sum = (sum.0 + value, sum.1 + 1.0);
    }
    sums.into_values().map(|(sum, count)| sum / count).collect()
}

/// Every value, weighted so that seeds count alike.
fn scaled(samples: &[&Sample]) -> Vec<f64> {
    let of_seed = |sample: &&Sample| -> Vec<f64> {
        let count = sample.len() as f64;
        sample.values().map(|value| value / count).collect()
    };
    samples.iter().flat_map(of_seed).collect()
}

/// Query by query, where both have a value.
fn difference(a: &Sample, b: &Sample) -> Sample {
    let both = a.iter().filter_map(|(id, value)| Some((id.clone(), value - b.get(id)?)));
    both.collect()
}

/// Two-sided sign-flip test of a sum of independent differences that are symmetric around zero if
/// there is no effect.
fn sign_flip(units: &[f64], key: RngKey) -> f64 {
    let units: Vec<f64> = units.iter().copied().filter(|unit| unit.abs() > EQUAL).collect();
    let observed = units.iter().sum::<f64>().abs();
    let as_large = |sum: f64| sum.abs() >= observed - EQUAL;
    let flipped = |mut signs: u64| {
        let mut sum = 0.0;
        for unit in &units {
            sum += if signs & 1 == 1 { -unit } else { *unit };
            signs >>= 1;
        }
        sum
    };
    if units.len() <= MOST_EXACT {
        let ways = 1_u64 << units.len();
        let hits = (0..ways).filter(|signs| as_large(flipped(*signs))).count();
        return hits as f64 / ways as f64;
    }
    let mut rng = key.rng();
    let hits = (0..DRAWS).filter(|_| as_large(drawn(&units, &mut rng))).count();
    (1 + hits) as f64 / (1 + DRAWS) as f64
}

/// A sum with random signs.
fn drawn(units: &[f64], rng: &mut Rng) -> f64 {
    let mut sum = 0.0;
    for units in units.chunks(64) {
        let mut signs = rng.next_u64();
        for unit in units {
            sum += if signs & 1 == 1 { -unit } else { *unit };
            signs >>= 1;
        }
    }
    sum
}

fn mean<'a>(values: impl Iterator<Item = &'a f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{normal, uniform};

    fn sample(values: &[f64]) -> Sample {
        let id = |place: usize| QueryId::from(format!("q{place:03}"));
        values.iter().enumerate().map(|(place, value)| (id(place), *value)).collect()
    }

    #[test]
    fn three_seeds_have_the_interval_of_student() {
        let samples = [sample(&[0.0, 0.2]), sample(&[0.1, 0.3]), sample(&[0.5, 0.1])];
        let samples: Vec<&Sample> = samples.iter().collect();
        let found = estimate(&samples, false).expect("values");
        // Means .1 .2 .3: s = .1, t(2 degrees) = 4.302653, half width 4.302653 × .1 / √3.
        assert!((found.mean - 0.2).abs() < 1e-12);
        assert!((found.high.unwrap() - 0.2 - 0.248_413_8).abs() < 1e-6, "{found:?}");
        assert_eq!((found.seeds, found.values), (3, 6));
    }

    #[test]
    fn one_seed_speaks_for_its_queries_only() {
        let one = sample(&[1.0, 0.0, 1.0, 0.0]);
        let found = estimate(&[&one], false).expect("values");
        // s² = 1/3, t(3) = 3.182446: half width 3.182446 × √(1/12).
        assert!((found.high.unwrap() - 0.5 - 0.918_693).abs() < 1e-5, "{found:?}");
        assert!(paired(&[(&one, &one)], false, RngKey::from_seed(1)).unwrap().p_seeds.is_none());
        assert_eq!(estimate(&[&sample(&[0.4])], false).unwrap().low, None);
        assert_eq!(estimate(&[&Sample::new()], false), None);
    }

    #[test]
    fn two_seeds_speak_for_their_queries_only_too() {
        let half = |estimate: Estimate| estimate.high.map(|high| high - estimate.mean);
        // Two seeds that agree: by the seeds nothing would vary.
        let (a, b) = (sample(&[1.0, 0.0, 1.0, 0.0]), sample(&[0.0, 1.0, 0.0, 1.0]));
        // Each mean has variance 1/12 and 3 degrees: √(1/24) with 6 degrees, t(6) = 2.446912.
        let found = half(estimate(&[&a, &b], false).unwrap()).expect("an interval");
        assert!((found - 0.499_474).abs() < 1e-5, "{found}");
        // The same queries in both: their means are all one half, which says nothing.
        assert_eq!(half(estimate(&[&a, &b], true).unwrap()), None);
        // Two seeds far apart: by the seeds the interval would be ±3.2.
        let (low, high) = (sample(&[0.0, 0.0, 0.0, 1.0]), sample(&[1.0, 1.0, 0.0, 1.0]));
        let found = half(estimate(&[&low, &high], true).unwrap()).expect("an interval");
        assert!((found - 0.649_614).abs() < 1e-5, "{found}");
        // Seeds with one value each have no queries to vary.
        assert_eq!(half(estimate(&[&sample(&[0.4]), &sample(&[0.6])], false).unwrap()), None);
        let paired = paired(&[(&a, &low), (&a, &low)], false, RngKey::from_seed(1)).unwrap();
        assert_eq!((paired.difference.mean, paired.p_seeds), (0.25, Some(0.5)));
        let found = half(paired.difference).expect("an interval");
        // Differences 1, 0, 1, -1: s² = 11/12, so √(11/96) with 6 degrees.
        assert!((found - 0.828_285).abs() < 1e-5, "{found}");
    }

    #[test]
    fn the_sign_flip_test_is_exact_where_few_signs_can_flip() {
        let key = RngKey::from_seed(1);
        // All five seeds agree: only all signs as they are, or all flipped, reach the sum.
        assert_eq!(sign_flip(&[0.1, 0.2, 0.1, 0.3, 0.1], key), 2.0 / 32.0);
        assert_eq!(sign_flip(&[0.1, -0.1], key), 1.0);
        assert_eq!(sign_flip(&[0.0, 0.0], key), 1.0);
        // 3, -1: sums 2, 4, -4, -2; all are at least as large as 2.
        assert_eq!(sign_flip(&[3.0, -1.0], key), 1.0);
        assert_eq!(sign_flip(&[3.0, 1.0], key), 0.5);
    }

    #[test]
    fn many_signs_are_drawn_and_give_about_the_binomial_chance() {
        // 60 of 100 the same way: two-sided sign test, p = 0.0569.
        let units: Vec<f64> = (0..100).map(|i| if i < 60 { 1.0 } else { -1.0 }).collect();
        let found = sign_flip(&units, RngKey::from_seed(2));
        assert!((found - 0.0569).abs() < 0.012, "{found}");
        assert_eq!(found, sign_flip(&units, RngKey::from_seed(2)));
    }

    /// How often an interval holds the truth, over worlds with effects of seeds, queries and cells.
    fn coverage(seeds: usize, shared: bool) -> f64 {
        let (worlds, queries) = (600, 30);
        let mut hits = 0;
        for world in 0..worlds {
            let mut rng = RngKey::from_seed(7).index(world).rng();
            let mut column =
                || -> Vec<f64> { (0..queries).map(|_| 0.5 * normal(&mut rng)).collect() };
            let first = column();
            let columns: Vec<Vec<f64>> =
                (0..seeds).map(|_| if shared { first.clone() } else { column() }).collect();
            let samples: Vec<Sample> = columns
                .iter()
                .map(|column| {
                    let shift = 0.1 * normal(&mut rng);
                    let cells = column.iter().map(|query| query + shift + uniform(&mut rng) - 0.5);
                    sample(&cells.collect::<Vec<f64>>())
                })
                .collect();
            let found = estimate(&samples.iter().collect::<Vec<_>>(), shared).expect("values");
            hits += u32::from(found.low.unwrap() <= 0.0 && 0.0 <= found.high.unwrap());
        }
        f64::from(hits) / worlds as f64
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        // Four standard deviations of a share of 600 at .95 are .036.
        for (seeds, shared) in [(3, false), (5, false), (3, true), (5, true)] {
            let found = coverage(seeds, shared);
            assert!(found >= 0.914, "{seeds} seeds, shared {shared}: {found}");
            assert!(shared || found <= 0.986, "{seeds} seeds: {found}");
        }
    }

    #[test]
    fn a_paired_difference_is_taken_seed_by_seed() {
        let (a, b) = (sample(&[1.0, 1.0, 0.0, 1.0]), sample(&[1.0, 0.0, 0.0, 0.0]));
        let (c, d) = (sample(&[1.0, 0.0, 1.0, 1.0]), sample(&[0.0, 0.0, 1.0, 0.0]));
        let found = paired(&[(&a, &b), (&c, &d)], false, RngKey::from_seed(1)).expect("values");
        assert_eq!(found.difference.mean, 0.5);
        // Both seeds say one half; their queries vary: √(1/24) with 6 degrees.
        assert!((found.difference.low.unwrap() - 0.000_526).abs() < 1e-5, "{found:?}");
        assert_eq!((found.p_seeds, found.p_queries), (Some(0.5), Some(2.0 / 16.0)));
        let fewer = sample(&[1.0, 1.0]);
        let found = paired(&[(&fewer, &b)], false, RngKey::from_seed(1)).expect("values");
        assert_eq!((found.difference.mean, found.p_queries), (0.75, None));
    }
}
