//! Which queries an iteration draws: shuffled anew, or by what became of each before.
//!
//! The second is the sampling of AdaSTaR (arXiv 2505.16322 §3; spec §8). Every training query has a
//! record: the iteration that sampled it last, and its win rate then, both 0 at the start. Queries
//! are taken in the order of (last sampled, win rate), the longest unseen first and of these the
//! hardest. After an iteration only the first ⌊m α²⌋ of the m queries taken get a new record, where α
//! is the accuracy of the draw: while the policy is weak, the same easy beginning comes again; as it
//! grows, the whole set is gone through. How this fits into our iterations, and what is left out, is
//! in `docs/design/departures.md`.

use crate::rng::{RngKey, shuffle};
use crate::rollout::{QueryId, Rollout, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the queries of an iteration are chosen among the training queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueryOrder {
    /// At random, anew in each iteration (paper).
    Shuffled,
    /// The longest unseen first, of these the hardest, renewed by the accuracy of the draw (AdaSTaR).
    AdaStar,
}

/// Right ones among the responses that could be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wins {
    /// Right answers.
    pub correct: u64,
    /// Responses that are not ungradable.
    pub tried: u64,
}

impl Wins {
    fn add(&mut self, verdict: Verdict) {
        self.correct += u64::from(verdict.is_correct());
        self.tried += u64::from(verdict != Verdict::Ungradable);
    }

    /// Right ones of those tried; 0 if none was.
    pub fn rate(self) -> f64 {
        self.correct as f64 / self.tried.max(1) as f64
    }

    /// ⌊m α²⌋ with α the rate, exactly.
    pub fn quota(self, taken: usize) -> usize {
        let (correct, tried) = (u128::from(self.correct), u128::from(self.tried.max(1)));
        let quota = taken as u128 * correct * correct / (tried * tried);
        usize::try_from(quota).unwrap_or(taken)
    }
}

/// What is remembered of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Record {
    last_sampled: u32,
    win_rate: f64,
    /// Ties go by an order that is drawn once for the run.
    tie: usize,
}

/// The records of all training queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Curriculum {
    /// In the order of the task.
    records: Vec<Record>,
}

/// What an iteration did to the records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renewal {
    /// Queries taken (m).
    pub taken: usize,
    /// Accuracy of the draw (α).
    pub accuracy: f64,
    /// Queries with a new record, ⌊m α²⌋.
    pub renewed: usize,
}

impl Curriculum {
    /// Nothing sampled yet; `key` is the run's.
    pub fn new(queries: usize, run_key: RngKey) -> Self {
        let mut order: Vec<usize> = (0..queries).collect();
        shuffle(&mut order, &mut run_key.child("query order").rng());
        let mut records = vec![Record::default(); queries];
        for (tie, place) in order.into_iter().enumerate() {
            records[place].tie = tie;
        }
        Self { records }
    }

    /// The places of the `count` queries that come first, in order.
    pub fn first(&self, count: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.records.len()).collect();
        places.sort_by(|&a, &b| {
            let (a, b) = (&self.records[a], &self.records[b]);
            let by_rate = a.win_rate.total_cmp(&b.win_rate);
            a.last_sampled.cmp(&b.last_sampled).then(by_rate).then(a.tie.cmp(&b.tie))
        });
        places.truncate(count);
        places
    }

    /// Takes in what became of the first `count` queries in an iteration; `wins` tells it of a place.
    pub fn renew(&mut self, iteration: u32, count: usize, wins: impl Fn(usize) -> Wins) -> Renewal {
        let taken = self.first(count);
        let mut all = Wins::default();
        for &place in &taken {
            let Wins { correct, tried } = wins(place);
            all.correct += correct;
            all.tried += tried;
        }
        let renewed = all.quota(taken.len());
        for &place in &taken[..renewed] {
            let record = &mut self.records[place];
            record.last_sampled = iteration;
            record.win_rate = wins(place).rate();
        }
        Renewal { taken: taken.len(), accuracy: all.rate(), renewed }
    }
}

