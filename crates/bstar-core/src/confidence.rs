//! How sure the choice of a configuration is: a paired bootstrap over the probe queries.
//!
//! Every cell of the surface is the mean of one balance score per query, and all cells share their
//! queries. So differences between cells are taken query by query, which removes what makes a query
//! hard for every cell, and a resample draws queries with all their cells. Caps are taken as found.
//!
//! Where queries without a selection are skipped, each cell is a mean over queries of its own. The
//! difference of two cells is then that of their means, as it is of the scores that are compared, and a
//! query counts by how much it moves that difference (the influence of a query on a ratio of sums): one
//! that only one of the cells counts moves it too.
//!
//! Nothing here decides; [`crate::controller`] asks [`Scores::difference`] for its hysteresis.

use crate::balance::{BalanceRule, Cell, EmptyQueries, RankedPool};
use crate::controller::{Configuration, TIE};
use crate::knobs::Sampling;
use crate::rng::{RngKey, below};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Resamples drawn for intervals and chances.
const RESAMPLES: usize = 1000;
/// Columns that are resampled together, so that they stay in a cache near the processor.
const COLUMNS_AT_ONCE: usize = 64;
/// A way to sample that holds the best cell in this share of the resamples counts as told from the others,
/// though its gain over the strongest of them, which asks for 1.96 standard errors, may be smaller.
const SURE: f64 = 0.95;
/// Standard errors that a difference must exceed to count as decided (two-sided 95 %).
const DECIDED: f64 = 1.96;

/// How well a cell's balance score is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellConfidence {
    /// Standard error over the probe queries.
    pub standard_error: f64,
    /// Lower end of the 95 % bootstrap interval.
    pub low: f64,
    /// Upper end of the 95 % bootstrap interval.
    pub high: f64,
}

/// How often a way to sample holds the best cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemperatureChance {
    /// The temperature.
    pub temperature: f64,
    /// Top-p, where it is a knob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Share of the resamples in which one of its cells is the best; ties are shared out.
    pub chance: f64,
}

/// Two cells compared query by query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The cell that the other one is compared with.
    pub configuration: Configuration,
    /// Mean balance score of the better cell minus that of `configuration`.
    pub gain: f64,
    /// Standard error of the gain.
    pub standard_error: f64,
    /// Probe queries that would have to be added until the gain exceeds 1.96 standard errors, if it
    /// stays as it is; 0 if it does already, none for a tie.
    pub more_queries: Option<u64>,
}

/// What is known of the surface beside its means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Probe queries.
    pub queries: usize,
    /// One for each cell of the grid, in its order.
    pub cells: Vec<CellConfidence>,
    /// One for each way to sample in the grid, in its order.
    pub temperatures: Vec<TemperatureChance>,
    /// The best cell against the best cell of any other way to sample, of the same k.
    pub rival: Option<Difference>,
}

impl Confidence {
    /// The chance of the best way to sample; none where there is one alone.
    pub fn best_chance(&self) -> Option<f64> {
        let chances = self.temperatures.iter().map(|way| way.chance);
        chances.reduce(f64::max).filter(|_| self.temperatures.len() > 1)
    }

    /// The same, if it is enough to be sure of that way.
    pub fn sure_chance(&self) -> Option<f64> {
        self.best_chance().filter(|chance| *chance >= SURE)
    }
}

/// One balance score per query and cell. Neighbouring thresholds often select the same: their cells
/// share a column.
#[derive(Clone, Debug)]
pub struct Scores {
    queries: usize,
    /// For each cell, its column.
    column: Vec<usize>,
    /// `[column][query]`; NaN where the query is left out of the mean.
    values: Vec<Vec<f64>>,
    skips: bool,
}

impl Scores {
    /// The scores of a grid that was made from these pools, thresholds changing fastest.
    pub fn of(ranked: &[RankedPool], grid: &[Cell], rule: &BalanceRule) -> Self {
        let queries = ranked.first().map_or(0, |pool| pool.rankings.len());
        let mut scores = Self {
            queries,
            column: Vec::with_capacity(grid.len()),
            values: Vec::new(),
            skips: rule.empty_queries == EmptyQueries::Skip,
        };
        let per_pool = grid.len() / ranked.len().max(1);
        for (pool, cells) in ranked.iter().zip(grid.chunks(per_pool.max(1))) {
            let first = scores.values.len();
            for cell in cells {
                let column = pool.query_scores(cell, rule);
                let known = scores.values.len() > first
                    && scores.values.last().is_some_and(|last| same(last, &column));
                if !known {
                    scores.values.push(column);
                }
                scores.column.push(scores.values.len() - 1);
            }
        }
        scores
    }

