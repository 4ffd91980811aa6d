//! Which run is meant: a folder, or a name as `bstar runs list` prints it. Every verb that takes a run
//! asks here.

use bstar_core::event::Event;
use bstar_core::{Fault, FaultClass, Stage};
use bstar_store::rollout_file;
use bstar_store::{RunView, find_run};
use std::path::{Path, PathBuf};

/// Where `bstar run` and `bstar compare` put runs, and where names are looked up.
pub(crate) const PLACES: [&str; 2] = ["runs", "comparisons"];

/// The folder of a run that is named by its folder, or by its name in `dir`, if that is given.
pub(crate) fn folder(run: &str, dir: Option<&Path>) -> Result<PathBuf, Fault> {
    let direct = Path::new(run);
    // A folder that lost its manifest is told as such.
    if ["events.jsonl", "manifest.json"].iter().any(|file| direct.join(file).is_file()) {
        return Ok(direct.to_owned());
    }
    let places = PLACES.map(Path::new);
    Ok(match dir {
        Some(dir) => find_run(&[dir], run)?,
        None => find_run(&places, run)?,
    })
}

/// The same, opened.
pub(crate) fn open(run: &str, dir: Option<&Path>) -> Result<RunView, Fault> {
    Ok(RunView::open(&folder(run, dir)?)?)
}

/// Rollouts that are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Of these stages.
    pub(crate) stages: &'a [Stage],
    /// Of this iteration only.
    pub(crate) iteration: Option<u32>,
    /// Of the last iteration that has some, if no iteration is asked for.
    pub(crate) last_only: bool,
}

/// The rollout files that are named: as files, or as runs that stored what is asked for. What comes from a
/// run is told to `tell`.
pub(crate) fn rollouts(
    arguments: &[PathBuf],
    asked: Asked<'_>,
    tell: &dyn Fn(&str),
) -> Result<Vec<PathBuf>, Fault> {
    let mut files = Vec::new();
    for argument in arguments {
        // A pipe is no regular file.
        let is_there = argument.exists() && !argument.is_dir();
        if is_there || is_file_name(argument) {
            files.push(argument.clone());
            continue;
        }
        let run = open(&argument.to_string_lossy(), None).map_err(|fault| {
            let hint = fault.hint.clone().unwrap_or_default();
            let name = argument.display();
            if argument.is_dir() {
                fault
            } else {
                fault.hint(format!("{hint} (nor is {name} a file)"))
            }
        })?;
        files.extend(stored(&run, asked, tell)?);
    }
    Ok(files)
}

fn is_file_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    rollout_file::check_name(path).is_ok()
        || matches!(extension, Some("json" | "ndjson" | "gz" | "zst" | "csv"))
}

fn stored(run: &RunView, asked: Asked<'_>, tell: &dyn Fn(&str)) -> Result<Vec<PathBuf>, Fault> {
    let planned = run.events()?.into_iter().find_map(|logged| match logged.event {
        Event::RunStarted { iterations, .. } => Some(iterations),
        _ => None,
    });
    let of = |iteration: u32| -> Vec<PathBuf> {
        let stages = asked.stages.iter();
        stages.filter_map(|stage| run.rollouts_path(iteration, *stage)).collect()
    };
    let all = 0..=planned.unwrap_or(0);
    let mut found: Vec<(u32, Vec<PathBuf>)> = match asked.iteration {
        Some(iteration) => vec![(iteration, of(iteration))],
        None => all.map(|iteration| (iteration, of(iteration))).collect(),
    };
    found.retain(|(_, files)| !files.is_empty());
    let names: Vec<&str> = asked.stages.iter().map(|stage| stage.name()).collect();
    let (names, dir) = (names.join(", "), run.dir().display());
    let Some((last, _)) = found.last() else {
        let of = asked.iteration.map_or_else(String::new, |i| format!(" of iteration {i}"));
        let message = format!("{dir} has stored no rollouts{of} ({names})");
        return Err(Fault::new(FaultClass::Data, message)
            .hint("let the run go on, ask for another iteration or stage, or name files"));
    };
    if asked.last_only {
        let last = *last;
        tell(&format!("{dir}: iteration {last}, {names}"));
        found.retain(|(iteration, _)| *iteration == last);
    }
    Ok(found.into_iter().flat_map(|(_, files)| files).collect())
}
