//! What must hold between config, data and model before a run folder is made or a model is asked:
//! found here, it costs seconds; found in the tenth iteration, a night.

use crate::config::Config;
use crate::output::Notes;
use bstar_core::ports::Task as _;
use bstar_core::{Fault, FaultClass, Query};
use bstar_model::policy::EmbeddedPolicy;
use bstar_model::reward_model::EmbeddedRewardModel;
use bstar_store::rollout_file;
use bstar_tasks::{LoadedTask, LongQueries};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use std::path::Path;

/// Refuses a task that lacks a split that the run needs, or queries for its search.
pub(crate) fn check_splits(config: &Config, task: &LoadedTask) -> Result<(), Fault> {
    check_test_queries(task)?;
    let missing = |what: &str, hint: &str| {
        let name = task.name();
        Err(Fault::new(FaultClass::Data, format!("task {name} has no {what}")).hint(hint))
    };
    if task.train().is_empty() {
        return missing("training queries", "set `task.files.train`, or `task.arithmetic.train`");
    }
    let supervised = &config.supervised;
    if supervised.steps > 0 && supervised.stop_at_accuracy > 0.0 && task.validation().is_empty() {
        return missing(
            "validation queries, and `supervised.stop_at_accuracy` is measured on them",
            "set `task.files.validation` or `task.files.validation_size`, or \
             `supervised.stop_at_accuracy` to 0",
        );
    }
    if config.model.is_from_scratch() && task.supervised().is_empty() {
        return missing(
            "solutions, and a model from scratch knows nothing to teach itself with",
            "name the column of the solutions in `task.files.columns`, or start from a model that \
             exists: `model.folder` or `model.name`",
        );
    }
    let queries = task.train().len();
    Ok(config.improve_settings(queries).check_search(queries)?)
}

/// The task as the policy can read it: without long queries, where the config says so.
pub(crate) fn readable(
    config: &Config,
    policy: &EmbeddedPolicy,
    task: LoadedTask,
    notes: Notes,
) -> LoadedTask {
    if config.task.long_queries == LongQueries::Refuse {
        return task;
    }
    let (task, left_out) = task.fitting(
        |query| policy.check_prompt(&query.prompt).is_ok(),
        |example| policy.check_example(example).is_ok(),
    );
    if left_out > 0 {
        notes.tell(&format!(
            "note: left out {left_out} queries and solutions that do not fit into the context"
        ));
    }
    task
}

/// Refuses queries and solutions that do not fit into the policy's context, and tells of text that
/// its tokenizer does not know.
pub(crate) fn check_lengths(
    config: &Config,
    policy: &EmbeddedPolicy,
    task: &LoadedTask,
    notes: Notes,
) -> Result<(), Fault> {
    let validation = config.supervised.validation_queries.min(task.validation().len());
    let asked = [task.train(), &task.validation()[..validation], evaluated(config, task)].concat();
    check_prompts(policy, &asked, notes)?;
    if config.supervised.steps > 0 {
        let check = |example| policy.check_example(example);
        let first = task.supervised().par_iter().map(check).find_first(Result::is_err);
        first.unwrap_or(Ok(())).map_err(may_be_left_out)?;
    }
    Ok(())
}

/// Refuses a reward model whose context is too short for the responses that it is to score.
pub(crate) fn check_reward_model(
    config: &Config,
    model: &EmbeddedRewardModel,
    policy: &EmbeddedPolicy,
    task: &LoadedTask,
) -> Result<(), Fault> {
    let context = policy.weights().config.max_position_embeddings;
    for query in task.train().iter().chain(evaluated(config, task)) {
        let checked = model.check_prompt(&query.prompt, config.sample.max_tokens, context);
        checked.map_err(|mut fault| {
            fault.message = format!("query {}: {}", query.id, fault.message);
            fault
        })?;
    }
    Ok(())
}

/// Refuses queries that leave no room for a response, and tells of text that the policy's tokenizer
/// does not know.
pub(crate) fn check_prompts(
    policy: &EmbeddedPolicy,
    queries: &[Query],
    notes: Notes,
) -> Result<(), Fault> {
    let mut foreign = 0;
    for query in queries {
        policy.check_prompt(&query.prompt).map_err(|fault| of_query(fault, query))?;
        foreign += usize::from(!policy.knows(&query.prompt)?);
    }
    if foreign > 0 {
        let all = queries.len();
        notes.tell(&format!(
            "warning: {foreign} of {all} prompts hold text that the model's tokenizer does not know: \
             the policy cannot read it, nor write it in an answer"
        ));
    }
    Ok(())
}

/// The test queries that an evaluation asks.
pub(crate) fn evaluated<'a>(config: &Config, task: &'a LoadedTask) -> &'a [Query] {
    match config.evaluate.queries {
        0 => task.test(),
        wanted => &task.test()[..wanted.min(task.test().len())],
    }
}

/// Refuses a rollouts file that cannot be written, before there is anything to write.
pub(crate) fn check_output(path: &Path) -> Result<(), Fault> {
    rollout_file::check_name(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        let message = format!("cannot write {}: its folder does not exist", path.display());
        return Err(Fault::new(FaultClass::Usage, message).hint("make the folder first"));
    }
    Ok(())
}

fn of_query(mut fault: Fault, query: &Query) -> Fault {
    fault.message = format!("query {}: {}", query.id, fault.message);
    may_be_left_out(fault)
}

fn may_be_left_out(fault: Fault) -> Fault {
    fault.hint("set `task.long_queries` to \"leave-out\", or use a model with a longer context")
}

/// Refuses a task without queries to evaluate on.
pub(crate) fn check_test_queries(task: &LoadedTask) -> Result<(), Fault> {
    if !task.test().is_empty() {
        return Ok(());
    }
    let message = format!("task {} has no test queries to evaluate on", task.name());
    Err(Fault::new(FaultClass::Data, message)
        .hint("set `task.files.test`, or `task.arithmetic.test`"))
}

/// Tells what was noticed about the data.
pub(crate) fn tell_notices(task: &LoadedTask, notes: Notes) {
    for notice in task.notices() {
        notes.tell(&format!("note: {notice}"));
    }
}

/// Tells what a run will do otherwise than its config sounds.
pub(crate) fn tell_limits(config: &Config, task: &LoadedTask, notes: Notes) {
    if config.supervised.steps > 0 && task.supervised().is_empty() {
        notes.tell("note: no query has a solution, so P_0 is the model as it is");
    }
    let train = task.train().len();
    for (key, wanted) in [
        ("sample.queries", config.sample.queries),
        ("balance.probe_queries", config.balance.probe_queries),
    ] {
        if wanted > train {
            notes
                .tell(&format!("note: `{key}` is {wanted}; the task has {train} training queries"));
        }
    }
    let (schedule, _) = config.improve_settings(train).schedule(0);
    if config.method.spec().self_training && schedule.warmup_steps >= schedule.horizon_steps {
        notes.tell(&format!(
            "note: `train.warmup_steps` ({}) leaves nothing of a schedule of {} steps: the learning rate never gets \
             past its warm-up",
            schedule.warmup_steps, schedule.horizon_steps
        ));
    }
}
