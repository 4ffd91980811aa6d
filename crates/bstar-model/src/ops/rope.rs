//! Rotary position embedding, in the half-split form of Hugging Face's Llama.
//!
//! Component i and component i + d/2 of a head are a pair, turned by the angle position · θ^(-2i/d).
//! Turning back (the transpose) is the backward pass. A config may scale the angles
//! ([`crate::config::rope`]).

#![expect(
    clippy::inline_always,
    reason = "instructions of the running CPU are used only by what is inlined into the dispatch"
)]

use super::vectors::{Elementwise, elementwise, vectorised};
use crate::config::ModelConfig;

/// Cosines and sines for every position of a context.
#[derive(Debug)]
pub(crate) struct RotaryTable {
    half: usize,
    /// `(position, half)`.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

/// Which way to turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Forward pass.
    Forward,
    /// Backward pass.
    Back,
}

impl RotaryTable {
    /// The table for positions below `positions`.
    #[expect(clippy::cast_possible_truncation, reason = "angles are f32, as in the reference")]
    pub(crate) fn new(config: &ModelConfig, positions: usize) -> Self {
        let half = config.head_dim / 2;
        let frequency = |pair| {
            let exponent = (2 * pair) as f32 / config.head_dim as f32;
            let frequency = 1.0 / (config.rope_theta as f32).powf(exponent);
            config.rope_scaling.apply(f64::from(frequency)) as f32
        };
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for position in 0..positions {
            for frequency in &frequencies {
                let angle = f64::from(position as f32 * frequency);
                cosines.push(angle.cos() as f32);
                sines.push(angle.sin() as f32);
            }
        }
        Self { half, cosines, sines }
    }

    /// Cosines and sines, `(position, half)` each.
    pub(crate) fn numbers(&self) -> [&[f32]; 2] {
        [&self.cosines, &self.sines]
    }

    /// Turns the vectors of a head, of positions from `first` on, and multiplies them by `scale`. Rows are
    /// given with their stride; a vector begins each.
    pub(crate) fn turn(
        &self,
        turn: Turn,
        scale: f32,
        first: usize,
        from: (&[f32], usize),
        to: (&mut [f32], usize),
    ) {
        let direction = if turn == Turn::Forward { 1.0 } else { -1.0 };
        let angles = [&self.cosines, &self.sines].map(|angles| &angles[first * self.half..]);
        turn_rows(angles, self.half, [direction, scale], from, to);
    }
}

struct Turned {
    direction: f32,
    scale: f32,
}

impl Elementwise<4, 2> for Turned {
    #[inline(always)]
    fn at(&self, [low, high, cosine, sine]: [f32; 4], _: [f32; 2]) -> [f32; 2] {
        let sine = self.direction * sine;
        [self.scale * (low * cosine - high * sine), self.scale * (high * cosine + low * sine)]
    }
}

vectorised! {
    fn turn_rows<'a>(
        angles: [&'a [f32]; 2],
        half: usize,
        factors: [f32; 2],
        from: (&'a [f32], usize),
        to: (&'a mut [f32], usize),
    ) {
        let [direction, scale] = factors;
        assert!(from.0.len().div_ceil(from.1) <= angles[0].len() / half, "the table has all positions");
        let rows = from.0.chunks(from.1).zip(to.0.chunks_mut(to.1));
        let angles = angles[0].chunks_exact(half).zip(angles[1].chunks_exact(half));
        for ((from, to), (cosines, sines)) in rows.zip(angles) {
            let (from_low, from_high) = from[..2 * half].split_at(half);
            let (to_low, to_high) = to[..2 * half].split_at_mut(half);
            let inputs = [from_low, from_high, cosines, sines];
            elementwise(&Turned { direction, scale }, inputs, [to_low, to_high]);
        }
    }
}

#[cfg(test)]
impl RotaryTable {
    /// Turns one vector at a position.
    pub(crate) fn turn_at(
        &self,
        turn: Turn,
        position: usize,
        scale: f32,
        from: &[f32],
        to: &mut [f32],
    ) {
        self.turn(turn, scale, position, (from, from.len()), (to, from.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ModelSize;

    fn table() -> RotaryTable {
        RotaryTable::new(&ModelSize::PICO.config(20, 64, 1), 64)
    }

    #[test]
    fn position_zero_changes_nothing_and_turning_back_undoes_a_turn() {
        let vector: Vec<f32> = (0..16).map(|i| i as f32 - 5.0).collect();
        let (mut turned, mut back) = (vec![0.0; 16], vec![0.0; 16]);
        table().turn_at(Turn::Forward, 0, 1.0, &vector, &mut turned);
        assert_eq!(turned, vector);
        table().turn_at(Turn::Forward, 41, 2.0, &vector, &mut turned);
        table().turn_at(Turn::Back, 41, 0.5, &turned, &mut back);
        assert!(back.iter().zip(&vector).all(|(b, v)| (b - v).abs() < 1e-5), "{back:?}");
        assert_ne!(turned, vector);
    }

    #[test]
    fn products_depend_on_the_distance_of_positions_only() {
        let (q, k): (Vec<f32>, Vec<f32>) =
            (0..16).map(|i| ((i as f32).sin(), (i as f32 * 0.7).cos())).unzip();
        let dot = |p: usize, r: usize| -> f32 {
            let (mut a, mut b) = (vec![0.0; 16], vec![0.0; 16]);
            table().turn_at(Turn::Forward, p, 1.0, &q, &mut a);
            table().turn_at(Turn::Forward, r, 1.0, &k, &mut b);
            a.iter().zip(&b).map(|(x, y)| x * y).sum()
        };
        assert!((dot(9, 4) - dot(45, 40)).abs() < 1e-4);
        assert!((dot(9, 4) - dot(9, 5)).abs() > 1e-3);
    }
}
