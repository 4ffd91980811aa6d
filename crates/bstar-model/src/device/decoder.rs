//! Sampling on a device: what [`crate::decode`] does.
//!
//! Samples enter lanes as others leave them. When an eighth of the lanes is free, waiting samples
//! enter together; each prompt then runs once for all of its samples that enter. A step runs one token
//! of every lane, idle ones too, so that its launches are the same every time: they read tokens,
//! positions and uniform numbers from one small upload, and the host waits only for what was drawn.

use super::Device;
use super::cache::LaneCaches;
use super::memory::{Buffer, HostNumber as _, Real};
use super::model::{Batch, Context, Keep, Model, Prompts, Room, Rotary, Tokens};
use super::ops::{self, CacheShape, Draw, Drawn, HeadShape, Matrix};
use super::weights::DeviceWeights;
use crate::config::ModelConfig;
use crate::decode::{DecodeRequest, Ends, Generation, check_decoding, check_tokens, not_finite};
use crate::ops::matmul::Write;
use crate::transformer::PackedTokens;
use crate::weights::Weights;
use bstar_core::ports::{Decoding, Progress, Tick};
use bstar_core::rng::{Rng, uniform};
use bstar_core::{Fault, FinishReason};
use rayon::iter::{IntoParallelRefMutIterator as _, ParallelIterator as _};

/// A model laid out for sampling on a device.
pub struct DeviceDecoder {
    device: Device,
    config: ModelConfig,
    weights: DeviceWeights,
}

impl DeviceDecoder {
    /// Copies the weights to the device.
    pub fn new(device: &Device, weights: &Weights) -> Result<Self, Fault> {
        let config = weights.config.clone();
        HeadShape::check(device, config.head_dim)?;
        let on_device = DeviceWeights::new(device, &config, &weights.to_flat())?;
        Ok(Self { device: device.clone(), config, weights: on_device })
    }

