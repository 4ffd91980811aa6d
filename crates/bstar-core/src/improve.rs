//! The improve loop: Algorithm 1 of the paper, in [`improve`].
//!
//! Control flow only; every noun is a module of its own. Each method of the paper runs through this
//! same loop and differs in data only ([`crate::method`]).
//!
//! Departures from the paper, each a setting whose default is the recommendation of spec §1.7:
//! duplicates are dropped before ranking; a per-query cap brings the selection to the wanted size;
//! a query without any selection counts as zero; equal scores are told apart by a documented rule.
//! The whole list is in `docs/design/departures.md`.
//!
//! Resume: each piece of an iteration (probe, draw, train, evaluate) is published when it is done.
//! A piece that was published is read back instead of made again, everything between pieces is a
//! pure function, and randomness depends on coordinates; so a run that was killed anywhere ends like
//! one that was not.

use crate::balance::{BalanceRule, CapRule, EmptyQueries, cap_limit, target_count};
use crate::controller::{Configuration, Controller, Decision};
use crate::curriculum::QueryOrder;
use crate::draw::{graded, lane_of, pool_of};
use crate::evaluate::{EvaluationSettings, evaluate};
use crate::event::{Event, Piece};
use crate::fault::Fault;
use crate::iteration::{LoopState, Selected, gold_hashes, mark};
use crate::method::{Continuity, Method};
use crate::pool::Pool;
use crate::ports::{Checkpoint, Decoding, Example, Ledger, Policy, RewardModel, Task};
use crate::ranking::{GoldSolutions, RankingRule};
use crate::reward_training::RewardTrainingSettings;
use crate::rng::RngKey;
use crate::rollout::{Query, QueryId, Rollout, Stage};
use crate::schedule::CosineSchedule;
use crate::search::{Lane, Search};
use crate::selection::select;
use crate::supervised::{SupervisedSettings, supervise};
use std::sync::Arc;

/// Everything that shapes a run, resolved and validated.
#[derive(Clone, Debug, PartialEq)]
pub struct ImproveSettings {
    /// The method.
    pub method: Method,
    /// Root of all randomness.
    pub seed: u64,
    /// Iterations.
    pub iterations: u32,
    /// How P_0 is made.
    pub supervised: SupervisedSettings,
    /// Queries drawn in each iteration (M); 0 means all.
    pub queries_per_iteration: usize,
    /// Which queries these are.
    pub query_order: QueryOrder,
    /// Responses per query (k), for probe and draw alike.
    pub samples_per_query: usize,
    /// Samples wanted for training in each iteration (N).
    pub target_samples: u64,
    /// n*; `None` means ⌈N/M⌉.
    pub target_count: Option<u32>,
    /// Cap each query with the smallest cap that reaches N.
    pub cap_to_pool: bool,
    /// Queries without a selection.
    pub empty_queries: EmptyQueries,
    /// Queries in the probe set.
    pub probe_queries: usize,
    /// Draw a new probe set in each iteration.
    pub redraw_probe: bool,
    /// How candidates are measured.
    pub search: Search,
    /// What a race or re-weighting may cost, as a share of the draw.
    pub search_budget: f64,
    /// Store each probe rollout with its log-probability at every candidate temperature.
    pub candidate_logprobs: bool,
    /// Top-p, top-k and length of sampling; the temperature is the controller's.
    pub decoding: Decoding,
    /// How a reward model is trained, where one is.
    pub reward_training: Option<RewardTrainingSettings>,
    /// Reward, duplicates and comparison.
    pub ranking: RankingRule,
    /// Gold solutions.
    pub gold_solutions: GoldSolutions,
    /// Chooses the configuration.
    pub controller: Controller,
    /// Optimizer steps per iteration.
    pub steps_per_iteration: usize,
    /// Examples per step.
    pub batch_size: usize,
    /// Most passes over an iteration's selection; 0 sets no limit.
    pub most_passes: usize,
    /// Peak learning rate of self-training.
    pub learning_rate: f64,
    /// Learning rate at the end of the schedule.
    pub learning_rate_floor: f64,
    /// Warm-up in steps, at the start of each schedule.
    pub warmup_steps: f64,
    /// Whether the optimizer's moments are carried over.
    pub optimizer_state: Continuity,
    /// Whether one schedule spans all iterations.
    pub schedule: Continuity,
    /// Where methods that reset go back to.
    pub reset_to: Checkpoint,
    /// Held-out evaluation.
    pub evaluation: EvaluationSettings,
    /// Stop when a larger share than this of the answers of a stage is ungradable.
    pub most_ungradable: f64,
    /// Stop after this many iterations in a row that select nothing.
    pub most_empty_iterations: u32,
}

