//! `bstar compare`: several methods with several seeds from the same P_0, on the same budget and
//! under the same evaluation, and the tables that come of it.

mod begun;
mod jobs;
mod measure;
mod meter;
mod plan;
mod schedule;
mod validate;

pub(crate) use jobs::Job;
pub(crate) use plan::{Aim, Plan, Start, leaves_p_0_alone};

use crate::cli::CompareArgs;
use crate::commands::run::catch_interrupts;
use crate::config::comparison::{BudgetRule, Comparison};
use crate::named;
use crate::output::{self, Notes};
use bstar_core::{Fault, FaultClass};
use bstar_report::ComparisonReport;
use bstar_store::{ComparisonLayout, ComparisonStore, RunError};
use meter::Meter;
use plan::PlannedRun;
use schedule::{Failures, Schedule, is_complete};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Compares.
pub(crate) fn compare(args: &CompareArgs, notes: Notes) -> Result<(), Fault> {
    let comparison = Comparison::load(&args.config, &args.settings)?;
    let stem = args.config.file_stem().unwrap_or_default();
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(named::COMPARISONS).join(stem));
    let layout = ComparisonLayout::new(&dir);
    tell_twins(&comparison, notes)?;
    if args.tables {
        return show_what_is_there(&comparison, &layout, &dir, args, notes);
    }
    // What is there is held from here on; a folder is made once there is something to write.
    let there = layout.is_there().then(|| open(&dir)).transpose()?;
    let workers = comparison.workers(args.workers);
    tell_size(&comparison, workers, &dir, notes);
    let plan = Plan::of(&comparison, &layout, Aim::Run, notes)?;
    plan.check_searches(&comparison, args.fresh)?;
    // What was begun is held beside the models that would be used from here on.
    let is_made = |run: &PlannedRun| !args.fresh && is_complete(&comparison, &layout, run);
    plan.fetch_models(&plan.jobs(is_made), notes)?;
    let store = there.map_or_else(|| open(&dir), Ok)?;
    if args.fresh {
        store.discard_runs()?;
    }
    plan.check_begun(&comparison)?;
    store.keep_config(&comparison.written)?;
    let schedule = Schedule {
        comparison: &comparison,
        plan: &plan,
        store: &store,
        meter: Meter::of(&comparison, &plan, (&layout, workers), notes),
        interrupted: catch_interrupts()?,
    };
    let failures = schedule.carry_out(workers)?;
    let report = ComparisonReport::of(&measure::measure(&comparison, &plan, &layout, &failures)?);
    publish(&store, &report)?;
    show(&report, args)?;
    notes.tell(&format!("comparison: {}", dir.display()));
    told(&schedule, &failures)
}

fn open(dir: &Path) -> Result<ComparisonStore, RunError> {
    ComparisonStore::open_or_create(dir, env!("CARGO_PKG_VERSION"))
}

/// `--tables`: what is finished, without running anything. While another process works on the comparison it
/// is shown and nothing is written.
fn show_what_is_there(
    comparison: &Comparison,
    layout: &ComparisonLayout,
    dir: &Path,
    args: &CompareArgs,
    notes: Notes,
) -> Result<(), Fault> {
    let is_there = layout.is_there();
    if !is_there {
        layout.check_free()?;
    }
    let plan = Plan::of(comparison, layout, Aim::Run, notes)?;
    plan.check_begun(comparison)?;
    let input = measure::measure(comparison, &plan, layout, &Failures::new())?;
    let report = ComparisonReport::of(&input);
    let mut is_at_work = false;
    if is_there {
        // Held no longer than it takes, so that nobody who wants to work is kept out.
        match open(dir) {
            Ok(store) => {
                store.keep_config(&comparison.written)?;
                publish(&store, &report)?;
                notes.tell(&format!("comparison: {}", dir.display()));
            }
            Err(error @ RunError::Locked { .. }) => {
                is_at_work = true;
                let left = "these are the tables so far, and its files are left alone";
                notes.tell(&format!("{error}; {left}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    show(&report, args)?;
    if input.runs.is_empty() && !is_at_work {
        tell_nothing(dir, notes);
    }
    Ok(())
}

/// Tells of entries with equal configs and budgets, as a `--set` can make them.
fn tell_twins(comparison: &Comparison, notes: Notes) -> Result<(), Fault> {
    let mut earlier: Vec<(Value, BudgetRule, &str)> = Vec::new();
    for entry in &comparison.entries {
        let config = comparison.run_config(entry, comparison.seeds[0], None)?.config;
        let config = serde_json::to_value(config).expect("configs are JSON");
        match earlier.iter().find(|(other, budget, _)| *other == config && *budget == entry.budget)
        {
            Some((_, _, twin)) => notes.tell(&format!(
                "note: entries `{twin}` and `{}` have the same settings: their runs are alike",
                entry.name
            )),
            None => earlier.push((config, entry.budget, &entry.name)),
        }
    }
    Ok(())
}

/// Tells what is begun, before anything that takes time.
fn tell_size(comparison: &Comparison, workers: usize, dir: &Path, notes: Notes) {
    let count = |number: usize, one: &str, several: &str| {
        format!("{number} {}", if number == 1 { one } else { several })
    };
    let runs = comparison.runs().count();
    notes.tell(&format!(
        "{} of {} and {}, {} side by side, in {}",
        count(runs, "run", "runs"),
        count(comparison.entries.len(), "entry", "entries"),
        count(comparison.seeds.len(), "seed", "seeds"),
        workers.min(runs),
        dir.display()
    ));
}

fn show(report: &ComparisonReport, args: &CompareArgs) -> Result<(), Fault> {
    output::print(&if args.json { json(report) } else { report.markdown() })
}

/// Tells how there would be something to show; that there is nothing, the report says.
fn tell_nothing(dir: &Path, notes: Notes) {
    notes.tell(&format!(
        "{}: `bstar compare` without `--tables` makes the runs; `--dir` names another folder",
        dir.display()
    ));
}

/// Everything, for programs.
fn json(report: &ComparisonReport) -> String {
    serde_json::to_string_pretty(report).expect("results are JSON") + "\n"
}

/// Tables, numbers and figures.
fn publish(store: &ComparisonStore, report: &ComparisonReport) -> Result<(), Fault> {
    for (name, text) in [
        ("tables.md", report.markdown()),
        ("results.json", json(report)),
        ("results.csv", report.results_csv()),
        ("iterations.csv", report.iterations_csv()),
        ("runs.csv", report.runs_csv()),
    ] {
        store.publish(name, text.as_bytes())?;
    }
    let plots = report.plots().map_err(|error| {
        Fault::new(FaultClass::Bug, "the figures of the comparison").because(error)
    })?;
    for plot in plots {
        store.publish(&format!("plots/{}.svg", plot.name), plot.svg.as_bytes())?;
        store.publish(&format!("plots/{}.png", plot.name), &plot.png)?;
    }
    Ok(())
}

/// Runs that failed are an error in the end, of the class of the first.
fn told(schedule: &Schedule<'_>, failures: &Failures) -> Result<(), Fault> {
    let Some((_, first)) = failures.first_key_value() else { return Ok(()) };
    let told = failures.iter().map(|(index, fault)| {
        let hint = fault.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        format!("\n  {}: {fault}{hint}", schedule.name(Job::Run(*index)))
    });
    let (failed, all) = (failures.len(), schedule.plan.runs.len());
    let message = format!("{failed} of {all} runs failed:{}", told.collect::<String>());
    let others = if failed < all { "the other runs are complete and compared; " } else { "" };
    Err(Fault::new(first.class, message)
        .hint(format!("{others}the same command tries these again")))
}
