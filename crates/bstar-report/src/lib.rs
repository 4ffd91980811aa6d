//! What people look at: tables made from a run's events, and what a comparison makes of several runs.
//!
//! Read-only; knows no trainer and no model.

#![forbid(unsafe_code)]

mod actual;
mod comparison;
mod diagnosis;
mod iterations;
mod table;

pub use actual::{Actual, ActualFor};
pub use comparison::{
    ComparisonInput, ComparisonReport, EntryInput, EntryReport, Failure, IterationReport,
    MetricReport, Plot, PlotError, RunInput, SpentReport,
};
pub use diagnosis::{Diagnosis, diagnose, foot};
pub use iterations::{IterationRow, RunReport};
pub use table::{Align, Table, number, percent};