    /// Draws a response for each key of each request, as
    /// [`crate::decode::Decoder::generate_until`]; faults of the device come on top.
    pub fn generate_until(
        &self,
        requests: &[DecodeRequest<'_>],
        decoding: &Decoding,
        ends: Ends<'_>,
        tick: Tick<'_>,
    ) -> Result<Vec<Vec<Generation>>, Fault> {
        check_decoding(decoding, self.config.vocab_size)?;
        for (number, request) in requests.iter().enumerate() {
            check_tokens(&self.config, &format!("prompt {number}"), request.prompt)?;
        }
        let total = requests.iter().map(|request| request.keys.len()).sum::<usize>();
        let waiting =
            requests.iter().enumerate().flat_map(|(request, DecodeRequest { keys, .. })| {
                (0..keys.len()).map(move |sample| (request, sample))
            });
        let mut finished: Vec<Vec<Generation>> =
            requests.iter().map(|r| vec![Generation::empty(); r.keys.len()]).collect();
        if total == 0 {
            return Ok(finished);
        }
        let call = Call { decoding, ends, requests };
        let mut session = Session::new(self, &call, total)?;
        let mut announcer = Announcer { tick, total, done: 0, announced: 0, steps: 0 };
        let mut waiting = waiting.peekable();
        loop {
            if waiting.peek().is_some() && session.wants_more() {
                session.admit(&call, &mut waiting)?;
            }
            let running = session.is_running();
            if running {
                session.step(&call)?;
            }
            for (request, sample, generation) in session.leave() {
                finished[request][sample] = generation;
                announcer.done += 1;
            }
            announcer.announce()?;
            if !running && waiting.peek().is_none() {
                return Ok(finished);
            }
        }
    }

    /// Log-probability (nats, temperature 1, no truncation) of each response token after its prompt,
    /// as [`crate::decode::Decoder::logprobs`].
    pub fn logprobs(&self, sequences: &[(Vec<u32>, Vec<u32>)]) -> Result<Vec<Vec<f32>>, Fault> {
        let joined: Vec<Vec<u32>> =
            sequences.iter().map(|(prompt, response)| [&prompt[..], response].concat()).collect();
        for (number, ((prompt, _), tokens)) in sequences.iter().zip(&joined).enumerate() {
            let name = format!("sequence {number}");
            check_tokens(&self.config, &name, prompt)?;
            check_tokens(&self.config, &name, tokens)?;
        }
        let mut logprobs = Vec::new();
        for chunk in chunks_of_tokens(&joined, Vec::len) {
            let first = logprobs.len();
            let prompts = sequences[first..].iter().map(|(prompt, _)| prompt.len());
            let pairs: Vec<_> = chunk.iter().zip(prompts).collect();
            logprobs.extend(self.score(&pairs)?);
        }
        Ok(logprobs)
    }

    /// The log-probabilities of what follows the prompt in each sequence.
    fn score(&self, sequences: &[(&Vec<u32>, usize)]) -> Result<Vec<Vec<f32>>, Fault> {
        let (device, config) = (&self.device, &self.config);
        let packed =
            PackedTokens::new(sequences.iter().map(|(tokens, _)| &tokens[..tokens.len() - 1]));
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for ((tokens, prompt), sequence) in sequences.iter().zip(packed.sequences()) {
            rows.extend((sequence.start + prompt - 1..sequence.end).map(index));
            targets.extend_from_slice(&tokens[*prompt..]);
        }
        let longest = sequences.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(0);
        let rotary = Rotary::new(device, config, longest)?;
        let room = Room::new(device, config, packed.tokens().len(), Keep::Nothing)?;
        let batch = Batch::new(device, packed.tokens(), packed.sequences())?;
        let model = Model { device, config, weights: &self.weights, rotary: &rotary };
        model.forward((&batch).into(), &Context::Packed(&batch), &room)?;
        let (width, vocabulary) = (config.hidden_size, config.vocab_size);
        let at_once = (LOGIT_BYTES / (vocabulary * size_of::<f32>())).max(1).min(rows.len());
        let hidden = Buffer::<Real>::new(device, at_once * width)?;
        let logits = Buffer::<f32>::new(device, at_once * vocabulary)?;
        let losses = Buffer::<f32>::new(device, at_once)?;
        let mut found = Vec::with_capacity(rows.len());
        for (rows, targets) in rows.chunks(at_once.max(1)).zip(targets.chunks(at_once.max(1))) {
            let count = rows.len();
            let (rows, targets) = (Buffer::of(device, rows)?, Buffer::of(device, targets)?);
            let own = Matrix { place: hidden.place(), rows: count, width };
            ops::gather_rows(device, room.hidden.place(), rows.place(), own)?;
            let logits = self.logits(&model, own, &logits)?;
            ops::cross_entropy(device, logits, targets.place(), 0.0, losses.place(), None)?;
            found.extend(losses.download(count)?.into_iter().map(|loss| -loss));
        }
        if !found.iter().all(|logprob| logprob.is_finite()) {
            return Err(not_finite());
        }
        let mut found = found.into_iter();
        let lengths = sequences.iter().map(|(tokens, prompt)| tokens.len() - prompt);
        Ok(lengths.map(|length| found.by_ref().take(length).collect()).collect())
    }

    fn logits(
        &self,
        model: &Model<'_>,
        hidden: Matrix<Real>,
        logits: &Buffer<f32>,
    ) -> Result<Matrix<f32>, Fault> {
        let weight = self.weights.matrix(self.weights.groups.head());
        let product = model.head_product(hidden.rows);
        product.forward(&self.device, hidden.place, weight, Write::Replace, logits.place())?;
        Ok(Matrix { place: logits.place(), rows: hidden.rows, width: self.config.vocab_size })
    }
}

/// What is asked for.
struct Call<'a> {
    decoding: &'a Decoding,
    ends: Ends<'a>,
    requests: &'a [DecodeRequest<'a>],
}

/// A sample in its lane.
struct Lane {
    request: usize,
    sample: usize,
    rng: Rng,
    generation: Generation,
    /// The token to run next, and its position.
    token: u32,
    position: usize,
    /// Most tokens it may have.
    limit: usize,
    ended: bool,
}

