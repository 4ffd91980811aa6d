//! What the improve loop needs of the outside world, as traits that the other crates implement.
//!
//! | trait | who implements it | what it is |
//! |---|---|---|
//! | [`Policy`] | `bstar-model` | draws responses and learns from examples |
//! | [`RewardModel`] | `bstar-model` | scores the steps of a response |
//! | [`Task`] | `bstar-tasks` | queries, answer check, step boundaries |
//! | [`Ledger`] | `bstar` over `bstar-store` | remembers: events, rollouts, checkpoints |
//!
//! Text goes in and comes out; tokens, tensors and files stay behind the traits.

use crate::event::{Activity, Event, Piece, TrainStep};
use crate::fault::{Fault, FaultClass};
use crate::rng::RngKey;
use crate::rollout::{Completion, Grade, Query, Rollout, Stage};
use crate::schedule::CosineSchedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// How far a long piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

impl Progress {
    /// This progress as that of part `index` of `count` equal parts.
    #[must_use]
    pub fn of_part(self, index: usize, count: usize) -> Self {
        let (index, count) = (index as u64, count as u64);
        Self { done: index * self.total + self.done, total: count * self.total }
    }
}

/// Called by long work now and then; an error (an interrupt) ends the work at once.
pub type Tick<'a> = &'a mut dyn FnMut(Progress) -> Result<(), Fault>;

/// How tokens are drawn from the policy's distribution, and what ends a response beside the
/// policy's own end tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decoding {
    /// Logits are divided by this; 0 is greedy decoding.
    pub temperature: f64,
    /// Keep the smallest set of tokens whose probability reaches this (nucleus); 1 keeps all.
    pub top_p: f64,
    /// Keep this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep tokens whose probability, after `temperature`, is at least this share of the largest;
    /// 0 keeps all. Applied after `top_k` and `top_p`.
    #[serde(default)]
    pub min_p: f64,
    /// Logits of tokens that occurred in prompt or response are divided by this where they are
    /// positive and multiplied where they are negative (Keskar et al., arXiv 1909.05858, with
    /// that sign rule of `transformers`), before `temperature`; 1 changes nothing.
    #[serde(default = "one")]
    pub repetition_penalty: f64,
    /// A response ends before the first of these strings, none of which is empty.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Token ids that end a response, as end-of-sequence tokens do.
    #[serde(default)]
    pub stop_tokens: Vec<u32>,
    /// End a response after this many tokens.
    pub max_tokens: usize,
}

fn one() -> f64 {
    1.0
}

impl Decoding {
    /// Always the most likely token (ties: the lowest token id).
    pub fn greedy(max_tokens: usize) -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            max_tokens,
        }
    }

    /// The same ends and the same penalty, but always the most likely token.
    #[must_use]
    pub fn likeliest(&self) -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, min_p: 0.0, ..self.clone() }
    }
}

/// One query to sample: its prompt, and the key under which its samples are drawn.
#[derive(Clone, Debug)]
pub struct PromptRequest<'a> {
    /// The rendered query.
    pub prompt: &'a str,
    /// The beginning of the response, which each sample goes on from; often empty.
    pub begun: &'a str,
    /// Sample j is drawn with `key.index(j)`, so that it depends on nothing else in the request.
    pub key: RngKey,
}

/// A response whose probability is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRequest<'a> {
    /// The rendered query.
    pub prompt: &'a str,
    /// The response as text.
    pub response: &'a str,
    /// Whether the policy ended it: then its end counts, else it was cut at the limit.
    pub ended: bool,
}

/// A request for `samples` responses to each prompt.
#[derive(Clone, Debug)]
pub struct SampleRequest<'a> {
    /// The prompts.
    pub prompts: Vec<PromptRequest<'a>>,
    /// Responses for each prompt (k).
    pub samples: usize,
    /// How tokens are drawn.
    pub decoding: Decoding,
}

/// A prompt with the response to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The rendered query; no loss on it.
    pub prompt: Arc<str>,
    /// The response; the engine appends the end-of-sequence token.
    pub response: Arc<str>,
}

/// A stretch of supervised fine-tuning.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    /// What to learn from.
    pub examples: &'a [Example],
    /// For each optimizer step, the indices into `examples` of its batch.
    pub batches: &'a [Vec<usize>],
    /// The learning rate of batch `i` is that of step `first_step + i`.
    pub schedule: CosineSchedule,
    /// See `schedule`.
    pub first_step: u64,
    /// Forget the optimizer's moments and step count before the first batch.
    pub fresh_optimizer: bool,
}

