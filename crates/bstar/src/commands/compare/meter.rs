//! How far a comparison is: a line for each run that ends, now and then one in between, and how long
//! the rest will take.
//!
//! The unit is the response: responses drawn, and sequences trained on, which cost about as much. The
//! time left assumes that the rest goes as fast as what this process has done of the same kind: starts
//! like starts, where one has ended, and runs like runs, once one has made a whole iteration. Until then
//! nothing is said of it.

use super::jobs::Job;
use super::plan::{Plan, PlannedRun, Start};
use super::schedule::is_complete;
use crate::config::Config;
use crate::config::comparison::Comparison;
use crate::output::Notes;
use crate::progress::{Watch, about, in_words};
use bstar_core::event::{Activity, Event};
use bstar_core::ports::Progress;
use bstar_core::{Fault, FaultClass};
use bstar_report::RunReport;
use bstar_store::{ComparisonLayout, RunView};
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
    /// Runs side by side.
    workers: usize,
    /// Runs in all, and those that have ended, whoever made them.
    runs: usize,
    ended: usize,
    /// Whether this process has begun anything that had to be made.
    has_begun: bool,
}

/// What a job costs, and what of it is done.
#[derive(Clone, Debug, Default)]
struct Units {
    whole: f64,
    /// Done once each iteration is complete, of a run.
    by_iteration: Vec<f64>,
    /// Done before this process, and by now.
    before: f64,
    counted: f64,
    /// When it began, and the seconds that it took until units were counted the last time.
    began: Option<Instant>,
    seconds: f64,
}

impl Units {
    /// Seconds since units were counted the last time; 0 before it began.
    fn since_counted(&self, now: Instant) -> f64 {
        (self.elapsed(now) - self.seconds).max(0.0)
    }

    /// Seconds since it began; 0 before.
    fn elapsed(&self, now: Instant) -> f64 {
        self.began.map_or(0.0, |began| now.duration_since(began).as_secs_f64())
    }

    /// Units done with this iteration; none of what has no iterations.
    fn by(&self, iteration: u32) -> f64 {
        self.by_iteration.get(iteration as usize).copied().unwrap_or(0.0)
    }

    /// Whether it tells how fast jobs of its kind are.
    fn is_measured(&self) -> bool {
        let done = self.counted - self.before;
        done > 0.0 && done >= self.by(1)
    }
}