/// The buffers of one call, and who is in which lane.
struct Session<'a> {
    decoder: &'a DeviceDecoder,
    lanes: Vec<Option<Lane>>,
    /// Samples that may have no token.
    empty: Vec<Lane>,
    shapes: Vec<CacheShape>,
    rotary: Rotary,
    room: Room,
    /// For each lane a uniform number (two words), a token, a position.
    inputs: Buffer<u32>,
    logits: Buffer<f32>,
    weights: Buffer<f32>,
    seen: Buffer<u32>,
    drawn: Buffer<u32>,
    /// What `shapes` point into.
    _caches: LaneCaches,
}

impl<'a> Session<'a> {
    fn new(decoder: &'a DeviceDecoder, call: &Call<'_>, total: usize) -> Result<Self, Fault> {
        let DeviceDecoder { device, config, .. } = decoder;
        let longest = call.requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0);
        let most = longest.saturating_add(call.decoding.max_tokens);
        let tokens = most.min(config.max_position_embeddings);
        let lanes = lanes(device, config, tokens, total)?;
        let caches = LaneCaches::new(device, config, lanes, tokens)?;
        let has_penalty = call.decoding.repetition_penalty != 1.0;
        let words = if has_penalty { config.vocab_size.div_ceil(32) } else { 0 };
        Ok(Self {
            lanes: (0..lanes).map(|_| None).collect(),
            empty: Vec::new(),
            shapes: caches.shapes(config),
            rotary: Rotary::new(device, config, tokens)?,
            room: Room::new(device, config, lanes, Keep::Nothing)?,
            inputs: Buffer::new(device, 4 * lanes)?,
            logits: Buffer::new(device, lanes * config.vocab_size)?,
            weights: Buffer::new(device, lanes * config.vocab_size)?,
            seen: Buffer::zeros(device, lanes * words)?,
            drawn: Buffer::new(device, lanes * Drawn::WORDS)?,
            _caches: caches,
            decoder,
        })
    }

    fn model(&self) -> Model<'_> {
        let DeviceDecoder { device, config, weights } = self.decoder;
        Model { device, config, weights, rotary: &self.rotary }
    }

    fn is_running(&self) -> bool {
        self.lanes.iter().any(Option::is_some)
    }

    /// Whether so many lanes are free that running prompts is worth it.
    fn wants_more(&self) -> bool {
        let free = self.lanes.iter().filter(|lane| lane.is_none()).count();
        free == self.lanes.len() || free >= (self.lanes.len() / 8).max(1)
    }

    /// Fills the free lanes and runs the prompts of those who enter, but for the last token of each:
    /// that one runs in the lanes.
    fn admit(
        &mut self,
        call: &Call<'_>,
        waiting: &mut impl Iterator<Item = (usize, usize)>,
    ) -> Result<(), Fault> {
        let mut entering: Vec<Entering> = Vec::new();
        for place in 0..self.lanes.len() {
            if self.lanes[place].is_some() {
                continue;
            }
            let Some(lane) = self.next_lane(call, waiting) else { break };
            match entering.last_mut().filter(|last| last.request == lane.request) {
                Some(last) => last.lanes.push(place),
                None => entering.push(Entering { request: lane.request, lanes: vec![place] }),
            }
            self.mark_prompt(call, place, lane.request)?;
            self.lanes[place] = Some(lane);
        }
        let tokens = |entering: &Entering| call.requests[entering.request].prompt.len() - 1;
        for entering in chunks_of_tokens(&entering, tokens) {
            self.run_prompts(call, entering)?;
        }
        Ok(())
    }

    /// The next sample that has something to draw; others go to `empty`.
    fn next_lane(
        &mut self,
        call: &Call<'_>,
        waiting: &mut impl Iterator<Item = (usize, usize)>,
    ) -> Option<Lane> {
        for (request, sample) in waiting {
            let DecodeRequest { prompt, keys } = &call.requests[request];
            let room = self.decoder.config.max_position_embeddings - prompt.len();
            let lane = Lane {
                request,
                sample,
                rng: keys[sample].rng(),
                generation: Generation::empty(),
                token: *prompt.last().expect("an empty prompt was refused"),
                position: prompt.len() - 1,
                limit: call.decoding.max_tokens.min(room),
                ended: false,
            };
            if lane.limit > 0 {
                return Some(lane);
            }
            self.empty.push(lane);
        }
        None
    }

    /// Marks the tokens of a prompt as seen in a lane, where there is a penalty.
    fn mark_prompt(&self, call: &Call<'_>, place: usize, request: usize) -> Result<(), Fault> {
        if call.decoding.repetition_penalty == 1.0 {
            return Ok(());
        }
        let mut seen = vec![0; self.decoder.config.vocab_size.div_ceil(32)];
        for &token in call.requests[request].prompt {
            seen[token as usize / 32] |= 1 << (token % 32);
        }
        self.seen.upload(place * seen.len(), &seen)
    }

    fn run_prompts(&self, call: &Call<'_>, entering: &[Entering]) -> Result<(), Fault> {
        let DeviceDecoder { device, config, .. } = self.decoder;
        let prompt = |entering: &Entering| {
            let tokens = call.requests[entering.request].prompt;
            &tokens[..tokens.len() - 1]
        };
        let packed = PackedTokens::new(entering.iter().map(prompt));
        if packed.tokens().is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        for (entering, sequence) in entering.iter().zip(packed.sequences()) {
            for &lane in &entering.lanes {
                entries.extend([lane, sequence.start, sequence.len()].map(index));
            }
        }
        let longest = packed.sequences().iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let room = Room::new(device, config, packed.tokens().len(), Keep::Nothing)?;
        let batch = Batch::new(device, packed.tokens(), packed.sequences())?;
        let on_device = Buffer::of(device, &entries)?;
        let entries = (on_device.place(), entries.len() / 3);
        let prompts = Prompts { batch: &batch, caches: &self.shapes, entries, longest };
        self.model().forward((&batch).into(), &Context::Prompts(prompts), &room)
    }

    /// Runs one token of every lane and draws the next.
    fn step(&mut self, call: &Call<'_>) -> Result<(), Fault> {
        let device = &self.decoder.device;
        self.upload_inputs()?;
        let count = self.lanes.len();
        let [ids, positions] = [2 * count, 3 * count].map(|word| self.inputs.at(word));
        let model = self.model();
        let tokens = Tokens { count, ids, positions };
        model.forward(tokens, &Context::Cache(&self.shapes), &self.room)?;
        let width = self.decoder.config.hidden_size;
        let hidden = Matrix { place: self.room.hidden.place(), rows: count, width };
        let logits = self.decoder.logits(&model, hidden, &self.logits)?;
        let draw = Draw {
            decoding: call.decoding,
            uniforms: self.inputs.place().as_doubles(),
            weights: self.weights.place(),
            seen: self.seen.place(),
            drawn: self.drawn.place(),
        };
        ops::draw(device, logits, &draw)?;
        let drawn = Drawn::download(&self.drawn, count)?;
        let taken = self.lanes.iter().zip(&drawn).all(|(lane, d)| lane.is_none() || d.finite);
        if !taken {
            return Err(not_finite());
        }
        // Stop strings are looked for by the tokenizer, which takes its time.
        let lanes: Vec<_> = self.lanes.iter_mut().zip(drawn).collect();
        let mut lanes: Vec<_> =
            lanes.into_iter().filter_map(|(lane, drawn)| Some((lane.as_mut()?, drawn))).collect();
        lanes.par_iter_mut().for_each(|(lane, drawn)| lane.take(*drawn, call));
        Ok(())
    }

    fn upload_inputs(&mut self) -> Result<(), Fault> {
        let draw =
            |lane: &mut Option<Lane>| lane.as_mut().map_or(0.0, |lane| uniform(&mut lane.rng));
        let uniforms: Vec<f64> = self.lanes.iter_mut().map(draw).collect();
        let mut words = u32::from_bytes(&f64::to_bytes(&uniforms));
        let lanes = || self.lanes.iter().map(Option::as_ref);
        words.extend(lanes().map(|lane| lane.map_or(0, |lane| lane.token)));
        words.extend(lanes().map(|lane| lane.map_or(0, |lane| index(lane.position))));
        self.inputs.upload(0, &words)
    }

    /// Takes out the samples that ended.
    fn leave(&mut self) -> Vec<(usize, usize, Generation)> {
        let ended = self.lanes.iter_mut().filter_map(|lane| lane.take_if(|lane| lane.ended));
        let out = |lane: Lane| (lane.request, lane.sample, lane.generation);
        self.empty.drain(..).chain(ended).map(out).collect()
    }
}