/// What makes scores of a reward model's hidden states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RewardHead {
    /// One number, read at the end of a step (as good as the paper's mean of all logits; spec §5).
    #[default]
    Scalar,
    /// The language-model head: a step is right as long as each token up to its end is, and a token
    /// as right as its logit is near the largest.
    Token,
}

/// Something that answers prompts and can be taught.
pub trait Policy {
    /// The reward model that it can become.
    type RewardModel: RewardModel;

    /// A fingerprint of the weights: equal weights, equal text.
    fn version(&self) -> Arc<str>;

    /// Draws responses: `[prompt][sample]`. A response depends on weights, prompt, decoding and its
    /// key only.
    fn sample(
        &mut self,
        request: &SampleRequest<'_>,
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Completion>>, Fault>;

    /// The log-probability (nats) of each response at each temperature, `[request][temperature]`:
    /// tokens drawn one by one, without truncation or penalty, and ended by any end token. Text is read
    /// as tokens again, so where it can be written in several ways only the usual one counts. A policy that cannot tell says so
    /// in a fault of class [`FaultClass::Usage`].
    fn log_probabilities(
        &mut self,
        _requests: &[ScoreRequest<'_>],
        _temperatures: &[f64],
        _tick: Tick<'_>,
    ) -> Result<Vec<Vec<f64>>, Fault> {
        let message = "this policy does not tell the probability of a response";
        Err(Fault::new(FaultClass::Usage, message)
            .hint("set `balance.search` to \"racing\" or \"exhaustive\""))
    }

    /// Trains in place, telling `on_step` of each committed optimizer step. A loss or gradient that
    /// is not finite is a fault of class [`crate::FaultClass::Training`], raised before that step
    /// changes the weights.
    fn update(
        &mut self,
        update: &Update<'_>,
        on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
    ) -> Result<(), Fault>;

    /// A reward model that starts from the weights of this policy, with a new head; what is random in
    /// it is drawn from `key`.
    fn reward_model(&self, head: RewardHead, key: RngKey) -> Result<Self::RewardModel, Fault>;
}

/// A response to score: where each of its steps ends, as byte offsets into `response`.
#[derive(Clone, Debug)]
pub struct StepRequest<'a> {
    /// The rendered query.
    pub prompt: &'a str,
    /// The response.
    pub response: &'a str,
    /// Byte ranges of the steps, in order; the answer is the last step.
    pub steps: Vec<Range<usize>>,
}

/// A response whose steps have labels, to train a reward model on.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledResponse {
    /// The rendered query.
    pub prompt: Arc<str>,
    /// The response.
    pub response: Arc<str>,
    /// Byte ranges of the steps, in order; the answer is the last step.
    pub steps: Vec<Range<usize>>,
    /// For each step a label in [0, 1]: 1 for "right so far".
    pub labels: Vec<f64>,
}

/// A stretch of reward-model training.
#[derive(Clone, Debug)]
pub struct RewardUpdate<'a> {
    /// What to learn from.
    pub examples: &'a [LabelledResponse],
    /// For each optimizer step, the indices into `examples` of its batch.
    pub batches: &'a [Vec<usize>],
    /// The learning rate of batch `i` is that of step `i`.
    pub schedule: CosineSchedule,
    /// Each token of a step carries its label, as in the paper; else only the last one does.
    pub every_token: bool,
}

/// Scores each step of a response: a raw logit, positive for "right so far".
pub trait RewardModel {
    /// A fingerprint of the weights: equal weights, equal text.
    fn version(&self) -> Arc<str>;

    /// Trains in place by binary cross-entropy on the tokens of the steps (spec §5), telling
    /// `on_step` of each optimizer step. Faults as in [`Policy::update`].
    fn update(
        &mut self,
        update: &RewardUpdate<'_>,
        on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
    ) -> Result<(), Fault>;

    /// One score for each step of each request; none at all for a response that cannot be scored, which
    /// then counts as [`crate::reward::UNSCORED`].
    fn step_scores(
        &mut self,
        requests: &[StepRequest<'_>],
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<f64>>, Fault>;
}

/// A response to grade.
#[derive(Clone, Copy, Debug)]
pub struct GradeRequest<'a> {
    /// What was asked.
    pub query: &'a Query,
    /// What was answered.
    pub response: &'a str,
}

/// Queries with a way to check answers.
pub trait Task: Sync {
    /// The name used in metric names: `eval/<task>/…`.
    fn name(&self) -> &str;

    /// Queries to train on.
    fn train(&self) -> &[Query];

