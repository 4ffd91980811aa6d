//! Training of a reward model: binary cross-entropy on the labelled tokens of a batch (spec §5).
//!
//! The mean is over labelled tokens of the whole batch. A batch is cut into parts and their gradients
//! are added as for a policy (`parts.rs`).

use super::token_head;
use super::tokens::LabelledTokens;
use super::weights::RewardWeights;
use crate::compute::{ComputeSettings, HalfWeights, Precision};
use crate::loss::{Workspace, packed_row};
use crate::optimizer::{AdamW, OptimizerSettings, gradient_norm};
use crate::parameters::ParameterGroup;
use crate::parts::{PartLimits, PartRoom, parts, sum_over_parts};
use crate::trainer::{StepReport, TrainerError};
use crate::transformer::{PackedTokens, Transformer};
use bstar_core::ports::RewardHead;

/// A reward model being trained.
pub(super) struct RewardTrainer {
    weights: RewardWeights,
    groups: Vec<ParameterGroup>,
    optimizer: AdamW,
    room: PartRoom,
    /// That of the last batch, in the order of the weights.
    gradient: Vec<f32>,
    compute: ComputeSettings,
    /// The weights for products in `bf16`, packed for the step at hand.
    half: HalfWeights,
}

impl RewardTrainer {
    pub(super) fn new(
        weights: RewardWeights,
        settings: OptimizerSettings,
        compute: ComputeSettings,
    ) -> Self {
        let (groups, optimizer) = (weights.groups(), weights.optimizer(settings));
        let (room, gradient, half) = (PartRoom::default(), Vec::new(), HalfWeights::default());
        Self { weights, groups, optimizer, room, gradient, compute, half }
    }

    /// The weights, when training is over.
    pub(super) fn finish(self) -> RewardWeights {
        self.weights
    }

    /// Takes one step on a batch; faults as those of [`crate::trainer::Trainer::step`].
    pub(super) fn step(
        &mut self,
        batch: &[&LabelledTokens],
        learning_rate: f64,
    ) -> Result<StepReport, TrainerError> {
        rayon::scope(|_| self.step_in_pool(batch, learning_rate))
    }

    fn step_in_pool(
        &mut self,
        batch: &[&LabelledTokens],
        learning_rate: f64,
    ) -> Result<StepReport, TrainerError> {
        let report = self.measure(batch)?;
        if !report.loss.is_finite() {
            return Err(TrainerError::Loss(report.loss));
        }
        if !report.gradient_norm.is_finite() {
            return Err(TrainerError::Gradient(report.gradient_norm));
        }
        let (flat, norm) = (self.weights.flat_mut(), report.gradient_norm);
        self.optimizer.step(flat, &self.gradient, norm, &self.groups, learning_rate);
        match self
            .weights
            .config()
            .first_not_finite(&self.weights.flat()[..self.weights.body_count()])
        {
            None => Ok(report),
            Some(name) => Err(TrainerError::Parameter(name)),
        }
    }

    /// Leaves the gradient of the batch in `gradient`.
    pub(super) fn measure(
        &mut self,
        batch: &[&LabelledTokens],
    ) -> Result<StepReport, TrainerError> {
        let tokens: usize = batch.iter().map(|example| example.labels().len()).sum();
        if tokens == 0 {
            return Err(TrainerError::Empty);
        }
        let scale = 1.0 / tokens as f32;
        let learned: Vec<_> =
            batch.iter().copied().filter(|example| !example.labels().is_empty()).collect();
        let ComputeSettings { precision, micro_batch_size, checkpoint_activations } = self.compute;
        let limits = PartLimits::new(self.weights.config(), micro_batch_size);
        let parts = parts(&learned, limits, |example| example.tokens().len());
        let weights = &self.weights;
        if precision == Precision::Bf16 {
            weights.pack_half(&mut self.half);
        }
        let transformer = weights
            .transformer()
            .in_half((precision == Precision::Bf16).then_some(&self.half))
            .recomputing(checkpoint_activations);
        let (room, gradient) = (&mut self.room, &mut self.gradient);
        let loss = sum_over_parts(&parts, limits, room, gradient, |part, workspace| match weights
            .head_kind()
        {
            RewardHead::Scalar => step_loss(weights, &transformer, part, scale, workspace),
            RewardHead::Token => token_head::loss(weights, &transformer, part, scale, workspace),
        });
        let gradient_norm = gradient_norm(&self.gradient);
        Ok(StepReport { loss, gradient_norm, tokens: tokens as u64 })
    }

    #[cfg(test)]
    pub(super) fn gradient(&self) -> &[f32] {
        &self.gradient
    }
}

/// The score of a hidden state.
pub(super) fn score_row(weights: &RewardWeights, hidden: &[f32]) -> f32 {
    weights.bias() + hidden.iter().zip(weights.head()).map(|(x, w)| x * w).sum::<f32>()
}

/// With a scalar head: the binary cross-entropy (nats) of all labelled tokens, summed and multiplied by
/// `scale`; its gradient is left in `workspace`.
fn step_loss(
    weights: &RewardWeights,
    transformer: &Transformer<'_>,
    examples: &[&LabelledTokens],
    scale: f32,
    workspace: &mut Workspace,
) -> f64 {
    let head = weights.head();
    let (width, body) = (head.len(), weights.body_count());
    let packed = PackedTokens::new(examples.iter().map(|example| example.tokens()));
    let (rows, labels) = labelled_rows(examples, &packed);
    let packed = packed.reading(rows);
    let Workspace { activations, grad_hidden, gradients, .. } = workspace;
    let hidden = transformer.forward(&packed, activations);
    grad_hidden.resize(hidden.len(), 0.0);
    gradients.resize(body + width + 1, 0.0);
    gradients[transformer.embedding_range()].fill(0.0);
    gradients[body..].fill(0.0);
    let (grad_head, grad_bias) = gradients[body..].split_at_mut(width);
    let mut loss = 0.0;
    let states = hidden.chunks_exact(width).zip(grad_hidden.chunks_exact_mut(width));
    for ((hidden, grad_hidden), label) in states.zip(labels) {
        let score = score_row(weights, hidden);
        // -label ln σ(s) - (1 - label) ln(1 - σ(s))
        let softplus = score.max(0.0) + (-score.abs()).exp().ln_1p();
        loss += f64::from(scale * (softplus - label * score));
        let slope = scale * (1.0 / (1.0 + (-score).exp()) - label);
        for (grad, x) in grad_head.iter_mut().zip(hidden) {
            *grad += slope * x;
        }
        grad_bias[0] += slope;
        for (grad, w) in grad_hidden.iter_mut().zip(head) {
            *grad = slope * w;
        }
    }
    transformer.backward(&packed, activations, grad_hidden, &mut gradients[..body]);
    loss
}

/// The packed rows that have a label, and their labels.
fn labelled_rows(examples: &[&LabelledTokens], packed: &PackedTokens) -> (Vec<u32>, Vec<f32>) {
    let rows = examples.iter().zip(packed.sequences()).flat_map(|(example, sequence)| {
        let row = move |token| packed_row(sequence.start + token);
        example.labels().iter().map(move |&(token, label)| (row(token), label))
    });
    rows.unzip()
}
