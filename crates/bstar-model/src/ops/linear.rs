//! `y = x · Wᵀ`: every matrix product of the transformer outside attention.
//!
//! Shapes: x `(rows, in)`, W `(out, in)`, y `(rows, out)`. Backward: dx = dy · W, dW = dyᵀ · x. In
//! `f32`, or with operands rounded to `bf16`; gradients are `f32` in either case.

use super::matmul::{Matrix, MatrixMut, Write, matmul};
use crate::compute::Precision;
use crate::product::kernel::Unit;
use crate::product::{Panels, Right, multiply};

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

/// The matrix of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight<'a> {
    /// `(out, in)`.
    pub(crate) numbers: &'a [f32],
    /// Its transpose in `bf16`, if products are in `bf16`.
    pub(crate) half: Option<&'a Panels>,
}

impl Linear {
    /// Writes or adds `x · Wᵀ`.
    pub(crate) fn forward(self, x: &[f32], weight: Weight<'_>, write: Write, y: &mut [f32]) {
        let Self { rows, inner, outer } = self;
        let (y, x) = (MatrixMut::new(y, rows, outer), Matrix::new(x, rows, inner));
        match weight.half {
            Some(half) => multiply(Unit::Best, y, write, x, Right::Packed(half)),
            None => matmul(y, write, x, Matrix::new(weight.numbers, outer, inner).transposed()),
        }
    }

    /// Writes dx.
    pub(crate) fn backward_input(self, grad_y: &[f32], weight: Weight<'_>, grad_x: &mut [f32]) {
        let Self { rows, inner, outer } = self;
        let precision = if weight.half.is_some() { Precision::Bf16 } else { Precision::F32 };
        product(
            precision,
            MatrixMut::new(grad_x, rows, inner),
            Matrix::new(grad_y, rows, outer),
            Matrix::new(weight.numbers, outer, inner),
        );
    }

    /// Writes dW.
    pub(crate) fn backward_weight(
        self,
        precision: Precision,
        grad_y: &[f32],
        x: &[f32],
        grad_weight: &mut [f32],
    ) {
        let Self { rows, inner, outer } = self;
        product(
            precision,
            MatrixMut::new(grad_weight, outer, inner),
            Matrix::new(grad_y, rows, outer).transposed(),
            Matrix::new(x, rows, inner),
        );
    }
}

fn product(precision: Precision, to: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>) {
    match precision {
        Precision::F32 => matmul(to, Write::Replace, left, right),
        Precision::Bf16 => {
            multiply(Unit::Best, to, Write::Replace, left, Right::Plain(right));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients_within, draw};

    /// Value and gradients of `1 + x Wᵀ`.
    fn check(precision: Precision, shape: Linear, tolerance: f64) {
        let Linear { rows, inner, outer } = shape;
        let pack = |weight: &[f32]| {
            let mut half = Panels::default();
            half.pack(Matrix::new(weight, outer, inner).transposed());
            (precision == Precision::Bf16).then_some(half)
        };
        check_gradients_within(
            tolerance,
            &[draw(1, rows * inner), draw(2, outer * inner)],
            |inputs| {
                let mut y = vec![1.0; rows * outer];
                let weight = Weight { numbers: &inputs[1], half: None };
                shape.forward(&inputs[0], weight, Write::Add, &mut y);
                y
            },
            |inputs, grad_y| {
                let (mut grad_x, mut grad_weight) =
                    (vec![9.0; rows * inner], vec![9.0; outer * inner]);
                let half = pack(&inputs[1]);
                let weight = Weight { numbers: &inputs[1], half: half.as_ref() };
                shape.backward_input(grad_y, weight, &mut grad_x);
                shape.backward_weight(precision, grad_y, &inputs[0], &mut grad_weight);
                vec![grad_x, grad_weight]
            },
        );
    }
    const SHAPE: Linear = Linear { rows: 5, inner: 4, outer: 3 };

    #[test]
    fn gradients_of_the_product_are_right() {
        check(Precision::F32, SHAPE, 2e-3);
    }

    #[test]
    fn gradients_in_half_precision_are_right_up_to_rounding() {
        // Each factor is rounded by at most 2^-9 of itself: a deviation of 0.0016 a term, and of 0.01 in
        // a sum of 37.
        check(Precision::Bf16, SHAPE, 0.02);
        check(Precision::Bf16, Linear { rows: 15, inner: 35, outer: 37 }, 0.06);
    }

    #[test]
    fn the_product_in_half_precision_is_that_of_rounded_numbers() {
        // Whole numbers up to 256 are bf16 numbers, and their sums exact in f32.
        let (x, weight) = ([1.0, -250.0, 3.0, 4.0], [2.0, 7.0, 100.0, 0.5]);
        let mut half = Panels::default();
        half.pack(Matrix::new(&weight, 2, 2).transposed());
        let mut y = [9.0; 4];
        let shape = Linear { rows: 2, inner: 2, outer: 2 };
        let weight = Weight { numbers: &weight, half: Some(&half) };
        shape.forward(&x, weight, Write::Replace, &mut y);
        assert_eq!(y, [-1748.0, -25.0, 34.0, 302.0]);
    }
}
