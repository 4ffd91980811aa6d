//! Searches replayed on exhaustive surfaces: what they lose against them, and what they cost.
//!
//! A surface is what was drawn at every temperature for the same queries, stored by a run or
//! simulated. A replay lets a search of [`crate::search`] run over the queries in a random order, as a
//! run lets it, and compares the winner's balance score on the whole surface with the best there is.

use crate::pool::Pool;
use crate::race::{RaceRule, race};
use crate::reweight::{lanes, reweight};
use crate::rng::{RngKey, shuffle};
use crate::search::{Found, Lane, Lanes, Limits, Logprobs, Scoring, Search, TooLittle, highest};
use serde::Serialize;
use std::convert::Infallible;

/// How a surface is searched.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// How the run scores; gold solutions in the order of the surface.
    pub scoring: Scoring<'a>,
    /// M: what the cost is a share of.
    pub draw_queries: usize,
    /// The budget as a share of M.
    pub budget: f64,
    /// See [`RaceRule::margin`].
    pub margin: f64,
}

impl Trial<'_> {
    /// Refuses a budget that buys no search among so many candidates.
    pub fn check(&self, search: Search, candidates: usize) -> Result<(), TooLittle> {
        match search {
            Search::Exhaustive => Ok(()),
            Search::Racing => self.limits(self.draw_queries).check(candidates),
            Search::Reweighting => self.limits(self.draw_queries).check(lanes(candidates)),
        }
    }

    fn limits(&self, queries: usize) -> Limits {
        Limits { queries, ..Limits::share(self.budget, self.draw_queries) }
    }
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

/// A surface ready for replays.
#[derive(Clone, Debug)]
pub struct Surface {
    lanes: Vec<Lane>,
    /// Balance score of each temperature on the whole surface, at its best threshold.
    whole: Vec<f64>,
}

impl Surface {
    /// Scores the whole surface: one lane for each candidate, in rising order, over the same queries.
    pub fn new(lanes: Vec<Lane>, trial: &Trial<'_>) -> Self {
        let scoring = &trial.scoring;
        let ranking = scoring.ranking.calibrated_on(lanes.iter().map(|lane| &lane.pool));
        let score = |lane: &Lane| scoring.best(&lane.pool, &ranking).1;
        Self { whole: lanes.iter().map(score).collect(), lanes }
    }

    /// The temperatures with their scores on the whole surface.
    pub fn scores(&self) -> impl Iterator<Item = (f64, f64)> {
        self.lanes.iter().map(|lane| lane.pool.temperature).zip(self.whole.iter().copied())
    }

    /// Loss of a choice against the best.
    fn loss(&self, place: usize) -> f64 {
        let best = self.whole.iter().copied().fold(0.0, f64::max);
        if best > 0.0 { 1.0 - self.whole[place] / best } else { 0.0 }
    }

    /// Runs a race over the queries in the order that `key` gives.
    pub fn race(&self, trial: &Trial<'_>, key: RngKey) -> Replay {
        self.replay(trial, key, |queries, scoring, lanes| {
            let rule = RaceRule { limits: trial.limits(queries), margin: trial.margin };
            let Ok(found) = race(self.lanes.len(), &rule, scoring, lanes);
            found
        })
    }

    /// Searches by re-weighting over the queries in the order that `key` gives. The lanes must be
    /// weighed.
    pub fn reweight(&self, trial: &Trial<'_>, key: RngKey) -> Replay {
        let temperatures: Vec<f64> = self.lanes.iter().map(|lane| lane.pool.temperature).collect();
        self.replay(trial, key, |queries, scoring, lanes| {
            let Ok(found) = reweight(&temperatures, trial.limits(queries), scoring, lanes);
            found
        })
    }

    /// Scores every temperature on the first queries of the same order, as the paper does: no answer
    /// is a part of the draw.
    pub fn exhaustive(&self, trial: &Trial<'_>, queries: usize, key: RngKey) -> Replay {
        let mut groups = 0;
        let replay = self.replay(trial, key, |all, scoring, lanes| {
            let queries = queries.min(all);
            groups = queries * self.lanes.len();
            let pools: Vec<Pool> = (0..self.lanes.len())
                .map(|lane| {
                    let Ok(pool) = lanes.answers(lane, queries);
                    pool
                })
                .collect();
            let ranking = scoring.ranking.calibrated_on(&pools);
            let winner = highest(pools.iter().map(|pool| scoring.best(pool, &ranking).1));
            let queries = vec![queries; pools.len()];
            Found { winner: winner.unwrap_or(0), queries, estimates: None }
        });
        Replay { net_cost: groups as f64 / trial.draw_queries.max(1) as f64, ..replay }
    }

    fn replay(
        &self,
        trial: &Trial<'_>,
        key: RngKey,
        search: impl FnOnce(usize, &Scoring<'_>, &mut Shuffled<'_>) -> Found,
    ) -> Replay {
        let queries = self.lanes.first().map_or(0, |lane| lane.pool.groups.len());
        let mut order: Vec<usize> = (0..queries).collect();
        shuffle(&mut order, &mut key.rng());
        let gold_of = |query: &usize| trial.scoring.gold.get(*query).copied().flatten();
        let gold: Vec<Option<u64>> = order.iter().map(gold_of).collect();
        let scoring = Scoring { gold: &gold, ..trial.scoring };
        let found = search(queries, &scoring, &mut Shuffled { lanes: &self.lanes, order: &order });
        Replay {
            temperature: self.lanes[found.winner].pool.temperature,
            loss: self.loss(found.winner),
            net_cost: found.cost() as f64 / trial.draw_queries.max(1) as f64,
        }
    }
}

/// A surface whose queries are asked in another order.
struct Shuffled<'a> {
    lanes: &'a [Lane],
    order: &'a [usize],
}

impl Lanes for Shuffled<'_> {
    type Error = Infallible;

    fn answers(&mut self, candidate: usize, queries: usize) -> Result<Pool, Infallible> {
        let pool = &self.lanes[candidate].pool;
        let order = &self.order[..queries];
        let groups = order.iter().map(|&query| pool.groups[query].clone()).collect();
        Ok(Pool { groups, ..*pool })
    }

    fn logprobs(&mut self, candidate: usize, queries: usize) -> Result<Logprobs, Infallible> {
        let logprobs = &self.lanes[candidate].logprobs;
        Ok(self.order[..queries].iter().map(|&query| logprobs[query].clone()).collect())
    }
}
