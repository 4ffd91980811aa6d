//! What a person sees while a run works: a bar with the time left on a terminal, one line per piece
//! of work elsewhere, and after each iteration how long the rest will take. Best effort: nothing
//! here can end a run, and nothing here is remembered.

use crate::output::Notes;
use bstar_core::controller::Decision;
use bstar_core::curriculum::Renewal;
use bstar_core::event::{Activity, Event, SelectionSummary};
use bstar_core::ports::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Is told how a run goes on.
pub(crate) trait Watch {
    /// How far the current work is.
    fn tick(&mut self, activity: Activity, progress: Progress);

    /// Something happened.
    fn event(&mut self, event: &Event);

    /// The current piece of work ended.
    fn finish(&mut self);

    /// The run ends in the middle of its work.
    fn break_off(&mut self) {
        self.finish();
    }
}

/// How the user is told of progress.
#[derive(Debug)]
pub(crate) struct View {
    notes: Notes,
    terminal: bool,
    /// Iterations planned; 0 outside a run.
    iterations: u32,
    work: Option<Work>,
    /// Work that waits for another piece: temperatures are drawn and checked by turns.
    paused: Vec<Paused>,
    /// When the work before ended: the next piece counts from there.
    idle_since: Instant,
    /// The last validation of P_0, in words.
    validated: String,
    /// Whether the run ends before its work does.
    breaks_off: bool,
    /// When the iteration began that is being made, if this process began it.
    iteration_began: Option<Instant>,
    /// Time of the iterations that this process made from beginning to end, and their number.
    whole_iterations: (Duration, u32),
}

#[derive(Debug)]
struct Work {
    activity: Activity,
    progress: Progress,
    began: Instant,
    /// Time that it took before it was paused.
    earlier: Duration,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Work {
    fn took(&self) -> Duration {
        self.earlier + self.began.elapsed()
    }
}

/// Work that is not at hand.
#[derive(Clone, Copy, Debug)]
struct Paused {
    activity: Activity,
    progress: Progress,
    took: Duration,
}

/// Share of responses that is worth a word when they are cut.
const MANY: f64 = 0.05;

/// Time between two lines about the same piece of work where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

impl View {
    /// A view on stderr.
    pub(crate) fn new(notes: Notes, iterations: u32) -> Self {
        Self {
            notes,
            terminal: std::io::stderr().is_terminal(),
            iterations,
            work: None,
            paused: Vec::new(),
            idle_since: Instant::now(),
            validated: String::new(),
            breaks_off: false,
            iteration_began: None,
            whole_iterations: (Duration::ZERO, 0),
        }
    }

    /// The iteration's place in the run.
    fn place(&self, iteration: u32) -> String {
        match (self.iterations, iteration) {
            (0, _) => String::new(),
            (_, 0) => "P_0 ".into(),
            (all, iteration) => format!("[{iteration}/{all}] "),
        }
    }

    fn label(&self, activity: Activity) -> String {
        match activity {
            Activity::Supervise => "P_0 supervised fine-tuning".into(),
            Activity::Validate => "validation".into(),
            Activity::DrawLabels => "reward model: responses".into(),
            Activity::Complete => "reward model: completions".into(),
            Activity::TrainRewardModel => "reward model".into(),
            Activity::MeasureRewardModel => "reward model: held out".into(),
            Activity::Sample { iteration, stage } => {
                format!("{}{}", self.place(iteration), stage.name())
            }
            Activity::Score { iteration, stage } => {
                format!("{}scoring {}", self.place(iteration), stage.name())
            }
            Activity::Weigh { iteration } => {
                format!("{}weighing probe", self.place(iteration))
            }
            Activity::Grade { iteration, stage } => {
                format!("{}checking {}", self.place(iteration), stage.name())
            }
            Activity::Train { iteration } => format!("{}fine-tuning", self.place(iteration)),
        }
    }

