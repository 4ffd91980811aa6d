//! The runs of a comparison before any of them is made: what they start from and what they may draw.
//!
//! Runs whose settings agree in everything that iteration 0 depends on share a *start*: a run folder
//! that holds iteration 0 only. Starts that differ in the reward model or in how samples are ranked
//! still share the supervised stage. What a key belongs to is decided by what is left out: a key that
//! is not known to leave iteration 0 alone counts as part of it, so an unknown key costs time, never
//! a wrong start.

use crate::commands::preflight;
use crate::commands::run::{CONTENTS, Identity, UNIMPORTANT_KEYS, base_policy, load_task};
use crate::config::Config;
use crate::config::comparison::{BudgetRule, Comparison};
use crate::config::layers::{self, Loaded};
use crate::models;
use crate::output::Notes;
use bstar_core::ports::Task as _;
use bstar_core::reward::RewardKind;
use bstar_core::rng::{RngKey, below};
use bstar_core::{Fault, FaultClass};
use bstar_store::{ComparisonLayout, RunView};
use bstar_tasks::{LoadedTask, LongQueries};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Iteration 0 of some runs.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// The config of one of these runs.
    pub(crate) loaded: Loaded,
    /// What of a config iteration 0 depends on.
    pub(crate) identity: Value,
    /// Its run folder.
    pub(crate) dir: PathBuf,
    /// The start whose supervised stage this one takes over.
    pub(crate) supervised_from: Option<usize>,
    /// The seed.
    pub(crate) seed: u64,
    /// Fingerprint of the data.
    pub(crate) data: String,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct PlannedRun {
    /// Index of its entry.
    pub(crate) entry: usize,
    /// Its seed.
    pub(crate) seed: u64,
    /// Its config; `sample.queries` may still change where labels have to be counted first.
    pub(crate) loaded: Loaded,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Index of its start.
    pub(crate) start: usize,
    /// Index of the start of the reference's run with this seed, if labels have to be counted.
    pub(crate) labels_from: Option<usize>,
    /// Training queries of its task.
    pub(crate) training_queries: usize,
    /// Fingerprint of the data.
    pub(crate) data: String,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// To carry it out: models are here.
    Run,
    /// To tell what it takes: models that are described in `[plan]` need not be here.
    Estimate,
}

/// Every start and every run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What runs start from.
    pub(crate) starts: Vec<Start>,
    /// The runs, seed by seed.
    pub(crate) runs: Vec<PlannedRun>,
    /// Whether all seeds are evaluated on the same queries.
    pub(crate) shared_queries: bool,
}

impl Plan {
    /// Plans a comparison whose runs lie, or will lie, in `layout`.
    pub(crate) fn of(
        comparison: &Comparison,
        layout: &ComparisonLayout,
        aim: Aim,
        notes: Notes,
    ) -> Result<Self, Fault> {
        let tasks = Tasks::load(comparison, aim, notes)?;
        let mut plan = Self { starts: Vec::new(), runs: Vec::new(), shared_queries: false };
        plan.shared_queries = tasks.are_shared(comparison)?;
        let reference = &comparison.entries[comparison.reference];
        for (index, seed) in comparison.runs() {
            let entry = &comparison.entries[index];
            let configured = comparison.run_config(entry, seed, None)?;
            let task = tasks.of(&configured);
            let counts_labels = comparison.counts_labels(index, seed)?;
            let reference = comparison.run_config(reference, seed, None)?;
            let budget = Budget {
                rule: if index == comparison.reference {
                    BudgetRule::AsConfigured
                } else {
                    entry.budget
                },
                reference: &reference.config,
                training_queries: task.training_queries,
            };
            let queries = budget
                .queries(&configured.config, 0, 0)
                .map_err(|fault| comparison.of_entry(entry, fault))?;
            let loaded = match queries {
                Some(_) => comparison.run_config(entry, seed, queries)?,
                None => configured,
            };
            let start = plan.start_of(&loaded, seed, &task.fingerprint, layout)?;
            let labels_from = if counts_labels {
                Some(plan.start_of(&reference, seed, &tasks.of(&reference).fingerprint, layout)?)
            } else {
                None
            };
            plan.runs.push(PlannedRun {
                entry: index,
                seed,
                loaded,
                dir: layout.run_dir(&entry.folder, seed),
                start,
                labels_from,
                training_queries: task.training_queries,
                data: task.fingerprint.clone(),
            });
        }
        Ok(plan)
    }

