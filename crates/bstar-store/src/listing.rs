//! The runs in a folder, and finding one by the beginning of its name.
//!
//! A run that cannot be read (broken, or of a newer format) is listed with the reason: one bad
//! folder must not hide the others.

use crate::disk::{self, DiskError};
use crate::layout;
use crate::view::RunView;
use bstar_core::event::Event;
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
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// A line of the list of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// Name of the folder.
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
}

/// Why no run was found.
#[derive(Debug, Error)]
pub enum FindError {
    /// No run has a name that begins like this.
    #[error("no run `{name}` in {}", root.display())]
    None {
        /// What was asked for.
        name: String,
        /// Where.
        root: PathBuf,
        /// The runs that are there.
        present: Vec<String>,
    },
    /// Several runs do.
    #[error("several runs in {} begin with `{name}`: {}", root.display(), matches.join(", "))]
    Several {
        /// What was asked for.
        name: String,
        /// Where.
        root: PathBuf,
        /// The runs that match.
        matches: Vec<String>,
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
                Self::new(FaultClass::Usage, message).hint(
                    "there are no runs yet; name the folder of one, or start one with `bstar run`",
                )
            }
            FindError::None { present, .. } => Self::new(FaultClass::Usage, message)
                .hint(format!("the runs there are {}", present.join(", "))),
            FindError::Several { .. } => {
                Self::new(FaultClass::Usage, message).hint("add letters until one is left")
            }
            FindError::Disk(error) => error.into(),
        }
    }
}

/// The runs directly in `root`, sorted by name; none if the folder is missing.
pub fn list_runs(root: &Path) -> Result<Vec<RunSummary>, DiskError> {
    Ok(run_folders(root)?.into_iter().map(|dir| summarize(&dir)).collect())
}

/// The folder of a run: `name` is the path of a run folder, or the name or the unique beginning of
/// the name of a run in `root`.
pub fn find_run(root: &Path, name: &str) -> Result<PathBuf, FindError> {
    let path = Path::new(name);
    if is_run(path) {
        return Ok(path.to_owned());
    }
    let folders = run_folders(root)?;
    let matching = |folder: &&PathBuf| id_of(folder).starts_with(name);
    let matches: Vec<&PathBuf> = folders.iter().filter(matching).collect();
    let exact = folders.iter().find(|folder| id_of(folder) == name);
    match (exact, matches.as_slice()) {
        (Some(folder), _) | (None, &[folder]) => Ok(folder.clone()),
        (None, []) => Err(FindError::None {
            name: name.to_owned(),
            root: root.to_owned(),
            present: folders.iter().map(|folder| id_of(folder)).collect(),
        }),
        (None, several) => Err(FindError::Several {
            name: name.to_owned(),
            root: root.to_owned(),
            matches: several.iter().map(|folder| id_of(folder)).collect(),
        }),
    }
}

fn run_folders(root: &Path) -> Result<Vec<PathBuf>, DiskError> {
    Ok(disk::entries(root)?.into_iter().filter(|path| is_run(path)).collect())
}

fn is_run(dir: &Path) -> bool {
    dir.join(layout::MANIFEST).is_file()
}

fn id_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn summarize(dir: &Path) -> RunSummary {
    let mut summary = RunSummary {
        id: id_of(dir),
        dir: dir.to_owned(),
        state: RunState::Unfinished,
        bstar_version: None,
        created_at: None,
        updated_at: None,
        method: None,
        task: None,
        seed: None,
        iterations: None,
        last_committed: None,
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
    for line in events {
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
    if running {
        summary.state = RunState::Running;
    }
    summary
}
