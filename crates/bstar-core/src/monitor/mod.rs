//! Monitors of exploration and exploitation (paper §2.2; spec §2).
//!
//! A monitor is the mean over queries of a per-query value, with the number of queries that have
//! one, a 95 % bootstrap interval over them, and its estimator named. A query without a value (too
//! few samples, no equation, no reward-model score) is left out of that monitor's mean and shows in
//! its count; it never counts as zero.

mod bootstrap;
mod estimators;
mod spread;

pub use bootstrap::mean_interval;
pub use estimators::{pass_at_k_s, reward_at_k_s};
pub use spread::{uniformity, weighted_entropy};

use crate::calibration::Calibration;
use crate::pool::ScoredResponse;
use crate::reward::{RewardRule, RewardScale};
use crate::rng::RngKey;
use crate::rollout::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A monitored value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Name, such as `explore/pass@32-4`.
    pub name: String,
    /// What was computed.
    pub estimator: String,
    /// Mean over queries; none where no query has a value.
    pub value: Option<f64>,
    /// Lower end of the 95 % interval.
    pub low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub high: Option<f64>,
    /// Queries with a value.
    pub queries: usize,
}

/// A response as monitors see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Verdict, score and text hashes.
    pub scored: ScoredResponse,
    /// Mean token entropy (nats), where the engine reports it.
    pub entropy: Option<f64>,
    /// Mean negative log-probability of the drawn tokens (nats).
    pub surprisal: Option<f64>,
    /// The equations in it; read of correct responses only.
    pub equations: Vec<String>,
    /// Whether a step check found every step right.
    pub steps_correct: Option<bool>,
    /// The answer found.
    pub answer: Option<String>,
}

/// What to monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorSettings {
    /// K of Pass@K and Best-of-K.
    pub k: Vec<usize>,
    /// S of Pass@K-S and Reward@K-S.
    pub s: Vec<usize>,
    /// Ranks responses for the combined Reward@K-S.
    pub reward: RewardRule,
    /// What scores are ranked in, where the reward ranks them; without it there is no combined
    /// ranking then.
    pub calibration: Option<Arc<Calibration>>,
    /// Seeds the bootstrap.
    pub key: RngKey,
}

/// Every monitor over rollout groups, one group per query, each drawn at one temperature.
pub fn monitor(groups: &[Vec<Observation>], settings: &MonitorSettings) -> Vec<Metric> {
    let mut panel = Panel { groups, key: settings.key, metrics: Vec::new() };
    panel.explore(settings);
    panel.exploit(settings);
    panel.check();
    panel.metrics
}

struct Panel<'a> {
    groups: &'a [Vec<Observation>],
    key: RngKey,
    metrics: Vec<Metric>,
}

