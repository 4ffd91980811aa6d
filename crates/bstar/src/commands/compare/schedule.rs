//! Runs a plan: several runs side by side, each on threads of its own, starts before what needs them.
//!
//! A run that fails is remembered and the others go on; an interrupt ends them all, each at its last
//! published piece. What is finished is not made again.

use super::jobs::Job;
use super::meter::Meter;
use super::plan::{Plan, PlannedRun, Start};
use super::validate::{Validation, validate};
use crate::commands::run::{Part, RunRequest, carry_out};
use crate::config::comparison::Comparison;
use crate::config::layers::Loaded;
use crate::ledger::GO_ON;
use crate::models;
use crate::output::Notes;
use bstar_core::event::{Event, Piece};
use bstar_core::reward::RewardKind;
use bstar_core::{Fault, FaultClass};
use bstar_report::RunReport;
use bstar_store::{ComparisonLayout, ComparisonStore, RunView};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Why runs failed, by their index.
pub(super) type Failures = BTreeMap<usize, Fault>;

/// A plan at work.
pub(super) struct Schedule<'a> {
    pub(super) comparison: &'a Comparison,
    pub(super) plan: &'a Plan,
    pub(super) store: &'a ComparisonStore,
    pub(super) meter: Meter,
    pub(super) interrupted: Arc<AtomicBool>,
}

#[derive(Default)]
struct Board {
    waiting: Vec<Job>,
    /// Jobs that ended: well, or with the fault that is told.
    ended: BTreeMap<Job, Option<Fault>>,
}

impl Plan {
    /// Fetches the models that jobs need and this machine lacks: workers would fetch them twice.
    pub(super) fn fetch_models(&self, jobs: &[Job], notes: Notes) -> Result<(), Fault> {
        let mut names = BTreeSet::new();
        for job in jobs {
            let loaded = match *job {
                Job::Start(index) => &self.starts[index].loaded,
                Job::Run(index) => &self.runs[index].loaded,
            };
            let config = &loaded.config;
            let scores = config.reward.kind == RewardKind::AnswerAndRewardModel;
            let judge = scores.then_some((&config.reward_model.name, &config.reward_model.folder));
            if names.insert((&config.model.name, &config.model.folder, judge)) {
                models::fetch(loaded, notes)?;
            }
        }
        Ok(())
    }
}