    /// Cell `better` of the grid against cell `other`, query by query.
    pub fn difference(&self, grid: &[Cell], better: usize, other: usize) -> Difference {
        let [better, of_other] = [better, other].map(|cell| self.influences(cell));
        let gains: Vec<f64> = better.iter().zip(of_other.iter()).map(|(a, b)| a - b).collect();
        let (gain, deviation) = mean_and_deviation(&gains);
        let queries = gains.len().max(1) as f64;
        let wanted = (DECIDED * deviation / gain).powi(2).ceil();
        Difference {
            configuration: grid[other].configuration(),
            gain,
            standard_error: deviation / queries.sqrt(),
            more_queries: (gain.abs() > TIE).then(|| count(wanted - queries)),
        }
    }

    /// For each query, in the order of the probe set, what its score of a cell stands for in the cell's
    /// mean: the score itself, unless queries are skipped; then the mean, moved by as much as the query
    /// moves it. Their mean is the cell's balance score.
    fn influences(&self, cell: usize) -> Cow<'_, [f64]> {
        let values = &self.values[self.column[cell]];
        let counted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        if counted.len() == values.len() {
            return Cow::Borrowed(values);
        }
        let (mean, _) = mean_and_deviation(&counted);
        let weight = values.len() as f64 / counted.len().max(1) as f64;
        let influence =
            |value: &f64| if value.is_nan() { mean } else { mean + weight * (value - mean) };
        Cow::Owned(values.iter().map(influence).collect())
    }

    /// How much cell `better` of the grid leads cell `other`; the configuration is that of the
    /// better one.
    pub fn lead(&self, grid: &[Cell], better: usize, other: usize) -> Difference {
        let configuration = grid[better].configuration();
        Difference { configuration, ..self.difference(grid, better, other) }
    }

    /// Intervals, chances and the strongest rival of cell `best`.
    pub fn confidence(&self, grid: &[Cell], best: Option<usize>, key: RngKey) -> Confidence {
        let means = self.resampled_means(key);
        let of_column: Vec<CellConfidence> =
            self.values.iter().zip(&means).map(|(scores, means)| interval(scores, means)).collect();
        Confidence {
            queries: self.queries,
            cells: self.column.iter().map(|&column| of_column[column]).collect(),
            temperatures: self.chances(grid, &means),
            rival: best
                .and_then(|best| Some(self.difference(grid, best, strongest_rival(grid, best)?))),
        }
    }

    /// `[column][resample]`: the mean of each column in each resample of the queries.
    fn resampled_means(&self, key: RngKey) -> Vec<Vec<f64>> {
        let mut rng = key.rng();
        let weights: Vec<Vec<(usize, f64)>> = (0..RESAMPLES)
            .map(|_| {
                let mut counts = vec![0_u32; self.queries];
                for _ in 0..self.queries {
                    counts[below(&mut rng, self.queries)] += 1;
                }
                let drawn = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
                drawn.map(|(query, count)| (query, f64::from(count))).collect()
            })
            .collect();
        let mut means = Vec::with_capacity(self.values.len());
        for block in self.values.chunks(COLUMNS_AT_ONCE) {
            means.extend(self.block_means(block, &weights));
        }
        means
    }

    fn block_means(&self, block: &[Vec<f64>], weights: &[Vec<(usize, f64)>]) -> Vec<Vec<f64>> {
        let width = block.len();
        // Query by query, so that a resample adds rows of neighbouring numbers.
        let (mut scores, mut counted) = (vec![0.0; width * self.queries], Vec::new());
        if self.skips {
            counted = vec![0.0; width * self.queries];
        }
        for (column, values) in block.iter().enumerate() {
            for (query, value) in values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                scores[query * width + column] = *value;
                if self.skips {
                    counted[query * width + column] = 1.0;
                }
            }
        }
        let mut means = vec![Vec::with_capacity(weights.len()); width];
        for drawn in weights {
            let sums = weighted_sums(&scores, width, drawn);
            let totals = self.skips.then(|| weighted_sums(&counted, width, drawn));
            for (column, sum) in sums.into_iter().enumerate() {
                let total = totals.as_ref().map_or(self.queries as f64, |totals| totals[column]);
                means[column].push(if total > 0.0 { sum / total } else { 0.0 });
            }
        }
        means
    }

    fn chances(&self, grid: &[Cell], means: &[Vec<f64>]) -> Vec<TemperatureChance> {
        let mut temperatures: Vec<(Sampling, Vec<usize>)> = Vec::new();
        for (cell, &column) in grid.iter().zip(&self.column) {
            match temperatures.iter_mut().find(|(known, _)| *known == cell.sampling()) {
                Some((_, columns)) => {
                    if columns.last() != Some(&column) {
                        columns.push(column);
                    }
                }
                None => temperatures.push((cell.sampling(), vec![column])),
            }
        }
        let mut wins = vec![0.0; temperatures.len()];
        let best_of = |(_, columns): &(Sampling, Vec<usize>), resample: usize| {
            columns.iter().map(|&column| means[column][resample]).fold(0.0, f64::max)
        };
        let resamples = (0..RESAMPLES).map(|resample| {
            temperatures.iter().map(|of| best_of(of, resample)).collect::<Vec<f64>>()
        });
        for best in resamples {
            let highest = best.iter().copied().fold(0.0, f64::max);
            let tied = best.iter().filter(|score| **score >= highest - TIE).count() as f64;
            for (wins, score) in wins.iter_mut().zip(&best) {
                *wins += if *score >= highest - TIE { 1.0 / tied } else { 0.0 };
            }
        }
        let shares = temperatures.iter().zip(wins);
        shares
            .map(|((sampling, _), wins)| TemperatureChance {
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                chance: wins / RESAMPLES as f64,
            })
            .collect()
    }
}

