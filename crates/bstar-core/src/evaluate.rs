//! Evaluation on held-out queries: greedy accuracy, and Pass@K-S at a fixed temperature.
//!
//! The settings never follow the controller, so that iterations can be compared (spec §2).

use crate::draw::{DrawActivity, DrawRequest, draw, observations};
use crate::fault::Fault;
use crate::monitor::{Metric, MonitorSettings, monitor};
use crate::ports::{Decoding, Policy, Progress, RewardModel, Task};
use crate::reward::RewardRule;
use crate::rng::RngKey;
use crate::rollout::{FinishReason, Query, Rollout, Stage};

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
    let limit = if settings.queries == 0 { queries.len() } else { settings.queries };
    let queries: Vec<&Query> = queries.iter().take(limit).collect();
    let draw_request = |queries, samples, decoding| DrawRequest {
        queries,
        samples,
        decoding,
        key: settings.key,
        iteration,
        stage: Stage::Eval,
        reduction: settings.reward.reduction,
    };
    let sampled = &queries[..settings.sampled_queries.min(queries.len())];
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
        let (k, s) = (settings.k.clone(), settings.s.clone());
        let monitors = MonitorSettings { k, s, reward: settings.reward, key: settings.key };
        metrics.extend(monitor(&groups, &monitors));
        rollouts.extend(drawn);
    }
    Ok(Evaluation { rollouts, metrics })
}

fn greedy_metrics(rollouts: &[Rollout], task: &str, key: RngKey) -> Vec<Metric> {
    let flag = |yes: bool| f64::from(u8::from(yes));
    let correct: Vec<f64> = rollouts.iter().map(|r| flag(r.verdict.is_correct())).collect();
    let checked: Vec<f64> = rollouts
        .iter()
        .filter_map(|r| r.steps_correct.map(|ok| flag(ok && r.verdict.is_correct())))
        .collect();
    let false_positives: Vec<f64> = rollouts
        .iter()
        .filter(|r| r.verdict.is_correct())
        .filter_map(|r| r.steps_correct.map(|ok| flag(!ok)))
        .collect();
    let truncated: Vec<f64> = rollouts
        .iter()
        .filter_map(|r| r.finish_reason.map(|reason| flag(reason == FinishReason::Length)))
        .collect();
    let metric = |name: &str, estimator: &str, values: &[f64]| {
        Metric::of_means(format!("eval/{task}/{name}"), estimator.into(), values, key)
    };
    let mut metrics =
        vec![metric("pass@1", "share of queries answered correctly, greedy", &correct)];
    let cut = "share of greedy responses cut at the length limit";
    metrics.push(metric("truncated", cut, &truncated));
    if !checked.is_empty() {
        let right = "share of queries with right answer and right steps, greedy";
        metrics.push(metric("step_accuracy", right, &checked));
        let wrong = "share of right answers with a wrong step, greedy";
        metrics.push(metric("false_positive_rate", wrong, &false_positives));
    }
    metrics
}
