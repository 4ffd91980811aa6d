//! Scored responses in the compact form that search and selection work on.
//!
//! A pool holds, for each query of a fixed list, what was drawn in one way: verdict, raw
//! reward-model score and hashes of the text, but no text. Millions of rollouts fit in memory.

use crate::knobs::Sampling;
use crate::rollout::Verdict;
use siphasher::sip::SipHasher24;
use std::hash::Hasher as _;

/// A response without its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredResponse {
    /// Which of the samples of its query.
    pub sample_index: u32,
    /// Hash of the text with runs of white space folded: equal for responses that say the same.
    pub normalized_hash: u64,
    /// Hash of the text to the byte.
    pub exact_hash: u64,
    /// What the answer check says.
    pub verdict: Verdict,
    /// Raw reward-model score, reduced over steps.
    pub reward_model_score: Option<f64>,
}

impl ScoredResponse {
    /// The compact form of a response.
    pub fn new(sample_index: u32, text: &str, verdict: Verdict, score: Option<f64>) -> Self {
        Self {
            sample_index,
            normalized_hash: normalized_hash(text),
            exact_hash: exact_hash(text),
            verdict,
            reward_model_score: score,
        }
    }
}

/// What was drawn in one way: a group of responses for each query of a fixed list.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Sampling temperature.
    pub temperature: f64,
    /// Top-p, where it is a knob.
    pub top_p: Option<f64>,
    /// One group per query, in the order of the list; a group may be empty.
    pub groups: Vec<Vec<ScoredResponse>>,
}

impl Pool {
    /// How it was drawn.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p }
    }

    /// The first queries and the first samples of each: what a smaller draw of the same run would
    /// have drawn, since a rollout depends on its coordinates only.
    #[must_use]
    pub fn first(&self, queries: usize, samples: usize) -> Self {
        let wanted = |index: u32| (index as usize) < samples;
        let groups = self.groups.iter().take(queries);
        let cut =
            groups.map(|group| group.iter().filter(|r| wanted(r.sample_index)).copied().collect());
        Self { groups: cut.collect(), ..*self }
    }
}

/// SipHash-2-4 of the text with leading and trailing white space dropped and inner runs folded to
/// one space.
pub fn normalized_hash(text: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    for (index, word) in text.split_whitespace().enumerate() {
        if index > 0 {
            hasher.write(b" ");
        }
        hasher.write(word.as_bytes());
    }
    hasher.finish()
}

/// SipHash-2-4 of the text as it is.
pub fn exact_hash(text: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_does_not_make_a_new_solution() {
        assert_eq!(normalized_hash("1 + 1 =  2\n\n"), normalized_hash(" 1 + 1 = 2"));
        assert_ne!(normalized_hash("1 + 1"), normalized_hash("1 +1"));
        assert_ne!(exact_hash("1 + 1"), exact_hash("1 +  1"));
    }
}
