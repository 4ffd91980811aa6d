//! Rollouts in the compact form that search works on, without keeping any text.
//!
//! For hundreds of thousands of rows: each response is hashed and dropped, so memory is about 60
//! bytes a row. Parquet has a path of its own that reads the few columns it needs; JSON Lines
//! decode whole rows.

use super::cells::Cells;
use super::columns::Columns;
use super::gather::{Entry, Gathered, Origin};
use super::reading::check_parquet;
use super::scored_columns::{COLUMNS, RowCells, ScoredColumns};
use super::{ReadNotes, RolloutFileError};
use bstar_core::pool::Pool;
use bstar_core::reward::StepReduction;
use bstar_core::{QueryId, Stage};
use bstar_table::{ParquetFile, Row, Rows, TableError, TableFormat};
use std::path::{Path, PathBuf};

/// The scored responses of some files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoredRollouts {
    /// The queries, in order of first appearance.
    pub queries: Vec<QueryId>,
    /// One pool for each temperature and top-p, in rising order, over all queries. Rows of several
    /// iterations or stages that share both share a pool.
    pub pools: Vec<Pool>,
    /// The iterations and stages that the rows come from, in rising order.
    pub populations: Vec<(Option<u32>, Option<Stage>)>,
    /// Rows left out because they were decoded greedily: temperature 0 is no candidate.
    pub greedy: u64,
    /// For each query, [`bstar_core::pool::exact_hash`] of its gold solution, where a row names one.
    pub gold: Vec<Option<u64>>,
    /// What was assumed.
    pub notes: ReadNotes,
}

/// Which rows to keep; all by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this iteration only.
    pub iteration: Option<u32>,
    /// Of this stage only.
    pub stage: Option<Stage>,
}

/// Reads the compact form of rollouts, which may be spread over files in any way. A row without a
/// reward-model score but with step scores gets those reduced. A file without rows is an error.
pub fn read_scored(
    paths: &[PathBuf],
    reduction: StepReduction,
    wanted: Wanted,
) -> Result<ScoredRollouts, RolloutFileError> {
    let mut gathered = Gathered::new(wanted);
    for (file, path) in paths.iter().enumerate() {
        let table = super::open(path)?;
        if table.format() == TableFormat::Parquet {
            read_parquet(table.parquet()?, path, (file, reduction), &mut gathered)?;
        } else {
            read_text(table.rows(None)?, path, (file, reduction), &mut gathered)?;
        }
    }
    gathered.finish(paths)
}

fn read_text(
    rows: Rows,
    path: &Path,
    (file, reduction): (usize, StepReduction),
    gathered: &mut Gathered,
) -> Result<(), RolloutFileError> {
    for row in rows {
        let Row { number: row, value } = row?;
        let cells = Cells { path, row, is_text: true, fields: &value };
        let decoded = cells.decode(&mut gathered.notes, None)?;
        let rollout = decoded.rollout;
        let steps = rollout.step_scores.as_deref().and_then(|scores| reduction.reduce(scores));
        gathered.push(&Entry {
            query: rollout.query_id.as_str(),
            temperature: rollout.temperature,
            top_p: rollout.top_p,
            sample_index: decoded.sample_index,
            text: &rollout.response,
            verdict: rollout.verdict,
            score: rollout.reward_model_score.or(steps),
            gold: decoded.gold_solution.as_deref(),
            origin: Origin { file, row, iteration: rollout.iteration, stage: rollout.stage },
        });
    }
    Ok(())
}

fn read_parquet(
    parquet: ParquetFile,
    path: &Path,
    (file, reduction): (usize, StepReduction),
    gathered: &mut Gathered,
) -> Result<(), RolloutFileError> {
    if parquet.row_count() == 0 {
        return Err(TableError::Empty { path: path.to_owned() }.into());
    }
    check_parquet(path, &parquet)?;
    let known: Vec<&str> = COLUMNS.into_iter().filter(|column| parquet.has(column)).collect();
    let mut first_row = 1;
    for batch in parquet.batches(Some(&known))? {
        let batch = batch?;
        let columns = ScoredColumns::of(&Columns { path, batch: &batch })?;
        for index in 0..batch.num_rows() {
            let cells =
                RowCells { path, file, row: first_row + index as u64, index, columns: &columns };
            let entry = cells.entry(reduction, &mut gathered.notes)?;
            gathered.push(&entry);
        }
        first_row += batch.num_rows() as u64;
    }
    Ok(())
}
