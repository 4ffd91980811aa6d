//! RMS norm of each query and key head, between product and rotation.
//!
//! Rows are queries, keys and values of a token side by side; values pass unchanged. All query heads
//! share one weight `(head_dim)`, all key heads another.

use super::rms_norm::{rms_norm, rms_norm_backward};

/// The shape of a row and the epsilon of the norms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadNorms {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key-value heads.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Added to the mean square before its root.
    pub(crate) epsilon: f32,
}

/// The weights of query and key norm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadWeights<'a>(pub(crate) [&'a [f32]; 2]);

impl HeadNorms {
    /// From x to y, both `(tokens, (heads + 2 kv_heads) head_dim)`; y already holds the values.
    pub(crate) fn forward(self, x: &[f32], weights: HeadWeights<'_>, y: &mut [f32]) {
        let (queries, keys, width) = self.columns();
        let HeadWeights([query, key]) = weights;
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            rms_norm(&x[..queries], query, self.epsilon, &mut y[..queries]);
            rms_norm(&x[queries..keys], key, self.epsilon, &mut y[queries..keys]);
        }
    }

    /// Turns `grad` from the gradient of y into that of x, and writes the gradients of the weights,
    /// those of the query norm first.
    pub(crate) fn backward(
        self,
        x: &[f32],
        weights: HeadWeights<'_>,
        grad: &mut [f32],
        grad_weights: &mut [f32],
    ) {
        let (queries, keys, width) = self.columns();
        let mut grad_y = vec![0.0; keys];
        grad_weights.fill(0.0);
        let (grad_query, grad_key) = grad_weights.split_at_mut(self.head_dim);
        for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            grad_y.copy_from_slice(&grad[..keys]);
            grad[..keys].fill(0.0);
            for (columns, weight, grad_weight) in [
                (0..queries, weights.0[0], &mut *grad_query),
                (queries..keys, weights.0[1], &mut *grad_key),
            ] {
                let (x, grad_y) = (&x[columns.clone()], &grad_y[columns.clone()]);
                let grad_x = &mut grad[columns];
                rms_norm_backward(x, weight, self.epsilon, grad_y, grad_x, grad_weight);
            }
        }
    }

    /// Where queries and keys end in a row, and its width.
    fn columns(self) -> (usize, usize, usize) {
        let queries = self.heads * self.head_dim;
        let keys = queries + self.kv_heads * self.head_dim;
        (queries, keys, keys + self.kv_heads * self.head_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};

    #[test]
    fn gradients_are_right() {
        let norms = HeadNorms { heads: 4, kv_heads: 2, head_dim: 4, epsilon: 1e-5 };
        check_gradients(
            &[draw(1, 3 * 32), draw(2, 4), draw(3, 4)],
            |inputs| {
                let mut y = inputs[0].clone();
                let weights = HeadWeights([&inputs[1], &inputs[2]]);
                norms.forward(&inputs[0], weights, &mut y);
                y
            },
            |inputs, grad_y| {
                let mut grad = grad_y.to_vec();
                let mut grad_weights = vec![f32::NAN; 8];
                let weights = HeadWeights([&inputs[1], &inputs[2]]);
                norms.backward(&inputs[0], weights, &mut grad, &mut grad_weights);
                vec![grad, grad_weights[..4].to_vec(), grad_weights[4..].to_vec()]
            },
        );
    }
}