impl Schedule<'_> {
    /// Makes everything that is not there yet, and gives the runs that failed.
    pub(super) fn carry_out(&self, workers: usize) -> Result<Failures, Fault> {
        let board = Mutex::new(Board { waiting: self.jobs(), ..Board::default() });
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            let work = || self.work(&board, &changed);
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(Fault::new(FaultClass::Bug, "a worker of the comparison panicked"))
                })
            })
        })?;
        self.meter.finish();
        let board = board.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(self.interruption(&board));
        }
        let failed = board.ended.into_iter().filter_map(|(job, fault)| match job {
            Job::Run(index) => Some((index, fault?)),
            Job::Start(_) => None,
        });
        Ok(failed.collect())
    }

    /// The end by an interrupt, with what begins again of the jobs that were at work.
    fn interruption(&self, board: &Board) -> Fault {
        let told = board.ended.iter().filter_map(|(job, fault)| {
            let begun = fault.as_ref()?.begun.as_ref()?;
            Some(format!("\n  {}: {begun} begins again from its start", self.name(*job)))
        });
        let told: String = told.collect();
        Fault::new(FaultClass::Interrupted, "interrupted; everything published is safe")
            .hint(format!("{GO_ON}{told}"))
    }

    fn jobs(&self) -> Vec<Job> {
        let layout = self.store.layout();
        self.plan.jobs(|run| is_complete(self.comparison, &layout, run))
    }

    /// Takes jobs until none is left.
    fn work(&self, board: &Mutex<Board>, changed: &Condvar) -> Result<(), Fault> {
        let threads = self.comparison.threads;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| {
            let message = format!("cannot start {threads} threads");
            Fault::new(FaultClass::Resource, message).because(error)
        })?;
        let mut guard = lock(board);
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                guard.waiting.clear();
            }
            if let Some(job) = self.next(&mut guard) {
                drop(guard);
                let result = survive(|| pool.install(|| self.make(job)));
                // Reading a log takes a while, and the others need the board.
                let report = if result.is_ok() { self.report(job) } else { None };
                guard = lock(board);
                self.meter.ended(job, &self.name(job), result.as_ref().err(), report.as_ref());
                guard.ended.insert(job, result.err());
                changed.notify_all();
            } else if guard.waiting.is_empty() {
                return Ok(());
            } else {
                guard = changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        }
    }

    /// The first job whose needs are met. Jobs whose needs failed fail too.
    fn next(&self, board: &mut Board) -> Option<Job> {
        let mut place = 0;
        while let Some(&job) = board.waiting.get(place) {
            let needs = self.plan.needs(job);
            let failed = needs.iter().find_map(|need| board.ended.get(need)?.as_ref());
            if let Some(fault) = failed {
                let fault = again(fault);
                self.meter.ended(job, &self.name(job), Some(&fault), None);
                board.ended.insert(job, Some(fault));
                board.waiting.remove(place);
            } else if needs.iter().all(|need| board.ended.contains_key(need)) {
                return Some(board.waiting.remove(place));
            } else {
                place += 1;
            }
        }
        None
    }

    /// A job in words.
    pub(super) fn name(&self, job: Job) -> String {
        match job {
            Job::Start(index) => {
                let start = &self.plan.starts[index];
                format!("P_0 of seed {}", start.seed)
            }
            Job::Run(index) => {
                let run = &self.plan.runs[index];
                format!("{}, seed {}", self.comparison.entries[run.entry].name, run.seed)
            }
        }
    }

    /// What the events of a job tell, if it has any.
    fn report(&self, job: Job) -> Option<RunReport> {
        let dir = match job {
            Job::Start(index) => &self.plan.starts[index].dir,
            Job::Run(index) => &self.plan.runs[index].dir,
        };
        let events = RunView::open(dir).and_then(|view| view.events()).ok()?;
        Some(RunReport::from_events(events.iter().map(|logged| &logged.event)))
    }

    fn make(&self, job: Job) -> Result<(), Fault> {
        self.meter.began(job);
        match job {
            Job::Start(index) => self.make_start(&self.plan.starts[index], job),
            Job::Run(index) => self.make_run(&self.plan.runs[index], job),
        }
    }

    fn make_start(&self, start: &Start, job: Job) -> Result<(), Fault> {
        let pieces = start.supervised_from.map(|from| {
            let from = self.plan.starts[from].dir.clone();
            vec![(from, Piece::Train)]
        });
        let request = RunRequest {
            dir: &start.dir,
            identity: Some(start.identity()),
            start: &pieces.unwrap_or_default(),
            part: Part::Start,
            interrupted: Arc::clone(&self.interrupted),
        };
        self.run(&start.loaded, &request, job)
    }

    fn make_run(&self, run: &PlannedRun, job: Job) -> Result<(), Fault> {
        let start = &self.plan.starts[run.start].dir;
        let published = RunView::open(start)?.events()?;
        let pieces = [Piece::Train, Piece::RewardModel, Piece::Evaluate];
        let is_there = |piece: &Piece| {
            let event = Event::Published { iteration: 0, piece: *piece };
            published.iter().any(|logged| logged.event == event)
        };
        let pieces = pieces.into_iter().filter(is_there).map(|piece| (start.clone(), piece));
        let pieces: Vec<(PathBuf, Piece)> = pieces.collect();
        let request = RunRequest {
            dir: &run.dir,
            identity: None,
            start: &pieces,
            part: Part::Whole,
            interrupted: Arc::clone(&self.interrupted),
        };
        let labels = |start: usize| self.plan.starts[start].labels();
        let counted = Plan::after_labels(self.comparison, run, &labels)?;
        if run.labels_from.is_some() && counted.is_none() {
            let message = "the labels that a budget depends on are not counted";
            return Err(Fault::new(FaultClass::Run, message)
                .hint("the folder under `starts` was changed; start over with `--fresh`"));
        }
        let loaded = counted.as_ref().unwrap_or(&run.loaded);
        run.check_search(self.comparison, &loaded.config)?;
        self.run(loaded, &request, job)?;
        let entry = &self.comparison.entries[run.entry];
        match self.comparison.validation_queries {
            0 => Ok(()),
            queries => {
                let interrupted = &self.interrupted;
                validate(self.store, entry, (run, loaded), queries, interrupted)
            }
        }
    }

    fn run(&self, loaded: &Loaded, request: &RunRequest<'_>, job: Job) -> Result<(), Fault> {
        loaded.config.check()?;
        let watch = Box::new(self.meter.watch(job));
        carry_out(loaded, request, watch, Notes { quiet: true }).map(drop)
    }
}

/// Whether a run is complete and validated, where that is asked.
pub(super) fn is_complete(
    comparison: &Comparison,
    layout: &ComparisonLayout,
    run: &PlannedRun,
) -> bool {
    let queries = comparison.validation_queries;
    let entry = &comparison.entries[run.entry];
    is_finished(run)
        && (queries == 0 || Validation::read(layout, entry, run.seed, queries).is_some())
}

/// Whether a run said that it is complete.
pub(super) fn is_finished(run: &PlannedRun) -> bool {
    let events = RunView::open(&run.dir).and_then(|view| view.events());
    let is_end = |event: &Event| matches!(event, Event::RunFinished { .. });
    events.is_ok_and(|events| events.iter().any(|logged| is_end(&logged.event)))
}

/// A panic is a bug of one run and must not keep the others waiting.
fn survive(make: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(make))
        .unwrap_or_else(|_| Err(Fault::new(FaultClass::Bug, "the run panicked; see above")))
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The same fault once more: what it was caused by stays with the first.
fn again(fault: &Fault) -> Fault {
    let again = Fault::new(fault.class, format!("its P_0 failed: {fault}"));
    match &fault.hint {
        Some(hint) => again.hint(hint.clone()),
        None => again,
    }
}
