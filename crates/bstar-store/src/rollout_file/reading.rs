//! Whole rollouts out of one or more files.

use super::cells::{Cells, Decoded};
use super::parquet::FORMAT_KEY;
use super::{ROLLOUT_FORMAT, ReadNotes, RolloutFileError};
use bstar_core::{QueryId, Rollout, Stage};
use bstar_table::{ParquetFile, Row, TableError, TableFormat};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every column that a rollout row may have.
const COLUMNS: [&str; 24] = [
    "query_id",
    "sample_index",
    "temperature",
    "top_p",
    "response",
    "answer",
    "verdict",
    "reason",
    "correct",
    "reward_model_score",
    "step_scores",
    "iteration",
    "stage",
    "prompt",
    "reward",
    "selected",
    "finish_reason",
    "token_count",
    "logprob",
    "entropy",
    "steps_correct",
    "policy_version",
    "candidate_logprobs",
    "gold_solution",
];

/// The rollouts of some files.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRollouts {
    /// The rows, in the order of the files.
    pub rollouts: Vec<Rollout>,
    /// The gold solutions of queries that have one; the first row that names it counts.
    pub gold_solutions: BTreeMap<QueryId, Arc<str>>,
    /// What was assumed.
    pub notes: ReadNotes,
}

/// Reads rollouts, which may be spread over files in any way. A file without rows is an error.
pub fn read_rollouts(paths: &[PathBuf]) -> Result<ReadRollouts, RolloutFileError> {
    let mut reader = Reader {
        paths,
        seen: Seen::default(),
        read: ReadRollouts {
            rollouts: Vec::new(),
            gold_solutions: BTreeMap::new(),
            notes: ReadNotes::default(),
        },
    };
    for file in 0..paths.len() {
        reader.read_file(file)?;
    }
    Ok(reader.read)
}

/// Reads rollouts that a run published: there may be none.
pub(crate) fn read_published(path: &Path) -> Result<Vec<Rollout>, RolloutFileError> {
    match read_rollouts(std::slice::from_ref(&path.to_owned())) {
        Ok(read) => Ok(read.rollouts),
        Err(RolloutFileError::Table(TableError::Empty { .. })) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Refuses a Parquet file that lacks a needed column or that a newer bstar wrote.
pub(super) fn check_parquet(path: &Path, file: &ParquetFile) -> Result<(), RolloutFileError> {
    let format = file.schema().metadata().get(FORMAT_KEY).and_then(|text| text.parse().ok());
    if let Some(found) =
        format.filter(|found: &crate::FormatVersion| !found.is_readable_by(ROLLOUT_FORMAT))
    {
        return Err(RolloutFileError::NewerFormat { path: path.to_owned(), found });
    }
    for (column, stand_in) in
        [("query_id", "query_id"), ("response", "answer"), ("verdict", "correct")]
    {
        if !file.has(column) && !file.has(stand_in) {
            return Err(file.missing_column(column).into());
        }
    }
    Ok(())
}

struct Reader<'a> {
    paths: &'a [PathBuf],
    seen: Seen,
    read: ReadRollouts,
}

impl Reader<'_> {
    fn read_file(&mut self, file: usize) -> Result<(), RolloutFileError> {
        let path = &self.paths[file];
        let table = super::open(path)?;
        let is_text = table.format() != TableFormat::Parquet;
        let rows = if is_text {
            table.rows(None)?
        } else {
            let parquet = table.parquet()?;
            check_parquet(path, &parquet)?;
            let known: Vec<&str> =
                COLUMNS.into_iter().filter(|column| parquet.has(column)).collect();
            parquet.rows(Some(&known))?
        };
        for row in rows {
            let Row { number, value } = row?;
            let cells = Cells { path, row: number, is_text, fields: &value };
            let decoded = cells.decode(&mut self.read.notes, self.read.rollouts.last())?;
            self.take(decoded, Place { file, row: number })?;
        }
        Ok(())
    }

    fn take(&mut self, decoded: Decoded, place: Place) -> Result<(), RolloutFileError> {
        let Decoded { mut rollout, sample_index, gold_solution } = decoded;
        let query = self.seen.query(&rollout.query_id);
        rollout.sample_index =
            sample_index.unwrap_or_else(|| self.seen.next_index(query, &rollout));
        if let Some(first) = self.seen.insert(query, &rollout, place) {
            return Err(RolloutFileError::Duplicate {
                query_id: rollout.query_id.to_string(),
                temperature: rollout.temperature,
                sample_index: rollout.sample_index,
                path: self.paths[first.file].clone(),
                row: first.row,
                other_path: self.paths[place.file].clone(),
                other_row: place.row,
            });
        }
        if let Some(gold) = gold_solution {
            let id = rollout.query_id.clone();
            self.read.gold_solutions.entry(id).or_insert_with(|| gold.into());
        }
        self.read.rollouts.push(rollout);
        Ok(())
    }
}

/// Where a row stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) row: u64,
}

/// Bits of temperature and top-p.
type SamplingBits = (u64, Option<u64>);

/// Query, sampling, sample index, iteration, stage.
type SampleKey = (usize, SamplingBits, u32, Option<u32>, Option<Stage>);

fn bits_of(rollout: &Rollout) -> SamplingBits {
    (rollout.temperature.to_bits(), rollout.top_p.map(f64::to_bits))
}

/// The samples read so far. The maps are asked, never walked.
#[derive(Default)]
struct Seen {
    queries: HashMap<QueryId, usize>,
    samples: HashMap<SampleKey, Place>,
    unnumbered: HashMap<(usize, SamplingBits), u32>,
}

impl Seen {
    fn query(&mut self, id: &QueryId) -> usize {
        let next = self.queries.len();
        *self.queries.entry(id.clone()).or_insert(next)
    }

    fn next_index(&mut self, query: usize, rollout: &Rollout) -> u32 {
        let next = self.unnumbered.entry((query, bits_of(rollout))).or_insert(0);
        *next += 1;
        *next - 1
    }

    /// The earlier place of the same sample, if there is one.
    fn insert(&mut self, query: usize, rollout: &Rollout, place: Place) -> Option<Place> {
        let key = (query, bits_of(rollout), rollout.sample_index, rollout.iteration, rollout.stage);
        self.samples.insert(key, place)
    }
}
