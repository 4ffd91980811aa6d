//! The configuration: what a run is asked to do.
//!
//! Layers (defaults, preset, file, `--set`) are merged as TOML tables by [`layers`]; the result is
//! read once into [`Config`], which [`resolve`] checks and turns into the settings of the other
//! crates. `default.toml` beside this file is the defaults and the template in one. The doc comments
//! of the fields below are what [`schema`] and [`mod@reference`] say about the keys.

pub(crate) mod comparison;
mod comparison_file;
pub(crate) mod layers;
mod ranges;
pub(crate) mod reference;
pub(crate) mod resolve;
pub(crate) mod schema;
mod source;

use bstar_core::Fault;
use bstar_core::balance::EmptyQueries;
use bstar_core::controller::{ThresholdSource, TieRule};
use bstar_core::curriculum::QueryOrder;
use bstar_core::grid::Grid;
use bstar_core::method::{Continuity, Method};
use bstar_core::ports::RewardHead;
use bstar_core::preset::Preset;
use bstar_core::ranking::{CorrectCount, Deduplication, GoldSolutions};
use bstar_core::reward::RewardRule;
use bstar_core::reward_training::RewardStart;
use bstar_core::search::Search;
use bstar_core::step_labels::StepLabels;
use bstar_hub::ModelName;
use bstar_model::compute::ComputeSettings;
use bstar_model::device::DeviceChoice;
use bstar_model::lora::LoraSettings;
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
    /// A named set of defaults, for the places where paper, authors' code and our advice differ
    /// (docs/concepts/presets.md). Single keys can be set beside it.
    pub(crate) preset: Preset,
    /// The method to train with (docs/concepts/algorithm.md).
    pub(crate) method: Method,
    /// Root of all randomness: seed, version and config give the same run on one machine type.
    pub(crate) seed: u64,
    /// Rounds of probe, draw, select, train and evaluate. `sft` makes none, every other method needs
    /// at least one.
    pub(crate) iterations: u32,
    /// The task that the policy learns.
    pub(crate) task: TaskConfig,
    /// The policy: the model that is trained.
    pub(crate) model: ModelConfig,
    /// An adapter to train instead of all weights (docs/guide/lora.md).
    pub(crate) lora: LoraSettings,
    /// How training and sampling are computed (docs/guide/compute.md).
    pub(crate) compute: ComputeSettings,
    /// The optimizer. Its moments are part of every checkpoint.
    pub(crate) optimizer: OptimizerSettings,
    /// Supervised fine-tuning: how the base model becomes P_0, the policy that the iterations start
    /// from.
    pub(crate) supervised: SupervisedConfig,
    /// The draw: what is sampled in each iteration to train on.
    pub(crate) sample: SampleConfig,
    /// The reward of a response, `1[correct]` or `1[correct] + r_prm`.
    ///
    /// With `kind = "answer"` the keys `scale`, `divisor`, `clip` and `reduction` have no effect in
    /// `bstar run`: they say how the score of a reward model enters. `bstar balance` uses the preset's
    /// values of them for rollouts that carry scores.
    pub(crate) reward: RewardRule,
    /// The reward model, which scores the steps of a response; used with
    /// `reward.kind = "answer-and-reward-model"` only.
    pub(crate) reward_model: RewardModelConfig,
    /// The balance score, `min(n'/n*, 1) · n'/n` (paper §3.1), and the search for the temperature and
    /// the reward threshold that maximise it.
    pub(crate) balance: BalanceConfig,
    /// More knobs for the method `b-star` to turn in each iteration; an empty list leaves a knob alone.
    pub(crate) knobs: KnobsConfig,
    /// The selection: which of the responses above the threshold are trained on.
    pub(crate) selection: SelectionConfig,
    /// Training on the selection, in each iteration.
    pub(crate) train: TrainConfig,
    /// Evaluation on the test queries, after supervised fine-tuning and after each iteration.
    pub(crate) evaluate: EvaluateConfig,
    /// The run itself. These keys may differ when a run is continued: they do not change what it is.
    pub(crate) run: RunConfig,
    /// What `bstar plan` is told rather than measures (docs/guide/plan.md). No other verb reads it, and
    /// it may differ when a run is continued.
    pub(crate) plan: PlanConfig,
}

