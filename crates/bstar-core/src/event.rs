//! What a run says: one typed event a line of `events.jsonl`.
//!
//! Everything that shows a run (progress view, tables, reports) reads these and nothing else.
//! Events carry no wall-clock time: the store adds it in an envelope, so that two runs of the same
//! seed, commit and config have equal events.

use crate::controller::Decision;
use crate::curriculum::Renewal;
use crate::monitor::Metric;
use crate::rollout::{Stage, Verdict};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pieces of an iteration that are published one by one; a resumed run redoes none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// A newly trained reward model.
    RewardModel,
    /// Probe rollouts, and the decision they led to.
    Probe,
    /// Training rollouts with rewards and selection.
    Draw,
    /// New weights and optimizer state.
    Train,
    /// Evaluation rollouts.
    Evaluate,
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainStep {
    /// The step in the learning-rate schedule (0-based).
    pub step: u64,
    /// Mean cross-entropy (nats) over the response tokens of the batch, before the step.
    pub loss: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Response tokens that the loss was taken over.
    pub tokens: u64,
}

/// What a stretch of training gained on validation queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Steps of the iteration at its end.
    pub steps: u64,
    /// Share of the validation queries that are answered right at its end, greedily.
    pub accuracy: f64,
    /// By how much that share grew in this stretch.
    pub gain: f64,
    /// Standard error of the gain, query by query.
    pub standard_error: f64,
}

/// Counts of verdicts over a set of rollouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCounts {
    /// Right answers.
    pub correct: u64,
    /// Wrong answers.
    pub incorrect: u64,
    /// Responses without an answer.
    pub no_answer: u64,
    /// Answers that could not be decided.
    pub ungradable: u64,
}

impl VerdictCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.correct + self.incorrect + self.no_answer + self.ungradable
    }

    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Correct => &mut self.correct,
            Verdict::Incorrect => &mut self.incorrect,
            Verdict::NoAnswer => &mut self.no_answer,
            Verdict::Ungradable => &mut self.ungradable,
        } += 1;
    }
}

/// What became of the rollouts of an iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectionSummary {
    /// Rollouts drawn.
    pub drawn: u64,
    /// Rollouts selected for training, gold solutions not counted.
    pub selected: u64,
    /// Unique correct ones among the selected.
    pub correct: u64,
    /// Those of them that the reward model puts above `balance.verified_above`; none where n' counts
    /// answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<u64>,
    /// Queries with at least one selected rollout.
    pub queries: u64,
    /// Rollouts whose normalised text repeats an earlier one of the same query.
    pub duplicates: u64,
    /// Gold solutions added.
    pub gold: u64,
    /// The threshold applied (strict: reward > threshold).
    pub threshold: f64,
    /// The per-query cap applied, if any.
    pub cap: Option<u32>,
    /// Balance score of the whole draw at the applied configuration.
    pub balance_score: f64,
}

