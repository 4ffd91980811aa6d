//! The searches of [`crate::search`] as a part of an iteration: they draw, and what the winner drew is
//! kept.
//!
//! Everything is sampled with the keys of the iteration's draw, so the draw is the same rollouts
//! whether a search came before it or not. The decision runs the search once more on the stored
//! rollouts, as a resumed run and what-if have to, and finds what the run found.

use crate::balance::BalanceRule;
use crate::controller::{Configuration, Decision};
use crate::draw::lane_of;
use crate::event::Activity;
use crate::fault::{Fault, FaultClass};
use crate::improve::{ImproveSettings, Improver};
use crate::knobs::Sampling;
use crate::pool::Pool;
use crate::ports::{Ledger, Policy, Progress, ScoreRequest};
use crate::race::{MARGIN, RaceRule, race};
use crate::ranking::RankingRule;
use crate::reweight::{self, reweight};
use crate::rng::RngKey;
use crate::rollout::{FinishReason, Query, QueryId, Rollout, Stage};
use crate::search::{
    Contender, Estimate, Found, Lane, Lanes, Limits, Logprobs, Scoring, Search, SearchRecord,
    StoredLanes, TooLittle, Unstored, measured,
};
use std::collections::BTreeMap;
use std::sync::Arc;

impl ImproveSettings {
    /// What a search may cost, of a draw of so many queries.
    pub(crate) fn limits(&self, queries: usize) -> Limits {
        Limits::share(self.search_budget, queries)
    }

    /// The race over so many training queries.
    pub(crate) fn race_rule(&self, queries: usize) -> RaceRule {
        RaceRule { limits: self.limits(queries), margin: MARGIN }
    }

    /// Whether the policy is asked how likely responses are at the candidates' temperatures: always where
    /// that is kept, else by a re-weighting that has more than one to tell apart.
    pub fn weighs(&self) -> bool {
        let candidates = self.controller.candidates().len();
        let estimates = self.search == Search::Reweighting && candidates > 1;
        estimates || (self.candidate_logprobs && candidates > 0)
    }

    /// Refuses a budget that buys no search of a draw from so many training queries.
    pub fn check_search(&self, training_queries: usize) -> Result<(), TooLittle> {
        let queries = self.training_count(training_queries);
        let candidates = self.controller.candidates().len();
        match self.search {
            Search::Racing if candidates > 1 => self.limits(queries).check(candidates),
            Search::Reweighting if candidates > 1 => {
                self.limits(queries).check(reweight::lanes(candidates))
            }
            _ => Ok(()),
        }
    }

    /// Searches among the candidates, over a draw of so many queries; none where the search is no
    /// search but a probe of all.
    fn find<L: Lanes>(
        &self,
        gold: &[Option<u64>],
        queries: usize,
        lanes: &mut L,
    ) -> Result<Option<Found>, L::Error> {
        let temperatures: Vec<f64> =
            self.controller.candidates().iter().map(|way| way.temperature).collect();
        let found = match self.search {
            Search::Exhaustive => return Ok(None),
            _ if temperatures.len() < 2 => Found::alone(),
            Search::Racing => self.with_scoring(gold, queries, |scoring| {
                race(temperatures.len(), &self.race_rule(queries), scoring, lanes)
            })?,
            Search::Reweighting => self.with_scoring(gold, queries, |scoring| {
                reweight(&temperatures, self.limits(queries), scoring, lanes)
            })?,
        };
        Ok(Some(found))
    }

