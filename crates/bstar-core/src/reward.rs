//! The reward r of a response (paper eq. 1 and 2; spec §1.2 and §5).
//!
//! Either the answer check alone, `r = 1[correct]`, or the answer check plus a process reward model,
//! `r = 1[correct] + r_prm`, where the model's step scores are reduced to one raw score (a logit)
//! and brought to about [-1, 1]. The authors divide by 5 and do not clip; the paper says "normalised
//! to [-1, 1]"; both, a sigmoid, and the rank among the scores of the iteration are settings.

use crate::calibration::Calibration;
use crate::pool::Pool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The raw score of a response that the reward model could not score, as in the authors' code
/// (spec §1.2: a malformed answer segment gets -5).
pub const UNSCORED: f64 = -5.0;

/// What the reward is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RewardKind {
    /// `1[correct]`.
    Answer,
    /// `1[correct] + r_prm`.
    AnswerAndRewardModel,
}

/// How the scores of the steps become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepReduction {
    /// The lowest score: a chain is as good as its weakest step (the paper).
    Min,
    /// The score of the last step.
    Last,
    /// The mean score.
    Mean,
    /// The logit of the product of the steps' probabilities. Where every step is so sure that the
    /// product is 1 in an `f64`, the lowest score, which it then nearly is.
    Product,
}

impl StepReduction {
    /// Reduces raw step scores (logits); `None` without steps.
    pub fn reduce(self, scores: &[f64]) -> Option<f64> {
        let last = *scores.last()?;
        Some(match self {
            Self::Min => scores.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Last => last,
            Self::Mean => scores.iter().sum::<f64>() / scores.len() as f64,
            Self::Product => {
                let log_product: f64 = scores.iter().map(|&score| log_sigmoid(score)).sum();
                if log_product < 0.0 {
                    // 1 - p without a cancellation: p may be nearly 1.
                    log_product - (-log_product.exp_m1()).ln()
                } else {
                    Self::Min.reduce(scores)?
                }
            }
        })
    }
}

fn log_sigmoid(logit: f64) -> f64 {
    if logit >= 0.0 { -(-logit).exp().ln_1p() } else { logit - logit.exp().ln_1p() }
}

/// How a raw reward-model score (a logit) is brought to about [-1, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RewardScale {
    /// Divide by the divisor, then clip.
    Divide,
    /// `2 · sigmoid(logit) - 1`; divisor and clip are not used.
    Sigmoid,
    /// The rank among the scores of the iteration, from -1 to 1 ([`crate::calibration`]): one threshold
    /// then means the same for any reward model. Divisor and clip are not used.
    Rank,
}

impl RewardScale {
    /// The scale of this name in configs.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "divide" => Some(Self::Divide),
            "sigmoid" => Some(Self::Sigmoid),
            "rank" => Some(Self::Rank),
            _ => None,
        }
    }
}

/// The reward as settings. Every setting has its default in the presets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardRule {
    /// Answer check alone, or with a reward model.
    pub kind: RewardKind,
    /// How the raw score is scaled.
    pub scale: RewardScale,
    /// Divides the raw score (the authors: 5).
    pub divisor: f64,
    /// Clip the divided score to [-clip, clip]; 0 does not clip.
    pub clip: f64,
    /// How step scores become one score.
    pub reduction: StepReduction,
}

impl RewardRule {
    /// The reward of a response. `raw` is the reduced raw score; without one the response counts as
    /// [`UNSCORED`]. Not read when the reward is the answer check alone. `calibration` is what
    /// [`RewardScale::Rank`] ranks in; the other scales do not read it.
    pub fn reward(
        &self,
        correct: bool,
        raw: Option<f64>,
        calibration: Option<&Calibration>,
    ) -> f64 {
        let answer = if correct { 1.0 } else { 0.0 };
        match self.kind {
            RewardKind::Answer => answer,
            RewardKind::AnswerAndRewardModel => answer + self.model_part(raw, calibration),
        }
    }

    /// The reward model's part of the reward, also of a response without a score: it has the lowest
    /// rank.
    pub fn model_part(&self, raw: Option<f64>, calibration: Option<&Calibration>) -> f64 {
        match raw.filter(|raw| !raw.is_nan()) {
            Some(raw) => self.scaled(raw, calibration),
            None if self.scale == RewardScale::Rank => -1.0,
            None => self.scaled(UNSCORED, calibration),
        }
    }

    /// A raw score, scaled.
    pub fn scaled(&self, raw: f64, calibration: Option<&Calibration>) -> f64 {
        match self.scale {
            RewardScale::Divide if self.clip > 0.0 => {
                (raw / self.divisor).clamp(-self.clip, self.clip)
            }
            RewardScale::Divide => raw / self.divisor,
            RewardScale::Sigmoid => 2.0 * log_sigmoid(raw).exp() - 1.0,
            RewardScale::Rank => calibration.expect("ranks need a reference").scaled(raw),
        }
    }

