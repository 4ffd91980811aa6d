//! Rollouts as Parquet: zstd pages, dictionaries for repeated text (prompts repeat k times), and
//! plain 64-bit types that every reader of Parquet knows.
//!
//! The bytes depend on the rollouts only. The version of the row format is in the schema metadata.

use super::ROLLOUT_FORMAT;
use crate::disk::Sink;
use arrow_array::builder::{Float64Builder, ListBuilder};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bstar_core::{FinishReason, Rollout, Stage, Verdict};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Key of the schema metadata that holds the version of the row format.
pub(super) const FORMAT_KEY: &str = "bstar.rollouts";

const BATCH_ROWS: usize = 4096;
const ROW_GROUP_ROWS: usize = 1 << 17;

pub(super) fn write(rollouts: &[Rollout], sink: Sink<'_>) -> io::Result<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // Nobody searches these files by value, and long responses make long statistics.
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    write_batches(rollouts, sink, properties).map_err(io::Error::other)
}

fn write_batches(
    rollouts: &[Rollout],
    sink: Sink<'_>,
    properties: WriterProperties,
) -> Result<(), ParquetError> {
    let schema = schema();
    let mut writer = ArrowWriter::try_new(sink, Arc::clone(&schema), Some(properties))?;
    for rows in rollouts.chunks(BATCH_ROWS) {
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns(rows))?)?;
    }
    writer.close()?;
    Ok(())
}

fn schema() -> SchemaRef {
    let floats = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
    let fields = [
        ("query_id", DataType::Utf8, false),
        ("sample_index", DataType::Int64, false),
        ("temperature", DataType::Float64, false),
        ("top_p", DataType::Float64, true),
        ("response", DataType::Utf8, false),
        ("answer", DataType::Utf8, true),
        ("verdict", DataType::Utf8, false),
        ("reason", DataType::Utf8, true),
        ("reward_model_score", DataType::Float64, true),
        ("step_scores", floats.clone(), true),
        ("iteration", DataType::Int64, true),
        ("stage", DataType::Utf8, true),
        ("prompt", DataType::Utf8, true),
        ("reward", DataType::Float64, true),
        ("selected", DataType::Boolean, true),
        ("finish_reason", DataType::Utf8, true),
        ("token_count", DataType::Int64, true),
        ("logprob", DataType::Float64, true),
        ("entropy", DataType::Float64, true),
        ("steps_correct", DataType::Boolean, true),
        ("policy_version", DataType::Utf8, true),
        ("candidate_logprobs", floats, true),
    ];
    let fields: Vec<Field> =
        fields.into_iter().map(|(name, kind, nullable)| Field::new(name, kind, nullable)).collect();
    let metadata = HashMap::from([(FORMAT_KEY.to_owned(), ROLLOUT_FORMAT.to_string())]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// The columns of some rows, in the order of the schema.
fn columns(rows: &[Rollout]) -> Vec<ArrayRef> {
    vec![
        text(rows, |row| Some(row.query_id.as_str())),
        wholes(rows, |row| Some(row.sample_index)),
        floats(rows, |row| Some(row.temperature)),
        floats(rows, |row| row.top_p),
        text(rows, |row| Some(&row.response)),
        text(rows, |row| row.answer.as_deref()),
        text(rows, |row| Some(verdict_name(row.verdict))),
        text(rows, |row| row.reason.as_deref()),
        floats(rows, |row| row.reward_model_score),
        float_lists(rows, |row| row.step_scores.as_deref()),
        wholes(rows, |row| row.iteration),
        text(rows, |row| row.stage.map(Stage::name)),
        text(rows, |row| row.prompt.as_deref()),
        floats(rows, |row| row.reward),
        flags(rows, |row| row.selected),
        text(rows, |row| row.finish_reason.map(finish_reason_name)),
        wholes(rows, |row| row.token_count),
        floats(rows, |row| row.logprob),
        floats(rows, |row| row.entropy),
        flags(rows, |row| row.steps_correct),
        text(rows, |row| row.policy_version.as_deref()),
        float_lists(rows, |row| row.candidate_logprobs.as_deref()),
    ]
}

fn text<'a>(rows: &'a [Rollout], cell: fn(&'a Rollout) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(cell).collect::<StringArray>())
}

fn wholes(rows: &[Rollout], cell: fn(&Rollout) -> Option<u32>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| cell(row).map(i64::from)).collect::<Int64Array>())
}

fn floats(rows: &[Rollout], cell: fn(&Rollout) -> Option<f64>) -> ArrayRef {
    Arc::new(rows.iter().map(cell).collect::<Float64Array>())
}

fn flags(rows: &[Rollout], cell: fn(&Rollout) -> Option<bool>) -> ArrayRef {
    Arc::new(rows.iter().map(cell).collect::<BooleanArray>())
}

fn float_lists(rows: &[Rollout], cell: fn(&Rollout) -> Option<&[f64]>) -> ArrayRef {
    let mut builder = ListBuilder::new(Float64Builder::new());
    for row in rows {
        match cell(row) {
            Some(values) => {
                builder.values().append_slice(values);
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    Arc::new(builder.finish())
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Correct => "correct",
        Verdict::Incorrect => "incorrect",
        Verdict::NoAnswer => "no_answer",
        Verdict::Ungradable => "ungradable",
    }
}

fn finish_reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
