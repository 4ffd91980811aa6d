//! Evaluation on held-out queries: greedy accuracy, and Pass@K-S at a fixed temperature.
//!
//! The settings never follow the controller, so that iterations can be compared (spec §2).

use crate::draw::{DrawActivity, DrawRequest, draw, observations};
use crate::fault::Fault;
use crate::monitor::{Metric, MonitorSettings, Observation, monitor};
use crate::ports::{Decoding, Policy, Progress, RewardModel, Task};
use crate::reward::RewardRule;
use crate::rng::RngKey;
use crate::rollout::{FinishReason, Query, QueryId, Rollout, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// How a policy is evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationSettings {
    /// Test queries answered greedily; 0 means all.
    pub queries: usize,
    /// Of these, queries that are also sampled; 0 means none.
    pub sampled_queries: usize,
    /// Samples for each of them.
    pub samples: usize,
    /// How they are sampled.
    pub decoding: Decoding,
    /// K of Pass@K.
    pub k: Vec<usize>,
    /// S of Pass@K-S.
    pub s: Vec<usize>,
    /// Ranks samples for the combined Reward@K-S.
    pub reward: RewardRule,
    /// The same for every policy that is compared, so that they are sampled alike.
    pub key: RngKey,
}

impl EvaluationSettings {
    /// The monitors of these samples; where scores are ranked, they are ranked among them.
    pub fn monitors(&self, groups: &[Vec<Observation>]) -> MonitorSettings {
        let scores = groups.iter().flatten().map(|o| o.scored.reward_model_score);
        MonitorSettings {
            k: self.k.clone(),
            s: self.s.clone(),
            reward: self.reward,
            calibration: self.reward.calibration_among(scores),
            key: self.key,
        }
    }

    /// Of so many test queries, how many are answered greedily and how many of those are sampled.
    pub(crate) fn counts(&self, all: usize) -> (usize, usize) {
        let asked = if self.queries == 0 { all } else { self.queries.min(all) };
        (asked, self.sampled_queries.min(asked))
    }
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Greedy rollouts (temperature 0) and samples.
    pub rollouts: Vec<Rollout>,
    /// `eval/<task>/…` from the greedy rollouts, monitors from the samples.
    pub metrics: Vec<Metric>,
}

/// Evaluates a policy on `queries`.
pub fn evaluate<P: Policy + ?Sized>(
    settings: &EvaluationSettings,
    queries: &[Query],
    iteration: u32,
    policy: &mut P,
    task: &dyn Task,
    mut reward_model: Option<&mut dyn RewardModel>,
    tick: &mut dyn FnMut(DrawActivity, Progress) -> Result<(), Fault>,
) -> Result<Evaluation, Fault> {
    let (asked, sampled) = settings.counts(queries.len());
    let queries: Vec<&Query> = queries.iter().take(asked).collect();
    let draw_request = |queries, samples, decoding| DrawRequest {
        queries,
        samples,
        decoding,
        key: settings.key,
        iteration,
        stage: Stage::Eval,
        reduction: settings.reward.reduction,
    };
    let sampled = &queries[..sampled];
    let total = (queries.len() + sampled.len() * settings.samples) as u64;
    let greedy = settings.decoding.likeliest();
    let mut greedy_tick = |activity, progress| match activity {
        DrawActivity::Sample => tick(activity, Progress { total, ..progress }),
        DrawActivity::Grade | DrawActivity::Score => tick(activity, progress),
    };
    let request = draw_request(&queries, 1, greedy);
    let mut rollouts = draw(&request, policy, task, None, &mut greedy_tick)?;
    let mut metrics = greedy_metrics(&rollouts, task.name(), settings.key);
    if !sampled.is_empty() && settings.samples > 0 {
        let request = draw_request(sampled, settings.samples, settings.decoding.clone());
        let model = reward_model.take();
        let mut sampled_tick = |activity, Progress { done, total: all }| match activity {
            DrawActivity::Sample => {
                tick(activity, Progress { done: queries.len() as u64 + done, total })
            }
            DrawActivity::Grade | DrawActivity::Score => {
                tick(activity, Progress { done, total: all })
            }
        };
        let drawn = draw(&request, policy, task, model, &mut sampled_tick)?;
        let groups = observations(&drawn, &|response| task.equations(response));
        metrics.extend(monitor(&groups, &settings.monitors(&groups)));
        rollouts.extend(drawn);
    }
    Ok(Evaluation { rollouts, metrics })
}

