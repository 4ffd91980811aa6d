//! A cheaper search for the temperature: candidates race, and those that are clearly behind stop.
//!
//! Every candidate starts on the same few queries. After each round the per-query balance scores of
//! each candidate, at its own best threshold, are compared with those of the leader query by query;
//! candidates behind by more than [`RaceRule::margin`] standard errors of that paired difference stop,
//! the others go on with half as many queries again. The race ends when one is left or the budget is
//! spent.
//!
//! The queries are the first of the iteration's own draw, and they are sampled with its keys: what
//! the winner answered in the race is, rollout for rollout, the beginning of the draw, so that only
//! the others cost anything. The numbers that led here are in `docs/log.md`.

use crate::balance::{BalanceRule, RankedPool};
use crate::knobs::Sampling;
use crate::pool::Pool;
use crate::ranking::RankingRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the candidates of an iteration are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Search {
    /// Every candidate temperature on the whole probe set (paper).
    Exhaustive,
    /// Candidates that are clearly behind stop; the winner's answers are part of the draw.
    Racing,
}

/// How a race is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RaceRule {
    /// Rollout groups that may be drawn beside those of the winner.
    pub budget: usize,
    /// Queries that there are.
    pub most_queries: usize,
    /// Standard errors behind the leader at which a candidate stops.
    pub margin: f64,
}

/// Fewest and most queries of the first round, if the budget allows; between them it takes a
/// quarter of the budget.
const FIRST_ROUND: [usize; 2] = [8, 32];
/// Fewer queries than this have no standard error worth the name.
const FEWEST: usize = 2;
/// See [`RaceRule::margin`]; chosen on stored surfaces, `docs/log.md`.
pub const MARGIN: f64 = 2.0;

/// What the race asks for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The candidates that go on, as places in the list of contenders.
    pub stay: Vec<usize>,
    /// The number of queries that each of them is to be measured on.
    pub queries: usize,
}

/// What a race cost and how far each candidate came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceRecord {
    /// One for each way to sample, in the order of the candidates.
    pub contenders: Vec<Contender>,
    /// Rollout groups drawn beside those of the winner, as a share of the groups of the draw.
    pub net_cost: f64,
}

/// A candidate in a race: a temperature, with a top-p where that is a knob.
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

impl Contender {
    /// How it was sampled.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p }
    }
}

impl RaceRule {
    /// Queries of the first round for so many candidates.
    pub fn first_round(&self, candidates: usize) -> usize {
        let affordable = self.budget / candidates.saturating_sub(1).max(1);
        let [least, most] = FIRST_ROUND;
        let quarter = (affordable / 4).clamp(least, most);
        quarter.min(affordable).max(FEWEST).min(self.most_queries)
    }

    /// The next round, given the scores of those still running on the same queries, and the groups
    /// drawn so far by all; none when the race is over.
    pub fn next_round(&self, running: &[Vec<f64>], drawn: usize) -> Option<Round> {
        let queries = running.first()?.len();
        let leader = leader(running)?;
        let in_touch = |place: &usize| {
            let (gap, error) = gap(&running[leader], &running[*place]);
            *place == leader || gap <= self.margin * error
        };
        let stay: Vec<usize> = (0..running.len()).filter(in_touch).collect();
        // The winner will be one of those that stay, so the groups of one of them cost nothing.
        let spent = drawn.saturating_sub(queries);
        let others = stay.len().checked_sub(1).filter(|others| *others > 0)?;
        let affordable = queries + self.budget.saturating_sub(spent) / others;
        let wanted = queries + queries.div_ceil(2);
        let next = wanted.min(affordable).min(self.most_queries);
        (next > queries).then_some(Round { stay, queries: next })
    }
}

/// The candidate with the highest mean, the first of several.
fn leader(running: &[Vec<f64>]) -> Option<usize> {
    let mean = |place: usize| running[place].iter().sum::<f64>();
    (0..running.len()).reduce(|a, b| if mean(b) > mean(a) { b } else { a })
}

/// Mean of the paired differences, and its standard error.
fn gap(leader: &[f64], other: &[f64]) -> (f64, f64) {
    let count = leader.len() as f64;
    let differences: Vec<f64> = leader.iter().zip(other).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / count;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
}

