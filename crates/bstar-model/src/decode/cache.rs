//! Keys and values of the tokens so far, or in layers with a window of those within it.
//!
//! A [`PromptCache`] holds those of one prompt, compactly, and is made once. A [`LaneCache`] belongs to a
//! group of lanes: in each step every lane writes the same slot, one store for all lanes. A lane that
//! takes a prompt with many samples reads it where it is, as the others of the prompt do, and the prompt
//! is freed with the last of them; a prompt with few samples is copied into the slots just behind. So a
//! sequence, or what of it follows a shared prompt, always fills consecutive slots that end at the
//! present one, wherever in time it started. The slots of a layer form a ring, which grows when the
//! longest sequence needs it, and in a layer with a window no further than the window: a power of two
//! that is less than twice as long.

use super::attention::{Memory, SharedPrompt};
use super::lanes::{Buffer, MAX_LANES};
use crate::config::ModelConfig;
use crate::config::family::SlidingWindow;
use std::rc::Rc;

/// The shape of a cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheShape {
    /// Layers of the model.
    pub(super) layers: usize,
    /// Key-value heads.
    pub(super) heads: usize,
    /// Features of a head.
    pub(super) head_dim: usize,
    /// How far back some layers see.
    pub(super) window: Option<SlidingWindow>,
}

impl CacheShape {
    /// Of this model, with what its windows keep.
    pub(super) fn of(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            window: config.sliding_window,
        }
    }

    /// Numbers that a sample takes at worst: with `tokens` in its lane and a prompt that no other sample
    /// in flight has, of which `at_once` tokens run at a time.
    pub(super) fn sample_size(self, tokens: usize, prompt: usize, at_once: usize) -> usize {
        self.lane_size(tokens) + self.prompt_size(prompt, at_once)
    }

    /// Numbers of keys and values that a token has in a layer.
    fn token_size(self) -> usize {
        2 * self.heads * self.head_dim
    }

    /// Tokens that a token of a layer sees, itself included; `usize::MAX` without a bound.
    fn window(self, layer: usize) -> usize {
        match self.window {
            Some(SlidingWindow { tokens, first_layer }) if layer >= first_layer => tokens,
            _ => usize::MAX,
        }
    }

    /// Slots of a layer's ring when sequences are `tokens` long.
    fn ring(self, layer: usize, tokens: usize) -> usize {
        tokens.min(self.window(layer)).next_power_of_two()
    }

    /// Numbers that a lane takes when its sequence is `tokens` long.
    fn lane_size(self, tokens: usize) -> usize {
        (0..self.layers).map(|layer| self.ring(layer, tokens) * self.token_size()).sum()
    }

    /// Slots of a layer for a prompt of which `at_once` tokens run at a time.
    fn kept(self, layer: usize, tokens: usize, at_once: usize) -> usize {
        tokens.min(self.window(layer).saturating_add(at_once))
    }

    /// Numbers that a prompt takes of which `at_once` tokens run at a time.
    fn prompt_size(self, tokens: usize, at_once: usize) -> usize {
        (0..self.layers).map(|layer| self.kept(layer, tokens, at_once) * self.token_size()).sum()
    }
}

/// Keys and values of one prompt.
#[derive(Debug)]
pub(super) struct PromptCache {
    shape: CacheShape,
    tokens: usize,
    layers: Vec<PromptLayer>,
}

/// `[keys, values][head][slot][feature]`; token `t` is in slot `t % capacity`.
#[derive(Debug)]
struct PromptLayer {
    capacity: usize,
    numbers: Vec<f32>,
}

impl PromptCache {
    /// Room for `tokens` tokens, of which at most `at_once` are written before any of them is looked
    /// at.
    pub(super) fn new(shape: CacheShape, tokens: usize, at_once: usize) -> Self {
        let layer = |layer| {
            let capacity = shape.kept(layer, tokens, at_once);
            PromptLayer { capacity, numbers: vec![0.0; capacity * shape.token_size()] }
        };
        Self { shape, tokens, layers: (0..shape.layers).map(layer).collect() }
    }