    /// Held-out queries for choices made during a run; never reported as the result.
    fn validation(&self) -> &[Query];

    /// Held-out queries that are reported; no choice is made on them.
    fn test(&self) -> &[Query];

    /// Extracts the answer of a response and compares it with the gold answer. An error means that
    /// the checker is broken, never that the response is wrong.
    fn grade(&self, query: &Query, response: &str) -> Result<Grade, Fault>;

    /// Grades many responses; the grades come in the order of the requests. Tasks whose check is
    /// slow override it to check several at once.
    fn grade_all(
        &self,
        requests: &[GradeRequest<'_>],
        tick: Tick<'_>,
    ) -> Result<Vec<Grade>, Fault> {
        let total = requests.len() as u64;
        let mut grades = Vec::with_capacity(requests.len());
        for request in requests {
            grades.push(self.grade(request.query, request.response)?);
            tick(Progress { done: grades.len() as u64, total })?;
        }
        Ok(grades)
    }

    /// What checks the answers, in words, where it depends on the machine: the interpreter and the
    /// level of the sandbox in which programs run.
    fn checker(&self) -> Option<String> {
        None
    }

    /// Byte ranges of the steps of a response; the answer is the last.
    fn steps(&self, response: &str) -> Vec<Range<usize>>;

    /// The equations (or what stands for them) in a response, for diversity (spec §2).
    fn equations(&self, response: &str) -> Vec<String>;

    /// Whether every step of the response is right, where the task can tell. For measurement only:
    /// it must never reach a reward.
    fn check_steps(&self, query: &Query, response: &str) -> Option<bool>;

    /// [`Task::check_steps`] of many responses, in the order of the requests. Tasks whose check takes time
    /// override it to check several at once.
    fn check_steps_all(&self, requests: &[GradeRequest<'_>]) -> Vec<Option<bool>> {
        requests.iter().map(|request| self.check_steps(request.query, request.response)).collect()
    }

    /// For each of [`Task::steps`], whether the response is right up to its end, where the task can
    /// tell. For measurement only, like [`Task::check_steps`].
    fn check_each_step(&self, _query: &Query, _response: &str) -> Option<Vec<bool>> {
        None
    }
}

/// A set of weights that a run remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Before any training: the loaded model, or fresh weights.
    Base,
    /// After this iteration; 0 is P_0, the supervised start.
    Iteration(u32),
}

/// The memory of a run. What is published survives a crash at any moment; events recorded after the
/// last published piece are dropped when the run is resumed, and recorded again.
pub trait Ledger<P: Policy> {
    /// Appends an event.
    fn record(&mut self, event: Event) -> Result<(), Fault>;

    /// Shows progress; nothing is remembered. An error means that the user interrupted.
    fn tick(&mut self, activity: Activity, progress: Progress) -> Result<(), Fault>;

    /// Whether a piece was published.
    fn is_published(&self, iteration: u32, piece: Piece) -> bool;

    /// Reads published rollouts.
    fn read_rollouts(&self, iteration: u32, stage: Stage) -> Result<Vec<Rollout>, Fault>;

    /// Publishes the rollouts of a stage and with them the piece.
    fn publish_rollouts(
        &mut self,
        iteration: u32,
        stage: Stage,
        rollouts: &[Rollout],
    ) -> Result<(), Fault>;

    /// Publishes the weights and trainer state of `policy`, and with them [`Piece::Train`].
    fn publish_checkpoint(&mut self, iteration: u32, policy: &mut P) -> Result<(), Fault>;

    /// Publishes the reward model of an iteration, and with it [`Piece::RewardModel`].
    fn publish_reward_model(
        &mut self,
        iteration: u32,
        model: &mut P::RewardModel,
    ) -> Result<(), Fault>;

    /// The reward model that an iteration published; `policy` says of what kind it is.
    fn restore_reward_model(&self, iteration: u32, policy: &P) -> Result<P::RewardModel, Fault>;

    /// Puts remembered weights into `policy`. Trainer state (optimizer moments and step count) is
    /// restored too where the checkpoint holds it.
    fn restore(&self, checkpoint: Checkpoint, policy: &mut P) -> Result<(), Fault>;

    /// Ends an iteration: the record that resume trusts.
    fn commit(&mut self, iteration: u32, policy_version: &str) -> Result<(), Fault>;

    /// The iterations committed so far: none, or the last one.
    fn last_committed(&self) -> Option<u32>;

    /// Every event recorded so far, in order.
    fn events(&self) -> Result<Vec<Event>, Fault>;
}
