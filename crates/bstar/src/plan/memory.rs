//! Memory that a measurement of a few seconds does not reach: training steps of full size, and keys and
//! values of responses as long as they may be.

use bstar_model::config::ModelConfig;
use bstar_model::footprint::{cache_bytes, examples_at_once, most_lanes};
use std::time::Duration;

/// Seconds of a step that are little, however short the measurement is to be.
const LITTLE: f64 = 0.1;

/// Training steps that tell what one of full size takes: two of a few examples, and then, where that one
/// is too dear to be made, larger ones as far as there is time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ladder {
    /// Examples of each step.
    pub(super) sizes: Vec<usize>,
    /// About the time that there is.
    pub(super) window: Duration,
}

impl Ladder {
    /// Up to a batch of full size.
    pub(super) fn up_to(batch: usize, window: Duration) -> Self {
        let few = batch.min(4);
        let mut sizes = vec![few, few];
        let mut size = few;
        while size < batch {
            size = (2 * size).min(batch);
            sizes.push(size);
        }
        Self { sizes, window }
    }

    /// Seconds that a step of so many examples is expected to take, by when the first two were done: the
    /// first makes room.
    fn expected(&self, done: &[Duration], examples: usize) -> f64 {
        let [first, second, ..] = done else { return 0.0 };
        let few = self.sizes[0].max(1) as f64;
        second.saturating_sub(*first).as_secs_f64() * examples as f64 / few
    }

    /// Whether a step of full size would take too long, by when the small ones were done.
    pub(super) fn is_dear(&self, done: &[Duration]) -> bool {
        let full = self.sizes.last().copied().unwrap_or(0);
        self.sizes.len() > 2 && self.expected(done, full) > 3.0 * self.window.as_secs_f64()
    }

    /// Whether to make another step.
    pub(super) fn goes_on(&self, done: &[Duration]) -> bool {
        if done.len() < 2 {
            return true;
        }
        let Some(next) = self.sizes.get(done.len()) else { return false };
        let fits = self.expected(done, *next) <= self.window.as_secs_f64().max(LITTLE);
        self.is_dear(done) && fits
    }

    /// How memory grew, by the peaks after the steps that were made and by what training holds without any
    /// example, where no larger step was made; none where one of full size was.
    pub(super) fn growth(&self, peaks: &[Option<f64>], empty: Option<f64>) -> Option<Growth> {
        let steps = peaks.len();
        if steps < 2 || steps == self.sizes.len() {
            return None;
        }
        let first = if steps == 2 { (0, empty?) } else { (self.sizes[1], peaks[1]?) };
        Some(Growth::between(first, (self.sizes[steps - 1], peaks[steps - 1]?)))
    }
}

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
        let more = examples_at_once(batch, tokens, micro_batch) - self.examples as f64;
        self.peak + self.per_example * more.max(0.0)
    }
}

/// Bytes that keys and values take beyond those of sequences of `drawn` tokens, where some of at most so
/// many responses at a time have `full`, and `most` bytes are allowed. Prompts count as part of the
/// sequences; that they lie apart once more is in the measurement.
pub(super) fn longer_caches(
    config: &ModelConfig,
    [drawn, full]: [usize; 2],
    responses: f64,
    most: usize,
) -> f64 {
    let lanes = most_lanes(config) * rayon::current_num_threads();
    let at_once = responses.min(lanes as f64);
    let full = full.min(config.max_position_embeddings);
    let of = |tokens: usize| (at_once * cache_bytes(config, tokens)).min(most as f64);
    (of(full) - of(drawn)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(batch: usize, window: f64) -> Ladder {
        Ladder::up_to(batch, Duration::from_secs_f64(window))
    }

    /// When steps of these sizes are done whose time grows with their examples.
    fn made(ladder: &Ladder, seconds_of_example: f64) -> Vec<Duration> {
        let (mut done, mut now) = (Vec::new(), 1.0);
        while done.is_empty() || ladder.goes_on(&done) {
            now += ladder.sizes[done.len()] as f64 * seconds_of_example;
            done.push(Duration::from_secs_f64(now));
        }
        done
    }

    #[test]
    fn larger_steps_are_made_only_where_they_fit() {
        let sizes = ladder(50, 1.0).sizes;
        assert_eq!(sizes, [4, 4, 8, 16, 32, 50]);
        // A full step is cheap: it is made by itself, many times.
        let cheap = ladder(50, 1.0);
        let done = made(&cheap, 0.01);
        assert!(done.len() == 2 && !cheap.is_dear(&done));
        // It takes 5 s, and 8 examples fit into a second.
        let dear = ladder(50, 1.0);
        let done = made(&dear, 0.1);
        assert!(done.len() == 3 && dear.is_dear(&done), "{done:?}");
        // Four examples already take longer than there is time.
        let done = made(&dear, 10.0);
        assert!(done.len() == 2 && dear.is_dear(&done), "{done:?}");
        // However short the window, what is little is made; here up to the full step.
        assert_eq!(made(&ladder(50, 0.001), 0.001).len(), sizes.len());
        // A batch of few examples is a small step itself.
        let few = ladder(3, 1.0);
        assert_eq!(few.sizes, [3, 3]);
        let done = made(&few, 10.0);
        assert!(done.len() == 2 && !few.is_dear(&done));
    }

    #[test]
    fn memory_grows_from_what_is_known_of_it() {
        let ladder = ladder(64, 1.0);
        let peaks = [100.0, 100.0, 120.0, 160.0, 240.0, 400.0].map(Some);
        let full = |made: usize, empty| {
            let growth = ladder.growth(&peaks[..made], empty)?;
            Some(growth.peak_of(64, 40.0, 0))
        };
        // Five bytes an example, by whichever steps were made.
        assert_eq!([3, 4, 5].map(|made| full(made, Some(80.0))), [Some(400.0); 3]);
        // By one size alone: by what is there without examples.
        assert_eq!(full(2, Some(80.0)), Some(400.0));
        assert_eq!(full(2, Some(60.0)), Some(100.0 + 60.0 * 10.0));
        assert_eq!([full(6, Some(80.0)), full(2, None), full(1, Some(80.0))], [None; 3]);
    }

    #[test]
    fn fewer_responses_need_fewer_caches() {
        let config = bstar_model::size::ModelSize::PICO.config(17, 1024, 1);
        let of = |responses| longer_caches(&config, [16, 512], responses, usize::MAX);
        let each = cache_bytes(&config, 512) - cache_bytes(&config, 16);
        assert_eq!(of(3.0), 3.0 * each);
        let lanes = most_lanes(&config) * rayon::current_num_threads();
        assert_eq!(of(1e9), lanes as f64 * each);
        assert_eq!(longer_caches(&config, [16, 512], 1e9, 0), 0.0);
    }

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
