//! The optimizer's state in a model folder: `optimizer.safetensors` and `trainer_state.json`.
//!
//! Moments are stored under the names of their tensors (`first_moment.<name>`,
//! `second_moment.<name>`), the step count and the format version in the JSON file, which is
//! written last; with an adapter it also names the version of the base, which is not in the folder.
//! Loading gives the same bits; settings come from the run, not from the file.

use crate::files::{self, FileError};
use crate::folder::FolderError;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::tensor_file::{read_tensors, write_tensors};
use bstar_core::{Fault, FaultClass};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Trainer state that cannot be read or written.
#[derive(Debug, Error)]
pub enum TrainerStateError {
    /// The operating system refused a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file of moments.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The JSON file is damaged.
    #[error("broken file {}: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of a version that this program does not know.
    #[error("{} is of format {found}, newer than {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The state is that of an adapter on another base, or of whole weights where an adapter is
    /// trained, or the reverse.
    #[error("{} was written by training on another base model", path.display())]
    OtherBase {
        /// The file.
        path: PathBuf,
    },
}

impl From<TrainerStateError> for Fault {
    fn from(error: TrainerStateError) -> Self {
        let message = error.to_string();
        match error {
            TrainerStateError::File(error) => error.into(),
            TrainerStateError::Folder(error) => error.into(),
            TrainerStateError::Broken { .. } => {
                Self::new(FaultClass::Data, message).hint("continue from an earlier checkpoint")
            }
            TrainerStateError::Newer { .. } => Self::new(FaultClass::Run, message)
                .hint("continue with the version of bstar that wrote it"),
            TrainerStateError::OtherBase { .. } => Self::new(FaultClass::Run, message)
                .hint("put the model in `model.folder` back as it was, or start over"),
        }
    }
}

/// What an optimizer works on.
pub struct Trained<'a> {
    /// Name and shape of every tensor, in the order of the optimizer's buffers.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// The version of the weights under an adapter, where that is what is trained.
    pub base: Option<&'a str>,
}

/// Writes the optimizer's state into a folder that exists.
pub fn save(optimizer: &AdamW, trained: &Trained<'_>, dir: &Path) -> Result<(), TrainerStateError> {
    let (first, second) = optimizer.moments();
    let mut tensors = Vec::new();
    for (kind, moments) in [(FIRST, first), (SECOND, second)] {
        let mut rest = moments;
        for (name, shape) in &trained.tensors {
            let (data, after) = rest.split_at(shape.iter().product());
            rest = after;
            tensors.push((format!("{kind}.{name}"), shape.clone(), data));
        }
    }
    write_tensors(&dir.join(MOMENTS_FILE), tensors.into_iter())?;
    let (optimizer_steps, base) = (optimizer.step_count(), trained.base.map(str::to_owned));
    let state = StateFile { format: FORMAT, optimizer_steps, base };
    let mut text = serde_json::to_vec_pretty(&state).expect("numbers and text can be written");
    text.push(b'\n');
    Ok(files::write_synced(&dir.join(STATE_FILE), &text)?)
}