/// A model is made from scratch by `size`, `context_length`, `tokenizer` and `vocab_size`, read from
/// `folder`, or named by its `name` on the Hugging Face hub (docs/guide/models.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// Size of a model from scratch: a name or a width. One dial; depth, heads and everything else
    /// are derived from it.
    pub(crate) size: ModelSize,
    /// A Hugging Face folder (Llama, Mistral, Qwen2 or Qwen3) to start from; then `size`,
    /// `context_length`, `tokenizer` and `vocab_size` are not used. Empty for a model from scratch.
    /// A relative path starts at the folder of the config file.
    pub(crate) folder: String,
    /// A model on the Hugging Face hub to start from, as `organisation/model`, with `@revision` behind
    /// it for another revision than `main`; then `folder` is empty. It is taken from the cache, or
    /// fetched into it.
    pub(crate) name: String,
    /// Most tokens of prompt and response together, for a model from scratch.
    pub(crate) context_length: usize,
    /// How the tokenizer of a model from scratch is made from the training texts.
    pub(crate) tokenizer: TokenizerKind,
    /// Tokens of a `bpe` tokenizer; not used with `characters`.
    pub(crate) vocab_size: usize,
}

impl ModelConfig {
    /// Whether the model is made, rather than read.
    pub(crate) fn is_from_scratch(&self) -> bool {
        self.folder.is_empty() && self.name.is_empty()
    }
}

impl RewardModelConfig {
    /// Whether it is used as it is, rather than trained.
    pub(crate) fn is_given(&self) -> bool {
        !self.folder.is_empty() || !self.name.is_empty()
    }
}

/// Refuses a folder beside a name, and what is no name; `table` holds both keys.
fn check_named(table: &str, folder: &str, name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Ok(());
    }
    resolve::require(folder.is_empty(), || {
        format!("`{table}.folder` and `{table}.name` are both set, and a run takes one model")
    })?;
    ModelName::parse(name).map(drop).map_err(|error| {
        let mut fault = Fault::from(error);
        fault.message = format!("`{table}.name`: {}", fault.message);
        fault
    })
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

/// It trains on prompts with worked solutions. A model from scratch needs it; with `model.folder` it
/// can be switched off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SupervisedConfig {
    /// Most optimizer steps; 0 takes the model as it is.
    pub(crate) steps: usize,
    /// Examples in a step.
    pub(crate) batch_size: usize,
    /// Peak learning rate, reached after the warm-up.
    pub(crate) learning_rate: f64,
    /// Learning rate at the last step of the cosine; not above the peak.
    pub(crate) learning_rate_floor: f64,
    /// Steps of linear warm-up.
    pub(crate) warmup_steps: f64,
    /// Stop at this greedy validation accuracy (a share), so that different seeds start alike; 0
    /// does all steps.
    pub(crate) stop_at_accuracy: f64,
    /// Steps between validations; 0 never validates.
    pub(crate) validate_every: usize,
    /// Validation queries answered in a validation.
    pub(crate) validation_queries: usize,
}

/// The temperature is chosen by the method, or is `balance.fixed_temperature`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleConfig {
    /// M: training queries drawn in each iteration; 0 takes all.
    pub(crate) queries: usize,
    /// Which training queries these are. `ada-star` (arXiv 2505.16322) has an effect where `queries`
    /// is less than all; see docs/concepts/queries.md.
    pub(crate) query_order: QueryOrder,
    /// k: responses to each query.
    pub(crate) k: usize,
    /// N: responses wanted for training in each iteration; 0 is `train.steps` times
    /// `train.batch_size`. The target count and the cap follow from it.
    pub(crate) target_samples: u64,
    /// Sample from the smallest set of tokens with this much probability; 1 keeps all.
    pub(crate) top_p: f64,
    /// Sample from this many most probable tokens; 0 keeps all.
    pub(crate) top_k: usize,
    /// Sample from tokens at least this share as probable as the most probable one; 0 keeps all.
    pub(crate) min_p: f64,
    /// Logits of tokens that occurred before are divided by this, negative ones multiplied; 1 is off.
    pub(crate) repetition_penalty: f64,
    /// A response ends before the first of these strings, here and in evaluation.
    pub(crate) stop: Vec<String>,
    /// Token ids that end a response, here and in evaluation, beside those of the model.
    pub(crate) stop_tokens: Vec<u32>,
    /// Longest response in tokens, here and in evaluation.
    pub(crate) max_tokens: usize,
}

