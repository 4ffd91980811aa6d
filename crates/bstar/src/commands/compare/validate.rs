//! Greedy accuracy on validation queries at every checkpoint of a run, to choose one by.
//!
//! The loop measures checkpoints on test queries only, and choosing by those would flatter whoever
//! varies most. What is found lies beside the runs, and is found once.

use super::plan::PlannedRun;
use crate::commands::preflight;
use crate::commands::run::{load_task, loaded_policy};
use crate::config::comparison::Entry;
use crate::config::layers::Loaded;
use crate::ledger::interruption;
use crate::output::Notes;
use bstar_core::evaluate::{EvaluationSettings, evaluate};
use bstar_core::ports::Task as _;
use bstar_core::{Fault, FaultClass};
use bstar_store::{ComparisonLayout, ComparisonStore, RunView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// What validation found of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Validation {
    /// Validation queries asked for.
    queries: usize,
    /// Greedy accuracy by iteration.
    accuracy: BTreeMap<u32, f64>,
}

impl Validation {
    /// What was found before with so many queries.
    pub(super) fn read(
        layout: &ComparisonLayout,
        entry: &Entry,
        seed: u64,
        queries: usize,
    ) -> Option<Self> {
        let text = layout.read(&file(entry, seed)).ok().flatten()?;
        let found: Self = serde_json::from_str(&text).ok()?;
        (found.queries == queries).then_some(found)
    }

    /// The iteration with the best accuracy, the earliest of several; P_0 only if there is no other.
    pub(super) fn best(&self) -> u32 {
        let trained = self.accuracy.iter().filter(|(iteration, _)| **iteration > 0);
        let better = |best: Option<(u32, f64)>, (iteration, accuracy): (&u32, &f64)| match best {
            Some((_, most)) if most >= *accuracy => best,
            _ => Some((*iteration, *accuracy)),
        };
        trained.fold(None, better).map_or(0, |(iteration, _)| iteration)
    }
}

fn file(entry: &Entry, seed: u64) -> String {
    format!("validation/{}/seed-{seed:04}.json", entry.folder)
}

/// Validates every checkpoint of a complete run and remembers what was found.
pub(super) fn validate(
    store: &ComparisonStore,
    entry: &Entry,
    (run, loaded): (&PlannedRun, &Loaded),
    queries: usize,
    interrupted: &AtomicBool,
) -> Result<(), Fault> {
    if Validation::read(&store.layout(), entry, run.seed, queries).is_some() {
        return Ok(());
    }
    let config = &loaded.config;
    let task = load_task(loaded)?;
    if task.validation().is_empty() {
        let message = format!("task {} has no validation queries", task.name());
        return Err(Fault::new(FaultClass::Data, message)
            .hint("set `task.files.validation_size`, or leave out `validation_queries`"));
    }
    let view = RunView::open(&run.dir)?;
    let settings =
        EvaluationSettings { queries, sampled_queries: 0, ..config.evaluation_settings() };
    let mut accuracy = BTreeMap::new();
    for iteration in view.checkpoints()? {
        let Some(dir) = view.checkpoint_dir(iteration) else { continue };
        let mut policy = loaded_policy(&dir, config, &task, Notes { quiet: true })?;
        // As the run could read it.
        let readable = preflight::readable(config, &policy, task.clone(), Notes { quiet: true });
        let found = evaluate(
            &settings,
            readable.validation(),
            iteration,
            &mut policy,
            &readable,
            None,
            &mut |_, _| {
                if interrupted.load(Ordering::Relaxed) {
                    return Err(interruption("the validation of its checkpoints"));
                }
                Ok(())
            },
        )?;
        let name = format!("eval/{}/pass@1", task.name());
        let metric = found.metrics.into_iter().find(|metric| metric.name == name);
        accuracy.insert(iteration, metric.and_then(|metric| metric.value).unwrap_or(0.0));
    }
    let found = Validation { queries, accuracy };
    let text = serde_json::to_string(&found).expect("numbers are JSON");
    store.publish(&file(entry, run.seed), (text + "\n").as_bytes())?;
    Ok(())
}
