//! Tests of the whole: the real binary, and rules about the repository.

mod adapters;
mod bad_input;
mod binary;
mod code_tasks;
mod compare;
mod configs;
mod house;
mod programs;
mod readme;
mod reference;
mod resume;
mod reward_model;
mod simulate;
mod verbs;
mod whatif;
