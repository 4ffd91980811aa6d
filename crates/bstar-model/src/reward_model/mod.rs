//! The reward model: the policy's architecture with a head that scores the steps of a response (spec
//! §5).
//!
//! With a scalar head the score of a step is its output, a raw logit, at the last token of the step;
//! `token_head` tells of the other kind. A response that does not fit into the context has no scores.
//! The
//! authors take the mean of the full language-model head instead; one scalar is equivalent and
//! cheaper. It is trained by binary cross-entropy on the tokens of labelled steps, all weights
//! moving (the authors hold embedding and norms), and saved as a Hugging Face folder of a model for
//! token classification with one label.

mod folder;
mod token_head;
mod tokens;
mod training;
mod weights;

use crate::compute::{ComputeSettings, HalfWeights, Precision};
use crate::folder::FolderError;
use crate::optimizer::OptimizerSettings;
use crate::policy::EmbeddedPolicy;
use crate::tokenizer::Tokenizer;
use crate::trainer::TrainerError;
use crate::transformer::{Activations, PackedTokens};
use bstar_core::event::TrainStep;
use bstar_core::ports::{Progress, RewardHead, RewardModel, RewardUpdate, StepRequest, Tick};
use bstar_core::{Fault, FaultClass, RngKey};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tokens::StepTokens;
use training::{RewardTrainer, score_row};
use weights::RewardWeights;

/// A reward model that is trained and asked in this process.
#[derive(Clone, Debug)]
pub struct EmbeddedRewardModel {
    weights: RewardWeights,
    tokenizer: Tokenizer,
    optimizer: OptimizerSettings,
    compute: ComputeSettings,
    version: Arc<str>,
}

impl EmbeddedRewardModel {
    /// A reward model with the body of a policy and a fresh head; the numbers of a scalar one are
    /// small and drawn from `key`.
    pub(crate) fn from_policy(policy: &EmbeddedPolicy, head: RewardHead, key: RngKey) -> Self {
        let weights = RewardWeights::from_policy(policy.weights(), head, key);
        Self::from_parts(weights, policy.tokenizer().clone(), policy)
    }

    /// A reward model from a Hugging Face folder. It is asked in the style of `policy`: with or
    /// without its chat template, and computes as that does.
    pub fn load(dir: &Path, policy: &EmbeddedPolicy) -> Result<Self, Fault> {
        let weights = RewardWeights::load(dir)?;
        let mut tokenizer = Tokenizer::load(dir, &weights.config().eos_token_ids)?;
        if policy.tokenizer().is_chat() {
            tokenizer.use_chat_template()?;
        }
        Ok(Self::from_parts(weights, tokenizer, policy))
    }

    /// Refuses a folder that holds no reward model, by its config alone. A fault (class Data) names it.
    pub fn check_folder(dir: &Path) -> Result<(), Fault> {
        folder::read_kind(dir).map(drop).map_err(Fault::from)
    }

    /// Whether a response of `most` tokens to a prompt fits into the context whole, or as much of it as
    /// a policy of `policy_context` could write. A fault (class Data) names prompt and context.
    pub fn check_prompt(
        &self,
        prompt: &str,
        most: usize,
        policy_context: usize,
    ) -> Result<(), Fault> {
        let tokens = self.tokenizer.encode_prompt(prompt)?.len();
        let (longest, context) = (tokens.saturating_add(most).min(policy_context), self.context());
        if longest <= context {
            return Ok(());
        }
        let message = format!(
            "the prompt of {tokens} tokens with a response of {most} does not fit into the reward \
             model's context of {context} tokens"
        );
        Err(Fault::new(FaultClass::Data, message).hint(
            "lower `sample.max_tokens`, or use a reward model with a longer context: a response that \
             does not fit cannot be scored",
        ))
    }

    fn context(&self) -> usize {
        self.weights.config().max_position_embeddings
    }

    /// Writes a folder that `transformers` opens with `AutoModelForTokenClassification`, flushed but
    /// not renamed.
    pub fn save(&self, dir: &Path) -> Result<(), Fault> {
        self.weights.save(dir).map_err(|error| match error {
            FolderError::NotFinite { .. } => Fault::from(error).hint(DIVERGED_HINT),
            _ => error.into(),
        })?;
        Ok(self.tokenizer.save(dir)?)
    }

    fn from_parts(weights: RewardWeights, tokenizer: Tokenizer, policy: &EmbeddedPolicy) -> Self {
        let version = weights.fingerprint();
        let (optimizer, compute) = (policy.optimizer_settings(), policy.compute_settings());
        Self { weights, tokenizer, optimizer, compute, version }
    }

    fn step_tokens(
        &self,
        prompt: &str,
        response: &str,
        steps: &[Range<usize>],
    ) -> Result<StepTokens, Fault> {
        let prompt = self.tokenizer.encode_prompt(prompt)?;
        let (tokens, ends) = self.tokenizer.encode_with_ends(response)?;
        Ok(StepTokens::new(&prompt, &tokens, &ends, steps, self.context()))
    }
}

impl RewardModel for EmbeddedRewardModel {
    fn version(&self) -> Arc<str> {
        Arc::clone(&self.version)
    }

