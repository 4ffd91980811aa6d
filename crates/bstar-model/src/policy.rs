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

use crate::decode::{DecodeRequest, Decoder, Generation};
use crate::loss::TokenizedExample;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::size::ModelSize;
use crate::tokenizer::Tokenizer;
use crate::trainer::Trainer;
use crate::trainer_state;
use crate::weights::Weights;
use bstar_core::event::TrainStep;
use bstar_core::ports::{Example, Policy, SampleRequest, Tick, Update};
use bstar_core::{Completion, Fault, FaultClass, RngKey};
use std::path::Path;
use std::sync::Arc;

/// A Llama-family model that is sampled and trained in this process.
pub struct EmbeddedPolicy {
    weights: Weights,
    tokenizer: Tokenizer,
    optimizer: AdamW,
    /// Made of the weights when first needed, dropped when they change.
    decoder: Option<Decoder>,
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

    /// A policy from a Hugging Face model folder, with a fresh optimizer.
    pub fn from_folder(dir: &Path, settings: OptimizerSettings) -> Result<Self, Fault> {
        let (weights, tokenizer) = load_model(dir)?;
        Ok(Self::from_parts(weights, tokenizer, settings))
    }

    /// Replaces weights and tokenizer by those of a model folder, and forgets the optimizer's
    /// state.
    pub fn load(&mut self, dir: &Path) -> Result<(), Fault> {
        let (weights, tokenizer) = load_model(dir)?;
        *self = Self::from_parts(weights, tokenizer, *self.optimizer.settings());
        Ok(())
    }

    /// Writes a model folder that `transformers` and vLLM open, flushed but not renamed.
    pub fn save(&self, dir: &Path) -> Result<(), Fault> {
        self.weights.save(dir)?;
        Ok(self.tokenizer.save(dir)?)
    }

    /// Writes the optimizer's state into a folder that exists.
    pub fn save_trainer_state(&self, dir: &Path) -> Result<(), Fault> {
        Ok(trainer_state::save(&self.optimizer, &self.weights.config, dir)?)
    }

