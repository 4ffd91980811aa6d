//! What was begun before: whether it still is what is asked for.
//!
//! Keys, data, model and budget of every run that is there are held beside those of now, of finished
//! runs too: a table must not show runs of two kinds under one name. Nothing is changed before that.

use super::plan::{Plan, PlannedRun, Start};
use crate::commands::run::{
    CONTENTS, DATA_FINGERPRINT, Identity, MODEL_COMMIT, REWARD_MODEL_COMMIT, base_policy,
    key_of_commit, load_task,
};
use crate::config::comparison::Comparison;
use crate::config::layers::Loaded;
use crate::models;
use crate::output::Notes;
use bstar_core::budget::Spent;
use bstar_core::event::Event;
use bstar_core::ports::{Policy as _, RewardModel as _};
use bstar_core::reward::RewardKind;
use bstar_core::{Fault, FaultClass};
use bstar_model::reward_model::EmbeddedRewardModel;
use bstar_store::RunView;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Plan {
    /// Refuses runs and starts that were begun with other keys, data, model or budget.
    pub(crate) fn check_begun(&self, comparison: &Comparison) -> Result<(), Fault> {
        let mut models = BTreeMap::new();
        let mut changed_data = Vec::new();
        for start in &self.starts {
            let Ok(view) = RunView::open(&start.dir) else { continue };
            let name = format!("P_0 of seed {}", start.seed);
            refuse(&name, &changed_model(&start.loaded, &view, &mut models)?)?;
            changed_data.push((name, changed_contents(&start.loaded, &view, &start.data)?));
        }
        for run in &self.runs {
            let Ok(view) = RunView::open(&run.dir) else { continue };
            let mut changes = self.changed_keys(comparison, run, &view)?;
            changes.extend(changed_contents(&run.loaded, &view, &run.data)?);
            changes.extend(changed_model(&run.loaded, &view, &mut models)?);
            let name = &comparison.entries[run.entry].name;
            refuse(&format!("`{name}` with seed {}", run.seed), &changes)?;
        }
        // Data that changed show in the runs, where there are any.
        changed_data.iter().try_for_each(|(name, changes)| refuse(name, changes))
    }

    /// The keys in which a run was another one; what its budget leaves it is one of them.
    fn changed_keys(
        &self,
        comparison: &Comparison,
        run: &PlannedRun,
        view: &RunView,
    ) -> Result<Vec<String>, Fault> {
        let labels = |start: usize| self.starts[start].labels();
        let counted = Self::after_labels(comparison, run, &labels)?;
        let is_open = run.labels_from.is_some() && counted.is_none();
        let unimportant = CONTENTS.into_iter().chain(is_open.then_some(QUERIES));
        let loaded = counted.as_ref().unwrap_or(&run.loaded);
        let unimportant: Vec<&str> = unimportant.collect();
        let changes = Identity::of(&loaded.config).changes(&view.resolved_config()?, &unimportant);
        let budget = comparison.entries[run.entry].budget.name();
        let reference = &comparison.entries[comparison.reference].name;
        let line = |change: &bstar_store::ConfigChange| {
            let is_left = change.key == QUERIES && run.entry != comparison.reference;
            let why = if is_left {
                format!(" (the budget `{budget}` beside `{reference}`)")
            } else {
                String::new()
            };
            format!("{change}{why}")
        };
        Ok(changes.iter().map(line).collect())
    }
}

/// The key that a budget decides.
const QUERIES: &str = "sample.queries";

impl Start {
    /// Whether it is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.labels().is_ok_and(|labels| labels.is_some())
    }

    /// Responses that its labels cost, once it is complete.
    pub(crate) fn labels(&self) -> Result<Option<u64>, Fault> {
        let Ok(view) = RunView::open(&self.dir) else { return Ok(None) };
        let events: Vec<Event> = view.events()?.into_iter().map(|logged| logged.event).collect();
        let is_end =
            |event: &Event| matches!(event, Event::IterationCommitted { iteration: 0, .. });
        Ok(events.iter().any(is_end).then(|| Spent::from_events(&events).labels.responses))
    }
}

