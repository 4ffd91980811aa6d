//! Which format a file has.
//!
//! The extension says what a file claims to be; the first bytes decide where the extension is not
//! known, and also where it claims plain text: no JSON text starts like gzip, zstd or Parquet, and
//! downloads often keep `.jsonl` while the content is compressed. A file is opened once, and the bytes
//! that were looked at are read again, so that text may come from a pipe.

use crate::comma::CommaRows;
use crate::error::TableError;
use crate::lines::Lines;
use crate::parquet_file::ParquetFile;
use std::fs::File;
use std::io::{self, Cursor, Read as _};
use std::path::{Path, PathBuf};

/// How the bytes of a text file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Compression {
    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// One JSON object a line.
    JsonLines(Compression),
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values; read only, and only as rows.
    Csv,
}

impl TableFormat {
    /// What the extension claims, for files that are yet to be written; `None` if it is not known.
    pub fn claimed(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "jsonl" | "json" | "ndjson" => Self::JsonLines(Compression::Plain),
            "gz" => Self::JsonLines(Compression::Gzip),
            "zst" | "zstd" => Self::JsonLines(Compression::Zstd),
            "parquet" => Self::Parquet,
            "csv" => Self::Csv,
            _ => return None,
        })
    }
}

/// A file that is open and whose format is known.
pub struct TableFile {
    path: PathBuf,
    file: File,
    /// Bytes taken from the file to tell its format.
    head: Vec<u8>,
    format: TableFormat,
}

impl TableFile {
    /// Opens a file and tells its format.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let file = File::open(path).map_err(|error| TableError::open(path, error))?;
        let mut table = Self {
            path: path.to_owned(),
            file,
            head: Vec::new(),
            format: TableFormat::JsonLines(Compression::Plain),
        };
        match TableFormat::claimed(path) {
            // Whether the content keeps the promise shows when it is decoded.
            Some(packed) if packed != table.format => table.format = packed,
            _ => table.format = table.look()?,
        }
        Ok(table)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format.
    pub fn format(&self) -> TableFormat {
        self.format
    }

    /// The lines of the file, as text; a CSV file, whose rows are no lines, is refused.
    pub fn lines(self) -> Result<Lines, TableError> {
        let compression = match self.format {
            TableFormat::JsonLines(compression) => compression,
            TableFormat::Parquet => Compression::Plain,
            TableFormat::Csv => return Err(TableError::NoCsvHere { path: self.path }),
        };
        let about = self.file.metadata().map_err(|error| TableError::open(&self.path, error))?;
        if about.is_dir() {
            return Err(TableError::open(&self.path, io::ErrorKind::IsADirectory.into()));
        }
        Lines::of(self.path, compression, Cursor::new(self.head).chain(self.file))
    }

    /// The rows of the file as CSV, whatever its format.
    pub(crate) fn comma_rows(self) -> Result<CommaRows, TableError> {
        CommaRows::of(&self.path, Box::new(Cursor::new(self.head).chain(self.file)))
    }

    /// The file as Parquet, whatever its format.
    pub fn parquet(self) -> Result<ParquetFile, TableError> {
        ParquetFile::of(self.path, self.file)
    }

    /// The format by the first bytes.
    fn look(&mut self) -> Result<TableFormat, TableError> {
        let head = (&self.file).take(4).read_to_end(&mut self.head);
        head.map_err(|error| TableError::open(&self.path, error))?;
        Ok(match self.head.as_slice() {
            [0x1f, 0x8b, ..] => TableFormat::JsonLines(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd] => TableFormat::JsonLines(Compression::Zstd),
            b"PAR1" => TableFormat::Parquet,
            _ => TableFormat::JsonLines(Compression::Plain),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, content: &[u8], expected: TableFormat) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        assert_eq!(TableFile::open(&path).unwrap().format(), expected, "{name}");
    }

    #[test]
    fn the_extension_decides_and_magic_bytes_help() {
        let plain = TableFormat::JsonLines(Compression::Plain);
        let gzip = TableFormat::JsonLines(Compression::Gzip);
        let zstd = TableFormat::JsonLines(Compression::Zstd);
        check("a.jsonl", b"{}", plain);
        check("a.JSONL.GZ", b"", gzip);
        check("a.jsonl.zst", b"", zstd);
        check("a.parquet", b"", TableFormat::Parquet);
        check("a.jsonl", &[0x1f, 0x8b, 8, 0], gzip);
        check("noextension", &[0x28, 0xb5, 0x2f, 0xfd, 1], zstd);
        check("noextension", b"PAR1...", TableFormat::Parquet);
        check("a.data", b"", plain);
    }

    #[test]
    fn a_missing_file_is_named() {
        for name in ["nowhere/a.jsonl", "nowhere/a.parquet"] {
            let error = TableFile::open(Path::new(name)).err().unwrap();
            assert_eq!(error.to_string(), format!("no such file: {name}"));
        }
    }
}
