//! The Parquet columns of the compact form, read row by row without building rows.
//!
//! The rules for what a cell may hold are those of `cells`.

use super::cells::{DEFAULT_TEMPERATURE, stage_of, verdict_of, verdict_of_flag};
use super::columns::Columns;
use super::gather::{Entry, Origin};
use super::{ReadNotes, RolloutFileError};
use arrow_array::{
    Array, ArrayAccessor, BooleanArray, Float64Array, Int64Array, LargeListArray, StringArray,
};
use bstar_core::Verdict;
use bstar_core::reward::StepReduction;
use std::path::Path;

/// The columns that the compact form is made of.
pub(super) const COLUMNS: [&str; 13] = [
    "query_id",
    "sample_index",
    "temperature",
    "top_p",
    "response",
    "answer",
    "verdict",
    "correct",
    "reward_model_score",
    "step_scores",
    "iteration",
    "stage",
    "gold_solution",
];

/// The columns of one record batch.
pub(super) struct ScoredColumns {
    query_id: Option<StringArray>,
    sample_index: Option<Int64Array>,
    temperature: Option<Float64Array>,
    top_p: Option<Float64Array>,
    response: Option<StringArray>,
    /// Whether there is an answer column at all, be it of nulls only.
    has_answer: bool,
    answer: Option<StringArray>,
    verdict: Option<StringArray>,
    correct: Option<BooleanArray>,
    reward_model_score: Option<Float64Array>,
    step_scores: Option<(LargeListArray, Float64Array)>,
    iteration: Option<Int64Array>,
    stage: Option<StringArray>,
    gold_solution: Option<StringArray>,
}

impl ScoredColumns {
    pub(super) fn of(columns: &Columns<'_>) -> Result<Self, RolloutFileError> {
        Ok(Self {
            query_id: columns.id("query_id")?,
            sample_index: columns.wholes("sample_index")?,
            temperature: columns.floats("temperature")?,
            top_p: columns.floats("top_p")?,
            response: columns.text("response")?,
            has_answer: columns.batch.column_by_name("answer").is_some(),
            answer: columns.text("answer")?,
            verdict: columns.text("verdict")?,
            correct: columns.flags("correct")?,
            reward_model_score: columns.floats("reward_model_score")?,
            step_scores: columns.float_lists("step_scores")?,
            iteration: columns.wholes("iteration")?,
            stage: columns.text("stage")?,
            gold_solution: columns.text("gold_solution")?,
        })
    }
}

/// One row of [`ScoredColumns`].
pub(super) struct RowCells<'a> {
    pub(super) path: &'a Path,
    pub(super) file: usize,
    /// 1-based row in the file.
    pub(super) row: u64,
    /// Row in the batch.
    pub(super) index: usize,
    pub(super) columns: &'a ScoredColumns,
}

impl<'a> RowCells<'a> {
    /// The row in compact form, counting in `notes` what is assumed.
    pub(super) fn entry(
        &self,
        reduction: StepReduction,
        notes: &mut ReadNotes,
    ) -> Result<Entry<'a>, RolloutFileError> {
        let columns = self.columns;
        let query = self.at(columns.query_id.as_ref());
        let response = self.at(columns.response.as_ref());
        let answer = self.at(columns.answer.as_ref());
        let text = response.or(answer).ok_or_else(|| self.bad("response", "text", "null"))?;
        let sample_index = self.whole("sample_index", self.at(columns.sample_index.as_ref()))?;
        let temperature = self.finite(columns.temperature.as_ref());
        if let Some(temperature) = temperature.filter(|temperature| *temperature < 0.0) {
            let found = temperature.to_string();
            return Err(self.bad("temperature", "a number from 0", &found));
        }
        let stage = match self.at(columns.stage.as_ref()) {
            None => None,
            Some(name) => Some(
                stage_of(name)
                    .ok_or_else(|| self.bad("stage", "probe, train or eval", &quoted(name)))?,
            ),
        };
        let iteration = self.whole("iteration", self.at(columns.iteration.as_ref()))?;
        notes.rows += 1;
        notes.assumed_temperature += u64::from(temperature.is_none());
        notes.numbered_samples += u64::from(sample_index.is_none());
        notes.answers_for_responses += u64::from(response.is_none());
        Ok(Entry {
            query: query.ok_or_else(|| self.bad("query_id", "text or a whole number", "null"))?,
            // Adding zero makes a negative zero positive: one temperature, one key.
            temperature: temperature.unwrap_or(DEFAULT_TEMPERATURE) + 0.0,
            top_p: self.finite(columns.top_p.as_ref()),
            sample_index,
            text,
            verdict: self.verdict(answer)?,
            score: self.score(reduction)?,
            gold: self.at(columns.gold_solution.as_ref()),
            origin: Origin { file: self.file, row: self.row, iteration, stage },
        })
    }

    fn verdict(&self, answer: Option<&str>) -> Result<Verdict, RolloutFileError> {
        if let Some(name) = self.at(self.columns.verdict.as_ref()) {
            return verdict_of(name).ok_or_else(|| self.bad("verdict", "a verdict", &quoted(name)));
        }
        match self.at(self.columns.correct.as_ref()) {
            Some(correct) => {
                Ok(verdict_of_flag(correct, self.columns.has_answer && answer.is_none()))
            }
            None if self.columns.correct.is_some() => {
                Err(self.bad("correct", "true or false", "null"))
            }
            None => Err(self.bad("verdict", "a verdict", "null")),
        }
    }

    fn score(&self, reduction: StepReduction) -> Result<Option<f64>, RolloutFileError> {
        if let Some(score) = self.finite(self.columns.reward_model_score.as_ref()) {
            return Ok(Some(score));
        }
        let Some((lists, numbers)) = &self.columns.step_scores else { return Ok(None) };
        if lists.is_null(self.index) {
            return Ok(None);
        }
        let bound = |index: usize| {
            usize::try_from(lists.value_offsets()[index]).expect("list offsets are not negative")
        };
        let range = bound(self.index)..bound(self.index + 1);
        let scores = &numbers.values()[range.clone()];
        if scores.iter().any(|score| !score.is_finite())
            || (numbers.null_count() > 0 && range.clone().any(|item| numbers.is_null(item)))
        {
            return Err(self.bad("step_scores", "a list of numbers", "a null or NaN among them"));
        }
        Ok(reduction.reduce(scores))
    }

    /// The cell of a column; a missing column is the same as null.
    fn at<T>(&self, column: Option<&'a T>) -> Option<<&'a T as ArrayAccessor>::Item>
    where
        &'a T: ArrayAccessor,
        T: Array,
    {
        let column = column?;
        column.is_valid(self.index).then(|| column.value(self.index))
    }

    fn finite(&self, column: Option<&'a Float64Array>) -> Option<f64> {
        self.at(column).filter(|value| value.is_finite())
    }

    fn whole(
        &self,
        column: &'static str,
        value: Option<i64>,
    ) -> Result<Option<u32>, RolloutFileError> {
        let whole = |value: i64| {
            u32::try_from(value)
                .map_err(|_| self.bad(column, "a whole number from 0", &value.to_string()))
        };
        value.map(whole).transpose()
    }

    fn bad(&self, column: &'static str, expected: &'static str, found: &str) -> RolloutFileError {
        let (path, row, found) = (self.path.to_owned(), self.row, found.to_owned());
        RolloutFileError::BadCell { path, row, column, expected, found }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