    /// Rows of the keys and values that a layer writes for a token: features of all heads.
    pub(super) fn row_count(&self) -> usize {
        self.shape.token_size()
    }

    /// Stores keys and values `[keys, values][head][feature][lane]` of a layer: those of lane `i`
    /// belong to token `first + i`.
    pub(super) fn write(
        &mut self,
        layer: usize,
        first: usize,
        tokens: usize,
        lanes: usize,
        keys_values: &[f32],
    ) {
        let head_dim = self.shape.head_dim;
        let PromptLayer { capacity, numbers } = &mut self.layers[layer];
        let heads = numbers.chunks_exact_mut(*capacity * head_dim);
        for (stored, written) in heads.zip(keys_values.chunks_exact(head_dim * lanes)) {
            for (feature, row) in written.chunks_exact(lanes).enumerate() {
                for (token, &number) in row[..tokens].iter().enumerate() {
                    stored[(first + token) % *capacity * head_dim + feature] = number;
                }
            }
        }
    }

    /// Keys and values of a layer, from token `oldest` on.
    pub(super) fn memory(&self, layer: usize, oldest: usize) -> [Memory<'_>; 2] {
        let PromptLayer { capacity, numbers } = &self.layers[layer];
        let (keys, values) = numbers.split_at(numbers.len() / 2);
        [keys, values].map(|numbers| Memory::Shared {
            numbers,
            oldest: oldest % capacity,
            capacity: *capacity,
        })
    }
}

/// Keys and values of a group of lanes.
#[derive(Debug)]
pub(super) struct LaneCache {
    shape: CacheShape,
    lanes: usize,
    layers: Vec<Ring>,
    /// The slot being written, counted from long before the first.
    now: usize,
    /// The slot of each lane's first token, or of the first after a prompt that it shares; `None` where
    /// the lane is idle.
    first: Vec<Option<usize>>,
    /// Prompts that are not copied into lanes.
    shared: Vec<Shared>,
}

/// A prompt with the lanes that read it, at least one.
#[derive(Debug)]
struct Shared {
    prompt: Rc<PromptCache>,
    lanes: Vec<usize>,
}

/// `[keys, values][head][slot][feature][lane]` of a layer.
#[derive(Debug)]
struct Ring {
    /// Slots: a power of two.
    capacity: usize,
    numbers: Buffer,
}

impl Shared {
    /// What the lanes of `cache` see of it in a layer.
    fn seen(&self, layer: usize, window: usize, cache: &LaneCache) -> SharedPrompt<'_> {
        let Self { prompt, lanes } = self;
        let begin = |&lane: &usize| {
            let own = cache.now + 1 - cache.first[lane].unwrap_or(cache.now);
            (prompt.tokens + own).saturating_sub(window).min(prompt.tokens)
        };
        let oldest = lanes.iter().map(begin).min().unwrap_or(prompt.tokens);
        let [keys, values] = prompt.memory(layer, oldest);
        let window = prompt.tokens - oldest;
        let mut first = [window as f32; MAX_LANES];
        for lane in lanes {
            first[*lane] = (begin(lane) - oldest) as f32;
        }
        SharedPrompt { keys, values, window, first }
    }
}

impl LaneCache {
    /// An empty cache for prompts of up to `longest_prompt` tokens.
    pub(super) fn new(shape: CacheShape, lanes: usize, longest_prompt: usize) -> Self {
        let ring = |layer| {
            let capacity = shape.ring(layer, SMALLEST_RING);
            Ring { capacity, numbers: Buffer::zeroed(capacity * shape.token_size() * lanes) }
        };
        Self {
            shape,
            lanes,
            layers: (0..shape.layers).map(ring).collect(),
            // So that the tokens of a prompt never have negative slots.
            now: longest_prompt,
            first: vec![None; lanes],
            shared: Vec::new(),
        }
    }

