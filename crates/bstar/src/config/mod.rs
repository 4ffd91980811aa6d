//! The configuration: what a run is asked to do.
//!
//! Layers (defaults, preset, file, `--set`) are merged as TOML tables by [`layers`]; the result is
//! read once into [`Config`], which [`resolve`] checks and turns into the settings of the other
//! crates. `default.toml` beside this file is the defaults, the template and the reference in one.

pub(crate) mod layers;
pub(crate) mod resolve;

use bstar_core::balance::EmptyQueries;
use bstar_core::controller::{ThresholdSource, TieRule};
use bstar_core::grid::Grid;
use bstar_core::method::Method;
use bstar_core::preset::Preset;
use bstar_core::ranking::{Deduplication, GoldSolutions};
use bstar_core::reward::RewardRule;
use bstar_model::optimizer::OptimizerSettings;
use bstar_model::size::ModelSize;
use bstar_tasks::TaskConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The defaults as TOML text.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");

/// A whole configuration; every key has a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Named set of defaults.
    pub(crate) preset: Preset,
    /// The method.
    pub(crate) method: Method,
    /// Root of all randomness.
    pub(crate) seed: u64,
    /// Iterations.
    pub(crate) iterations: u32,
    /// Queries and answer check.
    pub(crate) task: TaskConfig,
    /// The policy.
    pub(crate) model: ModelConfig,
    /// AdamW.
    pub(crate) optimizer: OptimizerSettings,
    /// Supervised fine-tuning towards P_0.
    pub(crate) supervised: SupervisedConfig,
    /// The draw.
    pub(crate) sample: SampleConfig,
    /// The reward.
    pub(crate) reward: RewardRule,
    /// The balance score and the search.
    pub(crate) balance: BalanceConfig,
    /// The selection.
    pub(crate) selection: SelectionConfig,
    /// Training on the selection.
    pub(crate) train: TrainConfig,
    /// Held-out evaluation.
    pub(crate) evaluate: EvaluateConfig,
    /// The run itself.
    pub(crate) run: RunConfig,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    pub(crate) size: ModelSize,
    /// Empty: train from scratch.
    pub(crate) folder: String,
    pub(crate) context_length: usize,
    pub(crate) tokenizer: TokenizerKind,
    pub(crate) vocab_size: usize,
}

/// How the tokenizer of a model from scratch is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TokenizerKind {
    /// One token per character.
    Characters,
    /// Byte-level byte-pair encoding.
    Bpe,
}

/// `[supervised]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SupervisedConfig {
    pub(crate) steps: usize,
    pub(crate) batch_size: usize,
    pub(crate) learning_rate: f64,
    pub(crate) learning_rate_floor: f64,
    pub(crate) warmup_steps: f64,
    pub(crate) stop_at_accuracy: f64,
    pub(crate) validate_every: usize,
    pub(crate) validation_queries: usize,
}

/// `[sample]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleConfig {
    pub(crate) queries: usize,
    pub(crate) k: usize,
    pub(crate) target_samples: u64,
    pub(crate) top_p: f64,
    pub(crate) top_k: usize,
    pub(crate) max_tokens: usize,
}

/// `[balance]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalanceConfig {
    pub(crate) target_count: u32,
    pub(crate) temperatures: Grid,
    pub(crate) thresholds: Grid,
    pub(crate) threshold_from: ThresholdSource,
    pub(crate) ties: TieRule,
    pub(crate) empty_queries: EmptyQueries,
    pub(crate) probe_queries: usize,
    pub(crate) redraw_probe: bool,
    pub(crate) fixed_temperature: f64,
    pub(crate) fixed_threshold: f64,
}

/// `[selection]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelectionConfig {
    pub(crate) deduplication: Deduplication,
    pub(crate) gold_solutions: GoldSolutions,
    pub(crate) cap_to_pool: bool,
    pub(crate) drop_unanswered: bool,
    pub(crate) slack: bool,
}

/// `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainConfig {
    pub(crate) steps: usize,
    pub(crate) batch_size: usize,
    pub(crate) most_passes: usize,
    pub(crate) learning_rate: f64,
    pub(crate) learning_rate_floor: f64,
    pub(crate) warmup_steps: f64,
    pub(crate) reset_to: ResetPoint,
}

/// Where methods that reset go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ResetPoint {
    /// P_0.
    Initial,
    /// The base model.
    Base,
}

/// `[evaluate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluateConfig {
    pub(crate) queries: usize,
    pub(crate) sampled_queries: usize,
    pub(crate) samples: usize,
    pub(crate) temperature: f64,
    pub(crate) top_p: f64,
    pub(crate) top_k: usize,
    pub(crate) k: Vec<usize>,
    pub(crate) s: Vec<usize>,
}

/// `[run]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    pub(crate) most_empty_iterations: u32,
    pub(crate) checkpoints: Retention,
    pub(crate) threads: usize,
}

/// Which checkpoints of earlier iterations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Retention {
    /// All.
    KeepAll,
    /// P_0 and the last two (the last may be the one being made).
    KeepLast,
}