impl Lane {
    fn take(&mut self, drawn: Drawn, call: &Call<'_>) {
        let generation = &mut self.generation;
        generation.tokens.push(drawn.token);
        generation.logprobs.push(drawn.log_probability);
        generation.entropies.push(drawn.entropy);
        if call.ends.reached(call.decoding, &generation.tokens) {
            generation.finish_reason = FinishReason::Stop;
            self.ended = true;
        } else if generation.tokens.len() == self.limit {
            self.ended = true;
        }
        self.token = drawn.token;
        self.position += 1;
    }
}

/// Lanes whose samples have one prompt.
struct Entering {
    request: usize,
    lanes: Vec<usize>,
}

/// Tells the caller how far the work is.
struct Announcer<'a> {
    tick: Tick<'a>,
    total: usize,
    done: usize,
    announced: usize,
    /// Steps since the last number.
    steps: usize,
}

impl Announcer<'_> {
    /// Announces all strides that are complete, and the present one again after some steps.
    fn announce(&mut self) -> Result<(), Fault> {
        self.steps += 1;
        while self.announced < self.total {
            let next = self.total.min(self.announced + STRIDE);
            if self.done < next {
                break;
            }
            self.announced = next;
            self.tell()?;
        }
        if self.steps >= STEPS_BETWEEN_TICKS { self.tell() } else { Ok(()) }
    }

    fn tell(&mut self) -> Result<(), Fault> {
        self.steps = 0;
        (self.tick)(Progress { done: self.announced as u64, total: self.total as u64 })
    }
}

