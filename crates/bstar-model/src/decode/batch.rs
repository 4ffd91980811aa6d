//! Continuous batching: samples enter lanes as others leave them.
//!
//! Samples wait in a [`Queue`] as pieces, each some samples of one prompt. A [`Worker`] (one a
//! thread) takes pieces, runs their prompts once, and keeps its lanes full until the queue is
//! empty. Who takes which piece depends on timing; what a sample becomes does not, because lanes do
//! not see each other and every sample draws from its own key. Progress is told in fixed strides of
//! responses, so that its numbers are the same in every run; while one stride takes long, its
//! number is told again, so that an interrupt is noticed.

use super::body::{Activations, Body, Until};
use super::cache::{LaneCache, PromptCache};
use super::context::{LaneContext, run_sequences};
use super::lanes::{Buffer, Lanes, MAX_LANES};
use super::repetition::Penalty;
use super::sampling::Distribution;
use super::{DecodeRequest, Ends, Generation};
use bstar_core::ports::{Decoding, Progress, Tick};
use bstar_core::rng::{Rng, uniform};
use bstar_core::{Fault, FaultClass, FinishReason};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(test)]
thread_local! {
    /// Steps of one group of lanes that this thread has made.
    pub(super) static GROUP_STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A response with its place: request, sample.
pub(super) type Placed = (usize, usize, Generation);

/// What all workers share.
pub(super) struct Queue<'a> {
    pub(super) body: &'a Body,
    pub(super) requests: &'a [DecodeRequest<'a>],
    pub(super) decoding: &'a Decoding,
    ends: Ends<'a>,
    workers: usize,
    pieces: Vec<Piece>,
    /// The first piece that nobody took.
    next: AtomicUsize,
    stop: AtomicBool,
    done: AtomicUsize,
    total: usize,
    finished: Mutex<Vec<Placed>>,
    failure: Mutex<Option<Fault>>,
}

/// Samples of one request.
#[derive(Clone, Debug)]
struct Piece {
    request: usize,
    samples: Range<usize>,
}

impl<'a> Queue<'a> {
    /// All samples of all requests, for `workers` workers.
    pub(super) fn new(
        body: &'a Body,
        requests: &'a [DecodeRequest<'a>],
        decoding: &'a Decoding,
        ends: Ends<'a>,
        workers: usize,
    ) -> Self {
        let total = requests.iter().map(|request| request.keys.len()).sum::<usize>();
        // Small enough for every worker to have some, large enough for prompts to run seldom.
        let largest = total.div_ceil(workers).clamp(1, LARGEST_PIECE);
        let mut pieces = Vec::new();
        for (request, DecodeRequest { keys, .. }) in requests.iter().enumerate() {
            for start in (0..keys.len()).step_by(largest) {
                let samples = start..keys.len().min(start + largest);
                pieces.push(Piece { request, samples });
            }
        }
        Self {
            body,
            requests,
            decoding,
            ends,
            workers,
            pieces,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            total,
            finished: Mutex::new(Vec::with_capacity(total)),
            failure: Mutex::new(None),
        }
    }

    /// Decodes until the queue is empty, in `groups` groups of lanes; run it once a worker. A
    /// failure stops all workers and is kept.
    pub(super) fn work(
        &self,
        lanes: Lanes,
        groups: usize,
        mut announcer: Option<&mut Announcer<'_>>,
    ) {
        let mut worker = Worker::new(self, lanes, groups);
        let result = worker.run(&mut announcer);
        if let Err(fault) = result {
            self.stop.store(true, Ordering::Relaxed);
            self.failure.lock().expect("no worker panics with the lock").get_or_insert(fault);
        }
        let mut finished = self.finished.lock().expect("no worker panics with the lock");
        finished.append(&mut worker.finished);
    }

    /// Every response, or what failed.
    pub(super) fn into_result(self) -> Result<Vec<Placed>, Fault> {
        match self.failure.into_inner().expect("no worker panics with the lock") {
            Some(fault) => Err(fault),
            None => Ok(self.finished.into_inner().expect("no worker panics with the lock")),
        }
    }

    /// The next pieces: as many as `wanted`, fewer where the other workers need some.
    fn take(&self, wanted: usize) -> &[Piece] {
        let left = self.pieces.len().saturating_sub(self.next.load(Ordering::Relaxed));
        let count = wanted.min(left.div_ceil(self.workers)).max(1);
        let start = self.next.fetch_add(count, Ordering::Relaxed).min(self.pieces.len());
        &self.pieces[start..self.pieces.len().min(start + count)]
    }
}

