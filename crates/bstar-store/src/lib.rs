//! A run on disk, and the rollout files that runs and other trainers exchange.
//!
//! ```text
//! runs/<run-id>/
//!   manifest.json            format version, version of bstar        (written last: it makes the run)
//!   config.toml              the configuration as written
//!   config.resolved.json     the configuration as understood
//!   events.jsonl             append-only, one event a line: the truth about what happened
//!   rollouts/iter-0003/{probe,train,eval}.parquet
//!   checkpoints/iter-0003/   a model folder with trainer state
//!   .bstar-unfinished        only while the run is created or removed, and after a crash then
//!   lock                     held while a process writes; names its pid
//! ```
//!
//! [`RunStore`] writes a run and continues it after a crash at any moment; [`RunView`] reads one,
//! also while it is written. [`rollout_file`] reads and writes rollouts outside of runs too.
//!
//! This crate knows no models, no terminal and no network. Its one clock is in `clock`; it fills
//! the two wall-clock fields of an event line and nothing else depends on it.

#![forbid(unsafe_code)]

mod adopt;
mod clock;
mod comparison;
mod config_diff;
mod disk;
mod event_log;
mod failure;
mod footprint;
mod layout;
mod listing;
mod lock;
mod manifest;
pub mod rollout_file;
mod run;
mod view;

pub use comparison::{ComparisonLayout, ComparisonStore};
pub use config_diff::{ConfigChange, config_diff, config_diff_from};
pub use disk::DiskError;
pub use event_log::{EventLogError, LoggedEvent};
pub use footprint::{Footprint, event_bytes, rollout_file_bytes};
pub use listing::{FindError, Fit, Found, RunState, RunSummary, find_run, list_runs, run_dirs};
pub use manifest::{FormatVersion, Manifest, RUN_FORMAT};
pub use run::{Opened, RunError, RunIdentity, RunStore};
pub use view::RunView;
