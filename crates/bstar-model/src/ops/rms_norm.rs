//! Root-mean-square normalisation: `y = x / rms(x) · w` over each row, rms(x) = √(mean x² + ε).
//!
//! Backward, with r = 1 / rms(x), n = width and g = dy · w:
//! dx = r · (g − x · r² · (g · x) / n), dw = Σ over rows of dy · x · r.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::vectors::{dot, dot3, vectorised};

vectorised! {
    /// Normalises each row of x `(rows, width)` and multiplies it by w `(width)`.
    pub(crate) fn rms_norm<'a>(x: &'a [f32], weight: &'a [f32], epsilon: f32, y: &'a mut [f32]) {
        let width = weight.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let inverse = inverse_rms(x, epsilon);
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * weight;
            }
        }
    }

    /// Adds dx to `grad_x` and dw to `grad_weight`.
    pub(crate) fn rms_norm_backward<'a>(
        x: &'a [f32],
        weight: &'a [f32],
        epsilon: f32,
        grad_y: &'a [f32],
        grad_x: &'a mut [f32],
        grad_weight: &'a mut [f32],
    ) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(grad_y.chunks_exact(width));
        for ((x, grad_y), grad_x) in rows.zip(grad_x.chunks_exact_mut(width)) {
            let inverse = inverse_rms(x, epsilon);
            let correction = inverse * inverse * dot3(grad_y, weight, x) / width as f32;
            let inputs = grad_y.iter().zip(weight).zip(x);
            for ((sum, weight_sum), ((grad_y, weight), x)) in
                grad_x.iter_mut().zip(grad_weight.iter_mut()).zip(inputs)
            {
                *sum += inverse * (grad_y * weight - x * correction);
                *weight_sum += grad_y * (x * inverse);
            }
        }
    }
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};

    #[test]
    fn gradients_are_right() {
        for width in [3, 16, 21] {
            check_gradients(
                &[draw(1, 4 * width), draw(2, width)],
                |inputs| {
                    let mut y = vec![f32::NAN; 4 * width];
                    rms_norm(&inputs[0], &inputs[1], 1e-5, &mut y);
                    y
                },
                |inputs, grad_y| {
                    let (mut grad_x, mut grad_weight) = (vec![0.0; 4 * width], vec![0.0; width]);
                    let (x, weight) = (&inputs[0], &inputs[1]);
                    rms_norm_backward(x, weight, 1e-5, grad_y, &mut grad_x, &mut grad_weight);
                    vec![grad_x, grad_weight]
                },
            );
        }
    }

    #[test]
    fn a_row_of_known_size_is_normalised() {
        let mut y = [0.0; 2];
        rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0, &mut y);
        let rms = 12.5_f32.sqrt();
        assert!((y[0] - 3.0 / rms).abs() < 1e-6 && (y[1] - 8.0 / rms).abs() < 1e-6, "{y:?}");
    }
}
