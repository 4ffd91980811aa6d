//! A run folder that is being written: created, published to, and continued after a crash.
//!
//! Order is everything here. A piece (rollouts, a checkpoint) first gets its final name, durably;
//! only then is its `Published` event appended and synced. So an event never speaks of what is not
//! there, and what is there without its event is overwritten when the run is resumed. Opening drops
//! events after the last durable one and removes temporary leftovers; both can be interrupted and
//! repeated. One process at a time holds the folder, by its lock.
//!
//! Nothing is removed from a folder that is not a run's: a marker is written before the first file of
//! a run, and what made the folder a run (the manifest) is renamed to that marker before the run is
//! removed. Only beside a manifest of ours or the marker are files taken for parts of a run.
//!
//! Nothing here knows what a checkpoint contains.

use crate::comparison::what_it_is;
use crate::config_diff::{ConfigChange, config_diff_from};
use crate::disk::{self, DiskError};
use crate::event_log::{EventLog, EventLogError, LoggedEvent, read_events};
use crate::layout;
use crate::lock::{Attempt, RunLock};
use crate::manifest::{FormatVersion, Manifest, RUN_FORMAT};
use crate::rollout_file::{self, RolloutFileError};
use crate::view::RunView;
use crate::{adopt, clock, lock, view};
use bstar_core::event::Event;
use bstar_core::event::Piece;
use bstar_core::{Fault, FaultClass, Rollout, Stage};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What makes a run the run it is.
#[derive(Clone, Debug, PartialEq)]
pub struct RunIdentity {
    /// The configuration as written; kept for people.
    pub config_toml: String,
    /// The configuration as understood; compared when a run is continued.
    pub resolved: Value,
    /// What its keys are where nobody sets them: a run that an older build made lacks those that came
    /// later.
    pub defaults: Value,
    /// Version of bstar.
    pub bstar_version: String,
}

/// How [`RunStore::open_or_create`] came by its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    Created,
    /// There was one, of the same configuration.
    Continued,
}

