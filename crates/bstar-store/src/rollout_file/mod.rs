//! Rollout files: the rows that runs, other trainers and analyses exchange.
//!
//! A row is a [`bstar_core::Rollout`] with one column for each of its fields, in JSON Lines (plain,
//! gzip, zstd) or Parquet. Needed are `query_id`, `response` (or at least `answer`) and `verdict`
//! (or `correct`); every other column may be missing, which is the same as null. Foreign files are
//! met half-way: whole numbers may be floats, floats may be integers or float32, text may be a
//! dictionary, `query_id` may be a number. What was assumed is counted in [`ReadNotes`] so that the
//! caller can say it.
//!
//! A sample is one (query, temperature, top-p, sample index, iteration, stage); the same sample twice
//! is an error that names both rows. NaN and infinities are null when read; none is written, since
//! what is read back would be another rollout.

mod cells;
mod columns;
mod gather;
mod json_lines;
mod parquet;
mod reading;
mod scored;
mod scored_columns;

use crate::disk::{self, DiskError};
use crate::manifest::FormatVersion;
use bstar_core::{Fault, FaultClass, Rollout};
use bstar_table::{Compression, TableError, TableFile, TableFormat};
use std::path::{Path, PathBuf};
use thiserror::Error;

pub(crate) use reading::read_published;
pub use reading::{ReadRollouts, read_rollouts};
pub use scored::{ScoredRollouts, Wanted, read_scored};

/// The version of the row format, kept in the metadata of Parquet files that we write.
pub const ROLLOUT_FORMAT: FormatVersion = FormatVersion { major: 1, minor: 3 };

/// What a reader assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadNotes {
    /// Rows read.
    pub rows: u64,
    /// Rows without a temperature; they count as drawn at 1.0.
    pub assumed_temperature: u64,
    /// Rows without a sample index; they are numbered by order of appearance.
    pub numbered_samples: u64,
    /// Rows without a response, whose answer stands in for it (duplicates are then by answer).
    pub answers_for_responses: u64,
}

/// Why a rollout file cannot be read or written.
#[derive(Debug, Error)]
pub enum RolloutFileError {
    /// The table beneath the rollouts.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The disk, while writing.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A cell holds the wrong kind of value.
    #[error("expected {expected} in column `{column}` at {}:{row}, found {found}", path.display())]
    BadCell {
        /// The file.
        path: PathBuf,
        /// 1-based row (line in JSON Lines).
        row: u64,
        /// The column.
        column: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A Parquet column has the wrong type.
    #[error("expected {expected} in column `{column}` of {}, found type {found}", path.display())]
    BadColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// What was expected.
        expected: &'static str,
        /// The Arrow type.
        found: String,
    },
    /// The same sample stands in two rows.
    #[error(
        "sample {sample_index} of query `{query_id}` at temperature {temperature} stands twice: {}:{row} and {}:{other_row}",
        path.display(),
        other_path.display()
    )]
    Duplicate {
        /// The query.
        query_id: String,
        /// The temperature.
        temperature: f64,
        /// The sample index.
        sample_index: u32,
        /// File of the first row.
        path: PathBuf,
        /// The first row.
        row: u64,
        /// File of the second row.
        other_path: PathBuf,
        /// The second row.
        other_row: u64,
    },
    /// A newer bstar wrote the file.
    #[error("rollout format {found} of {} is newer than {ROLLOUT_FORMAT}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: FormatVersion,
    },
    /// A number to be written is NaN or infinite.
    #[error("sample {sample_index} of query `{query_id}` has `{column}` = {value}")]
    NotFinite {
        /// The query.
        query_id: String,
        /// The sample index.
        sample_index: u32,
        /// The column.
        column: &'static str,
        /// The number.
        value: f64,
    },
    /// The name does not say in which format to write.
    #[error("cannot tell the format of {} from its name", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
}