    /// Refuses runs that are still to be begun and whose search their draw does not pay for. One that was
    /// begun says so itself, so that the others can go on; unless it is to be begun `afresh`.
    pub(crate) fn check_searches(
        &self,
        comparison: &Comparison,
        afresh: bool,
    ) -> Result<(), Fault> {
        let is_to_begin = |run: &&PlannedRun| afresh || RunView::open(&run.dir).is_err();
        let mut runs = self.runs.iter().filter(is_to_begin);
        runs.try_for_each(|run| run.check_search(comparison, &run.loaded.config))
    }

    /// The config of a run whose budget depends on labels, once they are counted; `labels` are those of
    /// a start, if they are known. None leaves the planned config as it is.
    pub(crate) fn after_labels(
        comparison: &Comparison,
        run: &PlannedRun,
        labels: &dyn Fn(usize) -> Result<Option<u64>, Fault>,
    ) -> Result<Option<Loaded>, Fault> {
        let Some(labels_from) = run.labels_from else { return Ok(None) };
        let [entry, reference] = [run.entry, comparison.reference].map(|i| &comparison.entries[i]);
        let reference = comparison.run_config(reference, run.seed, None)?.config;
        let training_queries = run.training_queries;
        let budget = Budget { rule: entry.budget, reference: &reference, training_queries };
        let counted = labels(labels_from)?.zip(labels(run.start)?);
        let Some((of_reference, own)) = counted else { return Ok(None) };
        let queries = budget
            .queries(&run.loaded.config, of_reference, own)
            .map_err(|fault| comparison.of_entry(entry, fault))?;
        comparison.run_config(entry, run.seed, queries).map(Some)
    }

    /// The start of a run, made up if it is new.
    fn start_of(
        &mut self,
        loaded: &Loaded,
        seed: u64,
        data: &str,
        layout: &ComparisonLayout,
    ) -> Result<usize, Fault> {
        let identity = start_identity(&loaded.config);
        if let Some(known) = self.starts.iter().position(|start| start.identity == identity) {
            return Ok(known);
        }
        let supervised = supervised_identity(&identity);
        let same = |start: &Start| supervised_identity(&start.identity) == supervised;
        let supervised_from = self.starts.iter().position(same);
        let mut unseeded = identity.clone();
        unseeded["seed"] = Value::Null;
        let mut rng = RngKey::from_seed(0).child(&unseeded.to_string()).rng();
        let name = below(&mut rng, usize::MAX);
        let mut start = Start {
            loaded: loaded.clone(),
            identity,
            dir: layout.start_dir(&format!("{name:016x}"), seed),
            supervised_from,
            seed,
            data: data.to_owned(),
        };
        if !start.dir.exists() {
            start.dir = start.made_before(layout)?.unwrap_or(start.dir);
        }
        self.starts.push(start);
        Ok(self.starts.len() - 1)
    }
}

impl Start {
    /// What makes it the start that it is.
    pub(crate) fn identity(&self) -> Identity {
        let config = &self.loaded.config;
        let mut defaults = layers::defaults(config.preset);
        defaults.reward.kind = config.reward.kind;
        let defaults = start_identity(&defaults);
        let unimportant = UNIMPORTANT_KEYS.into_iter().chain(LATER).collect();
        Identity { keys: self.identity.clone(), defaults, unimportant }
    }

    /// The same start under another name: an older build, which knew fewer keys, gave it one.
    fn made_before(&self, layout: &ComparisonLayout) -> Result<Option<PathBuf>, Fault> {
        let identity = self.identity();
        let is_same = |dir: &PathBuf| {
            let stored = RunView::open(dir).and_then(|view| view.resolved_config());
            stored.is_ok_and(|stored| identity.changes(&stored, &CONTENTS).is_empty())
        };
        Ok(layout.starts(self.seed)?.into_iter().find(is_same))
    }
}

