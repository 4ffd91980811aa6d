//! The policy of the embedded engine: text in, text out.
//!
//! Holds weights, tokenizer and optimizer. Sampling and training see token ids; this module turns
//! text into them and refuses text that does not fit the context. Between two calls the weights are
//! those of the last step taken, also after a fault.
//!
//! The context bounds what the model reads: the end-of-sequence token behind a response is only
//! predicted and needs no room. A sampled response can fill the context, and when its text is
//! encoded again it can be longer still (bytes that are no text become U+FFFD): such an example is
//! cut at the context. Whoever trains on given text asks [`EmbeddedPolicy::check_example`] first.
//!
//! A policy may train an adapter ([`EmbeddedPolicy::with_adapter`]): its weights are then those of the
//! base with the adapter merged, and what it saves is the adapter.

mod adapted;
mod speed;

use crate::compute::ComputeSettings;
use crate::decode::{DecodeRequest, Decoder, Ends, Generation, Weighing};
use crate::device::{Device, DeviceDecoder, DeviceTrainer};
use crate::engine::{Outcome, Sampler, Training};
use crate::lora::{Adapter, folder};
use crate::loss::TokenizedExample;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::reward_model::EmbeddedRewardModel;
use crate::size::ModelSize;
use crate::stops::Stops;
use crate::tokenizer::Tokenizer;
use crate::trainer::Trainer;
use crate::trainer_state::{self, Trained};
use crate::weights::Weights;
use adapted::Adapted;
use bstar_core::event::TrainStep;
use bstar_core::ports::{
    Example, Policy, Progress, PromptRequest, RewardHead, SampleRequest, ScoreRequest, Tick, Update,
};
use bstar_core::{Completion, Fault, FaultClass, FinishReason, RngKey};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator as _};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
pub use speed::TimedDraw;
use std::path::Path;
use std::sync::Arc;

/// A Llama-family model that is sampled and trained in this process.
pub struct EmbeddedPolicy {
    weights: Weights,
    tokenizer: Tokenizer,
    optimizer: AdamW,
    /// Where it trains and samples; none is the CPU.
    device: Option<Device>,
    compute: ComputeSettings,
    /// There if an adapter is trained.
    adapted: Option<Adapted>,
    /// Made of the weights when first needed, dropped when they change.
    sampler: Option<Sampler>,
    /// Bound on the keys and values of sampling, where it is not the sampler's own.
    cache_bytes: Option<usize>,
    version: Arc<str>,
}

impl EmbeddedPolicy {
    /// A policy with fresh weights. A prompt with its response is at most `context_length` tokens.
    pub fn from_scratch(
        size: ModelSize,
        tokenizer: Tokenizer,
        context_length: usize,
        key: RngKey,
        settings: OptimizerSettings,
    ) -> Self {
        let mut config = size.config(tokenizer.vocab_size(), context_length, tokenizer.eos());
        config.pad_token_id = tokenizer.pad();
        Self::from_parts(Weights::random(&config, key), tokenizer, settings)
    }

    /// A policy from a Hugging Face model folder, with a fresh optimizer. From an adapter's folder it
    /// is the base that the adapter names, with the adapter merged.
    pub fn from_folder(dir: &Path, settings: OptimizerSettings) -> Result<Self, Fault> {
        let (weights, tokenizer) = load_model(dir)?;
        Ok(Self::from_parts(weights, tokenizer, settings))
    }

    /// The policy of a base with an adapter merged, wherever the adapter says that its base is.
    pub fn from_adapter(
        base: &Path,
        adapter: &Path,
        settings: OptimizerSettings,
    ) -> Result<Self, Fault> {
        let (weights, tokenizer) = load_adapted(base, adapter)?;
        Ok(Self::from_parts(weights, tokenizer, settings))
    }

    /// From now on it trains and samples on this device; none is the CPU.
    pub fn use_device(&mut self, device: Option<Device>) {
        self.device = device;
        self.sampler = None;
    }

    /// From now on the policy, and reward models made from it, compute in this way.
    pub fn compute_with(&mut self, compute: ComputeSettings) {
        self.compute = compute;
        self.sampler = None;
    }

