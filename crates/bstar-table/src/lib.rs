//! Rows out of JSON Lines, Parquet and CSV files, compressed or not.
//!
//! [`read_rows`] gives JSON objects whatever the format; [`TableFile`], [`Lines`] and [`ParquetFile`] are the
//! lower level for readers that know their columns. Every error names the file and, where there is
//! one, the line. Nothing is read into memory whole but the line or record batch at hand.
//!
//! This crate knows nothing of queries, rollouts, tasks or runs: it must stay usable for any table.

#![forbid(unsafe_code)]

mod cell;
mod comma;
mod error;
mod format;
mod lines;
mod parquet_file;
mod rows;

pub use error::TableError;
pub use format::{Compression, TableFile, TableFormat};
pub use lines::{Lines, MAX_LINE_BYTES};
pub use parquet_file::{Batches, ParquetFile, open_parquet};
pub use rows::{Row, Rows, read_rows};
