//! Tests of the whole: the real binary, and rules about the repository.

mod adapters;
mod bad_input;
mod begun;
mod binary;
mod code_tasks;
mod compare;
mod compare_told;
mod configs;
mod hints;
mod house;
mod hub;
mod knobs;
mod plan;
mod programs;
mod readme;
mod reference;
mod resets;
mod resume;
mod reward_model;
mod server;
mod simulate;
mod verbs;
mod whatif;