/// What a run works with.
pub struct Improver<'a, P: Policy, L> {
    /// The settings.
    pub settings: &'a ImproveSettings,
    /// Queries and answer check.
    pub task: &'a dyn Task,
    /// Examples for supervised fine-tuning.
    pub supervised: &'a [Example],
    /// The policy; holds the base weights at the start.
    pub policy: &'a mut P,
    /// Scores steps, where the reward has such a part: given, or trained by the run.
    pub reward_model: Option<P::RewardModel>,
    /// Remembers.
    pub ledger: &'a mut L,
}

/// Runs Algorithm 1 to the end, from wherever the ledger says it stands.
pub fn improve<P: Policy, L: Ledger<P>>(run: &mut Improver<'_, P, L>) -> Result<(), Fault> {
    let run_key = RngKey::from_seed(run.settings.seed);
    let mut state = run.begin()?;

    run.make_initial_policy(run_key)?; // P_0
    for iteration in state.next_iteration..=run.settings.planned_iterations() {
        let key = run_key.child("iteration").index(u64::from(iteration));
        let queries = run.training_queries(&state, key); // M of x
        run.refresh_reward_model(iteration, key)?; // r, where a model is part of it
        let probes = run.probe(iteration, &queries, run_key, key)?;
        let decision = run.decide(&probes, &queries, run_key, key, state.previous)?; // (t_i, τ_i)
        let (decision, mut rollouts) =
            run.draw(iteration, decision, &probes, &queries, key, state.previous)?;
        let selection = run.select(iteration, &decision, &mut rollouts, queries, key)?; // r > τ_i
        run.train(iteration, &selection, &rollouts, &mut state, key)?; // P_i
        run.evaluate(iteration)?;
        run.renew_queries(iteration, &rollouts, &mut state)?;
        run.commit(iteration)?;
        state.previous = Some(decision.configuration());
    }
    run.finish()
}

/// Makes what the iterations start from and stops there: P_0, its reward model and its evaluation.
/// [`improve`] goes on from it.
pub fn make_start<P: Policy, L: Ledger<P>>(run: &mut Improver<'_, P, L>) -> Result<(), Fault> {
    run.begin()?;
    run.make_initial_policy(RngKey::from_seed(run.settings.seed))
}

impl ImproveSettings {
    /// The event that opens a run of a task, from base weights of this fingerprint, with a reward model
    /// of this one, where it is given one.
    pub fn run_started(
        &self,
        task: &str,
        policy_version: Arc<str>,
        reward_model: Option<Arc<str>>,
    ) -> Event {
        Event::RunStarted {
            version: env!("CARGO_PKG_VERSION").into(),
            method: self.method.name().into(),
            task: task.into(),
            seed: self.seed,
            iterations: self.planned_iterations(),
            policy_version,
            reward_model,
        }
    }

    /// Iterations that the method really makes: none for supervised fine-tuning alone.
    pub fn planned_iterations(&self) -> u32 {
        if self.method.spec().self_training { self.iterations } else { 0 }
    }

