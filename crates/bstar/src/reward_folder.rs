//! The folder that `reward_model.folder` names: whether a reward model lies in it, and what is meant
//! where none does.

use crate::config::layers::Loaded;
use crate::models::check_folder;
use bstar_core::reward::RewardKind;
use bstar_core::{Fault, FaultClass};
use bstar_model::reward_model::EmbeddedRewardModel;
use std::path::{Path, PathBuf};

const KEY: &str = "reward_model.folder";
/// Folders inside that are worth naming.
const MOST_INSIDE: usize = 4;

/// The folder of the reward model that a config uses as it is; none where it names none. A folder that
/// holds none is refused by its config alone: nothing large is read.
pub(crate) fn of_config(loaded: &Loaded) -> Result<Option<PathBuf>, Fault> {
    let config = &loaded.config;
    if config.reward.kind == RewardKind::Answer || config.reward_model.folder.is_empty() {
        return Ok(None);
    }
    let folder = loaded.base_dir.join(&config.reward_model.folder);
    let holds_model = folder.join("config.json").is_file();
    let inside = if holds_model { Vec::new() } else { models_inside(&folder) };
    if let Some(names) = (!inside.is_empty()).then(|| inside.join(", ")) {
        let message = format!("`{KEY}`: {} holds no model, but folders of some", folder.display());
        let hint = format!("name one of them: {names}");
        return Err(Fault::new(FaultClass::Data, message).hint(hint));
    }
    check_folder(KEY, &folder, holds_model)?;
    EmbeddedRewardModel::check_folder(&folder).map_err(|mut fault| {
        fault.message = format!("`{KEY}`: {}", fault.message);
        fault
    })?;
    Ok(Some(folder))
}

/// The reward models of a run, or of its `reward_models`.
fn models_inside(folder: &Path) -> Vec<String> {
    let entries = [folder.to_owned(), folder.join("reward_models")];
    let entries = entries.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| EmbeddedRewardModel::check_folder(path).is_ok()).collect();
    found.sort();
    found.iter().take(MOST_INSIDE).map(|path| path.display().to_string()).collect()
}