    fn line(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Decided { iteration, decision } => {
                Some(self.place(*iteration) + &decided(decision))
            }
            Event::StepsChosen { iteration, steps, stretches, .. } => {
                let last = stretches.last()?;
                Some(format!(
                    "{}{steps} steps; at step {} validation accuracy was {:.1} %, {:+.1} ± {:.1} points",
                    self.place(*iteration),
                    last.steps,
                    100.0 * last.accuracy,
                    100.0 * last.gain,
                    100.0 * last.standard_error,
                ))
            }
            Event::Selected { iteration, selection } => {
                Some(self.place(*iteration) + &selected(selection))
            }
            Event::RewardModelTrained { iteration, labels, metrics, .. } => {
                let value = |name: &str| {
                    let found = metrics.iter().find(|m| m.name == format!("reward_model/{name}"));
                    let value = found.and_then(|metric| metric.value);
                    value.map_or_else(|| "unknown".into(), |value| format!("{value:.3}"))
                };
                Some(format!(
                    "{}reward model: {} steps labelled ({:.0} % good); held out: step AUC {}, answer \
                     AUC {}",
                    self.place(*iteration),
                    labels.steps,
                    100.0 * labels.mean_label,
                    value("step_auc"),
                    value("answer_auc"),
                ))
            }
            Event::QueriesRenewed { iteration, renewal } => {
                let Renewal { taken, accuracy, renewed } = renewal;
                let place = self.place(*iteration);
                let right = 100.0 * accuracy;
                Some(format!("{place}renewed {renewed} of {taken} queries ({right:.1} % right)"))
            }
            Event::NothingSelected { iteration, in_a_row, advice } => {
                let place = self.place(*iteration);
                Some(format!("{place}nothing selected ({in_a_row} in a row): {advice}"))
            }
            Event::Measured { iteration, metrics, .. } => {
                let metric = metrics
                    .iter()
                    .find(|m| m.name.starts_with("eval/") && m.name.ends_with("/pass@1"))?;
                let (place, value) = (self.place(*iteration), 100.0 * metric.value?);
                let cut = metrics.iter().find(|m| m.name.ends_with("/truncated"));
                let cut = match cut.and_then(|metric| metric.value) {
                    Some(share) if share > MANY => format!(
                        "; {:.0} % of the responses were cut at `sample.max_tokens`",
                        100.0 * share
                    ),
                    _ => String::new(),
                };
                let queries = metric.queries;
                Some(format!("{place}greedy accuracy {value:.1} % of {queries} queries{cut}"))
            }
            Event::IterationCommitted { iteration, .. } => self.time_left(*iteration),
            _ => None,
        }
    }

    /// How long the rest takes, if it goes on like the iterations that were timed as a whole.
    fn time_left(&mut self, committed: u32) -> Option<String> {
        let began = self.iteration_began.replace(Instant::now())?;
        let took = began.elapsed();
        self.whole_iterations.0 += took;
        self.whole_iterations.1 += 1;
        let left = self.iterations.saturating_sub(committed);
        if left == 0 {
            return None;
        }
        let left = about(self.whole_iterations.0 / self.whole_iterations.1 * left);
        let place = self.place(committed);
        Some(format!("{place}done in {:.1} s; the rest takes {left}", took.as_secs_f64()))
    }
}

impl Watch for View {
    /// Shows how far the current work is.
    fn tick(&mut self, activity: Activity, progress: Progress) {
        // Validation is part of the supervised fine-tuning that it interrupts.
        if self.notes.quiet || activity == Activity::Validate {
            return;
        }
        if self.work.as_ref().is_none_or(|work| work.activity != activity) {
            self.pause();
            let bar = self.terminal.then(|| bar(self.label(activity), progress.total));
            let (began, told) = (self.idle_since, Instant::now());
            let goes_on = |paused: &Paused| paused.activity == activity;
            let before = self.paused.iter().position(goes_on).map(|i| self.paused.remove(i));
            let earlier = before.map_or(Duration::ZERO, |paused| paused.took);
            self.work = Some(Work { activity, progress, began, earlier, told, bar });
        }
        let label = self.label(activity);
        let Some(work) = &mut self.work else { return };
        work.progress = progress;
        if let Some(bar) = &work.bar {
            bar.set_position(progress.done);
        } else if work.told.elapsed() >= BETWEEN_LINES {
            work.told = Instant::now();
            self.notes.tell(&format!("{label}: {}", work.so_far()));
        }
    }

    /// Tells of what matters among the events.
    fn event(&mut self, event: &Event) {
        if self.notes.quiet {
            return;
        }
        if let Event::Validated { accuracy, queries, goal, .. } = event {
            let missed =
                if goal.is_some_and(|goal| *accuracy < goal) { ", below the goal" } else { "" };
            let accuracy = 100.0 * accuracy;
            self.validated = format!("; validation accuracy {accuracy:.1} % of {queries}{missed}");
            if let Some(bar) = self.work.as_ref().and_then(|work| work.bar.as_ref()) {
                bar.set_message(format!("P_0 ({accuracy:.1} % on validation)"));
            }
        }
        if let Some(line) = self.line(event) {
            self.finish();
            self.notes.tell(&line);
        }
    }

    /// Ends the current piece of work, and those that were paused.
    fn finish(&mut self) {
        self.pause();
        for paused in std::mem::take(&mut self.paused) {
            self.tell_of(paused);
        }
    }

    /// Tells of what is not done, and that it is not.
    fn break_off(&mut self) {
        self.breaks_off = true;
        self.finish();
        self.breaks_off = false;
    }
}

