//! Queries, responses and what is known of them.
//!
//! A *query* is rendered to a *prompt*; a policy draws *responses*; a response with its record is a
//! *rollout*; the k rollouts of one query are a *rollout group*.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Names a query within its task, the same in every run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueryId(Arc<str>);

impl QueryId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for QueryId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for QueryId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for QueryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A question with its known answer: x and a* of the paper (§2.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Unique within the task.
    pub id: QueryId,
    /// The rendered query, exactly as the policy sees it.
    pub prompt: String,
    /// The answer that a correct response reaches.
    pub gold_answer: String,
    /// A full solution in the form of a response, where the data has one.
    pub gold_solution: Option<String>,
}

/// What the answer check says of a response. A broken checker is an error, never a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The answer found equals the gold answer.
    Correct,
    /// The answer found differs from the gold answer.
    Incorrect,
    /// The response holds no answer.
    NoAnswer,
    /// An answer was found, but it cannot be decided whether it is right. Never trained on.
    Ungradable,
}

impl Verdict {
    /// Whether there was an answer to judge.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Correct | Self::Incorrect)
    }

    /// Whether the answer is right.
    pub fn is_correct(self) -> bool {
        self == Self::Correct
    }
}

/// A verdict with the answer that it is about and its ground.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grade {
    /// The answer found in the response.
    pub answer: Option<String>,
    /// What is said of it.
    pub verdict: Verdict,
    /// Why, in a few words from a fixed list of the checker: `equal as numbers`, `time limit`.
    pub reason: &'static str,
}

impl Grade {
    /// The grade of a response in which no answer was found.
    pub fn no_answer() -> Self {
        Self { answer: None, verdict: Verdict::NoAnswer, reason: "no answer found" }
    }
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The policy ended it (end-of-sequence token).
    Stop,
    /// The limit of tokens ended it.
    Length,
}

/// One response as the policy drew it.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text, without the end-of-sequence token.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens drawn, the end-of-sequence token included.
    pub token_count: u32,
    /// Sum over those tokens of the log-probability (nats) under the policy at temperature 1
    /// without truncation, whatever the sampling temperature was.
    pub logprob: f64,
    /// Mean over those tokens of the entropy (nats) of the policy's next-token distribution at
    /// temperature 1 without truncation.
    pub entropy: f64,
}

/// What a rollout was drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// To measure candidate configurations.
    Probe,
    /// To be trained on, if selected.
    Train,
    /// To measure the policy on held-out queries.
    Eval,
}

impl Stage {
    /// The name used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Train => "train",
            Self::Eval => "eval",
        }
    }
}

/// A response with its record: the row that files exchange.
///
/// Only the first fields, without `top_p`, up to the verdict are needed; the rest is null in files of other trainers. Example, as a
/// JSON line: `{"query_id": "gsm8k/12", "sample_index": 0, "temperature": 0.7, "response": "…",
/// "answer": "42", "verdict": "correct"}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// The query.
    pub query_id: QueryId,
    /// Which of the k samples of the query, from 0.
    pub sample_index: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Top-p, where it is a knob of the controller; else that of the run's decoding holds.
    pub top_p: Option<f64>,
    /// The response text.
    pub response: Arc<str>,
    /// The answer found in it.
    pub answer: Option<String>,
    /// What the answer check says.
    pub verdict: Verdict,
    /// Why it says so, in a few words; see [`Grade::reason`].
    pub reason: Option<Arc<str>>,
    /// The raw reward-model score, reduced over steps; not yet divided or clipped.
    pub reward_model_score: Option<f64>,
    /// The raw reward-model score of each step.
    pub step_scores: Option<Vec<f64>>,
    /// The iteration (1-based; 0 is the policy before the first) that drew it.
    pub iteration: Option<u32>,
    /// What it was drawn for.
    pub stage: Option<Stage>,
    /// The prompt it answers.
    pub prompt: Option<Arc<str>>,
    /// The reward r that selection compared with the threshold.
    pub reward: Option<f64>,
    /// Whether it was selected for training.
    pub selected: Option<bool>,
    /// Why it ended.
    pub finish_reason: Option<FinishReason>,
    /// Tokens drawn.
    pub token_count: Option<u32>,
    /// Sum of token log-probabilities; see [`Completion::logprob`].
    pub logprob: Option<f64>,
    /// Mean token entropy; see [`Completion::entropy`].
    pub entropy: Option<f64>,
    /// Whether a step check found every step right; measurement only, never a reward.
    pub steps_correct: Option<bool>,
    /// Fingerprint of the weights that drew it.
    pub policy_version: Option<Arc<str>>,
    /// Log-probability (nats) of the whole response at each candidate temperature of the run, in their
    /// order, where the search re-weights or the run keeps them.
    pub candidate_logprobs: Option<Vec<f64>>,
}
