//! Which model is meant: a folder, the last checkpoint of a run, or a name on the hub. Every verb
//! that reads a model asks here, and gets a folder.

use crate::config::layers::Loaded;
use crate::downloads::Downloads;
use crate::named;
use crate::output::Notes;
use crate::reward_folder;
use bstar_core::reward::RewardKind;
use bstar_core::{Fault, FaultClass};
use bstar_hub::{Hub, ModelName, Snapshot};
use bstar_model::lora::folder::{base_name, is_adapter};
use bstar_store::{ComparisonLayout, FindError, Fit, Found, RunView};
use std::path::{Path, PathBuf};

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundModel {
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// The commit on the hub that it is, where it was named by a name.
    pub(crate) commit: Option<String>,
}

/// The model that a config starts from; none for a model from scratch.
pub(crate) fn of_config(loaded: &Loaded, notes: Notes) -> Result<Option<FoundModel>, Fault> {
    let model = &loaded.config.model;
    if !model.name.is_empty() {
        let Snapshot { folder, commit } = on_the_hub(&ModelName::parse(&model.name)?, notes)?;
        return Ok(Some(FoundModel { folder, commit: Some(commit) }));
    }
    if model.folder.is_empty() {
        return Ok(None);
    }
    let folder = checkpoint(&loaded.base_dir.join(&model.folder))?;
    check_folder(
        "model.folder",
        &folder,
        folder.join("config.json").is_file() || is_adapter(&folder),
    )?;
    Ok(Some(FoundModel { folder, commit: None }))
}

/// The reward model that a config uses as it is; none where it uses none, or trains its own.
pub(crate) fn reward_model(loaded: &Loaded, notes: Notes) -> Result<Option<FoundModel>, Fault> {
    let model = &loaded.config.reward_model;
    if loaded.config.reward.kind == RewardKind::Answer || !model.is_given() {
        return Ok(None);
    }
    if !model.name.is_empty() {
        let Snapshot { folder, commit } = on_the_hub(&ModelName::parse(&model.name)?, notes)?;
        return Ok(Some(FoundModel { folder, commit: Some(commit) }));
    }
    let folder = reward_folder::of_config(loaded)?;
    Ok(folder.map(|folder| FoundModel { folder, commit: None }))
}

/// Refuses a folder that a key names and that is missing, or that holds no model.
pub(crate) fn check_folder(key: &str, folder: &Path, holds_model: bool) -> Result<(), Fault> {
    if holds_model {
        return Ok(());
    }
    let name = folder.display();
    let (problem, hint) = if folder.is_dir() {
        ("holds no model", "a model folder has a config.json, as Hugging Face writes it")
    } else if folder.exists() {
        ("is a file", "name the folder of a model, with a config.json, as Hugging Face writes it")
    } else {
        ("is not there", "a path in a config file starts at the folder of that file")
    };
    let fault = Fault::new(FaultClass::Data, format!("`{key}`: {name} {problem}"));
    let here = std::env::current_dir().unwrap_or_default();
    let written = folder.strip_prefix(here).unwrap_or(folder).to_string_lossy();
    if !folder.exists() && ModelName::is_likely(&written) {
        let by_name = key.replace("folder", "name");
        return Err(fault.hint(format!("{hint}; a model of the hub is named in `{by_name}`")));
    }
    Err(fault.hint(hint))
}

/// The model that a config starts from, if it can be told without opening a connection.
pub(crate) fn at_hand(loaded: &Loaded) -> Option<FoundModel> {
    match loaded.config.model.name.as_str() {
        "" => of_config(loaded, Notes { quiet: true }).ok().flatten(),
        name => in_the_cache(name),
    }
}

/// The reward model that it is given, in the same way.
pub(crate) fn reward_model_at_hand(loaded: &Loaded) -> Option<FoundModel> {
    match loaded.config.reward_model.name.as_str() {
        name if !name.is_empty() && loaded.config.reward.kind != RewardKind::Answer => {
            in_the_cache(name)
        }
        _ => reward_model(loaded, Notes { quiet: true }).ok().flatten(),
    }
}

