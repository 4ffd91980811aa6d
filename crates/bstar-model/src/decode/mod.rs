//! The CPU sampler: draws responses from a Llama-family model with a key-value cache.
//!
//! Written by hand because the improve loop spends most of its time here: tens of thousands of
//! short responses a draw. A response depends on weights, prompt, decoding and its key only: not on
//! the other requests, their order, the number of samples in flight, the number of threads or the
//! width of the machine's vectors (`lanes` tells why). Each prompt runs once for all the samples
//! that a thread takes of it; samples enter and leave lanes as they come and go (`batch`).
//! Log-probabilities of given responses are computed with the same arithmetic, to the same bits.
//!
//! Knows token ids only: text, training and files are elsewhere.

#[cfg(test)]
mod agreement;
mod attention;
mod batch;
mod body;
mod cache;
mod context;
mod kernels;
mod lanes;
mod matrix;
#[cfg(test)]
mod reference;
mod repetition;
mod sampling;
mod tempered;

use crate::compute::Precision;
use crate::config::ModelConfig;
use crate::weights::Weights;
use batch::{Announcer, Queue};
use body::{Activations, Body, Until};
use bstar_core::ports::{Decoding, Tick};
use bstar_core::{Fault, FaultClass, FinishReason, RngKey};
use cache::CacheShape;
use context::run_sequences;
use lanes::{Buffer, Lanes};
use pulp::Arch;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use sampling::Distribution;

pub(crate) use batch::not_finite;
pub use tempered::Weighing;

/// Prompts to sample.
#[derive(Clone, Debug)]
pub struct DecodeRequest<'a> {
    /// Token ids; at least one.
    pub prompt: &'a [u32],
    /// One key for each sample. Token `n` of a sample is drawn with the `n`-th uniform number of
    /// the generator that its key builds.
    pub keys: Vec<RngKey>,
}

/// Whether these tokens are a whole response.
pub type Condition<'a> = dyn Fn(&[u32]) -> bool + Sync + 'a;

/// What ends a response beside its limits and the stop tokens of its decoding.
#[derive(Clone, Copy)]
pub struct Ends<'a> {
    /// End-of-sequence tokens.
    pub tokens: &'a [u32],
    /// Asked after each token with all tokens of the response so far: whether they are the last.
    pub condition: Option<&'a Condition<'a>>,
}

/// One response.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The tokens drawn; the end-of-sequence token, if drawn, is the last.
    pub tokens: Vec<u32>,
    /// [`FinishReason::Stop`] if an end-of-sequence token, a stop token or a condition ended it.
    pub finish_reason: FinishReason,
    /// For each token, its log-probability (nats) at temperature 1 without truncation.
    pub logprobs: Vec<f32>,
    /// For each token, the entropy (nats) of the distribution at temperature 1 without truncation
    /// that it followed from.
    pub entropies: Vec<f32>,
}

impl DecodeRequest<'_> {
    fn shares_prompt(&self, lanes: Lanes) -> bool {
        shares_prompt(self.prompt.len(), self.keys.len(), lanes)
    }
}

impl Ends<'_> {
    /// Whether a response ends with the last of its tokens, apart from its limit.
    pub(crate) fn reached(self, decoding: &Decoding, tokens: &[u32]) -> bool {
        let last = tokens.last().expect("a token was drawn");
        self.tokens.contains(last)
            || decoding.stop_tokens.contains(last)
            || self.condition.is_some_and(|condition| condition(tokens))
    }
}

impl Generation {
    /// A response before its first token.
    pub(crate) fn empty() -> Self {
        Self {
            tokens: Vec::new(),
            finish_reason: FinishReason::Length,
            logprobs: Vec::new(),
            entropies: Vec::new(),
        }
    }
}

/// A model laid out for sampling.
#[derive(Debug)]
pub struct Decoder {
    body: Body,
    /// Bound on the keys and values of all samples in flight and of the prompts that wait.
    cache_bytes: usize,
}