    /// How a pool of `queries` queries is scored. The wanted total is N scaled to the queries.
    pub fn balance_rule(&self, queries: usize, all_queries: usize) -> BalanceRule {
        let (queries, all) = (queries as u64, (all_queries as u64).max(1));
        let target = (self.target_samples * queries + all / 2) / all;
        let limit = cap_limit(self.samples_per_query);
        BalanceRule {
            target_count: self
                .target_count
                .unwrap_or_else(|| target_count(self.target_samples, all)),
            cap: if self.cap_to_pool {
                CapRule::ToPool { target, limit }
            } else {
                CapRule::Uncapped
            },
            empty_queries: self.empty_queries,
        }
    }

    /// M, of so many training queries.
    pub fn training_count(&self, all: usize) -> usize {
        match self.queries_per_iteration {
            0 => all,
            wanted => wanted.min(all),
        }
    }

    /// The most optimizer steps of an iteration that trains on so many examples.
    pub(crate) fn steps_on(&self, examples: usize) -> usize {
        let passes = match self.most_passes {
            0 => usize::MAX,
            passes => passes.saturating_mul(examples).div_ceil(self.batch_size),
        };
        let chosen = self.controller.knobs.steps.last().copied();
        chosen.unwrap_or(self.steps_per_iteration).min(passes)
    }

    /// Samples of each query that a decision asks for.
    pub(crate) fn samples_of(&self, decision: &Decision) -> usize {
        decision.knobs.samples.map_or(self.samples_per_query, |samples| samples as usize)
    }

    /// The schedule of an iteration and the step at which it enters it, after so many iterations
    /// that trained.
    pub fn schedule(&self, updates: u32) -> (CosineSchedule, u64) {
        let steps = self.steps_per_iteration as u64;
        let carries = self.schedule.carries(self.method.spec().carries_schedule);
        let stretches = if carries { u64::from(self.iterations) } else { 1 };
        let schedule = CosineSchedule {
            peak: self.learning_rate,
            floor: self.learning_rate_floor,
            warmup_steps: self.warmup_steps,
            horizon_steps: (steps * stretches) as f64,
        };
        (schedule, if carries { steps * u64::from(updates) } else { 0 })
    }
}

impl<'a, P: Policy, L: Ledger<P>> Improver<'a, P, L> {
    /// Starts the run, or restores the policy and the loop's state of one that was interrupted.
    fn begin(&mut self) -> Result<LoopState, Fault> {
        self.check_validation()?;
        self.check_search()?;
        let events = self.ledger.events()?;
        if events.is_empty() {
            let reward_model = self.reward_model.as_ref().map(RewardModel::version);
            let version = self.policy.version();
            let started = self.settings.run_started(self.task.name(), version, reward_model);
            self.ledger.record(started)?;
        }
        self.check_given_reward_model(&events)?;
        let trained = (0..=self.settings.planned_iterations())
            .take_while(|iteration| self.ledger.is_published(*iteration, Piece::Train))
            .last();
        if let Some(iteration) = trained {
            self.ledger.restore(Checkpoint::Iteration(iteration), self.policy)?;
        }
        let published = |iteration: &u32| self.ledger.is_published(*iteration, Piece::RewardModel);
        let scored = (0..=self.settings.planned_iterations()).rev().find(published);
        if let Some(iteration) = scored {
            self.reward_model = Some(self.ledger.restore_reward_model(iteration, self.policy)?);
        }
        let mut state = LoopState::after(&events);
        self.recall_queries(&mut state)?;
        Ok(state)
    }

    fn make_initial_policy(&mut self, run_key: RngKey) -> Result<(), Fault> {
        if self.ledger.last_committed().is_some() {
            return Ok(());
        }
        if !self.ledger.is_published(0, Piece::Train) {
            let settings = &self.settings.supervised;
            let key = run_key.child("supervised");
            supervise(settings, self.supervised, self.policy, self.task, self.ledger, key)?;
            self.ledger.publish_checkpoint(0, self.policy)?;
        }
        self.refresh_reward_model(0, run_key)?;
        self.evaluate(0)?;
        self.commit(0)
    }

