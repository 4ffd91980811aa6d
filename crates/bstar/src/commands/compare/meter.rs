//! How far a comparison is: a line for each run that ends, now and then one in between, and how long
//! the rest will take.
//!
//! The unit is the response: responses drawn, and sequences trained on, which cost about as much. The
//! time left assumes that the rest goes as fast as what this process has done.

use super::jobs::Job;
use super::plan::Plan;
use super::schedule::is_complete;
use crate::config::Config;
use crate::config::comparison::Comparison;
use crate::output::Notes;
use crate::progress::Watch;
use bstar_core::event::{Activity, Event};
use bstar_core::ports::Progress;
use bstar_core::{Fault, FaultClass};
use bstar_store::ComparisonStore;
use indicatif::HumanDuration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines while nothing ends.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

/// Shared by all workers.
#[derive(Clone)]
pub(super) struct Meter {
    state: Arc<Mutex<State>>,
}

struct State {
    notes: Notes,
    began: Instant,
    told: Instant,
    /// Units of each job that has to be made.
    jobs: BTreeMap<Job, Units>,
    /// Units done by this process.
    done: f64,
    /// Runs in all, and those that have ended, whoever made them.
    runs: usize,
    ended: usize,
    started: BTreeMap<Job, Instant>,
    accuracy: BTreeMap<Job, f64>,
}

/// What a job costs.
#[derive(Clone, Copy, Debug, Default)]
struct Units {
    whole: f64,
    iteration: f64,
    /// Already counted as done.
    counted: f64,
}

impl Meter {
    /// Over what has to be made of a plan.
    pub(super) fn of(
        comparison: &Comparison,
        plan: &Plan,
        store: &ComparisonStore,
        notes: Notes,
    ) -> Self {
        let mut jobs = BTreeMap::new();
        let mut ended = 0;
        for (index, run) in plan.runs.iter().enumerate() {
            if is_complete(comparison, store, run) {
                ended += 1;
                continue;
            }
            jobs.insert(Job::Run(index), units_of_run(&run.loaded.config, run.training_queries));
            let start = &plan.starts[run.start];
            let taught = start.supervised_from.is_none();
            let units = units_of_start(&start.loaded.config, taught);
            jobs.insert(Job::Start(run.start), units);
        }
        let now = Instant::now();
        let state = State {
            notes,
            began: now,
            told: now,
            jobs,
            done: 0.0,
            runs: plan.runs.len(),
            ended,
            started: BTreeMap::new(),
            accuracy: BTreeMap::new(),
        };
        if ended > 0 {
            notes.tell(&format!("{ended} of {} runs are finished already", plan.runs.len()));
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A job began.
    pub(super) fn began(&self, job: Job) {
        self.lock().started.insert(job, Instant::now());
    }

    /// A job ended.
    pub(super) fn ended(&self, job: Job, name: &str, fault: Option<&Fault>) {
        if fault.is_some_and(|fault| fault.class == FaultClass::Interrupted) {
            return;
        }
        let mut state = self.lock();
        state.count(job, f64::INFINITY);
        if matches!(job, Job::Run(_)) {
            state.ended += 1;
        }
        let took = state.started.get(&job).map_or(0.0, |began| began.elapsed().as_secs_f64());
        let accuracy = state.accuracy.get(&job).map_or_else(String::new, |accuracy| {
            format!(", greedy accuracy {:.1} %", 100.0 * accuracy)
        });
        let line = match fault {
            Some(fault) => format!("{name} failed: {fault}"),
            None => format!("{name}: {took:.1} s{accuracy}"),
        };
        state.tell(&line);
    }

    /// All is done.
    pub(super) fn finish(&self) {
        let state = self.lock();
        let took = HumanDuration(state.began.elapsed());
        if !state.started.is_empty() {
            state.notes.tell(&format!("{} of {} runs ended; {took}", state.ended, state.runs));
        }
    }

    /// Watches the run of a job.
    pub(super) fn watch(&self, job: Job) -> RunWatch {
        RunWatch { meter: self.clone(), job }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// So many units of a job are done by now, at most all of them.
    fn count(&mut self, job: Job, units: f64) {
        let Some(of) = self.jobs.get_mut(&job) else { return };
        let units = units.min(of.whole);
        self.done += (units - of.counted).max(0.0);
        of.counted = of.counted.max(units);
    }

    fn tell(&mut self, line: &str) {
        self.told = Instant::now();
        let (ended, runs) = (self.ended, self.runs);
        self.notes.tell(&format!("[{ended}/{runs}] {line}{}", self.left()));
    }

    /// The time left, once something is known of the speed.
    fn left(&self) -> String {
        let all: f64 = self.jobs.values().map(|units| units.whole).sum();
        let seconds = self.began.elapsed().as_secs_f64() * (all - self.done) / self.done;
        match Duration::try_from_secs_f64(seconds) {
            Ok(left) if all > self.done => {
                format!("; the rest takes about {}", HumanDuration(left))
            }
            _ => String::new(),
        }
    }
}

fn units_of_run(config: &Config, training_queries: usize) -> Units {
    let settings = config.improve_settings(training_queries);
    let iterations = f64::from(settings.planned_iterations());
    let drawn = settings.planned_responses(training_queries) as f64 / iterations.max(1.0);
    let learnt = (settings.steps_per_iteration * settings.batch_size) as f64;
    let iteration = drawn + learnt + evaluated(config);
    Units { whole: iteration * iterations + 1.0, iteration, counted: 0.0 }
}

fn units_of_start(config: &Config, taught: bool) -> Units {
    let supervised = (config.supervised.steps * config.supervised.batch_size) as f64;
    let model = &config.reward_model;
    // A response has a handful of steps, and completions are shorter than responses.
    let labels = (model.queries * model.responses * (1 + 2 * model.completions)) as f64;
    let trains = config.improve_settings(0).reward_training.is_some();
    let whole = evaluated(config)
        + if taught { supervised } else { 0.0 }
        + if trains { labels + (model.steps * model.batch_size) as f64 } else { 0.0 };
    Units { whole, iteration: 0.0, counted: 0.0 }
}

fn evaluated(config: &Config) -> f64 {
    let evaluate = &config.evaluate;
    (evaluate.queries + evaluate.sampled_queries * evaluate.samples) as f64
}

/// Watches one run among others.
pub(super) struct RunWatch {
    meter: Meter,
    job: Job,
}

impl Watch for RunWatch {
    fn tick(&mut self, _: Activity, _: Progress) {
        let mut state = self.meter.lock();
        if state.told.elapsed() >= BETWEEN_LINES {
            state.tell("at work");
        }
    }

    fn event(&mut self, event: &Event) {
        let mut state = self.meter.lock();
        match event {
            Event::IterationCommitted { iteration, .. } => {
                let each = state.jobs.get(&self.job).map_or(0.0, |units| units.iteration);
                state.count(self.job, each * f64::from(*iteration));
            }
            Event::Measured { metrics, .. } => {
                let is_accuracy =
                    |name: &str| name.starts_with("eval/") && name.ends_with("/pass@1");
                let found = metrics.iter().find(|metric| is_accuracy(&metric.name));
                if let Some(value) = found.and_then(|metric| metric.value) {
                    state.accuracy.insert(self.job, value);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self) {}
}