/// Why a run folder cannot be used as asked.
#[derive(Debug, Error)]
pub enum RunError {
    /// The folder is missing or has no manifest.
    #[error("no run in {}", dir.display())]
    NotARun {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds a run already.
    #[error("{} holds a run already", dir.display())]
    AlreadyARun {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds files that no run has.
    #[error("{} {}", dir.display(), match other {
        Some(other) => format!("is {other}"),
        None => format!("is not empty and holds no run (found {found})"),
    })]
    ForeignFolder {
        /// The folder.
        dir: PathBuf,
        /// One of the files.
        found: String,
        /// What of bstar it is instead, if anything.
        other: Option<&'static str>,
    },
    /// A newer bstar wrote the run.
    #[error("run format {found} of {}, written by bstar {wrote}, is newer than {RUN_FORMAT}", dir.display())]
    NewerFormat {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: FormatVersion,
        /// The version of bstar that wrote it.
        wrote: String,
    },
    /// A file of the run cannot be understood.
    #[error("broken file {}: {problem}", path.display())]
    BrokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another process is writing the run.
    #[error("{} is in use by {}", dir.display(), match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    })]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The process, where the lock file tells.
        pid: Option<u32>,
    },
    /// The run was created with another configuration.
    #[error("{} was created with another configuration:{}", dir.display(), lines(changes))]
    ConfigDiffers {
        /// The folder.
        dir: PathBuf,
        /// The keys that differ.
        changes: Vec<ConfigChange>,
    },
    /// Rollouts or a checkpoint were asked for that the run has not published.
    #[error("nothing published for {what} of iteration {iteration} in {}", dir.display())]
    NotPublished {
        /// The folder.
        dir: PathBuf,
        /// The iteration.
        iteration: u32,
        /// A stage or "checkpoint".
        what: &'static str,
    },
    /// A piece was published twice.
    #[error("{piece:?} of iteration {iteration} is published already in {}", dir.display())]
    AlreadyPublished {
        /// The folder.
        dir: PathBuf,
        /// The iteration.
        iteration: u32,
        /// The piece.
        piece: Piece,
    },
    /// The event log.
    #[error(transparent)]
    Events(#[from] EventLogError),
    /// A rollout file.
    #[error(transparent)]
    Rollouts(#[from] RolloutFileError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn lines(changes: &[ConfigChange]) -> String {
    changes.iter().fold(String::new(), |text, change| text + "\n  " + &change.to_string())
}

impl From<RunError> for Fault {
    fn from(error: RunError) -> Self {
        let message = error.to_string();
        let fault = |hint: &str| Self::new(FaultClass::Run, &message).hint(hint);
        match error {
            RunError::NotARun { .. } => fault("name a run folder; `bstar runs list` shows them"),
            RunError::AlreadyARun { .. } => {
                fault("continue it with its own configuration, or start over with `--fresh`")
            }
            RunError::ForeignFolder { other: Some(_), .. } => fault("choose another `--dir`"),
            RunError::ForeignFolder { other: None, .. } => {
                fault("choose another `--dir`, or empty the folder yourself")
            }
            RunError::NewerFormat { wrote, .. } => {
                fault(&format!("use bstar {wrote} or later, or choose another `--dir`"))
            }
            RunError::BrokenFile { path, .. } if path.ends_with(layout::MANIFEST) => {
                fault("restore the file, or choose another `--dir`")
            }
            RunError::BrokenFile { .. } => fault("restore the file, or start over with `--fresh`"),
            RunError::Locked { .. } => {
                fault("wait until that process ends, or choose another `--dir`")
            }
            RunError::ConfigDiffers { .. } => {
                fault("put the keys back, choose another `--dir`, or start over with `--fresh`")
            }
            RunError::NotPublished { .. } => fault("the run has not come that far: continue it"),
            RunError::AlreadyPublished { .. } => Self::new(FaultClass::Bug, message),
            RunError::Events(error) => error.into(),
            RunError::Rollouts(error) => error.into(),
            RunError::Disk(error) => error.into(),
        }
    }
}

/// A run folder held for writing.
#[derive(Debug)]
pub struct RunStore {
    dir: PathBuf,
    manifest: Manifest,
    log: EventLog,
    published: BTreeSet<(u32, Piece)>,
    last_committed: Option<u32>,
    finished: bool,
    _lock: RunLock,
}

impl RunStore {
    /// Creates a run in a folder that is missing, empty, or left from a creation or a removal that a
    /// crash interrupted.
    pub fn create(dir: &Path, identity: &RunIdentity) -> Result<Self, RunError> {
        disk::create_folder(dir)?;
        refuse_foreign(dir)?;
        let lock = acquire(dir)?;
        // Again, for what happened before the lock was ours.
        refuse_foreign(dir)?;
        if dir.join(layout::MANIFEST).exists() {
            return Err(RunError::AlreadyARun { dir: dir.to_owned() });
        }
        disk::create_empty(&dir.join(layout::MARKER))?;
        clear(dir)?;
        let manifest = Manifest {
            format: RUN_FORMAT,
            bstar_version: identity.bstar_version.clone(),
            created_at: clock::now_utc(),
        };
        for (name, content) in [
            (layout::CONFIG, identity.config_toml.clone()),
            (layout::RESOLVED, format!("{:#}\n", identity.resolved)),
            (layout::EVENTS, String::new()),
            // Last: with it the folder becomes a run.
            (layout::MANIFEST, format!("{:#}\n", json!(manifest))),
        ] {
            disk::publish(&dir.join(name), |sink| sink.write_all(content.as_bytes()))?;
        }
        Self::resume(dir, manifest, lock)
    }

    /// Opens a run to continue it from its last published piece.
    pub fn open(dir: &Path) -> Result<Self, RunError> {
        let manifest = view::read_manifest(dir)?;
        let lock = acquire(dir)?;
        Self::resume(dir, manifest, lock)
    }

    /// Continues the run in `dir` if there is one of the same resolved configuration, keys in
    /// `unimportant` (with all below them) left aside; creates one if there is none.
    pub fn open_or_create(
        dir: &Path,
        identity: &RunIdentity,
        unimportant: &[&str],
    ) -> Result<(Self, Opened), RunError> {
        if !dir.join(layout::MANIFEST).exists() {
            return Ok((Self::create(dir, identity)?, Opened::Created));
        }
        let manifest = view::read_manifest(dir)?;
        let stored = view::read_resolved(dir)?;
        let RunIdentity { resolved, defaults, .. } = identity;
        let changes = config_diff_from(&stored, resolved, unimportant, defaults);
        if !changes.is_empty() {
            return Err(RunError::ConfigDiffers { dir: dir.to_owned(), changes });
        }
        let lock = acquire(dir)?;
        Ok((Self::resume(dir, manifest, lock)?, Opened::Continued))
    }

    /// Removes the run in `dir`, if there is one, so that another can be created there. A run of a
    /// newer format is removed too; a folder with foreign files or a run in use is refused.
    pub fn discard(dir: &Path) -> Result<(), RunError> {
        if !dir.exists() {
            return Ok(());
        }
        refuse_foreign(dir)?;
        let _lock = acquire(dir)?;
        refuse_foreign(dir)?;
        // The manifest goes first: without it the rest is no run, only leftovers.
        let (manifest, marker) = (dir.join(layout::MANIFEST), dir.join(layout::MARKER));
        if manifest.exists() {
            disk::rename(&manifest, &marker)?;
        }
        if marker.exists() {
            clear(dir)?;
            disk::remove(&marker)?;
        }
        Ok(disk::sync_folder(dir)?)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Appends an event; durable ones ([`Event::Published`] and the like) are synced.
    pub fn append(&mut self, event: &Event) -> Result<(), RunError> {
        self.log.append(event)?;
        self.note(event);
        Ok(())
    }

    /// Whether a piece was published.
    pub fn is_published(&self, iteration: u32, piece: Piece) -> bool {
        self.published.contains(&(iteration, piece))
    }

    /// Whether the run said that every iteration is complete.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The iterations committed so far: none, or the last one.
    pub fn last_committed(&self) -> Option<u32> {
        self.last_committed
    }

    /// Every event so far, in order.
    pub fn events(&self) -> Result<Vec<LoggedEvent>, RunError> {
        Ok(read_events(self.log.path())?)
    }

    /// Publishes the rollouts of a stage, and with them the piece that they are.
    pub fn publish_rollouts(
        &mut self,
        iteration: u32,
        stage: Stage,
        rollouts: &[Rollout],
    ) -> Result<(), RunError> {
        let piece = piece_of(stage);
        self.refuse_published(iteration, piece)?;
        disk::create_folder(&layout::rollouts_folder(&self.dir, iteration))?;
        rollout_file::write_rollouts(&layout::rollouts(&self.dir, iteration, stage), rollouts)?;
        self.append(&Event::Published { iteration, piece })
    }

    /// Reads published rollouts, in the order in which they were published.
    pub fn read_rollouts(&self, iteration: u32, stage: Stage) -> Result<Vec<Rollout>, RunError> {
        if !self.is_published(iteration, piece_of(stage)) {
            let (dir, what) = (self.dir.clone(), stage.name());
            return Err(RunError::NotPublished { dir, iteration, what });
        }
        view::read_rollouts(&self.dir, iteration, stage)
    }

    /// An empty folder into which the caller writes the files of a checkpoint. It counts as nothing
    /// until [`RunStore::finish_checkpoint`].
    pub fn begin_checkpoint(&mut self, iteration: u32) -> Result<PathBuf, RunError> {
        self.begin_folder(&layout::checkpoint(&self.dir, iteration), iteration, Piece::Train)
    }

    /// Publishes the checkpoint begun last for this iteration, and with it [`Piece::Train`].
    pub fn finish_checkpoint(&mut self, iteration: u32) -> Result<(), RunError> {
        self.finish_folder(&layout::checkpoint(&self.dir, iteration), iteration, Piece::Train)
    }

    /// An empty folder for the files of a reward model, as [`RunStore::begin_checkpoint`].
    pub fn begin_reward_model(&mut self, iteration: u32) -> Result<PathBuf, RunError> {
        let path = layout::reward_model(&self.dir, iteration);
        self.begin_folder(&path, iteration, Piece::RewardModel)
    }

    /// Publishes the reward model begun last for this iteration, and with it
    /// [`Piece::RewardModel`].
    pub fn finish_reward_model(&mut self, iteration: u32) -> Result<(), RunError> {
        let path = layout::reward_model(&self.dir, iteration);
        self.finish_folder(&path, iteration, Piece::RewardModel)
    }

    /// The folder of the reward model that an iteration published.
    pub fn reward_model_dir(&self, iteration: u32) -> Result<PathBuf, RunError> {
        if !self.is_published(iteration, Piece::RewardModel) {
            let (dir, what) = (self.dir.clone(), "reward model");
            return Err(RunError::NotPublished { dir, iteration, what });
        }
        Ok(layout::reward_model(&self.dir, iteration))
    }

    /// Takes a piece of iteration 0 over from another run that published it, with the events that
    /// led to it; files are linked rather than copied where the disk allows, since published files
    /// never change.
    pub fn adopt(&mut self, source: &RunView, piece: Piece) -> Result<(), RunError> {
        self.refuse_published(0, piece)?;
        let events = adopt::events_of(source, piece)?;
        adopt::link_files(source.dir(), &self.dir, piece)?;
        events.iter().try_for_each(|event| self.append(event))
    }

    fn begin_folder(&self, path: &Path, iteration: u32, piece: Piece) -> Result<PathBuf, RunError> {
        self.refuse_published(iteration, piece)?;
        let temporary = disk::temporary_beside(path);
        disk::remove(&temporary)?;
        disk::create_folder(&temporary)?;
        Ok(temporary)
    }

    fn finish_folder(&mut self, path: &Path, iteration: u32, piece: Piece) -> Result<(), RunError> {
        self.refuse_published(iteration, piece)?;
        let temporary = disk::temporary_beside(path);
        disk::sync_tree(&temporary)?;
        // A crash between rename and event leaves a folder of this name that nothing speaks of.
        disk::remove(path)?;
        disk::rename(&temporary, path)?;
        self.append(&Event::Published { iteration, piece })
    }

    /// The folder of a published checkpoint; none if it was pruned.
    pub fn checkpoint_dir(&self, iteration: u32) -> Result<Option<PathBuf>, RunError> {
        if !self.is_published(iteration, Piece::Train) {
            let (dir, what) = (self.dir.clone(), "checkpoint");
            return Err(RunError::NotPublished { dir, iteration, what });
        }
        let path = layout::checkpoint(&self.dir, iteration);
        Ok(path.is_dir().then_some(path))
    }

    /// Removes the checkpoints of iterations that are not in `keep`.
    pub fn prune_checkpoints(&mut self, keep: &BTreeSet<u32>) -> Result<(), RunError> {
        self.prune(layout::CHECKPOINTS, keep)
    }

    /// Removes every reward model but the one published last, which is the only one that scores and
    /// that a resumed run reads.
    pub fn prune_reward_models(&mut self) -> Result<(), RunError> {
        let published = self.published.iter().filter(|(_, piece)| *piece == Piece::RewardModel);
        let newest = published.map(|(iteration, _)| *iteration).max();
        self.prune(layout::REWARD_MODELS, &newest.into_iter().collect())
    }

    fn prune(&self, folder: &str, keep: &BTreeSet<u32>) -> Result<(), RunError> {
        for path in disk::entries(&self.dir.join(folder))? {
            if layout::iteration_of(&path).is_some_and(|iteration| !keep.contains(&iteration)) {
                // Renamed first, so that no half-removed folder has the name of a checkpoint.
                let temporary = disk::temporary_beside(&path);
                disk::remove(&temporary)?;
                disk::rename(&path, &temporary)?;
                disk::remove(&temporary)?;
            }
        }
        Ok(())
    }

    /// Ends an iteration.
    pub fn commit(&mut self, iteration: u32, policy_version: &str) -> Result<(), RunError> {
        self.append(&Event::IterationCommitted { iteration, policy_version: policy_version.into() })
    }

    fn resume(dir: &Path, manifest: Manifest, lock: RunLock) -> Result<Self, RunError> {
        disk::remove(&dir.join(layout::MARKER))?;
        disk::remove_temporaries(dir)?;
        disk::remove_temporaries(&dir.join(layout::CHECKPOINTS))?;
        disk::remove_temporaries(&dir.join(layout::REWARD_MODELS))?;
        for folder in disk::entries(&dir.join(layout::ROLLOUTS))? {
            disk::remove_temporaries(&folder)?;
        }
        let (log, events) = EventLog::resume(&dir.join(layout::EVENTS))?;
        let mut run = Self {
            dir: dir.to_owned(),
            manifest,
            log,
            published: BTreeSet::new(),
            last_committed: None,
            finished: false,
            _lock: lock,
        };
        for event in &events {
            run.note(event);
        }
        Ok(run)
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Published { iteration, piece } => {
                self.published.insert((*iteration, *piece));
            }
            Event::IterationCommitted { iteration, .. } => self.last_committed = Some(*iteration),
            Event::RunFinished { .. } => self.finished = true,
            _ => {}
        }
    }

    fn refuse_published(&self, iteration: u32, piece: Piece) -> Result<(), RunError> {
        if self.is_published(iteration, piece) {
            return Err(RunError::AlreadyPublished { dir: self.dir.clone(), iteration, piece });
        }
        Ok(())
    }
}

/// The piece that the rollouts of a stage are published as.
pub(crate) fn piece_of(stage: Stage) -> Piece {
    match stage {
        Stage::Probe => Piece::Probe,
        Stage::Train => Piece::Draw,
        Stage::Eval => Piece::Evaluate,
    }
}

fn acquire(dir: &Path) -> Result<RunLock, RunError> {
    match RunLock::acquire(&dir.join(layout::LOCK))? {
        Attempt::Held(lock) => Ok(lock),
        Attempt::Taken(pid) => Err(RunError::Locked { dir: dir.to_owned(), pid }),
    }
}

/// Refuses a folder with files that are not provably those of a run: only beside a manifest of ours
/// or the marker may there be more than a lock.
fn refuse_foreign(dir: &Path) -> Result<(), RunError> {
    let is_ours = dir.join(layout::MARKER).is_file() || view::has_manifest(dir);
    let known = if is_ours { layout::NAMES.as_slice() } else { &[] };
    for path in disk::entries(dir)? {
        let found = path.file_name().unwrap_or_default().to_string_lossy();
        let is_part = |name: &&str| found == **name || found == format!(".{name}.tmp");
        if !known.iter().any(is_part) && !lock::is_lock_file(&path) {
            let found = found.into_owned();
            let other = if is_ours { None } else { what_it_is(dir)? };
            return Err(RunError::ForeignFolder { dir: dir.to_owned(), found, other });
        }
    }
    Ok(())
}

/// Removes everything that a run may have left but its lock and the marker.
fn clear(dir: &Path) -> Result<(), RunError> {
    disk::remove_temporaries(dir)?;
    let stays = |name: &str| name == layout::LOCK || name == layout::MARKER;
    for name in layout::NAMES.iter().filter(|name| !stays(name)) {
        disk::remove(&dir.join(name))?;
    }
    disk::sync_folder(dir)?;
    Ok(())
}
