//! A plan: what a run of a config will take, before it runs.
//!
//! Counts are those of `bstar_core::plan`, lengths and speeds are [`facts`], and this module
//! multiplies them and adds them up.

pub(crate) mod against;
mod calibration;
pub(crate) mod compared;
pub(crate) mod earlier;
pub(crate) mod facts;
mod memory;
mod rates;
mod speeds;
pub(crate) mod table;
mod texts;

use crate::config::{Config, Retention};
use bstar_core::controller::ThresholdSource;
use bstar_core::event::{Event, TrainStep};
use bstar_core::improve::ImproveSettings;
use bstar_core::monitor::monitor;
use bstar_core::plan::{Part, Purpose, Span, Tokens, Work};
use bstar_core::search::Search;
use bstar_core::{Fault, Rollout};
use bstar_store::event_bytes;
use facts::{Fact, Facts};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a run will take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What it is made of.
    pub(crate) facts: Vec<Fact>,
    /// By purpose, in the order of a run; purposes without work are left out.
    pub(crate) purposes: Vec<PurposePlan>,
    /// On disk, when the run is finished.
    pub(crate) disk: DiskPlan,
    /// Bytes of memory at the peak.
    pub(crate) memory_bytes: f64,
    /// Hours of one accelerator.
    pub(crate) accelerator_hours: Span,
    /// Their price, where one is given.
    pub(crate) price: Option<Span>,
    /// The resolved config that it is of; none in the plan of a comparison, which has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Value>,
}

/// What a purpose takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PurposePlan {
    /// The purpose.
    pub(crate) purpose: Purpose,
    /// Responses drawn.
    pub(crate) responses: Span,
    /// Optimizer steps.
    pub(crate) steps: Span,
    /// Tokens.
    pub(crate) tokens: Tokens,
    /// Time.
    pub(crate) seconds: Span,
}

impl PurposePlan {
    fn add(&mut self, other: &Self) {
        self.responses = self.responses + other.responses;
        self.steps = self.steps + other.steps;
        self.tokens = self.tokens + other.tokens;
        self.seconds = self.seconds + other.seconds;
    }
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DiskPlan {
    /// Checkpoints that stay.
    pub(crate) checkpoints: f64,
    /// Of them, states of the optimizer.
    pub(crate) optimizer: f64,
    /// Checkpoints that lie there at once while the run goes on, at most.
    pub(crate) checkpoints_at_once: f64,
    /// Reward models.
    pub(crate) reward_models: f64,
    /// Rollout files.
    pub(crate) rollouts: Span,
    /// The event log.
    pub(crate) events: Span,
}

impl DiskPlan {
    fn add(&mut self, other: &Self) {
        let most = |disk: &Self| disk.checkpoints_at_once - disk.checkpoints;
        let over = most(self).max(most(other));
        self.checkpoints += other.checkpoints;
        self.checkpoints_at_once = self.checkpoints + over;
        self.optimizer += other.optimizer;
        self.reward_models += other.reward_models;
        self.rollouts = self.rollouts + other.rollouts;
        self.events = self.events + other.events;
    }

    /// All of them, when the run is finished.
    pub(crate) fn total(&self) -> Span {
        self.rollouts + self.events + Span::same(self.checkpoints + self.reward_models)
    }
}

/// Checkpoints that stay of so many iterations, and those that are there at once.
fn checkpoints(part: Part, retention: Retention, iterations: usize) -> (usize, usize) {
    let start = usize::from(part.holds(0, Purpose::Supervised));
    let iterations = if part.holds(1, Purpose::Train) { iterations } else { 0 };
    match retention {
        Retention::KeepAll => (start + iterations, start + iterations),
        // The last two; while the next is made, three.
        Retention::KeepLast => (start + iterations.min(2), start + iterations.min(3)),
    }
}

impl Plan {
    /// Plans a run, or a part of it.
    pub(crate) fn new(config: &Config, facts: Facts, part: Part) -> Result<Self, Fault> {
        let settings = config.improve_settings(facts.known.size.train);
        settings.check_search(facts.known.size.train)?;
        let all = settings.planned_work(&facts.known);
        let held = all.iter().filter(|work| part.holds(work.iteration, work.purpose));
        let work: Vec<Work> = held.copied().collect();
        let purposes = purposes(&settings, &facts, &work);
        let mut disk = disk(config, &settings, &facts, (&work, part));
        // A run that takes over iteration 0 writes its events again.
        let told = |work: &&Work| work.iteration == 0 || part.holds(work.iteration, work.purpose);
        disk.events = events(&settings, &all.iter().filter(told).copied().collect::<Vec<_>>())?;
        let seconds: Span = purposes.iter().map(|row| row.seconds).sum();
        let accelerator_hours = seconds * (config.plan.accelerators / 3600.0);
        let price = config.plan.price_per_hour;
        Ok(Self {
            purposes,
            disk,
            memory_bytes: facts.memory + held_responses(&settings, &facts, &work),
            accelerator_hours,
            price: (price > 0.0).then(|| accelerator_hours * price),
            facts: facts.told,
            config: None,
        })
    }

