//! The race of [`crate::race`] as a part of an iteration: it draws, and what the winner drew is kept.
//!
//! Everything is sampled with the keys of the iteration's draw, so the draw is the same rollouts
//! whether a race came before it or not. Who won is read off the stored rollouts again, as a resumed
//! run has to.

use crate::balance::BalanceRule;
use crate::controller::{Configuration, Decision};
use crate::fault::Fault;
use crate::improve::{ImproveSettings, Improver};
use crate::knobs::Sampling;
use crate::pool::Pool;
use crate::ports::{Ledger, Policy, Progress};
use crate::race::{self, Contender, MARGIN, RaceRecord, RaceRule, Search, best_scores, measured};
use crate::ranking::RankingRule;
use crate::rng::RngKey;
use crate::rollout::{Query, QueryId, Rollout, Stage};

impl ImproveSettings {
    /// The race over so many training queries.
    pub fn race_rule(&self, queries: usize) -> RaceRule {
        let budget = self.search_budget * queries as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to queries")]
        RaceRule { budget: budget as usize, most_queries: queries, margin: MARGIN }
    }

    /// What the threshold is chosen on: every pool, or that of the race's winner with a record of the
    /// race. Pools hold the draw's queries from the first; `all_queries` is M.
    pub(crate) fn contest(
        &self,
        pools: Vec<Pool>,
        gold: &[Option<u64>],
        all_queries: usize,
        ranking: &RankingRule,
    ) -> (Vec<Pool>, Option<RaceRecord>) {
        if self.search == Search::Exhaustive || pools.is_empty() {
            return (pools, None);
        }
        let score = |pool: &Pool| {
            let queries = measured(pool);
            let pool = Pool { groups: pool.groups[..queries].to_vec(), ..*pool };
            let balance = self.balance_rule(queries, all_queries);
            self.best_scores(&pool, gold, ranking, &balance).1
        };
        let contender = |pool: &Pool| Contender {
            temperature: pool.temperature,
            top_p: pool.top_p,
            queries: measured(pool),
            balance_score: score(pool),
        };
        let contenders: Vec<Contender> = pools.iter().map(contender).collect();
        let most = contenders.iter().map(|contender| contender.queries).max().unwrap_or(0);
        let better = |a: &Contender, b: &Contender| b.balance_score > a.balance_score;
        let last = contenders.iter().filter(|contender| contender.queries == most);
        let winner = last.copied().reduce(|a, b| if better(&a, &b) { b } else { a });
        let groups: usize = contenders.iter().map(|contender| contender.queries).sum();
        let net_cost = (groups - most) as f64 / all_queries.max(1) as f64;
        let is_winner = |pool: &Pool| Some(pool.sampling()) == winner.map(|w| w.sampling());
        let won = race::finalists(&pools).into_iter().filter(is_winner).collect();
        (won, Some(RaceRecord { contenders, net_cost }))
    }

    /// Decides from one pool for each candidate, over the queries that candidates are measured on.
    pub(crate) fn decide(
        &self,
        pools: Vec<Pool>,
        gold: &[Option<u64>],
        all_queries: usize,
        previous_and_key: (Option<Configuration>, RngKey),
    ) -> Decision {
        let mut ranking = self.ranking.calibrated_on(&pools);
        if pools.is_empty() {
            // Nothing was probed: the draw will be the reference.
            ranking.calibration = None;
        }
        let (pools, race) = self.contest(pools, gold, all_queries, &ranking);
        let queries = pools.first().map_or(0, |pool| pool.groups.len());
        let balance = self.balance_rule(queries, all_queries);
        let controller = &self.controller;
        let decision = controller.decide(&pools, gold, &ranking, &balance, previous_and_key);
        Decision { race, ..decision }
    }

    /// How an iteration ranks that took this decision: scores as in the decision's reference.
    pub(crate) fn ranking_of(&self, decision: &Decision) -> RankingRule {
        RankingRule { calibration: decision.calibration.clone(), ..self.ranking.clone() }
    }

    /// Completes a decision with what the whole draw says: the reference of its scores where nothing
    /// was probed, and the threshold where it is chosen on the draw.
    pub(crate) fn settle(
        &self,
        mut decision: Decision,
        draw: &Pool,
        gold: &[Option<u64>],
        balance: &BalanceRule,
        previous: Option<Configuration>,
    ) -> Decision {
        if decision.calibration.is_none() {
            decision.calibration = self.ranking.reward.calibration_on([draw]);
        }
        let ranking = self.ranking_of(&decision);
        self.controller.settle(decision, draw, gold, &ranking, balance, previous)
    }

    fn best_scores(
        &self,
        pool: &Pool,
        gold: &[Option<u64>],
        ranking: &RankingRule,
        balance: &BalanceRule,
    ) -> (Vec<f64>, f64) {
        let thresholds = self.controller.thresholds();
        let at = |rule: &BalanceRule| best_scores(pool, gold, ranking, rule, &thresholds);
        let by_cap = self.controller.knobs.rules(balance).into_iter();
        let better = |a: (Vec<f64>, f64), b: (Vec<f64>, f64)| if b.1 > a.1 { b } else { a };
        by_cap.map(|rule| at(&rule)).reduce(better).unwrap_or_default()
    }
}