/// Every metric of an evaluation query by query: name, then the queries that have a value. The mean
/// over these queries is the metric.
pub type QueryValues = BTreeMap<String, BTreeMap<QueryId, f64>>;

/// Takes the stored rollouts of an evaluation apart, query by query, for paired comparisons.
pub fn query_values(
    settings: &EvaluationSettings,
    rollouts: &[Rollout],
    task: &dyn Task,
) -> QueryValues {
    let (greedy, sampled) = rollouts.split_at(greedy_answers(rollouts));
    let mut values = QueryValues::new();
    for monitor in greedy_values(greedy, task.name()) {
        values.insert(monitor.name, monitor.values.into_iter().collect());
    }
    let groups = observations(sampled, &|response| task.equations(response));
    let monitors = settings.monitors(&groups);
    for (id, group) in in_order(sampled).into_iter().zip(groups) {
        for metric in monitor(&[group], &monitors) {
            let Some(value) = metric.value else { continue };
            values.entry(metric.name).or_default().insert(id.clone(), value);
        }
    }
    values
}

/// How many rollouts of an evaluation are greedy answers. They come first, one for each query, so the
/// samples begin where a query appears again. The task could not tell: of a run that left out queries
/// which did not fit, it knows more queries than were asked.
fn greedy_answers(rollouts: &[Rollout]) -> usize {
    let mut seen = BTreeSet::new();
    rollouts.iter().take_while(|rollout| seen.insert(&rollout.query_id)).count()
}

/// Queries in order of first appearance.
fn in_order(rollouts: &[Rollout]) -> Vec<&QueryId> {
    let mut seen = BTreeSet::new();
    rollouts.iter().map(|rollout| &rollout.query_id).filter(|id| seen.insert(*id)).collect()
}

/// One value for each query that has one.
struct QueryMonitor {
    name: String,
    estimator: &'static str,
    values: Vec<(QueryId, f64)>,
}

fn greedy_values(rollouts: &[Rollout], task: &str) -> Vec<QueryMonitor> {
    let flag = |yes: bool| f64::from(u8::from(yes));
    let monitor = |name: &str, estimator, value: &dyn Fn(&Rollout) -> Option<f64>| QueryMonitor {
        name: format!("eval/{task}/{name}"),
        estimator,
        values: rollouts.iter().filter_map(|r| Some((r.query_id.clone(), value(r)?))).collect(),
    };
    let right = |r: &Rollout| r.verdict.is_correct();
    let mut monitors = vec![
        monitor("pass@1", "share of queries answered correctly, greedy", &|r| Some(flag(right(r)))),
        monitor("truncated", "share of greedy responses cut at the length limit", &|r| {
            r.finish_reason.map(|reason| flag(reason == FinishReason::Length))
        }),
    ];
    if rollouts.iter().any(|rollout| rollout.steps_correct.is_some()) {
        let steps = "share of queries with right answer and right steps, greedy";
        monitors.push(monitor("step_accuracy", steps, &|r| {
            r.steps_correct.map(|ok| flag(ok && right(r)))
        }));
        let wrong = "share of right answers with a wrong step, greedy";
        monitors.push(monitor("false_positive_rate", wrong, &|r| {
            r.steps_correct.filter(|_| right(r)).map(|ok| flag(!ok))
        }));
    }
    monitors
}

fn greedy_metrics(rollouts: &[Rollout], task: &str, key: RngKey) -> Vec<Metric> {
    let metric = |monitor: QueryMonitor| {
        let values: Vec<f64> = monitor.values.iter().map(|(_, value)| *value).collect();
        Metric::of_means(monitor.name, monitor.estimator.into(), &values, key)
    };
    greedy_values(rollouts, task).into_iter().map(metric).collect()
}