impl From<RolloutFileError> for Fault {
    fn from(error: RolloutFileError) -> Self {
        let message = error.to_string();
        let data = |hint: &str| Self::new(FaultClass::Data, &message).hint(hint);
        match error {
            RolloutFileError::Table(TableError::MissingColumn { .. }) => data(
                "a rollout row needs `query_id`, `response` (or `answer`) and `verdict` (or \
                 `correct`)",
            ),
            RolloutFileError::Table(error) => {
                let mut fault = Self::new(FaultClass::Data, message);
                fault.hint = error.hint().map(ToOwned::to_owned);
                match error.into_cause() {
                    Some(cause) => fault.because(cause),
                    None => fault,
                }
            }
            RolloutFileError::Disk(error) => error.into(),
            RolloutFileError::BadCell { column: "verdict", .. } => {
                data("a verdict is `correct`, `incorrect`, `no_answer` or `ungradable`")
            }
            RolloutFileError::BadCell { .. } | RolloutFileError::BadColumn { .. } => {
                data("correct the column; the row format is in the reference")
            }
            RolloutFileError::Duplicate { .. } => {
                data("give each sample of a query its own `sample_index`, or name each file once")
            }
            RolloutFileError::NewerFormat { .. } => {
                data("use the version of bstar that wrote the file, or a later one")
            }
            RolloutFileError::NotFinite { .. } => Self::new(FaultClass::Training, message).hint(
                "a model gives numbers that are not finite: lower its learning rate, or start from \
                 another",
            ),
            RolloutFileError::UnknownFormat { .. } => Self::new(FaultClass::Usage, message)
                .hint("end the name in .parquet, .jsonl, .jsonl.gz or .jsonl.zst"),
        }
    }
}

/// Opens a file of rollouts: not CSV, in which a number is text.
fn open(path: &Path) -> Result<TableFile, RolloutFileError> {
    let table = TableFile::open(path)?;
    if table.format() == TableFormat::Csv {
        return Err(TableError::NoCsvHere { path: path.to_owned() }.into());
    }
    Ok(table)
}

/// Refuses a name that does not say in which format to write.
pub fn check_name(path: &Path) -> Result<(), RolloutFileError> {
    format_of_name(path).map(drop)
}

fn format_of_name(path: &Path) -> Result<TableFormat, RolloutFileError> {
    TableFormat::claimed(path)
        .filter(|format| *format != TableFormat::Csv)
        .ok_or_else(|| RolloutFileError::UnknownFormat { path: path.to_owned() })
}

/// Writes rollouts so that the file is there whole or not at all; the name says in which format. A
/// number that is not finite is refused.
pub fn write_rollouts(path: &Path, rollouts: &[Rollout]) -> Result<(), RolloutFileError> {
    let format = format_of_name(path)?;
    rollouts.iter().try_for_each(check_finite)?;
    disk::publish(path, |sink| write_as(format, rollouts, sink))?;
    Ok(())
}

/// Writes rollouts as a run publishes them.
pub(crate) fn write_published(rollouts: &[Rollout], sink: disk::Sink<'_>) -> std::io::Result<()> {
    write_as(TableFormat::Parquet, rollouts, sink)
}

fn check_finite(rollout: &Rollout) -> Result<(), RolloutFileError> {
    let one = |column, value: Option<f64>| value.map(|value| (column, value));
    let single = [
        one("temperature", Some(rollout.temperature)),
        one("reward_model_score", rollout.reward_model_score),
        one("reward", rollout.reward),
        one("logprob", rollout.logprob),
        one("entropy", rollout.entropy),
    ];
    let list = |column, values: &Option<Vec<f64>>| -> Vec<(&'static str, f64)> {
        values.iter().flatten().map(|value| (column, *value)).collect()
    };
    let lists = [
        list("step_scores", &rollout.step_scores),
        list("candidate_logprobs", &rollout.candidate_logprobs),
    ];
    match single
        .into_iter()
        .flatten()
        .chain(lists.into_iter().flatten())
        .find(|(_, value)| !value.is_finite())
    {
        None => Ok(()),
        Some((column, value)) => Err(RolloutFileError::NotFinite {
            query_id: rollout.query_id.to_string(),
            sample_index: rollout.sample_index,
            column,
            value,
        }),
    }
}

