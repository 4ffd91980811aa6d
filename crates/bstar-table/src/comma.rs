//! Rows of comma-separated values (RFC 4180): the first line names the columns, every cell is text,
//! and an empty cell is null.

use crate::error::TableError;
use crate::rows::Row;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The rows of a CSV file.
pub(crate) struct CommaRows {
    path: PathBuf,
    columns: Vec<String>,
    records: csv::StringRecordsIntoIter<Box<dyn Read + Send>>,
    any: bool,
}

impl CommaRows {
    /// The rows of bytes that come from the file `path`.
    pub(crate) fn of(path: &Path, bytes: Box<dyn Read + Send>) -> Result<Self, TableError> {
        // With line feeds alone the reader counts lines as an editor does; a carriage return before
        // one is then the end of the last cell.
        let line_feed = csv::Terminator::Any(b'\n');
        let mut reader =
            csv::ReaderBuilder::new().terminator(line_feed).flexible(true).from_reader(bytes);
        let header = reader.headers().map_err(|error| broken(path, &error))?;
        let name = |name: &str| without_return(name).trim_start_matches('\u{feff}').to_owned();
        let columns = header.iter().map(name).collect();
        let path = path.to_owned();
        Ok(Self { path, columns, records: reader.into_records(), any: false })
    }

    /// The next row with the line that it begins on; none at the end. A file without rows is an
    /// error.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row>, TableError> {
        let is_blank = |record: &csv::StringRecord| record.len() == 1 && &record[0] == "\r";
        let record = loop {
            match self.records.next() {
                None if self.any => return Ok(None),
                None => return Err(TableError::Empty { path: self.path.clone() }),
                Some(Ok(record)) if is_blank(&record) => {}
                Some(record) => break record.map_err(|error| broken(&self.path, &error))?,
            }
        };
        self.any = true;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != self.columns.len() {
            let (cells, columns) = (record.len(), self.columns.len());
            let problem = format!("{cells} cells, and the first line names {columns} columns");
            return Err(TableError::BrokenCsv { path: self.path.clone(), line, problem });
        }
        let cell = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        let cells = record.iter().map(|text| cell(without_return(text)));
        let cells = self.columns.iter().cloned().zip(cells);
        Ok(Some(Row { number: line, value: cells.collect() }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A cell without the carriage return that ended its line.
fn without_return(cell: &str) -> &str {
    cell.strip_suffix('\r').unwrap_or(cell)
}

fn broken(path: &Path, error: &csv::Error) -> TableError {
    let line = error.position().map_or(0, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "text is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    TableError::BrokenCsv { path: path.to_owned(), line, problem }
}