fn refuse(name: &str, changes: &[String]) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    let lines = changes.join("\n  ");
    Err(Fault::new(FaultClass::Run, format!("{name} was begun otherwise:\n  {lines}")).hint(
        "put back what changed, give the entry another name, choose another `--dir`, or start over \
         with `--fresh`; entries and seeds may be added at any time",
    ))
}

/// Data and models by name that are others than when a run began.
fn changed_contents(loaded: &Loaded, view: &RunView, data: &str) -> Result<Vec<String>, Fault> {
    let stored = view.resolved_config()?;
    let is_other = |key: &str, now: &str| stored[key].as_str().is_some_and(|it| it != now);
    let mut changes = Vec::new();
    if is_other(DATA_FINGERPRINT, data) {
        changes.push("the data hold something else now".to_owned());
    }
    let at_hand = [
        (MODEL_COMMIT, models::at_hand(loaded)),
        (REWARD_MODEL_COMMIT, models::reward_model_at_hand(loaded)),
    ];
    for (key, model) in at_hand {
        let commit = model.and_then(|model| model.commit);
        if let Some(commit) = commit.filter(|commit| is_other(key, commit)) {
            let (name, then) = (key_of_commit(key), stored[key].as_str());
            let [name, then] = [name, then].map(Option::unwrap_or_default);
            changes.push(format!("`{name}` is another commit: {then} → {commit}"));
        }
    }
    Ok(changes)
}

/// Fingerprints of a base policy and of the reward model that it is given, if any.
type Fingerprints = (Arc<str>, Option<Arc<str>>);

/// The same by what they are read from; none where that is not at hand.
type Models = BTreeMap<String, Option<Fingerprints>>;

/// The folders that hold another model than when a run began. A run remembers the fingerprint of its
/// base weights, and of a reward model that it was given, in its first event.
fn changed_model(
    loaded: &Loaded,
    view: &RunView,
    models: &mut Models,
) -> Result<Vec<String>, Fault> {
    let config = &loaded.config;
    let scores = config.reward.kind == RewardKind::AnswerAndRewardModel;
    let folders = [
        ("model.folder", config.model.folder.as_str()),
        ("reward_model.folder", if scores { config.reward_model.folder.as_str() } else { "" }),
    ];
    let is_there = |folder: &str| folder.is_empty() || loaded.base_dir.join(folder).is_dir();
    let named = folders.iter().any(|(_, folder)| !folder.is_empty());
    if !named || !folders.iter().all(|(_, folder)| is_there(folder)) {
        return Ok(Vec::new());
    }
    let Some(began) = view.events()?.into_iter().next() else { return Ok(Vec::new()) };
    let Event::RunStarted { policy_version, reward_model, .. } = began.event else {
        return Ok(Vec::new());
    };
    let makes_weights = config.lora.rank > 0 || config.model.is_from_scratch();
    let seed = makes_weights.then_some(config.seed);
    let task = config.model.is_from_scratch().then_some(&config.task);
    let key = serde_json::json!([
        config.model,
        config.lora,
        seed,
        task,
        folders,
        config.reward_model.name
    ])
    .to_string();
    if !models.contains_key(&key) {
        models.insert(key.clone(), fingerprints(loaded)?);
    }
    let Some((policy, model)) = &models[&key] else { return Ok(Vec::new()) };
    let is_other =
        [*policy != policy_version, reward_model.zip(model.as_ref()).is_some_and(|(a, b)| a != *b)];
    let changed =
        folders.iter().zip(is_other).filter(|((_, folder), other)| *other && !folder.is_empty());
    Ok(changed.map(|((key, _), _)| format!("`{key}` holds another model now")).collect())
}

fn fingerprints(loaded: &Loaded) -> Result<Option<Fingerprints>, Fault> {
    let model = models::at_hand(loaded);
    if model.is_none() && !loaded.config.model.is_from_scratch() {
        return Ok(None);
    }
    let task = load_task(loaded)?;
    let policy = base_policy(loaded, model.as_ref(), &task, Notes { quiet: true })?;
    let judge = models::reward_model_at_hand(loaded);
    let judge = judge.map(|judge| EmbeddedRewardModel::load(&judge.folder, &policy)).transpose()?;
    Ok(Some((policy.version(), judge.map(|model| model.version()))))
}
