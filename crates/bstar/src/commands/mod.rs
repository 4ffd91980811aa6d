//! One module per verb.

pub(crate) mod analyze;
pub(crate) mod audit;
pub(crate) mod balance;
pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod grade;
pub(crate) mod init;
pub(crate) mod merge;
mod metrics;
pub(crate) mod plan;
pub(crate) mod preflight;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod simulate;
pub(crate) mod whatif;