    fn update(
        &mut self,
        update: &RewardUpdate<'_>,
        on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let examples = update.examples.iter().map(|example| {
            let tokens = self.step_tokens(&example.prompt, &example.response, &example.steps)?;
            Ok(tokens.labelled(&example.labels, update.every_token))
        });
        let examples: Vec<_> = examples.collect::<Result<_, Fault>>()?;
        let mut trainer = RewardTrainer::new(self.weights.clone(), self.optimizer, self.compute);
        let mut result = Ok(());
        for (step, batch) in (0..).zip(update.batches) {
            let batch: Vec<_> = batch.iter().map(|&index| &examples[index]).collect();
            let learning_rate = update.schedule.learning_rate(step);
            let taken = trainer.step(&batch, learning_rate);
            result = taken.map_err(|error| diverged(error, step)).and_then(|report| {
                on_step(TrainStep {
                    step,
                    loss: report.loss,
                    learning_rate,
                    gradient_norm: report.gradient_norm,
                    tokens: report.tokens,
                })
            });
            if result.is_err() {
                break;
            }
        }
        self.weights = trainer.finish();
        self.version = self.weights.fingerprint();
        result
    }

    fn step_scores(
        &mut self,
        requests: &[StepRequest<'_>],
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<f64>>, Fault> {
        // Equal responses to one prompt are scored once.
        let mut place_of: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut distinct: Vec<StepTokens> = Vec::new();
        let mut places = Vec::with_capacity(requests.len());
        for request in requests {
            let key = (request.prompt, request.response);
            let place = *place_of.entry(key).or_insert(distinct.len());
            if place == distinct.len() {
                let StepRequest { prompt, response, steps } = request;
                distinct.push(self.step_tokens(prompt, response, steps)?);
            }
            places.push(place);
        }
        let half = (self.compute.precision == Precision::Bf16).then(|| {
            let mut half = HalfWeights::default();
            self.weights.pack_half(&mut half);
            half
        });
        let total = requests.len() as u64;
        let mut scores = Vec::with_capacity(distinct.len());
        for wave in batches_of(&distinct).chunks(WAVE) {
            let found: Vec<Vec<Vec<f64>>> =
                wave.par_iter().map(|batch| self.score_batch(batch, half.as_ref())).collect();
            scores.extend(found.into_iter().flatten());
            let share = scores.len() as u64 * total / (distinct.len() as u64).max(1);
            tick(Progress { done: share, total })?;
        }
        // Of steps beyond the context nothing was read, so nothing is said of the response.
        for (one, scores) in distinct.iter().zip(&mut scores) {
            if one.is_cut() {
                scores.clear();
            }
        }
        Ok(places.into_iter().map(|place| scores[place].clone()).collect())
    }
}

impl EmbeddedRewardModel {
    fn score_batch(&self, batch: &[StepTokens], half: Option<&HalfWeights>) -> Vec<Vec<f64>> {
        let packed = PackedTokens::new(batch.iter().map(StepTokens::tokens));
        let mut activations = Activations::default();
        let transformer = self.weights.transformer().in_half(half).recomputing(true);
        let hidden = transformer.forward(&packed, &mut activations);
        if self.weights.head_kind() == RewardHead::Token {
            let (width, mut logits) = (transformer.width(), Vec::new());
            let score = |(one, sequence): (&StepTokens, &Range<usize>)| {
                let hidden = &hidden[sequence.start * width..sequence.end * width];
                token_head::step_scores(
                    &self.weights,
                    &transformer.head(),
                    one,
                    hidden,
                    &mut logits,
                )
            };
            return batch.iter().zip(packed.sequences()).map(score).collect();
        }
        let width = transformer.width();
        let score = |(one, sequence): (&StepTokens, &Range<usize>)| {
            let score = |&end: &usize| {
                let hidden = &hidden[(sequence.start + end) * width..][..width];
                f64::from(score_row(&self.weights, hidden))
            };
            one.step_ends().iter().map(score).collect()
        };
        batch.iter().zip(packed.sequences()).map(score).collect()
    }
}

/// The fault of a step, which names the model and its own setting.
fn diverged(error: TrainerError, step: u64) -> Fault {
    let mut fault = Fault::from(error);
    fault.message = format!("the reward model, at step {step}: {}", fault.message);
    match fault.class {
        FaultClass::Training => fault.hint(DIVERGED_HINT),
        _ => fault,
    }
}

/// What to do when the training of a reward model diverges.
const DIVERGED_HINT: &str = "lower `reward_model.learning_rate` or `optimizer.clip_norm`";

/// Tokens that are scored in one pass on one thread. A constant: scores must not depend on the
/// machine.
const BATCH_TOKENS: usize = 2048;

/// Passes between two signs of life.
const WAVE: usize = 32;

/// Neighbours in batches of about [`BATCH_TOKENS`].
fn batches_of(all: &[StepTokens]) -> Vec<&[StepTokens]> {
    let mut batches = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (index, one) in all.iter().enumerate() {
        tokens += one.tokens().len();
        if tokens >= BATCH_TOKENS {
            batches.push(&all[first..=index]);
            (first, tokens) = (index + 1, 0);
        }
    }
    if first < all.len() {
        batches.push(&all[first..]);
    }
    batches
}

#[cfg(test)]
mod tests;