impl Decoder {
    /// Lays out the weights: some milliseconds for a million parameters.
    pub fn new(weights: &Weights) -> Self {
        Self::with_precision(weights, Precision::F32)
    }

    /// The same for products in this precision; in [`Precision::Bf16`] weights take half the memory.
    pub fn with_precision(weights: &Weights, precision: Precision) -> Self {
        Self::with_arch(weights, precision, Arch::new())
    }

    /// From now on keys and values take at most so many bytes, as long as one group of lanes (the
    /// samples that are computed together) fits; fewer are in flight then, and results stay the
    /// same.
    pub fn limit_cache(&mut self, bytes: usize) {
        self.cache_bytes = bytes;
    }

    /// Draws a response for each key of each request: `[request][sample]`.
    ///
    /// Uses the threads of the current rayon pool. A response ends with one of the tokens `eos`,
    /// after `decoding.max_tokens` tokens, or when prompt and response fill the context.
    ///
    /// Progress counts responses, in strides that are the same in every run; it is told on the
    /// calling thread, and an error from `tick` ends the work and is returned.
    ///
    /// Stop strings need a tokenizer and are the business of the caller of
    /// [`Decoder::generate_until`].
    ///
    /// Faults: a prompt that is empty, longer than the context or has unknown token ids (class
    /// Data), a setting of the decoding out of range (Usage), logits that are not finite
    /// (Training).
    pub fn generate(
        &self,
        requests: &[DecodeRequest<'_>],
        decoding: &Decoding,
        eos: &[u32],
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Generation>>, Fault> {
        self.generate_until(requests, decoding, Ends { tokens: eos, condition: None }, tick)
    }

    /// The same with a condition that ends a response.
    pub fn generate_until(
        &self,
        requests: &[DecodeRequest<'_>],
        decoding: &Decoding,
        ends: Ends<'_>,
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Generation>>, Fault> {
        check_decoding(decoding, self.body.config.vocab_size)?;
        for (number, request) in requests.iter().enumerate() {
            check_tokens(&self.body.config, &format!("prompt {number}"), request.prompt)?;
        }
        let total = requests.iter().map(|request| request.keys.len()).sum::<usize>();
        let workers = rayon::current_num_threads().min(total).max(1);
        let lanes = self.lanes(total.div_ceil(workers));
        let (workers, groups) = self.groups(requests, decoding, lanes, total, workers);
        let queue = Queue::new(&self.body, requests, decoding, ends, workers);
        let mut announcer = Announcer::new(tick);
        // The caller is one of the workers: `tick` must run on its thread, and a pool of one
        // thread has no other.
        rayon::in_place_scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|_| queue.work(lanes, groups, None));
            }
            queue.work(lanes, groups, Some(&mut announcer));
        });
        let told = announcer.finish(&queue);
        let mut finished = queue.into_result()?;
        told?;
        finished.sort_unstable_by_key(|(request, sample, _)| (*request, *sample));
        let mut finished = finished.into_iter().map(|(_, _, generation)| generation);
        Ok(requests.iter().map(|r| finished.by_ref().take(r.keys.len()).collect()).collect())
    }

    /// Log-probability (nats, temperature 1, no truncation) of each response token after its
    /// prompt, to the same bits that [`Decoder::generate`] gives for a token it drew.
    ///
    /// Faults: as for [`Decoder::generate`]; prompt and response together must fit the context.
    pub fn logprobs(&self, sequences: &[(Vec<u32>, Vec<u32>)]) -> Result<Vec<Vec<f32>>, Fault> {
        self.check_sequences(sequences)?;
        let rows = sequences.iter().map(|(prompt, response)| prompt.len() + response.len() - 1);
        let lanes = Lanes::wide(self.body.arch);
        let groups = rows.max().unwrap_or(0).div_ceil(lanes.count()).clamp(1, MOST_GROUPS);
        let room = || (Activations::new(&self.body, lanes, groups), Buffer::zeroed(0));
        sequences
            .par_iter()
            .map_init(room, |(numbers, scores), (prompt, response)| {
                self.score(numbers, scores, prompt, response)
            })
            .collect()
    }