    /// What scores are ranked in, if they are: the scores of all these pools.
    pub fn calibration_on<'a>(
        &self,
        pools: impl IntoIterator<Item = &'a Pool>,
    ) -> Option<Arc<Calibration>> {
        let responses = pools.into_iter().flat_map(|pool| pool.groups.iter().flatten());
        self.calibration_among(responses.map(|response| response.reward_model_score))
    }

    /// What scores are ranked in, if they are: these raw scores, of which some may lack.
    pub fn calibration_among(
        &self,
        scores: impl IntoIterator<Item = Option<f64>>,
    ) -> Option<Arc<Calibration>> {
        let ranks =
            self.kind == RewardKind::AnswerAndRewardModel && self.scale == RewardScale::Rank;
        ranks.then(|| Arc::new(Calibration::of(scores.into_iter().flatten())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(clip: f64) -> RewardRule {
        RewardRule {
            kind: RewardKind::AnswerAndRewardModel,
            scale: RewardScale::Divide,
            divisor: 5.0,
            clip,
            reduction: StepReduction::Min,
        }
    }

    #[test]
    fn the_scores_of_the_worked_pool_come_out() {
        for (correct, raw, expected) in
            [(true, 4.0, 1.8), (true, 2.0, 1.4), (false, -3.0, -0.6), (true, -1.0, 0.8)]
        {
            assert!((rule(0.0).reward(correct, Some(raw), None) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn clipping_bounds_the_model_and_not_the_answer() {
        assert_eq!(rule(1.0).reward(true, Some(40.0), None), 2.0);
        assert_eq!(rule(0.0).reward(true, Some(40.0), None), 9.0);
        assert_eq!(rule(1.0).reward(false, Some(-40.0), None), -1.0);
    }

    #[test]
    fn an_unscored_response_gets_the_lowest_score() {
        assert_eq!(rule(1.0).reward(true, None, None), 0.0);
        assert_eq!(rule(1.0).reward(true, Some(f64::NAN), None), 0.0);
        let answer = RewardRule { kind: RewardKind::Answer, ..rule(1.0) };
        assert_eq!(answer.reward(true, None, None), 1.0);
    }

    #[test]
    fn reductions_agree_on_one_step_and_differ_on_two() {
        use StepReduction::{Last, Mean, Min, Product};
        for reduction in [Min, Last, Mean, Product] {
            assert!((reduction.reduce(&[0.7]).expect("one step") - 0.7).abs() < 1e-12);
            assert_eq!(reduction.reduce(&[]), None);
        }
        assert_eq!(Min.reduce(&[2.0, -1.0, 3.0]), Some(-1.0));
        assert_eq!(Last.reduce(&[2.0, -1.0, 3.0]), Some(3.0));
        // Two even chances make one in four: logit(1/4) = -ln 3.
        let product = Product.reduce(&[0.0, 0.0]).expect("two steps");
        assert!((product + 3.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_product_of_sure_steps_is_finite_and_in_order() {
        let product = |scores: &[f64]| StepReduction::Product.reduce(scores).expect("some steps");
        // The product falls short of 1 by about e^-x for each step, so the logit is x - ln n.
        for score in [20.0_f64, 36.0, 37.0, 40.0, 100.0, 700.0] {
            assert!(
                (product(&[score]) - score).abs() < 1e-9 * score,
                "{score}: {}",
                product(&[score])
            );
            assert!((product(&[score; 4]) - (score - 4.0_f64.ln())).abs() < 1e-9 * score);
        }
        for score in [800.0, f64::MAX, -800.0] {
            assert_eq!(product(&[score]), score);
        }
        let grid = (-10..100).map(|x| product(&[f64::from(x) / 2.0, 41.0, 45.0]));
        let grid: Vec<f64> = grid.collect();
        assert!(grid.iter().all(|score| score.is_finite()) && grid.is_sorted(), "{grid:?}");
    }

    #[test]
    fn the_sigmoid_scale_is_bounded_and_odd() {
        let sigmoid = RewardRule { scale: RewardScale::Sigmoid, ..rule(1.0) };
        assert_eq!(sigmoid.scaled(0.0, None), 0.0);
        assert!((sigmoid.scaled(3.0, None) + sigmoid.scaled(-3.0, None)).abs() < 1e-12);
        assert!(sigmoid.scaled(800.0, None) <= 1.0 && sigmoid.scaled(-800.0, None) >= -1.0);
    }

    #[test]
    fn ranks_bound_the_model_and_an_unscored_response_has_the_lowest() {
        let ranks = RewardRule { scale: RewardScale::Rank, ..rule(1.0) };
        let reference = Calibration::of([-3.0, 1.0, 2.0, 400.0]);
        let reward = |correct, raw| ranks.reward(correct, raw, Some(&reference));
        assert_eq!(reward(true, Some(1.0)), 0.75);
        assert_eq!(reward(false, Some(900.0)), 1.0);
        assert_eq!(reward(true, None), 0.0);
        assert_eq!(reward(false, Some(f64::NAN)), -1.0);
    }
}
