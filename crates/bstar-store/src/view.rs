//! A run folder that is only read: by tables, reports and evaluations, also while it is written.
//!
//! Changes nothing and holds no lock; only the question whether a process is writing takes a shared
//! one for a moment. Events may run ahead of what is published: whoever needs the
//! durable state asks [`crate::RunStore`].

use crate::disk::{self, DiskError};
use crate::event_log::{LoggedEvent, read_events};
use crate::failure::failure;
use crate::manifest::{Manifest, RUN_FORMAT};
use crate::rollout_file::read_published;
use crate::run::{RunError, piece_of};
use crate::{layout, lock};
use bstar_core::event::Event;
use bstar_core::{Rollout, Stage};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A run folder opened for reading.
#[derive(Clone, Debug)]
pub struct RunView {
    dir: PathBuf,
    manifest: Manifest,
}

impl RunView {
    /// Opens the run in `dir`, refusing one of a newer major format.
    pub fn open(dir: &Path) -> Result<Self, RunError> {
        Ok(Self { dir: dir.to_owned(), manifest: read_manifest(dir)? })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every event written so far, in order, published or not.
    pub fn events(&self) -> Result<Vec<LoggedEvent>, RunError> {
        Ok(read_events(&self.dir.join(layout::EVENTS))?)
    }

    /// The configuration as written.
    pub fn config_toml(&self) -> Result<String, RunError> {
        Ok(disk::read_text(&self.dir.join(layout::CONFIG))?)
    }

    /// The configuration as understood.
    pub fn resolved_config(&self) -> Result<Value, RunError> {
        read_resolved(&self.dir)
    }

    /// The failure that the run ended with, in words, where its events tell of one.
    pub fn failure(&self) -> Result<Option<String>, RunError> {
        Ok(failure(&self.events()?, &self.resolved_config()?))
    }

    /// Whether a process is writing the run now: a shared lock is tried and given back at once.
    pub fn is_running(&self) -> bool {
        lock::is_taken(&self.dir.join(layout::LOCK))
    }

    /// Where the rollouts of a stage lie, if they do.
    pub fn rollouts_path(&self, iteration: u32, stage: Stage) -> Option<PathBuf> {
        let path = layout::rollouts(&self.dir, iteration, stage);
        path.is_file().then_some(path)
    }

    /// Reads the rollouts of a stage.
    pub fn read_rollouts(&self, iteration: u32, stage: Stage) -> Result<Vec<Rollout>, RunError> {
        read_rollouts(&self.dir, iteration, stage)
    }

    /// The folder of a checkpoint, if it is there.
    pub fn checkpoint_dir(&self, iteration: u32) -> Option<PathBuf> {
        let path = layout::checkpoint(&self.dir, iteration);
        path.is_dir().then_some(path)
    }

    /// The iterations whose checkpoints are there, in order.
    pub fn checkpoints(&self) -> Result<Vec<u32>, RunError> {
        let paths = disk::entries(&self.dir.join(layout::CHECKPOINTS))?;
        let mut iterations: Vec<u32> =
            paths.iter().filter_map(|path| layout::iteration_of(path)).collect();
        iterations.sort_unstable();
        Ok(iterations)
    }
}

/// Whether a folder has a manifest that a bstar of whatever version wrote.
pub(crate) fn has_manifest(dir: &Path) -> bool {
    let Ok(text) = disk::read_text(&dir.join(layout::MANIFEST)) else { return false };
    let fields: Value = serde_json::from_str(&text).unwrap_or_default();
    let format = fields["format"].as_str().unwrap_or_default();
    fields["bstar_version"].is_string() && format.parse::<crate::FormatVersion>().is_ok()
}

pub(crate) fn read_manifest(dir: &Path) -> Result<Manifest, RunError> {
    let path = dir.join(layout::MANIFEST);
    if !path.exists() {
        return Err(RunError::NotARun { dir: dir.to_owned() });
    }
    let text = disk::read_text(&path)?;
    let broken = |problem: String| RunError::BrokenFile { path: path.clone(), problem };
    // The version is read before the rest: a newer major may have any other fields.
    let fields: Value = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    let format = fields["format"].as_str().unwrap_or_default().parse();
    let found: crate::FormatVersion = format.map_err(broken)?;
    if !found.is_readable_by(RUN_FORMAT) {
        let wrote = fields["bstar_version"].as_str().unwrap_or("(unknown)").to_owned();
        return Err(RunError::NewerFormat { dir: dir.to_owned(), found, wrote });
    }
    serde_json::from_value(fields).map_err(|error| broken(error.to_string()))
}

pub(crate) fn read_resolved(dir: &Path) -> Result<Value, RunError> {
    let path = dir.join(layout::RESOLVED);
    serde_json::from_str(&disk::read_text(&path)?)
        .map_err(|error| RunError::BrokenFile { path, problem: error.to_string() })
}

pub(crate) fn read_rollouts(
    dir: &Path,
    iteration: u32,
    stage: Stage,
) -> Result<Vec<Rollout>, RunError> {
    let path = layout::rollouts(dir, iteration, stage);
    if !path.exists() {
        let published = Event::Published { iteration, piece: piece_of(stage) };
        let events = read_events(&dir.join(layout::EVENTS))?;
        if events.iter().any(|line| line.event == published) {
            return Err(DiskError::Missing { path }.into());
        }
        let what = stage.name();
        return Err(RunError::NotPublished { dir: dir.to_owned(), iteration, what });
    }
    Ok(read_published(&path)?)
}
