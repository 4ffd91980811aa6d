//! A bias on every row: `y = x + b`; backward db = the sum of the rows of dy.

/// Fills each row of y `(rows, width)` with the bias `(width)`, for a product to add to.
pub(crate) fn fill_rows(bias: &[f32], y: &mut [f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
}

/// Writes db.
pub(crate) fn bias_backward(grad_y: &[f32], grad_bias: &mut [f32]) {
    grad_bias.fill(0.0);
    for row in grad_y.chunks_exact(grad_bias.len()) {
        for (sum, grad) in grad_bias.iter_mut().zip(row) {
            *sum += grad;
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
            &[draw(1, 3)],
            |inputs| {
                let mut y = vec![f32::NAN; 4 * 3];
                fill_rows(&inputs[0], &mut y);
                y
            },
            |_, grad_y| {
                let mut grad = vec![f32::NAN; 3];
                bias_backward(grad_y, &mut grad);
                vec![grad]
            },
        );
    }
}
