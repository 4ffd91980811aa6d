//! What earlier runs tell: after how many steps a P_0 of the same kind reached its accuracy goal.

use crate::commands::compare::leaves_p_0_alone;
use crate::commands::run::{CONTENTS, Identity};
use crate::config::Config;
use crate::named;
use bstar_core::plan::Span;
use bstar_report::RunReport;
use bstar_store::{RunView, run_dirs};
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

/// The runs in the folders where runs lie, read once they are needed.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    runs: OnceCell<Vec<Run>>,
}

#[derive(Debug)]
struct Run {
    keys: Value,
    seed: u64,
    steps: u64,
}

/// The steps of P_0 of earlier runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// Exact where a run of the same seed is among them; else only what is expected is known.
    pub(crate) steps: Span,
    /// Seeds that these are of; 0 for one run of the same seed.
    pub(crate) seeds: usize,
}

impl Earlier {
    /// The steps of P_0 of runs whose P_0 differs in its seed at most.
    pub(crate) fn supervised_steps(&self, config: &Config) -> Option<Recorded> {
        let identity = Identity::of(config);
        let unimportant = [CONTENTS.as_slice(), &["seed"]].concat();
        let is_alike = |run: &&Run| {
            let changes = identity.changes(&run.keys, &unimportant);
            changes.iter().all(|change| leaves_p_0_alone(&change.key))
        };
        let alike = self.runs.get_or_init(read).iter().filter(is_alike);
        // Runs of a comparison share their P_0.
        let by_seed: BTreeMap<u64, u64> = alike.map(|run| (run.seed, run.steps)).collect();
        if let Some(&steps) = by_seed.get(&config.seed) {
            return Some(Recorded { steps: Span::same(steps as f64), seeds: 0 });
        }
        let all: u64 = by_seed.values().sum();
        let expected = all as f64 / by_seed.len() as f64;
        (!by_seed.is_empty()).then_some(Recorded {
            steps: Span { least: 0.0, expected, most: f64::INFINITY },
            seeds: by_seed.len(),
        })
    }
}

/// Every run that has a P_0; what cannot be read tells nothing.
fn read() -> Vec<Run> {
    let places = named::PLACES.iter().map(|place| run_dirs(Path::new(place)));
    let dirs = places.filter_map(Result::ok).flatten();
    dirs.filter_map(|dir| {
        let view = RunView::open(&dir).ok()?;
        let keys = view.resolved_config().ok()?;
        let events = view.events().ok()?;
        let report = RunReport::from_events(events.iter().map(|logged| &logged.event));
        let start = report.iterations.first().filter(|row| row.committed && row.iteration == 0)?;
        Some(Run { keys, seed: report.seed, steps: start.steps })
    })
    .collect()
}