/// The best cell that is sampled in another way than cell `best`; of the same k, because another k
/// has another price.
fn strongest_rival(grid: &[Cell], best: usize) -> Option<usize> {
    let elsewhere = |cell: &usize| {
        let (cell, best) = (&grid[*cell], &grid[best]);
        cell.sampling() != best.sampling() && cell.knobs.samples == best.knobs.samples
    };
    let better = |a: usize, b: usize| grid[b].balance_score > grid[a].balance_score;
    (0..grid.len()).filter(elsewhere).reduce(|a, b| if better(a, b) { b } else { a })
}

fn weighted_sums(rows: &[f64], width: usize, drawn: &[(usize, f64)]) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for &(query, weight) in drawn {
        for (sum, value) in sums.iter_mut().zip(&rows[query * width..(query + 1) * width]) {
            *sum += weight * value;
        }
    }
    sums
}

fn interval(scores: &[f64], means: &[f64]) -> CellConfidence {
    let counted: Vec<f64> = scores.iter().copied().filter(|score| !score.is_nan()).collect();
    let (_, deviation) = mean_and_deviation(&counted);
    let mut sorted = means.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tail = RESAMPLES / 40;
    CellConfidence {
        standard_error: deviation / (counted.len().max(1) as f64).sqrt(),
        low: sorted[tail],
        high: sorted[RESAMPLES - 1 - tail],
    }
}

/// Mean and sample standard deviation; the deviation of fewer than two values is 0.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}

