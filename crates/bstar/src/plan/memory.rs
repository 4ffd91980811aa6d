//! Memory that a measurement of a few seconds does not reach: training steps of full size, and keys and
//! values of responses as long as they may be.

use bstar_model::config::ModelConfig;
use bstar_model::footprint::cache_bytes;

/// Parts that a batch is cut into at least, and tokens that a part has at most; then it is cut again
/// (`compute.micro_batch_size`).
const PARTS: f64 = 4.0;
const LARGEST_PART: f64 = 4096.0;

/// Responses that a thread draws at once, of models with fewer parameters than a million and of others.
const LANES: [usize; 2] = [32, 64];
const LARGE_MODEL: usize = 1_000_000;

/// How the peak of memory grew with the examples of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    /// Peak after the larger step, in bytes.
    pub(super) peak: f64,
    /// Examples of that step.
    pub(super) examples: usize,
    /// Bytes for each example more.
    pub(super) per_example: f64,
}

impl Growth {
    /// From the peaks after a step of some examples and one of more.
    pub(super) fn between(few: (usize, f64), more: (usize, f64)) -> Self {
        let examples = more.0.saturating_sub(few.0).max(1) as f64;
        let per_example = (more.1 - few.1).max(0.0) / examples;
        Self { peak: more.1, examples: more.0, per_example }
    }

    /// The peak of a step of a batch of so many tokens an example.
    pub(super) fn peak_of(&self, batch: usize, tokens: f64, micro_batch: usize) -> f64 {
        let more = at_once(batch, tokens, micro_batch) - self.examples as f64;
        self.peak + self.per_example * more.max(0.0)
    }
}

/// Examples of a batch as far as memory grows with them: a larger one has more parts, not larger ones.
fn at_once(batch: usize, tokens: f64, micro_batch: usize) -> f64 {
    let by_tokens = PARTS * (LARGEST_PART / tokens.max(1.0)).max(1.0);
    let by_count = if micro_batch == 0 { f64::INFINITY } else { PARTS * micro_batch as f64 };
    (batch as f64).min(by_tokens).min(by_count)
}

/// Bytes that keys and values take beyond those of sequences of `drawn` tokens, where some have `full`,
/// and `most` bytes are allowed.
pub(super) fn longer_caches(config: &ModelConfig, [drawn, full]: [usize; 2], most: usize) -> f64 {
    let lanes = LANES[usize::from(config.parameter_count() >= LARGE_MODEL)];
    let at_once = (lanes * rayon::current_num_threads()) as f64;
    let full = full.min(config.max_position_embeddings);
    let of = |tokens: usize| (at_once * cache_bytes(config, tokens)).min(most as f64);
    (of(full) - of(drawn)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_step_is_foretold_from_two_small_ones() {
        let growth = Growth::between((4, 100.0), (8, 120.0));
        assert_eq!(growth.peak_of(64, 40.0, 0), 120.0 + 5.0 * 56.0);
        assert_eq!(growth.peak_of(8, 40.0, 0), 120.0);
        // Parts of 4096 tokens: four of eight examples, whatever the batch.
        assert_eq!(growth.peak_of(1000, 512.0, 0), 120.0 + 5.0 * 24.0);
        assert_eq!(growth.peak_of(64, 40.0, 3), 120.0 + 5.0 * 4.0);
        // What another peak hides is no growth.
        assert_eq!(Growth::between((4, 100.0), (8, 90.0)).peak_of(64, 40.0, 0), 90.0);
    }
}
