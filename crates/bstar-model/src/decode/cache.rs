//! Keys and values of the tokens so far.
//!
//! A [`PromptCache`] holds those of one prompt, compactly; it is made once and copied into the lane
//! of each sample. A [`LaneCache`] belongs to a group of lanes: in each step every lane writes the
//! same slot, one store for all lanes, and a lane that takes a new prompt gets it copied into the
//! slots just behind. So a sequence always fills consecutive slots that end at the present one,
//! wherever in time it started. Slots form a ring that grows when the longest sequence needs it.

use super::attention::Memory;
use super::lanes::Buffer;

/// The shape of a cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheShape {
    /// Layers of the model.
    pub(super) layers: usize,
    /// Key-value heads.
    pub(super) heads: usize,
    /// Features of a head.
    pub(super) head_dim: usize,
}

impl CacheShape {
    /// Numbers that a token takes.
    pub(super) fn token_size(self) -> usize {
        2 * self.layers * self.heads * self.head_dim
    }
}

/// Keys and values of one prompt: `[layer][keys, values][head][token][feature]`.
#[derive(Debug)]
pub(super) struct PromptCache {
    shape: CacheShape,
    tokens: usize,
    numbers: Vec<f32>,
}

impl PromptCache {
    /// Room for `tokens` tokens.
    pub(super) fn new(shape: CacheShape, tokens: usize) -> Self {
        Self { shape, tokens, numbers: vec![0.0; tokens * shape.token_size()] }
    }

    /// Rows of the keys and values that a layer writes for a token: features of all heads.
    pub(super) fn row_count(&self) -> usize {
        2 * self.shape.heads * self.shape.head_dim
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
        let CacheShape { heads, head_dim, .. } = self.shape;
        let size = self.tokens * head_dim;
        let layer = &mut self.numbers[2 * layer * heads * size..][..2 * heads * size];
        let heads = layer.chunks_exact_mut(size).zip(keys_values.chunks_exact(head_dim * lanes));
        for (stored, written) in heads {
            for (feature, row) in written.chunks_exact(lanes).enumerate() {
                for (token, &number) in row[..tokens].iter().enumerate() {
                    stored[(first + token) * head_dim + feature] = number;
                }
            }
        }
    }

    /// Keys and values of a layer.
    pub(super) fn memory(&self, layer: usize) -> [Memory<'_>; 2] {
        let size = self.shape.heads * self.tokens * self.shape.head_dim;
        [0, 1].map(|which| Memory::Shared {
            numbers: &self.numbers[(2 * layer + which) * size..][..size],
            capacity: self.tokens,
        })
    }
}

/// Keys and values of a group of lanes: `[layer][keys, values][head][slot][feature][lane]`.
#[derive(Debug)]
pub(super) struct LaneCache {
    shape: CacheShape,
    lanes: usize,
    /// Slots in the ring: a power of two.
    capacity: usize,
    numbers: Buffer,
    /// The slot being written, counted from long before the first.
    now: usize,
    /// The slot of each lane's first token; `None` where the lane is idle.
    first: Vec<Option<usize>>,
}

impl LaneCache {
    /// An empty cache for prompts of up to `longest_prompt` tokens.
    pub(super) fn new(shape: CacheShape, lanes: usize, longest_prompt: usize) -> Self {
        let capacity = SMALLEST_RING;
        Self {
            shape,
            lanes,
            capacity,
            numbers: Buffer::zeroed(capacity * shape.token_size() * lanes),
            // So that the tokens of a prompt never have negative slots.
            now: longest_prompt,
            first: vec![None; lanes],
        }
    }

    /// Puts a prompt into each of `lanes`; none if its length is zero.
    pub(super) fn admit(&mut self, lanes: &[usize], prompt: &PromptCache) {
        for &lane in lanes {
            self.first[lane] = Some(self.now - prompt.tokens);
        }
        self.reserve();
        let CacheShape { head_dim, .. } = self.shape;
        let heads = self.numbers.chunks_exact_mut(self.capacity * head_dim * self.lanes);
        if prompt.tokens == 0 {
            return;
        }
        for (ring, tokens) in heads.zip(prompt.numbers.chunks_exact(prompt.tokens * head_dim)) {
            for (back, token) in tokens.chunks_exact(head_dim).enumerate() {
                let slot = (self.now - prompt.tokens + back) & (self.capacity - 1);
                let slot = &mut ring[slot * head_dim * self.lanes..][..head_dim * self.lanes];
                for (row, &number) in slot.chunks_exact_mut(self.lanes).zip(token) {
                    for &lane in lanes {
                        row[lane] = number;
                    }
                }
            }
        }
    }

    /// Ends the sequence of a lane.
    pub(super) fn release(&mut self, lane: usize) {
        self.first[lane] = None;
    }

    /// Stores keys and values `[keys, values][head][feature][lane]` of a layer in the present slot.
    pub(super) fn write(&mut self, layer: usize, keys_values: &[f32]) {
        let size = self.shape.head_dim * self.lanes;
        let ring = self.capacity * size;
        let slot = (self.now & (self.capacity - 1)) * size;
        let heads = 2 * self.shape.heads;
        let layer = &mut self.numbers[layer * heads * ring..][..heads * ring];
        for (ring, written) in layer.chunks_exact_mut(ring).zip(keys_values.chunks_exact(size)) {
            ring[slot..slot + size].copy_from_slice(written);
        }
    }

    /// Keys and values of a layer, from slot `oldest` on.
    pub(super) fn memory(&self, layer: usize, oldest: usize) -> [Memory<'_>; 2] {
        let size = self.shape.heads * self.capacity * self.shape.head_dim * self.lanes;
        [0, 1].map(|which| Memory::Lanes {
            numbers: &self.numbers[(2 * layer + which) * size..][..size],
            oldest,
            capacity: self.capacity,
        })
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

    /// Makes the ring long enough for the window.
    fn reserve(&mut self) {
        let capacity = self.slots_from(self.oldest()).next_power_of_two();
        if capacity <= self.capacity {
            return;
        }
        let size = self.shape.head_dim * self.lanes;
        let mut numbers = Buffer::zeroed(capacity * self.shape.token_size() * self.lanes);
        let old = self.numbers.chunks_exact(self.capacity * size);
        for (new, old) in numbers.chunks_exact_mut(capacity * size).zip(old) {
            for slot in self.now.saturating_sub(self.capacity)..self.now {
                let from = (slot & (self.capacity - 1)) * size;
                let to = (slot & (capacity - 1)) * size;
                new[to..to + size].copy_from_slice(&old[from..from + size]);
            }
        }
        self.numbers = numbers;
        self.capacity = capacity;
    }
}

const SMALLEST_RING: usize = 16;
