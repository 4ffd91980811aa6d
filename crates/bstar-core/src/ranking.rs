//! A rollout group ranked by reward, with the counts of every prefix.
//!
//! For a threshold τ and a cap c, what is selected of a query is a prefix of its ranking: the first
//! `min(#{r > τ}, c)` responses. So one sort per query and a few cumulative counts answer every
//! (τ, c) at once; search and selection both read them here and cannot disagree.

use crate::calibration::Calibration;
use crate::pool::{Pool, ScoredResponse};
use crate::reward::RewardRule;
use crate::rollout::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Slack of the strict comparison `r > τ`, so that a reward equal to a threshold up to rounding is
/// not above it.
pub const THRESHOLD_SLACK: f64 = 1e-9;

/// When responses that repeat another one of their query are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deduplication {
    /// Before ranking, on text with white space folded (recommended).
    BeforeRanking,
    /// After threshold and cap, on exact text, so that duplicates use up places (authors' code).
    AfterCap,
    /// Never: duplicates count in n, and n' counts unique correct responses (spec §6.1).
    Never,
}

/// What becomes of the gold solution of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GoldSolutions {
    /// Not used.
    Exclude,
    /// Trained on beside the selection; never counted in n or n'.
    Train,
    /// Ranked with reward 1.0 and counted like a sampled response (authors' code).
    Compete,
}

/// Which of the unique correct responses count in n'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CorrectCount {
    /// All whose answer is right (paper).
    Answers,
    /// Those of them that the reward model puts above a bar; it takes a reward model.
    Verified,
}

/// How a group is ranked.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingRule {
    /// The reward.
    pub reward: RewardRule,
    /// What reward-model scores are ranked in, where the reward asks for ranks; see
    /// [`RankingRule::calibrated_on`].
    pub calibration: Option<Arc<Calibration>>,
    /// A correct response counts in n' only if its scaled reward-model score is above this bar; none
    /// counts every correct one (paper). A gold solution that competes counts always.
    pub verified_above: Option<f64>,
    /// Duplicates.
    pub deduplication: Deduplication,
    /// Whether a gold solution takes part in the ranking.
    pub gold_competes: bool,
    /// Leave responses without an answer out from the start (authors' code).
    pub drop_unanswered: bool,
    /// Compare with [`THRESHOLD_SLACK`]; the authors' code compares bare floats.
    pub slack: bool,
}

impl RankingRule {
    /// The same rule with the scores of all these pools as the reference, where it ranks scores.
    #[must_use]
    pub fn calibrated_on<'a>(&self, pools: impl IntoIterator<Item = &'a Pool>) -> Self {
        Self { calibration: self.reward.calibration_on(pools), ..self.clone() }
    }

    /// The reward of a response with this reduced raw score.
    pub fn reward(&self, correct: bool, raw: Option<f64>) -> f64 {
        self.reward.reward(correct, raw, self.calibration.as_deref())
    }

    /// What a reward must exceed a threshold by.
    pub(crate) fn slack(&self) -> f64 {
        if self.slack { THRESHOLD_SLACK } else { 0.0 }
    }

    /// Whether a response counts in n', if no response above it says the same.
    pub fn counts(&self, response: &ScoredResponse) -> bool {
        let verified = self.verified_above.is_none_or(|bar| {
            let part =
                self.reward.model_part(response.reward_model_score, self.calibration.as_deref());
            part > bar + self.slack()
        });
        response.verdict.is_correct() && verified
    }
}

/// A place in a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Index of the response in its group; `None` is the gold solution.
    pub response: Option<usize>,
    /// Its reward.
    pub reward: f64,
    /// Whether it repeats a response ranked above it.
    pub repeats: bool,
}

/// A group ranked by reward, highest first; ties by sample index, the gold solution last.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The places.
    pub places: Vec<Ranked>,
    /// `selected[p]`: n, the number of selected responses among the first p places.
    selected: Vec<u32>,
    /// `correct[p]`: n', the number of unique correct ones among them that count.
    correct: Vec<u32>,
    slack: f64,
}

/// A response on its way into a ranking.
struct Row {
    reward: f64,
    order: u32,
    response: Option<usize>,
    text: u64,
    counts: bool,
}

impl Ranking {
    /// Ranks one group. Ungradable responses are left out: nobody knows what they would teach.
    ///
    /// `gold` is the exact-text hash of the gold solution, read only where it competes.
    pub fn new(group: &[ScoredResponse], gold: Option<u64>, rule: &RankingRule) -> Self {
        let text = |response: &ScoredResponse| match rule.deduplication {
            Deduplication::AfterCap => response.exact_hash,
            Deduplication::BeforeRanking | Deduplication::Never => response.normalized_hash,
        };
        let mut rows: Vec<Row> = group
            .iter()
            .enumerate()
            .filter(|(_, response)| match response.verdict {
                Verdict::Ungradable => false,
                Verdict::NoAnswer => !rule.drop_unanswered,
                Verdict::Correct | Verdict::Incorrect => true,
            })
            .map(|(index, response)| {
                let correct = response.verdict.is_correct();
                let reward = rule.reward(correct, response.reward_model_score);
                let order = response.sample_index;
                let counts = rule.counts(response);
                Row { reward, order, response: Some(index), text: text(response), counts }
            })
            .collect();
        // The authors' gold solution is one more row of a query that has rows.
        let joins = rule.gold_competes && !(rule.drop_unanswered && rows.is_empty());
        if let Some(gold) = gold.filter(|_| joins) {
            let order = u32::MAX;
            rows.push(Row { reward: 1.0, order, response: None, text: gold, counts: true });
        }
        rows.sort_by(|a, b| b.reward.total_cmp(&a.reward).then(a.order.cmp(&b.order)));
        Self::from_rows(&rows, rule)
    }

    fn from_rows(rows: &[Row], rule: &RankingRule) -> Self {
        let mut ranking = Self {
            places: Vec::with_capacity(rows.len()),
            selected: vec![0],
            correct: vec![0],
            slack: rule.slack(),
        };
        let mut seen = BTreeSet::new();
        let (mut selected, mut unique_correct) = (0, 0);
        for &Row { reward, order: _, response, text, counts } in rows {
            let repeats = !seen.insert(text);
            if repeats && rule.deduplication == Deduplication::BeforeRanking {
                continue;
            }
            selected += u32::from(!repeats || rule.deduplication == Deduplication::Never);
            unique_correct += u32::from(counts && !repeats);
            ranking.places.push(Ranked { response, reward, repeats });
            ranking.selected.push(selected);
            ranking.correct.push(unique_correct);
        }
        ranking
    }

    /// How many places have a reward strictly above the threshold.
    pub fn above(&self, threshold: f64) -> usize {
        self.places.partition_point(|place| place.reward > threshold + self.slack)
    }

    /// (n, n') of the first `length` places.
    pub fn counts(&self, length: usize) -> (u32, u32) {
        (self.selected[length], self.correct[length])
    }
}
