//! Causal grouped-query attention with rotary positions, over sequences packed one after another.
//!
//! Input `(tokens, (heads + 2 · kv_heads) · d)`: queries, keys and values of a token side by side,
//! as one product gives them. Output `(tokens, heads · d)`. A token sees itself and the tokens
//! before it in its own sequence, or the last of them where a layer has a window. Queries are taken
//! in tiles, so that little above the diagonal or outside a window is computed and no more
//! than a tile of scores is held; the backward pass computes the probabilities again instead of
//! keeping them. Scores are held key by key, a number for each query of the tile: a softmax is then the
//! same operation on all queries, and no sum goes across a vector.
//!
//! With S = q kᵀ / √d (after turning), P = softmax(S), O = P v: dv = Pᵀ dO, dP = dO vᵀ,
//! dS = P ∘ (dP − rowsum(P ∘ dP)), dq = dS k / √d, dk = dSᵀ q / √d, then turned back.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::exponential::exp_vector;
use super::matmul::{Matrix, MatrixMut, Write};
use super::rope::{RotaryTable, Turn};
use super::tile_product::tile_product;
use crate::config::ModelConfig;
use pulp::{Arch, Simd, WithSimd};
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
        grad_output: &[f32],
        grad_qkv: &mut [f32],
        scratch: &mut Scratch,
    ) {
        scratch.fit(self);
        // Queries and keys are written; the heads of a group add to the values they share.
        grad_qkv.fill(0.0);
        for sequence in self.sequences {
            self.backward_sequence(sequence, window, qkv, grad_output, grad_qkv, scratch);
        }
    }
}

/// Queries that are worked on at once: a vector of the widest machines.
const TILE: usize = 16;

/// Buffers for one head of one sequence, as long as the longest sequence.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    queries: Vec<f32>,
    keys: Vec<f32>,
    grad_queries: Vec<f32>,
    grad_keys: Vec<f32>,
    /// `(d, TILE)`: queries, or gradients of their outputs, feature by feature.
    features: Vec<f32>,
    /// `(seen, TILE)`: Sᵀ, then Pᵀ.
    scores: Vec<f32>,
    /// `(seen, TILE)`: dPᵀ, then dSᵀ.
    grad_scores: Vec<f32>,
}

