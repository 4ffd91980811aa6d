//! Rollouts as JSON Lines: one object a row, every column present, null where nothing is known.

use bstar_core::{FinishReason, Rollout, Stage, Verdict};
use serde::Serialize;
use std::io::{self, Write};

/// The columns in the order of the file, which is that of the Parquet schema.
#[derive(Serialize)]
struct Row<'a> {
    query_id: &'a str,
    sample_index: u32,
    temperature: f64,
    top_p: Option<f64>,
    response: &'a str,
    answer: Option<&'a str>,
    verdict: Verdict,
    reason: Option<&'a str>,
    reward_model_score: Option<f64>,
    step_scores: Option<&'a [f64]>,
    iteration: Option<u32>,
    stage: Option<Stage>,
    prompt: Option<&'a str>,
    reward: Option<f64>,
    selected: Option<bool>,
    finish_reason: Option<FinishReason>,
    token_count: Option<u32>,
    logprob: Option<f64>,
    entropy: Option<f64>,
    steps_correct: Option<bool>,
    policy_version: Option<&'a str>,
    candidate_logprobs: Option<&'a [f64]>,
}

pub(super) fn write(rollouts: &[Rollout], mut sink: impl Write) -> io::Result<()> {
    for rollout in rollouts {
        serde_json::to_writer(&mut sink, &row(rollout))?;
        sink.write_all(b"\n")?;
    }
    Ok(())
}

fn row(rollout: &Rollout) -> Row<'_> {
    Row {
        query_id: rollout.query_id.as_str(),
        sample_index: rollout.sample_index,
        temperature: rollout.temperature,
        top_p: rollout.top_p,
        response: &rollout.response,
        answer: rollout.answer.as_deref(),
        verdict: rollout.verdict,
        reason: rollout.reason.as_deref(),
        reward_model_score: rollout.reward_model_score,
        step_scores: rollout.step_scores.as_deref(),
        iteration: rollout.iteration,
        stage: rollout.stage,
        prompt: rollout.prompt.as_deref(),
        reward: rollout.reward,
        selected: rollout.selected,
        finish_reason: rollout.finish_reason,
        token_count: rollout.token_count,
        logprob: rollout.logprob,
        entropy: rollout.entropy,
        steps_correct: rollout.steps_correct,
        policy_version: rollout.policy_version.as_deref(),
        candidate_logprobs: rollout.candidate_logprobs.as_deref(),
    }
}
