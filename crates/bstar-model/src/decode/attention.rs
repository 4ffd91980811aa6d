//! Causal grouped-query attention for a group of lanes.
//!
//! Each lane is one query token. Keys and values come from a window of slots, oldest first; a lane
//! sees the slots from its `first` to its `last` and gives every other an exact zero, so the bits
//! of its result do not depend on how far the window of its group reaches. A window is either a
//! ring in which each lane has its own sequence ([`Memory::Lanes`]) or one sequence that all lanes
//! share, a ring too ([`Memory::Shared`]); both do the same arithmetic in the same order.
//!
//! Prompts that several lanes share ([`SharedPrompt`]) come before that window, one after the other. A
//! lane sees one of them at most, so what it adds up has the order of its own tokens.

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::lanes::{
    MAX_LANES, Row, WithLanes, add, div, exp, max, mul, mul_add, rows, rows_mut, splat, sub,
};
use pulp::Simd;

/// The keys, or the values, of one layer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Memory<'a> {
    /// `[key-value head][slot][feature][lane]`; slot `s` of the window is number
    /// `(oldest + s) & (capacity - 1)`, where the capacity is a power of two.
    Lanes { numbers: &'a [f32], oldest: usize, capacity: usize },
    /// `[key-value head][slot][feature]`; slot `s` of the window is number `(oldest + s) % capacity`,
    /// where `oldest` and the window are at most the capacity.
    Shared { numbers: &'a [f32], oldest: usize, capacity: usize },
}

/// One layer of a prompt that some lanes of a group have before their own tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedPrompt<'a> {
    pub(super) keys: Memory<'a>,
    pub(super) values: Memory<'a>,
    /// Slots that any of the lanes sees: those up to the prompt's last.
    pub(super) window: usize,
    /// For each lane, the first of them that it sees; `window` for a lane with another prompt.
    pub(super) first: [f32; MAX_LANES],
}

/// One layer's attention of a group.
pub(super) struct Attend<'a> {
    /// `[query head][feature][lane]`, already divided by the root of the head's width.
    pub(super) queries: &'a [f32],
    /// What comes before the keys and values.
    pub(super) prompts: &'a [SharedPrompt<'a>],
    pub(super) keys: Memory<'a>,
    pub(super) values: Memory<'a>,
    pub(super) query_heads: usize,
    pub(super) key_value_heads: usize,
    /// Features of a head.
    pub(super) head_dim: usize,
    /// Slots in the window.
    pub(super) window: usize,
    /// For each lane, the first slot of the window that it sees.
    pub(super) first: &'a [f32],
    /// For each lane, the last slot of the window that it sees.
    pub(super) last: &'a [f32],
    /// Room for `[slot][lane]`, with the slots of all prompts.
    pub(super) scores: &'a mut [f32],
    /// `[query head][feature][lane]`.
    pub(super) output: &'a mut [f32],
}

impl WithLanes for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_lanes<S: Simd, const V: usize>(self, simd: S) {
        let head_dim = self.head_dim;
        let queries = rows::<S, V>(self.queries).chunks_exact(head_dim);
        let outputs = rows_mut::<S, V>(self.output).chunks_exact_mut(head_dim);
        let shared_by = self.query_heads / self.key_value_heads;
        let limits = [rows::<S, V>(self.first)[0], rows::<S, V>(self.last)[0]];
        let slots = self.window + self.prompts.iter().map(|prompt| prompt.window).sum::<usize>();
        let scores = &mut rows_mut::<S, V>(self.scores)[..slots];
        for (head, (query, output)) in queries.zip(outputs).take(self.query_heads).enumerate() {
            let head = head / shared_by;
            let prompts = Prompts { all: self.prompts, head, head_dim };
            match (self.keys, self.values) {
                (Memory::Lanes { .. }, Memory::Lanes { .. }) => {
                    let keys = LaneRows::<S, V>::new(self.keys, head, head_dim);
                    let values = LaneRows::<S, V>::new(self.values, head, head_dim);
                    attend_head(simd, query, prompts, [keys, values], limits, scores, output);
                }
                (keys, values) => {
                    let keys = SharedRows::new(keys, head, head_dim);
                    let values = SharedRows::new(values, head, head_dim);
                    attend_head(simd, query, prompts, [keys, values], limits, scores, output);
                }
            }
        }
    }
}

