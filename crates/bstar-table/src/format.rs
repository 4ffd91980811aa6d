//! Which format a file has.
//!
//! The extension says what a file claims to be; the first bytes decide where the extension is not
//! known, and also where it claims plain text: no JSON text starts like gzip, zstd or Parquet, and
//! downloads often keep `.jsonl` while the content is compressed.

use crate::error::TableError;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

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
}

impl TableFormat {
    /// The format of an existing file.
    pub fn of(path: &Path) -> Result<Self, TableError> {
        let claimed = Self::claimed(path);
        if let Some(
            packed @ (Self::Parquet | Self::JsonLines(Compression::Gzip | Compression::Zstd)),
        ) = claimed
        {
            // Whether the content keeps the promise shows when it is decoded.
            return if path.exists() { Ok(packed) } else { Err(missing(path)) };
        }
        let mut magic = Vec::with_capacity(4);
        let file = File::open(path).map_err(|error| TableError::open(path, error))?;
        file.take(4).read_to_end(&mut magic).map_err(|error| TableError::open(path, error))?;
        Ok(match magic.as_slice() {
            [0x1f, 0x8b, ..] => Self::JsonLines(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd] => Self::JsonLines(Compression::Zstd),
            b"PAR1" => Self::Parquet,
            _ => Self::JsonLines(Compression::Plain),
        })
    }

    /// What the extension claims, for files that are yet to be written; `None` if it is not known.
    pub fn claimed(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "jsonl" | "json" | "ndjson" => Self::JsonLines(Compression::Plain),
            "gz" => Self::JsonLines(Compression::Gzip),
            "zst" | "zstd" => Self::JsonLines(Compression::Zstd),
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }
}

fn missing(path: &Path) -> TableError {
    TableError::Missing { path: path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, content: &[u8], expected: TableFormat) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        assert_eq!(TableFormat::of(&path).unwrap(), expected, "{name}");
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
            let error = TableFormat::of(Path::new(name)).unwrap_err();
            assert_eq!(error.to_string(), format!("no such file: {name}"));
        }
    }
}
