//! Where things lie in a run folder: names only, no access to any of them.
//!
//! Iterations are written with four digits so that names sort as numbers do; more digits follow
//! when a run needs them.

use bstar_core::Stage;
use std::path::{Path, PathBuf};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const CONFIG: &str = "config.toml";
pub(crate) const RESOLVED: &str = "config.resolved.json";
pub(crate) const EVENTS: &str = "events.jsonl";
pub(crate) const LOCK: &str = "lock";
pub(crate) const ROLLOUTS: &str = "rollouts";
pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const REWARD_MODELS: &str = "reward_models";

/// Stands in a folder while a run is created or removed in it: what lies beside is left of a run.
pub(crate) const MARKER: &str = ".bstar-unfinished";

/// Every name that a run folder may hold at its top.
pub(crate) const NAMES: [&str; 9] =
    [MANIFEST, CONFIG, RESOLVED, EVENTS, LOCK, ROLLOUTS, CHECKPOINTS, REWARD_MODELS, MARKER];

/// `rollouts/iter-0003/train.parquet`.
pub(crate) fn rollouts(dir: &Path, iteration: u32, stage: Stage) -> PathBuf {
    rollouts_folder(dir, iteration).join(format!("{}.parquet", stage.name()))
}

/// `rollouts/iter-0003`.
pub(crate) fn rollouts_folder(dir: &Path, iteration: u32) -> PathBuf {
    dir.join(ROLLOUTS).join(iteration_name(iteration))
}

/// `checkpoints/iter-0003`.
pub(crate) fn checkpoint(dir: &Path, iteration: u32) -> PathBuf {
    dir.join(CHECKPOINTS).join(iteration_name(iteration))
}

/// `reward_models/iter-0003`.
pub(crate) fn reward_model(dir: &Path, iteration: u32) -> PathBuf {
    dir.join(REWARD_MODELS).join(iteration_name(iteration))
}

/// The iteration whose checkpoint a folder is, by its name.
pub(crate) fn iteration_of(checkpoint: &Path) -> Option<u32> {
    checkpoint.file_name()?.to_str()?.strip_prefix("iter-")?.parse().ok()
}

fn iteration_name(iteration: u32) -> String {
    format!("iter-{iteration:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_iteration() {
        let dir = Path::new("runs/a");
        assert_eq!(
            rollouts(dir, 3, Stage::Train),
            Path::new("runs/a/rollouts/iter-0003/train.parquet")
        );
        assert_eq!(iteration_of(&checkpoint(dir, 12_345)), Some(12_345));
        assert_eq!(iteration_of(Path::new("runs/a/checkpoints/.iter-0003.tmp")), None);
    }
}
