//! `bstar compare`: several methods with several seeds from the same P_0, on the same budget and
//! under the same evaluation, and the tables that come of it.

mod measure;
mod meter;
mod plan;
mod schedule;
mod validate;

pub(crate) use plan::Plan;

use crate::cli::CompareArgs;
use crate::commands::run::catch_interrupts;
use crate::config::comparison::Comparison;
use crate::output::{self, Notes};
use bstar_core::{Fault, FaultClass};
use bstar_report::ComparisonReport;
use bstar_store::{ComparisonStore, RunError};
use meter::Meter;
use schedule::{Failures, Job, Schedule};
use std::path::PathBuf;

/// Compares.
pub(crate) fn compare(args: &CompareArgs, notes: Notes) -> Result<(), Fault> {
    let comparison = Comparison::load(&args.config, &args.settings)?;
    let stem = args.config.file_stem().unwrap_or_default();
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from("comparisons").join(stem));
    let version = env!("CARGO_PKG_VERSION");
    let store =
        ComparisonStore::open_or_create(&dir, &comparison.written, version).map_err(in_dir)?;
    let plan = Plan::of(&comparison, &store.layout())?;
    if args.fresh {
        store.discard_runs()?;
    }
    plan.check_begun(&comparison)?;
    let schedule = Schedule {
        comparison: &comparison,
        plan: &plan,
        store: &store,
        meter: Meter::of(&comparison, &plan, &store, notes),
        interrupted: catch_interrupts()?,
    };
    let failures = if args.tables {
        Failures::new()
    } else {
        schedule.carry_out(workers(args, &comparison))?
    };
    let input = measure::measure(&comparison, &plan, &store, &failures)?;
    let report = ComparisonReport::of(&input);
    let markdown = report.markdown();
    store.publish("tables.md", markdown.as_bytes())?;
    let json = serde_json::to_string_pretty(&report).expect("results are JSON");
    store.publish("results.json", (json.clone() + "\n").as_bytes())?;
    for (name, text) in [
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
    let shown = if args.json { json + "\n" } else { markdown };
    output::print(&shown)?;
    notes.tell(&format!("comparison: {}", dir.display()));
    told(&schedule, &failures)
}

fn workers(args: &CompareArgs, comparison: &Comparison) -> usize {
    match args.workers.unwrap_or(comparison.workers) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// The folder of a comparison is named with `--dir`.
fn in_dir(error: RunError) -> Fault {
    let fault = Fault::from(error);
    match &fault.hint {
        Some(hint) => {
            let hint = hint.replace("--run-dir", "--dir");
            fault.hint(hint)
        }
        None => fault,
    }
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
    Err(Fault::new(first.class, message)
        .hint("the other runs are complete and compared; the same command tries these again"))
}
