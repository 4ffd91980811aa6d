//! Causal grouped-query attention with rotary positions, over sequences packed one after another.
//!
//! Input `(tokens, (heads + 2 · kv_heads) · d)`: queries, keys and values of a token side by side,
//! as one product gives them. Output `(tokens, heads · d)`. A token sees itself and the tokens
//! before it in its own sequence, or the last of them where a layer has a window. Queries are taken
//! in tiles of rows, so that little above the diagonal or outside a window is computed and no more
//! than a tile of scores is held; the backward pass computes the probabilities again instead of
//! keeping them.
//!
//! With S = q kᵀ / √d (after turning), P = softmax(S), O = P v: dv = Pᵀ dO, dP = dO vᵀ,
//! dS = P ∘ (dP − rowsum(dO ∘ O)), dq = dS k / √d, dk = dSᵀ q / √d, then turned back.

use super::exponential::exp;
use super::matmul::{Matrix, MatrixMut, Write, matmul};
use super::rope::{RotaryTable, Turn};
use super::vectors::{LANES, dot, fold, largest, vectorised};
use crate::config::ModelConfig;
use std::ops::Range;

/// What attention needs to know beside its input.
pub(crate) struct Attention<'a> {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rotary: RotaryTable,
    /// The tokens of each sequence, in order and without gaps.
    sequences: &'a [Range<usize>],
}

impl<'a> Attention<'a> {
    /// Attention of a model over the given sequences.
    pub(crate) fn new(config: &ModelConfig, sequences: &'a [Range<usize>]) -> Self {
        Self {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            rotary: RotaryTable::new(config, longest(sequences)),
            sequences,
        }
    }

    /// Fills `output (tokens, heads · d)`. A token sees `window` tokens, itself included.
    pub(crate) fn forward(
        &self,
        window: usize,
        qkv: &[f32],
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        scratch.fit(self);
        for sequence in self.sequences {
            self.forward_sequence(sequence, window, qkv, output, scratch);
        }
    }

    /// Fills `grad_qkv`, the gradient of the input.
    pub(crate) fn backward(
        &self,
        window: usize,
        qkv: &[f32],
        output: &[f32],
        grad_output: &[f32],
        grad_qkv: &mut [f32],
        scratch: &mut Scratch,
    ) {
        scratch.fit(self);
        // Queries and keys are written; the heads of a group add to the values they share.
        grad_qkv.fill(0.0);
        for sequence in self.sequences {
            let inputs = (qkv, output, grad_output);
            self.backward_sequence(sequence, window, inputs, grad_qkv, scratch);
        }
    }
}

/// Rows of queries that are worked on at once.
const TILE: usize = 64;

/// Buffers for one head of one sequence, as long as the longest sequence.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    queries: Vec<f32>,
    keys: Vec<f32>,
    grad_queries: Vec<f32>,
    grad_keys: Vec<f32>,
    scores: Vec<f32>,
    grad_scores: Vec<f32>,
}

impl Scratch {
    fn fit(&mut self, attention: &Attention<'_>) {
        let longest = longest(attention.sequences);
        let (head, tile) = (longest * attention.head_dim, padded(longest) * TILE.min(longest));
        for buffer in
            [&mut self.queries, &mut self.keys, &mut self.grad_queries, &mut self.grad_keys]
        {
            buffer.resize(head, 0.0);
        }
        self.scores.resize(tile, 0.0);
        self.grad_scores.resize(tile, 0.0);
    }
}

