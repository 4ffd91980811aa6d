//! Rows of a matrix by index: the token embedding, and the positions whose hidden states are read.
//!
//! Forward: `y[i] = x[indices[i]]`. Backward: each row of the gradient is added to the row that it
//! came from, in the order of `indices`. Rows in ascending order can be taken, and their gradient be put
//! back, without a second buffer.

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

/// Of x `(rows, width)`, leaves these rows only; they are in ascending order.
///
/// # Panics
/// If an index is not below the number of rows.
pub(crate) fn keep_rows(indices: &[u32], width: usize, x: &mut Vec<f32>) {
    debug_assert!(indices.is_sorted_by(|a, b| a < b), "indices are strictly ascending");
    for (place, &index) in indices.iter().enumerate() {
        let from = index as usize * width;
        x.copy_within(from..from + width, place * width);
    }
    x.truncate(indices.len() * width);
}

/// The backward pass of [`keep_rows`]: puts each row in its place among `rows`, with zeros between them.
///
/// # Panics
/// If an index is not below the number of rows.
pub(crate) fn spread_rows(indices: &[u32], width: usize, rows: usize, grad: &mut Vec<f32>) {
    debug_assert!(indices.is_sorted_by(|a, b| a < b), "indices are strictly ascending");
    grad.resize(rows * width, 0.0);
    let mut end = rows;
    for (place, &index) in indices.iter().enumerate().rev() {
        let index = index as usize;
        grad.copy_within(place * width..(place + 1) * width, index * width);
        grad[(index + 1) * width..end * width].fill(0.0);
        end = index;
    }
    grad[..end * width].fill(0.0);
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

    #[test]
    fn rows_that_were_kept_go_back_to_their_places() {
        for indices in [&[0, 1, 2, 3, 4][..], &[1, 4], &[0, 2, 3], &[]] {
            let mut kept = draw(1, 5 * 3);
            let x = kept.clone();
            keep_rows(indices, 3, &mut kept);
            let mut expected = vec![f32::NAN; indices.len() * 3];
            gather_rows(&x, 3, indices, &mut expected);
            assert_eq!(kept, expected);
            let mut spread = kept.clone();
            spread_rows(indices, 3, 5, &mut spread);
            let mut expected = vec![0.0; 5 * 3];
            gather_rows_backward(&kept, 3, indices, &mut expected);
            assert_eq!(spread, expected);
        }
    }
}
