//! What one iteration of [`crate::improve`] is made of: its queries, pools, selection and examples.
//!
//! Everything here is a function of settings, keys and rollouts, so that a resumed run finds the
//! same again.

use crate::controller::Configuration;
use crate::curriculum::{Curriculum, QueryOrder, Renewal, wins_by_query};
use crate::draw::{DrawActivity, DrawRequest, draw, observations};
use crate::event::{Activity, Event, Piece, SelectionSummary};
use crate::fault::{Fault, FaultClass};
use crate::gradable::Undecided;
use crate::improve::{ImproveSettings, Improver};
use crate::knobs::Sampling;
use crate::monitor::{Metric, MonitorSettings, monitor, uniformity, weighted_entropy};
use crate::pool::{Pool, exact_hash};
use crate::ports::{Decoding, Example, Ledger, Policy, Progress, Task};
use crate::ranking::{GoldSolutions, RankingRule};
use crate::reward::RewardKind;
use crate::rng::{RngKey, shuffle};
use crate::rollout::{Query, Rollout, Stage, Verdict};
use crate::selection::{SelectedCounts, Selection, distinct};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the loop carries from one iteration to the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoopState {
    pub(crate) next_iteration: u32,
    pub(crate) previous: Option<Configuration>,
    /// Iterations that trained.
    pub(crate) updates: u32,
    pub(crate) empty_in_a_row: u32,
    /// What is known of each training query, where the order of queries depends on it. Not told by
    /// events: it follows from the rollouts of the draws.
    pub(crate) curriculum: Option<Curriculum>,
}

impl LoopState {
    /// The state that the committed iterations among these events lead to.
    pub(crate) fn after(events: &[Event]) -> Self {
        let mut state = Self {
            next_iteration: 1,
            previous: None,
            updates: 0,
            empty_in_a_row: 0,
            curriculum: None,
        };
        let (mut previous, mut empty_in_a_row) = (None, 0);
        for event in events {
            match event {
                Event::Decided { decision, .. } => {
                    previous = Some(decision.configuration());
                    empty_in_a_row = 0;
                }
                Event::NothingSelected { in_a_row, .. } => empty_in_a_row = *in_a_row,
                Event::IterationCommitted { iteration, .. } => {
                    let trained = *iteration > 0 && empty_in_a_row == 0;
                    let updates = state.updates + u32::from(trained);
                    let next_iteration = iteration + 1;
                    state = Self { next_iteration, previous, updates, empty_in_a_row, ..state };
                }
                _ => {}
            }
        }
        state
    }
}

/// The queries of a draw with what was selected of their rollouts.
#[derive(Clone, Debug)]
pub(crate) struct Selected<'q> {
    queries: Vec<&'q Query>,
    selection: Selection,
    kind: RewardKind,
    verdicts: BTreeMap<Verdict, u64>,
}

impl Selected<'_> {
    fn summary(
        &self,
        pool: &Pool,
        rule: &RankingRule,
        drawn: usize,
        gold: u64,
    ) -> SelectionSummary {
        let cell = &self.selection.cell;
        let all = pool.groups.iter().map(|group| distinct(group.iter()));
        let SelectedCounts { selected, correct, verified, queries } =
            self.selection.counts(pool, rule);
        SelectionSummary {
            drawn: drawn as u64,
            selected,
            correct,
            verified,
            queries,
            duplicates: (drawn - all.sum::<usize>()) as u64,
            gold,
            threshold: cell.threshold,
            cap: cell.cap,
            balance_score: cell.balance_score,
        }
    }

    /// Why nothing was selected and what to try.
    pub(crate) fn advice(&self) -> String {
        let count = |verdict| self.verdicts.get(&verdict).copied().unwrap_or(0);
        let (correct, unanswered) = (count(Verdict::Correct), count(Verdict::NoAnswer));
        let drawn: u64 = self.verdicts.values().sum();
        let threshold = self.selection.cell.threshold;
        let seen = format!(
            "none of {drawn} responses has a reward above τ = {threshold} \
             ({correct} correct, {unanswered} without an answer)"
        );
        let advice = if drawn == 0 {
            "draw more: set `sample.queries` or `sample.k`"
        } else if correct > 0 && self.kind == RewardKind::Answer {
            "lower the threshold: a correct response has reward 1, so τ must be below 1"
        } else if correct > 0 {
            "lower `balance.thresholds` or `balance.fixed_threshold`, or check the reward model's scale"
        } else if unanswered * 2 > drawn {
            "most responses have no answer: give the policy more supervised fine-tuning \
             (`supervised.steps`) or longer responses (`sample.max_tokens`)"
        } else {
            "the policy solves none of these queries: give it more supervised fine-tuning \
             (`supervised.steps`), easier queries, or more samples (`sample.k`)"
        };
        format!("{seen}; {advice}")
    }
}