impl<'a, P: Policy, L: Ledger<P>> Improver<'a, P, L> {
    /// The queries that candidates are measured on: the probe set, or those of the draw.
    pub(crate) fn search_queries(
        &self,
        drawn: &[&'a Query],
        run_key: RngKey,
        key: RngKey,
    ) -> Vec<&'a Query> {
        match self.settings.search {
            Search::Exhaustive => self.probe_queries(run_key, key),
            Search::Racing => drawn.to_vec(),
        }
    }

    /// Lets the candidates race; the winner goes on to as many queries as a probe set has, because
    /// these cost nothing and the threshold is chosen on them.
    pub(crate) fn race(
        &mut self,
        iteration: u32,
        candidates: &[Sampling],
        queries: &[&Query],
        key: RngKey,
    ) -> Result<Vec<Rollout>, Fault> {
        let gold = crate::iteration::gold_hashes(queries);
        let rule = self.settings.race_rule(queries.len());
        let mut lanes: Vec<Vec<Rollout>> = vec![Vec::new(); candidates.len()];
        let mut lengths = vec![0; candidates.len()];
        let mut running: Vec<usize> = (0..candidates.len()).collect();
        let mut target = rule.first_round(candidates.len());
        loop {
            for &lane in &running {
                let more = &queries[lengths[lane]..target];
                let drawn = lanes.iter().map(Vec::len).sum();
                let rollouts = self.lap(iteration, more, candidates[lane], key, drawn)?;
                lanes[lane].extend(rollouts);
                lengths[lane] = target;
            }
            let balance = self.settings.balance_rule(target, queries.len());
            let pools = lane_pools(&lanes, queries, candidates);
            let ranking = self.settings.ranking.calibrated_on(&pools);
            let scores: Vec<Vec<f64>> = running
                .iter()
                .map(|&lane| {
                    let pool = pools[lane].first(target, usize::MAX);
                    self.settings.best_scores(&pool, &gold, &ranking, &balance).0
                })
                .collect();
            let Some(round) = rule.next_round(&scores, lengths.iter().sum()) else { break };
            running = round.stay.into_iter().map(|place| running[place]).collect();
            target = round.queries;
        }
        let pools = lane_pools(&lanes, queries, candidates);
        let ranking = self.settings.ranking.calibrated_on(&pools);
        let (won, _) = self.settings.contest(pools, &gold, queries.len(), &ranking);
        let winner = won.first().map(Pool::sampling);
        if let Some(lane) = candidates.iter().position(|way| Some(*way) == winner) {
            let wanted = self.settings.probe_queries.min(queries.len()).max(target);
            let drawn = lanes.iter().map(Vec::len).sum();
            let more = &queries[lengths[lane]..wanted];
            let rollouts = self.lap(iteration, more, candidates[lane], key, drawn)?;
            lanes[lane].extend(rollouts);
        }
        Ok(lanes.into_iter().flatten().collect())
    }

    /// Draws some more queries for one candidate.
    fn lap(
        &mut self,
        iteration: u32,
        queries: &[&Query],
        sampling: Sampling,
        key: RngKey,
        drawn: usize,
    ) -> Result<Vec<Rollout>, Fault> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let drawn = drawn as u64;
        let after =
            |Progress { done, total }| Progress { done: drawn + done, total: drawn + total };
        let key = key.child("train");
        let lot = (sampling, self.settings.samples_per_query);
        self.sample_at((iteration, Stage::Probe), queries, lot, key, &after)
    }

    /// The draw of the decided configuration; what a race drew of it already is not drawn again.
    pub(crate) fn draw_all(
        &mut self,
        iteration: u32,
        queries: &[&Query],
        decision: &Decision,
        probes: &[Rollout],
        key: RngKey,
    ) -> Result<Vec<Rollout>, Fault> {
        let configuration = decision.configuration();
        let sampling = configuration.sampling();
        let samples = self.settings.samples_of(decision);
        let is_ours = |rollout: &&Rollout| {
            self.settings.search == Search::Racing && configuration.draws(rollout)
        };
        let as_drawn = |rollout: &Rollout| Rollout { stage: Some(Stage::Train), ..rollout.clone() };
        let mut rollouts: Vec<Rollout> = probes.iter().filter(is_ours).map(as_drawn).collect();
        let done = measured(&lane_pool(&rollouts, queries, sampling));
        let key = key.child("train");
        let rest = &queries[done..];
        rollouts.extend(self.sample((iteration, Stage::Train), rest, &[sampling], samples, key)?);
        Ok(rollouts)
    }
}

/// What was drawn for each candidate so far.
fn lane_pools(lanes: &[Vec<Rollout>], queries: &[&Query], candidates: &[Sampling]) -> Vec<Pool> {
    candidates.iter().zip(lanes).map(|(way, lane)| lane_pool(lane, queries, *way)).collect()
}

fn lane_pool(rollouts: &[Rollout], queries: &[&Query], sampling: Sampling) -> Pool {
    let ids: Vec<QueryId> = queries.iter().map(|query| query.id.clone()).collect();
    crate::draw::pool_of(rollouts.iter(), &ids, sampling)
}