/// It is read from `folder`, or trained from the policy's own responses: their steps are labelled by
/// what the policy reaches from there (docs/concepts/reward-model.md), and a scalar head on the
/// policy's architecture learns the labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RewardModelConfig {
    /// A Hugging Face folder of a reward model to use as it is; the other keys here are then not
    /// used. Empty to train one. A relative path starts at the folder of the config file.
    pub(crate) folder: String,
    /// A reward model on the Hugging Face hub to use as it is, named as in `model.name`; then `folder`
    /// is empty.
    pub(crate) name: String,
    /// What the label of a step says.
    pub(crate) labels: StepLabels,
    /// Training queries whose responses are labelled; 0 takes all.
    pub(crate) queries: usize,
    /// Responses drawn of each of these queries (the paper: 15).
    pub(crate) responses: usize,
    /// Completions from the end of each distinct step (the paper: 8); not used with `outcome`.
    pub(crate) completions: usize,
    /// Sampling temperature of responses and completions.
    pub(crate) temperature: f64,
    /// Share of these queries that is held out to measure the quality.
    pub(crate) held_out: f64,
    /// What makes its scores: one number at the end of a step, or the language-model head, token by
    /// token (docs/concepts/reward-model.md).
    pub(crate) head: RewardHead,
    /// The weights that it starts from; a scalar head is always new.
    pub(crate) start: RewardStart,
    /// Train a new one after this many iterations; 0 trains one before the first and no other.
    pub(crate) refresh_every: u32,
    /// Optimizer steps.
    pub(crate) steps: usize,
    /// Responses in a step.
    pub(crate) batch_size: usize,
    /// Peak learning rate, reached after the warm-up.
    pub(crate) learning_rate: f64,
    /// Learning rate at the last step of the cosine; not above the peak.
    pub(crate) learning_rate_floor: f64,
    /// Steps of linear warm-up.
    pub(crate) warmup_steps: f64,
    /// Learn on every token of a step, as in the paper, rather than on its last one.
    pub(crate) every_token: bool,
}

/// Before an iteration each candidate is scored on a probe set: temperature by temperature the
/// queries are answered k times, and every threshold is applied to the same responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalanceConfig {
    /// n*: unique correct responses wanted of a query; 0 is N / M rounded up.
    pub(crate) target_count: u32,
    /// What counts in n': right answers (the paper), or only those that the reward model puts above
    /// `verified_above`, so that right answers by wrong steps fill no quota. See
    /// docs/concepts/theory.md.
    pub(crate) counts: CorrectCount,
    /// The bar of `counts = "verified"`, which a scaled reward-model score must exceed. It pays only
    /// with `thresholds` up to 1 plus this bar: a verified response has a reward above that.
    pub(crate) verified_above: f64,
    /// Temperatures to choose from, for methods that adapt the temperature.
    pub(crate) temperatures: Grid,
    /// Thresholds to choose from, for methods that adapt the threshold: responses with a reward
    /// above it are selected. With an answer check alone all thresholds from 0 up to 1 select the
    /// same (paper §3.1).
    pub(crate) thresholds: Grid,
    /// Which responses the threshold is chosen on.
    pub(crate) threshold_from: ThresholdSource,
    /// Which of several best candidates wins.
    pub(crate) ties: TieRule,
    /// What a query without a selected response adds to the mean over queries.
    pub(crate) empty_queries: EmptyQueries,
    /// Training queries that candidates are scored on (the paper: 600).
    pub(crate) probe_queries: usize,
    /// Draw a new probe set in each iteration, rather than keep one.
    pub(crate) redraw_probe: bool,
    /// How candidates are measured. A race and re-weighting take the first queries of the draw in place
    /// of a probe set, and what the winner answers is part of the draw; `redraw_probe` has no effect on
    /// them, and `probe_queries` is the number of queries that the threshold is chosen on. See
    /// docs/concepts/search.md.
    pub(crate) search: Search,
    /// Responses that a race or re-weighting may draw beside those of the winner, as a share of the
    /// draw.
    pub(crate) search_budget: f64,
    /// Store with each probe rollout its log-probability at every candidate temperature, so that
    /// `bstar simulate search` can replay re-weighting on it. Changes nothing else.
    pub(crate) candidate_logprobs: bool,
    /// Stay with the configuration of the iteration before unless the balance score of the best one
    /// exceeds it by more than so many standard errors of their difference, taken query by query; 0
    /// always moves (the paper). See docs/concepts/confidence.md.
    pub(crate) hysteresis: f64,
    /// Temperature of methods that do not adapt it.
    pub(crate) fixed_temperature: f64,
    /// Threshold of methods that do not adapt it.
    pub(crate) fixed_threshold: f64,
}

