//! The runs of a comparison before any of them is made: what they start from and what they may draw.
//!
//! Runs whose settings agree in everything that iteration 0 depends on share a *start*: a run folder
//! that holds iteration 0 only. Starts that differ in the reward model or in how samples are ranked
//! still share the supervised stage. What a key belongs to is decided by what is left out: a key that
//! is not known to leave iteration 0 alone counts as part of it, so an unknown key costs time, never
//! a wrong start.

use crate::commands::run::{DATA_FINGERPRINT, MODEL_COMMIT, UNIMPORTANT_KEYS, load_task};
use crate::config::Config;
use crate::config::comparison::{BudgetRule, Comparison};
use crate::config::layers::Loaded;
use bstar_core::ports::Task as _;
use bstar_core::reward::RewardKind;
use bstar_core::rng::{RngKey, below};
use bstar_core::{Fault, FaultClass};
use bstar_store::{ComparisonLayout, RunView, config_diff};
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
    pub(crate) fn of(comparison: &Comparison, layout: &ComparisonLayout) -> Result<Self, Fault> {
        let tasks = Tasks::load(comparison)?;
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
            let start = plan.start_of(&loaded, seed, layout);
            let labels_from =
                if counts_labels { Some(plan.start_of(&reference, seed, layout)) } else { None };
            plan.runs.push(PlannedRun {
                entry: index,
                seed,
                loaded,
                dir: layout.run_dir(&entry.folder, seed),
                start,
                labels_from,
                training_queries: task.training_queries,
            });
        }
        Ok(plan)
    }

    /// Refuses runs that were begun with another config.
    pub(crate) fn check_begun(&self, comparison: &Comparison) -> Result<(), Fault> {
        for run in &self.runs {
            let Ok(view) = RunView::open(&run.dir) else { continue };
            let given = serde_json::to_value(&run.loaded.config).expect("configs are JSON");
            let counted = run.labels_from.map(|_| "sample.queries");
            let unimportant: Vec<&str> = [DATA_FINGERPRINT, MODEL_COMMIT]
                .into_iter()
                .chain(UNIMPORTANT_KEYS)
                .chain(counted)
                .collect();
            let changes = config_diff(&view.resolved_config()?, &given, &unimportant);
            if changes.is_empty() {
                continue;
            }
            let name = &comparison.entries[run.entry].name;
            let lines: Vec<String> = changes.iter().map(|change| format!("\n  {change}")).collect();
            let changes = lines.concat();
            let message = format!(
                "`{name}` with seed {} was begun with another configuration:{changes}",
                run.seed
            );
            return Err(Fault::new(FaultClass::Run, message).hint(
                "put the keys back, give the entry another name, choose another `--dir`, or start \
                 over with `--fresh`; entries and seeds may be added at any time",
            ));
        }
        Ok(())
    }

    /// The start of a run, made up if it is new.
    fn start_of(&mut self, loaded: &Loaded, seed: u64, layout: &ComparisonLayout) -> usize {
        let identity = start_identity(&loaded.config);
        if let Some(known) = self.starts.iter().position(|start| start.identity == identity) {
            return known;
        }
        let supervised = supervised_identity(&identity);
        let same = |start: &Start| supervised_identity(&start.identity) == supervised;
        let supervised_from = self.starts.iter().position(same);
        let mut unseeded = identity.clone();
        unseeded["seed"] = Value::Null;
        let mut rng = RngKey::from_seed(0).child(&unseeded.to_string()).rng();
        let name = below(&mut rng, usize::MAX);
        let dir = layout.start_dir(&format!("{name:016x}"), seed);
        self.starts.push(Start { loaded: loaded.clone(), identity, dir, supervised_from, seed });
        self.starts.len() - 1
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
    /// What a policy is tested on.
    test: String,
}

/// The tasks of a comparison, each read once.
struct Tasks(BTreeMap<String, TaskFacts>);

impl Tasks {
    fn load(comparison: &Comparison) -> Result<Self, Fault> {
        let mut tasks = BTreeMap::new();
        for (entry, seed) in comparison.runs() {
            let entry = &comparison.entries[entry];
            let loaded = comparison.run_config(entry, seed, None)?;
            let name = task_name(&loaded);
            if tasks.contains_key(&name) {
                continue;
            }
            let task = load_task(&loaded)?;
            let tested = task.test().iter().map(|query| (&query.prompt, &query.gold_answer));
            let test = format!("{:?}", tested.collect::<Vec<_>>());
            tasks.insert(name, TaskFacts { training_queries: task.train().len(), test });
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

fn task_name(loaded: &Loaded) -> String {
    let config = &loaded.config;
    serde_json::json!([config.task, config.seed]).to_string()
}

/// Keys that leave iteration 0 alone.
const LATER: [&str; 12] = [
    "preset",
    "iterations",
    "method",
    "balance",
    "selection",
    "train",
    "run",
    "plan",
    "sample.queries",
    "sample.query_order",
    "sample.k",
    "sample.target_samples",
];

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
    // Validation answers are penalised as those of evaluation are.
    let penalty = identity["evaluate"]["repetition_penalty"].take();
    for key in AFTER_SUPERVISED {
        remove(&mut identity, key);
    }
    identity["penalty"] = penalty;
    identity
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
