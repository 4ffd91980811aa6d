//! What the cheaper searches share: candidates answer the first queries of a draw, lane by lane, and
//! are scored on them.
//!
//! A search asks [`Lanes`] for answers as it goes. A run draws them, a decision and what-if read them
//! back from what is stored, and a replay takes them from a whole surface: one function of answers
//! ([`crate::race::race`], [`crate::reweight::reweight`]) serves all of them, so that none can end
//! differently.
//!
//! What a search costs is counted in rollout groups: the winner's answers are the beginning of the
//! draw and cost nothing, the others' are drawn beside it.

use crate::balance::{BalanceRule, CapRule, RankedPool};
use crate::confidence::Difference;
use crate::knobs::{KnobGrid, Sampling};
use crate::pool::Pool;
use crate::ranking::RankingRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the candidates of an iteration are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Search {
    /// Every candidate temperature on the whole probe set (paper).
    Exhaustive,
    /// Candidates that are clearly behind stop; the winner's answers are part of the draw.
    Racing,
    /// A few temperatures are drawn, the others estimated by importance weights from the probabilities
    /// of these responses; the winner's answers are part of the draw.
    Reweighting,
}

impl Search {
    /// Whether candidates answer the first queries of the draw in place of a probe set.
    pub fn draws_ahead(self) -> bool {
        self != Self::Exhaustive
    }
}

/// Fewer queries than this tell nothing of a candidate.
pub const FEWEST: usize = 8;

/// What a search may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rollout groups that may be drawn beside those of the winner.
    pub budget: usize,
    /// Queries that there are.
    pub queries: usize,
}

impl Limits {
    /// A budget that is a share of a draw of so many queries.
    pub fn share(share: f64, queries: usize) -> Self {
        // Without the slack a tenth of 70 would be 7.000000000000001 or 6.999999999999999.
        let budget = share * queries as f64 + 1e-9;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to queries")]
        Self { budget: budget as usize, queries }
    }

    /// Queries that each of so many lanes may answer if all but one of them are lost.
    pub fn each(self, lanes: usize) -> usize {
        (self.budget / lanes.saturating_sub(1).max(1)).min(self.queries)
    }

    /// Refuses what is too little for so many lanes.
    pub(crate) fn check(self, lanes: usize) -> Result<(), TooLittle> {
        if self.each(lanes) >= FEWEST {
            return Ok(());
        }
        let Self { budget, queries } = self;
        Err(TooLittle { lanes, needed: FEWEST * (lanes - 1), budget, queries })
    }
}

/// A budget that buys no search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the search measures {lanes} temperatures on at least {FEWEST} queries each, which costs {needed} \
     rollout groups, and `balance.search_budget` of a draw of {queries} queries allows {budget}"
)]
pub struct TooLittle {
    /// Candidates that are measured at the start.
    pub lanes: usize,
    /// Rollout groups that this costs at least.
    pub needed: usize,
    /// Rollout groups that may be spent.
    pub budget: usize,
    /// Queries of the draw.
    pub queries: usize,
}

/// `[query][response][candidate]`: log-probability (nats) of each response at each candidate's
/// temperature.
pub type Logprobs = Vec<Vec<Vec<f64>>>;

/// What one candidate answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// The answers.
    pub pool: Pool,
    /// Their log-probabilities; the innermost lists are empty where nobody asked for them.
    pub logprobs: Logprobs,
}

impl Lane {
    /// A lane whose log-probabilities nobody knows.
    pub fn plain(pool: Pool) -> Self {
        let logprobs = pool.groups.iter().map(|group| vec![Vec::new(); group.len()]).collect();
        Self { pool, logprobs }
    }

    /// The first queries and samples, as [`Pool::first`].
    #[must_use]
    pub fn first(&self, queries: usize, samples: usize) -> Self {
        let group = |(group, logprobs): (&Vec<_>, &Vec<Vec<f64>>)| {
            let rows = group.iter().zip(logprobs);
            let wanted = |(response, _): &(&crate::pool::ScoredResponse, _)| {
                (response.sample_index as usize) < samples
            };
            rows.filter(wanted).map(|(_, logprobs)| logprobs.clone()).collect()
        };
        let rows = self.pool.groups.iter().zip(&self.logprobs).take(queries);
        Self { pool: self.pool.first(queries, samples), logprobs: rows.map(group).collect() }
    }

    /// Whether every response carries its log-probabilities at so many candidates.
    pub fn is_weighed_at(&self, candidates: usize) -> bool {
        self.logprobs.iter().flatten().all(|logprobs| logprobs.len() == candidates)
    }
}

/// Where a search gets its answers from.
pub trait Lanes {
    /// Why there are none.
    type Error;

    /// What a candidate answers to the first queries.
    fn answers(&mut self, candidate: usize, queries: usize) -> Result<Pool, Self::Error>;

    /// The log-probabilities of these answers.
    fn logprobs(&mut self, candidate: usize, queries: usize) -> Result<Logprobs, Self::Error>;
}

/// How candidates are scored.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a> {
    /// How groups are ranked. Ranks of scores are taken anew among what is compared.
    pub ranking: &'a RankingRule,
    /// Hash of each query's gold solution, where it competes; may be empty.
    pub gold: &'a [Option<u64>],
    /// How a pool over all queries of the draw is scored.
    pub balance: &'a BalanceRule,
    /// How many these are.
    pub all_queries: usize,
    /// Caps to try.
    pub knobs: &'a KnobGrid,
    /// Thresholds to try.
    pub thresholds: &'a [f64],
    /// k.
    pub samples: usize,
}