    fn check_sequences(&self, sequences: &[(Vec<u32>, Vec<u32>)]) -> Result<(), Fault> {
        for (number, (prompt, response)) in sequences.iter().enumerate() {
            let name = format!("sequence {number}");
            check_tokens(&self.body.config, &name, prompt)?;
            check_tokens(&self.body.config, &name, &[prompt.as_slice(), response].concat())?;
        }
        Ok(())
    }

    fn with_arch(weights: &Weights, precision: Precision, arch: Arch) -> Self {
        Self { body: Body::new(weights, precision, arch), cache_bytes: CACHE_BYTES }
    }

    fn score(
        &self,
        numbers: &mut Activations,
        scores: &mut Buffer,
        prompt: &[u32],
        response: &[u32],
    ) -> Result<Vec<f32>, Fault> {
        let lanes = numbers.lanes.count();
        let tokens = [prompt, response].concat();
        let mut distribution = Distribution::new(self.body.config.vocab_size, numbers.lanes);
        let mut logprobs = Vec::with_capacity(response.len());
        let mut finite = true;
        let inputs = &tokens[..tokens.len() - 1];
        run_sequences(&self.body, numbers, scores, &[inputs], Until::Logits, |chunk, logits| {
            distribution.load(logits);
            for lane in 0..chunk.tokens {
                let next = chunk.first + lane + 1;
                if next >= prompt.len() {
                    finite &= distribution.is_finite(lane);
                    let logit = logits[tokens[next] as usize * lanes + lane];
                    logprobs.push(distribution.log_probability(lane, logit));
                }
            }
        });
        if finite { Ok(logprobs) } else { Err(batch::not_finite()) }
    }

    /// The groups of a worker with so many samples: without a vector that would stay empty.
    fn lanes(&self, samples: usize) -> Lanes {
        let narrow = Lanes::narrow(self.body.arch);
        if samples <= narrow.count() { narrow } else { Lanes::wide(self.body.arch) }
    }

    /// Workers, of at most `workers`, and groups of lanes for each: no more than there are samples
    /// for, nor than memory has room for.
    fn groups(
        &self,
        requests: &[DecodeRequest<'_>],
        decoding: &Decoding,
        lanes: Lanes,
        total: usize,
        workers: usize,
    ) -> (usize, usize) {
        let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0);
        // Prompts that are read where they are take nothing in the lanes.
        let copied = requests.iter().filter(|request| !request.shares_prompt(lanes));
        let copied = copied.map(|request| request.prompt.len()).max().unwrap_or(0);
        let tokens = copied.saturating_add(decoding.max_tokens);
        let tokens = tokens.min(self.body.config.max_position_embeddings);
        let lanes = lanes.count();
        let most = most_lanes(&self.body.config);
        // At worst every lane has, or waits for, a prompt of its own.
        let numbers = self.body.cache_shape().sample_size(tokens, longest, most);
        let affordable = (self.cache_bytes / (lanes * numbers * size_of::<f32>())).max(1);
        let workers = workers.min(affordable);
        let useful = total.div_ceil(workers).div_ceil(lanes);
        (workers, (affordable / workers).min(useful).clamp(1, most / lanes))
    }
}

/// Whether samples read their prompt where it is, instead of a copy in each lane.
///
/// Each prompt that is read so is multiplied with the queries of all lanes of a group, so few must meet in
/// one: there have to be many samples, and more of them where prompts are short, since copies of those are
/// cheap (`docs/design/engine.md` has the measurements).
fn shares_prompt(prompt: usize, samples: usize, lanes: Lanes) -> bool {
    let least = lanes.count();
    let least = if prompt < SHORT_PROMPT { least } else { least / 2 };
    samples >= least
}

