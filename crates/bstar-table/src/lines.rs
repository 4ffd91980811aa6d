//! Lines of a text file that may be compressed, with their numbers.
//!
//! Blank lines are skipped but counted, so that a number is the line an editor shows. A line is
//! bounded by [`MAX_LINE_BYTES`]: a file without line ends must not fill the memory. Text is checked
//! to be UTF-8 and never repaired, because a replacement character would change a response.
//! A file without a line of content gives one [`TableError::Empty`] at its end.

use crate::error::TableError;
use crate::format::{Compression, TableFile};
use flate2::read::MultiGzDecoder;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest line that is read: 64 MiB.
pub const MAX_LINE_BYTES: usize = 64 << 20;

const BUFFER_BYTES: usize = 256 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a text file; an iterator of (1-based line number, line without its end).
///
/// After an error the iterator ends.
pub struct Lines {
    path: PathBuf,
    compression: Compression,
    reader: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
    limit: usize,
    any: bool,
    ended: bool,
}

impl Lines {
    /// Opens a JSON Lines or other text file; the compression is that of [`TableFile::open`].
    pub fn open(path: &Path) -> Result<Self, TableError> {
        TableFile::open(path)?.lines()
    }

    /// The lines of bytes that come from the file `path`.
    pub(crate) fn of(
        path: PathBuf,
        compression: Compression,
        bytes: impl Read + Send + 'static,
    ) -> Result<Self, TableError> {
        let reader: Box<dyn Read + Send> = match compression {
            Compression::Plain => Box::new(bytes),
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(bytes))),
            Compression::Zstd => {
                Box::new(zstd::Decoder::new(bytes).map_err(|error| TableError::open(&path, error))?)
            }
        };
        Ok(Self {
            path,
            compression,
            reader: Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)),
            line: Vec::new(),
            number: 0,
            limit: MAX_LINE_BYTES,
            any: false,
            ended: false,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next line that is not blank, borrowed until the following call: the same as the
    /// iterator, without an allocation for each line.
    pub fn next_line(&mut self) -> Result<Option<(u64, &str)>, TableError> {
        if self.next_bytes()?.is_none() {
            return Ok(None);
        }
        match std::str::from_utf8(trim_line(&self.line, self.number)) {
            Ok(text) => Ok(Some((self.number, text))),
            Err(error) => {
                self.ended = true;
                Err(TableError::NotUtf8 {
                    path: self.path.clone(),
                    line: self.number,
                    column: error.valid_up_to() + 1,
                })
            }
        }
    }

    /// The next line that is not blank as it is, for those to whom a line that is no text is a bad
    /// row and not the end.
    pub fn next_bytes(&mut self) -> Result<Option<(u64, &[u8])>, TableError> {
        match self.advance() {
            Ok(true) => Ok(Some((self.number, trim_line(&self.line, self.number)))),
            Ok(false) => Ok(None),
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }

    /// Reads up to and including the next line with content; false at the end of the file.
    fn advance(&mut self) -> Result<bool, TableError> {
        while !self.ended {
            self.line.clear();
            let most = self.limit as u64 + 1;
            let read = (&mut self.reader).take(most).read_until(b'\n', &mut self.line);
            if read.map_err(|source| self.read_error(source))? == 0 {
                self.ended = true;
                if !self.any {
                    return Err(TableError::Empty { path: self.path.clone() });
                }
                break;
            }
            self.number += 1;
            if self.line.len() > self.limit {
                let (path, line, limit) = (self.path.clone(), self.number, self.limit);
                return Err(TableError::LongLine { path, line, limit });
            }
            if !trim_line(&self.line, self.number).trim_ascii().is_empty() {
                self.any = true;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_error(&self, source: io::Error) -> TableError {
        let path = self.path.clone();
        match self.compression {
            Compression::Plain => TableError::Unreadable { path, source },
            compression => TableError::BrokenCompression {
                path,
                compression: compression.name(),
                line: self.number,
                source,
            },
        }
    }
}

impl Iterator for Lines {
    type Item = Result<(u64, String), TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line()
            .map(|line| line.map(|(number, text)| (number, text.to_owned())))
            .transpose()
    }
}

/// The line without its end (`\n` or `\r\n`) and, if it is the first, without a byte-order mark.
fn trim_line(line: &[u8], number: u64) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(name: &str, content: &[u8]) -> Vec<Result<(u64, String), String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let shown = |error: TableError| {
            error.to_string().replace(&folder.path().display().to_string(), "").replace('/', "")
        };
        Lines::open(&path).unwrap().map(|line| line.map_err(shown)).collect()
    }

    fn check(name: &str, content: &[u8], expected: &[(u64, &str)]) {
        let expected: Vec<_> = expected.iter().map(|&(n, text)| Ok((n, text.to_owned()))).collect();
        assert_eq!(read(name, content), expected, "{name}");
    }

    #[test]
    fn lines_keep_their_numbers_in_every_compression() {
        let content = "\u{feff}one\r\n\n  \ntwo é\nthree".as_bytes();
        let expected = [(1, "one"), (4, "two é"), (5, "three")];
        check("a.jsonl", content, &expected);
        check("a.jsonl.gz", &gzip(content), &expected);
        check("a.jsonl.zst", &zstd(content), &expected);
    }

    #[test]
    fn concatenated_members_and_frames_are_read_on() {
        let expected = [(1, "one"), (2, "two")];
        check("a.gz", &[gzip(b"one\n"), gzip(b"two\n")].concat(), &expected);
        check("a.zst", &[zstd(b"one\n"), zstd(b"two\n")].concat(), &expected);
    }

    #[test]
    fn a_file_without_content_is_an_error() {
        for (name, content) in
            [("a.jsonl", vec![]), ("b.jsonl", b" \n\r\n\n".to_vec()), ("c.jsonl.gz", gzip(b""))]
        {
            assert_eq!(read(name, &content), [Err(format!("no rows in {name}"))]);
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_line_and_byte() {
        assert_eq!(
            read("a.jsonl", b"ok\n\nab\xff\n"),
            [Ok((1, "ok".into())), Err("text is not UTF-8 at a.jsonl:3:3".into())]
        );
    }

    #[test]
    fn truncated_and_corrupt_compression_is_an_error_and_ends_the_file() {
        let lines: Vec<String> = (0..20_000).map(|i| format!("line {} {i}", i * i % 977)).collect();
        let lines = lines.join("\n");
        for (name, mut packed) in
            [("a.gz", gzip(lines.as_bytes())), ("a.zst", zstd(lines.as_bytes()))]
        {
            let kind = if name == "a.gz" { "gzip" } else { "zstd" };
            let expected = format!("corrupt or truncated {kind} data in {name} after line");
            let truncated = read(name, &packed[..packed.len() - 9]);
            let last = truncated.last().unwrap().as_ref().unwrap_err();
            assert!(last.starts_with(&expected), "{last}");
            assert_eq!(truncated.iter().filter(|line| line.is_err()).count(), 1);
            let middle = packed.len() / 2;
            packed[middle..middle + 40].fill(0xa5);
            let last = read(name, &packed).pop().unwrap().unwrap_err();
            assert!(last.starts_with(&expected), "{last}");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_refused_without_reading_it_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "12345678\n123456789\n").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        lines.limit = 9;
        assert_eq!(lines.next().unwrap().unwrap(), (1, "12345678".into()));
        let error = lines.next().unwrap().unwrap_err();
        assert!(error.to_string().starts_with("line longer than 9 bytes at "), "{error}");
        assert!(lines.next().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_loses_no_byte_and_gives_no_parquet() {
        use std::os::fd::AsRawFd as _;
        for content in [b"{}\none\n".to_vec(), gzip(b"{}\none\n"), zstd(b"{}\none\n")] {
            let (end, mut other_end) = io::pipe().unwrap();
            other_end.write_all(&content).unwrap();
            drop(other_end);
            let path = format!("/dev/fd/{}", end.as_raw_fd());
            let lines: Vec<_> =
                Lines::open(Path::new(&path)).unwrap().map(Result::unwrap).collect();
            assert_eq!(lines, [(1, "{}".to_owned()), (2, "one".to_owned())]);
        }
        let (end, mut other_end) = io::pipe().unwrap();
        other_end.write_all(b"PAR1 and more").unwrap();
        let path = format!("/dev/fd/{}", end.as_raw_fd());
        let error = crate::read_rows(Path::new(&path), None).err().unwrap();
        assert_eq!(error.to_string(), format!("{path} is no regular file, as Parquet has to be"));
    }

    #[test]
    fn a_folder_is_not_readable() {
        let folder = tempfile::tempdir().unwrap();
        let error = Lines::open(folder.path()).err().unwrap();
        assert!(matches!(error, TableError::Unreadable { .. }), "{error}");
    }
}
