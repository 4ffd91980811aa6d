//! The supervised loss: mean cross-entropy over the response tokens of a batch.
//!
//! A [`TokenizedExample`] is prompt, response and end of sequence as one row of tokens. Its inputs
//! are all but the last token, its targets those from the first token of the response on; the
//! prompt costs nothing. The mean is over tokens of the whole batch, not over examples, so a part of
//! a batch is scaled by the count of the whole.

use crate::ops::cross_entropy::cross_entropy;
use crate::transformer::{Activations, PackedTokens, Transformer};

/// A prompt with its response as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedExample {
    tokens: Vec<u32>,
    prompt_len: usize,
}

impl TokenizedExample {
    /// Joins prompt, response and the end-of-sequence token. Without a prompt, the first token of
    /// the response has nothing to be predicted from and is not learned.
    pub fn new(prompt: &[u32], response: &[u32], eos: u32) -> Self {
        let tokens = [prompt, response, &[eos]].concat();
        Self { tokens, prompt_len: prompt.len() }
    }

    /// The same with at most `most` inputs: what is longer is cut off, the end-of-sequence token
    /// included, so that no end is learned where there was none.
    #[must_use]
    pub fn cut(mut self, most: usize) -> Self {
        self.tokens.truncate(most + 1);
        self
    }

    /// All tokens, the end-of-sequence token included if the example was not cut.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens that are learned.
    pub fn targets(&self) -> &[u32] {
        self.tokens.get(self.prompt_len.max(1)..).unwrap_or_default()
    }

    /// The tokens that the transformer is run on.
    pub fn inputs(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }
}

/// Room for one part of a batch, kept from step to step.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) activations: Activations,
    /// The gradient of the hidden states that are read.
    pub(crate) grad_hidden: Vec<f32>,
    pub(crate) logits: Vec<f32>,
    pub(crate) gradients: Vec<f32>,
}

impl Workspace {
    /// The gradients of the last call of [`response_loss`], in the order of the parameters.
    pub fn gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// Takes them out; `room` is kept for the next ones.
    pub fn swap_gradients(&mut self, room: &mut Vec<f32>) {
        std::mem::swap(&mut self.gradients, room);
    }
}

/// The cross-entropy (nats) of all targets of `examples`, summed and multiplied by `scale`; its
/// gradient is left in `workspace`.
pub fn response_loss(
    transformer: &Transformer<'_>,
    examples: &[&TokenizedExample],
    scale: f32,
    workspace: &mut Workspace,
) -> f64 {
    let Workspace { activations, grad_hidden, logits, gradients } = workspace;
    let packed = PackedTokens::new(examples.iter().map(|example| example.inputs()));
    let (rows, targets) = learned_rows(examples, &packed);
    let (packed, head) = (packed.reading(rows), transformer.head());

    let hidden = transformer.forward(&packed, activations);
    head.forward(hidden, logits);
    let loss = cross_entropy(logits, &targets, scale);

    // With a tied head, the embedding's gradient begins with that of the head.
    gradients.resize(transformer.parameter_count(), 0.0);
    gradients[transformer.embedding_range()].fill(0.0);
    head.backward(hidden, logits, grad_hidden, gradients);
    transformer.backward(&packed, activations, grad_hidden, gradients);
    loss
}

/// The place of a token among all of a batch, which is packed: fewer than 2^32 of them fit.
pub(crate) fn packed_row(place: usize) -> u32 {
    u32::try_from(place).expect("a batch has < 2^32 tokens")
}

