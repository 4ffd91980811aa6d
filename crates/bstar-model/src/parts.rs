//! How a batch is cut into parts, and how their gradients are added.
//!
//! The cut looks at the examples and the model only, each part is one forward and backward pass on one
//! thread, and sums are taken in the order of the parts: the bits are the same for any number of threads.

use crate::config::ModelConfig;
use crate::loss::Workspace;
use rayon::prelude::*;
use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};

/// Parts that may run side by side. A constant: results must not depend on the machine.
pub(crate) const PARTS: usize = 4;

/// How large parts may be, and how many gradients are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartLimits {
    /// A batch of more tokens than so many a part is cut into more parts.
    tokens: usize,
    /// Most examples; 0 is any number.
    examples: usize,
    /// Gradients of parts that are kept at a time until they are added.
    gradients: usize,
}

impl PartLimits {
    /// For a model, with at most so many examples, unless that is 0.
    pub(crate) fn new(config: &ModelConfig, examples: usize) -> Self {
        let threads = rayon::current_num_threads();
        // No more parts than PARTS run side by side. With few threads, those of a small model wait for each other
        // less often; gradients of a large one are dear.
        let few = config.is_small() && threads <= PARTS;
        let gradients = if few { 2 * PARTS } else { threads.min(PARTS) };
        Self { tokens: largest_part(config), examples, gradients }
    }
}

/// Tokens of a part at most, or about so many: examples are whole. Small models train faster by parts that stay nearer to
/// the processor; a large model's weights are fetched for each part, so that only memory bounds it.
pub(crate) fn largest_part(config: &ModelConfig) -> usize {
    if config.is_small() { 512 } else { 4096 }
}

/// Cuts a batch into parts of nearly equal work: longest examples first, each to the part with the
/// fewest tokens so far (the first of equals). At least [`PARTS`] parts where there are as many
/// examples; no empty part, and none of more examples than the limit.
pub(crate) fn parts<'a, E>(
    batch: &[&'a E],
    limits: PartLimits,
    length: impl Fn(&E) -> usize,
) -> Vec<Vec<&'a E>> {
    let mut examples = batch.to_vec();
    examples.sort_by_key(|example| Reverse(length(example)));
    let tokens: usize = examples.iter().map(|example| length(example)).sum();
    let most = if limits.examples == 0 { examples.len() } else { limits.examples };
    let needed = tokens.div_ceil(limits.tokens).max(examples.len().div_ceil(most.max(1)));
    let count = needed.next_multiple_of(PARTS).min(examples.len());
    let mut parts = vec![(0, Vec::new()); count];
    for example in examples {
        let room = parts.iter_mut().filter(|(_, part): &&mut (usize, Vec<_>)| part.len() < most);
        let lightest = room.min_by_key(|(tokens, _)| *tokens);
        let (tokens, part) = lightest.expect("all parts together have room for every example");
        *tokens += length(example);
        part.push(example);
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// Room for the parts of a batch, kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct PartRoom {
    /// Those that no thread has at the moment: one for each part that ever ran beside others.
    workspaces: Mutex<Vec<Workspace>>,
    /// Gradients that are not added yet.
    gradients: Vec<Vec<f32>>,
}

/// Takes the loss of every part, several at a time, and adds them. Leaves the sum of their gradients
/// in `gradient`.
pub(crate) fn sum_over_parts<E: Sync>(
    parts: &[Vec<&E>],
    limits: PartLimits,
    room: &mut PartRoom,
    gradient: &mut Vec<f32>,
    part_loss: impl Fn(&[&E], &mut Workspace) -> f64 + Sync,
) -> f64 {
    let PartRoom { workspaces, gradients } = room;
    let workspaces = &*workspaces;
    let free = || workspaces.lock().unwrap_or_else(PoisonError::into_inner);
    gradients.resize_with(limits.gradients, Vec::new);
    let mut loss = 0.0;
    for (number, parts) in parts.chunks(limits.gradients).enumerate() {
        let losses: Vec<f64> = parts
            .par_iter()
            .zip(&mut *gradients)
            .map(|(part, of_part)| {
                let mut workspace = free().pop().unwrap_or_default();
                workspace.swap_gradients(of_part);
                let loss = part_loss(part, &mut workspace);
                workspace.swap_gradients(of_part);
                free().push(workspace);
                loss
            })
            .collect();
        loss = losses.iter().fold(loss, |sum, loss| sum + loss);
        let mut made = &mut gradients[..parts.len()];
        if number == 0 {
            std::mem::swap(gradient, &mut made[0]);
            made = &mut made[1..];
        }
        add_all(gradient, made);
    }
    loss
}

/// Adds gradients to the first, in their order.
fn add_all(sum: &mut [f32], others: &[Vec<f32>]) {
    const CHUNK: usize = 1 << 15;
    sum.par_chunks_mut(CHUNK).enumerate().for_each(|(number, sum)| {
        for other in others {
            let other = &other[number * CHUNK..][..sum.len()];
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_balanced_and_hold_every_example_once() {
        let examples: Vec<usize> = (0..40).map(|i| 2 + i * 7 % 16).collect();
        let batch: Vec<_> = examples.iter().collect();
        let length = |tokens: &usize| *tokens;
        let limits = |tokens, examples| PartLimits { tokens, examples, gradients: 2 };
        let parts = parts(&batch, limits(4096, 0), length);
        assert_eq!(parts.len(), PARTS);
        let tokens = |part: &Vec<&usize>| -> usize { part.iter().copied().sum() };
        let sizes: Vec<_> = parts.iter().map(tokens).collect();
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() < 5, "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), tokens(&batch));
        assert_eq!(super::parts(&batch[..2], limits(4096, 0), length).len(), 2);
        let fifth = tokens(&batch).div_ceil(5);
        assert_eq!(super::parts(&batch, limits(fifth, 0), length).len(), 2 * PARTS);
        for most in [1, 3, 7, 39] {
            let parts = super::parts(&batch, limits(4096, most), length);
            assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= most), "{most}");
            assert_eq!(parts.iter().map(tokens).sum::<usize>(), tokens(&batch), "{most}");
        }
    }

    #[test]
    fn gradients_of_all_parts_are_added_in_their_order_however_many_are_kept() {
        let examples: Vec<f32> = (0..11).map(|i| 0.1 * (i as f32).exp()).collect();
        let parts: Vec<Vec<&f32>> = examples.iter().map(|example| vec![example]).collect();
        let exact = examples.iter().fold(0.0, |sum, example| sum + example);
        for gradients in [1, 2, 3, 8, 20] {
            let limits = PartLimits { tokens: 1, examples: 0, gradients };
            let (mut room, mut gradient) = (PartRoom::default(), vec![7.0; 70_000]);
            for _ in 0..2 {
                let loss =
                    sum_over_parts(&parts, limits, &mut room, &mut gradient, |part, workspace| {
                        workspace.gradients.clear();
                        workspace.gradients.resize(70_000, *part[0]);
                        f64::from(*part[0])
                    });
                assert!((loss - f64::from(exact)).abs() < 1e-3 * loss, "{gradients}: {loss}");
                assert!(gradient.iter().all(|sum| *sum == exact), "{gradients}: {}", gradient[0]);
            }
        }
    }
}