impl Attention<'_> {
    fn forward_sequence(
        &self,
        sequence: &Range<usize>,
        window: usize,
        qkv: &[f32],
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (d, width, out_width) = (self.head_dim, self.packed_width(), self.query_width());
        let qkv = &qkv[sequence.start * width..sequence.end * width];
        let output = &mut output[sequence.start * out_width..sequence.end * out_width];
        for kv_head in 0..self.kv_heads {
            self.turn_head(qkv, self.key_column(kv_head), 1.0, &mut scratch.keys);
            let values = &qkv[self.value_column(kv_head)..];
            for head in self.query_heads(kv_head) {
                self.turn_head(qkv, head * d, self.scale(), &mut scratch.queries);
                for tile in tiles(sequence.len(), window) {
                    let Tile { rows, seen, .. } = &tile;
                    self.probabilities(&tile, scratch);
                    matmul(
                        MatrixMut::strided(
                            &mut output[rows.start * out_width + head * d..],
                            rows.len(),
                            d,
                            out_width,
                        ),
                        Write::Replace,
                        tile_of(&scratch.scores, rows.len(), seen.len()),
                        Matrix::strided(&values[seen.start * width..], seen.len(), d, width),
                    );
                }
            }
        }
    }

    fn backward_sequence(
        &self,
        sequence: &Range<usize>,
        window: usize,
        (qkv, output, grad_output): (&[f32], &[f32], &[f32]),
        grad_qkv: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (d, width, out_width) = (self.head_dim, self.packed_width(), self.query_width());
        let tokens = |width: usize| sequence.start * width..sequence.end * width;
        let (qkv, grad_qkv) = (&qkv[tokens(width)], &mut grad_qkv[tokens(width)]);
        let (output, grad_output) = (&output[tokens(out_width)], &grad_output[tokens(out_width)]);
        for kv_head in 0..self.kv_heads {
            self.turn_head(qkv, self.key_column(kv_head), 1.0, &mut scratch.keys);
            scratch.grad_keys.fill(0.0);
            let column = self.value_column(kv_head);
            for head in self.query_heads(kv_head) {
                self.turn_head(qkv, head * d, self.scale(), &mut scratch.queries);
                for tile in tiles(sequence.len(), window) {
                    let heads = (&output[head * d..], &grad_output[head * d..]);
                    let values = column + tile.seen.start * width;
                    self.probabilities(&tile, scratch);
                    self.backward_values(&tile, heads.1, &mut grad_qkv[values..], scratch);
                    self.backward_scores(&tile, &qkv[values..], heads, scratch);
                    self.backward_queries_and_keys(&tile, scratch);
                }
                self.turn_back_head(&scratch.grad_queries, self.scale(), head * d, grad_qkv);
            }
            self.turn_back_head(&scratch.grad_keys, 1.0, self.key_column(kv_head), grad_qkv);
        }
    }

    /// `scores (rows, seen)` = softmax of queries times keys, zero where a row sees nothing.
    fn probabilities(&self, tile: &Tile, scratch: &mut Scratch) {
        let (d, Tile { rows, seen, window }) = (self.head_dim, tile);
        matmul(
            MatrixMut::strided(&mut scratch.scores, rows.len(), seen.len(), padded(seen.len())),
            Write::Replace,
            Matrix::new(&scratch.queries[rows.start * d..], rows.len(), d),
            Matrix::new(&scratch.keys[seen.start * d..], seen.len(), d).transposed(),
        );
        softmax(rows.clone(), seen.clone(), *window, &mut scratch.scores);
    }

    /// Adds Pᵀ dO to the gradient of the values.
    fn backward_values(
        &self,
        Tile { rows, seen, .. }: &Tile,
        grad_output: &[f32],
        grad_values: &mut [f32],
        scratch: &Scratch,
    ) {
        let (d, width, out_width) = (self.head_dim, self.packed_width(), self.query_width());
        matmul(
            MatrixMut::strided(grad_values, seen.len(), d, width),
            Write::Add,
            tile_of(&scratch.scores, rows.len(), seen.len()).transposed(),
            Matrix::strided(&grad_output[rows.start * out_width..], rows.len(), d, out_width),
        );
    }

    /// `grad_scores (rows, seen)` = P ∘ (dO vᵀ − rowsum(dO ∘ O)).
    fn backward_scores(
        &self,
        Tile { rows, seen, .. }: &Tile,
        values: &[f32],
        (output, grad_output): (&[f32], &[f32]),
        scratch: &mut Scratch,
    ) {
        let (d, width, out_width) = (self.head_dim, self.packed_width(), self.query_width());
        let seen = seen.len();
        matmul(
            MatrixMut::strided(&mut scratch.grad_scores, rows.len(), seen, padded(seen)),
            Write::Replace,
            Matrix::strided(&grad_output[rows.start * out_width..], rows.len(), d, out_width),
            Matrix::strided(values, seen, d, width).transposed(),
        );
        let outputs = [output, grad_output]
            .map(|all| Matrix::strided(&all[rows.start * out_width..], rows.len(), d, out_width));
        softmax_backward(outputs, seen, &scratch.scores, &mut scratch.grad_scores);
    }

    /// dq = dS k for these rows; dk += dSᵀ q.
    fn backward_queries_and_keys(&self, tile: &Tile, scratch: &mut Scratch) {
        let (d, Tile { rows, seen, .. }) = (self.head_dim, tile);
        let grad_scores = tile_of(&scratch.grad_scores, rows.len(), seen.len());
        matmul(
            MatrixMut::new(&mut scratch.grad_queries[rows.start * d..], rows.len(), d),
            Write::Replace,
            grad_scores,
            Matrix::new(&scratch.keys[seen.start * d..], seen.len(), d),
        );
        matmul(
            MatrixMut::new(&mut scratch.grad_keys[seen.start * d..], seen.len(), d),
            Write::Add,
            grad_scores.transposed(),
            Matrix::new(&scratch.queries[rows.start * d..], rows.len(), d),
        );
    }

    /// Copies a head, turned by its positions: column `column` of packed rows to `(tokens, d)`.
    fn turn_head(&self, packed: &[f32], column: usize, scale: f32, to: &mut [f32]) {
        let d = self.head_dim;
        let from = (&packed[column..], self.packed_width());
        self.rotary.turn(Turn::Forward, scale, 0, from, (to, d));
    }

    /// The reverse of [`Self::turn_head`].
    fn turn_back_head(&self, from: &[f32], scale: f32, column: usize, packed: &mut [f32]) {
        let d = self.head_dim;
        let to = (&mut packed[column..], self.packed_width());
        self.rotary.turn(Turn::Back, scale, 0, (from, d), to);
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn packed_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    fn key_column(&self, kv_head: usize) -> usize {
        (self.heads + kv_head) * self.head_dim
    }

    fn value_column(&self, kv_head: usize) -> usize {
        (self.heads + self.kv_heads + kv_head) * self.head_dim
    }

    /// The query heads that look at a key-value head.
    fn query_heads(&self, kv_head: usize) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        kv_head * group..(kv_head + 1) * group
    }
}