impl Scratch {
    fn fit(&mut self, attention: &Attention<'_>) {
        let (longest, d) = (longest(attention.sequences), attention.head_dim);
        for buffer in
            [&mut self.queries, &mut self.keys, &mut self.grad_queries, &mut self.grad_keys]
        {
            buffer.resize(longest * d, 0.0);
        }
        self.features.resize(d * TILE, 0.0);
        self.scores.resize(longest * TILE, 0.0);
        self.grad_scores.resize(longest * TILE, 0.0);
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
                    self.probabilities(&tile, scratch);
                    let output = &mut output[tile.rows.start * out_width + head * d..];
                    tile_product(
                        MatrixMut::strided(output, tile.rows.len(), d, out_width),
                        Write::Replace,
                        tile.matrix(&scratch.scores).transposed(),
                        tile.keys(values, d, width),
                    );
                }
            }
        }
    }

    fn backward_sequence(
        &self,
        sequence: &Range<usize>,
        window: usize,
        qkv: &[f32],
        grad_output: &[f32],
        grad_qkv: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (d, width, out_width) = (self.head_dim, self.packed_width(), self.query_width());
        let tokens = |width: usize| sequence.start * width..sequence.end * width;
        let (qkv, grad_qkv) = (&qkv[tokens(width)], &mut grad_qkv[tokens(width)]);
        let grad_output = &grad_output[tokens(out_width)];
        for kv_head in 0..self.kv_heads {
            self.turn_head(qkv, self.key_column(kv_head), 1.0, &mut scratch.keys);
            scratch.grad_keys.fill(0.0);
            let column = self.value_column(kv_head);
            for head in self.query_heads(kv_head) {
                self.turn_head(qkv, head * d, self.scale(), &mut scratch.queries);
                for tile in tiles(sequence.len(), window) {
                    let grad_output = Matrix::strided(
                        &grad_output[tile.rows.start * out_width + head * d..],
                        tile.rows.len(),
                        d,
                        out_width,
                    );
                    self.probabilities(&tile, scratch);
                    self.backward_values(&tile, grad_output, &mut grad_qkv[column..], scratch);
                    self.backward_scores(&tile, &qkv[column..], grad_output, scratch);
                    self.backward_queries_and_keys(&tile, scratch);
                }
                self.turn_back_head(&scratch.grad_queries, self.scale(), head * d, grad_qkv);
            }
            self.turn_back_head(&scratch.grad_keys, 1.0, self.key_column(kv_head), grad_qkv);
        }
    }

    /// `scores` = Pᵀ, zero where a query does not see a key.
    fn probabilities(&self, tile: &Tile, scratch: &mut Scratch) {
        let (d, rows) = (self.head_dim, tile.rows.len());
        let Scratch { queries, keys, features, scores, .. } = scratch;
        by_features(Matrix::new(&queries[tile.rows.start * d..], rows, d), features);
        tile.product(scores, tile.keys(keys, d, d), features);
        Arch::new().dispatch(Softmax { tile, scores });
    }

    /// Adds Pᵀ dO to the gradient of the values.
    fn backward_values(
        &self,
        tile: &Tile,
        grad_output: Matrix<'_>,
        grad_values: &mut [f32],
        scratch: &Scratch,
    ) {
        let (d, width, seen) = (self.head_dim, self.packed_width(), &tile.seen);
        tile_product(
            MatrixMut::strided(&mut grad_values[seen.start * width..], seen.len(), d, width),
            Write::Add,
            tile.matrix(&scratch.scores),
            grad_output,
        );
    }

    /// `grad_scores` = Pᵀ ∘ (v dOᵀ − rowsum(P ∘ dP)).
    fn backward_scores(
        &self,
        tile: &Tile,
        values: &[f32],
        grad_output: Matrix<'_>,
        scratch: &mut Scratch,
    ) {
        let Scratch { features, scores, grad_scores, .. } = scratch;
        by_features(grad_output, features);
        tile.product(grad_scores, tile.keys(values, self.head_dim, self.packed_width()), features);
        let size = tile.seen.len() * TILE;
        let (probabilities, grads) = (&scores[..size], &mut grad_scores[..size]);
        Arch::new().dispatch(SoftmaxBackward { probabilities, grads });
    }

    /// dq = dS k for these queries; dk += dSᵀ q.
    fn backward_queries_and_keys(&self, tile: &Tile, scratch: &mut Scratch) {
        let (d, Tile { rows, seen, .. }) = (self.head_dim, tile);
        let grad_scores = tile.matrix(&scratch.grad_scores);
        tile_product(
            MatrixMut::new(&mut scratch.grad_queries[rows.start * d..], rows.len(), d),
            Write::Replace,
            grad_scores.transposed(),
            tile.keys(&scratch.keys, d, d),
        );
        tile_product(
            MatrixMut::new(&mut scratch.grad_keys[seen.start * d..], seen.len(), d),
            Write::Add,
            grad_scores,
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

/// Queries with the keys that some of them see.
struct Tile {
    rows: Range<usize>,
    seen: Range<usize>,
    /// Tokens that a query sees, itself included.
    window: usize,
}

impl Tile {
    /// `(seen, rows)` of what is held key by key.
    fn matrix<'a>(&self, scores: &'a [f32]) -> Matrix<'a> {
        Matrix::strided(scores, self.seen.len(), self.rows.len(), TILE)
    }

    /// `(seen, d)` of the keys or values of a sequence.
    fn keys<'a>(&self, keys: &'a [f32], d: usize, stride: usize) -> Matrix<'a> {
        Matrix::strided(&keys[self.seen.start * stride..], self.seen.len(), d, stride)
    }

    /// `scores (seen, TILE)` = keys times features.
    fn product(&self, scores: &mut [f32], keys: Matrix<'_>, features: &[f32]) {
        let scores = MatrixMut::new(scores, self.seen.len(), TILE);
        tile_product(scores, Write::Replace, keys, Matrix::new(features, keys.cols(), TILE));
    }

    /// Whether a query sees a key.
    #[inline(always)]
    fn sees(&self, row: usize, key: usize) -> bool {
        key <= row && row - key < self.window
    }

    /// Whether all queries see a key.
    #[inline(always)]
    fn all_see(&self, key: usize) -> bool {
        self.sees(self.rows.start, key) && self.sees(self.rows.end - 1, key)
    }
}