impl<'a, P: Policy, L: Ledger<P>> Improver<'a, P, L> {
    /// Draws k samples for a stage in each way, with the same keys in each.
    pub(crate) fn sample(
        &mut self,
        (iteration, stage): (u32, Stage),
        queries: &[&Query],
        samplings: &[Sampling],
        samples: usize,
        key: RngKey,
    ) -> Result<Vec<Rollout>, Fault> {
        let mut rollouts = Vec::new();
        for (index, &sampling) in samplings.iter().enumerate() {
            let place = |progress: Progress| progress.of_part(index, samplings.len());
            let lot = (sampling, samples);
            rollouts.extend(self.sample_at((iteration, stage), queries, lot, key, &place)?);
        }
        Ok(rollouts)
    }

    /// Draws for a stage in one way; `place` says how its progress is shown.
    pub(crate) fn sample_at(
        &mut self,
        (iteration, stage): (u32, Stage),
        queries: &[&Query],
        (sampling, samples): (Sampling, usize),
        key: RngKey,
        place: &dyn Fn(Progress) -> Progress,
    ) -> Result<Vec<Rollout>, Fault> {
        let decoding = &self.settings.decoding;
        let (temperature, top_p) = (sampling.temperature, sampling.top_p.unwrap_or(decoding.top_p));
        let request = DrawRequest {
            queries,
            samples,
            decoding: Decoding { temperature, top_p, ..decoding.clone() },
            key,
            iteration,
            stage,
            reduction: self.settings.ranking.reward.reduction,
        };
        let ledger = &mut *self.ledger;
        let model = self.reward_model.as_mut().map(|model| model as _);
        let tick = &mut |activity: DrawActivity, progress: Progress| {
            ledger.tick(activity.of(iteration, stage), place(progress))
        };
        let mut rollouts = draw(&request, self.policy, self.task, model, tick)?;
        for rollout in &mut rollouts {
            rollout.top_p = sampling.top_p;
        }
        Ok(rollouts)
    }