fn longest(sequences: &[Range<usize>]) -> usize {
    sequences.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
}

/// Rows of queries with the keys that some of them see.
struct Tile {
    rows: Range<usize>,
    seen: Range<usize>,
    /// Tokens that a row sees, itself included.
    window: usize,
}

fn tiles(rows: usize, window: usize) -> impl Iterator<Item = Tile> {
    (0..rows).step_by(TILE).map(move |start| {
        let rows = start..rows.min(start + TILE);
        let seen = (start + 1).saturating_sub(window)..rows.end;
        Tile { rows, seen, window }
    })
}

/// Scores of a row take whole vectors, so that none is worked off number by number.
fn padded(seen: usize) -> usize {
    seen.next_multiple_of(LANES)
}

/// The scores of a tile without what they are padded with.
fn tile_of(scores: &[f32], rows: usize, seen: usize) -> Matrix<'_> {
    Matrix::strided(scores, rows, seen, padded(seen))
}

vectorised! {
    /// The softmax of what each row sees, and zero for the rest of `scores (rows, seen)`.
    fn softmax<'a>(rows: Range<usize>, seen: Range<usize>, window: usize, scores: &'a mut [f32]) {
        for (row, scores) in rows.zip(scores.chunks_exact_mut(padded(seen.len()))) {
            let (first, end) = ((row + 1).saturating_sub(window).max(seen.start), row + 1);
            let (first, end) = (first - seen.start, end - seen.start);
            // The vectors in which something is seen.
            let vectors = first / LANES..end.div_ceil(LANES);
            scores[vectors.start * LANES..first].fill(f32::NEG_INFINITY);
            scores[end..vectors.end * LANES].fill(f32::NEG_INFINITY);
            let visible = &mut scores.as_chunks_mut::<LANES>().0[vectors.clone()];
            let largest = largest(visible.as_flattened());
            let mut total = [0.0; LANES];
            for vector in visible.iter_mut() {
                for (score, total) in vector.iter_mut().zip(&mut total) {
                    *score = exp(*score - largest);
                    *total += *score;
                }
            }
            let inverse = 1.0 / fold(total);
            for vector in visible {
                for score in vector {
                    *score *= inverse;
                }
            }
            scores[..first].fill(0.0);
            scores[end..].fill(0.0);
        }
    }

    /// `grads (rows, seen)` becomes P ∘ (grads − rowsum(O ∘ dO)), given O and dO.
    fn softmax_backward<'a>(
        outputs: [Matrix<'a>; 2],
        seen: usize,
        probabilities: &'a [f32],
        grads: &'a mut [f32],
    ) {
        let [output, grad_output] = outputs;
        let rows = grads.chunks_exact_mut(padded(seen));
        let rows = rows.zip(probabilities.chunks_exact(padded(seen)));
        for (row, (grads, probabilities)) in rows.take(output.rows()).enumerate() {
            let mean = dot(output.line(row), grad_output.line(row));
            let vectors = grads.as_chunks_mut::<LANES>().0.iter_mut();
            for (grads, probabilities) in vectors.zip(probabilities.as_chunks::<LANES>().0) {
                for (grad, probability) in grads.iter_mut().zip(probabilities) {
                    *grad = probability * (*grad - mean);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};
    use crate::size::ModelSize;

    const FULL: usize = usize::MAX;

    fn config(heads: usize, kv_heads: usize) -> ModelConfig {
        let mut config = ModelSize::PICO.config(20, 256, 1);
        config.num_attention_heads = heads;
        config.num_key_value_heads = kv_heads;
        config.head_dim = 4;
        config
    }

    fn sequences(lengths: &[usize]) -> Vec<Range<usize>> {
        let mut end = 0;
        let sequence = |length| {
            end += length;
            end - length..end
        };
        lengths.iter().map(sequence).collect()
    }

    fn forward(attention: &Attention<'_>, window: usize, qkv: &[f32]) -> Vec<f32> {
        let tokens = qkv.len() / attention.packed_width();
        let mut output = vec![f32::NAN; tokens * attention.query_width()];
        attention.forward(window, qkv, &mut output, &mut Scratch::default());
        output
    }

    /// The definition, token by token.
    fn reference(attention: &Attention<'_>, window: usize, qkv: &[f32]) -> Vec<f32> {
        let (d, width) = (attention.head_dim, attention.packed_width());
        let mut output = Vec::new();
        for sequence in attention.sequences {
            for row in sequence.clone() {
                let first = (row + 1).saturating_sub(window).max(sequence.start);
                for head in 0..attention.heads {
                    let kv_head = head * attention.kv_heads / attention.heads;
                    let turned = |token: usize, column: usize| {
                        let mut turned = vec![0.0; d];
                        let from = &qkv[token * width + column..][..d];
                        let position = token - sequence.start;
                        attention.rotary.turn_at(Turn::Forward, position, 1.0, from, &mut turned);
                        turned
                    };
                    let query = turned(row, head * d);
                    let weights: Vec<f32> = (first..=row)
                        .map(|token| {
                            let key = turned(token, attention.key_column(kv_head));
                            (dot(&query, &key) * attention.scale()).exp()
                        })
                        .collect();
                    let total: f32 = weights.iter().sum();
                    for component in 0..d {
                        let column = attention.value_column(kv_head) + component;
                        let tokens = (first..=row).zip(&weights);
                        let sum: f32 =
                            tokens.map(|(token, w)| w * qkv[token * width + column]).sum();
                        output.push(sum / total);
                    }
                }
            }
        }
        output
    }

    fn check(heads: usize, kv_heads: usize, window: usize, lengths: &[usize]) {
        let sequences = sequences(lengths);
        let attention = Attention::new(&config(heads, kv_heads), &sequences);
        let qkv = draw(5, lengths.iter().sum::<usize>() * attention.packed_width());
        let found = forward(&attention, window, &qkv);
        let expected = reference(&attention, window, &qkv);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    }

    fn check_slopes(heads: usize, kv_heads: usize, window: usize, lengths: &[usize]) {
        let sequences = sequences(lengths);
        let attention = Attention::new(&config(heads, kv_heads), &sequences);
        check_gradients(
            &[draw(6, lengths.iter().sum::<usize>() * attention.packed_width())],
            |inputs| forward(&attention, window, &inputs[0]),
            |inputs, grad_output| {
                let output = forward(&attention, window, &inputs[0]);
                let mut grad = vec![f32::NAN; inputs[0].len()];
                let scratch = &mut Scratch::default();
                attention.backward(window, &inputs[0], &output, grad_output, &mut grad, scratch);
                vec![grad]
            },
        );
    }

    #[test]
    fn the_output_is_that_of_the_definition() {
        check(2, 2, FULL, &[5, 1, 7]);
        check(4, 2, FULL, &[6]);
        check(3, 1, FULL, &[130, 64, 65]);
        check(2, 1, 3, &[5, 1, 7]);
        check(2, 1, 40, &[200, 41]);
        check(2, 1, 70, &[140]);
    }

    #[test]
    fn gradients_are_right() {
        check_slopes(1, 1, FULL, &[3, 2]);
        check_slopes(2, 1, FULL, &[4, 1]);
        check_slopes(4, 2, FULL, &[2, 3]);
        check_slopes(2, 1, 2, &[5, 3]);
    }

    #[test]
    fn gradients_are_right_across_tiles() {
        check_slopes(1, 1, FULL, &[TILE + 5]);
        check_slopes(1, 1, 3, &[TILE + 5]);
    }

    #[test]
    fn a_token_sees_nothing_after_it_and_nothing_of_other_sequences() {
        let sequences = sequences(&[4, 3]);
        let attention = Attention::new(&config(2, 1), &sequences);
        let (width, out_width) = (attention.packed_width(), attention.query_width());
        let mut qkv = draw(8, 7 * width);
        let before = forward(&attention, FULL, &qkv);
        qkv[2 * width..3 * width].fill(9.0);
        let after = forward(&attention, FULL, &qkv);
        let rows = before.chunks_exact(out_width).zip(after.chunks_exact(out_width));
        let changed: Vec<usize> =
            rows.enumerate().filter(|(_, (b, a))| b != a).map(|(row, _)| row).collect();
        assert_eq!(changed, [2, 3]);
    }
}
