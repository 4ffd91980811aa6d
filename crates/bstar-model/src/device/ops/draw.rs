//! Drawing the next token of every lane.

use super::{Matrix, int};
use crate::device::Device;
use crate::device::accelerator::Launch;
use crate::device::memory::{Buffer, Place};
use bstar_core::Fault;
use bstar_core::ports::Decoding;

/// What a draw needs beside the logits.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    /// How to draw; its settings are in range.
    pub(crate) decoding: &'a Decoding,
    /// A number in `[0, 1)` for each lane.
    pub(crate) uniforms: Place<f64>,
    /// Room for `(lanes, vocabulary)`.
    pub(crate) weights: Place<f32>,
    /// A bit for each lane and token that it has seen, `(lanes, ⌈vocabulary / 32⌉)`; read and marked
    /// only where there is a repetition penalty.
    pub(crate) seen: Place<u32>,
    /// Four words for each lane, see [`Drawn`].
    pub(crate) drawn: Place<u32>,
}

/// What was drawn for a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    /// The token.
    pub(crate) token: u32,
    /// Its log-probability (nats) at temperature 1 without truncation.
    pub(crate) log_probability: f32,
    /// The entropy (nats) of that distribution.
    pub(crate) entropy: f32,
    /// Whether every logit is finite.
    pub(crate) finite: bool,
}

impl Drawn {
    /// Words of one, as the kernel writes it.
    pub(crate) const WORDS: usize = 4;

    /// What was drawn for the first `lanes` lanes. Waits for the device.
    pub(crate) fn download(drawn: &Buffer<u32>, lanes: usize) -> Result<Vec<Self>, Fault> {
        let words = drawn.download(lanes * Self::WORDS)?;
        let (lanes, _) = words.as_chunks::<{ Self::WORDS }>();
        let of_lane = |&[token, log_probability, entropy, finite]: &[u32; 4]| Self {
            token,
            log_probability: f32::from_bits(log_probability),
            entropy: f32::from_bits(entropy),
            finite: finite != 0,
        };
        Ok(lanes.iter().map(of_lane).collect())
    }
}

/// Draws a token for every row of logits.
#[expect(clippy::cast_possible_truncation, reason = "arithmetic is f32")]
pub(crate) fn draw(device: &Device, logits: Matrix<f32>, draw: &Draw<'_>) -> Result<(), Fault> {
    let Decoding { temperature, top_p, top_k, min_p, repetition_penalty, .. } = *draw.decoding;
    let vocabulary = logits.width;
    let top_k = if top_k == 0 { vocabulary } else { top_k.min(vocabulary) };
    let inverse_temperature = if temperature == 0.0 { 0.0 } else { (1.0 / temperature) as f32 };
    device.launch(&Launch {
        kernel: "draw",
        grid: [logits.rows, 1],
        // About eight tokens a thread, so that a small vocabulary is not all barriers.
        threads: vocabulary.div_ceil(8).next_multiple_of(32).clamp(32, 1024),
        shared: 0,
        arguments: arguments![
            draw.drawn,
            draw.weights,
            draw.seen,
            logits.place,
            draw.uniforms,
            int(vocabulary),
            inverse_temperature,
            u32::try_from(top_k).expect("a vocabulary of less than 2^31"),
            top_p,
            min_p as f32,
            repetition_penalty as f32,
        ],
    })
}
