//! The table of iterations: what was chosen, what was selected, what the policy can do.

use crate::table::{Align, Table, number, percent};
use bstar_core::Stage;
use bstar_core::balance::Cell;
use bstar_core::confidence::Difference;
use bstar_core::controller::{Configuration, Decision};
use bstar_core::event::{Event, Stretch};
use bstar_core::goal::{GoalWatch, MissedGoal};
use bstar_core::knobs::Knobs;
use bstar_core::monitor::Metric;
use serde::Serialize;
use std::collections::BTreeMap;

/// One iteration of a run; iteration 0 is P_0, the policy before self-training.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IterationRow {
    /// The iteration.
    pub iteration: u32,
    /// Whether it is complete.
    pub committed: bool,
    /// Sampling temperature t.
    pub temperature: Option<f64>,
    /// Reward threshold τ.
    pub threshold: Option<f64>,
    /// The other knobs, where they are turned.
    #[serde(flatten)]
    pub knobs: Knobs,
    /// Steps after which training could have ended, with what validation said there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stretches: Vec<Stretch>,
    /// Balance score of the chosen cell; none for a fixed configuration.
    pub balance_score: Option<f64>,
    /// Its standard error over the probe queries.
    pub standard_error: Option<f64>,
    /// Chance that the chosen temperature holds the best cell, by bootstrap over the probe queries.
    pub chance: Option<f64>,
    /// Probe queries that are lacking until the best cell is told from that of any other temperature.
    pub more_queries: Option<u64>,
    /// Whether it is in doubt for lack of these.
    #[serde(skip)]
    pub(crate) is_open: bool,
    /// The configuration that hysteresis held back from.
    pub held_back: Option<Configuration>,
    /// The better cell of a larger k that was not worth its price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub economised: Option<Difference>,
    /// Per-query cap.
    pub cap: Option<u32>,
    /// Responses drawn for training.
    pub drawn: Option<u64>,
    /// Responses selected.
    pub selected: Option<u64>,
    /// Unique correct ones among them.
    pub correct: Option<u64>,
    /// Optimizer steps.
    pub steps: u64,
    /// Mean loss over the steps (nats).
    pub mean_loss: Option<f64>,
    /// Fingerprint of the weights.
    pub policy_version: Option<String>,
    /// Evaluation metrics by name.
    pub metrics: BTreeMap<String, Metric>,
}

impl IterationRow {
    /// Takes over how sure a decision is.
    fn confide(&mut self, decision: &Decision) {
        let Some(confidence) = &decision.confidence else { return };
        let chosen = |cell: &Cell| cell.configuration() == decision.configuration();
        // A threshold that was chosen on the whole draw may be on no cell of the probe.
        let cell = decision.grid.iter().position(chosen);
        self.standard_error =
            cell.and_then(|cell| confidence.cells.get(cell)).map(|cell| cell.standard_error);
        let way = (decision.temperature, decision.knobs.top_p);
        let of = confidence.temperatures.iter().find(|of| (of.temperature, of.top_p) == way);
        self.chance = of.map(|of| of.chance).filter(|_| confidence.temperatures.len() > 1);
        self.more_queries = decision.rival().and_then(|rival| rival.more_queries);
        self.is_open = decision.open_rival().is_some();
    }
}

/// A run as its events tell it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunReport {
    /// Name of the method.
    pub method: String,
    /// Name of the task.
    pub task: String,
    /// Root of all randomness.
    pub seed: u64,
    /// Iterations planned.
    pub planned_iterations: u32,
    /// Whether the run is complete.
    pub finished: bool,
    /// P_0 and the iterations.
    pub iterations: Vec<IterationRow>,
    /// Metrics by name of each reward model that was trained, by the iteration that it was trained
    /// for (0: before the first).
    pub reward_models: BTreeMap<u32, BTreeMap<String, Metric>>,
    /// What P_0 reached, where that is not the goal that it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_goal: Option<MissedGoal>,
    /// Follows P_0 to its goal.
    #[serde(skip)]
    pub(crate) goal: GoalWatch,
}