impl Scoring<'_> {
    /// How a pool over the first queries is scored, with each cap: what is wanted in all is scaled.
    pub(crate) fn rules(&self, queries: usize) -> Vec<BalanceRule> {
        let cap = match self.balance.cap {
            rule @ (CapRule::Uncapped | CapRule::Fixed(_)) => rule,
            CapRule::ToPool { target, limit } => {
                let (part, all) = (queries as u64, (self.all_queries as u64).max(1));
                CapRule::ToPool { target: (target * part + all / 2) / all, limit }
            }
        };
        self.knobs.rules(&BalanceRule { cap, ..*self.balance })
    }

    /// The score of each query at the threshold and cap that are best for the whole pool, with their
    /// mean.
    pub fn best(&self, pool: &Pool, ranking: &RankingRule) -> (Vec<f64>, f64) {
        let ranked = RankedPool::new(pool, self.gold, ranking);
        let rules = self.rules(pool.groups.len());
        let ranked = &ranked;
        let cells = rules.iter().flat_map(|rule| {
            self.thresholds.iter().map(move |&threshold| (ranked.cell(threshold, rule), rule))
        });
        let best = cells.reduce(|a, b| if b.0.balance_score > a.0.balance_score { b } else { a });
        let Some((cell, rule)) = best else { return (vec![0.0; pool.groups.len()], 0.0) };
        let scores = ranked.query_scores(&cell, rule).into_iter();
        // A query that is left out of the mean says nothing about a difference.
        let known = scores.map(|score| if score.is_nan() { cell.balance_score } else { score });
        (known.collect(), cell.balance_score)
    }
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The place of the winner among the candidates.
    pub winner: usize,
    /// For each candidate, how many queries the search had it answer.
    pub queries: Vec<usize>,
    /// For each candidate, what its balance score was estimated to be, where that was done.
    pub estimates: Option<Vec<f64>>,
}

impl Found {
    /// The only candidate there is, which nothing has to be compared with.
    pub(crate) fn alone() -> Self {
        Self { winner: 0, queries: vec![0], estimates: None }
    }

    /// The most queries that a candidate answered.
    pub(crate) fn most(&self) -> usize {
        self.queries.iter().copied().max().unwrap_or(0)
    }

    /// Rollout groups that were drawn beside the winner's.
    pub fn cost(&self) -> usize {
        self.queries.iter().sum::<usize>() - self.queries[self.winner]
    }
}

/// The place of the highest value, the first of several.
pub(crate) fn highest(values: impl IntoIterator<Item = f64>) -> Option<usize> {
    let better = |a: (usize, f64), b: (usize, f64)| if b.1 > a.1 { b } else { a };
    values.into_iter().enumerate().reduce(better).map(|(place, _)| place)
}

/// What a search cost and how far each candidate came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    /// One for each way to sample that was drawn, in the order of the candidates.
    pub contenders: Vec<Contender>,
    /// Rollout groups drawn beside those of the winner, as a share of the groups of the draw.
    pub net_cost: f64,
    /// The winner against the candidate that came farthest beside it, on their common queries; none in
    /// logs of older versions, and where one candidate was alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<Difference>,
    /// What re-weighting expected of each candidate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub estimates: Vec<Estimate>,
}

/// A candidate that was measured: a temperature, with a top-p where that is a knob.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    /// The temperature.
    pub temperature: f64,
    /// Top-p, where it is a knob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Queries that it was measured on.
    pub queries: usize,
    /// Balance score of its best threshold on them.
    pub balance_score: f64,
}

/// What a candidate's balance score was estimated to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The temperature.
    pub temperature: f64,
    /// The estimate, at its best threshold.
    pub balance_score: f64,
}

impl Contender {
    /// How it was sampled.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p }
    }
}

/// Answers that are not stored.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum Unstored {
    /// A candidate would be measured on more queries.
    #[error(
        "the search would measure temperature {candidate} on {wanted} queries, and its answers to \
         {stored} are stored"
    )]
    Answers {
        /// The candidate.
        candidate: Sampling,
        /// Queries that it would answer.
        wanted: usize,
        /// Queries that it answered.
        stored: usize,
    },
    /// A candidate would be weighed.
    #[error("the responses at temperature {candidate} are stored without their log-probabilities")]
    Logprobs {
        /// The candidate.
        candidate: Sampling,
    },
    /// There would be no search.
    #[error(transparent)]
    TooLittle(#[from] TooLittle),
}

/// Lanes that were stored, one for each candidate.
pub(crate) struct StoredLanes<'a> {
    pub(crate) lanes: &'a [Lane],
}

impl StoredLanes<'_> {
    fn lane(&self, candidate: usize, queries: usize) -> Result<Lane, Unstored> {
        let lane = &self.lanes[candidate];
        let stored = measured(&lane.pool);
        if stored < queries {
            let candidate = lane.pool.sampling();
            return Err(Unstored::Answers { candidate, wanted: queries, stored });
        }
        Ok(lane.first(queries, usize::MAX))
    }
}

impl Lanes for StoredLanes<'_> {
    type Error = Unstored;

    fn answers(&mut self, candidate: usize, queries: usize) -> Result<Pool, Unstored> {
        Ok(self.lane(candidate, queries)?.pool)
    }

    fn logprobs(&mut self, candidate: usize, queries: usize) -> Result<Logprobs, Unstored> {
        let lane = self.lane(candidate, queries)?;
        if !lane.is_weighed_at(self.lanes.len()) {
            return Err(Unstored::Logprobs { candidate: lane.pool.sampling() });
        }
        Ok(lane.logprobs)
    }
}

/// Queries that a pool holds responses to, counted from the first.
pub fn measured(pool: &Pool) -> usize {
    pool.groups.iter().take_while(|group| !group.is_empty()).count()
}