    /// From now on a prompt is a user's message, put into the chat template of the model.
    pub fn use_chat_template(&mut self) -> Result<(), Fault> {
        Ok(self.tokenizer.use_chat_template()?)
    }

    /// From now on keys and values of responses that are drawn at once take at most so many bytes, as
    /// long as one group of them fits. Results do not depend on it.
    pub fn limit_cache(&mut self, bytes: usize) {
        self.cache_bytes = Some(bytes);
        self.sampler = None;
    }

    /// Replaces weights and tokenizer by those of a model folder, and forgets the optimizer's
    /// state. A policy that trains an adapter loads the adapter of a folder.
    pub fn load(&mut self, dir: &Path) -> Result<(), Fault> {
        if let Some(adapted) = &mut self.adapted {
            adapted.load(dir)?;
            let weights = adapted.weights();
            self.replace_weights(weights);
            self.optimizer.reset();
            return Ok(());
        }
        let (weights, mut tokenizer) = load_model(dir)?;
        if self.tokenizer.is_chat() {
            tokenizer.use_chat_template()?;
        }
        let (device, cache_bytes) = (self.device.take(), self.cache_bytes);
        let compute = self.compute;
        *self = Self::from_parts(weights, tokenizer, *self.optimizer.settings());
        (self.compute, self.cache_bytes) = (compute, cache_bytes);
        self.use_device(device);
        Ok(())
    }

    /// Writes a model folder that `transformers` and vLLM open, flushed but not renamed; where an
    /// adapter is trained, an adapter folder that PEFT opens.
    pub fn save(&self, dir: &Path) -> Result<(), Fault> {
        if let Some(adapted) = &self.adapted {
            return Ok(adapted.save(dir)?);
        }
        self.weights.save(dir)?;
        Ok(self.tokenizer.save(dir)?)
    }

    /// Writes the optimizer's state into a folder that exists.
    pub fn save_trainer_state(&self, dir: &Path) -> Result<(), Fault> {
        Ok(trainer_state::save(&self.optimizer, &self.trained(), dir)?)
    }

    /// Reads the optimizer's state from a folder. Without any there, the optimizer starts afresh
    /// and the result is `false`.
    pub fn load_trainer_state(&mut self, dir: &Path) -> Result<bool, Fault> {
        let settings = *self.optimizer.settings();
        if let Some(optimizer) = trainer_state::load(settings, &self.trained(), dir)? {
            self.optimizer = optimizer;
            return Ok(true);
        }
        self.optimizer.reset();
        Ok(false)
    }

    /// Whether a prompt leaves room for a response in the context. A fault (class Data) names the
    /// number of tokens and the context.
    pub fn check_prompt(&self, prompt: &str) -> Result<(), Fault> {
        self.encode_prompt(prompt).map(drop)
    }

    /// Whether an example fits the context whole, so that [`Policy::update`] need not cut it. A
    /// fault (class Data) names the numbers of tokens and the context.
    pub fn check_example(&self, example: &Example) -> Result<(), Fault> {
        let prompt = self.encode_prompt(&example.prompt)?;
        let response = self.tokenizer.encode_response(&example.response)?;
        let context = self.context_length();
        if prompt.len() + response.len() <= context {
            return Ok(());
        }
        let message = format!(
            "the prompt {} ({} tokens) and its response ({} tokens) do not fit into the context of \
             {context} tokens",
            beginning(&example.prompt),
            prompt.len(),
            response.len()
        );
        Err(Fault::new(FaultClass::Data, message).hint(CONTEXT_HINT))
    }

    /// Whether the tokenizer can express a text: none of it becomes the unknown token.
    pub fn knows(&self, text: &str) -> Result<bool, Fault> {
        let tokens = self.tokenizer.encode_prompt(text)?;
        Ok(self.tokenizer.unknown().is_none_or(|unknown| !tokens.contains(&unknown)))
    }

    /// The weights as they are now.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Optimizer steps since its state was fresh.
    pub fn optimizer_steps(&self) -> u64 {
        self.optimizer.step_count()
    }

    /// The settings of its optimizer.
    pub(crate) fn compute_settings(&self) -> ComputeSettings {
        self.compute
    }

