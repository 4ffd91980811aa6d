//! How far a command is that reads files from beginning to end, and how long it will take.

use crate::output::Notes;
use indicatif::HumanDuration;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two lines.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Tells on stderr, now and then, how much of some files is done.
#[derive(Debug)]
pub(crate) struct Countdown {
    notes: Notes,
    began: Instant,
    told: Instant,
    /// Bytes in all, where the files are not compressed.
    total: Option<u64>,
    bytes: u64,
    rows: u64,
}

impl Countdown {
    /// Over files that will be read in order.
    pub(crate) fn over_files(files: &[PathBuf], notes: Notes) -> Self {
        let is_plain = |path: &PathBuf| path.extension().is_some_and(|end| end == "jsonl");
        let size = |path: &PathBuf| std::fs::metadata(path).ok().map(|data| data.len());
        let total = files.iter().map(|path| size(path).filter(|_| is_plain(path))).sum();
        let began = Instant::now();
        Self { notes, began, told: began, total, bytes: 0, rows: 0 }
    }

    /// So many more bytes and rows are done.
    pub(crate) fn rows(&mut self, bytes: usize, rows: usize) {
        self.bytes += bytes as u64;
        self.rows += rows as u64;
        if self.told.elapsed() < BETWEEN_LINES {
            return;
        }
        self.told = Instant::now();
        let elapsed = self.began.elapsed();
        let rate = self.rows as f64 / elapsed.as_secs_f64();
        let left = self.total.filter(|_| self.bytes > 0).map_or_else(String::new, |total| {
            let rest = total.saturating_sub(self.bytes) as f64 / self.bytes as f64;
            format!(", {} left", HumanDuration(elapsed.mul_f64(rest)))
        });
        self.notes.tell(&format!("{} rows ({rate:.1}/s){left}", self.rows));
    }
}
