//! Bytes on disk: of a run that is there, and of what a run would write.

use crate::clock::Stamp;
use crate::disk::{self, DiskError};
use crate::event_log::{EventLogError, to_line};
use crate::layout;
use crate::rollout_file;
use crate::view::RunView;
use bstar_core::Rollout;
use bstar_core::event::{Event, Piece};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::Path;

/// Bytes of a run folder by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// Checkpoints: weights and optimizer state.
    pub checkpoints: f64,
    /// Reward models.
    pub reward_models: f64,
    /// Rollout files.
    pub rollouts: f64,
    /// The event log.
    pub events: f64,
}

impl Footprint {
    /// All of them.
    pub fn total(&self) -> f64 {
        self.checkpoints + self.reward_models + self.rollouts + self.events
    }
}

impl RunView {
    /// Bytes that the run has on disk of the pieces of iterations that count; a few kilobytes of
    /// configuration are left out.
    pub fn footprint(&self, counts: &dyn Fn(Piece, u32) -> bool) -> Result<Footprint, DiskError> {
        let of = |folder: &str, piece: Piece| -> Result<f64, DiskError> {
            let paths = disk::entries(&self.dir().join(folder))?;
            let counted = paths.iter().filter(|path| {
                layout::iteration_of(path).is_some_and(|iteration| counts(piece, iteration))
            });
            counted.map(|path| size(path)).sum()
        };
        // What is evaluated is all that an iteration 0 has of rollouts.
        Ok(Footprint {
            checkpoints: of(layout::CHECKPOINTS, Piece::Train)?,
            reward_models: of(layout::REWARD_MODELS, Piece::RewardModel)?,
            rollouts: of(layout::ROLLOUTS, Piece::Evaluate)?,
            events: size(&self.dir().join(layout::EVENTS))?,
        })
    }
}

/// Bytes of a file, or of all files under a folder; 0 if there is none.
fn size(path: &Path) -> Result<f64, DiskError> {
    if path.is_dir() {
        return disk::entries(path)?.iter().map(|entry| size(entry)).sum();
    }
    match std::fs::metadata(path) {
        Ok(data) => Ok(data.len() as f64),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0.0),
        Err(error) => Err(DiskError::new("measure", path, error)),
    }
}

/// Bytes of the line of an event.
pub fn event_bytes(event: &Event) -> Result<usize, EventLogError> {
    let stamp = Stamp { at: crate::clock::now_utc(), elapsed_s: 0.123 };
    to_line(1234, stamp, event).map(|line| line.len())
}

/// Bytes of the rollout file that a run would publish.
pub fn rollout_file_bytes(rollouts: &[Rollout]) -> io::Result<usize> {
    let mut count = Count(0);
    rollout_file::write_published(rollouts, &mut count)?;
    Ok(count.0)
}

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout_file::tests::rollout;
    use crate::{RunIdentity, RunStore};
    use bstar_core::Stage;
    use bstar_core::event::TrainStep;

    #[test]
    fn what_is_foretold_is_what_a_run_has() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("run");
        let resolved = serde_json::json!({});
        let identity = RunIdentity {
            config_toml: String::new(),
            resolved,
            defaults: serde_json::json!({}),
            bstar_version: env!("CARGO_PKG_VERSION").into(),
        };
        let mut store = RunStore::create(&dir, &identity).unwrap();
        let rollouts: Vec<Rollout> = (0..50).map(rollout).collect();
        store.publish_rollouts(1, Stage::Train, &rollouts).unwrap();
        let step =
            TrainStep { step: 3, loss: 0.5, learning_rate: 1e-3, gradient_norm: 1.25, tokens: 900 };
        let step = Event::Step { iteration: 1, step };
        store.append(&step).unwrap();
        let checkpoint = store.begin_checkpoint(1).unwrap();
        std::fs::create_dir(checkpoint.join("deep")).unwrap();
        std::fs::write(checkpoint.join("deep/weights"), [0; 1000]).unwrap();
        store.finish_checkpoint(1).unwrap();

        let view = RunView::open(&dir).unwrap();
        let found = view.footprint(&|_, _| true).unwrap();
        assert_eq!(found.rollouts, rollout_file_bytes(&rollouts).unwrap() as f64);
        assert_eq!((found.checkpoints, found.reward_models), (1000.0, 0.0));
        let published = |piece| Event::Published { iteration: 1, piece };
        let events = [published(Piece::Draw), step, published(Piece::Train)];
        let foretold: usize = events.iter().map(|event| event_bytes(event).unwrap()).sum();
        // Numbers of events and seconds have fewer or more digits.
        assert!((found.events - foretold as f64).abs() <= 24.0, "{} {foretold}", found.events);
        assert_eq!(found.total(), found.rollouts + found.events + 1000.0);
        let none = view.footprint(&|_, iteration| iteration == 0).unwrap();
        assert_eq!((none.checkpoints, none.rollouts, none.events), (0.0, 0.0, found.events));
    }
}