    pub(crate) fn optimizer_settings(&self) -> OptimizerSettings {
        *self.optimizer.settings()
    }

    fn from_parts(weights: Weights, tokenizer: Tokenizer, settings: OptimizerSettings) -> Self {
        let optimizer = AdamW::new(settings, weights.config.parameter_count());
        let version = weights.fingerprint();
        Self {
            weights,
            tokenizer,
            optimizer,
            device: None,
            compute: ComputeSettings::default(),
            adapted: None,
            sampler: None,
            cache_bytes: None,
            version,
        }
    }

    fn trained(&self) -> Trained<'_> {
        match &self.adapted {
            Some(Adapted { adapter, base_version, .. }) => {
                Trained { tensors: adapter.tensor_shapes(), base: Some(base_version) }
            }
            None => Trained { tensors: self.weights.config.tensor_shapes(), base: None },
        }
    }

    fn training(&self) -> Result<Training, Fault> {
        let (config, optimizer) = (&self.weights.config, &self.optimizer);
        let trainer = match (&self.device, &self.adapted) {
            (None, None) => {
                let trainer = Trainer::new(config, self.weights.to_flat(), optimizer.clone());
                return Ok(Training::Cpu(Box::new(trainer.computing(self.compute))));
            }
            (None, Some(Adapted { base, adapter, .. })) => {
                let (base, adapter) = (Arc::clone(base), adapter.clone());
                let trainer = Trainer::with_adapter(base, adapter, optimizer.clone());
                return Ok(Training::Cpu(Box::new(trainer.computing(self.compute))));
            }
            (Some(device), None) => {
                DeviceTrainer::new(device, config, &self.weights.to_flat(), optimizer)?
            }
            (Some(device), Some(Adapted { base, adapter, .. })) => {
                DeviceTrainer::with_adapter(device, base, adapter.clone(), optimizer)?
            }
        };
        let trainer = trainer.in_micro_batches(self.compute.micro_batch_size);
        Ok(Training::Device(Box::new(trainer)))
    }

    /// What draws from the weights as they are now.
    fn sampler(&mut self) -> Result<&Sampler, Fault> {
        let sampler = match (self.sampler.take(), &self.device) {
            (Some(sampler), _) => sampler,
            (None, None) => {
                let precision = self.compute.precision;
                let mut decoder = Decoder::with_precision(&self.weights, precision);
                if let Some(bytes) = self.cache_bytes {
                    decoder.limit_cache(bytes);
                }
                Sampler::Cpu(decoder)
            }
            // Weights of an earlier sampler have left the device by now.
            (None, Some(device)) => Sampler::Device(DeviceDecoder::new(device, &self.weights)?),
        };
        Ok(self.sampler.insert(sampler))
    }

    fn replace_weights(&mut self, weights: Weights) {
        self.version = weights.fingerprint();
        self.weights = weights;
        self.sampler = None;
    }

    fn context_length(&self) -> usize {
        self.weights.config.max_position_embeddings
    }

    fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>, Fault> {
        let tokens = self.tokenizer.encode_prompt(prompt)?;
        let context = self.context_length();
        if tokens.len() < context {
            return Ok(tokens);
        }
        let message = format!(
            "the prompt {} ({} tokens) leaves no room for a response in the context of {context} \
             tokens",
            beginning(prompt),
            tokens.len()
        );
        Err(Fault::new(FaultClass::Data, message).hint(CONTEXT_HINT))
    }

    /// A prompt and the beginning of its response, cut at the context.
    fn encode_begun(&self, request: &PromptRequest<'_>) -> Result<Vec<u32>, Fault> {
        let mut tokens = self.encode_prompt(request.prompt)?;
        if !request.begun.is_empty() {
            tokens.extend(self.tokenizer.encode_response(request.begun)?);
            tokens.truncate(self.context_length());
        }
        Ok(tokens)
    }

    /// A prompt with a response, cut at the context; what is cut has no end.
    fn encode_scored(&self, request: &ScoreRequest<'_>) -> Result<Weighing, Fault> {
        let prompt = self.encode_prompt(request.prompt)?;
        let mut response = self.tokenizer.encode_response(request.response)?;
        let room = self.context_length() - prompt.len();
        let ended = request.ended && response.len() < room;
        response.truncate(room);
        Ok(Weighing { prompt, response, ended })
    }

    /// The examples that the batches of an update need.
    fn tokenize_needed(&self, update: &Update<'_>) -> Result<Vec<Option<TokenizedExample>>, Fault> {
        let mut needed = vec![false; update.examples.len()];
        for &index in update.batches.iter().flatten() {
            needed[index] = true;
        }
        let tokenize = |(example, needed): (&Example, bool)| {
            if needed { self.tokenize(example).map(Some) } else { Ok(None) }
        };
        in_order(update.examples.par_iter().zip(needed).map(tokenize))
    }

    /// An example to train on, cut at the context.
    fn tokenize(&self, example: &Example) -> Result<TokenizedExample, Fault> {
        let prompt = self.encode_prompt(&example.prompt)?;
        let response = self.tokenizer.encode_response(&example.response)?;
        let tokenized = TokenizedExample::new(&prompt, &response, self.tokenizer.eos());
        Ok(tokenized.cut(self.context_length()))
    }
}

