//! `bstar analyze`: the monitors of the paper for any rollouts file.
//!
//! Rollouts of different temperatures (and top-p, where that is a knob), iterations or stages are different populations: each is
//! monitored by itself.

use crate::cli::AnalyzeArgs;
use crate::commands::metrics;
use crate::named::{self, Asked};
use crate::output::{self, Notes};
use bstar_core::draw::observations;
use bstar_core::knobs::Sampling;
use bstar_core::monitor::{Metric, MonitorSettings, monitor};
use bstar_core::preset::Preset;
use bstar_core::reward::RewardKind;
use bstar_core::{Fault, FaultClass, RngKey, Rollout, Stage};
use bstar_store::RunView;
use bstar_store::rollout_file::read_rollouts;
use bstar_tasks::{TaskKind, equations};
use serde::{Deserialize as _, Serialize};
use std::collections::BTreeMap;

/// What makes two rollouts belong together: temperature and top-p (as sortable bits), iteration,
/// stage.
type Population = ((u64, Option<u64>), Option<u32>, Option<Stage>);

/// A metric with the population that it is about.
#[derive(Serialize)]
struct Monitored<'a> {
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    iteration: Option<u32>,
    stage: Option<Stage>,
    name: &'a str,
    value: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    queries: usize,
    estimator: &'a str,
}

#[derive(Serialize)]
struct Analysis<'a> {
    rollouts: usize,
    metrics: Vec<Monitored<'a>>,
}

/// Reads, monitors and prints.
pub(crate) fn analyze(args: &AnalyzeArgs, notes: Notes) -> Result<(), Fault> {
    if args.k.contains(&0) || args.s.contains(&0) {
        return Err(Fault::new(FaultClass::Usage, "--k and --s count samples, so they start at 1"));
    }
    let stages = [Stage::Probe, Stage::Train, Stage::Eval];
    let asked = Asked { stages: &stages, iteration: None, last_only: false };
    let named = named::rollouts(&args.files, asked, notes)?;
    let kind = match (&args.task, &named.run) {
        (Some(task), _) => task_kind(task)?,
        (None, Some(run)) => task_of(run)?,
        (None, None) => TaskKind::Records,
    };
    let read = read_rollouts(&named.files)?;
    metrics::tell_assumptions(&read.notes, notes);
    let total = read.rollouts.len();
    let mut populations: BTreeMap<Population, Vec<Rollout>> = BTreeMap::new();
    for rollout in read.rollouts {
        // Temperatures are not negative, so their bits sort like their values.
        let sampling = (rollout.temperature.to_bits(), rollout.top_p.map(f64::to_bits));
        let population = (sampling, rollout.iteration, rollout.stage);
        populations.entry(population).or_default().push(rollout);
    }
    let settings = MonitorSettings {
        k: args.k.clone(),
        s: args.s.clone(),
        calibration: None,
        reward: Preset::Recommended.values().ranking(RewardKind::AnswerAndRewardModel).reward,
        key: RngKey::from_seed(args.seed).child("analyze"),
    };
    let monitored: Vec<(Population, usize, Vec<Metric>)> = populations
        .into_iter()
        .map(|(population, rollouts)| {
            let groups = observations(&rollouts, &|response| equations(kind, response));
            (population, rollouts.len(), monitor(&groups, &settings))
        })
        .collect();
    if args.json { print_json(&monitored, total) } else { print_tables(&monitored) }
}

/// The task that a run was made for.
fn task_of(run: &RunView) -> Result<TaskKind, Fault> {
    let config = run.resolved_config()?;
    Ok(TaskKind::deserialize(&config["task"]["kind"]).unwrap_or(TaskKind::Records))
}

fn task_kind(name: &str) -> Result<TaskKind, Fault> {
    let text = serde_json::Value::String(name.into());
    TaskKind::deserialize(text).map_err(|error| {
        Fault::new(FaultClass::Usage, format!("there is no task `{name}`")).because(error)
    })
}

fn print_json(
    monitored: &[(Population, usize, Vec<Metric>)],
    rollouts: usize,
) -> Result<(), Fault> {
    let mut rows = Vec::new();
    for (((bits, top_p), iteration, stage), _, metrics) in monitored {
        rows.extend(metrics.iter().map(|metric| Monitored {
            temperature: f64::from_bits(*bits),
            top_p: top_p.map(f64::from_bits),
            iteration: *iteration,
            stage: *stage,
            name: &metric.name,
            value: metric.value,
            low: metric.low,
            high: metric.high,
            queries: metric.queries,
            estimator: &metric.estimator,
        }));
    }
    output::print_json(&Analysis { rollouts, metrics: rows })
}

fn print_tables(monitored: &[(Population, usize, Vec<Metric>)]) -> Result<(), Fault> {
    for (((bits, top_p), iteration, stage), rollouts, metrics) in monitored {
        let iteration = iteration.map_or_else(String::new, |i| format!(", iteration {i}"));
        let stage = stage.map_or_else(String::new, |stage| format!(", {}", stage.name()));
        let top_p = top_p.map(f64::from_bits);
        let temperature = Sampling { temperature: f64::from_bits(*bits), top_p };
        let title = format!("temperature {temperature}{iteration}{stage}: {rollouts} rollouts\n");
        output::print(&(title + &metrics::table(metrics) + "\n"))?;
    }
    Ok(())
}