    /// Reads the optimizer's state from a folder. Without any there, the optimizer starts afresh
    /// and the result is `false`.
    pub fn load_trainer_state(&mut self, dir: &Path) -> Result<bool, Fault> {
        let settings = *self.optimizer.settings();
        if let Some(optimizer) = trainer_state::load(settings, &self.weights.config, dir)? {
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

    fn from_parts(weights: Weights, tokenizer: Tokenizer, settings: OptimizerSettings) -> Self {
        let optimizer = AdamW::new(settings, weights.config.parameter_count());
        let version = weights.fingerprint();
        Self { weights, tokenizer, optimizer, decoder: None, version }
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

    /// An example to train on, cut at the context.
    fn tokenize(&self, example: &Example) -> Result<TokenizedExample, Fault> {
        let prompt = self.encode_prompt(&example.prompt)?;
        let response = self.tokenizer.encode_response(&example.response)?;
        let tokenized = TokenizedExample::new(&prompt, &response, self.tokenizer.eos());
        Ok(tokenized.cut(self.context_length()))
    }

    fn complete(&self, generation: &Generation) -> Result<Completion, Fault> {
        let eos = self.tokenizer.eos_tokens();
        let text_tokens = match generation.tokens.as_slice() {
            [text @ .., last] if eos.contains(last) => text,
            all => all,
        };
        let count = generation.tokens.len();
        let sum = |numbers: &[f32]| numbers.iter().copied().map(f64::from).sum::<f64>();
        Ok(Completion {
            text: self.tokenizer.decode(text_tokens)?,
            finish_reason: generation.finish_reason,
            token_count: u32::try_from(count).expect("a context has fewer than 2^32 tokens"),
            logprob: sum(&generation.logprobs),
            entropy: sum(&generation.entropies) / count.max(1) as f64,
        })
    }
}

impl Policy for EmbeddedPolicy {
    fn version(&self) -> Arc<str> {
        Arc::clone(&self.version)
    }

    fn sample(
        &mut self,
        request: &SampleRequest<'_>,
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Completion>>, Fault> {
        let prompts: Vec<Vec<u32>> = request
            .prompts
            .iter()
            .map(|prompt| self.encode_prompt(prompt.prompt))
            .collect::<Result<_, _>>()?;
        let requests: Vec<DecodeRequest<'_>> = prompts
            .iter()
            .zip(&request.prompts)
            .map(|(tokens, prompt)| DecodeRequest {
                prompt: tokens,
                keys: (0..request.samples as u64).map(|j| prompt.key.index(j)).collect(),
            })
            .collect();
        let decoder = self.decoder.get_or_insert_with(|| Decoder::new(&self.weights));
        let eos = self.tokenizer.eos_tokens();
        let generations = decoder.generate(&requests, &request.decoding, eos, tick)?;
        let complete = |samples: Vec<Generation>| {
            samples.iter().map(|generation| self.complete(generation)).collect()
        };
        generations.into_iter().map(complete).collect()
    }

    fn update(
        &mut self,
        update: &Update<'_>,
        on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let examples: Vec<TokenizedExample> =
            update.examples.iter().map(|e| self.tokenize(e)).collect::<Result<_, _>>()?;
        let config = &self.weights.config;
        let mut trainer = Trainer::new(config, self.weights.to_flat(), self.optimizer.clone());
        if update.fresh_optimizer {
            trainer.reset_optimizer();
        }
        let result = run_steps(&mut trainer, &examples, update, on_step);
        // Also after a fault: steps that were announced have happened.
        let (parameters, optimizer) = trainer.finish();
        self.weights = Weights::from_flat(&self.weights.config, &parameters);
        self.optimizer = optimizer;
        self.decoder = None;
        self.version = self.weights.fingerprint();
        result
    }
}

const CONTEXT_HINT: &str =
    "leave out queries that are this long, or use a model with a longer context";

fn load_model(dir: &Path) -> Result<(Weights, Tokenizer), Fault> {
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

fn run_steps(
    trainer: &mut Trainer,
    examples: &[TokenizedExample],
    update: &Update<'_>,
    on_step: &mut dyn FnMut(TrainStep) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for (step, batch) in (update.first_step..).zip(update.batches) {
        let batch: Vec<_> = batch.iter().map(|&index| &examples[index]).collect();
        let learning_rate = update.schedule.learning_rate(step);
        let report = trainer.step(&batch, learning_rate).map_err(|error| {
            let mut fault = Fault::from(error);
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
mod tests {
    use super::*;
    use bstar_core::FinishReason;
    use bstar_core::ports::{Decoding, PromptRequest};
    use bstar_core::schedule::CosineSchedule;

    fn policy() -> EmbeddedPolicy {
        EmbeddedPolicy::from_scratch(
            ModelSize::from_width(32).unwrap(),
            Tokenizer::characters(["0123456789+= "]),
            24,
            RngKey::from_seed(1),
            OptimizerSettings::default(),
        )
    }

    fn examples() -> Vec<Example> {
        (0..10)
            .map(|n| Example {
                prompt: format!("{n}+1=").into(),
                response: (n + 1).to_string().into(),
            })
            .collect()
    }

    fn schedule(peak: f64) -> CosineSchedule {
        CosineSchedule { peak, floor: peak / 10.0, warmup_steps: 10.0, horizon_steps: 200.0 }
    }

    fn train(policy: &mut EmbeddedPolicy, steps: std::ops::Range<u64>) -> Vec<TrainStep> {
        let batches: Vec<_> = steps.clone().map(|_| (0..10).collect()).collect();
        let update = Update {
            examples: &examples(),
            batches: &batches,
            schedule: schedule(1e-2),
            first_step: steps.start,
            fresh_optimizer: false,
        };
        let mut told = Vec::new();
        policy
            .update(&update, &mut |step| {
                told.push(step);
                Ok(())
            })
            .unwrap();
        told
    }

    fn greedy(policy: &mut EmbeddedPolicy, prompts: &[&str]) -> Vec<Completion> {
        let key = RngKey::from_seed(5);
        let prompts = prompts.iter().map(|prompt| PromptRequest { prompt, key }).collect();
        let request = SampleRequest { prompts, samples: 1, decoding: Decoding::greedy(8) };
        policy.sample(&request, &mut |_| Ok(())).unwrap().into_iter().flatten().collect()
    }

    #[test]
    fn a_policy_learns_to_add_one() {
        let mut policy = policy();
        let before = policy.version();
        let told = train(&mut policy, 0..200);
        assert_eq!(told.len(), 200);
        assert_eq!((told[7].step, told[7].tokens), (7, 21));
        assert!(told[0].learning_rate < told[9].learning_rate);
        assert!(told[199].loss < 0.05, "{:?}", told[199]);
        assert_ne!(policy.version(), before);
        let completions = greedy(&mut policy, &["3+1=", "9+1="]);
        assert_eq!(completions[0].text, "4");
        assert_eq!(completions[1].text, "10");
        assert_eq!(completions[1].finish_reason, FinishReason::Stop);
        assert_eq!(completions[1].token_count, 3);
        assert!(completions[1].logprob < 0.0 && completions[1].logprob > -0.3);
    }

    #[test]
    fn a_saved_policy_goes_on_with_the_same_bits() {
        let mut straight = policy();
        train(&mut straight, 0..10);

        let mut first_half = policy();
        train(&mut first_half, 0..5);
        let dir = tempfile::tempdir().unwrap();
        first_half.save(dir.path()).unwrap();
        first_half.save_trainer_state(dir.path()).unwrap();
        let settings = OptimizerSettings::default();
        let mut resumed = EmbeddedPolicy::from_folder(dir.path(), settings).unwrap();
        assert!(resumed.load_trainer_state(dir.path()).unwrap());
        train(&mut resumed, 5..10);
        assert_eq!(resumed.version(), straight.version());

        let mut forgetful = EmbeddedPolicy::from_folder(dir.path(), settings).unwrap();
        train(&mut forgetful, 5..10);
        assert_ne!(forgetful.version(), straight.version());
    }

    fn update_on(policy: &mut EmbeddedPolicy, examples: &[Example]) -> Result<Vec<u64>, Fault> {
        let update = Update {
            examples,
            batches: &[(0..examples.len()).collect()],
            schedule: schedule(1e-2),
            first_step: 0,
            fresh_optimizer: true,
        };
        let mut tokens = Vec::new();
        policy.update(&update, &mut |step| {
            tokens.push(step.tokens);
            Ok(())
        })?;
        Ok(tokens)
    }

    #[test]
    fn an_example_longer_than_the_context_is_named_and_cut() {
        let mut policy = policy();
        let example = |count| Example { prompt: "1+1=".into(), response: "2".repeat(count).into() };
        policy.check_example(&example(20)).unwrap();
        let fault = policy.check_example(&example(21)).unwrap_err();
        assert_eq!(fault.class, FaultClass::Data);
        assert_eq!(
            fault.message,
            "the prompt \"1+1=\" (4 tokens) and its response (21 tokens) do not fit into the \
             context of 24 tokens"
        );
        // Twenty and the end, twenty-one without an end, and twenty-one of thirty.
        for (count, learned) in [(20, 21), (21, 21), (30, 21)] {
            assert_eq!(update_on(&mut policy, &[example(count)]).unwrap(), [learned], "{count}");
        }
    }

    /// A policy whose tokens are bytes, many of which are no text by themselves.
    fn byte_policy() -> EmbeddedPolicy {
        let size = ModelSize::from_width(32).unwrap();
        let tokenizer = Tokenizer::train_bpe(["1+1=2"], 262).unwrap();
        EmbeddedPolicy::from_scratch(
            size,
            tokenizer,
            24,
            RngKey::from_seed(1),
            OptimizerSettings::default(),
        )
    }

    #[test]
    fn what_fills_the_context_when_sampled_can_be_trained_on() {
        for mut policy in [policy(), byte_policy()] {
            let key = RngKey::from_seed(5);
            let mut longest = 0;
            for max_tokens in [19, 20, 21, 24, 100] {
                let prompts = vec![PromptRequest { prompt: "1+1=", key }];
                let decoding = Decoding { temperature: 1.0, ..Decoding::greedy(max_tokens) };
                let request = SampleRequest { prompts, samples: 40, decoding };
                let drawn = policy.sample(&request, &mut |_| Ok(())).unwrap();
                let examples: Vec<_> = drawn[0]
                    .iter()
                    .map(|completion| Example {
                        prompt: "1+1=".into(),
                        response: completion.text.as_str().into(),
                    })
                    .collect();
                longest = longest.max(drawn[0].iter().map(|c| c.token_count).max().unwrap());
                update_on(&mut policy, &examples).unwrap();
            }
            assert_eq!(longest, 20);
        }
    }

    #[test]
    fn weights_that_are_not_finite_are_neither_kept_going_nor_saved() {
        let mut policy = policy();
        let batches = [vec![0], vec![1]];
        let update = Update {
            examples: &examples(),
            batches: &batches,
            schedule: CosineSchedule {
                peak: 1e39,
                floor: 1e39,
                warmup_steps: 0.0,
                horizon_steps: 9.0,
            },
            first_step: 0,
            fresh_optimizer: false,
        };
        let mut told = 0;
        let fault = policy
            .update(&update, &mut |_| {
                told += 1;
                Ok(())
            })
            .unwrap_err();
        assert_eq!((fault.class, told), (FaultClass::Training, 0));
        let message = "the step made `model.embed_tokens.weight` not finite (at step 0)";
        assert_eq!(fault.message, message);
        assert!(fault.hint.unwrap().contains("`train.learning_rate`"));
        let dir = tempfile::tempdir().unwrap();
        let fault = policy.save(dir.path()).unwrap_err();
        assert_eq!(fault.class, FaultClass::Training);
        assert!(fault.message.contains("`lm_head.weight`"), "{fault}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_prompt_that_fills_the_context_is_named() {
        let mut policy = policy();
        let prompt = "1+".repeat(30);
        let key = RngKey::from_seed(5);
        let prompts = vec![PromptRequest { prompt: &prompt, key }];
        let request = SampleRequest { prompts, samples: 1, decoding: Decoding::greedy(8) };
        let fault = policy.sample(&request, &mut |_| Ok(())).unwrap_err();
        assert_eq!(fault.class, FaultClass::Data);
        assert!(fault.message.contains("1+1+…\" (60 tokens)"), "{fault}");
        assert_eq!(policy.check_prompt(&prompt).unwrap_err().message, fault.message);
        policy.check_prompt(&"1".repeat(23)).unwrap();
        assert!(policy.check_prompt(&"1".repeat(24)).is_err());
    }

    #[test]
    fn a_loss_that_is_not_finite_stops_before_the_step() {
        let mut policy = policy();
        let batches = [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]];
        let update = Update {
            examples: &examples(),
            batches: &batches,
            // The first step throws the weights out of the range of f32.
            schedule: CosineSchedule {
                peak: 1e30,
                floor: 1e30,
                warmup_steps: 0.0,
                horizon_steps: 9.0,
            },
            first_step: 0,
            fresh_optimizer: false,
        };
        let mut told = Vec::new();
        let fault = policy
            .update(&update, &mut |step| {
                told.push(step);
                Ok(())
            })
            .unwrap_err();
        assert_eq!(fault.class, FaultClass::Training);
        assert_eq!(told.len(), 1, "{fault}");
        assert_eq!(policy.optimizer_steps(), 1);
        assert!(fault.message.ends_with("(at step 1)"), "{fault}");
    }

    #[test]
    fn an_interrupt_keeps_the_steps_that_were_announced() {
        let (mut interrupted, mut short) = (policy(), policy());
        train(&mut short, 0..2);
        let batches: Vec<Vec<usize>> = vec![(0..10).collect(); 9];
        let update = Update {
            examples: &examples(),
            batches: &batches,
            schedule: schedule(1e-2),
            first_step: 0,
            fresh_optimizer: false,
        };
        let mut steps = 0;
        let fault = interrupted.update(&update, &mut |_| {
            steps += 1;
            if steps < 2 { Ok(()) } else { Err(Fault::new(FaultClass::Interrupted, "go on")) }
        });
        assert_eq!(fault.unwrap_err().class, FaultClass::Interrupted);
        assert_eq!(interrupted.version(), short.version());
    }

    #[test]
    fn a_tokenizer_larger_than_the_embedding_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        policy().save(dir.path()).unwrap();
        Tokenizer::characters(["abcdefghijklmnopqrstuvwxyz"]).save(dir.path()).unwrap();
        let settings = OptimizerSettings::default();
        let fault = EmbeddedPolicy::from_folder(dir.path(), settings).err().unwrap();
        assert_eq!(fault.class, FaultClass::Data);
        assert!(fault.message.contains("29 tokens") && fault.message.contains("16 rows"));
    }
}