impl Policy for EmbeddedPolicy {
    type RewardModel = EmbeddedRewardModel;

    fn version(&self) -> Arc<str> {
        Arc::clone(&self.version)
    }

    fn sample(
        &mut self,
        request: &SampleRequest<'_>,
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Completion>>, Fault> {
        let prompts = in_order(request.prompts.par_iter().map(|prompt| self.encode_begun(prompt)))?;
        let context = self.context_length();
        let requests: Vec<DecodeRequest<'_>> = prompts
            .iter()
            .zip(&request.prompts)
            .map(|(tokens, prompt)| DecodeRequest {
                prompt: tokens,
                keys: if tokens.len() < context {
                    (0..request.samples as u64).map(|j| prompt.key.index(j)).collect()
                } else {
                    Vec::new()
                },
            })
            .collect();
        self.sampler()?;
        let stops = Stops::new(&request.decoding, &self.tokenizer);
        let reached = |tokens: &[u32]| stops.reached(tokens);
        let ends = Ends {
            tokens: self.tokenizer.eos_tokens(),
            condition: if stops.is_empty() { None } else { Some(&reached) },
        };
        let sampler = self.sampler.as_ref().expect("it was just made");
        let generations = sampler.generate_until(&requests, &request.decoding, ends, tick)?;
        let complete_all = |samples: Vec<Generation>| {
            samples.iter().map(|generation| complete(generation, &stops)).collect()
        };
        let mut completions: Vec<Vec<Completion>> =
            in_order(generations.into_par_iter().map(complete_all))?;
        for group in &mut completions {
            group.resize_with(request.samples, no_room);
        }
        Ok(completions)
    }

    fn log_probabilities(
        &mut self,
        requests: &[ScoreRequest<'_>],
        temperatures: &[f64],
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<f64>>, Fault> {
        self.sampler()?;
        let fresh;
        let decoder = if let Some(Sampler::Cpu(decoder)) = &self.sampler {
            decoder
        } else {
            // A device tells none: the processor computes them from the same weights.
            fresh = Decoder::new(&self.weights);
            &fresh
        };
        let mut scored = Vec::with_capacity(requests.len());
        let total = requests.len() as u64;
        for some in requests.chunks(SCORED_AT_ONCE) {
            let weighings = in_order(some.par_iter().map(|request| self.encode_scored(request)))?;
            let eos = self.tokenizer.eos_tokens();
            scored.extend(decoder.tempered_logprobs(&weighings, eos, temperatures)?);
            tick(Progress { done: scored.len() as u64, total })?;
        }
        Ok(scored)
    }

    fn update(
        &mut self,
        update: &Update<'_>,
        on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let examples = self.tokenize_needed(update)?;
        // A device may not have room for the weights twice.
        self.sampler = None;
        let mut training = self.training()?;
        if update.fresh_optimizer {
            training.reset_optimizer()?;
        }
        let result = run_steps(&mut training, &examples, update, on_step);
        // Also after a fault: steps that were announced have happened. A device that fails takes them
        // with it.
        let Outcome { parameters, optimizer, adapter } = match training.finish() {
            Ok(outcome) => outcome,
            Err(lost) => return result.and(Err(lost)),
        };
        if let (Some(adapted), Some(adapter)) = (&mut self.adapted, adapter) {
            adapted.adapter = adapter;
        }
        self.optimizer = optimizer;
        self.replace_weights(Weights::from_flat(&self.weights.config, &parameters));
        result
    }

    fn reward_model(&self, head: RewardHead, key: RngKey) -> Result<EmbeddedRewardModel, Fault> {
        Ok(EmbeddedRewardModel::from_policy(self, head, key))
    }
}

/// All results, or the first fault in their order, whoever came to it first.
fn in_order<T: Send>(
    results: impl IndexedParallelIterator<Item = Result<T, Fault>>,
) -> Result<Vec<T>, Fault> {
    results.collect::<Vec<_>>().into_iter().collect()
}

/// The rest of a response whose beginning fills the context.
fn no_room() -> Completion {
    Completion {
        text: String::new(),
        finish_reason: FinishReason::Length,
        token_count: 0,
        logprob: 0.0,
        entropy: 0.0,
    }
}

/// A response as text, without what ended it.
fn complete(generation: &Generation, stops: &Stops<'_>) -> Result<Completion, Fault> {
    let count = generation.tokens.len();
    let sum = |numbers: &[f32]| numbers.iter().copied().map(f64::from).sum::<f64>();
    Ok(Completion {
        text: stops.text(&generation.tokens)?,
        finish_reason: generation.finish_reason,
        token_count: u32::try_from(count).expect("a context has fewer than 2^32 tokens"),
        logprob: sum(&generation.logprobs),
        entropy: sum(&generation.entropies) / count.max(1) as f64,
    })
}

/// Responses between two words on progress.
const SCORED_AT_ONCE: usize = 512;

const CONTEXT_HINT: &str =
    "leave out queries that are this long, or use a model with a longer context";

fn load_model(dir: &Path) -> Result<(Weights, Tokenizer), Fault> {
    if folder::is_adapter(dir) {
        return load_adapted(&folder::base_of(dir)?, dir);
    }
    let mut weights = Weights::load(dir)?;
    let tokenizer = Tokenizer::load(dir, &weights.config.eos_token_ids)?;
    weights.config.eos_token_ids = tokenizer.eos_tokens().to_vec();
    let (vocabulary, rows) = (tokenizer.vocab_size(), weights.config.vocab_size);
    if vocabulary > rows {
        let message = format!(
            "the tokenizer of {} has {vocabulary} tokens, but the embedding has {rows} rows",
            dir.display()
        );
        return Err(Fault::new(FaultClass::Data, message)
            .hint("check that tokenizer.json and model.safetensors are of the same model"));
    }
    Ok((weights, tokenizer))
}

fn load_adapted(base: &Path, adapter: &Path) -> Result<(Weights, Tokenizer), Fault> {
    let (base, tokenizer) = load_model(base)?;
    Ok((Adapter::load_onto(&base, adapter)?.merged(&base), tokenizer))
}

fn run_steps(
    training: &mut Training,
    examples: &[Option<TokenizedExample>],
    update: &Update<'_>,
    on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for (step, batch) in (update.first_step..).zip(update.batches) {
        let example = |&index: &usize| examples[index].as_ref().expect("the batches need it");
        let batch: Vec<_> = batch.iter().map(example).collect();
        let learning_rate = update.schedule.learning_rate(step);
        let report = training.step(&batch, learning_rate).map_err(|mut fault| {
            fault.message = format!("{} (at step {step})", fault.message);
            fault
        })?;
        on_step(TrainStep {
            step,
            loss: report.loss,
            learning_rate,
            gradient_norm: report.gradient_norm,
            tokens: report.tokens,
        })?;
    }
    Ok(())
}

/// The first characters of a text, quoted.
fn beginning(text: &str) -> String {
    const SHOWN: usize = 40;
    let shown: String = text.chars().take(SHOWN).collect();
    let dots = if shown.len() < text.len() { "…" } else { "" };
    format!("{:?}", shown + dots)
}

#[cfg(test)]
mod tests;