/// Responses between two numbers of progress.
const STRIDE: usize = 64;

/// Steps after which progress is told even if nothing finished.
const STEPS_BETWEEN_TICKS: usize = 64;

/// Most samples that are decoded at once.
const MOST_LANES: usize = 1024;

/// Tokens of prompts that run at once.
const PROMPT_TOKENS: usize = 16_384;

/// Bound on the logits of given responses that are held at once.
const LOGIT_BYTES: usize = 256 << 20;

/// Lanes for which there is memory, and samples.
fn lanes(
    device: &Device,
    config: &ModelConfig,
    tokens: usize,
    total: usize,
) -> Result<usize, Fault> {
    let real = <Real as super::memory::Element>::size(device.precision());
    let cache = LaneCaches::numbers_per_lane(config, tokens) * real;
    let rows = Room::bytes_per_token(config, real, Keep::Nothing) + 8 * config.vocab_size;
    let prompts = PROMPT_TOKENS * Room::bytes_per_token(config, real, Keep::Nothing);
    // A part is left for prompts, and for what allocation rounds up.
    let free = device.accelerator.free_memory()? / 8 * 7;
    let affordable = free.saturating_sub(prompts) / (cache + rows);
    Ok(affordable.min(total).clamp(1, MOST_LANES))
}

/// Neighbours of together at most [`PROMPT_TOKENS`] tokens; what has more is alone.
fn chunks_of_tokens<T>(all: &[T], tokens: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut chunks = Vec::new();
    let (mut first, mut sum) = (0, 0);
    for (at, one) in all.iter().enumerate() {
        if at > first && sum + tokens(one) > PROMPT_TOKENS {
            chunks.push(&all[first..at]);
            (first, sum) = (at, 0);
        }
        sum += tokens(one);
    }
    if first < all.len() {
        chunks.push(&all[first..]);
    }
    chunks
}

fn index(number: usize) -> u32 {
    u32::try_from(number).expect("fewer than 2^32 tokens")
}
