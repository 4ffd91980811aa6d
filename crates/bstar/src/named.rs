//! Which run is meant: a folder, or a name as `bstar runs list` prints it. Every verb that takes a run
//! asks here.

use crate::output::Notes;
use bstar_core::event::Event;
use bstar_core::{Fault, FaultClass, Stage};
use bstar_store::rollout_file;
use bstar_store::{FindError, Fit, Found, RunView, find_run};
use std::path::{Path, PathBuf};

/// Where `bstar run` puts runs.
pub(crate) const RUNS: &str = "runs";
/// Where `bstar compare` puts comparisons.
pub(crate) const COMPARISONS: &str = "comparisons";
/// Where names are looked up.
pub(crate) const PLACES: [&str; 2] = [RUNS, COMPARISONS];

/// A run that is named by its folder, or by its name in `dir`, if that is given.
pub(crate) fn find(run: &str, dir: Option<&Path>) -> Result<Found, FindError> {
    let direct = Path::new(run);
    // A folder that lost its manifest is told as such.
    let has = |file: &&str| direct.join(file).is_file();
    if !run.is_empty() && ["events.jsonl", "manifest.json"].iter().any(has) {
        return Ok(Found { dir: direct.to_owned(), fit: Fit::Exact });
    }
    match dir {
        Some(dir) => find_run(&[dir], run),
        None => find_run(&PLACES.map(Path::new), run),
    }
}

/// Tells which run is meant by a name that is not its whole name.
pub(crate) fn tell(run: &str, found: &Found, notes: Notes) {
    if found.fit != Fit::Exact {
        notes.tell(&format!("note: `{run}` is the run {}", found.dir.display()));
    }
}

/// A run that is found in this way, opened; which it is is told where that is not clear.
pub(crate) fn open(run: &str, dir: Option<&Path>, notes: Notes) -> Result<RunView, Fault> {
    let found = find(run, dir)?;
    tell(run, &found, notes);
    Ok(RunView::open(&found.dir)?)
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

/// Rollout files that are named.
#[derive(Debug)]
pub(crate) struct Named {
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// The run that they are of, if one was named and no file beside it.
    pub(crate) run: Option<RunView>,
}

/// The rollout files that are named: as files, or as a run that stored what is asked for. Rollouts of
/// several runs are of several policies under the same ids, so one run at most may be named.
pub(crate) fn rollouts(
    arguments: &[PathBuf],
    asked: Asked<'_>,
    notes: Notes,
) -> Result<Named, Fault> {
    let mut files = Vec::new();
    let mut from: Option<RunView> = None;
    for argument in arguments {
        // A pipe is no regular file.
        let is_there = argument.exists() && !argument.is_dir();
        if is_there || is_file_name(argument) {
            files.push(argument.clone());
            continue;
        }
        let run = open(&argument.to_string_lossy(), None, notes).map_err(|fault| {
            let hint = fault.hint.clone().unwrap_or_default();
            let name = argument.display();
            if argument.is_dir() {
                fault
            } else {
                fault.hint(format!("{hint} (nor is {name} a file)"))
            }
        })?;
        if let Some(before) = &from {
            let [before, now] = [before.dir(), run.dir()].map(|dir| dir.display());
            let message = format!("two runs are named, {before} and {now}: rollouts of one only");
            return Err(
                Fault::new(FaultClass::Usage, message).hint("give the command once for each run")
            );
        }
        files.extend(stored(&run, asked, notes)?);
        from = Some(run);
    }
    Ok(Named { files, run: from.filter(|_| arguments.len() == 1) })
}

fn is_file_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    rollout_file::check_name(path).is_ok()
        || matches!(extension, Some("json" | "ndjson" | "gz" | "zst" | "csv"))
}

fn stored(run: &RunView, asked: Asked<'_>, notes: Notes) -> Result<Vec<PathBuf>, Fault> {
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
        notes.tell(&format!("{dir}: iteration {last}, {names}"));
        found.retain(|(iteration, _)| *iteration == last);
    }
    Ok(found.into_iter().flat_map(|(_, files)| files).collect())
}
