//! The paper: B-STaR (arXiv 2412.17256) as pure functions and one loop.
//!
//! This crate knows no files, clock, environment, terminal, tensors, threads or names of data sets;
//! it sees them through the traits in [`ports`]. Start reading at [`improve`].

#![forbid(unsafe_code)]

pub mod balance;
pub mod batches;
pub mod budget;
pub mod calibration;
pub mod confidence;
pub mod controller;
pub mod curriculum;
pub mod draw;
pub mod evaluate;
pub mod event;
pub mod fault;
pub mod goal;
mod gradable;
pub mod grid;
pub mod improve;
mod iteration;
pub mod knobs;
pub mod method;
pub mod monitor;
pub mod plan;
pub mod pool;
pub mod ports;
pub mod preset;
pub mod race;

pub mod ranking;
pub mod reward;
pub mod reward_quality;
pub mod reward_training;
pub mod reweight;

pub mod rng;
pub mod rollout;
pub mod schedule;
pub mod search;
mod searching;
pub mod selection;
pub mod simulate;
pub mod statistics;
pub mod step_labels;
mod stretches;
pub mod supervised;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod whatif;

pub use fault::{Fault, FaultClass};
pub use rng::RngKey;
pub use rollout::{Completion, FinishReason, Grade, Query, QueryId, Rollout, Stage, Verdict};
