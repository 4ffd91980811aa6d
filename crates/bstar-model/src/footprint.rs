//! Bytes of a model before there is one: on disk and in memory.
//!
//! Counts follow from shapes. What a number takes is told by the caller, because a model may be
//! planned for another engine than this one, which keeps `f32` everywhere.

use crate::config::ModelConfig;
pub use crate::decode::most_lanes;
use crate::decode::sample_bytes;
use crate::lora::{LoraSettings, LoraTarget};
use crate::parts::{PARTS, largest_part};
use bstar_core::ports::RewardHead;
use serde::{Deserialize, Serialize};

/// How much a model is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelNumbers {
    /// Parameters of the model.
    pub parameters: f64,
    /// Of them, those that are trained, or the parameters of the adapter that is trained instead.
    pub trained: f64,
    /// Parameters of a reward model on the same body.
    pub reward_model: f64,
    /// Tensors that are trained; each has a line in the head of a file.
    pub tensors: usize,
}

/// Bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NumberBytes {
    /// Of a weight, and of its gradient.
    pub weight: f64,
    /// Of each of the two moments that the optimizer keeps of a weight.
    pub moment: f64,
}

/// About what a tensor takes in the head of a file: name, type, shape and place.
const HEAD_BYTES: f64 = 120.0;

impl ModelNumbers {
    /// Of a model of this shape that is trained whole (rank 0) or by an adapter, and of a reward model
    /// with this head.
    pub fn new(config: &ModelConfig, lora: &LoraSettings, head: RewardHead) -> Self {
        let shapes = config.tensor_shapes();
        let parameters = config.parameter_count();
        let logits = if config.tie_word_embeddings { 0 } else { config.vocab_size };
        let reward_model = 1 + match head {
            RewardHead::Scalar => parameters - logits * config.hidden_size + config.hidden_size,
            RewardHead::Token => parameters,
        };
        let (trained, tensors) = match lora.rank {
            0 => (parameters, shapes.len()),
            rank => {
                let factors = shapes.iter().filter_map(|(name, shape)| {
                    let module = name.strip_suffix(".weight")?.rsplit('.').next()?;
                    let target = LoraTarget::from_name(module)?;
                    let numbers = rank * shape.iter().sum::<usize>();
                    lora.targets.contains(&target).then_some(numbers)
                });
                let factors: Vec<usize> = factors.collect();
                (factors.iter().sum(), 2 * factors.len())
            }
        };
        Self {
            parameters: parameters as f64,
            trained: trained as f64,
            reward_model: reward_model as f64,
            tensors,
        }
    }

    /// Of a model of which the parameters are all that is known, trained whole.
    pub fn of_count(parameters: f64) -> Self {
        Self { parameters, trained: parameters, reward_model: parameters, tensors: 0 }
    }

    /// Bytes of a checkpoint: the weights that are trained, their moments, and a tokenizer.
    pub fn checkpoint(&self, bytes: NumberBytes, tokenizer: f64) -> f64 {
        let heads = 3.0 * self.tensors as f64 * HEAD_BYTES;
        self.trained * (bytes.weight + 2.0 * bytes.moment) + heads + tokenizer
    }

    /// Bytes of a saved reward model.
    pub fn saved_reward_model(&self, bytes: NumberBytes, tokenizer: f64) -> f64 {
        self.reward_model * bytes.weight + tokenizer
    }

    /// Bytes that training holds at least: all weights, and gradient and moments of those that are
    /// trained. Activations come on top, and whatever an engine keeps twice.
    pub fn training_memory(&self, bytes: NumberBytes) -> f64 {
        self.parameters * bytes.weight + self.trained * (bytes.weight + 2.0 * bytes.moment)
    }
}

/// Bytes of the keys and values that sampling on this machine holds at worst for each sample in flight: a
/// prompt and a response of so many tokens, where each prompt has so many samples. Room is doubled as a
/// response grows, in layers with a window no further than the window.
pub fn cache_bytes(config: &ModelConfig, prompt: usize, response: usize, samples: usize) -> f64 {
    sample_bytes(config, prompt, response, samples) as f64
}