impl Comparison {
    /// Whether how many queries a run may draw depends on labels that have to be counted first.
    fn counts_labels(&self, entry: usize, seed: u64) -> Result<bool, Fault> {
        let counts = self.entries[entry].budget == BudgetRule::EqualGenerations;
        if !counts || entry == self.reference {
            return Ok(false);
        }
        for index in [entry, self.reference] {
            let config = self.run_config(&self.entries[index], seed, None)?.config;
            if config.improve_settings(0).planned_reward_models() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl PlannedRun {
    /// Refuses a search that what is drawn under this config, its own or that after labels were counted,
    /// does not pay for.
    pub(crate) fn check_search(
        &self,
        comparison: &Comparison,
        config: &Config,
    ) -> Result<(), Fault> {
        let (entry, queries) = (&comparison.entries[self.entry], self.training_queries);
        config.improve_settings(queries).check_search(queries).map_err(|error| {
            let fault = Fault::from(error);
            let is_reference = comparison.reference == self.entry;
            let fault = if is_reference || entry.budget == BudgetRule::AsConfigured {
                fault
            } else {
                fault.hint(
                    "the budget decides how many queries it draws: raise its \
                     `balance.search_budget`, try fewer temperatures, give the reference more \
                     (`sample.queries`), or the entry budget = \"as-configured\"",
                )
            };
            comparison.of_entry(entry, fault)
        })
    }
}

/// How much a run may generate.
pub(crate) struct Budget<'a> {
    /// The rule.
    pub(crate) rule: BudgetRule,
    /// The config that sets the measure.
    pub(crate) reference: &'a Config,
    /// Training queries of the task.
    pub(crate) training_queries: usize,
}

impl Budget<'_> {
    /// Training queries that each iteration of a run may draw; none leaves its config as it is. A
    /// reward model of the reference or of the run costs so many labels each time it is trained.
    pub(crate) fn queries(
        &self,
        config: &Config,
        labels_of_reference: u64,
        labels: u64,
    ) -> Result<Option<usize>, Fault> {
        let all = self.training_queries;
        let settings = config.improve_settings(all);
        if self.rule == BudgetRule::AsConfigured || settings.planned_iterations() == 0 {
            return Ok(None);
        }
        let reference = self.reference.improve_settings(all);
        let budget = reference.planned_responses(all)
            + labels_of_reference * reference.planned_reward_models();
        let labels = labels * settings.planned_reward_models();
        let left = budget.saturating_sub(labels);
        let refuse = |why: String, hint: &str| Err(Fault::new(FaultClass::Usage, why).hint(hint));
        match settings.queries_within(left, all) {
            None => refuse(
                format!(
                    "its search ({} responses an iteration) and labels ({labels} responses) leave \
                     nothing to train on of the budget of {budget} responses",
                    settings.search_responses(all)
                ),
                "give the reference more (`sample.queries`), the entry a cheaper search or fewer \
                 labels, or it alone a budget = \"equal-without-labels\" or \"as-configured\"",
            ),
            Some(queries) if queries > all => refuse(
                format!(
                    "the budget of {budget} responses is {queries} training queries an iteration, \
                     and the task has {all}"
                ),
                "raise the entry's `sample.k` or `iterations`, use a larger task, or give the entry \
                 budget = \"as-configured\"",
            ),
            queries => Ok(queries),
        }
    }
}

/// What the plan knows of a task.
struct TaskFacts {
    training_queries: usize,
    fingerprint: String,
    /// What a policy is tested on.
    test: String,
}

/// The tasks of a comparison, each read once.
struct Tasks(BTreeMap<String, TaskFacts>);

impl Tasks {
    fn load(comparison: &Comparison, aim: Aim, notes: Notes) -> Result<Self, Fault> {
        let mut tasks = BTreeMap::new();
        for (entry, seed) in comparison.runs() {
            let entry = &comparison.entries[entry];
            let loaded = comparison.run_config(entry, seed, None)?;
            let name = task_name(&loaded);
            if tasks.contains_key(&name) {
                continue;
            }
            let task = readable(&loaded, load_task(&loaded)?, aim, notes)?;
            let tested = task.test().iter().map(|query| (&query.prompt, &query.gold_answer));
            let test = format!("{:?}", tested.collect::<Vec<_>>());
            let (training_queries, fingerprint) = (task.train().len(), task.fingerprint());
            tasks.insert(name, TaskFacts { training_queries, fingerprint, test });
        }
        Ok(Self(tasks))
    }

    fn of(&self, loaded: &Loaded) -> &TaskFacts {
        &self.0[&task_name(loaded)]
    }

