//! From queries to scored rollouts: sample, check the answer, score the steps.
//!
//! The same function serves the probe, the training draw and evaluation, so that they can never
//! score differently. Also the way from rollouts to the compact pools and observations that search,
//! selection and monitors work on.

use crate::event::{Event, VerdictCounts};
use crate::fault::{Fault, FaultClass};
use crate::knobs::Sampling;
use crate::monitor::Observation;
use crate::pool::{Pool, ScoredResponse};
use crate::ports::{
    Decoding, GradeRequest, Policy, Progress, PromptRequest, RewardModel, SampleRequest,
    StepRequest, Task,
};
use crate::reward::StepReduction;
use crate::rng::RngKey;
use crate::rollout::{Completion, Query, QueryId, Rollout, Stage, Verdict};
use crate::search::Lane;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What long work is doing while a draw is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrawActivity {
    /// The policy samples.
    Sample,
    /// The answers are checked.
    Grade,
    /// The reward model scores.
    Score,
}

/// What to draw and what for.
#[derive(Clone, Debug)]
pub struct DrawRequest<'a> {
    /// The queries.
    pub queries: &'a [&'a Query],
    /// Responses per query.
    pub samples: usize,
    /// How tokens are drawn.
    pub decoding: Decoding,
    /// Query q is drawn with `key.child(q.id)`: the same at every temperature, on purpose (common
    /// random numbers make candidates comparable).
    pub key: RngKey,
    /// The iteration, for the record.
    pub iteration: u32,
    /// The stage, for the record.
    pub stage: Stage,
    /// How step scores become the one of the record.
    pub reduction: StepReduction,
}

/// Draws, grades and scores. Rollouts come query by query, in the order of the request.
pub fn draw<P: Policy + ?Sized>(
    request: &DrawRequest<'_>,
    policy: &mut P,
    task: &dyn Task,
    reward_model: Option<&mut dyn RewardModel>,
    tick: &mut dyn FnMut(DrawActivity, Progress) -> Result<(), Fault>,
) -> Result<Vec<Rollout>, Fault> {
    let prompts = request.queries.iter().map(|query| PromptRequest {
        prompt: &query.prompt,
        begun: "",
        key: request.key.child(query.id.as_str()),
    });
    let sample_request = SampleRequest {
        prompts: prompts.collect(),
        samples: request.samples,
        decoding: request.decoding.clone(),
    };
    let version = policy.version();
    let groups =
        policy.sample(&sample_request, &mut |progress| tick(DrawActivity::Sample, progress))?;
    let drawn = request.queries.iter().zip(&groups);
    let to_grade: Vec<GradeRequest<'_>> = drawn
        .flat_map(|(query, group)| {
            group.iter().map(|completion| GradeRequest { query, response: &completion.text })
        })
        .collect();
    let mut grades =
        task.grade_all(&to_grade, &mut |progress| tick(DrawActivity::Grade, progress))?.into_iter();
    let mut steps_correct = task.check_steps_all(&to_grade).into_iter();
    let mut reasons = BTreeMap::new();
    let mut rollouts = Vec::with_capacity(request.queries.len() * request.samples);
    for (&query, group) in request.queries.iter().zip(groups) {
        let prompt: Arc<str> = query.prompt.as_str().into();
        for (index, completion) in (0..).zip(group) {
            let grade = grades.next().expect("a task grades every request");
            let reason = reasons.entry(grade.reason).or_insert_with(|| Arc::from(grade.reason));
            rollouts.push(Rollout {
                sample_index: index,
                answer: grade.answer,
                verdict: grade.verdict,
                reason: Some(Arc::clone(reason)),
                steps_correct: steps_correct.next().expect("a task checks every request"),
                prompt: Some(Arc::clone(&prompt)),
                policy_version: Some(Arc::clone(&version)),
                ..record(query, &completion, request)
            });
        }
    }
    if let Some(model) = reward_model {
        let score = &mut |progress| tick(DrawActivity::Score, progress);
        score_steps(&mut rollouts, task, model, request.reduction, score)?;
    }
    Ok(rollouts)
}

fn record(query: &Query, completion: &Completion, request: &DrawRequest<'_>) -> Rollout {
    Rollout {
        query_id: query.id.clone(),
        sample_index: 0,
        temperature: request.decoding.temperature,
        top_p: None,
        response: completion.text.as_str().into(),
        answer: None,
        verdict: Verdict::NoAnswer,
        reason: None,
        reward_model_score: None,
        step_scores: None,
        iteration: Some(request.iteration),
        stage: Some(request.stage),
        prompt: None,
        reward: None,
        selected: None,
        finish_reason: Some(completion.finish_reason),
        token_count: Some(completion.token_count),
        logprob: Some(completion.logprob),
        entropy: Some(completion.entropy),
        steps_correct: None,
        policy_version: None,
        candidate_logprobs: None,
    }
}

fn score_steps(
    rollouts: &mut [Rollout],
    task: &dyn Task,
    model: &mut dyn RewardModel,
    reduction: StepReduction,
    tick: &mut dyn FnMut(Progress) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let requests: Vec<StepRequest<'_>> = rollouts
        .iter()
        .map(|rollout| StepRequest {
            prompt: rollout.prompt.as_deref().unwrap_or_default(),
            response: &rollout.response,
            steps: task.steps(&rollout.response),
        })
        .collect();
    let scores = model.step_scores(&requests, tick)?;
    assert_eq!(scores.len(), rollouts.len(), "a reward model scores every request");
    for (rollout, scores) in rollouts.iter_mut().zip(scores) {
        if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
            return Err(not_finite(*score, rollout));
        }
        rollout.reward_model_score = reduction.reduce(&scores);
        rollout.step_scores = Some(scores);
    }
    Ok(())
}