impl View {
    /// Puts the current piece of work aside if some of it is still to come, and tells of it if not.
    fn pause(&mut self) {
        self.idle_since = Instant::now();
        let Some(work) = self.work.take() else { return };
        if let Some(bar) = &work.bar {
            bar.finish_and_clear();
        }
        let Work { activity, progress, .. } = work;
        let paused = Paused { activity, progress, took: work.took() };
        if progress.done < progress.total && !may_stop(activity) {
            self.paused.push(paused);
        } else {
            self.tell_of(paused);
        }
    }

    fn tell_of(&mut self, Paused { activity, progress, took }: Paused) {
        let seconds = took.as_secs_f64();
        let Progress { done, total } = progress;
        let is_open = done < total && (self.breaks_off || !may_stop(activity));
        let unit = unit(activity, if is_open { total } else { done });
        let rate = done as f64 / seconds.max(1e-3);
        let of = if is_open { format!(" of {total}") } else { String::new() };
        let end = match activity {
            _ if is_open && self.breaks_off => ", broken off".into(),
            Activity::Supervise => std::mem::take(&mut self.validated),
            _ => String::new(),
        };
        let label = self.label(activity);
        self.notes
            .tell(&format!("{label}: {done}{of} {unit} in {seconds:.1} s ({rate:.0}/s){end}"));
    }
}

impl Work {
    /// Done, total and the time left.
    fn so_far(&self) -> String {
        let Progress { done, total } = self.progress;
        let unit = unit(self.activity, total);
        let rate = done as f64 / self.took().as_secs_f64().max(1e-3);
        let seconds = total.saturating_sub(done) as f64 / rate.max(1e-9);
        let left =
            Duration::try_from_secs_f64(seconds).map_or_else(|_| "unknown time".into(), in_words);
        format!("{done} of {total} {unit} ({rate:.1}/s), {left} left")
    }
}

/// What was chosen, and how sure that is.
fn decided(decision: &Decision) -> String {
    let score = decision.balance_score.map_or_else(
        || "fixed".into(),
        |score| match decision.grid.len() {
            cells if score > 0.0 => format!("balance score {score:.4}, best of {cells}"),
            cells => format!("none of {cells} candidates selects a correct response"),
        },
    );
    let (t, threshold) = (decision.temperature, short(decision.threshold));
    let knobs = match decision.knobs.to_string() {
        none if none.is_empty() => none,
        turned => format!(", {turned}"),
    };
    format!("temperature {t}, threshold {threshold}{knobs} ({score})") + &doubt(decision)
}

/// How many more probe queries would decide for the best candidate, where these do not.
fn doubt(decision: &Decision) -> String {
    let Some(rival) = decision.open_rival() else { return String::new() };
    let other = rival.configuration.sampling();
    match rival.more_queries {
        Some(more) => {
            format!(
                "; about {more} more probe queries would tell the best from temperature {other}"
            )
        }
        None => format!("; a tie with temperature {other}"),
    }
}

/// A time in one unit; 0 seconds are none.
pub(crate) fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return "less than a second".into();
    }
    HumanDuration(time).to_string()
}

/// A time that is only guessed.
pub(crate) fn about(time: Duration) -> String {
    let words = in_words(time);
    if time < Duration::from_secs(1) { words } else { format!("about {words}") }
}

/// A number without the digits that are rounding.
pub(crate) fn short(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// Training may stop early; anything else that is not complete was paused or interrupted.
fn may_stop(activity: Activity) -> bool {
    matches!(activity, Activity::Supervise | Activity::Train { .. })
}

fn unit(activity: Activity, count: u64) -> &'static str {
    match activity {
        Activity::Supervise | Activity::Train { .. } | Activity::TrainRewardModel if count == 1 => {
            "step"
        }
        Activity::Supervise | Activity::Train { .. } | Activity::TrainRewardModel => "steps",
        _ if count == 1 => "response",
        Activity::Validate
        | Activity::Sample { .. }
        | Activity::Grade { .. }
        | Activity::DrawLabels
        | Activity::Complete
        | Activity::MeasureRewardModel
        | Activity::Score { .. }
        | Activity::Weigh { .. } => "responses",
    }
}

fn bar(label: String, total: u64) -> ProgressBar {
    let style = "{msg} {wide_bar} {pos}/{len}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is well formed");
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar.set_message(label);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// What was selected, in words.
fn selected(selection: &SelectionSummary) -> String {
    let SelectionSummary { selected, drawn, correct, queries, .. } = selection;
    let verified =
        selection.verified.map_or_else(String::new, |count| format!(", {count} verified"));
    let gold = match selection.gold {
        0 => String::new(),
        gold => format!(", and {gold} gold solutions"),
    };
    format!(
        "selected {selected} of {drawn} responses ({correct} unique correct{verified}) from {queries} \
         queries{gold}"
    )
}