    /// The probe set: training queries, the same in each iteration unless it is redrawn.
    pub(crate) fn probe_queries(&self, run_key: RngKey, key: RngKey) -> Vec<&'a Query> {
        let key = if self.settings.redraw_probe { key } else { run_key };
        drawn_queries(self.task, self.settings.probe_queries, key.child("probe queries"))
    }

    /// The M queries of an iteration, in random order: its beginning stands for the whole.
    pub(crate) fn training_queries(&self, state: &LoopState, key: RngKey) -> Vec<&'a Query> {
        let (count, key) = (self.training_count(), key.child("training queries"));
        let Some(curriculum) = &state.curriculum else {
            return drawn_queries(self.task, count, key);
        };
        let all = self.task.train();
        let mut queries: Vec<&Query> =
            curriculum.first(count).into_iter().map(|place| &all[place]).collect();
        shuffle(&mut queries, &mut key.rng());
        queries
    }

    /// What is known of the queries after the iterations before `state.next_iteration`.
    pub(crate) fn recall_queries(&self, state: &mut LoopState) -> Result<(), Fault> {
        if self.settings.query_order == QueryOrder::Shuffled {
            return Ok(());
        }
        let run_key = RngKey::from_seed(self.settings.seed);
        let mut curriculum = Curriculum::new(self.task.train().len(), run_key);
        for iteration in 1..state.next_iteration {
            let rollouts = self.ledger.read_rollouts(iteration, Stage::Train)?;
            self.renew(&mut curriculum, iteration, &rollouts);
        }
        state.curriculum = Some(curriculum);
        Ok(())
    }

    /// Takes in what became of the queries of an iteration, where their order depends on it.
    pub(crate) fn renew_queries(
        &mut self,
        iteration: u32,
        rollouts: &[Rollout],
        state: &mut LoopState,
    ) -> Result<(), Fault> {
        let Some(curriculum) = &mut state.curriculum else { return Ok(()) };
        let renewal = self.renew(curriculum, iteration, rollouts);
        self.ledger.record(Event::QueriesRenewed { iteration, renewal })
    }

    fn renew(&self, curriculum: &mut Curriculum, iteration: u32, rollouts: &[Rollout]) -> Renewal {
        let (wins, all) = (wins_by_query(rollouts), self.task.train());
        let of = |place: usize| wins.get(&all[place].id).copied().unwrap_or_default();
        curriculum.renew(iteration, self.training_count(), of)
    }

    /// M.
    pub(crate) fn training_count(&self) -> usize {
        self.settings.training_count(self.task.train().len())
    }

    pub(crate) fn selected(
        &self,
        queries: Vec<&'a Query>,
        selection: Selection,
        rollouts: &[Rollout],
    ) -> Selected<'a> {
        let mut verdicts = BTreeMap::new();
        for rollout in rollouts {
            *verdicts.entry(rollout.verdict).or_default() += 1;
        }
        Selected { queries, selection, kind: self.settings.ranking.reward.kind, verdicts }
    }

    /// The events that tell of a draw and its selection.
    pub(crate) fn selection_events(
        &self,
        iteration: u32,
        selected: &Selected<'_>,
        pool: &Pool,
        rollouts: &[Rollout],
        (ranking, key): (&RankingRule, RngKey),
    ) -> [Event; 2] {
        let gold = self.gold_examples(selected).count() as u64;
        let selection = selected.summary(pool, ranking, rollouts.len(), gold);
        let task = self.task;
        let groups = observations(rollouts, &|response| task.equations(response));
        let evaluation = &self.settings.evaluation;
        let (k, s) = (evaluation.k.clone(), evaluation.s.clone());
        let (reward, calibration) = (ranking.reward, ranking.calibration.clone());
        let settings = MonitorSettings { k, s, reward, calibration, key };
        let mut metrics = monitor(&groups, &settings);
        metrics.extend(spread_metrics(selected, rollouts));
        let stage = Stage::Train;
        [Event::Selected { iteration, selection }, Event::Measured { iteration, stage, metrics }]
    }

    /// What the policy learns from: the selected responses, then gold solutions.
    pub(crate) fn examples(&self, selected: &Selected<'_>, rollouts: &[Rollout]) -> Vec<Example> {
        let places = places_by_query(rollouts, &selected.queries);
        let mut examples = Vec::new();
        for (chosen, places) in selected.selection.chosen.iter().zip(&places) {
            for &response in chosen {
                let rollout = &rollouts[places[response]];
                let prompt = rollout.prompt.clone().unwrap_or_else(|| Arc::from(""));
                examples.push(Example { prompt, response: Arc::clone(&rollout.response) });
            }
        }
        examples.extend(self.gold_examples(selected));
        examples
    }

    fn gold_examples(&self, selected: &Selected<'_>) -> impl Iterator<Item = Example> {
        let rule = self.settings.gold_solutions;
        selected.queries.iter().zip(&selected.selection.gold).filter_map(move |(query, &won)| {
            let wanted = match rule {
                GoldSolutions::Exclude => false,
                GoldSolutions::Train => true,
                GoldSolutions::Compete => won,
            };
            let response = query.gold_solution.as_deref().filter(|_| wanted)?;
            Some(Example { prompt: query.prompt.as_str().into(), response: response.into() })
        })
    }

    /// Records an event that leads up to a piece, unless that piece is published and the event
    /// therefore on record.
    pub(crate) fn record_before(
        &mut self,
        piece: Piece,
        iteration: u32,
        event: Event,
    ) -> Result<(), Fault> {
        if self.ledger.is_published(iteration, piece) { Ok(()) } else { self.ledger.record(event) }
    }
}

