//! One row of JSON values as a rollout, leniently typed.
//!
//! Also Parquet rows come this way when whole rollouts are read: `bstar-table` gives both formats
//! the same shape. What a cell may hold is decided here and, for the compact Parquet path, in
//! `columns`; a test holds the two together.

use super::{ReadNotes, RolloutFileError};
use bstar_core::{FinishReason, QueryId, Rollout, Stage, Verdict};
use bstar_table::TableError;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// The temperature of rows that name none.
pub(super) const DEFAULT_TEMPERATURE: f64 = 1.0;

/// A decoded row. The sample index is 0 where `sample_index` is none.
pub(super) struct Decoded {
    pub(super) rollout: Rollout,
    pub(super) sample_index: Option<u32>,
    pub(super) gold_solution: Option<String>,
}

/// The cells of one row.
pub(super) struct Cells<'a> {
    pub(super) path: &'a Path,
    pub(super) row: u64,
    /// Whether rows of this file have columns of their own (JSON Lines).
    pub(super) is_text: bool,
    pub(super) fields: &'a Map<String, Value>,
}

type Decode<T> = Result<T, RolloutFileError>;

impl Cells<'_> {
    /// Decodes the row, counting in `notes` what it assumes. Text that repeats the row before
    /// (prompt, reason, policy version) shares its memory.
    pub(super) fn decode(
        &self,
        notes: &mut ReadNotes,
        before: Option<&Rollout>,
    ) -> Decode<Decoded> {
        let sample_index = self.whole("sample_index")?;
        let temperature = self.temperature()?;
        let answer = self.text("answer")?.map(ToOwned::to_owned);
        let response = match self.text("response")? {
            Some(response) => Arc::from(response),
            None => Arc::from(self.answer_for_response()?),
        };
        let shared = |column, of: fn(&Rollout) -> &Option<Arc<str>>| {
            let text = self.text(column)?;
            let previous = before.and_then(|before| of(before).as_ref());
            Ok::<_, RolloutFileError>(match (text, previous) {
                (Some(text), Some(previous)) if **previous == *text => Some(Arc::clone(previous)),
                (text, _) => text.map(Arc::from),
            })
        };
        notes.rows += 1;
        notes.assumed_temperature += u64::from(temperature.is_none());
        notes.numbered_samples += u64::from(sample_index.is_none());
        notes.answers_for_responses += u64::from(self.text("response")?.is_none());
        let rollout = Rollout {
            query_id: self.query_id()?,
            sample_index: sample_index.unwrap_or(0),
            temperature: temperature.unwrap_or(DEFAULT_TEMPERATURE),
            top_p: self.float("top_p")?,
            response,
            answer,
            verdict: self.verdict()?,
            reason: shared("reason", |rollout| &rollout.reason)?,
            reward_model_score: self.float("reward_model_score")?,
            step_scores: self.floats("step_scores")?,
            iteration: self.whole("iteration")?,
            stage: self.named("stage", "probe, train or eval", stage_of)?,
            prompt: shared("prompt", |rollout| &rollout.prompt)?,
            reward: self.float("reward")?,
            selected: self.flag("selected")?,
            finish_reason: self.named("finish_reason", "stop or length", finish_reason_of)?,
            token_count: self.whole("token_count")?,
            logprob: self.float("logprob")?,
            entropy: self.float("entropy")?,
            steps_correct: self.flag("steps_correct")?,
            policy_version: shared("policy_version", |rollout| &rollout.policy_version)?,
            candidate_logprobs: self.floats("candidate_logprobs")?,
        };
        let gold_solution = self.text("gold_solution")?.map(ToOwned::to_owned);
        Ok(Decoded { rollout, sample_index, gold_solution })
    }

    fn query_id(&self) -> Decode<QueryId> {
        match self.needed("query_id")? {
            Value::String(id) => Ok(id.as_str().into()),
            Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string().into()),
            other => Err(self.bad("query_id", "text or a whole number", other)),
        }
    }

    fn temperature(&self) -> Decode<Option<f64>> {
        match self.float("temperature")? {
            Some(value) if value < 0.0 => {
                Err(self.bad("temperature", "a number from 0", &value.into()))
            }
            // Adding zero makes a negative zero positive: one temperature, one key.
            value => Ok(value.map(|value| value + 0.0)),
        }
    }

    fn verdict(&self) -> Decode<Verdict> {
        if let Some(verdict) = self.named("verdict", "a verdict", verdict_of)? {
            return Ok(verdict);
        }
        let no_answer = self.fields.get("answer").is_some_and(Value::is_null);
        match self.flag("correct")? {
            Some(correct) => Ok(verdict_of_flag(correct, no_answer)),
            None if self.fields.contains_key("correct") => {
                Err(self.bad("correct", "true or false", &Value::Null))
            }
            None => {
                self.needed("verdict")?;
                Err(self.bad("verdict", "a verdict", &Value::Null))
            }
        }
    }

    fn answer_for_response(&self) -> Decode<&str> {
        match self.text("answer")? {
            Some(answer) => Ok(answer),
            None => Err(match self.needed("response") {
                Err(missing) => missing,
                Ok(null) => self.bad("response", "text", null),
            }),
        }
    }

    fn needed(&self, column: &'static str) -> Decode<&Value> {
        self.fields.get(column).ok_or_else(|| {
            TableError::MissingColumn {
                path: self.path.to_owned(),
                line: self.is_text.then_some(self.row),
                column: column.to_owned(),
                present: self.fields.keys().cloned().collect(),
            }
            .into()
        })
    }

    /// A cell that holds something: a missing column is the same as null.
    fn cell(&self, column: &str) -> Option<&Value> {
        self.fields.get(column).filter(|value| !value.is_null())
    }

    fn text(&self, column: &'static str) -> Decode<Option<&str>> {
        match self.cell(column) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.bad(column, "text", other)),
        }
    }

    fn float(&self, column: &'static str) -> Decode<Option<f64>> {
        match self.cell(column) {
            None => Ok(None),
            Some(value) => {
                value.as_f64().map(Some).ok_or_else(|| self.bad(column, "a number", value))
            }
        }
    }

    fn floats(&self, column: &'static str) -> Decode<Option<Vec<f64>>> {
        let Some(value) = self.cell(column) else { return Ok(None) };
        let items = value.as_array().and_then(|items| items.iter().map(Value::as_f64).collect());
        items.map(Some).ok_or_else(|| self.bad(column, "a list of numbers", value))
    }

    fn whole(&self, column: &'static str) -> Decode<Option<u32>> {
        match self.cell(column) {
            None => Ok(None),
            Some(value) => {
                let whole = value.as_u64().or_else(|| value.as_f64().and_then(whole_of));
                let whole = whole.and_then(|whole| u32::try_from(whole).ok());
                whole.map(Some).ok_or_else(|| self.bad(column, "a whole number from 0", value))
            }
        }
    }

    fn flag(&self, column: &'static str) -> Decode<Option<bool>> {
        match self.cell(column) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => match value.as_f64() {
                Some(number) if number == 0.0 || number == 1.0 => Ok(Some(number == 1.0)),
                _ => Err(self.bad(column, "true or false", value)),
            },
        }
    }

    fn named<T>(
        &self,
        column: &'static str,
        expected: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Decode<Option<T>> {
        match self.text(column)? {
            None => Ok(None),
            Some(text) => {
                parse(text).map(Some).ok_or_else(|| self.bad(column, expected, &text.into()))
            }
        }
    }

    fn bad(&self, column: &'static str, expected: &'static str, found: &Value) -> RolloutFileError {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(60) {
            found.truncate(end);
            found.push('…');
        }
        let (path, row) = (self.path.to_owned(), self.row);
        RolloutFileError::BadCell { path, row, column, expected, found }
    }
}