/// Most samples of one request that are handed out together.
const LARGEST_PIECE: usize = 64;

/// Tells the caller how far the work is.
pub(super) struct Announcer<'a> {
    tick: Tick<'a>,
    /// Responses announced.
    announced: usize,
    /// Floating-point operations since the last call of `tick`.
    work: u64,
}

impl<'a> Announcer<'a> {
    pub(super) fn new(tick: Tick<'a>) -> Self {
        Self { tick, announced: 0, work: 0 }
    }

    /// Announces all strides that are complete, and the present one again after much work.
    fn announce(&mut self, queue: &Queue<'_>, work: u64) -> Result<(), Fault> {
        self.work += work;
        self.announce_strides(queue)?;
        if self.work >= WORK_BETWEEN_TICKS {
            self.tell(self.announced, queue.total)
        } else {
            Ok(())
        }
    }

    /// Announces what is left after the last worker ended; nothing of work that was stopped.
    pub(super) fn finish(&mut self, queue: &Queue<'_>) -> Result<(), Fault> {
        if queue.stop.load(Ordering::Relaxed) { Ok(()) } else { self.announce_strides(queue) }
    }

    fn announce_strides(&mut self, queue: &Queue<'_>) -> Result<(), Fault> {
        let done = queue.done.load(Ordering::Relaxed);
        while self.announced < queue.total {
            let next = queue.total.min(self.announced + STRIDE);
            if done < next {
                break;
            }
            self.announced = next;
            self.tell(next, queue.total)?;
        }
        Ok(())
    }

    fn tell(&mut self, done: usize, total: usize) -> Result<(), Fault> {
        self.work = 0;
        (self.tick)(Progress { done: done as u64, total: total as u64 })
    }
}

/// Responses between two numbers of progress.
const STRIDE: usize = 64;

/// Floating-point operations of one thread after which progress is told even if nothing finished:
/// a few tenths of a second.
const WORK_BETWEEN_TICKS: u64 = 20_000_000_000;

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
}

struct Worker<'a> {
    queue: &'a Queue<'a>,
    /// `[group][lane]`.
    lanes: Vec<Option<Lane>>,
    caches: Vec<LaneCache>,
    numbers: Activations,
    scores: Buffer,
    distribution: Distribution,
    /// None where tokens may repeat freely.
    penalty: Option<Penalty>,
    /// Samples whose prompt was run.
    ready: VecDeque<(Piece, Rc<PromptCache>)>,
    finished: Vec<Placed>,
}