/// The rows of one head: one for each slot of the window.
trait Rows<S: Simd, const V: usize>: Copy {
    /// One feature of a slot.
    type Feature: Copy;
    /// The features of a slot.
    fn row(&self, slot: usize) -> &[Self::Feature];
    /// The feature as it looks to each lane.
    fn load(simd: S, feature: Self::Feature) -> Row<S, V>;
}

#[derive(Clone, Copy)]
struct LaneRows<'a, S: Simd, const V: usize> {
    rows: &'a [Row<S, V>],
    oldest: usize,
    mask: usize,
    head_dim: usize,
}

impl<'a, S: Simd, const V: usize> LaneRows<'a, S, V> {
    #[inline(always)]
    fn new(memory: Memory<'a>, head: usize, head_dim: usize) -> Self {
        let Memory::Lanes { numbers, oldest, capacity } = memory else {
            unreachable!("keys and values are of one kind");
        };
        let rows = &rows::<S, V>(numbers)[head * capacity * head_dim..][..capacity * head_dim];
        Self { rows, oldest, mask: capacity - 1, head_dim }
    }
}

impl<S: Simd, const V: usize> Rows<S, V> for LaneRows<'_, S, V> {
    type Feature = Row<S, V>;

    #[inline(always)]
    fn row(&self, slot: usize) -> &[Row<S, V>] {
        let slot = (self.oldest + slot) & self.mask;
        &self.rows[slot * self.head_dim..][..self.head_dim]
    }

    #[inline(always)]
    fn load(_: S, feature: Row<S, V>) -> Row<S, V> {
        feature
    }
}

#[derive(Clone, Copy)]
struct SharedRows<'a> {
    rows: &'a [f32],
    oldest: usize,
    capacity: usize,
    head_dim: usize,
}

impl<'a> SharedRows<'a> {
    #[inline(always)]
    fn new(memory: Memory<'a>, head: usize, head_dim: usize) -> Self {
        let Memory::Shared { numbers, oldest, capacity } = memory else {
            unreachable!("keys and values are of one kind");
        };
        let rows = &numbers[head * capacity * head_dim..][..capacity * head_dim];
        Self { rows, oldest, capacity, head_dim }
    }
}

impl<S: Simd, const V: usize> Rows<S, V> for SharedRows<'_> {
    type Feature = f32;

    #[inline(always)]
    fn row(&self, slot: usize) -> &[f32] {
        let slot = self.oldest + slot;
        let slot = if slot < self.capacity { slot } else { slot - self.capacity };
        &self.rows[slot * self.head_dim..][..self.head_dim]
    }

    #[inline(always)]
    fn load(simd: S, feature: f32) -> Row<S, V> {
        splat(simd, feature)
    }
}

/// Shared prompts as a key-value head sees them.
#[derive(Clone, Copy)]
struct Prompts<'a> {
    all: &'a [SharedPrompt<'a>],
    head: usize,
    head_dim: usize,
}

