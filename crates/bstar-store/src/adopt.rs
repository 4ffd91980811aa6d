//! Iteration 0 of one run as that of another: the files of a piece, and the events that led to it.
//!
//! Runs of a comparison start from the same policy. Making it once and taking it over must give the
//! same folder as making it again; so the events between two published pieces go along with the files.

use crate::disk::{self, DiskError};
use crate::layout;
use crate::run::RunError;
use crate::view::RunView;
use bstar_core::Stage;
use bstar_core::event::{Event, Piece};
use std::fs;
use std::path::{Path, PathBuf};

/// The events that a run recorded for a piece of iteration 0, the last of which publishes it.
pub(crate) fn events_of(source: &RunView, piece: Piece) -> Result<Vec<Event>, RunError> {
    let mut events = Vec::new();
    for logged in source.events()? {
        let publishes = matches!(logged.event, Event::Published { .. });
        let wanted = logged.event == Event::Published { iteration: 0, piece };
        if !matches!(logged.event, Event::RunStarted { .. }) {
            events.push(logged.event);
        }
        if wanted {
            return Ok(events);
        }
        if publishes {
            events.clear();
        }
    }
    let (dir, what) = (source.dir().to_owned(), name(piece));
    Err(RunError::NotPublished { dir, iteration: 0, what })
}

/// Gives the files of a piece of iteration 0 their place in another run.
pub(crate) fn link_files(from: &Path, to: &Path, piece: Piece) -> Result<(), RunError> {
    let place = place_of(piece);
    let (source, target) = (place(from), place(to));
    let folder = target.parent().expect("a piece lies in a folder");
    disk::create_folder(folder)?;
    let temporary = disk::temporary_beside(&target);
    disk::remove(&temporary)?;
    link(&source, &temporary)?;
    if temporary.is_dir() {
        disk::sync_tree(&temporary)?;
        disk::remove(&target)?;
    }
    Ok(disk::rename(&temporary, &target)?)
}

/// Where a piece of iteration 0 lies in a run folder.
fn place_of(piece: Piece) -> fn(&Path) -> PathBuf {
    match piece {
        Piece::Train => |dir| layout::checkpoint(dir, 0),
        Piece::RewardModel => |dir| layout::reward_model(dir, 0),
        Piece::Evaluate => |dir| layout::rollouts(dir, 0, Stage::Eval),
        Piece::Probe => |dir| layout::rollouts(dir, 0, Stage::Probe),
        Piece::Draw => |dir| layout::rollouts(dir, 0, Stage::Train),
    }
}

fn name(piece: Piece) -> &'static str {
    match piece {
        Piece::Train => "checkpoint",
        Piece::RewardModel => "reward model",
        Piece::Evaluate => Stage::Eval.name(),
        Piece::Probe => Stage::Probe.name(),
        Piece::Draw => Stage::Train.name(),
    }
}

/// Links a file, or every file of a folder; copies where the file system does not link.
fn link(from: &Path, to: &Path) -> Result<(), DiskError> {
    if from.is_dir() {
        disk::create_folder(to)?;
        for path in disk::entries(from)? {
            link(&path, &to.join(path.file_name().expect("an entry has a name")))?;
        }
        return Ok(());
    }
    if !from.exists() {
        return Err(DiskError::Missing { path: from.to_owned() });
    }
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copy = || fs::copy(from, to).and_then(|_| fs::File::open(to)?.sync_all());
    copy().map_err(|error| DiskError::new("copy", to, error))
}
