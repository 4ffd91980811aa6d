//! `bstar runs list` and `bstar runs show`: read-only views of run folders.

use crate::named;
use crate::output::{self, Notes};
use bstar_core::{Fault, FaultClass};
use bstar_report::{Align, RunReport, Table, diagnose, foot};
use bstar_store::{RunState, RunSummary, list_runs};
use serde_json::{Value, json};
use std::path::Path;

/// Lists the runs in a folder, or in those that `bstar run` and `bstar compare` write into.
pub(crate) fn list(dir: Option<&Path>, json: bool, notes: Notes) -> Result<(), Fault> {
    if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
        let message = format!("there is no folder {}", dir.display());
        return Err(Fault::new(FaultClass::Usage, message)
            .hint("`--dir` names a folder that holds runs or a comparison"));
    }
    let places = dir.map_or_else(|| named::PLACES.map(Path::new).to_vec(), |dir| vec![dir]);
    let mut runs = Vec::new();
    for place in &places {
        runs.extend(list_runs(place)?);
    }
    if json {
        let rows: Vec<_> = runs.iter().map(json_row).collect();
        return output::print_json(&rows);
    }
    if runs.is_empty() {
        let names: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
        let names = names.join(" and ");
        notes.tell(&format!("no runs in {names}; `--dir` names another folder"));
        return Ok(());
    }
    // What is printed names the run wherever a run is taken: elsewhere that is its folder.
    let has_names = dir.is_none_or(|dir| named::PLACES.iter().any(|place| dir == Path::new(place)));
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("run", left),
        ("state", left),
        ("method", left),
        ("task", left),
        ("seed", right),
        ("iterations", right),
        ("last change", left),
    ]);
    let text = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    for run in runs {
        let shown = |number: Option<u32>| number.map_or_else(|| "–".into(), |n| n.to_string());
        table.row([
            if has_names { run.id } else { run.dir.display().to_string() },
            state_name(&run.state).to_owned()
                + if run.missed_goal.is_some() { ", P_0 below its goal" } else { "" },
            text(run.method),
            text(run.task),
            text(run.seed.map(|seed| seed.to_string())),
            format!("{}/{}", shown(run.last_committed), shown(run.iterations)),
            text(run.updated_at),
        ]);
    }
    output::print(&table.render())
}

/// Shows the iterations of a run.
pub(crate) fn show(run: &str, dir: Option<&Path>, json: bool, notes: Notes) -> Result<(), Fault> {
    let view = named::open(run, dir, notes)?;
    let events = view.events()?;
    let report = RunReport::from_events(events.iter().map(|logged| &logged.event));
    if json {
        return output::print_json(&report);
    }
    let failure = view.failure()?;
    let state = match (report.finished, view.is_running()) {
        (true, _) => "finished",
        (false, true) => "running",
        (false, false) => match &failure {
            Some(why) => &format!("failed: {why}"),
            None => "not finished: the command that began it continues it",
        },
    };
    let (method, task, seed) = (&report.method, &report.task, report.seed);
    let table = report.table();
    let foot = foot(&diagnose(events.iter().map(|logged| &logged.event)));
    output::print(&format!("{method} on {task}, seed {seed}: {state}\n\n{table}\n{foot}"))
}

fn state_name(state: &RunState) -> &str {
    match state {
        RunState::Running => "running",
        RunState::Finished => "finished",
        RunState::Unfinished => "unfinished",
        RunState::Failed(_) => "failed",
        RunState::Unreadable(_) => "unreadable",
    }
}

fn json_row(run: &RunSummary) -> Value {
    let problem = match &run.state {
        RunState::Unreadable(problem) | RunState::Failed(problem) => Some(problem),
        _ => None,
    };
    json!({
        "id": run.id,
        "dir": run.dir,
        "state": state_name(&run.state),
        "problem": problem,
        "method": run.method,
        "task": run.task,
        "seed": run.seed,
        "iterations": run.iterations,
        "last_committed": run.last_committed,
        "missed_goal": run.missed_goal,
        "bstar_version": run.bstar_version,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
    })
}