/// They are chosen beside temperature and threshold by the same balance score, but for `steps`. What
/// each costs and how it is chosen is in docs/concepts/knobs.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnobsConfig {
    /// Values of top-p to choose from, in place of `sample.top_p`. Each is probed at every
    /// temperature, so two of them double what the probe costs.
    pub(crate) top_p: Vec<f64>,
    /// Values of k to choose from for the draw, at most `sample.k`, which the probe draws.
    pub(crate) k: Vec<u32>,
    /// The smallest k is drawn whose best balance score falls short of the best of all by at most
    /// this share.
    pub(crate) k_tolerance: f64,
    /// Caps to choose from, on the responses taken of a query; 0 is the cap that
    /// `selection.cap_to_pool` gives.
    pub(crate) cap: Vec<u32>,
    /// Optimizer steps after which an iteration's training may end, at most `train.steps`.
    pub(crate) steps: Vec<usize>,
    /// Validation queries that are answered greedily after each of them.
    pub(crate) steps_queries: usize,
    /// Train on after a stretch if it gained more right answers than so many standard errors of the
    /// gain; 0 asks for any gain, a negative number stops only at a loss.
    pub(crate) steps_margin: f64,
}

/// Responses are ranked by reward within each query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelectionConfig {
    /// When responses that repeat another one of their query are dropped.
    pub(crate) deduplication: Deduplication,
    /// What becomes of the gold solution of a query.
    pub(crate) gold_solutions: GoldSolutions,
    /// Cap the responses taken of each query, with the smallest cap that selects N in all.
    pub(crate) cap_to_pool: bool,
    /// Leave out responses without an answer before anything is counted.
    pub(crate) drop_unanswered: bool,
    /// Compare reward and threshold with a slack of 1e-9, so that rounding decides nothing.
    pub(crate) slack: bool,
}

/// The learning rate follows a cosine: over all iterations for methods that carry the schedule
/// (`online-rft`, `b-star` and its ablations), over each iteration for the others, unless `schedule`
/// says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainConfig {
    /// Optimizer steps in an iteration.
    pub(crate) steps: usize,
    /// Examples in a step.
    pub(crate) batch_size: usize,
    /// Most passes over the selection of an iteration; 0 sets no limit.
    pub(crate) most_passes: usize,
    /// Peak learning rate, reached after the warm-up.
    pub(crate) learning_rate: f64,
    /// Learning rate at the end of the cosine; not above the peak.
    pub(crate) learning_rate_floor: f64,
    /// Steps of linear warm-up from 0, at the start of each schedule: in each iteration where schedules
    /// are renewed.
    pub(crate) warmup_steps: f64,
    /// Whether the optimizer's moments are carried from one iteration to the next; `rest-em` cannot carry
    /// them over its reset.
    pub(crate) optimizer_state: Continuity,
    /// Whether one cosine spans all iterations or each has its own.
    pub(crate) schedule: Continuity,
    /// Where `rest-em` goes back to in each iteration; other methods do not reset.
    pub(crate) reset_to: ResetPoint,
}

/// Where methods that reset go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ResetPoint {
    /// P_0, the policy after supervised fine-tuning.
    Initial,
    /// The model before supervised fine-tuning.
    Base,
}

/// Its decoding never follows the search, so that iterations can be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluateConfig {
    /// Test queries answered greedily; 0 takes all.
    pub(crate) queries: usize,
    /// Of these, queries that are sampled too, for Pass@K and its kin; 0 samples none.
    pub(crate) sampled_queries: usize,
    /// Samples of each such query; at least the largest `evaluate.k`.
    pub(crate) samples: usize,
    /// Sampling temperature.
    pub(crate) temperature: f64,
    /// Sample from the smallest set of tokens with this much probability; 1 keeps all.
    pub(crate) top_p: f64,
    /// Sample from this many most probable tokens; 0 keeps all.
    pub(crate) top_k: usize,
    /// Sample from tokens at least this share as probable as the most probable one; 0 keeps all.
    pub(crate) min_p: f64,
    /// As `sample.repetition_penalty`; greedy answers are penalised too.
    pub(crate) repetition_penalty: f64,
    /// Each K of Pass@K, Pass@K-S and Reward@K-S (paper §2.2; docs/concepts/metrics.md).
    pub(crate) k: Vec<usize>,
    /// Each S of Pass@K-S and Reward@K-S.
    pub(crate) s: Vec<usize>,
}

/// The result does not depend on `threads`, nor what is computed on `most_ungradable`; on `device` it
/// depends by rounding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    /// Stop with an error after this many iterations in a row that select nothing.
    pub(crate) most_empty_iterations: u32,
    /// Stop with an error when a larger share of the answers of a probe, draw or evaluation is
    /// ungradable. May be changed when a run is continued.
    pub(crate) most_ungradable: f64,
    /// Which checkpoints and reward models of earlier iterations stay. P_0 always does.
    pub(crate) checkpoints: Retention,
    /// Worker threads; 0 is one per core.
    pub(crate) threads: usize,
    /// Most memory (GiB) for keys and values of the responses that are drawn at once, as long as a
    /// small group of them fits. The result does not depend on it.
    pub(crate) cache_gib: f64,
    /// Where the policy is trained and sampled. `cuda` needs a build with that feature; the reward
    /// model stays on the CPU. Draws have the same distribution everywhere, and are the same but for
    /// rounding.
    pub(crate) device: DeviceChoice,
}