    /// Begins a sequence with this prompt in each of `lanes`, where it is not copied to.
    pub(super) fn admit_sharing(&mut self, lanes: &[usize], prompt: &Rc<PromptCache>) {
        for &lane in lanes {
            self.first[lane] = Some(self.now);
        }
        match self.shared.iter_mut().find(|shared| Rc::ptr_eq(&shared.prompt, prompt)) {
            Some(shared) => shared.lanes.extend(lanes),
            None if prompt.tokens == 0 => {}
            None => self.shared.push(Shared { prompt: Rc::clone(prompt), lanes: lanes.to_vec() }),
        }
    }

    /// Puts a prompt into each of `lanes`; none if its length is zero.
    pub(super) fn admit(&mut self, lanes: &[usize], prompt: &PromptCache) {
        for &lane in lanes {
            self.first[lane] = Some(self.now - prompt.tokens);
        }
        self.reserve();
        if prompt.tokens == 0 {
            return;
        }
        let (now, width, head_dim) = (self.now, self.lanes, self.shape.head_dim);
        for (layer, (ring, prompt_layer)) in self.layers.iter_mut().zip(&prompt.layers).enumerate()
        {
            let heads = ring.numbers.chunks_exact_mut(ring.capacity * head_dim * width);
            let kept = prompt_layer.numbers.chunks_exact(prompt_layer.capacity * head_dim);
            // Earlier ones are out of sight of the next token.
            let seen = prompt.tokens.saturating_sub(self.shape.window(layer));
            for (slots, kept) in heads.zip(kept) {
                for token in seen..prompt.tokens {
                    let from = token % prompt_layer.capacity * head_dim;
                    let to = (now - prompt.tokens + token) & (ring.capacity - 1);
                    let slot = &mut slots[to * head_dim * width..][..head_dim * width];
                    let rows = slot.chunks_exact_mut(width);
                    for (row, &number) in rows.zip(&kept[from..from + head_dim]) {
                        for &lane in lanes {
                            row[lane] = number;
                        }
                    }
                }
            }
        }
    }

    /// Ends the sequence of a lane.
    pub(super) fn release(&mut self, lane: usize) {
        self.first[lane] = None;
        for shared in &mut self.shared {
            shared.lanes.retain(|&other| other != lane);
        }
        self.shared.retain(|shared| !shared.lanes.is_empty());
    }

    /// Stores keys and values `[keys, values][head][feature][lane]` of a layer in the present slot.
    pub(super) fn write(&mut self, layer: usize, keys_values: &[f32]) {
        let size = self.shape.head_dim * self.lanes;
        let Ring { capacity, numbers } = &mut self.layers[layer];
        let slot = (self.now & (*capacity - 1)) * size;
        let heads = numbers.chunks_exact_mut(*capacity * size);
        for (ring, written) in heads.zip(keys_values.chunks_exact(size)) {
            ring[slot..slot + size].copy_from_slice(written);
        }
    }

    /// Keys and values of a layer, from slot `oldest` on.
    pub(super) fn memory(&self, layer: usize, oldest: usize) -> [Memory<'_>; 2] {
        let Ring { capacity, numbers } = &self.layers[layer];
        let (keys, values) = numbers.split_at(numbers.len() / 2);
        [keys, values].map(|numbers| Memory::Lanes { numbers, oldest, capacity: *capacity })
    }