/// Queries that a pool holds responses to, counted from the first.
pub fn measured(pool: &Pool) -> usize {
    pool.groups.iter().take_while(|group| !group.is_empty()).count()
}

/// The pools that came to the end of a race, cut to the queries that they were measured on.
pub fn finalists(pools: &[Pool]) -> Vec<Pool> {
    let most = pools.iter().map(measured).max().unwrap_or(0);
    let last = pools.iter().filter(|pool| measured(pool) == most);
    last.map(|pool| Pool { groups: pool.groups[..most].to_vec(), ..*pool }).collect()
}

/// The score of each query at the threshold that is best for the whole pool, with their mean.
pub fn best_scores(
    pool: &Pool,
    gold: &[Option<u64>],
    ranking: &RankingRule,
    balance: &BalanceRule,
    thresholds: &[f64],
) -> (Vec<f64>, f64) {
    let ranked = RankedPool::new(pool, gold, ranking);
    let cells = thresholds.iter().map(|&threshold| ranked.cell(threshold, balance));
    let best = cells.reduce(|a, b| if b.balance_score > a.balance_score { b } else { a });
    let Some(best) = best else { return (vec![0.0; pool.groups.len()], 0.0) };
    let scores = ranked.query_scores(&best, balance).into_iter();
    // A query that is left out of the mean says nothing about a difference.
    let known = scores.map(|score| if score.is_nan() { best.balance_score } else { score });
    (known.collect(), best.balance_score)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RaceRule = RaceRule { budget: 100, most_queries: 1000, margin: MARGIN };

    #[test]
    fn those_clearly_behind_stop_and_the_rest_go_on() {
        let noisy = |height: f64, phase: u32| {
            (0..16)
                .map(|q| height + if (q + phase).is_multiple_of(2) { 0.1 } else { -0.1 })
                .collect()
        };
        let running: Vec<Vec<f64>> = vec![noisy(0.2, 0), noisy(0.5, 0), noisy(0.49, 1)];
        let round = RULE.next_round(&running, 48).expect("two are in touch");
        assert_eq!(round, Round { stay: vec![1, 2], queries: 24 });
    }

    #[test]
    fn one_that_is_left_ends_the_race() {
        assert_eq!(RULE.next_round(&[vec![0.1; 8], vec![0.5; 8]], 16), None);
        assert_eq!(RULE.next_round(&[vec![0.1; 8]], 8), None);
        assert_eq!(RULE.next_round(&[], 0), None);
    }

    #[test]
    fn the_budget_is_spent_and_never_exceeded() {
        for budget in 0..200 {
            let rule = RaceRule { budget, ..RULE };
            let mut queries = rule.first_round(4);
            let mut drawn = 4 * queries;
            // Ties never stop.
            while let Some(round) = rule.next_round(&vec![vec![0.5; queries]; 4], drawn) {
                assert_eq!(round.stay.len(), 4);
                drawn += 4 * (round.queries - queries);
                queries = round.queries;
            }
            let net = drawn - queries;
            assert!(net <= budget.max(3 * FEWEST) && net + 3 > budget, "{budget}: {net}");
        }
        let small = RaceRule { most_queries: 10, ..RULE };
        assert_eq!(small.next_round(&vec![vec![0.5; 10]; 2], 20), None, "no more queries");
    }

    #[test]
    fn finalists_share_their_queries() {
        let response = crate::pool::ScoredResponse::new(0, "a", crate::Verdict::Correct, None);
        let pool = |temperature, answered: usize| Pool {
            temperature,
            top_p: None,
            groups: (0..5).map(|q| if q < answered { vec![response] } else { vec![] }).collect(),
        };
        let last = finalists(&[pool(0.5, 2), pool(0.8, 4), pool(1.0, 4)]);
        assert_eq!(last.iter().map(|pool| pool.temperature).collect::<Vec<_>>(), [0.8, 1.0]);
        assert!(last.iter().all(|pool| pool.groups.len() == 4));
        assert!(finalists(&[]).is_empty());
    }
}
