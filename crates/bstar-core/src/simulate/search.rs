//! Races replayed on exhaustive surfaces: what they lose against them, and what they cost.
//!
//! A surface is what was drawn at every temperature for the same queries, stored by a run or
//! simulated. A replay lets the race of [`crate::race`] run over the queries in a random order and
//! compares the winner's balance score on the whole surface with the best there is.

use crate::balance::{BalanceRule, CapRule};
use crate::pool::Pool;
use crate::race::{RaceRule, best_scores};
use crate::ranking::RankingRule;
use crate::rng::{RngKey, shuffle};
use serde::Serialize;

/// How a surface is searched.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// Ranking of the run.
    pub ranking: &'a RankingRule,
    /// How the whole surface is scored.
    pub balance: &'a BalanceRule,
    /// Candidate thresholds.
    pub thresholds: &'a [f64],
    /// M: what the cost is a share of.
    pub draw_queries: usize,
    /// The budget as a share of M.
    pub budget: f64,
    /// See [`RaceRule::margin`].
    pub margin: f64,
}

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// The winner.
    pub temperature: f64,
    /// Share of the best balance score that the winner's falls short of it, on the whole surface.
    pub loss: f64,
    /// Rollout groups drawn beside the winner's, as a share of M.
    pub net_cost: f64,
}

/// A surface ready for replays: the balance score of each query at each temperature's best threshold.
#[derive(Clone, Debug)]
pub struct Surface {
    pools: Vec<Pool>,
    /// Balance score of each temperature on the whole surface.
    whole: Vec<f64>,
}

impl Surface {
    /// Scores the whole surface; `gold` as in [`crate::balance::RankedPool::new`].
    pub fn new(pools: Vec<Pool>, trial: &Trial<'_>) -> Self {
        let score =
            |pool: &Pool| best_scores(pool, &[], trial.ranking, trial.balance, trial.thresholds).1;
        Self { whole: pools.iter().map(score).collect(), pools }
    }

    /// The temperatures with their scores on the whole surface.
    pub fn scores(&self) -> impl Iterator<Item = (f64, f64)> {
        self.pools.iter().map(|pool| pool.temperature).zip(self.whole.iter().copied())
    }

    /// Loss of a choice against the best.
    fn loss(&self, place: usize) -> f64 {
        let best = self.whole.iter().copied().fold(0.0, f64::max);
        if best > 0.0 { 1.0 - self.whole[place] / best } else { 0.0 }
    }

    /// Runs a race over the queries in the order that `key` gives.
    pub fn race(&self, trial: &Trial<'_>, key: RngKey) -> Replay {
        let order = self.order(key);
        let budget = trial.budget * trial.draw_queries as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of M")]
        let rule =
            RaceRule { budget: budget as usize, most_queries: order.len(), margin: trial.margin };
        let mut running: Vec<usize> = (0..self.pools.len()).collect();
        let mut lengths = vec![0; running.len()];
        let mut target = rule.first_round(running.len());
        let place = loop {
            for &lane in &running {
                lengths[lane] = target;
            }
            let (scores, means): (Vec<Vec<f64>>, Vec<f64>) =
                running.iter().map(|&lane| self.measure(lane, &order[..target], trial)).unzip();
            if let Some(round) = rule.next_round(&scores, lengths.iter().sum()) {
                running = round.stay.into_iter().map(|place| running[place]).collect();
                target = round.queries;
            } else {
                let best = (0..means.len()).reduce(|a, b| if means[b] > means[a] { b } else { a });
                break running[best.expect("a race has contenders")];
            }
        };
        let groups: usize = lengths.iter().sum();
        self.replay(place, groups - lengths[place], trial)
    }

    /// Scores every temperature on the first queries of the same order, as the paper does.
    pub fn exhaustive(&self, trial: &Trial<'_>, queries: usize, key: RngKey) -> Replay {
        let order = self.order(key);
        let queries = queries.min(order.len());
        let means: Vec<f64> = (0..self.pools.len())
            .map(|lane| self.measure(lane, &order[..queries], trial).1)
            .collect();
        let best = (0..means.len()).reduce(|a, b| if means[b] > means[a] { b } else { a });
        self.replay(best.expect("a surface has temperatures"), queries * means.len(), trial)
    }

    fn replay(&self, place: usize, groups: usize, trial: &Trial<'_>) -> Replay {
        Replay {
            temperature: self.pools[place].temperature,
            loss: self.loss(place),
            net_cost: groups as f64 / trial.draw_queries.max(1) as f64,
        }
    }

    fn order(&self, key: RngKey) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.pools.first().map_or(0, |p| p.groups.len())).collect();
        shuffle(&mut order, &mut key.rng());
        order
    }

    /// Scores of the queries, and their mean, with the cap scaled to so many queries.
    fn measure(&self, lane: usize, queries: &[usize], trial: &Trial<'_>) -> (Vec<f64>, f64) {
        let pool = &self.pools[lane];
        let groups = queries.iter().map(|&query| pool.groups[query].clone()).collect();
        let part = Pool { groups, ..*pool };
        let cap = match trial.balance.cap {
            rule @ (CapRule::Uncapped | CapRule::Fixed(_)) => rule,
            CapRule::ToPool { target, limit } => {
                let (part, all) = (queries.len() as u64, (pool.groups.len() as u64).max(1));
                CapRule::ToPool { target: (target * part + all / 2) / all, limit }
            }
        };
        let balance = BalanceRule { cap, ..*trial.balance };
        best_scores(&part, &[], trial.ranking, &balance, trial.thresholds)
    }
}
