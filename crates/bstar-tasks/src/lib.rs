//! Tasks: queries with prompts, gold answers and the check that applies to them.
//!
//! [`load`] turns a [`TaskConfig`] into a [`LoadedTask`], which implements
//! [`bstar_core::ports::Task`] and holds the examples for the supervised start. A task is either
//! generated ([`arithmetic`]) or read from files of JSON Lines or Parquet, with ready mappings for
//! GSM8K, MATH and ARC-Challenge (spec §4.1, §4.3).
//!
//! What a task says depends only on its configuration, its files and its key. The crate knows no
//! models, run folders or terminals. Tasks whose answers are programs will stand here too, beside
//! the sandbox that runs them.

#![forbid(unsafe_code)]

pub mod arithmetic;
mod config;
mod equations;
mod error;
mod format;
mod loaded;
mod records;
mod splits;
mod steps;
mod template;

pub use arithmetic::{ArithmeticConfig, ArithmeticError, OperatorWeights, Order};
pub use bstar_verify::{Rule, Verifier};
pub use config::{ColumnsConfig, FilesConfig, LongQueries, TaskConfig, TaskKind};
pub use error::TaskError;
pub use loaded::{LoadedTask, equations, load};
pub use records::RecordError;
pub use splits::SplitError;
pub use template::TemplateError;
