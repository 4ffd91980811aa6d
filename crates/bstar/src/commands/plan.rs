//! `bstar plan`: what a run will take, before it runs; and afterwards, beside what it took.

use crate::cli::PlanArgs;
use crate::commands::run::{CONTENTS, Identity, use_threads};
use crate::config::comparison::Comparison;
use crate::config::layers;
use crate::named;
use crate::output::{self, Notes};
use crate::plan::earlier::Earlier;
use crate::plan::{Plan, against, compared, facts, table};
use bstar_core::event::Event;
use bstar_core::plan::Part;
use bstar_core::{Fault, FaultClass};
use bstar_report::Actual;
use bstar_store::{ComparisonLayout, ConfigChange, RunView, config_diff};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// A plan and what was spent.
#[derive(Debug, Serialize)]
struct PlannedAndActual<P> {
    plan: P,
    spent: Actual,
    lines: Vec<against::Line>,
}

/// Plans, and compares with a run where one is named.
pub(crate) fn plan(args: &PlanArgs, notes: Notes) -> Result<(), Fault> {
    if compared::is_comparison(&args.config) {
        return plan_comparison(args, notes);
    }
    let loaded = layers::load(Some(&args.config), &args.settings)?;
    let config = &loaded.config;
    config.check()?;
    let against = args.against.as_deref().map(Path::to_string_lossy);
    let run = against.map(|run| named::open(&run, None, notes)).transpose()?;
    let plan = if let Some(path) = &args.planned {
        let plan: Plan = read(path)?;
        let changes = |stored: &Value| Identity::of(config).changes(stored, &[]);
        refuse_other(path, plan.config.as_ref().map(changes), notes)?;
        plan
    } else {
        use_threads(config.run.threads)?;
        let earlier = run.as_ref().map_or_else(Earlier::default, |run| Earlier::without(run.dir()));
        let plan = Plan::new(config, facts::gather(&loaded, &earlier, notes)?, Part::Whole)?;
        let config = serde_json::to_value(config).expect("configs are JSON");
        Plan { config: Some(config), ..plan }
    };
    let Some(run) = run else {
        return if args.json {
            output::print_json(&plan)
        } else {
            output::print(&table::render(&plan))
        };
    };
    let spent = spent_by(&run, notes)?;
    let changes = Identity::of(config).changes(&run.resolved_config()?, &CONTENTS);
    if !changes.is_empty() {
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let lines = lines.join("\n  ");
        notes.tell(&format!("note: the run is of another config than the plan:\n  {lines}"));
    }
    if !spent.finished {
        notes.tell("note: the run is not finished; the plan is of all of it");
    }
    let lines = against::lines(&plan, &spent);
    if args.json {
        return output::print_json(&PlannedAndActual { plan, spent, lines });
    }
    let shown = against::shown(&spent, (config.supervised.stop_at_accuracy > 0.0).then_some(1));
    output::print(&format!("{}{shown}", against::render(&lines)))
}

/// What a run has spent. One of a comparison took P_0 over: its time is that of who made it.
fn spent_by(run: &RunView, notes: Notes) -> Result<Actual, Fault> {
    // runs/ENTRY/SEED inside the comparison
    let comparison = run.dir().ancestors().nth(3).map(ComparisonLayout::new);
    let Some(comparison) = comparison.filter(ComparisonLayout::is_there) else {
        return Ok(Actual::of(run, Part::Whole)?);
    };
    let seed = run.events()?.into_iter().find_map(|line| match line.event {
        Event::RunStarted { seed, .. } => Some(seed),
        _ => None,
    });
    let starts = seed.map(|seed| comparison.starts(seed)).transpose()?.unwrap_or_default();
    let starts: Vec<RunView> =
        starts.iter().filter_map(|start| RunView::open(start).ok()).collect();
    if let Some(spent) = Actual::beside(run, &starts)? {
        notes.tell(
            "note: the run shares its P_0 with others of its comparison; the time is that of all",
        );
        return Ok(spent);
    }
    notes.tell(
        "note: P_0 was made for the whole comparison, and what it took is not there any more: the run \
         has no time of it",
    );
    Ok(Actual::of(run, Part::Whole)?)
}

fn plan_comparison(args: &PlanArgs, notes: Notes) -> Result<(), Fault> {
    let comparison = Comparison::load(&args.config, &args.settings)?;
    // Reading a task or a model may start threads, so their number is settled first.
    use_threads(comparison.threads)?;
    let against = args.against.as_deref().map(compared::folder).transpose()?;
    let spent = against.as_deref().map(|dir| compared::spent(&comparison, dir, notes));
    let spent = spent.transpose()?;
    let plan: compared::ComparisonPlan = if let Some(path) = &args.planned {
        let plan: compared::ComparisonPlan = read(path)?;
        let now = compared::identity(&comparison)?;
        let changes = |stored: &Value| config_diff(stored, &now, &[]);
        refuse_other(path, plan.config.as_ref().map(changes), notes)?;
        plan
    } else {
        let earlier = against.as_deref().map_or_else(Earlier::default, Earlier::without);
        compared::plan(&comparison, earlier, notes)?
    };
    let Some(compared::Spent { all: spent, open, starts }) = spent else {
        return if args.json {
            output::print_json(&plan)
        } else {
            output::print(&compared::render(&plan))
        };
    };
    if open > 0 {
        let runs = if open == 1 { "1 run is" } else { &format!("{open} runs are") };
        notes.tell(&format!("note: {runs} not finished; the plan is of all of them"));
    }
    let lines = against::lines(&plan.total, &spent);
    if args.json {
        return output::print_json(&PlannedAndActual { plan, spent, lines });
    }
    let shown = against::shown(&spent, starts);
    output::print(&format!("{}{shown}", against::render(&lines)))
}

/// Refuses a plan that was made of another config, with these changes; none are known of a plan that
/// an older build printed.
fn refuse_other(
    path: &Path,
    changes: Option<Vec<ConfigChange>>,
    notes: Notes,
) -> Result<(), Fault> {
    let name = path.display();
    let Some(changes) = changes else {
        notes.tell(&format!("note: {name} does not say which config it is a plan of"));
        return Ok(());
    };
    if changes.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let lines = lines.join("\n  ");
    let message = format!("{name} is the plan of another config:\n  {lines}");
    Err(Fault::new(FaultClass::Usage, message).hint(
        "give the config and the `--set` keys that it was made with, or leave out `--planned`",
    ))
}

/// A plan that `--json` printed.
fn read<P: DeserializeOwned>(path: &Path) -> Result<P, Fault> {
    let text = std::fs::read(path).map_err(|error| {
        Fault::new(FaultClass::Usage, format!("cannot read {}", path.display())).because(error)
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        Fault::new(FaultClass::Data, format!("{} holds no plan: {error}", path.display()))
            .hint("`bstar plan CONFIG --json` prints one")
    })
}
