//! What must hold between config, data and model before a run folder is made or a model is asked:
//! found here, it costs seconds; found in the tenth iteration, a night.

use crate::config::Config;
use crate::output::Notes;
use bstar_core::ports::Task as _;
use bstar_core::{Fault, FaultClass, Query};
use bstar_model::policy::EmbeddedPolicy;
use bstar_tasks::LoadedTask;

/// Refuses a task that lacks a split that the run needs.
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
    if config.model.folder.is_empty() && task.supervised().is_empty() {
        return missing(
            "solutions, and a model from scratch knows nothing to teach itself with",
            "name the column of the solutions in `task.files.columns`, or start from a model that \
             exists: `model.folder`",
        );
    }
    Ok(())
}

/// Refuses queries and solutions that do not fit into the policy's context.
pub(crate) fn check_lengths(policy: &EmbeddedPolicy, task: &LoadedTask) -> Result<(), Fault> {
    for queries in [task.train(), task.validation(), task.test()] {
        for query in queries {
            policy.check_prompt(&query.prompt).map_err(|fault| of_query(fault, query))?;
        }
    }
    for example in task.supervised() {
        policy.check_example(example)?;
    }
    Ok(())
}

fn of_query(mut fault: Fault, query: &Query) -> Fault {
    fault.message = format!("query {}: {}", query.id, fault.message);
    fault
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

/// Tells what was noticed about the data, and what will be left out for lack of it.
pub(crate) fn tell_notices(config: &Config, task: &LoadedTask, notes: Notes) {
    for notice in task.notices() {
        notes.tell(&format!("note: {notice}"));
    }
    if config.supervised.steps > 0 && task.supervised().is_empty() {
        notes.tell("note: no query has a solution, so P_0 is the model as it is");
    }
}
