//! The repetition penalty: tokens that a sample has seen become less likely.
//!
//! As `transformers` defines it: of each token in prompt or response, once, a positive logit is
//! divided by the penalty and a negative one multiplied. The records of a draw stay those of the
//! logits as the model gives them.

use super::lanes::{Buffer, Lanes, MAX_LANES};
use super::sampling::Distribution;
use bstar_core::ports::Decoding;

/// Room for the penalised logits of a group of lanes.
#[derive(Debug)]
pub(super) struct Penalty {
    lanes: Lanes,
    factor: f32,
    /// `[token][lane]`.
    logits: Buffer,
    distribution: Distribution,
    /// For each token, whether the lane at hand has seen it.
    seen: Vec<bool>,
}

impl Penalty {
    /// None where the decoding asks for no penalty.
    pub(super) fn new(decoding: &Decoding, vocabulary: usize, lanes: Lanes) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "arithmetic is f32")]
        let factor = decoding.repetition_penalty as f32;
        (factor != 1.0).then(|| Self {
            lanes,
            factor,
            logits: Buffer::zeroed(vocabulary * lanes.count()),
            distribution: Distribution::new(vocabulary, lanes),
            seen: vec![false; vocabulary],
        })
    }

    /// Draws as [`Distribution::draw`] does, from the penalised logits. `seen` gives the tokens of
    /// each lane, in parts.
    pub(super) fn draw<'a>(
        &mut self,
        logits: &[f32],
        seen: impl Iterator<Item = Option<[&'a [u32]; 2]>>,
        decoding: &Decoding,
        uniform: &[f64; MAX_LANES],
        active: &[bool; MAX_LANES],
    ) -> [u32; MAX_LANES] {
        let lanes = self.lanes.count();
        self.logits.copy_from_slice(logits);
        for (lane, parts) in seen.enumerate() {
            let tokens = || parts.iter().flatten().copied().flatten();
            for &token in tokens() {
                let token = token as usize;
                if !std::mem::replace(&mut self.seen[token], true) {
                    let logit = &mut self.logits[token * lanes + lane];
                    *logit = if *logit < 0.0 { *logit * self.factor } else { *logit / self.factor };
                }
            }
            for &token in tokens() {
                self.seen[token as usize] = false;
            }
        }
        self.distribution.load(&self.logits);
        self.distribution.draw(&self.logits, decoding, uniform, active)
    }
}