/// What a reward model learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelSummary {
    /// Distinct responses with labels, those held out included.
    pub responses: u64,
    /// Their steps.
    pub steps: u64,
    /// Mean label of these steps.
    pub mean_label: f64,
    /// Responses drawn to be labelled.
    pub drawn: u64,
    /// Completions drawn to label them.
    pub completions: u64,
    /// Answers of both that could not be decided: they make no label.
    #[serde(default)]
    pub ungradable: u64,
    /// Tokens drawn for both.
    pub tokens: u64,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run began.
    RunStarted {
        /// Version of bstar.
        version: String,
        /// Name of the method.
        method: String,
        /// Name of the task.
        task: String,
        /// Root of all randomness.
        seed: u64,
        /// Iterations planned.
        iterations: u32,
        /// Fingerprint of the base weights.
        policy_version: Arc<str>,
        /// Fingerprint of the reward model, where the run was given one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reward_model: Option<Arc<str>>,
    },
    /// One optimizer step of an iteration (0: supervised fine-tuning).
    Step {
        /// The iteration.
        iteration: u32,
        /// The step.
        #[serde(flatten)]
        step: TrainStep,
    },
    /// One optimizer step of the reward model.
    RewardModelStep {
        /// The iteration that it is trained for (0: before the first).
        iteration: u32,
        /// The step; its loss is the mean binary cross-entropy (nats) over labelled tokens.
        #[serde(flatten)]
        step: TrainStep,
    },
    /// A reward model was trained.
    RewardModelTrained {
        /// The iteration that it is trained for (0: before the first).
        iteration: u32,
        /// Fingerprint of its weights.
        version: Arc<str>,
        /// What it learnt from.
        #[serde(flatten)]
        labels: LabelSummary,
        /// Its quality on the labels that were held out; see [`crate::reward_quality`].
        metrics: Vec<Metric>,
    },
    /// Greedy accuracy on validation queries during supervised fine-tuning.
    Validated {
        /// Steps done.
        step: u64,
        /// Share of validation queries answered correctly.
        accuracy: f64,
        /// Validation queries.
        queries: u64,
        /// The share at which supervised fine-tuning stops, if it stops at one.
        goal: Option<f64>,
    },
    /// How many optimizer steps an iteration made, where these are a knob.
    StepsChosen {
        /// The iteration.
        iteration: u32,
        /// Steps made.
        steps: u64,
        /// Validation queries that were answered before the first stretch and after each of these; 0
        /// in logs of older versions.
        #[serde(default)]
        queries: u64,
        /// What each stretch gained but the last one of all, which nothing is decided after.
        stretches: Vec<Stretch>,
    },
    /// The configuration of an iteration, with the grid that it was chosen from.
    Decided {
        /// The iteration.
        iteration: u32,
        /// The choice and the surface.
        #[serde(flatten)]
        decision: Box<Decision>,
    },
    /// Verdicts over the rollouts of a stage.
    Graded {
        /// The iteration.
        iteration: u32,
        /// The stage.
        stage: Stage,
        /// The counts.
        #[serde(flatten)]
        counts: VerdictCounts,
        /// Tokens of these rollouts.
        #[serde(default)]
        tokens: u64,
        /// How often the checker gave each reason; see [`crate::rollout::Grade::reason`].
        #[serde(default)]
        reasons: BTreeMap<Arc<str>, u64>,
        /// What checked them, where it depends on the machine; see
        /// [`crate::ports::Task::checker`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checker: Option<String>,
    },
    /// What was selected for training.
    Selected {
        /// The iteration.
        iteration: u32,
        /// The counts.
        #[serde(flatten)]
        selection: SelectionSummary,
    },
    /// An iteration selected nothing and left the policy as it was.
    NothingSelected {
        /// The iteration.
        iteration: u32,
        /// How many iterations in a row.
        in_a_row: u32,
        /// Why, in words, and what to try.
        advice: String,
    },
    /// What AdaSTaR made of the queries of an iteration ([`crate::curriculum`]).
    QueriesRenewed {
        /// The iteration.
        iteration: u32,
        /// How many have a new record, of how many, at which accuracy.
        #[serde(flatten)]
        renewal: Renewal,
    },
    /// Monitors over the rollouts of a stage.
    Measured {
        /// The iteration.
        iteration: u32,
        /// The stage.
        stage: Stage,
        /// The values.
        metrics: Vec<Metric>,
    },
    /// A piece of an iteration is safe on disk.
    Published {
        /// The iteration.
        iteration: u32,
        /// The piece.
        piece: Piece,
    },
    /// An iteration is complete.
    IterationCommitted {
        /// The iteration.
        iteration: u32,
        /// Fingerprint of its weights.
        policy_version: Arc<str>,
    },
    /// Every iteration is complete.
    RunFinished {
        /// Iterations done.
        iterations: u32,
    },
}

/// What is being waited for; shown while it lasts, never remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Supervised fine-tuning towards P_0; units are optimizer steps.
    Supervise,
    /// Greedy validation during supervised fine-tuning; units are responses.
    Validate,
    /// Sampling and checking responses whose steps the reward model learns from; units are
    /// responses.
    DrawLabels,
    /// Completing them from each step to label it; units are responses.
    Complete,
    /// Training of the reward model; units are optimizer steps.
    TrainRewardModel,
    /// Scoring the steps that were held out of it; units are responses.
    MeasureRewardModel,
    /// Sampling for a stage; units are responses.
    Sample {
        /// The iteration.
        iteration: u32,
        /// What for.
        stage: Stage,
    },
    /// Asking the policy for the probabilities of probe responses; units are responses.
    Weigh {
        /// The iteration.
        iteration: u32,
    },
    /// Answer checking for a stage; units are responses.
    Grade {
        /// The iteration.
        iteration: u32,
        /// What for.
        stage: Stage,
    },
    /// Reward-model scoring for a stage; units are responses.
    Score {
        /// The iteration.
        iteration: u32,
        /// What for.
        stage: Stage,
    },
    /// Fine-tuning on the selection; units are optimizer steps.
    Train {
        /// The iteration.
        iteration: u32,
    },
}
