//! Is this answer the same as that one? Extraction of answers from responses, and equivalence.
//!
//! Everything here is pure, total and bounded: no I/O, no panics on any input, recursion only to a
//! fixed depth, and a cap on how much text is looked at. Results are values: an answer or none; same,
//! different or cannot tell. The crate knows no prompts, models, files or processes.
//!
//! [`math`] is the checker of mathematical answers, behind [`Verifier::Math`]; [`game24`] checks
//! solutions of the game of 24, of which there are many.

#![forbid(unsafe_code)]

pub mod choice;
pub mod exact;
pub mod extraction;
pub mod game24;
pub mod math;
mod natural;
pub mod number;
mod verifier;

pub use extraction::{Rule, extract};
pub use verifier::{Sameness, Verifier};