    /// Whether seeds share their test queries. Entries have to.
    fn are_shared(&self, comparison: &Comparison) -> Result<bool, Fault> {
        let mut first = None;
        let mut shared = true;
        for seed in &comparison.seeds {
            let test = |index: usize| -> Result<&str, Fault> {
                let loaded = comparison.run_config(&comparison.entries[index], *seed, None)?;
                Ok(&self.of(&loaded).test)
            };
            let reference = test(comparison.reference)?;
            for (index, entry) in comparison.entries.iter().enumerate() {
                if test(index)? != reference {
                    let message = format!(
                        "entry `{}` is tested on other queries than the others",
                        entry.name
                    );
                    return Err(Fault::new(FaultClass::Usage, message).hint(
                        "entries can be compared on the same test queries only: set `task` keys in \
                         [common], and compare tasks in files of their own",
                    ));
                }
            }
            shared &= *first.get_or_insert(reference) == reference;
        }
        Ok(shared)
    }
}

/// The task as the policy can read it, where queries that it cannot read are left out.
fn readable(
    loaded: &Loaded,
    task: LoadedTask,
    aim: Aim,
    notes: Notes,
) -> Result<LoadedTask, Fault> {
    let config = &loaded.config;
    let has_no_model = aim == Aim::Estimate && config.plan.is_elsewhere();
    if config.task.long_queries == LongQueries::Refuse || has_no_model {
        return Ok(task);
    }
    let model = models::of_config(loaded, notes)?;
    let policy = base_policy(loaded, model.as_ref(), &task, notes)?;
    Ok(preflight::readable(config, &policy, task, Notes { quiet: true }))
}

/// What queries depend on: the task, the seed, and the model where it decides which of them are read.
fn task_name(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let reader = (config.task.long_queries == LongQueries::LeaveOut).then_some(&config.model);
    serde_json::json!([config.task, config.seed, reader]).to_string()
}

/// Keys that leave iteration 0 alone.
const LATER: [&str; 13] = [
    "preset",
    "iterations",
    "method",
    "balance",
    "knobs",
    "selection",
    "train",
    "run",
    "plan",
    "sample.queries",
    "sample.query_order",
    "sample.k",
    "sample.target_samples",
];

/// Keys of these that P_0 depends on all the same: numbers of a device are its own, and validation answers
/// are penalised as those of evaluation are.
const OF_P_0: [&str; 2] = ["run.device", "evaluate.repetition_penalty"];

/// Keys that the supervised stage does not depend on either.
const AFTER_SUPERVISED: [&str; 8] = [
    "reward",
    "reward_model",
    "trains_reward_model",
    "evaluate",
    "sample.top_p",
    "sample.top_k",
    "sample.min_p",
    "sample.repetition_penalty",
];

/// Whether another value of a key, in full, leaves what P_0 is made of alone.
pub(crate) fn leaves_p_0_alone(key: &str) -> bool {
    let is_within = |table: &str| {
        key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    !OF_P_0.contains(&key) && LATER.into_iter().chain(AFTER_SUPERVISED).any(is_within)
}

/// The part of a config that iteration 0 depends on.
fn start_identity(config: &Config) -> Value {
    let mut identity = serde_json::to_value(config).expect("configs are JSON");
    let trains = config.improve_settings(0).reward_training.is_some();
    let device = identity["run"]["device"].take();
    for key in LATER {
        remove(&mut identity, key);
    }
    if config.reward.kind == RewardKind::Answer {
        remove(&mut identity, "reward_model");
    }
    identity["trains_reward_model"] = trains.into();
    identity["device"] = device;
    identity
}

/// The part of a start's identity that the supervised stage depends on.
fn supervised_identity(start: &Value) -> Value {
    let mut identity = start.clone();
    leave_out(&mut identity, "");
    identity
}

/// Leaves out the keys within `path` that leave P_0 alone, and tables that hold no others.
fn leave_out(value: &mut Value, path: &str) {
    let Some(table) = value.as_object_mut() else { return };
    table.retain(|key, value| {
        let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        leave_out(value, &key);
        match value.as_object() {
            Some(inner) => !inner.is_empty(),
            None => !leaves_p_0_alone(&key),
        }
    });
}

fn remove(value: &mut Value, key: &str) {
    let (table, key) = match key.split_once('.') {
        Some((table, key)) => (&mut value[table], key),
        None => (value, key),
    };
    if let Some(table) = table.as_object_mut() {
        table.shift_remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p_0_with(setting: &str) -> Value {
        let loaded = layers::load(None, &[setting.to_owned()]).expect("a config");
        supervised_identity(&start_identity(&loaded.config))
    }

    #[test]
    fn what_p_0_depends_on_is_told_in_the_same_way_of_keys_and_of_configs() {
        let as_it_is = p_0_with("seed=1");
        for (key, value) in [
            ("iterations", "9"),
            ("reward.kind", "answer-and-reward-model"),
            ("reward_model.steps", "7"),
            ("evaluate.samples", "3"),
            ("run.threads", "3"),
            ("sample.k", "3"),
            ("sample.top_p", "0.5"),
        ] {
            assert!(leaves_p_0_alone(key), "{key}");
            assert_eq!(p_0_with(&format!("{key}={value}")), as_it_is, "{key}");
        }
        for (key, value) in [
            ("run.device", "cuda"),
            ("evaluate.repetition_penalty", "1.5"),
            ("supervised.steps", "7"),
            ("seed", "2"),
            ("sample.max_tokens", "9"),
        ] {
            assert!(!leaves_p_0_alone(key), "{key}");
            assert_ne!(p_0_with(&format!("{key}={value}")), as_it_is, "{key}");
        }
    }
}
