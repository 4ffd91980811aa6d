//! What can go wrong when a table is read, always with the file and, where there is one, the line.
//!
//! Messages are sentences of fact without a full stop, shown behind "error: ". The cause (an I/O or decoder
//! error) is the `source`, never repeated in the message. This crate knows no exit codes:
//! [`TableError::hint`] says what the user can do, and whoever calls decides what kind of fault it
//! is.

use parquet::errors::ParquetError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// An error while reading a table.
#[derive(Debug, Error)]
pub enum TableError {
    /// There is no such file.
    #[error("no such file: {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file has no rows.
    #[error("no rows in {}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused (permission, a directory, a failing disk).
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line is not JSON.
    #[error("broken JSON at {}:{line}:{column}: {problem}", path.display())]
    BrokenJson {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: u64,
        /// 1-based byte in the line; 0 where the parser names none.
        column: usize,
        /// What the parser said.
        problem: String,
    },
    /// A row of a CSV file cannot be read.
    #[error("broken CSV at {}:{line}: {problem}", path.display())]
    BrokenCsv {
        /// The file.
        path: PathBuf,
        /// 1-based line on which the row begins.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A CSV file where rows of JSON are needed.
    #[error("{} is CSV, and rows of JSON are needed here", path.display())]
    NoCsvHere {
        /// The file.
        path: PathBuf,
    },
    /// A line is JSON, but not an object.
    #[error("expected a JSON object at {}:{line}, found {found}", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: u64,
        /// What stands there instead.
        found: &'static str,
    },
    /// A line is not UTF-8.
    #[error("text is not UTF-8 at {}:{line}:{column}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: u64,
        /// 1-based byte in the line.
        column: usize,
    },
    /// A line is longer than we are willing to hold in memory.
    #[error("line longer than {limit} bytes at {}:{line}", path.display())]
    LongLine {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: u64,
        /// The limit.
        limit: usize,
    },
    /// The compressed stream ends early or is damaged.
    #[error("corrupt or truncated {compression} data in {} after line {line}", path.display())]
    BrokenCompression {
        /// The file.
        path: PathBuf,
        /// `gzip` or `zstd`.
        compression: &'static str,
        /// The last line that was read whole; 0 before the first.
        line: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// The Parquet file is truncated, damaged or uses something we cannot read.
    #[error("corrupt, truncated or unsupported Parquet file {}", path.display())]
    BrokenParquet {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: ParquetError,
    },
    /// Parquet is read from its end, which a pipe does not have.
    #[error("{} is no regular file, as Parquet has to be", path.display())]
    ParquetPipe {
        /// The pipe or device.
        path: PathBuf,
    },
    /// A needed column is not there.
    #[error(
        "no column `{column}` in {}{} (columns present: {})",
        path.display(),
        line.map(|line| format!(":{line}")).unwrap_or_default(),
        if present.is_empty() { "none".to_owned() } else { present.join(", ") }
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// 1-based line, in formats where each row has columns of its own.
        line: Option<u64>,
        /// The column.
        column: String,
        /// The columns that are there, in file order.
        present: Vec<String>,
    },
    /// A Parquet column holds a type that has no JSON form here.
    #[error("column `{column}` in {} has type {found}, which cannot be read", path.display())]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The Arrow type.
        found: String,
    },
}

impl TableError {
    /// A [`TableError::BrokenJson`] for a line that serde refused; for readers of typed rows.
    pub fn json(path: &Path, line: u64, error: &serde_json::Error) -> Self {
        // serde appends the position within the one line it saw; ours names the line of the file.
        let text = error.to_string();
        let problem = match text.rfind(" at line ") {
            Some(end) => text[..end].to_owned(),
            None => text,
        };
        Self::BrokenJson { path: path.to_owned(), line, column: error.column(), problem }
    }

    /// What the user can do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => {
                Some("check the path; relative paths start at the folder bstar was started in")
            }
            Self::Empty { .. } => {
                Some("the file was found but holds no rows; was its writer interrupted?")
            }
            Self::Unreadable { .. } => Some("check that the path is a file that you may read"),
            Self::BrokenJson { .. } | Self::NotAnObject { .. } => {
                Some("every line must be one JSON object; correct or remove the line")
            }
            Self::BrokenCsv { .. } => Some("correct the line; cells with commas stand in quotes"),
            Self::NoCsvHere { .. } => Some("convert it to JSON Lines"),
            Self::NotUtf8 { .. } => Some("convert the file to UTF-8"),
            Self::LongLine { .. } => {
                Some("every line must be one JSON object; is this another format?")
            }
            Self::BrokenCompression { .. } | Self::BrokenParquet { .. } => {
                Some("copy or download the file again")
            }
            Self::ParquetPipe { .. } => Some("write it to a file first, and name that"),
            Self::MissingColumn { .. } => {
                Some("name the column that holds it, or add it to the file")
            }
            Self::UnsupportedType { .. } => {
                Some("convert the column to text, numbers, lists or structs")
            }
        }
    }

    /// What the operating system or a decoder said, for errors that become others: this error's own
    /// message then stands above it once, not twice.
    pub fn into_cause(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Unreadable { source, .. } | Self::BrokenCompression { source, .. } => {
                Some(source.into())
            }
            Self::BrokenParquet { source, .. } => Some(source.into()),
            Self::Missing { .. }
            | Self::Empty { .. }
            | Self::BrokenJson { .. }
            | Self::BrokenCsv { .. }
            | Self::NoCsvHere { .. }
            | Self::NotAnObject { .. }
            | Self::NotUtf8 { .. }
            | Self::LongLine { .. }
            | Self::ParquetPipe { .. }
            | Self::MissingColumn { .. }
            | Self::UnsupportedType { .. } => None,
        }
    }

    pub(crate) fn open(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::Missing { path: path.to_owned() };
        }
        Self::Unreadable { path: path.to_owned(), source }
    }

    pub(crate) fn parquet(path: &Path, source: ParquetError) -> Self {
        Self::BrokenParquet { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_error_names_file_line_and_column_once() {
        let error = serde_json::from_str::<serde_json::Value>(r#"{"a": tru}"#).unwrap_err();
        let error = TableError::json(Path::new("data.jsonl"), 7, &error);
        assert_eq!(error.to_string(), "broken JSON at data.jsonl:7:10: expected ident");
    }

    #[test]
    fn a_missing_column_lists_those_present() {
        let error = TableError::MissingColumn {
            path: "a.parquet".into(),
            line: None,
            column: "response".into(),
            present: vec!["id".into(), "text".into()],
        };
        assert_eq!(
            error.to_string(),
            "no column `response` in a.parquet (columns present: id, text)"
        );
    }
}