fn tiles(rows: usize, window: usize) -> impl Iterator<Item = Tile> {
    (0..rows).step_by(TILE).map(move |start| {
        let rows = start..rows.min(start + TILE);
        let seen = (start + 1).saturating_sub(window)..rows.end;
        Tile { rows, seen, window }
    })
}

/// Rows `(at most TILE, d)` as `features (d, TILE)`, with zeros for the rows that are not there.
fn by_features(rows: Matrix<'_>, features: &mut [f32]) {
    if rows.rows() < TILE {
        features.fill(0.0);
    }
    for row in 0..rows.rows() {
        for (feature, number) in features.as_chunks_mut::<TILE>().0.iter_mut().zip(rows.line(row)) {
            feature[row] = *number;
        }
    }
}

/// Scores `(seen, TILE)` become the softmax over the keys that a query sees, and zero for others.
struct Softmax<'a> {
    tile: &'a Tile,
    scores: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tile, scores } = self;
        let vectors = S::as_mut_simd_f32s(&mut scores[..tile.seen.len() * TILE]).0;
        let in_tile = TILE / S::F32_LANES;
        for place in 0..in_tile {
            let mut rows = [0.0; TILE];
            for (lane, row) in rows[..S::F32_LANES].iter_mut().enumerate() {
                *row = (tile.rows.start + place * S::F32_LANES + lane) as f32;
            }
            let rows = S::as_simd_f32s(&rows).0[0];
            // Its weight is an exact zero. Every query sees itself, so none has nothing else; where a
            // tile has no query, what becomes of it is not read.
            let unseen = simd.splat_f32s(f32::NEG_INFINITY);
            let mut largest = unseen;
            for (key, scores) in tile.seen.clone().zip(vectors.chunks_exact_mut(in_tile)) {
                let score = &mut scores[place];
                if !tile.all_see(key) {
                    let behind = simd.sub_f32s(rows, simd.splat_f32s(key as f32));
                    let window = simd.splat_f32s(tile.window as f32);
                    let seen =
                        simd.select_f32s(simd.less_than_f32s(behind, window), *score, unseen);
                    let ahead = simd.less_than_f32s(behind, simd.splat_f32s(0.0));
                    *score = simd.select_f32s(ahead, unseen, seen);
                }
                largest =
                    simd.select_f32s(simd.greater_than_f32s(*score, largest), *score, largest);
            }
            let mut total = simd.splat_f32s(0.0);
            for scores in vectors.chunks_exact_mut(in_tile) {
                let weight = exp_vector(simd, simd.sub_f32s(scores[place], largest));
                scores[place] = weight;
                total = simd.add_f32s(total, weight);
            }
            let inverse = simd.div_f32s(simd.splat_f32s(1.0), total);
            for scores in vectors.chunks_exact_mut(in_tile) {
                scores[place] = simd.mul_f32s(scores[place], inverse);
            }
        }
    }
}