/// The verdict with this name.
pub(super) fn verdict_of(name: &str) -> Option<Verdict> {
    Some(match name {
        "correct" => Verdict::Correct,
        "incorrect" => Verdict::Incorrect,
        "no_answer" => Verdict::NoAnswer,
        "ungradable" => Verdict::Ungradable,
        _ => return None,
    })
}

/// The verdict of a file that says only whether the answer is right; `no_answer` is whether the row
/// has an answer column with nothing in it.
pub(super) fn verdict_of_flag(correct: bool, no_answer: bool) -> Verdict {
    match (correct, no_answer) {
        (true, _) => Verdict::Correct,
        (false, true) => Verdict::NoAnswer,
        (false, false) => Verdict::Incorrect,
    }
}

/// The stage with this name.
pub(super) fn stage_of(name: &str) -> Option<Stage> {
    [Stage::Probe, Stage::Train, Stage::Eval].into_iter().find(|stage| stage.name() == name)
}

fn finish_reason_of(name: &str) -> Option<FinishReason> {
    match name {
        "stop" => Some(FinishReason::Stop),
        "length" => Some(FinishReason::Length),
        _ => None,
    }
}

/// A float that is a whole number from 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is a whole number within the range of u32"
)]
fn whole_of(value: f64) -> Option<u64> {
    (value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value)).then_some(value as u64)
}
