//! The token head: a step is right as long as each of its tokens is, and the language-model head says
//! how right a token is.
//!
//! A token y with prefix p has the log-odds `z = l(y | p) − max over v of l(v | p) + bias`, where l are
//! the logits of the language-model head one position earlier: as right as the likeliest token, up to
//! one learned bias. A response is right up to token T with probability `Π over t ≤ T of σ(z_t)`, and
//! the score of a step is the log-odds of that product at the step's last token. So scores never rise
//! along a response, tokens that are equally likely are equally right, and the head begins with what
//! the policy knows already; training by binary cross-entropy goes from there. The idea of reading a
//! process reward off a language model's token probabilities is that of implicit rewards (arXiv
//! 2412.01981); the product, the margin and the labels are ours.

use super::tokens::{LabelledTokens, StepTokens};
use super::weights::RewardWeights;
use crate::loss::{Workspace, packed_row};
use crate::transformer::{Head, PackedTokens, Transformer};
use std::ops::Range;

/// Log-odds of a token that is the likeliest one, before training: right in 99.3 % of the cases.
pub(super) const FRESH_BIAS: f32 = 5.0;

/// The largest `P / (1 − P)` of a product P: keeps scores and slopes finite.
const MOST_ODDS: f64 = 1e6;

/// Below this logarithm a product and its odds are the same number.
const ALMOST_ZERO: f64 = -100.0;

/// The tokens of a response that have a position before them to be judged from.
fn judged(prompt_len: usize, tokens: usize) -> Range<usize> {
    prompt_len.max(1)..tokens
}

/// The log-odds of one token and the place of the likeliest one.
fn log_odds(logits: &[f32], token: u32, bias: f32) -> (f32, usize) {
    let mut best = 0;
    for (place, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = place;
        }
    }
    (logits[token as usize] - logits[best] + bias, best)
}

/// ln σ(z).
fn log_sigmoid(z: f64) -> f64 {
    -((-z.abs()).exp().ln_1p() + (-z).max(0.0))
}

/// `P / (1 − P)` for `log_product = ln P`.
fn odds(log_product: f64) -> f64 {
    (log_product.exp() / -log_product.exp_m1()).min(MOST_ODDS)
}

/// The log-odds of a product: finite, also where the product is 0 or 1 in an `f64`.
fn score(log_product: f64) -> f64 {
    if log_product < ALMOST_ZERO {
        log_product
    } else if log_product < 0.0 {
        odds(log_product).ln()
    } else {
        MOST_ODDS.ln()
    }
}

/// The scores of the steps of one response, from the hidden states `(tokens, width)` of all its
/// positions and the language-model head. `logits` is room.
pub(super) fn step_scores(
    weights: &RewardWeights,
    head: &Head<'_>,
    one: &StepTokens,
    hidden: &[f32],
    logits: &mut Vec<f32>,
) -> Vec<f64> {
    let (width, bias) = (weights.config().hidden_size, weights.bias());
    let judged = judged(one.prompt_len(), one.tokens().len());
    // ln P up to each token; nothing is known against what has nothing before it.
    let mut log_product = vec![0.0; one.tokens().len()];
    if !judged.is_empty() {
        head.forward(&hidden[(judged.start - 1) * width..(judged.end - 1) * width], logits);
        let mut sum = 0.0;
        for (token, logits) in judged.zip(logits.chunks_exact(weights.config().vocab_size)) {
            sum += log_sigmoid(f64::from(log_odds(logits, one.tokens()[token], bias).0));
            log_product[token] = sum;
        }
    }
    one.step_ends().iter().map(|&end| log_product.get(end).map_or(0.0, |p| score(*p))).collect()
}