fn in_the_cache(name: &str) -> Option<FoundModel> {
    let hub = Hub { offline: true, ..hub() };
    let found = hub.find(&ModelName::parse(name).ok()?, &mut Downloads::new(Notes { quiet: true }));
    let Snapshot { folder, commit } = found.ok()?;
    Some(FoundModel { folder, commit: Some(commit) })
}

/// Fetches what a config needs from the hub and the cache lacks, and refuses folders that hold no model.
pub(crate) fn fetch(loaded: &Loaded, notes: Notes) -> Result<(), Fault> {
    if let Some(FoundModel { folder, .. }) = of_config(loaded, notes)? {
        hub_base(&folder, notes)?;
    }
    reward_model(loaded, notes).map(drop)
}

/// The folder of a model on the command line: what is there, or would lie in a folder that is there, and a
/// run of that name win over a name of the same letters on the hub. Of a run it is the last checkpoint.
pub(crate) fn of_argument(argument: &Path, notes: Notes) -> Result<PathBuf, Fault> {
    let text = argument.to_string_lossy();
    let is_written_as_path =
        argument.is_absolute() || argument.starts_with(".") || argument.starts_with("..");
    let lies_there = argument.exists() || argument.parent().is_some_and(Path::is_dir);
    if (lies_there || is_written_as_path) && !ComparisonLayout::new(argument).is_there() {
        return checkpoint(argument);
    }
    // The beginning of a run's name is more likely the name of a model.
    let is_likely = ModelName::is_likely(&text);
    match named::find(&text, None) {
        Ok(Found { fit: Fit::Beginning, .. })
        | Err(FindError::None { .. } | FindError::Several { fit: Fit::Beginning, .. })
            if is_likely => {}
        Ok(run) => {
            named::tell(&text, &run, notes);
            return checkpoint(&run.dir);
        }
        Err(error @ FindError::None { .. }) => {
            let fault = Fault::from(error);
            let message = format!("there is no model {text}: no folder, and {fault}");
            let hint = fault.hint.unwrap_or_default();
            return Err(Fault::new(FaultClass::Data, message).hint(hint));
        }
        Err(error) => return Err(error.into()),
    }
    match on_the_hub(&ModelName::parse(&text)?, notes) {
        Ok(snapshot) => Ok(snapshot.folder),
        Err(fault) => {
            let hint = fault.hint.clone().unwrap_or_default();
            Err(fault.hint(format!("{hint} (there is no folder {text} here either, and no run)")))
        }
    }
}

/// The base of an adapter that names it as the hub does; none for other folders.
pub(crate) fn hub_base(folder: &Path, notes: Notes) -> Result<Option<PathBuf>, Fault> {
    if !is_adapter(folder) {
        return Ok(None);
    }
    let base = base_name(folder)?;
    if Path::new(&base).exists() || !ModelName::is_likely(&base) {
        return Ok(None);
    }
    Ok(Some(on_the_hub(&ModelName::parse(&base)?, notes)?.folder))
}

/// A model folder as it is, or the last checkpoint of a run.
fn checkpoint(path: &Path) -> Result<PathBuf, Fault> {
    if !path.join("manifest.json").is_file() {
        return Ok(path.to_owned());
    }
    let view = RunView::open(path)?;
    let last = view.checkpoints()?.into_iter().max();
    last.and_then(|iteration| view.checkpoint_dir(iteration)).ok_or_else(|| {
        let message = format!("the run {} has no checkpoint yet", path.display());
        Fault::new(FaultClass::Data, message).hint("let `bstar run` go on, or name a model folder")
    })
}

fn on_the_hub(name: &ModelName, notes: Notes) -> Result<Snapshot, Fault> {
    Ok(hub().find(name, &mut Downloads::new(notes))?)
}

fn hub() -> Hub {
    Hub::from_environment(|name| std::env::var(name).ok(), std::env::home_dir())
}