fn write_as(
    format: TableFormat,
    rollouts: &[Rollout],
    sink: disk::Sink<'_>,
) -> std::io::Result<()> {
    match format {
        TableFormat::Csv => unreachable!("refused by its name"),
        TableFormat::Parquet => parquet::write(rollouts, sink),
        TableFormat::JsonLines(Compression::Plain) => json_lines::write(rollouts, sink),
        TableFormat::JsonLines(Compression::Gzip) => {
            let mut encoder = flate2::write::GzEncoder::new(sink, flate2::Compression::default());
            json_lines::write(rollouts, &mut encoder)?;
            encoder.finish().map(drop)
        }
        TableFormat::JsonLines(Compression::Zstd) => {
            let mut encoder = zstd::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            encoder.include_checksum(true)?;
            json_lines::write(rollouts, &mut encoder)?;
            encoder.finish().map(drop)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bstar_core::Verdict;

    pub(crate) fn rollout(index: u32) -> Rollout {
        Rollout {
            query_id: "q".into(),
            sample_index: index,
            temperature: 0.5,
            top_p: None,
            response: format!("response {index}").into(),
            answer: None,
            verdict: Verdict::NoAnswer,
            reason: None,
            reward_model_score: None,
            step_scores: None,
            iteration: None,
            stage: None,
            prompt: None,
            reward: None,
            selected: None,
            finish_reason: None,
            token_count: None,
            logprob: None,
            entropy: None,
            steps_correct: None,
            policy_version: None,
            candidate_logprobs: None,
        }
    }

    const FORMATS: [TableFormat; 4] = [
        TableFormat::Parquet,
        TableFormat::JsonLines(Compression::Plain),
        TableFormat::JsonLines(Compression::Gzip),
        TableFormat::JsonLines(Compression::Zstd),
    ];

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error_in_every_format() {
        let rollouts: Vec<Rollout> = (0..500).map(rollout).collect();
        for format in FORMATS {
            let file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let mut witness = disk::Witness::of(file);
            assert!(write_as(format, &rollouts, &mut witness).is_err(), "{format:?}");
            let kind = witness.failure.unwrap().kind();
            assert_eq!(kind, std::io::ErrorKind::StorageFull, "{format:?}");
        }
    }

    #[test]
    fn equal_rollouts_are_equal_bytes() {
        let rollouts: Vec<Rollout> = (0..500).map(rollout).collect();
        for format in FORMATS {
            let bytes = || {
                let mut sink = Vec::new();
                write_as(format, &rollouts, &mut sink).unwrap();
                sink
            };
            assert_eq!(bytes(), bytes(), "{format:?}");
        }
    }

    #[test]
    fn a_number_that_would_not_read_back_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let (rest, some) = (rollout(1), Some(value));
            for (broken, column) in [
                (Rollout { reward_model_score: some, ..rest.clone() }, "reward_model_score"),
                (Rollout { step_scores: Some(vec![1.0, value]), ..rest.clone() }, "step_scores"),
                (
                    Rollout { candidate_logprobs: Some(vec![value]), ..rest.clone() },
                    "candidate_logprobs",
                ),
                (Rollout { reward: some, ..rest.clone() }, "reward"),
                (Rollout { logprob: some, ..rest.clone() }, "logprob"),
                (Rollout { entropy: some, ..rest.clone() }, "entropy"),
                (Rollout { temperature: value, ..rest.clone() }, "temperature"),
            ] {
                let error = write_rollouts(&path, &[rollout(0), broken]).unwrap_err();
                let told = format!("sample 1 of query `q` has `{column}` = {value}");
                assert_eq!(error.to_string(), told);
                assert_eq!(Fault::from(error).class, FaultClass::Training);
                assert!(!path.exists());
            }
        }
    }

    #[test]
    fn a_name_without_a_known_ending_is_refused() {
        let error = write_rollouts(Path::new("nowhere/rollouts.csv"), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot tell the format of nowhere/rollouts.csv from its name"
        );
        assert_eq!(Fault::from(error).class, FaultClass::Usage);
    }
}
