//! How good a reward model is, on responses that its training left out (paper §2.2; spec §5).
//!
//! They are of training queries. Labels and responses of these queries are new to it, but the policy
//! whose weights it starts from may have learnt from their solutions, and in later iterations from
//! right answers to them: on queries that nothing was learnt from it may be less good.
//!
//! *Step* measures compare the score of each step with its label; *answer* measures the reduced score
//! of a response with its verdict. Where a task can check steps exactly, the scores are compared with
//! that too: it shows what labels by completion miss. An AUC is the chance that a good one scores
//! above a bad one, ties counted half; it needs some of each.

use crate::monitor::Metric;
use crate::reward::StepReduction;
use crate::step_labels::Labelled;
use std::collections::BTreeSet;

/// Bins of the calibration error.
const BINS: usize = 10;

/// The quality of step scores (raw logits), one list for each labelled response.
pub fn reward_quality(
    held_out: &[Labelled],
    scores: &[Vec<f64>],
    reduction: StepReduction,
) -> Vec<Metric> {
    let pairs = || held_out.iter().zip(scores);
    let steps: Vec<(f64, f64)> = pairs()
        .flat_map(|(one, scores)| {
            scores.iter().copied().zip(one.example.labels.iter().copied()).collect::<Vec<_>>()
        })
        .collect();
    let answers: Vec<(f64, bool)> = pairs()
        .map(|(one, scores)| (reduction.reduce(scores).unwrap_or(f64::NEG_INFINITY), one.correct))
        .collect();
    let labelled: Vec<(f64, bool)> = steps.iter().map(|&(s, label)| (s, label >= 0.5)).collect();
    let right = labelled.iter().filter(|(score, good)| (*score > 0.0) == *good).count();
    let accuracy = (!labelled.is_empty()).then(|| right as f64 / labelled.len() as f64);
    let metric = |name: &str, estimator: &str, value: Option<f64>, count: usize| Metric {
        name: format!("reward_model/{name}"),
        estimator: estimator.into(),
        value,
        low: None,
        high: None,
        queries: count,
    };
    let all_queries = queries(held_out.iter());
    let mut metrics = vec![
        metric("step_auc", "a step of label >= 1/2 scores higher", auc(&labelled), all_queries),
        metric("step_accuracy", "score above 0 where label >= 1/2", accuracy, all_queries),
        metric(
            "calibration_error",
            "mean |probability - label| over ten bins",
            calibration_error(&steps),
            all_queries,
        ),
        metric("brier_score", "mean (probability - label)²", brier_score(&steps), all_queries),
        metric("answer_auc", "a right answer scores higher", auc(&answers), all_queries),
    ];
    if held_out.iter().any(|one| one.truth.is_some()) {
        let checked: Vec<(f64, bool)> = pairs()
            .filter_map(|(one, scores)| Some((one.truth.as_ref()?, scores)))
            .flat_map(|(truth, scores)| {
                scores.iter().copied().zip(truth.iter().copied()).collect::<Vec<_>>()
            })
            .collect();
        let falsely: Vec<(f64, bool)> = pairs()
            .filter(|(one, _)| one.correct)
            .filter_map(|(one, scores)| {
                let good = one.truth.as_ref()?.iter().all(|ok| *ok);
                Some((reduction.reduce(scores)?, good))
            })
            .collect();
        let all = queries(held_out.iter().filter(|one| one.truth.is_some()));
        let right = queries(held_out.iter().filter(|one| one.correct && one.truth.is_some()));
        metrics.push(metric("true_step_auc", "a right step scores higher", auc(&checked), all));
        let estimator = "among right answers, one of right steps scores higher";
        metrics.push(metric("false_positive_auc", estimator, auc(&falsely), right));
    }
    metrics
}

/// The queries of some labelled responses.
fn queries<'a>(labelled: impl Iterator<Item = &'a Labelled>) -> usize {
    labelled.map(|one| one.place).collect::<BTreeSet<_>>().len()
}

/// The chance that a good one scores above a bad one, ties counted half; `None` without some of
/// each.
pub fn auc(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut goods) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let good = tied.iter().filter(|(_, good)| *good).count() as f64;
        let bad = tied.len() as f64 - good;
        wins += good * (below + bad / 2.0);
        below += bad;
        goods += good;
    }
    (goods > 0.0 && below > 0.0).then(|| wins / (goods * below))
}

