//! The gated activation of the feed-forward block: `y = silu(gate) · up`, silu(x) = x · σ(x).
//!
//! Gate and up come as the two halves of each row, as one product gives them. Backward:
//! dup = dy · silu(gate), dgate = dy · up · σ(gate) · (1 + gate · (1 − σ(gate))).

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::exponential::sigmoid;
use super::vectors::{Elementwise, elementwise, vectorised};

struct Forward;

impl Elementwise<2, 1> for Forward {
    #[inline(always)]
    fn at(&self, [gate, up]: [f32; 2], _: [f32; 1]) -> [f32; 1] {
        [gate * sigmoid(gate) * up]
    }
}

struct Backward;

impl Elementwise<3, 2> for Backward {
    #[inline(always)]
    fn at(&self, [gate, up, grad_y]: [f32; 3], _: [f32; 2]) -> [f32; 2] {
        let open = sigmoid(gate);
        [grad_y * up * open * (1.0 + gate * (1.0 - open)), grad_y * gate * open]
    }
}

vectorised! {
    /// `(rows, 2 · inner)` to `(rows, inner)`.
    pub(crate) fn swiglu<'a>(gate_up: &'a [f32], inner: usize, y: &'a mut [f32]) {
        for (gate_up, y) in gate_up.chunks_exact(2 * inner).zip(y.chunks_exact_mut(inner)) {
            let (gate, up) = gate_up.split_at(inner);
            elementwise(&Forward, [gate, up], [y]);
        }
    }

    /// Writes the gradient of `gate_up`.
    pub(crate) fn swiglu_backward<'a>(
        gate_up: &'a [f32],
        inner: usize,
        grad_y: &'a [f32],
        grad: &'a mut [f32],
    ) {
        let rows = gate_up.chunks_exact(2 * inner).zip(grad_y.chunks_exact(inner));
        for ((gate_up, grad_y), grad) in rows.zip(grad.chunks_exact_mut(2 * inner)) {
            let (gate, up) = gate_up.split_at(inner);
            let (grad_gate, grad_up) = grad.split_at_mut(inner);
            elementwise(&Backward, [gate, up, grad_y], [grad_gate, grad_up]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};

    #[test]
    fn gradients_are_right() {
        check_gradients(
            &[draw(1, 3 * 14)],
            |inputs| {
                let mut y = vec![f32::NAN; 3 * 7];
                swiglu(&inputs[0], 7, &mut y);
                y
            },
            |inputs, grad_y| {
                let mut grad = vec![f32::NAN; 3 * 14];
                swiglu_backward(&inputs[0], 7, grad_y, &mut grad);
                vec![grad]
            },
        );
    }

    #[test]
    fn a_closed_gate_lets_nothing_through() {
        let mut y = [1.0; 2];
        swiglu(&[-80.0, 0.0, 5.0, 7.0], 2, &mut y);
        assert!(y[0].abs() < 1e-30 && y[1] == 0.0, "{y:?}");
    }
}