fn same(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A count out of a float that may be negative or huge.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
fn count(value: f64) -> u64 {
    value.clamp(0.0, 1e15) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::CapRule;
    use crate::pool::{Pool, ScoredResponse};
    use crate::preset::Preset;
    use crate::reward::RewardKind;
    use crate::rollout::Verdict;

    const RULE: BalanceRule =
        BalanceRule { target_count: 4, cap: CapRule::Uncapped, empty_queries: EmptyQueries::Zero };

    /// A pool whose query q has `correct(q)` distinct correct responses.
    fn pool(temperature: f64, queries: u32, correct: impl Fn(u32) -> u32) -> Pool {
        let group = |query| {
            (0..correct(query))
                .map(|i| ScoredResponse::new(i, &format!("{i}"), Verdict::Correct, None))
                .collect()
        };
        Pool { temperature, top_p: None, groups: (0..queries).map(group).collect() }
    }

    fn scored(pools: &[Pool], thresholds: &[f64], rule: &BalanceRule) -> (Vec<Cell>, Scores) {
        let ranking = Preset::Recommended.values().ranking(RewardKind::Answer);
        let ranked: Vec<RankedPool> =
            pools.iter().map(|pool| RankedPool::new(pool, &[], &ranking)).collect();
        let cells = ranked.iter().flat_map(|pool| thresholds.iter().map(|t| pool.cell(*t, rule)));
        let grid: Vec<Cell> = cells.collect();
        let scores = Scores::of(&ranked, &grid, rule);
        (grid, scores)
    }

    #[test]
    fn a_paired_difference_is_surer_than_its_two_cells() {
        let pools = [pool(0.5, 100, |q| q % 4), pool(1.0, 100, |q| q % 4 + u32::from(q % 8 == 0))];
        let (grid, scores) = scored(&pools, &[-0.5, 0.0, 0.5, 1.0], &RULE);
        assert_eq!(scores.values.len(), 4, "thresholds that select the same share a column");
        let confidence = scores.confidence(&grid, Some(4), RngKey::from_seed(1));
        let rival = confidence.rival.expect("two temperatures");
        assert_eq!(rival.configuration, Configuration::new(0.5, -0.5));
        assert!((rival.gain - 0.13 * 0.25).abs() < 1e-12, "{rival:?}");
        assert!(rival.standard_error < confidence.cells[0].standard_error / 2.0, "{rival:?}");
        assert_eq!(rival.more_queries, Some(0));
        let [cold, hot] = confidence.temperatures[..] else { panic!("two temperatures") };
        assert!(hot.chance > 0.99 && (cold.chance + hot.chance - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_interval_is_about_two_standard_errors_wide() {
        let (grid, scores) = scored(&[pool(1.0, 400, |q| q % 5)], &[0.0], &RULE);
        let confidence = scores.confidence(&grid, Some(0), RngKey::from_seed(1));
        let cell = confidence.cells[0];
        // Scores 0, 1/4, 1/2, 3/4, 1: deviation √(1/8).
        assert!((cell.standard_error - (0.125_f64 / 400.0).sqrt()).abs() < 1e-4, "{cell:?}");
        let half = (cell.high - cell.low) / 2.0;
        assert!((half / cell.standard_error - DECIDED).abs() < 0.15, "{cell:?}");
        assert_eq!(confidence.rival, None);
        assert_eq!(scores.confidence(&grid, Some(0), RngKey::from_seed(1)), confidence);
    }

    #[test]
    fn noise_needs_more_queries_and_a_tie_is_never_decided() {
        let noisy =
            [pool(0.5, 64, |q| q % 4), pool(1.0, 64, |q| (q / 2 + 1) % 4 + u32::from(q == 5))];
        let (grid, scores) = scored(&noisy, &[0.0], &RULE);
        let rival = scores.confidence(&grid, Some(1), RngKey::from_seed(1)).rival.expect("two");
        assert!(rival.gain > 0.0 && rival.gain < rival.standard_error);
        assert!(rival.more_queries.is_some_and(|more| more > 1000), "{rival:?}");
        let tied = [pool(0.5, 64, |q| q % 4), pool(1.0, 64, |q| q % 4)];
        let (grid, scores) = scored(&tied, &[0.0], &RULE);
        let confidence = scores.confidence(&grid, Some(0), RngKey::from_seed(1));
        assert_eq!(confidence.rival.expect("two").more_queries, None);
        assert!(confidence.temperatures.iter().all(|t| (t.chance - 0.5).abs() < 1e-9));
    }

    #[test]
    fn queries_that_are_left_out_count_in_no_resample() {
        let rule = BalanceRule { empty_queries: EmptyQueries::Skip, ..RULE };
        let (grid, scores) = scored(&[pool(1.0, 50, |q| 4 * (q % 2))], &[0.0], &rule);
        let confidence = scores.confidence(&grid, Some(0), RngKey::from_seed(1));
        assert_eq!(grid[0].balance_score, 1.0);
        let certain = CellConfidence { standard_error: 0.0, low: 1.0, high: 1.0 };
        assert_eq!(confidence.cells, [certain]);
    }

    #[test]
    fn a_difference_of_cells_with_other_queries_is_that_of_their_scores() {
        let rule = BalanceRule { empty_queries: EmptyQueries::Skip, ..RULE };
        // The cold pool answers every third query only, and there as the hot one does.
        let hot = |q| if q % 3 == 1 { 1 } else { 1 + q % 4 };
        let pools = [pool(0.5, 300, |q| if q % 3 == 0 { hot(q) } else { 0 }), pool(1.0, 300, hot)];
        let (grid, scores) = scored(&pools, &[0.0], &rule);
        let found = scores.difference(&grid, 0, 1);
        let gain = grid[0].balance_score - grid[1].balance_score;
        assert!(gain > 0.05, "the cold pool is better on its own queries: {gain}");
        assert!((found.gain - gain).abs() < 1e-12, "{found:?}");
        // The bootstrap draws queries with both cells; it agrees on the spread of the difference.
        let means = scores.resampled_means(RngKey::from_seed(1));
        let resampled: Vec<f64> = means[0].iter().zip(&means[1]).map(|(a, b)| a - b).collect();
        let (_, deviation) = mean_and_deviation(&resampled);
        assert!((found.standard_error / deviation - 1.0).abs() < 0.1, "{found:?} {deviation}");
    }
}
