//! The balance score (paper eq. 3; spec §1.3) over a grid of configurations.
//!
//! `bs = min(n'/n*, 1) · n'/n` for one query, where n responses are selected, n' of them are unique
//! and correct, and n* is the target count; 0 when nothing is selected. It rewards a quota of
//! distinct correct responses (exploration) and a clean selection (exploitation) at once.

use crate::controller::Configuration;
use crate::knobs::{Knobs, Sampling};
use crate::pool::Pool;
use crate::ranking::{Ranking, RankingRule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Balance score of one query: n selected, n' unique correct among them, target count n*.
pub fn balance_score(selected: u32, correct: u32, target_count: u32) -> f64 {
    assert!(correct <= selected, "{correct} unique correct among {selected} selected");
    assert!(target_count > 0, "a target count of zero leaves the balance score undefined");
    if selected == 0 {
        return 0.0;
    }
    let correct = f64::from(correct);
    (correct / f64::from(target_count)).min(1.0) * correct / f64::from(selected)
}

/// The target count n* = ⌈N/M⌉ for N samples wanted from M queries (paper §3.1).
pub fn target_count(samples: u64, queries: u64) -> u32 {
    assert!(queries > 0, "a target count needs at least one query");
    u32::try_from(samples.div_ceil(queries)).unwrap_or(u32::MAX).max(1)
}

/// The largest cap that is tried: 64 as in the authors' code (spec §1.5), or the largest group.
pub fn cap_limit(largest_group: usize) -> u32 {
    u32::try_from(largest_group).unwrap_or(u32::MAX).max(64)
}

/// What a query without any selected response adds to the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyQueries {
    /// Zero, over the fixed list of queries (recommended).
    Zero,
    /// Nothing: the mean is over the other queries (authors' code).
    Skip,
}

/// How many responses a query may give, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapRule {
    /// All that are above the threshold.
    Uncapped,
    /// The smallest cap in `1..=limit` that selects at least `target` in all; `limit` if none does.
    ToPool {
        /// Responses wanted in all.
        target: u64,
        /// The largest cap tried (authors' code: 64).
        limit: u32,
    },
    /// This cap, whatever it selects.
    Fixed(u32),
}

/// How a configuration is scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BalanceRule {
    /// n*.
    pub target_count: u32,
    /// Per-query cap.
    pub cap: CapRule,
    /// Queries without a selection.
    pub empty_queries: EmptyQueries,
}

/// One configuration with its score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Sampling temperature t.
    pub temperature: f64,
    /// Reward threshold τ.
    pub threshold: f64,
    /// The per-query cap that the rule gives; none where nothing is capped.
    pub cap: Option<u32>,
    /// Mean balance score over the queries.
    pub balance_score: f64,
    /// Σ n.
    pub selected: u64,
    /// Σ n'.
    pub correct: u64,
    /// The other knobs.
    #[serde(flatten)]
    pub knobs: Knobs,
}

impl Cell {
    /// The configuration that it is the score of.
    pub fn configuration(&self) -> Configuration {
        let Self { temperature, threshold, knobs, .. } = *self;
        Configuration { temperature, threshold, knobs }
    }

    /// How its responses were sampled.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.knobs.top_p }
    }
}

/// The rankings of a pool, ready to be asked about any (threshold, cap).
#[derive(Clone, Debug)]
pub struct RankedPool {
    temperature: f64,
    /// The knobs that the pool was drawn or cut with.
    pub(crate) knobs: Knobs,
    /// One ranking per query.
    pub rankings: Vec<Ranking>,
}

impl RankedPool {
    /// Sorts each group once. `gold[q]` is the exact-text hash of the gold solution of query q.
    pub fn new(pool: &Pool, gold: &[Option<u64>], rule: &RankingRule) -> Self {
        let gold_of = |query: usize| gold.get(query).copied().flatten();
        let rankings = pool
            .groups
            .iter()
            .enumerate()
            .map(|(query, group)| Ranking::new(group, gold_of(query), rule))
            .collect();
        let knobs = Knobs { top_p: pool.top_p, ..Knobs::default() };
        Self { temperature: pool.temperature, knobs, rankings }
    }

    /// Scores one threshold.
    pub fn cell(&self, threshold: f64, rule: &BalanceRule) -> Cell {
        let above: Vec<usize> = self.rankings.iter().map(|r| r.above(threshold)).collect();
        let cap = match rule.cap {
            CapRule::Uncapped => None,
            CapRule::ToPool { target, limit } => Some(self.smallest_cap(&above, target, limit)),
            CapRule::Fixed(cap) => Some(cap),
        };
        let limit = cap.map_or(usize::MAX, |cap| cap as usize);
        let (mut sum, mut queries, mut selected, mut correct) = (0.0, 0_u64, 0, 0);
        for (ranking, &above) in self.rankings.iter().zip(&above) {
            let (n, unique_correct) = ranking.counts(above.min(limit));
            if n > 0 || rule.empty_queries == EmptyQueries::Zero {
                queries += 1;
                sum += balance_score(n, unique_correct, rule.target_count);
            }
            selected += u64::from(n);
            correct += u64::from(unique_correct);
        }
        let balance_score = if queries == 0 { 0.0 } else { sum / queries as f64 };
        let fixed_cap = cap.filter(|_| matches!(rule.cap, CapRule::Fixed(_)));
        let knobs = Knobs { fixed_cap, ..self.knobs };
        let temperature = self.temperature;
        Cell { temperature, threshold, cap, balance_score, selected, correct, knobs }
    }

    /// The balance score of each query at a cell of this pool; NaN where the query is left out of the
    /// mean. Their mean is the cell's balance score.
    pub fn query_scores(&self, cell: &Cell, rule: &BalanceRule) -> Vec<f64> {
        let limit = cell.cap.map_or(usize::MAX, |cap| cap as usize);
        let score = |ranking: &Ranking| {
            let (n, correct) = ranking.counts(ranking.above(cell.threshold).min(limit));
            if n == 0 && rule.empty_queries == EmptyQueries::Skip {
                return f64::NAN;
            }
            balance_score(n, correct, rule.target_count)
        };
        self.rankings.iter().map(score).collect()
    }

    /// The selected total never falls as the cap grows, so the smallest cap is found by bisection.
    fn smallest_cap(&self, above: &[usize], target: u64, limit: u32) -> u32 {
        let total = |cap: u32| -> u64 {
            let counts = self.rankings.iter().zip(above);
            counts.map(|(r, &above)| u64::from(r.counts(above.min(cap as usize)).0)).sum()
        };
        let (mut low, mut high) = (1, limit.max(1));
        while low < high {
            let middle = low.midpoint(high);
            if total(middle) >= target {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}