/// Mean squared distance of the predicted probability from the label (Brier 1950): calibration and
/// sharpness in one; always saying the mean label scores its variance.
fn brier_score(steps: &[(f64, f64)]) -> Option<f64> {
    let squares: f64 = steps.iter().map(|&(score, label)| (sigmoid(score) - label).powi(2)).sum();
    (!steps.is_empty()).then(|| squares / steps.len() as f64)
}

fn sigmoid(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

/// Mean distance of the predicted probability from the label, taken bin by bin (expected
/// calibration error, arXiv 1706.04599).
fn calibration_error(steps: &[(f64, f64)]) -> Option<f64> {
    let mut bins = [(0.0, 0.0); BINS];
    for &(score, label) in steps {
        let probability = sigmoid(score);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a probability times ten"
        )]
        let bin = ((probability * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += probability;
        bins[bin].1 += label;
    }
    let apart: f64 = bins.iter().map(|(predicted, labels)| (predicted - labels).abs()).sum();
    (!steps.is_empty()).then(|| apart / steps.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::LabelledResponse;

    #[test]
    fn an_auc_counts_pairs_in_order() {
        assert_eq!(auc(&[(1.0, true), (0.0, false)]), Some(1.0));
        assert_eq!(auc(&[(0.0, true), (1.0, false)]), Some(0.0));
        assert_eq!(auc(&[(2.0, true), (2.0, false), (3.0, true)]), Some(0.75));
        assert_eq!(auc(&[(1.0, true), (2.0, true)]), None);
        assert_eq!(auc(&[]), None);
    }

    #[test]
    fn the_auc_is_that_of_brute_force() {
        let scored: Vec<(f64, bool)> =
            (0..60_u32).map(|i| (f64::from((i * 37) % 17), (i * 11) % 3 == 0)).collect();
        let (mut wins, mut all) = (0.0, 0.0);
        for good in scored.iter().filter(|s| s.1) {
            for bad in scored.iter().filter(|s| !s.1) {
                all += 1.0;
                wins +=
                    if good.0 > bad.0 { 1.0 } else { f64::from(u8::from(good.0 == bad.0)) / 2.0 };
            }
        }
        assert!((auc(&scored).unwrap() - wins / all).abs() < 1e-12);
    }

    #[test]
    fn a_calibrated_model_has_no_error() {
        let logit = |p: f64| (p / (1.0 - p)).ln();
        let fair: Vec<(f64, f64)> =
            (0..8).map(|i| (logit(0.25), f64::from(u8::from(i % 4 == 0)))).collect();
        assert!(calibration_error(&fair).unwrap() < 1e-12);
        let sure: Vec<(f64, f64)> = fair.iter().map(|(_, label)| (logit(0.95), *label)).collect();
        assert!((calibration_error(&sure).unwrap() - 0.7).abs() < 1e-12);
        // A fair guess costs its variance, ¼ · ¾; a sure one 0.7² more.
        assert!((brier_score(&fair).unwrap() - 0.1875).abs() < 1e-12);
        assert!((brier_score(&sure).unwrap() - 0.1875 - 0.49).abs() < 1e-12);
        assert_eq!(brier_score(&[]), None);
    }

    #[test]
    fn labels_answers_and_true_steps_are_measured_apart() {
        let one = |place, labels: [f64; 2], correct, truth: [bool; 2]| Labelled {
            place,
            example: LabelledResponse {
                prompt: "".into(),
                response: "ab".into(),
                steps: vec![0..1, 1..2],
                labels: labels.to_vec(),
            },
            correct,
            truth: Some(truth.to_vec()),
        };
        let held_out = [
            one(4, [1.0, 1.0], true, [true, true]),
            one(4, [1.0, 1.0], true, [false, false]),
            one(7, [1.0, 0.0], false, [true, false]),
        ];
        let scores = [vec![3.0, 2.0], vec![-1.0, 2.0], vec![2.0, -2.0]];
        let metrics = reward_quality(&held_out, &scores, StepReduction::Min);
        let value = |name: &str| {
            let name = format!("reward_model/{name}");
            metrics.iter().find(|m| m.name == name).and_then(|m| m.value).unwrap()
        };
        assert_eq!(value("step_auc"), 1.0);
        assert!((value("step_accuracy") - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(value("answer_auc"), 1.0);
        assert_eq!(value("false_positive_auc"), 1.0);
        assert!(value("true_step_auc") < 1.0);
        let queries: Vec<usize> = metrics.iter().map(|metric| metric.queries).collect();
        assert_eq!(queries, [2, 2, 2, 2, 2, 2, 1], "queries, neither steps nor responses");
    }
}