/// Reads the optimizer's state from a folder; nothing if the folder holds none.
pub fn load(
    settings: OptimizerSettings,
    trained: &Trained<'_>,
    dir: &Path,
) -> Result<Option<AdamW>, TrainerStateError> {
    let path = dir.join(STATE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let state: StateFile = serde_json::from_slice(&files::read(&path)?).map_err(|error| {
        TrainerStateError::Broken { path: path.clone(), reason: error.to_string() }
    })?;
    if state.format > FORMAT {
        return Err(TrainerStateError::Newer { path, found: state.format });
    }
    if state.base.as_deref() != trained.base {
        return Err(TrainerStateError::OtherBase { path });
    }
    let first = read_moments(FIRST, &trained.tensors, dir)?;
    let second = read_moments(SECOND, &trained.tensors, dir)?;
    Ok(Some(AdamW::resume(settings, state.optimizer_steps, first, second)))
}

/// The version of the base that the adapter in a folder was trained on, where our trainer state tells.
/// Other trainers write files of the same name that tell something else.
pub fn base_of(dir: &Path) -> Result<Option<String>, TrainerStateError> {
    let path = dir.join(STATE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let state: Value = serde_json::from_slice(&files::read(&path)?)
        .map_err(|error| TrainerStateError::Broken { path, reason: error.to_string() })?;
    Ok(StateFile::deserialize(state).ok().and_then(|state| state.base))
}

const MOMENTS_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "trainer_state.json";
const FORMAT: u32 = 1;
const FIRST: &str = "first_moment";
const SECOND: &str = "second_moment";

#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    optimizer_steps: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
}

fn read_moments(
    kind: &str,
    trained: &[(String, Vec<usize>)],
    dir: &Path,
) -> Result<Vec<f32>, FolderError> {
    let path = dir.join(MOMENTS_FILE);
    let named = trained.iter().map(|(name, shape)| (format!("{kind}.{name}"), shape));
    let shapes: BTreeMap<_, _> = named.collect();
    let mut tensors: BTreeMap<_, _> = read_tensors(&path, |name, found| match shapes.get(name) {
        None => Ok(false),
        Some(expected) if *expected == found => Ok(true),
        Some(expected) => Err(FolderError::Shape {
            tensor: name.into(),
            path: path.clone(),
            found: found.to_vec(),
            expected: (*expected).clone(),
        }),
    })?
    .into_iter()
    .collect();
    let mut moments = Vec::new();
    for (name, _) in trained {
        let tensor = format!("{kind}.{name}");
        match tensors.remove(&tensor) {
            Some(found) => moments.extend_from_slice(&found.data),
            None => return Err(FolderError::MissingTensor { tensor, path }),
        }
    }
    Ok(moments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::parameters::parameter_groups;
    use crate::size::ModelSize;
    use crate::weights::Weights;
    use bstar_core::RngKey;
    use std::fs;

    fn config() -> ModelConfig {
        ModelSize::from_width(16).unwrap().config(11, 32, 1)
    }

    fn whole(config: &ModelConfig) -> Trained<'static> {
        Trained { tensors: config.tensor_shapes(), base: None }
    }

    fn steps(optimizer: &mut AdamW, parameters: &mut [f32], numbers: std::ops::Range<u64>) {
        for number in numbers {
            let key = RngKey::from_seed(9).index(number);
            let gradient = Weights::random(&config(), key).to_flat();
            optimizer.step(parameters, &gradient, 1.0, &parameter_groups(&config()), 1e-2);
        }
    }

    #[test]
    fn ten_steps_are_five_steps_saved_and_five_more() {
        let start = Weights::random(&config(), RngKey::from_seed(1)).to_flat();
        let settings = OptimizerSettings::default();
        let (mut straight, mut parameters) = (AdamW::new(settings, start.len()), start.clone());
        steps(&mut straight, &mut parameters, 0..10);

        let (mut first_half, mut resumed_parameters) = (AdamW::new(settings, start.len()), start);
        steps(&mut first_half, &mut resumed_parameters, 0..5);
        let dir = tempfile::tempdir().unwrap();
        save(&first_half, &whole(&config()), dir.path()).unwrap();
        let mut resumed = load(settings, &whole(&config()), dir.path()).unwrap().unwrap();
        steps(&mut resumed, &mut resumed_parameters, 5..10);
        assert_eq!(resumed, straight);
        assert_eq!(resumed_parameters, parameters);
    }

    #[test]
    fn a_folder_without_state_has_none_and_a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = OptimizerSettings::default();
        assert_eq!(load(settings, &whole(&config()), dir.path()).unwrap(), None);
        let text = "{\"format\": 2, \"optimizer_steps\": 1}";
        fs::write(dir.path().join(STATE_FILE), text).unwrap();
        let fault = Fault::from(load(settings, &whole(&config()), dir.path()).unwrap_err());
        assert_eq!(fault.class, FaultClass::Run);
    }

    #[test]
    fn state_of_another_base_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = OptimizerSettings::default();
        let optimizer = AdamW::new(settings, config().parameter_count());
        let on = |base| Trained { base, ..whole(&config()) };
        save(&optimizer, &on(Some("one")), dir.path()).unwrap();
        for base in [None, Some("other")] {
            let fault = Fault::from(load(settings, &on(base), dir.path()).unwrap_err());
            assert_eq!(fault.class, FaultClass::Run);
        }
        assert_eq!(load(settings, &on(Some("one")), dir.path()).unwrap(), Some(optimizer));
    }

    #[test]
    fn state_of_another_shape_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let settings = OptimizerSettings::default();
        let other = ModelSize::from_width(32).unwrap().config(11, 32, 1);
        save(&AdamW::new(settings, other.parameter_count()), &whole(&other), dir.path()).unwrap();
        let fault = Fault::from(load(settings, &whole(&config()), dir.path()).unwrap_err());
        assert_eq!(fault.class, FaultClass::Data);
        assert!(fault.message.contains("first_moment."), "{fault}");
    }
}