/// The wins of each query among rollouts.
pub fn wins_by_query(rollouts: &[Rollout]) -> BTreeMap<&QueryId, Wins> {
    let mut wins: BTreeMap<&QueryId, Wins> = BTreeMap::new();
    for rollout in rollouts {
        wins.entry(&rollout.query_id).or_default().add(rollout.verdict);
    }
    wins
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    fn wins(correct: u64, tried: u64) -> Wins {
        Wins { correct, tried }
    }

    #[test]
    fn the_quota_is_that_of_the_paper() {
        // Spec §6.4: m = 10, α = 0.7.
        assert_eq!(wins(7, 10).quota(10), 4);
        assert_eq!(wins(14, 20).quota(10), 4);
        assert_eq!(wins(10, 10).quota(10), 10);
        assert_eq!(wins(0, 10).quota(10), 0);
        assert_eq!(wins(0, 0).quota(10), 0);
        // In floats 25 · 0.6 · 0.6 may fall short of 9.
        assert_eq!(wins(6, 10).quota(25), 9);
        let many = 1_000_000_000_000;
        assert_eq!(wins(many - 1, many).quota(1_000_000_000), 999_999_999, "no overflow");
    }

    #[test]
    fn the_unseen_come_first_then_the_hardest() {
        let mut records = Curriculum::new(6, RngKey::from_seed(3));
        let start = records.first(6);
        let mut sorted = start.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5], "each once, in an order of the run");
        assert_ne!(start, sorted, "seed 3 shuffles");
        // Of four taken α = 3/4, so ⌊4 · 9/16⌋ = 2 are renewed: the first two.
        let rate = |place: usize| if place == start[0] { wins(0, 2) } else { wins(2, 2) };
        let renewal = records.renew(1, 4, rate);
        assert_eq!(renewal, Renewal { taken: 4, accuracy: 0.75, renewed: 2 });
        let next: Vec<usize> = start[2..].iter().chain(&start[..2]).copied().collect();
        assert_eq!(records.first(6), next, "the other two of them come again at once");
        // Everything right: all are renewed, and the one that failed leads what was seen longest ago.
        records.renew(2, 4, |_| wins(1, 1));
        assert_eq!(records.first(3), [start[0], start[1], start[2]]);
    }

    #[test]
    fn ungradable_responses_are_no_tries() {
        let mut all = Wins::default();
        for verdict in [Verdict::Correct, Verdict::NoAnswer, Verdict::Ungradable] {
            all.add(verdict);
        }
        assert_eq!(all, wins(1, 2));
        assert_eq!((all.rate(), Wins::default().rate()), (0.5, 0.0));
    }

    proptest! {
        /// The same with a heap, as the paper tells it.
        #[test]
        fn a_heap_does_the_same(
            seed in 0_u64..100,
            queries in 1_usize..20,
            rounds in prop::collection::vec((1_usize..25, prop::collection::vec(0_u64..=4, 20)), 1..8),
        ) {
            let mut records = Curriculum::new(queries, RngKey::from_seed(seed));
            let ties: Vec<usize> = records.first(queries);
            // (last sampled, wins of four, tie, place): a min-heap.
            let entries = ties.iter().enumerate().map(|(tie, &place)| Reverse((0_u32, 0_u64, tie, place)));
            let mut heap: BinaryHeap<_> = entries.collect();
            for (iteration, (count, correct)) in (1_u32..).zip(&rounds) {
                let taken: Vec<_> = {
                    let mut copy = heap.clone();
                    (0..*count).filter_map(|_| copy.pop()).collect()
                };
                let places: Vec<usize> = taken.iter().map(|Reverse((.., place))| *place).collect();
                prop_assert_eq!(&records.first(*count), &places);
                let right: u64 = places.iter().map(|&place| correct[place]).sum();
                let m = places.len() as u64;
                let quota = (0..=m).rev().find(|q| q * (4 * m) * (4 * m) <= m * right * right);
                for _ in 0..quota.expect("zero fits") {
                    let Reverse((.., tie, place)) = heap.pop().expect("taken from it");
                    heap.push(Reverse((iteration, correct[place], tie, place)));
                }
                let renewal = records.renew(iteration, *count, |place| wins(correct[place], 4));
                prop_assert_eq!(Some(renewal.renewed as u64), quota);
            }
        }
    }
}
