//! Memory that a measurement of a few seconds does not reach: training steps of full size, and keys and
//! values of responses as long as they may be.

use bstar_model::config::ModelConfig;
use bstar_model::footprint::{cache_bytes, examples_at_once, most_lanes};
use std::time::Duration;

/// Training steps of a few examples, which tell whether one of full size is too dear to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SmallSteps {
    /// Examples of each.
    pub(super) few: usize,
    /// Examples of a step of full size.
    pub(super) batch: usize,
    /// About the time that there is.
    pub(super) window: Duration,
}

impl SmallSteps {
    /// How many are made: the first makes room, the second is timed.
    pub(super) const COUNT: usize = 2;

    /// Before steps of so many examples.
    pub(super) fn before(batch: usize, window: Duration) -> Self {
        Self { few: batch.min(4), batch, window }
    }

    /// Whether a step of full size would take too long, by when the small ones were done.
    pub(super) fn find_dear(&self, done: &[Duration]) -> bool {
        let [first, second, ..] = done else { return false };
        let small = second.saturating_sub(*first).as_secs_f64();
        let full = small * self.batch as f64 / self.few.max(1) as f64;
        self.batch > self.few && full > 3.0 * self.window.as_secs_f64()
    }
}

/// How the peak of memory grows with the examples of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    /// Peak after a step of a few examples, in bytes.
    pub(super) peak: f64,
    /// Examples of that step.
    pub(super) examples: usize,
    /// Bytes for each example more.
    pub(super) per_example: f64,
}

impl Growth {
    /// The peak of a step of a model on a batch of so many tokens an example.
    pub(super) fn peak_of(
        &self,
        config: &ModelConfig,
        batch: usize,
        tokens: f64,
        micro_batch: usize,
    ) -> f64 {
        let more = examples_at_once(config, batch, tokens, micro_batch) - self.examples as f64;
        self.peak + self.per_example * more.max(0.0)
    }
}

/// Samples that a plan is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    /// Tokens of a prompt.
    pub(super) prompt: usize,
    /// Samples of a prompt.
    pub(super) samples: usize,
    /// Responses at a time at most.
    pub(super) responses: f64,
}

/// Bytes that keys and values take beyond those of responses of `short` tokens, where some have `full`, and
/// `most` bytes are allowed.
pub(super) fn longer_caches(
    config: &ModelConfig,
    drawn: Drawn,
    [short, full]: [usize; 2],
    most: usize,
) -> f64 {
    let Drawn { prompt, samples, responses } = drawn;
    let lanes = most_lanes(config) * rayon::current_num_threads();
    let at_once = responses.min(lanes as f64);
    let full = full.min(config.max_position_embeddings.saturating_sub(prompt));
    let of = |response| cache_bytes(config, prompt, response, samples);
    let of = |response| (at_once * of(response)).min(most as f64);
    (of(full) - of(short)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_step_is_made_where_it_is_cheap() {
        let steps = |batch| SmallSteps::before(batch, Duration::from_secs(1));
        let done = |seconds: f64| [1.0, 1.0 + seconds].map(Duration::from_secs_f64);
        // 50 examples take 2.5 and 3.75 s, 12.5 times as long as four.
        assert!(!steps(50).find_dear(&done(0.2)) && steps(50).find_dear(&done(0.3)));
        // A batch of few examples is a small step itself.
        assert_eq!(steps(3).few, 3);
        assert!(!steps(3).find_dear(&done(10.0)) && !steps(4).find_dear(&done(10.0)));
    }

    #[test]
    fn fewer_responses_need_fewer_caches() {
        let config = bstar_model::size::ModelSize::PICO.config(17, 1024, 1);
        let of = |responses| {
            let drawn = Drawn { prompt: 10, samples: 1, responses };
            longer_caches(&config, drawn, [6, 502], usize::MAX)
        };
        let each = cache_bytes(&config, 10, 502, 1) - cache_bytes(&config, 10, 6, 1);
        assert_eq!(of(3.0), 3.0 * each);
        let lanes = most_lanes(&config) * rayon::current_num_threads();
        assert_eq!(of(1e9), lanes as f64 * each);
        let drawn = Drawn { prompt: 10, samples: 1, responses: 1e9 };
        assert_eq!(longer_caches(&config, drawn, [6, 502], 0), 0.0);
    }

    #[test]
    fn a_full_step_is_foretold_from_a_small_one() {
        let growth = Growth { peak: 120.0, examples: 8, per_example: 5.0 };
        let config = bstar_model::size::ModelSize::SMALL.config(17, 600, 1);
        let peak = |batch, tokens, micro| growth.peak_of(&config, batch, tokens, micro);
        assert_eq!(peak(64, 40.0, 0), 120.0 + 5.0 * 56.0);
        assert_eq!(peak(8, 40.0, 0), 120.0);
        // Parts of 4096 tokens: four of eight examples, whatever the batch.
        assert_eq!(peak(1000, 512.0, 0), 120.0 + 5.0 * 24.0);
        assert_eq!(peak(64, 40.0, 3), 120.0 + 5.0 * 4.0);
    }
}