/// Bytes that keys and values of a sample take at worst, with a prompt and a response of so many tokens,
/// where each prompt has so many samples: what [`Decoder::limit_cache`] counts.
pub(crate) fn sample_bytes(
    config: &ModelConfig,
    prompt: usize,
    response: usize,
    samples: usize,
) -> usize {
    let shares = shares_prompt(prompt, samples, Lanes::wide(Arch::new()));
    let tokens = if shares { response } else { prompt + response };
    CacheShape::of(config).sample_size(tokens, prompt, most_lanes(config)) * size_of::<f32>()
}

/// Samples that a worker decodes at once at most.
pub fn most_lanes(config: &ModelConfig) -> usize {
    if config.is_small() { LANES_OF_SMALL_MODELS } else { LANES_OF_LARGE_MODELS }
}

/// Samples that a worker decodes at once while the weights of a model fit into its caches: few
/// enough for activations, keys and values to stay there too.
const LANES_OF_SMALL_MODELS: usize = 32;

/// Samples that a worker decodes at once otherwise: enough for the weights to be fetched seldom.
const LANES_OF_LARGE_MODELS: usize = 64;

/// Tokens of a prompt from which on copies of it are dear.
const SHORT_PROMPT: usize = 32;

/// Groups of lanes that score one sequence at once.
const MOST_GROUPS: usize = 4;

/// The bound where none is asked for.
const CACHE_BYTES: usize = 1 << 30;

/// Whether a model can read these tokens; faults have class Data.
pub(crate) fn check_tokens(config: &ModelConfig, name: &str, tokens: &[u32]) -> Result<(), Fault> {
    if tokens.is_empty() {
        return Err(Fault::new(FaultClass::Data, format!("{name} has no tokens")));
    }
    if tokens.len() > config.max_position_embeddings {
        let (count, most) = (tokens.len(), config.max_position_embeddings);
        let message = format!("{name} has {count} tokens, but the context holds {most}");
        return Err(Fault::new(FaultClass::Data, message)
            .hint("use shorter prompts or a model with a longer context"));
    }
    match tokens.iter().find(|&&token| token as usize >= config.vocab_size) {
        None => Ok(()),
        Some(token) => {
            let size = config.vocab_size;
            let message = format!("{name} has token {token}, but the vocabulary has {size}");
            Err(Fault::new(FaultClass::Data, message)
                .hint("use the tokenizer that belongs to the model"))
        }
    }
}

/// Whether the settings of a decoding are in range; faults have class Usage.
pub(crate) fn check_decoding(decoding: &Decoding, vocabulary: usize) -> Result<(), Fault> {
    let Decoding { temperature, top_p, min_p, repetition_penalty, .. } = *decoding;
    if !(temperature >= 0.0 && temperature.is_finite()) {
        let message = format!("temperature is {temperature}, but it must be at least 0");
        return Err(Fault::new(FaultClass::Usage, message));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        let message = format!("top_p is {top_p}, but it must be above 0 and at most 1");
        return Err(Fault::new(FaultClass::Usage, message));
    }
    if !(0.0..=1.0).contains(&min_p) {
        let message = format!("min_p is {min_p}, but it must be from 0 to 1");
        return Err(Fault::new(FaultClass::Usage, message));
    }
    if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
        let message = format!("repetition_penalty is {repetition_penalty}, but it must be above 0");
        return Err(Fault::new(FaultClass::Usage, message));
    }
    if decoding.stop.iter().any(String::is_empty) {
        return Err(Fault::new(FaultClass::Usage, "a stop string is empty"));
    }
    if let Some(token) = decoding.stop_tokens.iter().find(|&&token| token as usize >= vocabulary) {
        let message =
            format!("the vocabulary has {vocabulary} tokens, but a stop token is {token}");
        return Err(Fault::new(FaultClass::Usage, message)
            .hint("use token ids of this model's tokenizer in `sample.stop_tokens`"));
    }
    Ok(())
}
