//! What a person sees while a run works: a bar with the time left on a terminal, one line per piece
//! of work elsewhere. Best effort: nothing here can end a run, and nothing here is remembered.

use crate::output::note;
use bstar_core::event::{Activity, Event};
use bstar_core::ports::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How the user is told of progress.
#[derive(Debug)]
pub(crate) struct View {
    quiet: bool,
    terminal: bool,
    iterations: u32,
    current: Option<Work>,
}

#[derive(Debug)]
struct Work {
    activity: Activity,
    done: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl View {
    /// A view on stderr.
    pub(crate) fn new(quiet: bool, iterations: u32) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal(), iterations, current: None }
    }

    /// Shows how far the current work is.
    pub(crate) fn tick(&mut self, activity: Activity, progress: Progress) {
        if self.quiet {
            return;
        }
        let same = self.current.as_ref().is_some_and(|work| {
            // A second batch of the same kind starts again from a lower count.
            work.activity == activity && work.done <= progress.done
        });
        if !same {
            self.finish();
            let label = self.label(activity);
            let bar = self.terminal.then(|| bar(label, progress.total));
            self.current = Some(Work { activity, done: 0, started: Instant::now(), bar });
        }
        if let Some(work) = &mut self.current {
            work.done = progress.done;
            if let Some(bar) = &work.bar {
                bar.set_position(progress.done);
            }
        }
    }

    /// Tells of what matters among the events.
    pub(crate) fn event(&mut self, event: &Event) {
        if self.quiet || matches!(event, Event::Step { .. }) {
            return;
        }
        if let Some(line) = self.line(event) {
            self.finish();
            note(&line);
        }
    }

    /// Ends the current piece of work.
    pub(crate) fn finish(&mut self) {
        let Some(work) = self.current.take() else { return };
        let seconds = work.started.elapsed().as_secs_f64();
        if let Some(bar) = work.bar {
            bar.finish_and_clear();
        }
        // Validation recurs every few steps; its result is an event of its own.
        if work.activity == Activity::Validate {
            return;
        }
        let unit = unit(work.activity);
        let rate = work.done as f64 / seconds.max(1e-3);
        let label = self.label(work.activity);
        note(&format!("{label}: {} {unit} in {seconds:.1} s ({rate:.0}/s)", work.done));
    }

    fn label(&self, activity: Activity) -> String {
        let at = |iteration: u32| {
            if iteration == 0 { "P_0".into() } else { format!("[{iteration}/{}]", self.iterations) }
        };
        match activity {
            Activity::Supervise => "P_0 supervised fine-tuning".into(),
            Activity::Validate => "P_0 validation".into(),
            Activity::TrainRewardModel => "reward model".into(),
            Activity::Sample { iteration, stage } => format!("{} {}", at(iteration), stage.name()),
            Activity::Score { iteration, stage } => {
                format!("{} scoring {}", at(iteration), stage.name())
            }
            Activity::Train { iteration } => format!("{} fine-tuning", at(iteration)),
        }
    }

    fn line(&self, event: &Event) -> Option<String> {
        let at = |iteration: &u32| format!("[{iteration}/{}]", self.iterations);
        match event {
            Event::Validated { step, accuracy, queries } => Some(format!(
                "P_0 step {step}: validation accuracy {:.1} % of {queries}",
                100.0 * accuracy
            )),
            Event::Decided { iteration, decision } => {
                let score = decision.balance_score.map_or_else(
                    || "fixed".into(),
                    |score| format!("balance score {score:.4} of {} cells", decision.grid.len()),
                );
                let (t, threshold) = (decision.temperature, decision.threshold);
                Some(format!("{} temperature {t}, threshold {threshold} ({score})", at(iteration)))
            }
            Event::Selected { iteration, selection } => Some(format!(
                "{} selected {} of {} responses ({} unique correct) from {} queries",
                at(iteration),
                selection.selected,
                selection.drawn,
                selection.correct,
                selection.queries
            )),
            Event::NothingSelected { iteration, in_a_row, advice } => {
                Some(format!("{} nothing selected ({in_a_row} in a row): {advice}", at(iteration)))
            }
            Event::Measured { iteration, metrics, .. } => {
                let metric = metrics
                    .iter()
                    .find(|m| m.name.starts_with("eval/") && m.name.ends_with("/pass@1"))?;
                let name = if *iteration == 0 { "P_0".into() } else { at(iteration) };
                let value = 100.0 * metric.value?;
                Some(format!("{name} greedy accuracy {value:.1} % of {} queries", metric.queries))
            }
            _ => None,
        }
    }
}

fn unit(activity: Activity) -> &'static str {
    match activity {
        Activity::Supervise | Activity::Train { .. } | Activity::TrainRewardModel => "steps",
        Activity::Validate | Activity::Sample { .. } | Activity::Score { .. } => "responses",
    }
}

fn bar(label: String, total: u64) -> ProgressBar {
    let style = "{msg} {wide_bar} {pos}/{len} {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is well formed");
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar.set_message(label);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
