//! What the complete runs of a comparison say, ready to be compared.

use super::plan::{Plan, PlannedRun};
use super::schedule::{Failures, is_finished};
use super::validate::Validation;
use crate::commands::run::load_task;
use crate::config::comparison::Comparison;
use crate::config::layers::{self, Loaded};
use bstar_core::budget::{Spent, Tally};
use bstar_core::evaluate::{QueryValues, query_values};
use bstar_core::event::Event;
use bstar_core::{Fault, Stage};
use bstar_report::{ComparisonInput, EntryInput, RunInput, RunReport};
use bstar_store::{ComparisonLayout, RunView};
use bstar_tasks::LoadedTask;
use std::collections::BTreeMap;

/// Reads every complete run.
pub(super) fn measure(
    comparison: &Comparison,
    plan: &Plan,
    layout: &ComparisonLayout,
    failures: &Failures,
) -> Result<ComparisonInput, Fault> {
    let mut tasks = BTreeMap::new();
    let mut runs = Vec::new();
    for run in plan.runs.iter().filter(|run| is_finished(run)) {
        let loaded = &run.loaded;
        let name = serde_json::json!([loaded.config.task, loaded.config.seed]).to_string();
        if !tasks.contains_key(&name) {
            tasks.insert(name.clone(), load_task(loaded)?);
        }
        let entry = &comparison.entries[run.entry];
        let queries = comparison.validation_queries;
        let validation = Validation::read(layout, entry, run.seed, queries);
        runs.push(measure_run(run, &tasks[&name], validation.filter(|_| queries > 0))?);
    }
    let entry = |(index, entry): (usize, &crate::config::comparison::Entry)| EntryInput {
        name: entry.name.clone(),
        references: comparison.references(index),
        group: entry.group.clone(),
        budget: entry.budget.name().into(),
        varied: entry.varied.clone(),
    };
    let failure = |(index, fault): (&usize, &Fault)| {
        let run = &plan.runs[*index];
        (run.entry, run.seed, fault.to_string())
    };
    Ok(ComparisonInput {
        title: comparison.title.clone(),
        entries: comparison.entries.iter().enumerate().map(entry).collect(),
        reference: comparison.reference,
        seeds: comparison.seeds.clone(),
        shared_queries: plan.shared_queries,
        runs,
        failures: failures.iter().map(failure).collect(),
    })
}

fn measure_run(
    run: &PlannedRun,
    task: &LoadedTask,
    validation: Option<Validation>,
) -> Result<RunInput, Fault> {
    let view = RunView::open(&run.dir)?;
    let events: Vec<Event> = view.events()?.into_iter().map(|logged| logged.event).collect();
    let report = RunReport::from_events(&events);
    // What was run: labels may have changed `sample.queries` since the plan.
    let Loaded { config, .. } = layers::load_written(&view.config_toml()?, &[])?;
    let settings = config.improve_settings(run.training_queries);
    let last = report.planned_iterations;
    let values = |iteration: u32| -> Result<QueryValues, Fault> {
        let rollouts = view.read_rollouts(iteration, Stage::Eval)?;
        Ok(query_values(&settings.evaluation, &rollouts, task))
    };
    let chosen = validation.map(|validation| validation.best());
    Ok(RunInput {
        entry: run.entry,
        seed: run.seed,
        spent: spent(&view, &events)?,
        queries: match last {
            0 => 0,
            _ => settings.queries_per_iteration as u64,
        },
        values: values(last)?,
        selected: chosen.map(|best| Ok::<_, Fault>((best, values(best)?))).transpose()?,
        report,
    })
}

/// What a run generated. What a race's winner answered is in the draw and does not count twice.
fn spent(view: &RunView, events: &[Event]) -> Result<Spent, Fault> {
    let mut spent = Spent::from_events(events);
    for event in events {
        let Event::Decided { iteration, decision } = event else { continue };
        if decision.race.is_none() {
            continue;
        }
        let probes = view.read_rollouts(*iteration, Stage::Probe)?;
        let configuration = decision.configuration();
        let taken = probes.iter().filter(|probe| configuration.draws(probe));
        let Tally { responses, tokens } = taken.fold(Tally::default(), |mut sum, probe| {
            sum += Tally { responses: 1, tokens: probe.token_count.unwrap_or(0).into() };
            sum
        });
        spent.probe.responses -= responses;
        spent.probe.tokens -= tokens;
    }
    Ok(spent)
}