impl RunConfig {
    /// `cache_gib` in bytes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number; a conversion that saturates is meant"
    )]
    pub(crate) fn cache_bytes(&self) -> usize {
        (self.cache_gib * f64::from(1_u32 << 30)) as usize
    }
}

impl PlanConfig {
    /// Whether the model is not on this machine.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.parameters > 0.0 || self.shape.is_some()
    }
}

/// Which checkpoints and reward models of earlier iterations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Retention {
    /// All.
    KeepAll,
    /// P_0 and the last two (the last may be the one being made), and the newest reward model.
    KeepLast,
}

/// A number that is 0 is measured on this machine, counted in the data files, or assumed; the plan
/// says which. To plan for a model that is not here give its `parameters` or its `shape`, and for data
/// that are not here `train_queries`; the plan then names what else it needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanConfig {
    /// Optimizer steps after which supervised fine-tuning reaches `supervised.stop_at_accuracy`. 0 takes
    /// what earlier runs in `runs` and `comparisons` took whose P_0 differs in its seed at most; without
    /// one it expects half of `supervised.steps`.
    pub(crate) supervised_steps: usize,
    /// Training queries of data that are not on this machine; 0 reads the data.
    pub(crate) train_queries: usize,
    /// Validation queries of data that are not on this machine.
    pub(crate) validation_queries: usize,
    /// Test queries of data that are not on this machine.
    pub(crate) test_queries: usize,
    /// Examples of supervised fine-tuning in data that are not on this machine.
    pub(crate) solutions: usize,
    /// Mean tokens of a prompt; 0 counts them.
    pub(crate) prompt_tokens: f64,
    /// Mean tokens of a response; 0 takes them from solutions, or samples some.
    pub(crate) response_tokens: f64,
    /// Mean tokens of an example's response in supervised fine-tuning; 0 counts them.
    pub(crate) solution_tokens: f64,
    /// Mean steps of a response, the answer among them; 0 counts them. Used to plan the labels of a
    /// reward model.
    pub(crate) steps_per_response: f64,
    /// Tokens that are drawn in a second, by all accelerators together; 0 measures it.
    pub(crate) sampling_tokens_per_second: f64,
    /// Tokens of prompts and responses that are trained on in a second, by all accelerators together;
    /// 0 measures it.
    pub(crate) training_tokens_per_second: f64,
    /// Tokens that a reward model reads in a second, by all accelerators together; 0 measures it.
    pub(crate) scoring_tokens_per_second: f64,
    /// Tokens that the policy reads in a second to tell how likely responses are at other
    /// temperatures (`balance.search = "reweighting"`), by all accelerators together; 0 measures it.
    pub(crate) weighing_tokens_per_second: f64,
    /// Responses that are graded in a second; 0 measures it.
    pub(crate) gradings_per_second: f64,
    /// Parameters of a model that is not on this machine; 0 reads the model, or counts `shape`.
    pub(crate) parameters: f64,
    /// The shape of a model that is not on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shape: Option<ShapeConfig>,
    /// Bytes of a weight, on disk and in memory, and of its gradient; this engine keeps 4.
    pub(crate) weight_bytes: f64,
    /// Bytes of each of the two moments of a weight; this engine keeps 4.
    pub(crate) moment_bytes: f64,
    /// Bytes of a stored response; 0 measures it.
    pub(crate) rollout_bytes: f64,
    /// Accelerators (or machines) that the time is multiplied by for accelerator hours.
    pub(crate) accelerators: f64,
    /// Price of an hour of one of them, in any currency; 0 prints no price.
    pub(crate) price_per_hour: f64,
    /// About how long measuring may take, in seconds.
    pub(crate) calibration_seconds: f64,
}

/// The fields of a model's `config.json` that its size follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShapeConfig {
    /// Rows of the embedding.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Width inside the feed-forward block.
    pub(crate) intermediate_size: usize,
    /// Layers, one on the other.
    pub(crate) num_hidden_layers: usize,
    /// Query heads.
    pub(crate) num_attention_heads: usize,
    /// Key-value heads.
    pub(crate) num_key_value_heads: usize,
    /// Whether the head reuses the embedding.
    pub(crate) tie_word_embeddings: bool,
}