/// Examples, of so many tokens each, of a model's batch as far as memory grows with them: a larger batch has
/// more parts, not larger ones. A part has `micro_batch` examples at most, unless that is 0.
pub fn examples_at_once(
    config: &ModelConfig,
    batch: usize,
    tokens: f64,
    micro_batch: usize,
) -> f64 {
    let parts = PARTS as f64;
    let by_tokens = parts * (largest_part(config) as f64 / tokens.max(1.0)).max(1.0);
    let by_count = if micro_batch == 0 { f64::INFINITY } else { parts * micro_batch as f64 };
    (batch as f64).min(by_tokens).min(by_count)
}

/// Bytes by which training on this machine grows with each example of so many tokens, as long as parts grow
/// ([`examples_at_once`]): activations and logits of the parts that run side by side.
pub fn activation_bytes(config: &ModelConfig, tokens: f64, checkpoints: bool) -> f64 {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let packed = config.query_width() + 2 * config.key_value_width();
    let raw = if config.family.has_head_norms() { packed } else { 0 };
    // Of the gradients a room for one layer is kept, and no `raw`.
    let layer = 4 * width + packed + raw + config.query_width() + 3 * inner;
    let room = 2 * width + packed + config.query_width() + 3 * inner;
    let layers = config.num_hidden_layers;
    let kept = if checkpoints { layers * width + layer } else { layers * layer };
    let numbers = kept + room + 3 * width + config.vocab_size;
    let share = rayon::current_num_threads().min(PARTS) as f64 / PARTS as f64;
    tokens * share * (numbers * size_of::<f32>()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::family::SlidingWindow;
    use crate::lora::Adapter;
    use crate::loss::{TokenizedExample, Workspace, response_loss};
    use crate::optimizer::OptimizerSettings;
    use crate::parts::{PartLimits, parts};
    use crate::policy::EmbeddedPolicy;
    use crate::size::ModelSize;
    use crate::tokenizer::Tokenizer;
    use crate::transformer::Transformer;
    use crate::weights::Weights;
    use bstar_core::RngKey;
    use bstar_core::ports::Policy as _;
    use std::path::Path;

    const F32: NumberBytes = NumberBytes { weight: 4.0, moment: 4.0 };

    fn bytes_in(dir: &Path) -> f64 {
        let files = std::fs::read_dir(dir).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len() as f64).sum()
    }

    #[test]
    fn what_is_foretold_is_what_is_saved() {
        let tokenizer = Tokenizer::characters(["0123456789+-*=,#$"]);
        let held = tokenizer.file_bytes();
        let (key, settings) = (RngKey::from_seed(1), OptimizerSettings::default());
        let policy = EmbeddedPolicy::from_scratch(ModelSize::PICO, tokenizer, 64, key, settings);
        let whole = LoraSettings::default();
        let (config, scalar) = (&policy.weights().config, RewardHead::Scalar);
        let numbers = ModelNumbers::new(config, &whole, scalar);
        let folder = tempfile::tempdir().unwrap();
        let near = |found: f64, foretold: f64| {
            assert!((found / foretold - 1.0).abs() < 0.02, "{found} {foretold}");
        };

        let model = folder.path().join("model");
        policy.save(&model).unwrap();
        policy.save_trainer_state(&model).unwrap();
        near(bytes_in(&model), numbers.checkpoint(F32, held));

        for head in [scalar, RewardHead::Token] {
            let reward = folder.path().join(format!("{head:?}"));
            policy.reward_model(head, key).unwrap().save(&reward).unwrap();
            let numbers = ModelNumbers::new(config, &whole, head);
            near(bytes_in(&reward), numbers.saved_reward_model(F32, held));
        }

        let lora = LoraSettings { rank: 8, ..whole };
        let adapted = EmbeddedPolicy::with_adapter(&model, settings, lora.clone(), key).unwrap();
        let saved = folder.path().join("adapter");
        adapted.save(&saved).unwrap();
        adapted.save_trainer_state(&saved).unwrap();
        let config = &adapted.weights().config;
        let numbers = ModelNumbers::new(config, &lora, scalar);
        assert_eq!(numbers.trained, Adapter::fresh(config, lora, key).factors().len() as f64);
        near(bytes_in(&saved), numbers.checkpoint(F32, 0.0));
    }

    #[test]
    fn keys_and_values_lie_in_rings_that_windows_bound_and_prompts_beside_them() {
        let mut config = ModelSize::PICO.config(17, 96, 1);
        let token = (config.num_hidden_layers * 2 * config.key_value_width() * 4) as f64;
        // A prompt with few samples is copied before each response.
        assert_eq!(cache_bytes(&config, 4, 60, 1), (4.0 + 64.0) * token);
        assert_eq!(cache_bytes(&config, 40, 25, 1), (40.0 + 128.0) * token);
        assert_eq!(cache_bytes(&config, 40, 25, 64), (40.0 + 32.0) * token);
        config.sliding_window = Some(SlidingWindow { tokens: 16, first_layer: 0 });
        // Of a prompt, what its last 32 tokens see is kept.
        assert_eq!(cache_bytes(&config, 60, 25, 1), (48.0 + 16.0) * token);
    }

    #[test]
    fn examples_at_once_are_those_of_as_many_parts_as_run_side_by_side() {
        let [pico, small] = [ModelSize::PICO, ModelSize::SMALL].map(|size| size.config(17, 64, 1));
        for (config, batch, tokens, micro_batch) in [
            (&small, 64, 40, 0),
            (&small, 1000, 512, 0),
            (&small, 1000, 500, 0),
            (&small, 64, 40, 3),
            (&small, 6, 5000, 0),
            (&small, 3, 40, 0),
            (&pico, 1000, 40, 0),
            (&pico, 100, 600, 0),
        ] {
            let examples = vec![tokens; batch];
            let examples: Vec<&usize> = examples.iter().collect();
            let limits = PartLimits::new(config, micro_batch);
            let cut = parts(&examples, limits, |tokens| *tokens);
            let largest = cut.iter().map(Vec::len).max().unwrap();
            let found = (PARTS * largest).min(batch) as f64;
            let foretold = examples_at_once(config, batch, tokens as f64, micro_batch);
            // A part has a whole number of examples.
            let near = (found - foretold).abs() < PARTS as f64;
            assert!(near, "{batch} of {tokens}, {micro_batch}: {found} {foretold}");
        }
    }

    #[test]
    fn training_holds_weights_gradient_and_moments() {
        let numbers = ModelNumbers::of_count(7e9);
        let bf16 = NumberBytes { weight: 2.0, moment: 2.0 };
        assert_eq!(numbers.training_memory(bf16), 7e9 * 8.0);
        assert_eq!(numbers.training_memory(NumberBytes { weight: 2.0, moment: 4.0 }), 7e9 * 12.0);
        let adapter = ModelNumbers { trained: 1e7, ..numbers };
        assert_eq!(adapter.training_memory(bf16), 14e9 + 6e7);
        assert_eq!(numbers.checkpoint(bf16, 2e6), 7e9 * 6.0 + 2e6);
    }

    #[test]
    fn activations_are_those_that_are_held() {
        let mut config = ModelSize::PICO.config(20, 64, 1);
        let parameters = Weights::random(&config, RngKey::from_seed(1)).to_flat();
        let example = TokenizedExample::new(&[], &[3; 40], 1);
        for checkpoints in [false, true] {
            let transformer = Transformer::new(&config, &parameters).recomputing(checkpoints);
            let mut workspace = Workspace::default();
            response_loss(&transformer, &[&example], 1.0, &mut workspace);
            let held = workspace.activations.numbers() + workspace.logits.len();
            let held = (held + workspace.grad_hidden.len()) * size_of::<f32>();
            let share = rayon::current_num_threads().min(PARTS) as f64 / PARTS as f64;
            let foretold = activation_bytes(&config, 40.0, checkpoints) / share;
            assert!((held as f64 / foretold - 1.0).abs() < 0.02, "{held} {foretold}");
        }
        config.num_hidden_layers = 2;
        let fewer = activation_bytes(&config, 40.0, false);
        assert!(activation_bytes(&config, 80.0, false) == 2.0 * fewer);
    }
}
