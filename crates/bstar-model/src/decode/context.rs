//! Where the tokens of a forward pass keep their keys and values, and what they attend to.
//!
//! Samples run one token a step, each in its lane ([`LaneContext`]). Known tokens (prompts, and
//! responses to score) run many at once: a group of lanes holds consecutive tokens of one sequence
//! ([`SequenceContext`]). Both give a token the same bits.

use super::attention::{Attend, Memory, SharedPrompt};
use super::body::{Activations, Body, Context, Until};
use super::cache::{LaneCache, PromptCache};
use super::lanes::{Buffer, Lanes, MAX_LANES};

/// Samples in lanes: group `i` has cache `i`.
pub(super) struct LaneContext<'a> {
    pub(super) caches: &'a mut [LaneCache],
    pub(super) scores: &'a mut Buffer,
}

impl Context for LaneContext<'_> {
    fn write(&mut self, group: usize, layer: usize, keys_values: &[f32]) {
        self.caches[group].write(layer, keys_values);
    }

    fn attend(
        &mut self,
        body: &Body,
        lanes: Lanes,
        group: usize,
        layer: usize,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let cache = &self.caches[group];
        let reach = body.config.window(layer);
        let prompts = cache.prompts(layer, reach);
        let oldest = cache.oldest_within(reach);
        let window = cache.slots_from(oldest);
        let mut first = [0.0; MAX_LANES];
        cache.first_slots(oldest, &mut first[..lanes.count()]);
        let last = [(window - 1) as f32; MAX_LANES];
        let seen = Seen { prompts: &prompts, window, first: &first, last: &last };
        attend(body, lanes, seen, queries, cache.memory(layer, oldest), self.scores, out);
    }
}

/// Known tokens: group `i` holds the tokens of chunk `i`.
struct SequenceContext<'a> {
    caches: &'a mut [PromptCache],
    chunks: &'a [Chunk],
    scores: &'a mut Buffer,
}

/// Consecutive tokens of a sequence, one a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Which sequence.
    pub(super) sequence: usize,
    /// Its first token.
    pub(super) first: usize,
    /// How many tokens.
    pub(super) tokens: usize,
}

impl Context for SequenceContext<'_> {
    fn write(&mut self, group: usize, layer: usize, keys_values: &[f32]) {
        let Chunk { sequence, first, tokens } = self.chunks[group];
        let cache = &mut self.caches[sequence];
        let lanes = keys_values.len() / cache.row_count();
        cache.write(layer, first, tokens, lanes, keys_values);
    }

    fn attend(
        &mut self,
        body: &Body,
        lanes: Lanes,
        group: usize,
        layer: usize,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let Chunk { sequence, first, tokens } = self.chunks[group];
        let end = first + tokens;
        let reach = body.config.window(layer);
        // What the first lane sees begins there, and what the others see begins later.
        let oldest = (first + 1).saturating_sub(reach);
        let window = end - oldest;
        let last = std::array::from_fn(|lane| ((first + lane).min(end - 1) - oldest) as f32);
        let begin = |lane: usize| (first + lane + 1).min(end).saturating_sub(reach) - oldest;
        let first = std::array::from_fn(|lane| begin(lane) as f32);
        let memory = self.caches[sequence].memory(layer, oldest);
        let seen = Seen { prompts: &[], window, first: &first, last: &last };
        attend(body, lanes, seen, queries, memory, self.scores, out);
    }
}

/// Runs known sequences and returns what each leaves in its cache. With [`Until::Logits`], `logits`
/// sees each chunk with its logits `[token][lane]`.
pub(super) fn run_sequences(
    body: &Body,
    numbers: &mut Activations,
    scores: &mut Buffer,
    sequences: &[&[u32]],
    until: Until,
    mut logits: impl FnMut(Chunk, &[f32]),
) -> Vec<PromptCache> {
    let lanes = numbers.lanes.count();
    let shape = body.cache_shape();
    let at_once = numbers.tokens.len();
    let mut caches: Vec<_> =
        sequences.iter().map(|tokens| PromptCache::new(shape, tokens.len(), at_once)).collect();
    let chunks = |(sequence, tokens): (usize, &&[u32])| {
        let count = tokens.len();
        let starts = (0..count).step_by(lanes);
        starts.map(move |first| Chunk { sequence, first, tokens: lanes.min(count - first) })
    };
    let chunks: Vec<Chunk> = sequences.iter().enumerate().flat_map(chunks).collect();
    for chunks in chunks.chunks(numbers.tokens.len() / lanes) {
        let groups: Vec<usize> = (0..chunks.len()).collect();
        numbers.tokens.fill(0);
        numbers.positions.fill(0);
        for (group, chunk) in chunks.iter().enumerate() {
            for token in 0..chunk.tokens {
                let position = chunk.first + token;
                numbers.tokens[group * lanes + token] = sequences[chunk.sequence][position];
                numbers.positions[group * lanes + token] = position;
            }
        }
        let mut context = SequenceContext { caches: &mut caches, chunks, scores };
        body.forward(numbers, &groups, &mut context, until);
        if until == Until::Logits {
            for (group, chunk) in chunks.iter().enumerate() {
                logits(*chunk, numbers.logits.group(group));
            }
        }
    }
    caches
}

/// The slots of a window that each lane sees.
#[derive(Clone, Copy)]
struct Seen<'a> {
    /// What comes before the window.
    prompts: &'a [SharedPrompt<'a>],
    window: usize,
    first: &'a [f32; MAX_LANES],
    last: &'a [f32; MAX_LANES],
}

fn attend(
    body: &Body,
    lanes: Lanes,
    Seen { prompts, window, first, last }: Seen<'_>,
    queries: &[f32],
    [keys, values]: [Memory<'_>; 2],
    scores: &mut Buffer,
    output: &mut [f32],
) {
    let slots = window + prompts.iter().map(|prompt| prompt.window).sum::<usize>();
    let needed = slots * lanes.count();
    if scores.len() < needed {
        *scores = Buffer::zeroed(needed.next_power_of_two());
    }
    lanes.dispatch(Attend {
        queries,
        prompts,
        keys,
        values,
        query_heads: body.config.num_attention_heads,
        key_value_heads: body.config.num_key_value_heads,
        head_dim: body.config.head_dim,
        window,
        first,
        last,
        scores,
        output,
    });
}
