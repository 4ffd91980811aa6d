//! `bstar eval`: a model folder on a task, without any run.

use crate::cli::EvalArgs;
use crate::commands::run::{load_task, use_threads};
use crate::commands::{metrics, preflight};
use crate::config::layers;
use crate::output::Notes;
use crate::progress::View;
use bstar_core::evaluate::evaluate;
use bstar_core::ports::Task as _;
use bstar_core::{Fault, FaultClass, Stage};
use bstar_model::policy::EmbeddedPolicy;
use bstar_store::{RunView, rollout_file};
use std::path::{Path, PathBuf};

/// Evaluates and prints the metrics.
pub(crate) fn eval(args: &EvalArgs, notes: Notes) -> Result<(), Fault> {
    let file = Path::new(&args.task);
    let is_file = file.extension().is_some_and(|extension| extension == "toml");
    let mut settings = args.settings.clone();
    if !is_file {
        settings.push(format!("task.kind=\"{}\"", args.task));
    }
    let loaded = layers::load(is_file.then_some(file), &settings)?;
    let config = &loaded.config;
    config.check()?;
    use_threads(config.run.threads)?;
    let task = load_task(&loaded)?;
    preflight::check_test_queries(&task)?;
    preflight::tell_notices(config, &task, notes);
    let model = model_folder(&args.model)?;
    let mut policy = EmbeddedPolicy::from_folder(&model, config.optimizer)?;
    preflight::check_lengths(&policy, &task)?;
    let mut view = View::new(notes, 0);
    let evaluation = evaluate(
        &config.evaluation_settings(),
        task.test(),
        0,
        &mut policy,
        &task,
        None,
        &mut |activity, progress| {
            view.tick(activity.of(0, Stage::Eval), progress);
            Ok(())
        },
    )?;
    view.finish();
    if let Some(path) = &args.rollouts {
        rollout_file::write_rollouts(path, &evaluation.rollouts)?;
        notes.tell(&format!("wrote {} rollouts to {}", evaluation.rollouts.len(), path.display()));
    }
    metrics::print(&evaluation.metrics, args.json)
}

/// A model folder as it is, or the last checkpoint of a run.
fn model_folder(path: &Path) -> Result<PathBuf, Fault> {
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
