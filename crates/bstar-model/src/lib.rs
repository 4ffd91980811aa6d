//! The embedded engine: tokenizer, transformer (Llama, Mistral, Qwen), sampling and training.
//!
//! | module | its job |
//! |---|---|
//! | [`compute`] | how: `f32` or `bf16`, how much at once, what is kept |
//! | [`config`], [`size`] | the shape of a model; one dial from which a whole shape is derived |
//! | [`weights`], [`folder`] | named `f32` tensors and their Hugging Face folder |
//! | [`tokenizer`] | text to token ids and back |
//! | [`decode`] | sampling with a key-value cache, by hand, on the CPU |
//! | [`device`] | training and sampling on a graphics card |
//! | [`transformer`], [`loss`] | hidden states, head and loss, forward and backward |
//! | [`optimizer`], [`trainer`] | AdamW; one data-parallel optimizer step |
//! | [`lora`] | low-rank adapters: merging, gradients, PEFT folders |
//! | [`trainer_state`] | the optimizer on disk, so that training goes on where it was |
//! | [`workload`], [`peak`] | what `bstar bench` measures, and what the machine can do |
//! | [`policy`] | all of it behind [`bstar_core::ports::Policy`] |
//! | [`reward_model`] | the same body with a scalar head, behind [`bstar_core::ports::RewardModel`] |
//!
//! This crate knows nothing of thresholds, balance scores or run folders. Every result depends on
//! its inputs and keys only, never on the number of threads.

// Files of `tests/` that are modules of unit tests too name the crate as from outside.
#[cfg(test)]
extern crate self as bstar_model;

mod chat;
pub mod compute;
pub mod config;
pub mod decode;
pub mod device;
mod engine;
pub mod files;
pub mod folder;
pub mod footprint;
pub mod lora;
pub mod loss;
mod ops;
pub mod optimizer;
pub mod parameters;
mod parts;
pub mod peak;
pub mod policy;
mod product;
pub mod reward_model;
pub mod size;
mod stops;
mod tensor_file;
pub mod tokenizer;
pub mod trainer;
pub mod trainer_state;
pub mod transformer;
pub mod weights;
pub mod workload;