    /// Draws the probe set for every candidate, with the same keys for each.
    fn probe(
        &mut self,
        iteration: u32,
        drawn: &[&'a Query],
        run_key: RngKey,
        key: RngKey,
    ) -> Result<Vec<Rollout>, Fault> {
        let candidates = self.settings.controller.candidates();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let stage = Stage::Probe;
        if self.ledger.is_published(iteration, Piece::Probe) {
            let rollouts = self.ledger.read_rollouts(iteration, stage)?;
            self.settings.check_gradable(stage, &rollouts)?;
            return Ok(rollouts);
        }
        let mut rollouts = if self.settings.search.draws_ahead() {
            self.search(iteration, &candidates, drawn, key)?
        } else {
            let queries = self.probe_queries(run_key, key);
            let (key, samples) = (key.child("probe"), self.settings.samples_per_query);
            self.sample((iteration, stage), &queries, &candidates, samples, key)?
        };
        if self.settings.candidate_logprobs {
            self.weigh(iteration, &candidates, &mut rollouts)?;
        }
        self.publish_graded(iteration, stage, &rollouts)?;
        Ok(rollouts)
    }

    fn decide(
        &self,
        probes: &[Rollout],
        drawn: &[&'a Query],
        run_key: RngKey,
        key: RngKey,
        previous: Option<Configuration>,
    ) -> Result<Decision, Fault> {
        let settings = self.settings;
        let queries = self.search_queries(drawn, run_key, key);
        let ids: Vec<QueryId> = queries.iter().map(|query| query.id.clone()).collect();
        let lane = |sampling| lane_of(probes.iter(), &ids, sampling);
        let lanes: Vec<Lane> = settings.controller.candidates().into_iter().map(lane).collect();
        let gold = gold_hashes(&queries);
        let by = (previous, key.child("confidence"));
        Ok(settings.decide(lanes, &gold, self.training_count(), by)?)
    }

    /// Draws the training rollouts of the decided configuration. Where the threshold is chosen on the
    /// whole draw, chooses it now.
    fn draw(
        &mut self,
        iteration: u32,
        decision: Decision,
        probes: &[Rollout],
        queries: &[&Query],
        key: RngKey,
        previous: Option<Configuration>,
    ) -> Result<(Decision, Vec<Rollout>), Fault> {
        let settings = self.settings;
        let rollouts = if self.ledger.is_published(iteration, Piece::Draw) {
            self.ledger.read_rollouts(iteration, Stage::Train)?
        } else {
            self.draw_all(iteration, queries, &decision, probes, key)?
        };
        let (pool, balance) = self.training_pool(queries, &rollouts, &decision);
        let gold = gold_hashes(queries);
        let decision = settings.settle(decision, &pool, &gold, &balance, previous);
        let decided = Event::Decided { iteration, decision: Box::new(decision.clone()) };
        self.record_before(Piece::Draw, iteration, decided)?;
        Ok((decision, rollouts))
    }

    /// Selects, marks the rollouts, monitors them and publishes the draw.
    fn select(
        &mut self,
        iteration: u32,
        decision: &Decision,
        rollouts: &mut [Rollout],
        queries: Vec<&'a Query>,
        key: RngKey,
    ) -> Result<Selected<'a>, Fault> {
        let settings = self.settings;
        let (pool, balance) = self.training_pool(&queries, rollouts, decision);
        let gold = gold_hashes(&queries);
        let ranking = settings.ranking_of(decision);
        let selection = select(&pool, &gold, &ranking, &balance, decision.threshold);
        mark(rollouts, &selection, &queries, &ranking);
        let selected = self.selected(queries, selection, rollouts);
        if self.ledger.is_published(iteration, Piece::Draw) {
            self.settings.check_gradable(Stage::Train, rollouts)?;
            return Ok(selected);
        }
        let by = (&ranking, key);
        for event in self.selection_events(iteration, &selected, &pool, rollouts, by) {
            self.ledger.record(event)?;
        }
        self.publish_graded(iteration, Stage::Train, rollouts)?;
        Ok(selected)
    }

    /// Fine-tunes on the selection from where the method starts; nothing selected leaves the policy
    /// as it is.
    fn train(
        &mut self,
        iteration: u32,
        selected: &Selected<'_>,
        rollouts: &[Rollout],
        state: &mut LoopState,
        key: RngKey,
    ) -> Result<(), Fault> {
        let published = self.ledger.is_published(iteration, Piece::Train);
        let examples = self.examples(selected, rollouts);
        if examples.is_empty() {
            state.empty_in_a_row += 1;
            let in_a_row = state.empty_in_a_row;
            let advice = selected.advice();
            let nothing = Event::NothingSelected { iteration, in_a_row, advice: advice.clone() };
            self.record_before(Piece::Train, iteration, nothing)?;
            if in_a_row >= self.settings.most_empty_iterations {
                return Err(ImproveSettings::nothing_selected(in_a_row, advice));
            }
        } else {
            if !published {
                self.update(iteration, state.updates, &examples, key)?;
            }
            state.empty_in_a_row = 0;
            state.updates += 1;
        }
        if published { Ok(()) } else { self.ledger.publish_checkpoint(iteration, self.policy) }
    }

    fn evaluate(&mut self, iteration: u32) -> Result<(), Fault> {
        let stage = Stage::Eval;
        if self.ledger.is_published(iteration, Piece::Evaluate) {
            let rollouts = self.ledger.read_rollouts(iteration, stage)?;
            return self.settings.check_gradable(stage, &rollouts);
        }
        let ledger = &mut *self.ledger;
        let model = self.reward_model.as_mut().map(|model| model as _);
        let evaluation = evaluate(
            &self.settings.evaluation,
            self.task.test(),
            iteration,
            self.policy,
            self.task,
            model,
            &mut |activity, progress| ledger.tick(activity.of(iteration, stage), progress),
        )?;
        ledger.record(Event::Measured { iteration, stage, metrics: evaluation.metrics })?;
        self.publish_graded(iteration, stage, &evaluation.rollouts)
    }

    /// Records the verdicts on the rollouts of a stage and publishes them; then stops the run if too
    /// many could not be decided. What was drawn is safe by then.
    fn publish_graded(
        &mut self,
        iteration: u32,
        stage: Stage,
        rollouts: &[Rollout],
    ) -> Result<(), Fault> {
        self.ledger.record(graded(iteration, stage, rollouts, self.task.checker()))?;
        self.ledger.publish_rollouts(iteration, stage, rollouts)?;
        self.settings.check_gradable(stage, rollouts)
    }

    /// The draw as a pool, and how it is scored.
    fn training_pool(
        &self,
        queries: &[&Query],
        rollouts: &[Rollout],
        decision: &Decision,
    ) -> (Pool, BalanceRule) {
        let ids: Vec<QueryId> = queries.iter().map(|query| query.id.clone()).collect();
        let pool = pool_of(rollouts.iter(), &ids, decision.configuration().sampling());
        let balance = self.settings.balance_rule(queries.len(), self.training_count());
        (pool, balance.with_cap(decision.knobs.fixed_cap))
    }

    fn commit(&mut self, iteration: u32) -> Result<(), Fault> {
        let version = self.policy.version();
        self.ledger.commit(iteration, &version)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        let finished = Event::RunFinished { iterations: self.settings.planned_iterations() };
        if self.ledger.events()?.last() == Some(&finished) {
            return Ok(());
        }
        self.ledger.record(finished)
    }
}
