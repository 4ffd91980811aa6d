//! The runs in a folder, and finding one by its name. A run of a comparison is named by the folders that
//! it lies in below that folder: `table1/b-star/seed-0001`. Some of these do, and so does a beginning,
//! where that is unique; whole names come before beginnings.
//!
//! A run that cannot be read (broken, or of a newer format) is listed with the reason: one bad
//! folder must not hide the others.

use crate::comparison;
use crate::disk::{self, DiskError};
use crate::failure::failure;
use crate::layout;
use crate::view::RunView;
use bstar_core::event::Event;
use bstar_core::goal::{GoalWatch, MissedGoal};
use bstar_core::{Fault, FaultClass};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// A process is writing it.
    Running,
    /// Every iteration is complete.
    Finished,
    /// It can be continued.
    Unfinished,
    /// It ended with a failure, for this reason.
    Failed(String),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// A line of the list of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// Name of the folder; of a run of a comparison, with those of entry and comparison.
    pub id: String,
    /// The folder.
    pub dir: PathBuf,
    /// Where it stands.
    pub state: RunState,
    /// Version of bstar that created it.
    pub bstar_version: Option<String>,
    /// When it was created, RFC 3339.
    pub created_at: Option<String>,
    /// When its last event was written, RFC 3339.
    pub updated_at: Option<String>,
    /// The method, once started.
    pub method: Option<String>,
    /// The task, once started.
    pub task: Option<String>,
    /// The seed, once started.
    pub seed: Option<u64>,
    /// Iterations planned, once started.
    pub iterations: Option<u32>,
    /// The last iteration committed.
    pub last_committed: Option<u32>,
    /// What P_0 reached, where it is complete and that is not its accuracy goal.
    pub missed_goal: Option<MissedGoal>,
}

/// A run that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its folder.
    pub dir: PathBuf,
    /// How what was asked for names it.
    pub fit: Fit,
}

/// How a name fits a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is the path or the whole name of the run.
    Exact,
    /// It is the name of folders that the run lies in.
    Folders,
    /// It is a beginning only.
    Beginning,
}