    /// What lanes see of the prompts that they share in a layer, where a token sees `window` tokens.
    pub(super) fn prompts(&self, layer: usize, window: usize) -> Vec<SharedPrompt<'_>> {
        let prompts = self.shared.iter().map(|shared| shared.seen(layer, window, self));
        prompts.filter(|prompt| prompt.window > 0).collect()
    }

    /// The slot of the oldest token of any lane that is within `window` slots of the present one,
    /// which is one of them.
    pub(super) fn oldest_within(&self, window: usize) -> usize {
        self.oldest().max((self.now + 1).saturating_sub(window))
    }

    /// Slots from `oldest` to the present one.
    pub(super) fn slots_from(&self, oldest: usize) -> usize {
        self.now + 1 - oldest
    }

    /// Writes for each lane the slot of its first token, counted from `oldest`; 0 for earlier ones.
    pub(super) fn first_slots(&self, oldest: usize, first: &mut [f32]) {
        for (slot, first) in first.iter_mut().zip(&self.first) {
            *slot = first.unwrap_or(self.now).saturating_sub(oldest) as f32;
        }
    }

    /// Ends a step: the next slot becomes the present one.
    pub(super) fn advance(&mut self) {
        self.now += 1;
        self.reserve();
    }

    fn oldest(&self) -> usize {
        self.first.iter().flatten().min().copied().unwrap_or(self.now)
    }

    /// Makes each ring long enough for what its layer sees.
    fn reserve(&mut self) {
        let slots = self.slots_from(self.oldest());
        let (now, size) = (self.now, self.shape.head_dim * self.lanes);
        for (layer, ring) in self.layers.iter_mut().enumerate() {
            let capacity = self.shape.ring(layer, slots);
            if capacity <= ring.capacity {
                continue;
            }
            let mut numbers = Buffer::zeroed(capacity * self.shape.token_size() * self.lanes);
            let old = ring.numbers.chunks_exact(ring.capacity * size);
            for (new, old) in numbers.chunks_exact_mut(capacity * size).zip(old) {
                for slot in now.saturating_sub(ring.capacity)..now {
                    let from = (slot & (ring.capacity - 1)) * size;
                    let to = (slot & (capacity - 1)) * size;
                    new[to..to + size].copy_from_slice(&old[from..from + size]);
                }
            }
            *ring = Ring { capacity, numbers };
        }
    }

    /// Numbers that it holds.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.layers.iter().map(|ring| ring.numbers.len()).sum()
    }
}

const SMALLEST_RING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: CacheShape = CacheShape {
        layers: 3,
        heads: 2,
        head_dim: 4,
        window: Some(SlidingWindow { tokens: 20, first_layer: 1 }),
    };

    #[test]
    fn layers_with_a_window_stop_growing_at_it() {
        let mut cache = LaneCache::new(SHAPE, 16, 0);
        cache.admit(&[0], &PromptCache::new(SHAPE, 0, 16));
        for _ in 0..500 {
            cache.advance();
        }
        // 512 slots without a window, 32 with one of 20.
        assert_eq!(cache.size(), (512 + 32 + 32) * 16 * 16);
        assert_eq!(cache.size(), SHAPE.lane_size(501) * 16);
        let whole = CacheShape { window: None, ..SHAPE };
        assert_eq!(whole.lane_size(501), 3 * 512 * 16);
    }

    #[test]
    fn a_shared_prompt_is_stored_once_and_freed_with_its_last_lane() {
        let mut cache = LaneCache::new(SHAPE, 16, 40);
        let empty = cache.size();
        let prompt = Rc::new(PromptCache::new(SHAPE, 40, 16));
        cache.admit_sharing(&[0, 5], &prompt);
        cache.advance();
        cache.admit_sharing(&[7], &prompt);
        assert_eq!((cache.size(), Rc::strong_count(&prompt)), (empty, 2));
        let [all] = &cache.prompts(0, usize::MAX)[..] else { panic!("one prompt") };
        assert_eq!((all.window, &all.first[..3], all.first[7]), (40, &[0.0, 40.0, 40.0][..], 0.0));
        // With a window of 20, lane 7 sees 19 tokens of the prompt and lane 0 has gone one further.
        let [seen] = &cache.prompts(1, 20)[..] else { panic!("one prompt") };
        assert_eq!((seen.window, seen.first[0], seen.first[7]), (19, 1.0, 0.0));
        for lane in [0, 7, 5] {
            assert_eq!(Rc::strong_count(&prompt), 2);
            cache.release(lane);
        }
        assert_eq!(Rc::strong_count(&prompt), 1);
        assert!(cache.prompts(0, usize::MAX).is_empty());
    }

    #[test]
    fn a_prompt_keeps_what_its_last_tokens_see() {
        let prompt = PromptCache::new(SHAPE, 1000, 16);
        let slots: Vec<_> = prompt.layers.iter().map(|layer| layer.capacity).collect();
        assert_eq!(slots, [1000, 36, 36]);
        assert_eq!(SHAPE.prompt_size(1000, 16), 1072 * 16);
    }
}