impl RunReport {
    /// Reads a run's events.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut report = Self::default();
        for event in events {
            report.add(event);
        }
        report
    }

    fn add(&mut self, event: &Event) {
        self.goal.add(event);
        self.missed_goal = self.goal.missed();
        match event {
            Event::RunStarted { method, task, seed, iterations, .. } => {
                self.method.clone_from(method);
                self.task.clone_from(task);
                self.seed = *seed;
                self.planned_iterations = *iterations;
            }
            Event::Step { iteration, step } => {
                let row = self.row(*iteration);
                let before = row.mean_loss.unwrap_or(0.0) * row.steps as f64;
                row.steps += 1;
                row.mean_loss = Some((before + step.loss) / row.steps as f64);
            }
            Event::Decided { iteration, decision } => {
                let row = self.row(*iteration);
                row.temperature = Some(decision.temperature);
                row.threshold = Some(decision.threshold);
                row.knobs = decision.knobs;
                row.economised = decision.economised;
                row.balance_score = decision.balance_score;
                row.held_back = decision.held_back.map(|better| better.configuration);
                row.confide(decision);
            }
            Event::StepsChosen { iteration, stretches, .. } => {
                self.row(*iteration).stretches.clone_from(stretches);
            }
            Event::Selected { iteration, selection } => {
                let row = self.row(*iteration);
                row.cap = selection.cap;
                row.drawn = Some(selection.drawn);
                row.selected = Some(selection.selected);
                row.correct = Some(selection.correct);
            }
            Event::Measured { iteration, stage: Stage::Eval, metrics } => {
                let named = metrics.iter().map(|metric| (metric.name.clone(), metric.clone()));
                self.row(*iteration).metrics.extend(named);
            }
            Event::IterationCommitted { iteration, policy_version } => {
                let row = self.row(*iteration);
                row.committed = true;
                row.policy_version = Some(policy_version.to_string());
            }
            Event::RunFinished { .. } => self.finished = true,
            Event::RewardModelTrained { iteration, metrics, .. } => {
                let named = metrics.iter().map(|metric| (metric.name.clone(), metric.clone()));
                self.reward_models.insert(*iteration, named.collect());
            }
            Event::Measured { .. }
            | Event::Validated { .. }
            | Event::RewardModelStep { .. }
            | Event::Graded { .. }
            | Event::QueriesRenewed { .. }
            | Event::Published { .. }
            | Event::NothingSelected { .. } => {}
        }
    }

    fn row(&mut self, iteration: u32) -> &mut IterationRow {
        let known = self.iterations.iter().position(|row| row.iteration == iteration);
        let index = known.unwrap_or_else(|| {
            self.iterations.push(IterationRow { iteration, ..IterationRow::default() });
            self.iterations.len() - 1
        });
        &mut self.iterations[index]
    }

    /// The table as text, with the largest K and S that were evaluated.
    pub fn table(&self) -> String {
        let accuracy = format!("eval/{}/pass@1", self.task);
        let step_accuracy = format!("eval/{}/step_accuracy", self.task);
        let false_positives = format!("eval/{}/false_positive_rate", self.task);
        let (pass_k, pass_k_s) = self.largest_pass();
        let label = |name: &str| name.trim_start_matches("explore/").replace("pass", "Pass");
        let right = Align::Right;
        let (k_label, k_s_label) = (label(&pass_k), label(&pass_k_s));
        let mut table = Table::new(&[
            ("iteration", right),
            ("t", right),
            ("τ", right),
            ("balance", right),
            ("± se", right),
            ("sure %", right),
            ("selected", right),
            ("greedy %", right),
            ("steps %", right),
            ("false pos. %", right),
            (&k_label, right),
            (&k_s_label, right),
            ("diversity", right),
        ]);
        for row in &self.iterations {
            let metric = |name: &str| row.metrics.get(name).and_then(|metric| metric.value);
            let name = if row.iteration == 0 { "P_0".into() } else { row.iteration.to_string() };
            table.row([
                if row.committed { name } else { name + "*" },
                number(row.temperature, 2),
                number(row.threshold, 2),
                number(row.balance_score, 4),
                number(row.standard_error, 4),
                percent(row.chance),
                row.selected.map_or_else(|| "–".into(), |selected| selected.to_string()),
                percent(metric(&accuracy)),
                percent(metric(&step_accuracy)),
                percent(metric(&false_positives)),
                percent(metric(&pass_k)),
                percent(metric(&pass_k_s)),
                number(metric("explore/diversity"), 3),
            ]);
        }
        let open = self.iterations.iter().any(|row| !row.committed);
        table.render()
            + if open { "* not complete\n" } else { "" }
            + &self.goal_line()
            + &self.doubt_line()
            + &self.knob_lines()
            + &self.reward_model_lines()
    }

    /// What P_0 reached, where that is not its goal.
    fn goal_line(&self) -> String {
        self.missed_goal.map_or_else(String::new, |missed| {
            format!(
                "P_0 missed its goal: {missed} (`supervised.stop_at_accuracy`); more \
                 `supervised.steps` may reach it\n"
            )
        })
    }

    /// How many more probe queries would have told each choice from its rival, where any would.
    fn doubt_line(&self) -> String {
        let doubt = |row: &IterationRow| {
            let more = row.more_queries.filter(|_| row.is_open)?;
            Some(format!("iteration {}: {more}", row.iteration))
        };
        let doubts: Vec<String> = self.iterations.iter().filter_map(doubt).collect();
        if doubts.is_empty() {
            return String::new();
        }
        format!("more probe queries that would decide the temperature: {}\n", doubts.join(", "))
    }

    /// One line for each iteration that turned more knobs than temperature and threshold.
    fn knob_lines(&self) -> String {
        let line = |row: &IterationRow| {
            let mut parts: Vec<String> = Some(row.knobs.to_string())
                .into_iter()
                .filter(|turned| !turned.is_empty())
                .collect();
            if let Some(better) = row.economised {
                let (gain, error) = (better.gain, better.standard_error);
                let of = better.configuration.knobs;
                parts.push(format!("a larger k would score {gain:+.4} ± {error:.4} ({of})"));
            }
            if let Some(last) = row.stretches.last() {
                let (accuracy, gain) = (100.0 * last.accuracy, 100.0 * last.gain);
                parts.push(format!(
                    "{} steps (validation {accuracy:.1} % at step {}, {gain:+.1} points)",
                    row.steps, last.steps
                ));
            }
            if parts.is_empty() {
                return String::new();
            }
            format!("iteration {}: {}\n", row.iteration, parts.join("; "))
        };
        self.iterations.iter().map(line).collect()
    }

    /// One line for each reward model: how well it judges what it has not learnt from.
    fn reward_model_lines(&self) -> String {
        let line = |(iteration, metrics): (&u32, &BTreeMap<String, Metric>)| {
            let value = |name: &str| {
                let metric = metrics.get(&format!("reward_model/{name}"));
                number(metric.and_then(|metric| metric.value), 3)
            };
            let from = if *iteration == 0 { "P_0".into() } else { format!("P_{}", iteration - 1) };
            format!(
                "reward model from {from}: step AUC {}, step accuracy {}, answer AUC {}\n",
                value("step_auc"),
                value("step_accuracy"),
                value("answer_auc"),
            )
        };
        self.reward_models.iter().map(line).collect()
    }

    /// Names of Pass@K and Pass@K-S with the largest K, then S, among the metrics.
    fn largest_pass(&self) -> (String, String) {
        let names = self.iterations.iter().flat_map(|row| row.metrics.keys());
        let mut best = ((0, 0), (0, 0));
        for name in names {
            let Some(rest) = name.strip_prefix("explore/pass@") else { continue };
            match rest.split_once('-') {
                None => best.0 = best.0.max((rest.parse().unwrap_or(0), 0)),
                Some((k, s)) => {
                    best.1 = best.1.max((k.parse().unwrap_or(0), s.parse().unwrap_or(0)));
                }
            }
        }
        let ((k, _), (k_of_s, s)) = best;
        let shown = |number: u32| if number == 0 { "K".to_owned() } else { number.to_string() };
        (
            format!("explore/pass@{}", shown(k)),
            format!(
                "explore/pass@{}-{}",
                shown(k_of_s),
                if s == 0 { "S".into() } else { shown(s) }
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstar_core::event::Piece;

    #[test]
    fn a_missed_goal_is_told_once_p_0_is_complete() {
        let validated =
            |step, accuracy, goal| Event::Validated { step, accuracy, queries: 40, goal };
        let complete = Event::Published { iteration: 0, piece: Piece::Train };
        let told = |events: &[Event]| RunReport::from_events(events).table();
        let short = validated(60, 0.45, Some(0.9));
        let text = told(&[validated(25, 0.9, Some(0.95)), short.clone(), complete.clone()]);
        let line =
            "P_0 missed its goal: 45.0 % of 40 validation queries after 60 steps, not 90.0 %";
        assert!(text.contains(line) && text.contains("supervised.steps"), "{text}");
        assert!(!told(std::slice::from_ref(&short)).contains("goal"), "it may still reach it");
        let reached = validated(75, 0.9, Some(0.9));
        assert!(!told(&[short, reached, complete.clone()]).contains("goal"));
        assert!(!told(&[validated(60, 0.45, None), complete]).contains("goal"), "there is none");
    }
}
