//! Rows of a matrix by index: the token embedding, and the positions that the loss is taken at.
//!
//! Forward: `y[i] = x[indices[i]]`. Backward: each row of the gradient is added to the row that it
//! came from, in the order of `indices`.

/// Rows of x `(rows, width)` one after another.
///
/// # Panics
/// If an index is not below the number of rows.
pub(crate) fn gather_rows(x: &[f32], width: usize, indices: &[u32], y: &mut [f32]) {
    for (y, &index) in y.chunks_exact_mut(width).zip(indices) {
        y.copy_from_slice(&x[index as usize * width..][..width]);
    }
}

/// Adds the rows of `grad_y` to those rows of `grad_x` that they were taken from.
pub(crate) fn gather_rows_backward(
    grad_y: &[f32],
    width: usize,
    indices: &[u32],
    grad_x: &mut [f32],
) {
    for (grad_y, &index) in grad_y.chunks_exact(width).zip(indices) {
        let row = &mut grad_x[index as usize * width..][..width];
        row.iter_mut().zip(grad_y).for_each(|(sum, grad)| *sum += grad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};

    #[test]
    fn gradients_of_repeated_rows_add_up() {
        let indices = [2, 0, 2, 3, 2];
        check_gradients(
            &[draw(1, 4 * 3)],
            |inputs| {
                let mut y = vec![f32::NAN; 5 * 3];
                gather_rows(&inputs[0], 3, &indices, &mut y);
                y
            },
            |_, grad_y| {
                let mut grad_x = vec![0.0; 4 * 3];
                gather_rows_backward(grad_y, 3, &indices, &mut grad_x);
                vec![grad_x]
            },
        );
    }
}
