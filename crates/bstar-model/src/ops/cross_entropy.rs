//! Cross-entropy of rows of logits against one target each, summed and scaled.
//!
//! Loss: `scale · Σ over rows of (log Σ exp(logits) − logits[target])`, in nats. Gradient:
//! `scale · (softmax(logits) − onehot(target))`. The scale makes a mean over a batch of which these
//! rows are a part.

use super::exponential::exp;
use super::vectors::{largest, sum, vectorised};

vectorised! {
    /// Returns the loss and replaces logits `(rows, vocabulary)` by their gradient.
    ///
    /// # Panics
    /// If a target is not below the vocabulary.
    pub(crate) fn cross_entropy<'a>(
        logits: &'a mut [f32],
        targets: &'a [u32],
        scale: f32,
    ) -> f64 {
        let vocabulary = logits.len() / targets.len().max(1);
        let mut loss = 0.0_f64;
        for (logits, &target) in logits.chunks_exact_mut(vocabulary.max(1)).zip(targets) {
            let chosen = logits[target as usize];
            let largest = largest(logits);
            for logit in logits.iter_mut() {
                *logit = exp(*logit - largest);
            }
            let total = sum(logits);
            loss += f64::from(total.ln() + (largest - chosen));
            let factor = scale / total;
            for power in logits.iter_mut() {
                *power *= factor;
            }
            logits[target as usize] -= scale;
        }
        loss * f64::from(scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};

    #[test]
    fn gradients_are_right() {
        let targets = [1, 5, 0, 1];
        check_gradients(
            &[draw(1, 4 * 6)],
            |inputs| {
                let loss = cross_entropy(&mut inputs[0].clone(), &targets, 0.7);
                #[expect(clippy::cast_possible_truncation, reason = "outputs are f32")]
                let loss = loss as f32;
                vec![loss]
            },
            |inputs, grad_loss| {
                let mut grad = inputs[0].clone();
                cross_entropy(&mut grad, &targets, 0.7);
                vec![grad.iter().map(|grad| grad * grad_loss[0]).collect()]
            },
        );
    }

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_vocabulary() {
        let loss = cross_entropy(&mut [3.0; 10], &[0, 4], 0.5);
        assert!((loss - 5_f64.ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn huge_logits_do_not_overflow_and_nan_is_not_hidden() {
        let loss = |mut row: [f32; 3]| cross_entropy(&mut row, &[1], 1.0);
        assert_eq!(loss([-1e30, 1e30, 0.0]), 0.0);
        assert!(loss([f32::NAN, 1.0, 2.0]).is_nan());
        assert!(!loss([f32::INFINITY, 1.0, 2.0]).is_finite());
    }
}
