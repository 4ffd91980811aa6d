//! Rotary position embedding, in the half-split form of Hugging Face's Llama.
//!
//! Component i and component i + d/2 of a head are a pair, turned by the angle position · θ^(-2i/d).
//! Turning back (the transpose) is the backward pass. A config may scale the angles
//! ([`crate::config::rope`]).

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

    /// Turns one head vector at a position and multiplies it by `scale`.
    pub(crate) fn turn(
        &self,
        turn: Turn,
        position: usize,
        scale: f32,
        from: &[f32],
        to: &mut [f32],
    ) {
        let half = self.half;
        let cosines = &self.cosines[position * half..][..half];
        let sines = &self.sines[position * half..][..half];
        let (from_low, from_high) = from.split_at(half);
        let (to_low, to_high) = to.split_at_mut(half);
        let direction = if turn == Turn::Forward { 1.0 } else { -1.0 };
        for pair in 0..half {
            let (cosine, sine) = (cosines[pair], direction * sines[pair]);
            to_low[pair] = scale * (from_low[pair] * cosine - from_high[pair] * sine);
            to_high[pair] = scale * (from_high[pair] * cosine + from_low[pair] * sine);
        }
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
        table().turn(Turn::Forward, 0, 1.0, &vector, &mut turned);
        assert_eq!(turned, vector);
        table().turn(Turn::Forward, 41, 2.0, &vector, &mut turned);
        table().turn(Turn::Back, 41, 0.5, &turned, &mut back);
        assert!(back.iter().zip(&vector).all(|(b, v)| (b - v).abs() < 1e-5), "{back:?}");
        assert_ne!(turned, vector);
    }

    #[test]
    fn products_depend_on_the_distance_of_positions_only() {
        let (q, k): (Vec<f32>, Vec<f32>) =
            (0..16).map(|i| ((i as f32).sin(), (i as f32 * 0.7).cos())).unzip();
        let dot = |p: usize, r: usize| -> f32 {
            let (mut a, mut b) = (vec![0.0; 16], vec![0.0; 16]);
            table().turn(Turn::Forward, p, 1.0, &q, &mut a);
            table().turn(Turn::Forward, r, 1.0, &k, &mut b);
            a.iter().zip(&b).map(|(x, y)| x * y).sum()
        };
        assert!((dot(9, 4) - dot(45, 40)).abs() < 1e-4);
        assert!((dot(9, 4) - dot(9, 5)).abs() > 1e-3);
    }
}