impl Meter {
    /// Over what has to be made of a plan that lies in `layout`.
    pub(super) fn of(
        comparison: &Comparison,
        plan: &Plan,
        (layout, workers): (&ComparisonLayout, usize),
        notes: Notes,
    ) -> Self {
        let mut jobs = BTreeMap::new();
        let runs = plan.runs.len();
        let mut ended = runs;
        for job in plan.jobs(|run| is_complete(comparison, layout, run)) {
            match job {
                Job::Run(index) => {
                    ended -= 1;
                    jobs.insert(job, units_of_run(&plan.runs[index]));
                }
                Job::Start(index) if !plan.starts[index].is_complete() => {
                    let has_queries = |run: &&PlannedRun| run.start == index;
                    let run = plan.runs.iter().find(has_queries);
                    let queries = run.map_or(0, |run| run.training_queries);
                    jobs.insert(job, units_of_start(&plan.starts[index], queries));
                }
                Job::Start(_) => {}
            }
        }
        let now = Instant::now();
        if ended > 0 {
            notes.tell(&format!("{ended} of {runs} runs are finished already"));
        }
        let has_begun = false;
        let state = State { notes, began: now, told: now, jobs, workers, runs, ended, has_begun };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A job began.
    pub(super) fn began(&self, job: Job) {
        let mut state = self.lock();
        if let Some(units) = state.jobs.get_mut(&job) {
            units.began = Some(Instant::now());
            state.has_begun = true;
        }
    }

    /// A job ended; `report` is what its events tell.
    pub(super) fn ended(
        &self,
        job: Job,
        name: &str,
        fault: Option<&Fault>,
        report: Option<&RunReport>,
    ) {
        if fault.is_some_and(|fault| fault.class == FaultClass::Interrupted) {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        let is_new = state.jobs.contains_key(&job);
        let took = state.jobs.get(&job).map_or(0.0, |units| units.elapsed(now));
        if fault.is_some() {
            // Nothing of it is left, and it tells nothing of the others.
            state.jobs.remove(&job);
        } else {
            state.count(job, f64::INFINITY, now);
        }
        if matches!(job, Job::Run(_)) {
            state.ended += 1;
        }
        let line = match (fault, job) {
            (Some(fault), _) => format!("{name} failed: {fault}"),
            (None, Job::Run(_)) => format!("{name}: {took:.1} s{}", accuracy(report)),
            (None, Job::Start(_)) => {
                let made = if is_new { format!("{took:.1} s") } else { "already there".into() };
                format!("{name}: {made}{}{}", accuracy(report), missed_goal(report))
            }
        };
        state.tell(&line, now);
    }

    /// All is done.
    pub(super) fn finish(&self) {
        let state = self.lock();
        if let Some(line) = state.last_line(Instant::now()) {
            state.notes.tell(&line);
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
    fn count(&mut self, job: Job, units: f64, now: Instant) {
        let Some(of) = self.jobs.get_mut(&job) else { return };
        let units = units.min(of.whole);
        if units > of.counted {
            of.counted = units;
            of.seconds = of.elapsed(now);
        }
    }

    /// What is said at the end, if anything was made.
    fn last_line(&self, now: Instant) -> Option<String> {
        let took = in_words(now.duration_since(self.began));
        self.has_begun.then(|| format!("{} of {} runs ended; {took}", self.ended, self.runs))
    }

    fn tell(&mut self, line: &str, now: Instant) {
        self.told = now;
        let (ended, runs) = (self.ended, self.runs);
        let left = self.seconds_left(now).and_then(|left| Duration::try_from_secs_f64(left).ok());
        let left =
            left.map_or_else(String::new, |left| format!("; the rest takes {}", about(left)));
        self.notes.tell(&format!("[{ended}/{runs}] {line}{left}"));
    }

    /// The time left, once something is known of the speed of all that is left.
    fn seconds_left(&self, now: Instant) -> Option<f64> {
        let mut each = Vec::new();
        for (job, units) in self.jobs.iter().filter(|(_, units)| units.counted < units.whole) {
            let seconds = (units.whole - units.counted) / self.speed(*job)?;
            each.push((seconds - units.since_counted(now)).max(0.0));
        }
        let longest = each.iter().copied().reduce(f64::max)?;
        let all: f64 = each.iter().sum();
        Some(longest.max(all / self.workers.clamp(1, each.len()) as f64))
    }

    /// Units that jobs of this kind made in a second.
    fn speed(&self, kind: Job) -> Option<f64> {
        let is_alike = |job: &Job| matches!(job, Job::Run(_)) == matches!(kind, Job::Run(_));
        let alike = self.jobs.iter().filter(|(job, _)| is_alike(job)).map(|(_, units)| units);
        let measured = alike.filter(|units| units.is_measured());
        let (units, seconds) = measured.fold((0.0, 0.0), |(units, seconds), of| {
            (units + of.counted - of.before, seconds + of.seconds)
        });
        (seconds > 0.0).then(|| units / seconds)
    }
}

/// The last greedy accuracy, in words.
fn accuracy(report: Option<&RunReport>) -> String {
    let value = |report: &RunReport| {
        let name = format!("eval/{}/pass@1", report.task);
        report.iterations.last()?.metrics.get(&name)?.value
    };
    report
        .and_then(value)
        .map_or_else(String::new, |accuracy| format!(", greedy accuracy {:.1} %", 100.0 * accuracy))
}

/// The goal that P_0 missed, in words.
fn missed_goal(report: Option<&RunReport>) -> String {
    let missed = report.and_then(|report| report.missed_goal);
    missed.map_or_else(String::new, |missed| format!("; it missed its goal: {missed}"))
}

fn units_of_run(run: &PlannedRun) -> Units {
    let (config, training_queries) = (&run.loaded.config, run.training_queries);
    let settings = config.improve_settings(training_queries);
    let planned = settings.planned_iterations();
    let drawn = settings.planned_responses(training_queries) as f64 / f64::from(planned.max(1));
    let learnt = (settings.steps_per_iteration * settings.batch_size) as f64;
    let mut by_iteration = vec![0.0];
    let mut done = 0.0;
    for iteration in 1..=planned {
        let is_due = settings.reward_training.as_ref().is_some_and(|it| it.is_due(iteration));
        let trained = if is_due { reward_model(config, training_queries) } else { 0.0 };
        done += trained + drawn + learnt + evaluated(config);
        by_iteration.push(done);
    }
    let units = Units { whole: done + 1.0, by_iteration, ..Units::default() };
    let before = units.by(committed(run));
    Units { before, counted: before, ..units }
}

/// What a training of the reward model costs.
fn reward_model(config: &Config, training_queries: usize) -> f64 {
    let model = &config.reward_model;
    let queries = match model.queries {
        0 => training_queries,
        wanted => wanted.min(training_queries),
    };
    // A response has a handful of steps, and completions are shorter than responses.
    let labels = queries * model.responses * (1 + 2 * model.completions);
    (labels + model.steps * model.batch_size) as f64
}

/// The last iteration that a run has made already.
fn committed(run: &PlannedRun) -> u32 {
    let events = RunView::open(&run.dir).and_then(|view| view.events()).unwrap_or_default();
    let committed = events.iter().filter_map(|logged| match logged.event {
        Event::IterationCommitted { iteration, .. } => Some(iteration),
        _ => None,
    });
    committed.max().unwrap_or(0)
}

fn units_of_start(start: &Start, training_queries: usize) -> Units {
    let config = &start.loaded.config;
    let supervised = (config.supervised.steps * config.supervised.batch_size) as f64;
    let trains = config.improve_settings(0).reward_training.is_some();
    let whole = evaluated(config)
        + if start.supervised_from.is_none() { supervised } else { 0.0 }
        + if trains { reward_model(config, training_queries) } else { 0.0 };
    Units { whole, ..Units::default() }
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
        let now = Instant::now();
        let mut state = self.meter.lock();
        if now.duration_since(state.told) >= BETWEEN_LINES {
            state.tell("at work", now);
        }
    }

    fn event(&mut self, event: &Event) {
        if let Event::IterationCommitted { iteration, .. } = event {
            let mut state = self.meter.lock();
            let done = state.jobs.get(&self.job).map_or(0.0, |units| units.by(*iteration));
            state.count(self.job, done, Instant::now());
        }
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers;

    fn state(jobs: &[(Job, Units)], workers: usize) -> State {
        let now = Instant::now();
        State {
            notes: Notes { quiet: true },
            began: now,
            told: now,
            jobs: jobs.iter().cloned().collect(),
            workers,
            runs: 2,
            ended: 0,
            has_begun: false,
        }
    }

    /// All of them are to be made; what is done took so many seconds.
    fn units(whole: f64, counted: f64, seconds: f64) -> Units {
        Units { whole, counted, seconds, by_iteration: vec![0.0, 10.0], ..Units::default() }
    }

    #[test]
    fn nothing_is_said_of_the_time_left_until_a_run_has_made_an_iteration() {
        let start = Units { by_iteration: Vec::new(), ..units(50_000.0, 50_000.0, 1.0) };
        let begun = |run: Units| {
            let jobs = [
                (Job::Start(0), start.clone()),
                (Job::Run(0), run),
                (Job::Run(1), units(41.0, 0.0, 0.0)),
            ];
            state(&jobs, 1).seconds_left(Instant::now())
        };
        assert_eq!(begun(units(41.0, 0.0, 0.0)), None, "a P_0 tells nothing of runs");
        assert_eq!(begun(units(41.0, 10.0, 5.0)), Some(0.5 * (31.0 + 41.0)));
        // Supervised fine-tuning alone ends at once, and what was done before took no time.
        assert_eq!(begun(units(1.0, 1.0, 0.1)), None);
        assert_eq!(begun(Units { before: 10.0, ..units(41.0, 10.0, 0.0) }), None);
    }

    #[test]
    fn a_start_that_is_left_needs_one_that_has_ended_and_workers_share_what_is_left() {
        let start = |counted: f64, seconds: f64| Units {
            by_iteration: Vec::new(),
            ..units(60.0, counted, seconds)
        };
        let run = units(40.0, 20.0, 10.0);
        let left = |starts: [Units; 2], workers: usize| {
            let [first, second] = starts;
            let jobs =
                [(Job::Start(0), first), (Job::Start(1), second), (Job::Run(0), run.clone())];
            state(&jobs, workers).seconds_left(Instant::now())
        };
        assert_eq!(left([start(0.0, 0.0), start(0.0, 0.0)], 1), None);
        assert_eq!(left([start(60.0, 6.0), start(0.0, 0.0)], 1), Some(6.0 + 10.0));
        assert_eq!(left([start(60.0, 6.0), start(0.0, 0.0)], 2), Some(10.0));
        assert_eq!(left([start(60.0, 6.0), start(0.0, 0.0)], 9), Some(10.0));
        let ended = units(40.0, 40.0, 10.0);
        assert_eq!(
            state(&[(Job::Run(0), ended)], 1).seconds_left(Instant::now()),
            None,
            "nothing is left"
        );
    }

    #[test]
    fn what_a_job_has_been_at_since_it_was_counted_is_not_left() {
        let first = Instant::now();
        let at = |seconds: u64| first + Duration::from_secs(seconds);
        let begun = Units { began: Some(first), ..units(40.0, 0.0, 0.0) };
        let mut state = state(&[(Job::Run(0), begun)], 1);
        state.count(Job::Run(0), 20.0, at(10));
        assert_eq!(state.seconds_left(at(10)), Some(10.0));
        assert_eq!(state.seconds_left(at(17)), Some(3.0), "7 seconds of it have passed");
        assert_eq!(state.seconds_left(at(60)), Some(0.0), "it takes longer than others did");
        state.count(Job::Run(0), 30.0, at(60));
        assert_eq!(state.seconds_left(at(60)), Some(20.0));
    }

    #[test]
    fn the_last_line_is_told_where_every_job_failed_and_not_where_nothing_was_made() {
        let state = state(&[(Job::Run(0), units(40.0, 0.0, 0.0))], 1);
        let meter = Meter { state: Arc::new(Mutex::new(state)) };
        let last_line = || meter.lock().last_line(Instant::now());
        meter.began(Job::Start(0));
        assert_eq!(last_line(), None, "it was made before");
        meter.began(Job::Run(0));
        meter.ended(Job::Run(0), "a run", Some(&Fault::new(FaultClass::Run, "lost")), None);
        assert!(last_line().is_some_and(|line| line.starts_with("1 of 2 runs ended; ")));
    }

    #[test]
    fn later_reward_models_are_a_part_of_the_iterations_that_train_them() {
        let by = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
            let run = PlannedRun {
                entry: 0,
                seed: 1,
                loaded: layers::load(None, &settings).expect("a config"),
                dir: "nowhere".into(),
                start: 0,
                labels_from: None,
                training_queries: 100,
                data: String::new(),
            };
            let units = units_of_run(&run);
            (1..=3).map(|iteration| units.by(iteration)).collect::<Vec<_>>()
        };
        let scored = ["iterations=3", "reward.kind=answer-and-reward-model"];
        let once = by(&scored);
        let again = by(&[&scored[..], &["reward_model.refresh_every=1"]].concat());
        let loaded = layers::load(None, &[]).expect("a config");
        let training = reward_model(&loaded.config, 100);
        assert!(training > 0.0);
        assert_eq!(again, [once[0], once[1] + training, once[2] + 2.0 * training]);
    }
}