impl<'a> Worker<'a> {
    fn new(queue: &'a Queue<'a>, lanes: Lanes, groups: usize) -> Self {
        let body = queue.body;
        let longest = queue.requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0);
        let cache = || LaneCache::new(body.cache_shape(), lanes.count(), longest);
        // Of a prompt, a wide group at once: with fewer tokens each weight would be fetched often.
        let at_once = groups.max(Lanes::wide(body.arch).count() / lanes.count());
        Self {
            queue,
            lanes: (0..groups * lanes.count()).map(|_| None).collect(),
            caches: (0..groups).map(|_| cache()).collect(),
            numbers: Activations::new(body, lanes, at_once),
            scores: Buffer::zeroed(0),
            distribution: Distribution::new(body.config.vocab_size, lanes),
            penalty: Penalty::new(queue.decoding, body.config.vocab_size, lanes),
            ready: VecDeque::new(),
            finished: Vec::new(),
        }
    }

    fn run(&mut self, announcer: &mut Option<&mut Announcer<'_>>) -> Result<(), Fault> {
        let lanes = self.numbers.lanes.count();
        while !self.queue.stop.load(Ordering::Relaxed) {
            self.fill_lanes();
            let groups: Vec<usize> = (0..self.caches.len())
                .filter(|group| self.lanes[group * lanes..][..lanes].iter().any(Option::is_some))
                .collect();
            if groups.is_empty() {
                break;
            }
            self.step(&groups)?;
            if let Some(announcer) = announcer {
                let tokens = (groups.len() * lanes) as u64;
                announcer.announce(self.queue, tokens * self.queue.body.work_per_token)?;
            }
        }
        Ok(())
    }

    /// Gives every free lane a sample while there are any.
    fn fill_lanes(&mut self) {
        let lanes = self.numbers.lanes.count();
        for group in 0..self.caches.len() {
            // Neighbours with the same prompt are admitted together.
            let mut entering: Vec<usize> = Vec::new();
            let mut prompt: Option<Rc<PromptCache>> = None;
            for place in 0..lanes {
                if self.lanes[group * lanes + place].is_some() {
                    continue;
                }
                let Some((lane, its_prompt)) = self.next_sample() else { break };
                if let Some(prompt) = prompt.take_if(|prompt| !Rc::ptr_eq(prompt, &its_prompt)) {
                    self.admit(group, &entering, &prompt);
                    entering.clear();
                }
                entering.push(place);
                prompt = Some(its_prompt);
                self.lanes[group * lanes + place] = Some(lane);
            }
            if let Some(prompt) = prompt {
                self.admit(group, &entering, &prompt);
            }
        }
    }

    /// Gives lanes the prompt of the samples that entered them.
    fn admit(&mut self, group: usize, entering: &[usize], prompt: &Rc<PromptCache>) {
        let lanes = self.numbers.lanes;
        let samples = self.lanes[group * lanes.count() + entering[0]].as_ref();
        let request = samples.expect("a sample entered the lane").request;
        if self.queue.requests[request].shares_prompt(lanes) {
            self.caches[group].admit_sharing(entering, prompt);
        } else {
            self.caches[group].admit(entering, prompt);
        }
    }

    /// The next sample that has something to draw.
    fn next_sample(&mut self) -> Option<(Lane, Rc<PromptCache>)> {
        loop {
            if self.ready.is_empty() {
                self.prepare();
            }
            let (piece, prompt) = self.ready.front_mut()?;
            let prompt = Rc::clone(prompt);
            let request = piece.request;
            let Some(sample) = piece.samples.next() else {
                self.ready.pop_front();
                continue;
            };
            let Queue { requests, decoding, body, .. } = self.queue;
            let DecodeRequest { prompt: tokens, keys } = &requests[request];
            let room = body.config.max_position_embeddings - tokens.len();
            let lane = Lane {
                request,
                sample,
                rng: keys[sample].rng(),
                generation: Generation::empty(),
                token: *tokens.last().expect("an empty prompt was refused"),
                position: tokens.len() - 1,
                limit: decoding.max_tokens.min(room),
            };
            if lane.limit > 0 {
                return Some((lane, prompt));
            }
            self.finish(lane);
        }
    }

    /// Takes pieces from the queue and runs their prompts, but for the last token of each: that
    /// one runs in the lanes of the samples.
    fn prepare(&mut self) {
        let free = self.lanes.iter().filter(|lane| lane.is_none()).count();
        let pieces = self.queue.take(free.max(self.caches.len()));
        let prompt = |piece: &Piece| {
            let tokens = self.queue.requests[piece.request].prompt;
            &tokens[..tokens.len() - 1]
        };
        // Pieces of one request are neighbours and share its prompt.
        let runs: Vec<&[Piece]> = pieces.chunk_by(|a, b| a.request == b.request).collect();
        let prompts: Vec<&[u32]> = runs.iter().map(|run| prompt(&run[0])).collect();
        let caches = run_sequences(
            self.queue.body,
            &mut self.numbers,
            &mut self.scores,
            &prompts,
            Until::Cache,
            |_, _| (),
        );
        for (run, cache) in runs.iter().zip(caches) {
            let cache = Rc::new(cache);
            self.ready.extend(run.iter().map(|piece| (piece.clone(), Rc::clone(&cache))));
        }
    }

    /// Runs one token of every lane of `groups` and draws the next.
    fn step(&mut self, groups: &[usize]) -> Result<(), Fault> {
        #[cfg(test)]
        GROUP_STEPS.set(GROUP_STEPS.get() + groups.len());
        let inputs = self.numbers.tokens.iter_mut().zip(&mut self.numbers.positions);
        for (lane, (token, position)) in self.lanes.iter().zip(inputs) {
            (*token, *position) = lane.as_ref().map_or((0, 0), |lane| (lane.token, lane.position));
        }
        let mut context = LaneContext { caches: &mut self.caches, scores: &mut self.scores };
        self.queue.body.forward(&mut self.numbers, groups, &mut context, Until::Logits);
        for &group in groups {
            self.draw(group)?;
            self.caches[group].advance();
        }
        Ok(())
    }

    /// Draws a token for each sample of a group and takes out those that end.
    fn draw(&mut self, group: usize) -> Result<(), Fault> {
        let decoding = self.queue.decoding;
        let lanes = self.numbers.lanes.count();
        let mut uniforms = [0.0; MAX_LANES];
        let mut active = [false; MAX_LANES];
        for (place, lane) in self.lanes[group * lanes..][..lanes].iter_mut().enumerate() {
            if let Some(lane) = lane {
                uniforms[place] = uniform(&mut lane.rng);
                active[place] = true;
            }
        }
        let logits = self.numbers.logits.group(group);
        self.distribution.load(logits);
        let drawn = match &mut self.penalty {
            None => self.distribution.draw(logits, decoding, &uniforms, &active),
            Some(penalty) => {
                let samples = self.lanes[group * lanes..][..lanes].iter().map(Option::as_ref);
                let tokens = samples.map(|lane| {
                    let lane = lane?;
                    let prompt = self.queue.requests[lane.request].prompt;
                    Some([prompt, &lane.generation.tokens])
                });
                penalty.draw(logits, tokens, decoding, &uniforms, &active)
            }
        };
        for (place, token) in drawn.into_iter().enumerate().take(lanes) {
            let Some(lane) = &mut self.lanes[group * lanes + place] else { continue };
            if !self.distribution.is_finite(place) {
                return Err(not_finite());
            }
            let logit = self.numbers.logits.group(group)[token as usize * lanes + place];
            let generation = &mut lane.generation;
            generation.tokens.push(token);
            generation.logprobs.push(self.distribution.log_probability(place, logit));
            generation.entropies.push(self.distribution.entropy(place));
            lane.token = token;
            lane.position += 1;
            let stopped = self.queue.ends.reached(self.queue.decoding, &generation.tokens);
            if stopped || generation.tokens.len() == lane.limit {
                if stopped {
                    generation.finish_reason = FinishReason::Stop;
                }
                let lane = self.lanes[group * lanes + place].take();
                self.caches[group].release(place);
                self.finish(lane.expect("the lane was just seen"));
            }
        }
        Ok(())
    }

    fn finish(&mut self, lane: Lane) {
        self.finished.push((lane.request, lane.sample, lane.generation));
        self.queue.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The fault of logits that are infinite or not numbers.
pub(crate) fn not_finite() -> Fault {
    Fault::new(FaultClass::Training, "the logits of the policy are not finite")
        .hint("the weights diverged: lower the learning rate, or start from an earlier checkpoint")
}