/// A rollout file has no infinity: read back it would be a score that is not there.
fn not_finite(score: f64, rollout: &Rollout) -> Fault {
    let message = format!(
        "the reward model gives a step of a response to {} the score {score}",
        rollout.query_id
    );
    Fault::new(FaultClass::Training, message).hint(
        "its weights have grown too large: lower `reward_model.learning_rate`, or use another \
         `reward_model.folder`",
    )
}

/// The event that counts verdicts and tokens of a stage, and the reasons that the checker gave.
pub(crate) fn graded(
    iteration: u32,
    stage: Stage,
    rollouts: &[Rollout],
    checker: Option<String>,
) -> Event {
    let mut counts = VerdictCounts::default();
    let mut reasons: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for rollout in rollouts {
        counts.add(rollout.verdict);
        if let Some(reason) = &rollout.reason {
            *reasons.entry(Arc::clone(reason)).or_default() += 1;
        }
    }
    let tokens = rollouts.iter().filter_map(|rollout| rollout.token_count).map(u64::from).sum();
    Event::Graded { iteration, stage, counts, tokens, reasons, checker }
}

impl Rollout {
    /// How it was sampled.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p }
    }

    /// The compact form for search and selection.
    pub fn scored(&self) -> ScoredResponse {
        ScoredResponse::new(
            self.sample_index,
            &self.response,
            self.verdict,
            self.reward_model_score,
        )
    }

    /// The form that monitors read; `equations` are those of a correct response.
    pub fn observation(&self, equations: Vec<String>) -> Observation {
        let tokens = self.token_count.filter(|tokens| *tokens > 0).map(f64::from);
        Observation {
            scored: self.scored(),
            entropy: self.entropy,
            surprisal: self.logprob.zip(tokens).map(|(logprob, tokens)| -logprob / tokens),
            equations,
            steps_correct: self.steps_correct,
            answer: self.answer.clone(),
        }
    }
}

/// Rollouts that were sampled in one way as a pool over a fixed list of queries.
pub fn pool_of<'a>(
    rollouts: impl Iterator<Item = &'a Rollout>,
    queries: &[QueryId],
    sampling: Sampling,
) -> Pool {
    lane_of(rollouts, queries, sampling).pool
}

/// The same with the log-probabilities that the rollouts carry.
pub fn lane_of<'a>(
    rollouts: impl Iterator<Item = &'a Rollout>,
    queries: &[QueryId],
    sampling: Sampling,
) -> Lane {
    let place = places(queries);
    let Sampling { temperature, top_p } = sampling;
    let pool = Pool { temperature, top_p, groups: vec![Vec::new(); queries.len()] };
    let mut lane = Lane { pool, logprobs: vec![Vec::new(); queries.len()] };
    for rollout in rollouts.filter(|rollout| rollout.sampling() == sampling) {
        if let Some(&query) = place.get(&rollout.query_id) {
            lane.pool.groups[query].push(rollout.scored());
            lane.logprobs[query].push(rollout.candidate_logprobs.clone().unwrap_or_default());
        }
    }
    lane
}

/// The queries of some rollouts, in order of first appearance, and a lane over them for each way in
/// which they were sampled, in rising order.
pub fn lanes_of(rollouts: &[Rollout]) -> (Vec<QueryId>, Vec<Lane>) {
    let mut seen = BTreeSet::new();
    let ids = rollouts.iter().map(|rollout| &rollout.query_id);
    let queries: Vec<QueryId> = ids.filter(|id| seen.insert(*id)).cloned().collect();
    let mut ways: Vec<Sampling> = Vec::new();
    for rollout in rollouts {
        if !ways.contains(&rollout.sampling()) {
            ways.push(rollout.sampling());
        }
    }
    ways.sort_by(|a, b| {
        let top_p = |way: &Sampling| way.top_p.unwrap_or(1.0);
        top_p(a).total_cmp(&top_p(b)).then(a.temperature.total_cmp(&b.temperature))
    });
    let lanes = ways.iter().map(|way| lane_of(rollouts.iter(), &queries, *way)).collect();
    (queries, lanes)
}

fn places(queries: &[QueryId]) -> BTreeMap<&QueryId, usize> {
    queries.iter().enumerate().map(|(index, id)| (id, index)).collect()
}

/// Rollouts grouped by query for the monitors, queries in order of first appearance.
pub fn observations(
    rollouts: &[Rollout],
    equations: &dyn Fn(&str) -> Vec<String>,
) -> Vec<Vec<Observation>> {
    let mut place: BTreeMap<&QueryId, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<Observation>> = Vec::new();
    for rollout in rollouts {
        let equations =
            if rollout.verdict.is_correct() { equations(&rollout.response) } else { Vec::new() };
        let next = groups.len();
        let group = *place.entry(&rollout.query_id).or_insert(next);
        if group == next {
            groups.push(Vec::new());
        }
        groups[group].push(rollout.observation(equations));
    }
    groups
}
