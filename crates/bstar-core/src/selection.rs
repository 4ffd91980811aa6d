//! Which responses of a draw are trained on (paper §2.3: r > τ; spec §1.5 and §1.7).
//!
//! Strictly above the threshold, duplicates dropped, at most `cap` per query with the smallest cap
//! that reaches the wanted total, and the gold solutions where the rule says so. The result does not
//! depend on the order of the responses.

use crate::balance::{BalanceRule, Cell, RankedPool};
use crate::pool::{Pool, ScoredResponse};
use crate::ranking::{Deduplication, Ranked, RankingRule};
use std::collections::BTreeSet;

/// What was selected.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// For each query, indices of the selected responses in its group, best first.
    pub chosen: Vec<Vec<usize>>,
    /// For each query, whether its gold solution won a place (only where gold competes).
    pub gold: Vec<bool>,
    /// Threshold, cap, balance score and counts of the whole draw.
    pub cell: Cell,
}

/// How much was selected of a draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectedCounts {
    /// Responses, gold solutions not counted.
    pub selected: u64,
    /// Unique correct ones among them.
    pub correct: u64,
    /// Those of them that the reward model puts above the bar; none where nothing is verified.
    pub verified: Option<u64>,
    /// Queries with at least one.
    pub queries: u64,
}

impl Selection {
    /// Counts what was selected of `draw` by this rule.
    pub fn counts(&self, draw: &Pool, rule: &RankingRule) -> SelectedCounts {
        let verified = rule.verified_above.map(|_| 0);
        let mut counts = SelectedCounts { verified, ..SelectedCounts::default() };
        for (chosen, group) in self.chosen.iter().zip(&draw.groups) {
            let chosen_of = chosen.iter().map(|&place| &group[place]);
            let verified = distinct(chosen_of.clone().filter(|response| rule.counts(response)));
            counts.selected += chosen.len() as u64;
            counts.correct += distinct(chosen_of.filter(|r| r.verdict.is_correct())) as u64;
            counts.verified = counts.verified.map(|count| count + verified as u64);
            counts.queries += u64::from(!chosen.is_empty());
        }
        counts
    }
}

/// Responses that differ in more than white space.
pub(crate) fn distinct<'a>(responses: impl Iterator<Item = &'a ScoredResponse>) -> usize {
    responses.map(|response| response.normalized_hash).collect::<BTreeSet<_>>().len()
}

/// Selects from a draw at a threshold.
pub fn select(
    draw: &Pool,
    gold: &[Option<u64>],
    ranking: &RankingRule,
    balance: &BalanceRule,
    threshold: f64,
) -> Selection {
    let ranked = RankedPool::new(draw, gold, ranking);
    let cell = ranked.cell(threshold, balance);
    let limit = cell.cap.map_or(usize::MAX, |cap| cap as usize);
    let keep_repeats = ranking.deduplication == Deduplication::Never;
    let mut chosen = Vec::with_capacity(ranked.rankings.len());
    let mut gold_chosen = Vec::with_capacity(ranked.rankings.len());
    for group in &ranked.rankings {
        let places = &group.places[..group.above(threshold).min(limit)];
        let kept = places.iter().filter(|place| keep_repeats || !place.repeats);
        let (responses, golds): (Vec<&Ranked>, Vec<&Ranked>) =
            kept.partition(|place| place.response.is_some());
        gold_chosen.push(!golds.is_empty());
        chosen.push(responses.iter().filter_map(|place| place.response).collect());
    }
    Selection { chosen, gold: gold_chosen, cell }
}
