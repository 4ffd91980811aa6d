//! Is this answer the same as that one? Extraction of answers from responses, and equivalence.
//!
//! Everything here is pure, total and bounded: no I/O, no panics on any input, no recursion, and a
//! cap on how much text is looked at. Results are values: an answer or none; same, different or
//! cannot tell. The crate knows no prompts, models, files or processes.
//!
//! The full mathematical checker (expressions, sets, intervals) is to stand beside [`number`] and
//! [`exact`] as a module of its own, behind [`Verifier::Math`], which until then compares
//! normalised text and numbers only (spec §4.1).

#![forbid(unsafe_code)]

pub mod choice;
pub mod exact;
pub mod extraction;
mod natural;
pub mod number;
mod verifier;

pub use extraction::{Rule, extract};
pub use verifier::{Sameness, Verifier};