/// The packed rows whose next token is learned, and those tokens.
pub(crate) fn learned_rows(
    examples: &[&TokenizedExample],
    packed: &PackedTokens,
) -> (Vec<u32>, Vec<u32>) {
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (example, sequence) in examples.iter().zip(packed.sequences()) {
        let learned = sequence.end - example.targets().len()..sequence.end;
        rows.extend(learned.map(packed_row));
        targets.extend_from_slice(example.targets());
    }
    (rows, targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{HalfWeights, Precision};
    use crate::ops::gather::gather_rows_backward;
    use crate::ops::gradient_check::draw;
    use crate::size::ModelSize;
    use crate::weights::Weights;
    use bstar_core::RngKey;

    #[test]
    fn targets_are_the_response_and_the_end() {
        let example = TokenizedExample::new(&[5, 6, 7], &[8, 9], 1);
        assert_eq!(example.inputs(), [5, 6, 7, 8, 9]);
        assert_eq!(example.targets(), [8, 9, 1]);
    }

    #[test]
    fn a_cut_example_has_no_end() {
        let example = TokenizedExample::new(&[5, 6], &[7, 8, 9], 1);
        assert_eq!(example.clone().cut(5), example);
        assert_eq!(example.clone().cut(4).targets(), [7, 8, 9]);
        assert_eq!(example.clone().cut(2).targets(), [7]);
        assert!(example.cut(1).targets().is_empty());
    }

    #[test]
    fn without_a_prompt_the_first_token_is_only_an_input() {
        let example = TokenizedExample::new(&[], &[8, 9], 1);
        assert_eq!(example.targets(), [9, 1]);
        assert_eq!(TokenizedExample::new(&[4], &[], 1).targets(), [1]);
    }

    /// The gradients of a body, given those of the hidden states of the rows that are read.
    fn gradients(
        layers: usize,
        precision: Precision,
        recomputes: bool,
        reads: bool,
    ) -> Vec<Vec<f32>> {
        let mut config = ModelSize::PICO.config(20, 64, 1);
        config.num_hidden_layers = layers;
        let parameters = Weights::random(&config, RngKey::from_seed(1)).to_flat();
        let mut half = HalfWeights::default();
        half.pack(&config, &parameters);
        let transformer = Transformer::new(&config, &parameters)
            .in_half((precision == Precision::Bf16).then_some(&half))
            .recomputing(recomputes);
        let sequences: [&[u32]; 2] = [&[3, 5, 7, 2], &[4, 9, 11]];
        let (all, width) = (PackedTokens::new(sequences.into_iter()), config.hidden_size);
        let (mut activations, mut found) = (Activations::default(), Vec::new());
        for rows in [&[][..], &[0], &[6], &[1, 2, 5], &[0, 1, 2, 3, 4, 5, 6]] {
            let grad_read = draw(2, rows.len() * width);
            let mut gradients = vec![0.0; transformer.parameter_count()];
            if reads {
                let packed = all.clone().reading(rows.to_vec());
                transformer.forward(&packed, &mut activations);
                transformer.backward(&packed, &mut activations, &grad_read, &mut gradients);
            } else {
                let mut grad_all = vec![0.0; 7 * width];
                gather_rows_backward(&grad_read, width, rows, &mut grad_all);
                transformer.forward(&all, &mut activations);
                transformer.backward(&all, &mut activations, &grad_all, &mut gradients);
            }
            found.push(gradients);
        }
        found
    }

    #[test]
    fn rows_that_are_not_read_change_no_gradient() {
        for (layers, recomputes) in [(1, false), (2, false), (2, true)] {
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
                let read = gradients(layers, precision, recomputes, true);
                let all = gradients(layers, precision, recomputes, false);
                for (read, all) in read.into_iter().zip(all) {
                    let size = all.iter().fold(1.0_f32, |size, x| size.max(x.abs()));
                    for (read, all) in read.into_iter().zip(all) {
                        assert!((read - all).abs() <= tolerance * size, "{read} {all} of {size}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "strictly ascending")]
    fn rows_out_of_order_are_refused() {
        let _ = PackedTokens::new([&[1, 2, 3][..]].into_iter()).reading(vec![1, 0]);
    }

    #[test]
    #[should_panic(expected = "there are such rows")]
    fn rows_behind_the_end_are_refused() {
        let _ = PackedTokens::new([&[1, 2, 3][..]].into_iter()).reading(vec![3]);
    }
}
