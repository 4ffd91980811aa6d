//! What earlier runs tell: after how many steps a P_0 of the same kind reached its accuracy goal.

use crate::commands::compare::leaves_p_0_alone;
use crate::commands::run::{CONTENTS, DATA_FINGERPRINT, Identity, MODEL_COMMIT};
use crate::config::Config;
use crate::config::layers::Loaded;
use crate::models;
use crate::named;
use bstar_core::plan::Span;
use bstar_report::RunReport;
use bstar_store::{ComparisonLayout, RunView, run_dirs};
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The runs in the folders where runs lie, read once they are needed.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    runs: OnceCell<Vec<Run>>,
    /// A folder whose runs are not asked.
    left_out: Option<PathBuf>,
}

#[derive(Debug)]
struct Run {
    keys: Value,
    seed: u64,
    steps: u64,
}

/// What the keys of a config do not tell of its P_0: what its data and its model hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// Fingerprint of the data; none where they are not here.
    data: Option<String>,
    /// Commit of a model by name; none of others.
    model_commit: Option<String>,
}

impl Contents {
    /// Of a config whose data have this fingerprint.
    pub(crate) fn of(loaded: &Loaded, data: Option<String>) -> Self {
        let model = models::at_hand(loaded);
        Self { data, model_commit: model.and_then(|model| model.commit) }
    }

    /// Whether a run with these keys had the same, and was made on the same device.
    fn are_those_of(&self, keys: &Value, config: &Config) -> bool {
        let device = serde_json::to_value(config.run.device).expect("a device is JSON");
        self.data.is_some()
            && keys[DATA_FINGERPRINT].as_str() == self.data.as_deref()
            && keys[MODEL_COMMIT].as_str() == self.model_commit.as_deref()
            && keys["run"]["device"] == device
    }
}

/// The steps of P_0 of earlier runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Recorded {
    /// Of the very P_0.
    Same(u64),
    /// Of one of the same seed, whose data, model or device were others.
    SameSeed(u64),
    /// The mean over so many other seeds.
    OtherSeeds {
        /// The mean.
        mean: f64,
        /// The seeds.
        seeds: usize,
    },
}

impl Recorded {
    /// Exact of the very P_0; else only what is expected is known.
    pub(crate) fn steps(self) -> Span {
        let open = |expected: f64| Span { least: 0.0, expected, most: f64::INFINITY };
        match self {
            Self::Same(steps) => Span::same(steps as f64),
            Self::SameSeed(steps) => open(steps as f64),
            Self::OtherSeeds { mean, .. } => open(mean),
        }
    }

    /// Where they come from.
    pub(crate) fn how(self) -> String {
        match self {
            Self::Same(_) => "an earlier run of this seed".to_owned(),
            Self::SameSeed(_) => {
                "an earlier run of this seed, with other data, model or device".to_owned()
            }
            Self::OtherSeeds { seeds, .. } => {
                format!("mean of earlier runs of {seeds} other seed(s)")
            }
        }
    }
}

impl Earlier {
    /// All but a run, with the comparison that it belongs to, or a comparison: what is held against
    /// these must not come from them.
    pub(crate) fn without(dir: &Path) -> Self {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let is_comparison = |dir: &&Path| ComparisonLayout::new(dir).is_there();
        let left_out = dir.ancestors().find(is_comparison).unwrap_or(&dir).to_owned();
        Self { left_out: Some(left_out), ..Self::default() }
    }

    /// The steps of P_0 of runs whose P_0 differs at most in its seed, and in what the keys do not tell.
    pub(crate) fn supervised_steps(
        &self,
        config: &Config,
        contents: &Contents,
    ) -> Option<Recorded> {
        let identity = Identity::of(config);
        let unimportant = [CONTENTS.as_slice(), &["seed"]].concat();
        let is_alike = |run: &&Run| {
            let changes = identity.changes(&run.keys, &unimportant);
            changes.iter().all(|change| leaves_p_0_alone(&change.key))
        };
        let runs = self.runs.get_or_init(|| read(self.left_out.as_deref()));
        let alike: Vec<&Run> = runs.iter().filter(is_alike).collect();
        let is_same =
            |run: &&&Run| run.seed == config.seed && contents.are_those_of(&run.keys, config);
        if let Some(run) = alike.iter().find(is_same) {
            return Some(Recorded::Same(run.steps));
        }
        // Runs of a comparison share their P_0.
        let by_seed: BTreeMap<u64, u64> = alike.iter().map(|run| (run.seed, run.steps)).collect();
        if let Some(&steps) = by_seed.get(&config.seed) {
            return Some(Recorded::SameSeed(steps));
        }
        let (all, seeds) = (by_seed.values().sum::<u64>(), by_seed.len());
        (seeds > 0).then(|| Recorded::OtherSeeds { mean: all as f64 / seeds as f64, seeds })
    }
}

/// Every run that has a P_0 and does not lie in the folder `left_out`; what cannot be read tells nothing.
fn read(left_out: Option<&Path>) -> Vec<Run> {
    let is_left_out = |dir: &Path| {
        let whole = dir.canonicalize().ok();
        left_out.is_some_and(|out| whole.is_some_and(|whole| whole.starts_with(out)))
    };
    let places = named::PLACES.iter().map(|place| run_dirs(Path::new(place)));
    let dirs = places.filter_map(Result::ok).flatten();
    dirs.filter(|dir| !is_left_out(dir))
        .filter_map(|dir| {
            let view = RunView::open(&dir).ok()?;
            let keys = view.resolved_config().ok()?;
            let events = view.events().ok()?;
            let report = RunReport::from_events(events.iter().map(|logged| &logged.event));
            let start =
                report.iterations.first().filter(|row| row.committed && row.iteration == 0)?;
            Some(Run { keys, seed: report.seed, steps: start.steps })
        })
        .collect()
}