/// The binary cross-entropy (nats) of all labelled tokens, summed and multiplied by `scale`; its
/// gradient is left in `workspace`.
pub(super) fn loss(
    weights: &RewardWeights,
    transformer: &Transformer<'_>,
    examples: &[&LabelledTokens],
    scale: f32,
    workspace: &mut Workspace,
) -> f64 {
    let (head, body) = (transformer.head(), weights.body_count());
    let vocabulary = weights.config().vocab_size;
    let packed = PackedTokens::new(examples.iter().map(|example| example.tokens()));
    let rows = judged_rows(examples, &packed);
    let packed = packed.reading(rows);
    let Workspace { activations, grad_hidden, logits, gradients } = workspace;
    let hidden = transformer.forward(&packed, activations);
    head.forward(hidden, logits);

    gradients.resize(body + 1, 0.0);
    gradients[transformer.embedding_range()].fill(0.0);
    let (mut sum, mut grad_bias, mut rest) = (0.0, 0.0, logits.as_mut_slice());
    for example in examples {
        let count = judged(example.prompt_len(), last_labelled(example)).len();
        let (own, after) = rest.split_at_mut(count * vocabulary);
        rest = after;
        let (loss, grad) = one_loss(example, own, vocabulary, weights.bias());
        sum += loss;
        grad_bias += grad;
    }
    for slope in logits.iter_mut() {
        *slope *= scale;
    }
    #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
    let grad_bias = grad_bias as f32;
    gradients[body] = grad_bias * scale;
    head.backward(hidden, logits, grad_hidden, &mut gradients[..body]);
    transformer.backward(&packed, activations, grad_hidden, &mut gradients[..body]);
    sum * f64::from(scale)
}

/// The loss of one response and the slope of the bias. `logits` of its judged tokens, `(tokens,
/// vocabulary)`, become their slopes.
fn one_loss(
    example: &LabelledTokens,
    logits: &mut [f32],
    vocabulary: usize,
    bias: f32,
) -> (f64, f64) {
    let judged = judged(example.prompt_len(), last_labelled(example));
    let found: Vec<(f32, usize)> = judged
        .clone()
        .zip(logits.chunks_exact(vocabulary))
        .map(|(token, logits)| log_odds(logits, example.tokens()[token], bias))
        .collect();
    let mut labels = example.labels().iter().peekable();
    let (mut loss, mut log_product) = (0.0, 0.0);
    // The slope of the loss in ln P at each token.
    let mut slopes = vec![0.0; found.len()];
    for (place, &(z, _)) in found.iter().enumerate() {
        log_product += log_sigmoid(f64::from(z));
        while let Some(&&(token, label)) = labels.peek() {
            if token > judged.start + place {
                break;
            }
            labels.next();
            if token < judged.start + place {
                continue;
            }
            let (label, odds) = (f64::from(label), odds(log_product));
            loss += -label * log_product + (1.0 - label) * odds.ln_1p();
            slopes[place] += (1.0 - label) * odds - label;
        }
    }
    let (mut slope, mut grad_bias) = (0.0, 0.0);
    for (place, logits) in logits.chunks_exact_mut(vocabulary).enumerate().rev() {
        slope += slopes[place];
        let (z, best) = found[place];
        let grad = slope / (1.0 + f64::from(z).exp());
        grad_bias += grad;
        logits.fill(0.0);
        #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
        let grad = grad as f32;
        logits[example.tokens()[judged.start + place] as usize] += grad;
        logits[best] -= grad;
    }
    (loss, grad_bias)
}

/// The packed rows from which the tokens up to the last label are judged.
fn judged_rows(examples: &[&LabelledTokens], packed: &PackedTokens) -> Vec<u32> {
    let rows = examples.iter().zip(packed.sequences()).flat_map(|(example, sequence)| {
        let judged = judged(example.prompt_len(), last_labelled(example));
        judged.map(move |token| packed_row(sequence.start + token - 1))
    });
    rows.collect()
}

/// One more than the last token with a label.
fn last_labelled(example: &LabelledTokens) -> usize {
    example.labels().last().map_or(0, |(token, _)| token + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_finite_however_sure_the_head_is() {
        for log_product in [-1e300, -2000.0, -746.0, -700.0, ALMOST_ZERO, -1.0, -1e-300, 0.0] {
            assert!(score(log_product).is_finite(), "{log_product}");
        }
        assert!((score(0.5_f64.ln())).abs() < 1e-12);
        let [above, below] = [1e-9, -1e-9].map(|step| score(ALMOST_ZERO + step));
        assert!(below < above && above - below < 1e-8, "{below} {above}");
    }
}