    /// Runs with how candidates are scored, over a draw of so many queries.
    fn with_scoring<T>(
        &self,
        gold: &[Option<u64>],
        queries: usize,
        run: impl FnOnce(&Scoring<'_>) -> T,
    ) -> T {
        run(&Scoring {
            ranking: &self.ranking,
            gold,
            balance: &self.balance_rule(queries, queries),
            all_queries: queries,
            knobs: &self.controller.knobs,
            thresholds: &self.controller.thresholds(),
            samples: self.samples_per_query,
        })
    }

    /// The queries that the winner goes on to: as many as a probe set has, because these cost nothing
    /// and the threshold is chosen on them.
    fn goal(&self, found: &Found, queries: usize) -> usize {
        self.probe_queries.max(found.most()).min(queries)
    }

    /// What the threshold is chosen on: every pool, or that of the winner with a record of the search;
    /// and how these are ranked. Lanes hold the draw's queries from the first; `queries` is M.
    fn contest(
        &self,
        lanes: Vec<Lane>,
        gold: &[Option<u64>],
        queries: usize,
    ) -> Result<(Vec<Pool>, Option<SearchRecord>, RankingRule), Unstored> {
        if !lanes.is_empty() {
            self.check_search(queries)?;
        }
        let mut stored = StoredLanes { lanes: &lanes };
        let found = if lanes.is_empty() { None } else { self.find(gold, queries, &mut stored)? };
        let Some(found) = found else {
            let pools: Vec<Pool> = lanes.into_iter().map(|lane| lane.pool).collect();
            let mut ranking = self.ranking.calibrated_on(&pools);
            if pools.is_empty() {
                // Nothing was probed: the draw will be the reference.
                ranking.calibration = None;
            }
            return Ok((pools, None, ranking));
        };
        let mut lengths = found.queries.clone();
        lengths[found.winner] = self.goal(&found, queries);
        let pools: Vec<Pool> = lengths
            .iter()
            .enumerate()
            .map(|(candidate, length)| stored.answers(candidate, *length))
            .collect::<Result<_, _>>()?;
        let ranking = self.ranking.calibrated_on(&pools);
        let record = self.record(&found, &pools, (gold, queries), &ranking);
        Ok((vec![pools[found.winner].clone()], Some(record), ranking))
    }

    /// What is remembered of a search over these pools.
    fn record(
        &self,
        found: &Found,
        pools: &[Pool],
        (gold, all_queries): (&[Option<u64>], usize),
        ranking: &RankingRule,
    ) -> SearchRecord {
        let contenders: Vec<Contender> = self.with_scoring(gold, all_queries, |scoring| {
            let contender = |pool: &Pool| Contender {
                temperature: pool.temperature,
                top_p: pool.top_p,
                queries: pool.groups.len(),
                balance_score: scoring.best(pool, ranking).1,
            };
            pools.iter().filter(|pool| !pool.groups.is_empty()).map(contender).collect()
        });
        let winner = &pools[found.winner];
        let others = contenders.iter().filter(|of| of.sampling() != winner.sampling());
        let farther = |a: &Contender, b: &Contender| {
            (b.queries, b.balance_score) > (a.queries, a.balance_score)
        };
        let second = others.copied().reduce(|a, b| if farther(&a, &b) { b } else { a });
        let second = second.and_then(|of| pools.iter().find(|p| p.sampling() == of.sampling()));
        let rival = second.and_then(|second| {
            let queries = second.groups.len();
            let balance = self.balance_rule(queries, all_queries);
            let winner = winner.first(queries, usize::MAX);
            self.controller.compare(&winner, second, gold, ranking, &balance)
        });
        let estimate = |(pool, balance_score): (&Pool, &f64)| Estimate {
            temperature: pool.temperature,
            balance_score: *balance_score,
        };
        let estimates = found.estimates.as_deref().unwrap_or_default();
        SearchRecord {
            contenders,
            net_cost: found.cost() as f64 / all_queries.max(1) as f64,
            rival,
            estimates: pools.iter().zip(estimates).map(estimate).collect(),
        }
    }

    /// Decides from one lane for each candidate, over the queries that candidates are measured on.
    pub(crate) fn decide(
        &self,
        lanes: Vec<Lane>,
        gold: &[Option<u64>],
        all_queries: usize,
        previous_and_key: (Option<Configuration>, RngKey),
    ) -> Result<Decision, Unstored> {
        let (pools, race, ranking) = self.contest(lanes, gold, all_queries)?;
        let queries = pools.first().map_or(0, |pool| pool.groups.len());
        let balance = self.balance_rule(queries, all_queries);
        let controller = &self.controller;
        let decision = controller.decide(&pools, gold, &ranking, &balance, previous_and_key);
        Ok(Decision { race, ..decision })
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
}

/// Lanes that are drawn as they are asked for.
struct DrawnLanes<'r, 'i, P: Policy, L> {
    improver: &'r mut Improver<'i, P, L>,
    iteration: u32,
    candidates: &'r [Sampling],
    queries: &'r [&'r Query],
    key: RngKey,
    lanes: Vec<Vec<Rollout>>,
}

impl<P: Policy, L: Ledger<P>> DrawnLanes<'_, '_, P, L> {
    /// Rollouts of a candidate to the first queries, which lie query by query.
    fn length(&self, queries: usize) -> usize {
        queries * self.improver.settings.samples_per_query
    }

    /// Draws on, up to the first queries.
    fn extend(&mut self, candidate: usize, queries: usize) -> Result<(), Fault> {
        let samples = self.improver.settings.samples_per_query;
        let done = self.lanes[candidate].len() / samples;
        if done >= queries {
            return Ok(());
        }
        let drawn = self.lanes.iter().map(Vec::len).sum::<usize>() as u64;
        let after =
            |Progress { done, total }| Progress { done: drawn + done, total: drawn + total };
        let lot = (self.candidates[candidate], samples);
        let (place, key) = ((self.iteration, Stage::Probe), self.key.child("train"));
        let more = &self.queries[done..queries];
        let rollouts = self.improver.sample_at(place, more, lot, key, &after)?;
        self.lanes[candidate].extend(rollouts);
        Ok(())
    }

    fn lane(&self, candidate: usize, queries: usize) -> Lane {
        let ids: Vec<QueryId> = self.queries[..queries].iter().map(|q| q.id.clone()).collect();
        lane_of(self.lanes[candidate].iter(), &ids, self.candidates[candidate])
    }
}

impl<P: Policy, L: Ledger<P>> Lanes for DrawnLanes<'_, '_, P, L> {
    type Error = Fault;