/// `grads (seen, TILE)` become P ∘ (grads − rowsum(P ∘ grads)).
struct SoftmaxBackward<'a> {
    probabilities: &'a [f32],
    grads: &'a mut [f32],
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let probabilities = S::as_simd_f32s(self.probabilities).0;
        let grads = S::as_mut_simd_f32s(self.grads).0;
        let in_tile = TILE / S::F32_LANES;
        for place in 0..in_tile {
            let mut mean = simd.splat_f32s(0.0);
            let keys = grads.chunks_exact(in_tile).zip(probabilities.chunks_exact(in_tile));
            for (grads, probabilities) in keys {
                mean = simd.mul_add_f32s(probabilities[place], grads[place], mean);
            }
            let keys = grads.chunks_exact_mut(in_tile).zip(probabilities.chunks_exact(in_tile));
            for (grads, probabilities) in keys {
                let less = simd.sub_f32s(grads[place], mean);
                grads[place] = simd.mul_f32s(probabilities[place], less);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::{check_gradients, draw};
    use crate::ops::vectors::dot;
    use crate::size::ModelSize;

    const FULL: usize = usize::MAX;

    fn config([heads, kv_heads]: [usize; 2], head_dim: usize) -> ModelConfig {
        let mut config = ModelSize::PICO.config(20, 256, 1);
        config.num_attention_heads = heads;
        config.num_key_value_heads = kv_heads;
        config.head_dim = head_dim;
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

    fn check(heads: [usize; 2], head_dim: usize, window: usize, lengths: &[usize]) {
        let sequences = sequences(lengths);
        let attention = Attention::new(&config(heads, head_dim), &sequences);
        let qkv = draw(5, lengths.iter().sum::<usize>() * attention.packed_width());
        let found = forward(&attention, window, &qkv);
        let expected = reference(&attention, window, &qkv);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    }

    fn check_slopes(heads: [usize; 2], window: usize, lengths: &[usize]) {
        let sequences = sequences(lengths);
        let attention = Attention::new(&config(heads, 4), &sequences);
        check_gradients(
            &[draw(6, lengths.iter().sum::<usize>() * attention.packed_width())],
            |inputs| forward(&attention, window, &inputs[0]),
            |inputs, grad_output| {
                let mut grad = vec![f32::NAN; inputs[0].len()];
                let scratch = &mut Scratch::default();
                attention.backward(window, &inputs[0], grad_output, &mut grad, scratch);
                vec![grad]
            },
        );
    }

    #[test]
    fn the_output_is_that_of_the_definition() {
        check([2, 2], 4, FULL, &[5, 1, 7]);
        check([4, 2], 4, FULL, &[6]);
        check([3, 1], 4, FULL, &[130, 64, 65]);
        check([2, 1], 4, 3, &[5, 1, 7]);
        check([2, 1], 4, 40, &[200, 41]);
        check([2, 1], 4, 70, &[140]);
        check([4, 2], 20, FULL, &[33, 1]);
        check([2, 1], 48, 9, &[17, 40]);
    }

    #[test]
    fn gradients_are_right() {
        check_slopes([1, 1], FULL, &[3, 2]);
        check_slopes([2, 1], FULL, &[4, 1]);
        check_slopes([4, 2], FULL, &[2, 3]);
        check_slopes([2, 1], 2, &[5, 3]);
    }

    #[test]
    fn gradients_are_right_across_tiles() {
        check_slopes([1, 1], FULL, &[TILE + 5]);
        check_slopes([1, 1], 3, &[TILE + 5]);
        check_slopes([4, 2], FULL, &[TILE + 3, 1]);
        check_slopes([2, 1], 5, &[2 * TILE + 1]);
    }

    #[test]
    fn a_token_sees_nothing_after_it_and_nothing_of_other_sequences() {
        let sequences = sequences(&[4, 3]);
        let attention = Attention::new(&config([2, 1], 4), &sequences);
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

    #[test]
    fn a_score_that_overflows_is_not_hidden_by_what_is_not_seen() {
        let sequences = sequences(&[3]);
        let attention = Attention::new(&config([1, 1], 4), &sequences);
        let mut qkv = draw(9, 3 * attention.packed_width());
        qkv[..4].fill(1e30);
        qkv[4..8].fill(-1e30);
        let output = forward(&attention, FULL, &qkv);
        assert!(output[..4].iter().all(|x| x.is_nan()), "{output:?}");
    }

    #[test]
    fn a_softmax_has_the_same_bits_for_any_vectors() {
        for window in [FULL, 7] {
            let tile = tiles(40, window).nth(1).unwrap();
            let size = tile.seen.len() * TILE;
            let run = |arch: Arch| {
                let (mut scores, mut grads) = (draw(1, size), draw(2, size));
                arch.dispatch(Softmax { tile: &tile, scores: &mut scores });
                arch.dispatch(SoftmaxBackward { probabilities: &scores, grads: &mut grads });
                (scores, grads)
            };
            assert_eq!(run(Arch::new()), run(Arch::Scalar));
        }
    }
}
