//! `bstar eval`: a model folder on a task, without any run.

use crate::cli::EvalArgs;
use crate::commands::run::{load_task, loaded_policy, open_device, use_threads};
use crate::commands::{metrics, preflight};
use crate::config::layers;
use crate::models;
use crate::output::Notes;
use crate::progress::{View, Watch as _};
use bstar_core::evaluate::evaluate;
use bstar_core::event::Event;
use bstar_core::ports::Task as _;
use bstar_core::{Fault, Stage};
use bstar_store::rollout_file;
use std::path::Path;

/// Evaluates and prints the metrics.
pub(crate) fn eval(args: &EvalArgs, notes: Notes) -> Result<(), Fault> {
    let file = Path::new(&args.task);
    let is_file = file.extension().is_some_and(|extension| extension == "toml");
    let mut settings = args.settings.clone();
    if !is_file {
        settings.push(format!("task.kind=\"{}\"", args.task));
    }
    let mut loaded = layers::load(is_file.then_some(file), &settings)?;
    let model = models::of_argument(&args.model, notes)?;
    loaded.config.model.folder = model.display().to_string();
    loaded.config.model.name.clear();
    let config = &loaded.config;
    config.check()?;
    if let Some(path) = &args.rollouts {
        preflight::check_output(path)?;
    }
    use_threads(config.run.threads)?;
    let task = load_task(&loaded)?;
    notes.tell(&format!("evaluating {}", model.display()));
    let mut policy = loaded_policy(&model, config, &task, notes)?;
    policy.limit_cache(config.run.cache_bytes());
    policy.use_device(open_device(config)?);
    let task = preflight::readable(config, &policy, task, notes);
    preflight::check_test_queries(&task)?;
    preflight::tell_notices(&task, notes);
    let queries = preflight::evaluated(config, &task);
    preflight::check_prompts(&policy, queries, notes)?;
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
    let measured =
        Event::Measured { iteration: 0, stage: Stage::Eval, metrics: evaluation.metrics.clone() };
    view.event(&measured);
    metrics::print(&evaluation.metrics, args.json)?;
    if let Some(path) = &args.rollouts {
        rollout_file::write_rollouts(path, &evaluation.rollouts)?;
        notes.tell(&format!("wrote {} rollouts to {}", evaluation.rollouts.len(), path.display()));
    }
    Ok(())
}