    fn answers(&mut self, candidate: usize, queries: usize) -> Result<Pool, Fault> {
        self.extend(candidate, queries)?;
        Ok(self.lane(candidate, queries).pool)
    }

    fn logprobs(&mut self, candidate: usize, queries: usize) -> Result<Logprobs, Fault> {
        self.extend(candidate, queries)?;
        let length = self.length(queries);
        let rollouts = &mut self.lanes[candidate][..length];
        self.improver.weigh(self.iteration, self.candidates, rollouts)?;
        Ok(self.lane(candidate, queries).logprobs)
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
        if self.settings.search.draws_ahead() {
            drawn.to_vec()
        } else {
            self.probe_queries(run_key, key)
        }
    }

    /// Searches among the candidates; the winner goes on.
    pub(crate) fn search(
        &mut self,
        iteration: u32,
        candidates: &[Sampling],
        queries: &[&Query],
        key: RngKey,
    ) -> Result<Vec<Rollout>, Fault> {
        let settings = self.settings;
        let gold = crate::iteration::gold_hashes(queries);
        let lanes = vec![Vec::new(); candidates.len()];
        let mut drawn = DrawnLanes { improver: self, iteration, candidates, queries, key, lanes };
        if let Some(found) = settings.find(&gold, queries.len(), &mut drawn)? {
            drawn.extend(found.winner, settings.goal(&found, queries.len()))?;
        }
        Ok(drawn.lanes.into_iter().flatten().collect())
    }

    /// Gives rollouts that lack them their log-probabilities at each candidate.
    pub(crate) fn weigh(
        &mut self,
        iteration: u32,
        candidates: &[Sampling],
        rollouts: &mut [Rollout],
    ) -> Result<(), Fault> {
        let temperatures: Vec<f64> = candidates.iter().map(|way| way.temperature).collect();
        let mut light: Vec<&mut Rollout> =
            rollouts.iter_mut().filter(|rollout| rollout.candidate_logprobs.is_none()).collect();
        // What is said twice is asked for once.
        let mut places = BTreeMap::new();
        let mut texts = Vec::new();
        let place_of = |rollout: &&mut Rollout| {
            let prompt = rollout.prompt.clone().unwrap_or_default();
            let ended = rollout.finish_reason == Some(FinishReason::Stop);
            let text = (prompt, Arc::clone(&rollout.response), ended);
            *places.entry(text.clone()).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            })
        };
        let of_rollout: Vec<usize> = light.iter().map(place_of).collect();
        let requests: Vec<ScoreRequest<'_>> = texts
            .iter()
            .map(|(prompt, response, ended)| ScoreRequest { prompt, response, ended: *ended })
            .collect();
        let ledger = &mut *self.ledger;
        let activity = Activity::Weigh { iteration };
        let tick = &mut |progress| ledger.tick(activity, progress);
        let logprobs = self.policy.log_probabilities(&requests, &temperatures, tick)?;
        for (rollout, place) in light.iter_mut().zip(of_rollout) {
            rollout.candidate_logprobs = Some(logprobs[place].clone());
        }
        Ok(())
    }

    /// Refuses a search that its budget does not pay for.
    pub(crate) fn check_search(&self) -> Result<(), Fault> {
        let queries = self.task.train().len();
        Ok(self.settings.check_search(queries)?)
    }

    /// The draw of the decided configuration; what a search drew of it already is not drawn again.
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
        let is_ours =
            |rollout: &&Rollout| self.settings.search.draws_ahead() && configuration.draws(rollout);
        let as_drawn = |rollout: &Rollout| Rollout {
            stage: Some(Stage::Train),
            candidate_logprobs: None,
            ..rollout.clone()
        };
        let mut rollouts: Vec<Rollout> = probes.iter().filter(is_ours).map(as_drawn).collect();
        let ids: Vec<QueryId> = queries.iter().map(|query| query.id.clone()).collect();
        let done = measured(&lane_of(rollouts.iter(), &ids, sampling).pool);
        let key = key.child("train");
        let rest = &queries[done..];
        rollouts.extend(self.sample((iteration, Stage::Train), rest, &[sampling], samples, key)?);
        Ok(rollouts)
    }
}

impl From<TooLittle> for Fault {
    fn from(error: TooLittle) -> Self {
        Self::new(FaultClass::Usage, error.to_string()).hint(
            "raise `balance.search_budget` or `sample.queries`, try fewer temperatures, or set \
             `balance.search` to \"exhaustive\"",
        )
    }
}

impl From<Unstored> for Fault {
    /// A run asks for what it drew itself, so its files are not what it wrote.
    fn from(error: Unstored) -> Self {
        match error {
            Unstored::TooLittle(error) => error.into(),
            _ => Self::new(FaultClass::Run, format!("the probe does not hold its search: {error}"))
                .hint("the files of the run were changed, or another version of bstar wrote them"),
        }
    }
}