/// Why no run was found.
#[derive(Debug, Error)]
pub enum FindError {
    /// Nothing was asked for.
    #[error("the name of the run is empty")]
    Empty,
    /// No run has a name like this.
    #[error("no run `{name}` in {}", shown(roots))]
    None {
        /// What was asked for.
        name: String,
        /// Where.
        roots: Vec<PathBuf>,
        /// The runs that are there.
        present: Vec<String>,
    },
    /// Several runs do.
    #[error("`{name}` is several runs in {}: {}", shown(roots), matches.join(", "))]
    Several {
        /// What was asked for.
        name: String,
        /// Where.
        roots: Vec<PathBuf>,
        /// The runs that match: their names, or their folders where names are equal.
        matches: Vec<String>,
        /// How it fits them.
        fit: Fit,
    },
    /// What was named is a comparison.
    #[error("{} is a comparison: it holds several runs", dir.display())]
    Comparison {
        /// Its folder.
        dir: PathBuf,
        /// The folders of its runs.
        runs: Vec<String>,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<FindError> for Fault {
    fn from(error: FindError) -> Self {
        let message = error.to_string();
        match error {
            FindError::None { present, .. } if present.is_empty() => {
                Self::new(FaultClass::Run, message)
                    .hint("there are no runs there; name the folder of one")
            }
            FindError::None { name, present, .. } => Self::new(FaultClass::Run, message)
                .hint(format!("{}; `bstar runs list` lists all", nearest(&name, present))),
            FindError::Comparison { runs, .. } if runs.is_empty() => {
                Self::new(FaultClass::Run, message)
                    .hint("no run of it is made yet: `bstar compare FILE` makes them")
            }
            FindError::Comparison { runs, .. } => Self::new(FaultClass::Run, message)
                .hint(format!("name one of them: {}", runs.join(", "))),
            FindError::Several { .. } => Self::new(FaultClass::Usage, message)
                .hint("name more of it: the comparison before it, or give the folder"),
            FindError::Empty => Self::new(FaultClass::Usage, message)
                .hint("name a run, or its folder; `bstar runs list` lists all"),
            FindError::Disk(error) => error.into(),
        }
    }
}

/// The runs in `root`, and in comparisons that it holds or is, sorted by name; none if the folder is
/// missing.
pub fn list_runs(root: &Path) -> Result<Vec<RunSummary>, DiskError> {
    let mut folders = run_folders(root)?;
    folders.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(folders.iter().map(summarize).collect())
}

/// The folders of the runs in `root`, and in comparisons that it holds or is.
pub fn run_dirs(root: &Path) -> Result<Vec<PathBuf>, DiskError> {
    Ok(run_folders(root)?.into_iter().map(|folder| folder.dir).collect())
}

/// The folder of a run: `name` is the path of a run folder, or the name of a run in one of `roots`, that
/// of its last folders or of any of them, or a unique beginning of these.
pub fn find_run(roots: &[&Path], name: &str) -> Result<Found, FindError> {
    if name.trim().is_empty() {
        return Err(FindError::Empty);
    }
    let path = Path::new(name);
    if is_run(path) {
        return Ok(Found { dir: path.to_owned(), fit: Fit::Exact });
    }
    if comparison::is_comparison(path) {
        let folders = run_folders(path)?.into_iter();
        let runs = folders.map(|folder| folder.dir.display().to_string()).collect();
        return Err(FindError::Comparison { dir: path.to_owned(), runs });
    }
    let mut folders = Vec::new();
    for root in roots {
        folders.extend(run_folders(root)?);
    }
    let ids = |of: &[&Folder]| of.iter().map(|folder| folder.id.clone()).collect();
    let roots = roots.iter().map(|root| (*root).to_owned()).collect();
    let name = name.to_owned();
    let ways: [(Fit, Fits); 5] = [
        (Fit::Exact, is_same),
        (Fit::Folders, ends_with),
        (Fit::Folders, lies_in),
        (Fit::Beginning, begins_with),
        (Fit::Beginning, goes_on_with),
    ];
    for (fit, fits) in ways {
        let found: Vec<&Folder> = folders.iter().filter(|run| fits(&run.id, &name)).collect();
        match found.as_slice() {
            [] => {}
            [folder] => return Ok(Found { dir: folder.dir.clone(), fit }),
            several => {
                let matches = told_apart(several);
                return Err(FindError::Several { name, roots, matches, fit });
            }
        }
    }
    let present = ids(&folders.iter().collect::<Vec<_>>());
    Err(FindError::None { name, roots, present })
}

/// Whether a name fits the name of a run, in one way.
type Fits = fn(&str, &str) -> bool;

fn is_same(id: &str, name: &str) -> bool {
    id == name
}

/// Whether a name is that of the last folders.
fn ends_with(id: &str, name: &str) -> bool {
    Path::new(id).ends_with(name)
}

/// Whether a name is that of some of the folders, one after the other.
fn lies_in(id: &str, name: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let name = parts(name);
    !name.is_empty() && parts(id).windows(name.len()).any(|folders| folders == name)
}

fn begins_with(id: &str, name: &str) -> bool {
    id.starts_with(name)
}

/// Whether a name begins at one of the folders.
fn goes_on_with(id: &str, name: &str) -> bool {
    id.match_indices('/').any(|(slash, _)| id[slash + 1..].starts_with(name))
}

/// The names of runs; the folders of those that have one name.
fn told_apart(runs: &[&Folder]) -> Vec<String> {
    let is_shared = |id: &str| runs.iter().filter(|run| run.id == id).count() > 1;
    let shown = |run: &&Folder| {
        if is_shared(&run.id) { run.dir.display().to_string() } else { run.id.clone() }
    };
    runs.iter().map(shown).collect()
}

/// Names to choose from where there are more.
const MOST_NAMES: usize = 5;

/// Those that are there, or the nearest of many.
fn nearest(name: &str, mut present: Vec<String>) -> String {
    if present.len() <= MOST_NAMES {
        return format!("the runs there are {}", present.join(", "));
    }
    let likeness = |id: &String| strsim::jaro_winkler(name, id);
    present.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    present.truncate(MOST_NAMES);
    format!("the nearest names are {}", present.join(", "))
}

/// Folders, in words.
fn shown(roots: &[PathBuf]) -> String {
    let names: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    names.join(" or ")
}

/// The folder of a run.
struct Folder {
    id: String,
    dir: PathBuf,
}

fn run_folders(root: &Path) -> Result<Vec<Folder>, DiskError> {
    let mut folders = compared_runs(root, "")?;
    for dir in disk::entries(root)? {
        if is_run(&dir) {
            folders.push(Folder { id: name_of(&dir), dir });
        } else {
            folders.extend(compared_runs(&dir, &format!("{}/", name_of(&dir)))?);
        }
    }
    Ok(folders)
}

/// The runs of a comparison; none if the folder is none.
fn compared_runs(dir: &Path, above: &str) -> Result<Vec<Folder>, DiskError> {
    let mut folders = Vec::new();
    if !comparison::is_comparison(dir) {
        return Ok(folders);
    }
    let entries = disk::entries(&dir.join(comparison::RUNS))?;
    for entry in entries.iter().filter(|entry| entry.is_dir()) {
        let runs = disk::entries(entry)?.into_iter().filter(|run| is_run(run));
        let id = |run: &Path| format!("{above}{}/{}", name_of(entry), name_of(run));
        folders.extend(runs.map(|dir| Folder { id: id(&dir), dir }));
    }
    Ok(folders)
}

fn is_run(dir: &Path) -> bool {
    dir.join(layout::MANIFEST).is_file()
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn summarize(Folder { id, dir }: &Folder) -> RunSummary {
    let mut summary = RunSummary {
        id: id.clone(),
        dir: dir.clone(),
        state: RunState::Unfinished,
        bstar_version: None,
        created_at: None,
        updated_at: None,
        method: None,
        task: None,
        seed: None,
        iterations: None,
        last_committed: None,
        missed_goal: None,
    };
    let read = RunView::open(dir).and_then(|run| {
        summary.bstar_version = Some(run.manifest().bstar_version.clone());
        summary.created_at = Some(run.manifest().created_at.clone());
        Ok((run.events()?, run.is_running()))
    });
    let (events, running) = match read {
        Ok(read) => read,
        Err(error) => {
            summary.state = RunState::Unreadable(error.to_string());
            return summary;
        }
    };
    summary.updated_at = events.last().map(|line| line.at.clone());
    let mut goal = GoalWatch::default();
    let resolved = RunView::open(dir).and_then(|run| run.resolved_config());
    if let Some(why) = resolved.ok().and_then(|config| failure(&events, &config)) {
        summary.state = RunState::Failed(why);
    }
    for line in events {
        goal.add(&line.event);
        match line.event {
            Event::RunStarted { method, task, seed, iterations, .. } => {
                (summary.method, summary.task) = (Some(method), Some(task));
                (summary.seed, summary.iterations) = (Some(seed), Some(iterations));
            }
            Event::IterationCommitted { iteration, .. } => summary.last_committed = Some(iteration),
            Event::RunFinished { .. } => summary.state = RunState::Finished,
            _ => {}
        }
    }
    summary.missed_goal = goal.missed();
    if running {
        summary.state = RunState::Running;
    }
    summary
}
