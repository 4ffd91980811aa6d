//! Tasks: queries with prompts, gold answers and the check that applies to them.
//!
//! [`load`] turns a [`TaskConfig`] into a [`LoadedTask`], which implements
//! [`bstar_core::ports::Task`] and holds the examples for the supervised start. A task is either
//! generated ([`arithmetic`]) or read from files of JSON Lines or Parquet, with ready mappings for
//! GSM8K, MATH, ARC-Challenge, APPS, HumanEval, MBPP and the game of 24 (spec §4.1-§4.3).
//!
//! What a task says depends only on its configuration, its files and its key. The crate knows no
//! models, run folders or terminals. Programs that a model wrote run in the sandbox only
//! ([`programs`]).

#![forbid(unsafe_code)]

pub mod arithmetic;
mod check;
mod config;
mod equations;
mod error;
mod format;
pub mod game24;
mod loaded;
mod program_rows;
pub mod programs;

mod records;
mod splits;
mod steps;
mod template;

pub use arithmetic::{ArithmeticConfig, ArithmeticError, OperatorWeights, Order};
pub use bstar_verify::{Rule, Verifier};
pub use check::{grade_answer, verdict_of};
pub use config::{ColumnsConfig, FilesConfig, LongQueries, PromptStyle, TaskConfig, TaskKind};
pub use error::TaskError;
pub use loaded::{Host, LoadedTask, equations, load};
pub use records::RecordError;
pub use splits::SplitError;
pub use template::TemplateError;
