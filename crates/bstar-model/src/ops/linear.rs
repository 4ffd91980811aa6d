//! `y = x · Wᵀ`: every matrix product of the transformer outside attention.
//!
//! Shapes: x `(rows, in)`, W `(out, in)`, y `(rows, out)`. Backward: dx = dy · W, dW = dyᵀ · x.

use super::matmul::{Matrix, MatrixMut, Write, matmul};

/// The shape of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    /// Rows of x and y.
    pub(crate) rows: usize,
    /// Width of x.
    pub(crate) inner: usize,
    /// Width of y.
    pub(crate) outer: usize,
}

impl Linear {
    /// Writes or adds `x · Wᵀ`.
    pub(crate) fn forward(self, x: &[f32], weight: &[f32], write: Write, y: &mut [f32]) {
        let Self { rows, inner, outer } = self;
        matmul(
            MatrixMut::new(y, rows, outer),
            write,
            Matrix::new(x, rows, inner),
            Matrix::new(weight, outer, inner).transposed(),
        );
    }

    /// Writes dx.
    pub(crate) fn backward_input(self, grad_y: &[f32], weight: &[f32], grad_x: &mut [f32]) {
        let Self { rows, inner, outer } = self;
        matmul(
            MatrixMut::new(grad_x, rows, inner),
            Write::Replace,
            Matrix::new(grad_y, rows, outer),
            Matrix::new(weight, outer, inner),
        );
    }

    /// Writes dW.
    pub(crate) fn backward_weight(self, grad_y: &[f32], x: &[f32], grad_weight: &mut [f32]) {
        let Self { rows, inner, outer } = self;
        matmul(
            MatrixMut::new(grad_weight, outer, inner),
            Write::Replace,
            Matrix::new(grad_y, rows, outer).transposed(),
            Matrix::new(x, rows, inner),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};

    #[test]
    fn gradients_of_the_product_are_right() {
        let shape = Linear { rows: 5, inner: 4, outer: 3 };
        check_gradients(
            &[draw(1, 5 * 4), draw(2, 3 * 4)],
            |inputs| {
                let mut y = vec![1.0; 5 * 3];
                shape.forward(&inputs[0], &inputs[1], Write::Add, &mut y);
                y
            },
            |inputs, grad_y| {
                let (mut grad_x, mut grad_weight) = (vec![9.0; 5 * 4], vec![9.0; 3 * 4]);
                shape.backward_input(grad_y, &inputs[1], &mut grad_x);
                shape.backward_weight(grad_y, &inputs[0], &mut grad_weight);
                vec![grad_x, grad_weight]
            },
        );
    }
}