impl Panel<'_> {
    fn explore(&mut self, settings: &MonitorSettings) {
        for &k in &settings.k {
            let estimator = format!("unbiased Pass@{k}: at least 1 correct among {k} of n samples");
            self.add(format!("explore/pass@{k}"), estimator, |group| {
                let (copies, others) = multiplicities(group);
                pass_at_k_s(&copies, others, k, 1)
            });
            for &s in settings.s.iter().filter(|s| **s <= k) {
                let estimator = format!(
                    "unbiased Pass@{k}-{s}: at least {s} unique correct among {k} of n samples"
                );
                self.add(format!("explore/pass@{k}-{s}"), estimator, |group| {
                    let (copies, others) = multiplicities(group);
                    pass_at_k_s(&copies, others, k, s)
                });
            }
        }
        self.add(
            "explore/diversity",
            "unique equations / equations over correct responses",
            |group| {
                let correct = group.iter().filter(|o| o.scored.verdict.is_correct());
                let equations: Vec<&String> = correct.flat_map(|o| &o.equations).collect();
                let unique: BTreeSet<&String> = equations.iter().copied().collect();
                (!equations.is_empty()).then(|| unique.len() as f64 / equations.len() as f64)
            },
        );
        self.add("explore/distinct_answers", "distinct answers found among the samples", |group| {
            let answers: BTreeSet<&str> =
                group.iter().filter_map(|o| o.answer.as_deref()).collect();
            tells_answers(group).then_some(answers.len() as f64)
        });
        self.add("explore/entropy", "mean token entropy in nats, temperature 1", |group| {
            mean(group.iter().filter_map(|o| o.entropy))
        });
        self.add("explore/surprisal", "mean negative log-probability per token in nats", |group| {
            mean(group.iter().filter_map(|o| o.surprisal))
        });
        self.add(
            "data/duplicate_rate",
            "1 - unique texts / samples, white space folded",
            |group| {
                let unique: BTreeSet<u64> =
                    group.iter().map(|o| o.scored.normalized_hash).collect();
                (!group.is_empty()).then(|| 1.0 - unique.len() as f64 / group.len() as f64)
            },
        );
    }

    fn exploit(&mut self, settings: &MonitorSettings) {
        let calibration = settings.calibration.as_deref();
        let is_scaled = settings.reward.scale != RewardScale::Rank || calibration.is_some();
        let model_only = |o: &Observation| o.scored.reward_model_score;
        let combined = |o: &Observation| {
            let raw = o.scored.reward_model_score.filter(|_| is_scaled)?;
            let part = settings.reward.scaled(raw, calibration);
            Some(f64::from(u8::from(o.scored.verdict.is_correct())) + part)
        };
        let rankings: [(&str, &str, Rank<'_>); 2] = [
            ("", "reward model only", &model_only),
            ("/combined", "answer check plus reward model", &combined),
        ];
        for (suffix, ranking, rank) in rankings {
            for &k in &settings.k {
                let estimator = format!("unbiased Best-of-{k}, ranked by {ranking}");
                self.add(format!("exploit/best_of_{k}{suffix}"), estimator, |group| {
                    reward_at_k_s(&ranked_labels(group, rank)?, k, 1)
                });
                for &s in settings.s.iter().filter(|s| **s <= k) {
                    let estimator = format!(
                        "unbiased Reward@{k}-{s}: the {s} best of {k} are correct, ranked by {ranking}"
                    );
                    self.add(format!("exploit/reward@{k}-{s}{suffix}"), estimator, |group| {
                        reward_at_k_s(&ranked_labels(group, rank)?, k, s)
                    });
                }
            }
        }
    }

    fn check(&mut self) {
        let share = |verdict: Verdict| {
            move |group: &[Observation]| {
                let hits = group.iter().filter(|o| o.scored.verdict == verdict).count();
                let known = verdict != Verdict::NoAnswer || tells_answers(group);
                (known && !group.is_empty()).then(|| hits as f64 / group.len() as f64)
            }
        };
        self.add(
            "verify/no_answer",
            "share of samples without an answer",
            share(Verdict::NoAnswer),
        );
        self.add(
            "verify/ungradable",
            "share of samples that could not be graded",
            share(Verdict::Ungradable),
        );
        if !self.groups.iter().flatten().any(|o| o.steps_correct.is_some()) {
            return;
        }
        self.add(
            "check/step_accuracy",
            "share of samples with right answer and right steps",
            |group| {
                let checked = group.iter().filter_map(|o| o.steps_correct.map(|ok| (o, ok)));
                mean(
                    checked.map(|(o, ok)| f64::from(u8::from(ok && o.scored.verdict.is_correct()))),
                )
            },
        );
        self.add(
            "check/false_positive_rate",
            "share of right answers with a wrong step",
            |group| {
                let right = group.iter().filter(|o| o.scored.verdict.is_correct());
                mean(right.filter_map(|o| o.steps_correct).map(|ok| f64::from(u8::from(!ok))))
            },
        );
    }

    fn add(
        &mut self,
        name: impl Into<String>,
        estimator: impl Into<String>,
        value: impl Fn(&[Observation]) -> Option<f64>,
    ) {
        let name = name.into();
        let values: Vec<f64> = self.groups.iter().filter_map(|group| value(group)).collect();
        self.metrics.push(Metric::of_means(name, estimator.into(), &values, self.key));
    }
}

impl Metric {
    /// The mean of one value per query, with its interval.
    pub fn of_means(name: String, estimator: String, values: &[f64], key: RngKey) -> Self {
        let interval = mean_interval(values, key.child(&name));
        Self {
            estimator,
            value: mean(values.iter().copied()),
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
            queries: values.len(),
            name,
        }
    }
}

/// Ranks an observation, where it can.
type Rank<'a> = &'a dyn Fn(&Observation) -> Option<f64>;

/// How often each distinct correct response was drawn, and how many responses are not correct.
fn multiplicities(group: &[Observation]) -> (Vec<usize>, usize) {
    let mut copies: BTreeMap<u64, usize> = BTreeMap::new();
    let mut others = 0;
    for observation in group {
        if observation.scored.verdict.is_correct() {
            *copies.entry(observation.scored.normalized_hash).or_default() += 1;
        } else {
            others += 1;
        }
    }
    (copies.into_values().collect(), others)
}

/// Whether a group names its answers. Files of other trainers may hold verdicts without them, and
/// then nobody knows which responses had none.
fn tells_answers(group: &[Observation]) -> bool {
    let is_silent = |o: &Observation| o.answer.is_none() && o.scored.verdict.is_answered();
    !group.is_empty() && !group.iter().any(is_silent)
}

/// Whether each response is correct, by rank from high to low, ties by sample index; `None` where no
/// response has a score. A response without one ranks last.
fn ranked_labels(
    group: &[Observation],
    rank: &dyn Fn(&Observation) -> Option<f64>,
) -> Option<Vec<bool>> {
    let mut rows: Vec<(f64, u32, bool)> = group
        .iter()
        .map(|o| {
            let score = rank(o).unwrap_or(f64::NEG_INFINITY);
            (score, o.scored.sample_index, o.scored.verdict.is_correct())
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let scored = rows.first().is_some_and(|row| row.0 > f64::NEG_INFINITY);
    scored.then(|| rows.into_iter().map(|row| row.2).collect())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