impl<'a> Prompts<'a> {
    #[inline(always)]
    fn rows(self, memory: Memory<'a>) -> SharedRows<'a> {
        SharedRows::new(memory, self.head, self.head_dim)
    }
}

#[inline(always)]
fn attend_head<S: Simd, R: Rows<S, V>, const V: usize>(
    simd: S,
    query: &[Row<S, V>],
    prompts: Prompts<'_>,
    [keys, values]: [R; 2],
    limits: [Row<S, V>; 2],
    scores: &mut [Row<S, V>],
    output: &mut [Row<S, V>],
) {
    let mut largest = splat(simd, UNSEEN);
    let mut rest = &mut *scores;
    for prompt in prompts.all {
        let (own, others) = rest.split_at_mut(prompt.window);
        rest = others;
        let limits = [rows::<S, V>(&prompt.first)[0], splat(simd, prompt.window as f32)];
        score_all(simd, query, prompts.rows(prompt.keys), limits, own, &mut largest);
    }
    score_all(simd, query, keys, limits, rest, &mut largest);
    let mut total = splat(simd, 0.0);
    for weight in scores.iter_mut() {
        *weight = exp(simd, sub(simd, *weight, largest));
        total = add(simd, total, *weight);
    }
    let scale = div(simd, splat(simd, 1.0), total);
    let mut feature = 0;
    if S::REGISTER_COUNT >= 32 {
        feature = mix_blocks::<S, R, { 2 * BLOCK }, V>(
            simd, scores, prompts, values, feature, scale, output,
        );
    }
    feature = mix_blocks::<S, R, BLOCK, V>(simd, scores, prompts, values, feature, scale, output);
    mix_blocks::<S, R, 1, V>(simd, scores, prompts, values, feature, scale, output);
}

/// As many blocks of `N` features as there are from one on; returns where they end.
#[inline(always)]
fn mix_blocks<S: Simd, R: Rows<S, V>, const N: usize, const V: usize>(
    simd: S,
    scores: &[Row<S, V>],
    prompts: Prompts<'_>,
    values: R,
    mut feature: usize,
    scale: Row<S, V>,
    output: &mut [Row<S, V>],
) -> usize {
    while feature + N <= output.len() {
        let mixed: [Row<S, V>; N] = mix(simd, scores, prompts, values, feature, scale);
        output[feature..feature + N].copy_from_slice(&mixed);
        feature += N;
    }
    feature
}

/// Slots, or features, that are worked on at once: enough independent sums to keep both multipliers
/// busy, few enough for the registers.
const BLOCK: usize = 4;

/// The score of a slot that a lane does not see. Finite, so that a lane that sees nothing has no
/// NaN; `exp` of the difference to any real score is an exact zero.
const UNSEEN: f32 = -1e30;

/// Scores of consecutive slots from the first on.
#[inline(always)]
fn score_all<S: Simd, R: Rows<S, V>, const V: usize>(
    simd: S,
    query: &[Row<S, V>],
    keys: R,
    limits: [Row<S, V>; 2],
    scores: &mut [Row<S, V>],
    largest: &mut Row<S, V>,
) {
    let (blocks, rest) = scores.as_chunks_mut::<BLOCK>();
    let blocked = blocks.len() * BLOCK;
    for (number, block) in blocks.iter_mut().enumerate() {
        score(simd, query, keys, number * BLOCK, limits, block, largest);
    }
    for (number, one) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        score(simd, query, keys, blocked + number, limits, one, largest);
    }
}

/// Scores of `N` slots; the products of a slot are added feature by feature.
#[inline(always)]
fn score<S: Simd, R: Rows<S, V>, const N: usize, const V: usize>(
    simd: S,
    query: &[Row<S, V>],
    keys: R,
    slot: usize,
    limits: [Row<S, V>; 2],
    scores: &mut [Row<S, V>; N],
    largest: &mut Row<S, V>,
) {
    let rows: [&[R::Feature]; N] = std::array::from_fn(|i| &keys.row(slot + i)[..query.len()]);
    let mut sums = [splat(simd, 0.0); N];
    for (feature, q) in query.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = mul_add(simd, *q, R::load(simd, row[feature]), *sum);
        }
    }
    for (i, (score, sum)) in scores.iter_mut().zip(sums).enumerate() {
        let position = simd.splat_f32s((slot + i) as f32);
        let unseen = simd.splat_f32s(UNSEEN);
        for vector in 0..V {
            let begun = simd.less_than_or_equal_f32s(limits[0][vector], position);
            let ended = simd.less_than_f32s(limits[1][vector], position);
            let seen = simd.select_f32s(begun, sum[vector], unseen);
            score[vector] = simd.select_f32s(ended, unseen, seen);
        }
        *largest = max(simd, *score, *largest);
    }
}

/// `N` features of the weighted values, slot by slot.
#[inline(always)]
fn mix<S: Simd, R: Rows<S, V>, const N: usize, const V: usize>(
    simd: S,
    mut weights: &[Row<S, V>],
    prompts: Prompts<'_>,
    values: R,
    feature: usize,
    scale: Row<S, V>,
) -> [Row<S, V>; N] {
    let mut sums = [splat(simd, 0.0); N];
    for prompt in prompts.all {
        let (own, rest) = weights.split_at(prompt.window);
        weights = rest;
        sums = mix_more(simd, own, prompts.rows(prompt.values), feature, sums);
    }
    sums = mix_more(simd, weights, values, feature, sums);
    for sum in &mut sums {
        *sum = mul(simd, *sum, scale);
    }
    sums
}

/// Adds the weighted values of consecutive slots.
#[inline(always)]
fn mix_more<S: Simd, R: Rows<S, V>, const N: usize, const V: usize>(
    simd: S,
    weights: &[Row<S, V>],
    values: R,
    feature: usize,
    mut sums: [Row<S, V>; N],
) -> [Row<S, V>; N] {
    for (slot, weight) in weights.iter().enumerate() {
        let row = &values.row(slot)[feature..][..N];
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum = mul_add(simd, *weight, R::load(simd, *value), *sum);
        }
    }
    sums
}