impl ImproveSettings {
    /// The fault that ends a run which selects nothing again and again.
    pub(crate) fn nothing_selected(in_a_row: u32, advice: String) -> Fault {
        let message = format!("nothing was selected in {in_a_row} iterations in a row");
        Fault::new(FaultClass::Training, message).hint(advice)
    }

    /// Stops a run in which too many answers of a stage could not be decided.
    pub(crate) fn check_gradable(&self, stage: Stage, rollouts: &[Rollout]) -> Result<(), Fault> {
        let what = format!("{} answers", stage.name());
        Undecided::among(rollouts).check(&what, self.most_ungradable)
    }
}

impl DrawActivity {
    /// What the user is told.
    pub fn of(self, iteration: u32, stage: Stage) -> Activity {
        match self {
            Self::Sample => Activity::Sample { iteration, stage },
            Self::Grade => Activity::Grade { iteration, stage },
            Self::Score => Activity::Score { iteration, stage },
        }
    }
}

/// `count` training queries, in an order drawn from `key`.
pub(crate) fn drawn_queries(task: &dyn Task, count: usize, key: RngKey) -> Vec<&Query> {
    let mut queries: Vec<&Query> = task.train().iter().collect();
    shuffle(&mut queries, &mut key.rng());
    queries.truncate(count);
    queries
}

/// Exact-text hash of each query's gold solution.
pub(crate) fn gold_hashes(queries: &[&Query]) -> Vec<Option<u64>> {
    queries.iter().map(|query| query.gold_solution.as_deref().map(exact_hash)).collect()
}

/// For each query, where its rollouts stand.
fn places_by_query(rollouts: &[Rollout], queries: &[&Query]) -> Vec<Vec<usize>> {
    let place: BTreeMap<_, _> =
        queries.iter().enumerate().map(|(i, query)| (&query.id, i)).collect();
    let mut places = vec![Vec::new(); queries.len()];
    for (index, rollout) in rollouts.iter().enumerate() {
        if let Some(&query) = place.get(&rollout.query_id) {
            places[query].push(index);
        }
    }
    places
}

/// Writes reward and selection into the rollouts.
pub(crate) fn mark(
    rollouts: &mut [Rollout],
    selection: &Selection,
    queries: &[&Query],
    rule: &RankingRule,
) {
    for rollout in rollouts.iter_mut() {
        let correct = rollout.verdict.is_correct();
        rollout.reward = Some(rule.reward(correct, rollout.reward_model_score));
        rollout.selected = Some(false);
    }
    for (chosen, places) in selection.chosen.iter().zip(places_by_query(rollouts, queries)) {
        for &response in chosen {
            rollouts[places[response]].selected = Some(true);
        }
    }
}

/// Uniformity and weighted entropy of the selection (spec §2).
fn spread_metrics(selected: &Selected<'_>, rollouts: &[Rollout]) -> Vec<Metric> {
    let places = places_by_query(rollouts, &selected.queries);
    let chosen = &selected.selection.chosen;
    let counts: Vec<u64> = chosen.iter().map(|chosen| chosen.len() as u64).collect();
    let is_correct = |place: usize| rollouts[place].verdict.is_correct();
    let correct: Vec<u64> = chosen
        .iter()
        .zip(&places)
        .map(|(chosen, places)| chosen.iter().filter(|r| is_correct(places[**r])).count() as u64)
        .collect();
    let queries = counts.iter().filter(|count| **count > 0).count();
    let metric = |name: &str, estimator: &str, value| Metric {
        name: name.into(),
        estimator: estimator.into(),
        value,
        low: None,
        high: None,
        queries,
    };
    let share = correct.iter().sum::<u64>() as f64 / counts.iter().sum::<u64>() as f64;
    let accuracy = Some(share).filter(|share| share.is_finite());
    vec![
        metric("data/selected_accuracy", "correct / selected, whole selection", accuracy),
        metric("data/uniformity", "1 - σ/μ of selected per query", uniformity(&counts)),
        metric(
            "data/weighted_entropy",
            "-Σ (correct/most correct) p ln p over the selection",
            weighted_entropy(&counts, &correct),
        ),
    ]
}
