//! Parquet files as record batches of chosen columns.
//!
//! A file is opened once; its columns can be listed before some of them are chosen, so that a
//! reader can tell a missing needed column from a missing optional one. Columns are chosen at the
//! top level: a struct comes whole.

use crate::error::TableError;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Rows of a record batch: enough to amortise the work per batch, few enough to stay in cache.
const BATCH_ROWS: usize = 4096;

/// An open Parquet file whose columns are yet to be chosen.
pub struct ParquetFile {
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
}

/// Opens a Parquet file and chooses columns (`None`: all) in one go.
pub fn open_parquet(path: &Path, columns: Option<&[&str]>) -> Result<Batches, TableError> {
    ParquetFile::open(path)?.batches(columns)
}

impl ParquetFile {
    /// Opens a file and reads its footer.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let file = File::open(path).map_err(|error| TableError::open(path, error))?;
        Self::of(path.to_owned(), file)
    }

    /// Reads the footer of the open file `path`.
    pub(crate) fn of(path: PathBuf, file: File) -> Result<Self, TableError> {
        let unreadable = |error| TableError::open(&path, error);
        let about = file.metadata().map_err(unreadable)?;
        if about.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        if !about.is_file() {
            return Err(TableError::ParquetPipe { path });
        }
        if about.len() == 0 {
            return Err(TableError::Empty { path });
        }
        match ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()) {
            Ok(metadata) => Ok(Self { path, file, metadata }),
            Err(source) => Err(TableError::parquet(&path, source)),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The top-level columns and their Arrow types, in file order.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The names of the top-level columns, in file order.
    pub fn columns(&self) -> Vec<String> {
        self.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Whether there is a top-level column of this name.
    pub fn has(&self, column: &str) -> bool {
        self.schema().index_of(column).is_ok()
    }

    /// Number of rows.
    pub fn row_count(&self) -> u64 {
        let rows = self.metadata.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or(0)
    }

    /// The error for a needed column that is not there.
    pub fn missing_column(&self, column: &str) -> TableError {
        TableError::MissingColumn {
            path: self.path.clone(),
            line: None,
            column: column.to_owned(),
            present: self.columns(),
        }
    }

    /// Record batches of these columns (`None`: all), each of which must be there. The batches have
    /// the columns in file order: look them up by name. A file without rows gives no batch.
    pub fn batches(self, columns: Option<&[&str]>) -> Result<Batches, TableError> {
        let mask = match columns {
            None => ProjectionMask::all(),
            Some(columns) => {
                let mut indices = Vec::with_capacity(columns.len());
                for column in columns {
                    indices.push(
                        self.schema().index_of(column).map_err(|_| self.missing_column(column))?,
                    );
                }
                ProjectionMask::roots(
                    self.metadata.metadata().file_metadata().schema_descr(),
                    indices,
                )
            }
        };
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file, self.metadata)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|source| TableError::parquet(&self.path, source))?;
        Ok(Batches { path: self.path, reader: Some(reader) })
    }
}

/// The record batches of a Parquet file; ends after an error.
pub struct Batches {
    path: PathBuf,
    reader: Option<ParquetRecordBatchReader>,
}

impl Batches {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.as_mut()?.next()? {
            Ok(batch) => Some(Ok(batch)),
            Err(error) => {
                self.reader = None;
                Some(Err(TableError::parquet(&self.path, error.into())))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use arrow_array::{Int32Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;

    pub(crate) fn write(path: &Path, batch: &RecordBatch) {
        let mut writer =
            ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    fn sample(rows: i32) -> RecordBatch {
        let text: Vec<String> = (0..rows).map(|row| format!("row {} {row}", row % 7)).collect();
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int32Array::from_iter_values(0..rows)) as _),
            ("text", Arc::new(StringArray::from(text)) as _),
        ])
        .unwrap()
    }

    #[test]
    fn chosen_columns_come_in_batches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, &sample(9000));
        let file = ParquetFile::open(&path).unwrap();
        assert_eq!((file.row_count(), file.columns()), (9000, vec!["id".into(), "text".into()]));
        let batches: Vec<_> = file.batches(Some(&["text"])).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 9000);
        assert!(batches.iter().all(|batch| batch.num_columns() == 1));
    }

    #[test]
    fn a_missing_column_names_those_present() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, &sample(3));
        let error = open_parquet(&path, Some(&["id", "answer"])).err().unwrap().to_string();
        assert!(error.contains("no column `answer` in "), "{error}");
        assert!(error.ends_with("(columns present: id, text)"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_an_error_wherever_it_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, &sample(500));
        let whole = std::fs::read(&path).unwrap();
        for length in (1..whole.len()).step_by(97).chain([whole.len() - 1]) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = open_parquet(&path, None).err().unwrap();
            assert!(matches!(error, TableError::BrokenParquet { .. }), "{length}: {error}");
        }
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(ParquetFile::open(&path), Err(TableError::Empty { .. })));
        assert!(matches!(
            ParquetFile::open(&folder.path().join("none.parquet")),
            Err(TableError::Missing { .. })
        ));
    }

    #[test]
    fn damaged_pages_are_an_error_and_end_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, &sample(500));
        let mut damaged = std::fs::read(&path).unwrap();
        damaged[4..80].fill(0xff);
        std::fs::write(&path, &damaged).unwrap();
        let read: Vec<_> = open_parquet(&path, None).unwrap().collect();
        assert_eq!(read.len(), 1);
        assert!(matches!(read[0], Err(TableError::BrokenParquet { .. })));
    }
}