    /// Adds what another run takes; what both rest on is told once. The memory is that of the larger
    /// of both.
    pub(crate) fn add(&mut self, other: Self) {
        for row in other.purposes {
            match self.purposes.iter_mut().find(|own| own.purpose == row.purpose) {
                Some(own) => own.add(&row),
                None => self.purposes.push(row),
            }
        }
        self.purposes.sort_by_key(|row| row.purpose);
        self.disk.add(&other.disk);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.accelerator_hours = self.accelerator_hours + other.accelerator_hours;
        self.price = match (self.price, other.price) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        for fact in other.facts {
            if !self.facts.contains(&fact) {
                self.facts.push(fact);
            }
        }
    }

    /// Responses for some purposes, as expected.
    pub(crate) fn responses(&self, purposes: &[Purpose]) -> f64 {
        let held = self.purposes.iter().filter(|row| purposes.contains(&row.purpose));
        held.map(|row| row.responses.expected).sum()
    }

    /// Time in all, one piece after the other.
    pub(crate) fn seconds(&self) -> Span {
        self.purposes.iter().map(|row| row.seconds).sum()
    }

    /// Tokens in all.
    pub(crate) fn tokens(&self) -> Tokens {
        self.purposes.iter().map(|row| row.tokens).sum()
    }
}

fn purposes(settings: &ImproveSettings, facts: &Facts, work: &[Work]) -> Vec<PurposePlan> {
    let of = |purpose: Purpose| -> Option<PurposePlan> {
        let own: Vec<&Work> = work.iter().filter(|work| work.purpose == purpose).collect();
        let tokens = |work: &Work| work.tokens(&facts.lengths);
        let seconds =
            |work: &Work| facts.rates.seconds(work, &tokens(work), updates(settings, facts, work));
        (!own.is_empty()).then(|| PurposePlan {
            purpose,
            responses: own.iter().map(|work| work.responses).sum(),
            steps: own.iter().map(|work| work.steps).sum(),
            tokens: own.iter().map(|work| tokens(work)).sum(),
            seconds: own.iter().map(|work| seconds(work)).sum(),
        })
    };
    Purpose::ALL.into_iter().filter_map(of).collect()
}

/// How often training begins anew: once a piece, but after each validation in supervised fine-tuning
/// and between stretches.
fn updates(settings: &ImproveSettings, facts: &Facts, work: &Work) -> Span {
    let validates = facts.known.size.validation > 0 && settings.supervised.validate_every > 0;
    match work.purpose {
        Purpose::Supervised if validates => {
            work.steps * (1.0 / settings.supervised.validate_every as f64)
        }
        Purpose::Train => Span::exact(settings.controller.knobs.steps.len().max(1)),
        Purpose::Supervised | Purpose::RewardModel => Span::exact(1),
        _ => Span::default(),
    }
}

/// Bytes on disk, the event log apart.
fn disk(
    config: &Config,
    settings: &ImproveSettings,
    facts: &Facts,
    (work, part): (&[Work], Part),
) -> DiskPlan {
    let iterations = settings.planned_iterations() as usize;
    let (kept, at_once) = checkpoints(part, config.run.checkpoints, iterations);
    let checkpoint = facts.numbers.checkpoint(facts.bytes, facts.stored.tokenizer);
    let moments = 2.0 * facts.numbers.trained * facts.bytes.moment;
    let trained = work.iter().filter(|work| work.purpose == Purpose::RewardModel).count();
    let reward_models = match config.run.checkpoints {
        Retention::KeepAll => trained,
        Retention::KeepLast => trained.min(1),
    };
    let reward_model = facts.numbers.saved_reward_model(facts.bytes, facts.stored.tokenizer);
    let bytes_of = |work: &Work| {
        let is_scored = work.scored.most > 0.0;
        if is_scored { facts.stored.scored_rollout } else { facts.stored.rollout }
    };
    let rollouts: Span = work.iter().map(|work| work.stored * bytes_of(work)).sum();
    // Log-probabilities at each candidate: numbers that hardly compress.
    let candidates = settings.controller.candidates().len();
    let weighed: Span = work.iter().map(|work| work.weighed).sum();
    let logprobs = weighed * (candidates * size_of::<f64>()) as f64;
    let is_stored = |work: &&Work| work.stored.most > 0.0;
    let files: BTreeSet<(u32, Purpose)> =
        work.iter().filter(is_stored).map(|work| (work.iteration, work.purpose)).collect();
    let files = Span::exact(files.len()) * facts.stored.file;
    DiskPlan {
        checkpoints: checkpoint * kept as f64,
        optimizer: moments * kept as f64,
        checkpoints_at_once: checkpoint * at_once as f64,
        reward_models: reward_model * reward_models as f64,
        rollouts: rollouts + logprobs + files,
        events: Span::default(),
    }
}

/// About what a scored cell, a monitor and everything else of an iteration take in the event log.
const CELL_BYTES: f64 = 200.0;
const METRIC_BYTES: f64 = 190.0;
const OTHER_BYTES: f64 = 2000.0;

fn events(settings: &ImproveSettings, work: &[Work]) -> Result<Span, Fault> {
    let step = TrainStep {
        step: 1000,
        loss: 1.0 / 3.0,
        learning_rate: 1e-3 / 3.0,
        gradient_norm: 1.0 / 7.0,
        tokens: 2000,
    };
    let step = event_bytes(&Event::Step { iteration: 1, step })? as f64;
    let steps: Span = work.iter().map(|work| work.steps).sum();
    // Monitors of the draw and of the evaluation.
    let metrics = 2.0 * monitor(&[], &settings.evaluation.monitors(&[])).len() as f64;
    let controller = &settings.controller;
    let (candidates, thresholds) = (controller.candidates().len(), controller.thresholds().len());
    let cells = thresholds * controller.knobs.settings();
    let probed = match settings.search {
        Search::Exhaustive => candidates * cells,
        Search::Racing | Search::Reweighting => candidates.min(1) * (cells + candidates),
    };
    let full = if controller.threshold_from == ThresholdSource::FullDraw { thresholds } else { 0 };
    let iteration = OTHER_BYTES + metrics * METRIC_BYTES + (probed + full) as f64 * CELL_BYTES;
    // Each evaluation ends an iteration; before the first nothing is decided.
    let is_evaluation = |work: &&Work| work.purpose == Purpose::Evaluation;
    let ends: BTreeSet<u32> =
        work.iter().filter(is_evaluation).map(|work| work.iteration).collect();
    let iterations: f64 = ends.iter().map(|end| if *end == 0 { 0.5 } else { 1.0 }).sum();
    Ok(steps * step + Span::same(iterations * iteration))
}

/// Bytes that the responses of the largest probe and draw take in memory.
fn held_responses(settings: &ImproveSettings, facts: &Facts, work: &[Work]) -> f64 {
    // Its text, and of each token its number, log-probability and entropy, in vectors that grow.
    const BYTES_OF_TOKEN: f64 = 32.0;
    let each = size_of::<Rollout>() as f64 + BYTES_OF_TOKEN * facts.lengths.train.response;
    let of = |iteration: u32| -> f64 {
        let is_held = |work: &&Work| {
            work.iteration == iteration && matches!(work.purpose, Purpose::Probe | Purpose::Draw)
        };
        work.iter().filter(is_held).map(|work| work.stored.expected).sum()
    };
    (0..=settings.planned_iterations()).map(of).fold(0.0, f64::max) * each
}

/// The purposes whose time is told apart by the events of a run: completions are timed with the
/// responses that they label, and the validation of stretches with the training that it interrupts.
pub(crate) const TIMED: [&[Purpose]; 8] = [
    &[Purpose::Supervised],
    &[Purpose::Validation],
    &[Purpose::Labels, Purpose::Completions],
    &[Purpose::RewardModel],
    &[Purpose::Probe],
    &[Purpose::Draw],
    &[Purpose::Train, Purpose::Stretches],
    &[Purpose::Evaluation],
];
