//! AdamW (Loshchilov and Hutter, arXiv 1711.05101) over one flat buffer of parameters.
//!
//! Order of a step, as in PyTorch: clip the gradient by its global norm, decay the weights, move
//! the moments, step. Matrices decay, norms do not. The whole state is two buffers and a step
//! count, so that a resumed run continues with the same bits.

use crate::ops::vectors::vectorised;
use crate::parameters::ParameterGroup;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of AdamW; the learning rate comes with each step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSettings {
    /// Decay of the first moment (mean gradient).
    pub beta1: f64,
    /// Decay of the second moment (mean squared gradient).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay on matrices, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; larger ones are scaled down to it. 0 never clips.
    pub clip_norm: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weight_decay: 0.01, clip_norm: 1.0 }
    }
}

/// AdamW with its moments.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    settings: OptimizerSettings,
    step: u64,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
}

impl AdamW {
    /// An optimizer that has seen nothing.
    pub fn new(settings: OptimizerSettings, parameter_count: usize) -> Self {
        Self::resume(settings, 0, vec![0.0; parameter_count], vec![0.0; parameter_count])
    }

    /// An optimizer with the given state.
    ///
    /// # Panics
    /// If the moments differ in length.
    pub fn resume(
        settings: OptimizerSettings,
        step: u64,
        first_moment: Vec<f32>,
        second_moment: Vec<f32>,
    ) -> Self {
        assert_eq!(first_moment.len(), second_moment.len(), "one moment for each parameter");
        Self { settings, step, first_moment, second_moment }
    }

    /// The settings.
    pub fn settings(&self) -> &OptimizerSettings {
        &self.settings
    }

    /// Steps taken.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// First and second moments, in the order of the parameters.
    pub fn moments(&self) -> (&[f32], &[f32]) {
        (&self.first_moment, &self.second_moment)
    }

    /// Forgets moments and step count.
    pub fn reset(&mut self) {
        *self = Self::new(self.settings, self.first_moment.len());
    }

    /// Moves `parameters` against `gradient`, whose norm the caller has taken with
    /// [`gradient_norm`].
    ///
    /// # Panics
    /// If the buffers differ in length.
    pub fn step(
        &mut self,
        parameters: &mut [f32],
        gradient: &[f32],
        norm: f64,
        groups: &[ParameterGroup],
        learning_rate: f64,
    ) {
        assert_eq!(parameters.len(), gradient.len(), "one gradient for each parameter");
        assert_eq!(parameters.len(), self.first_moment.len(), "one moment for each parameter");
        self.step += 1;
        for group in groups {
            let update =
                Factors::new(&self.settings, self.step, norm, group.decays(), learning_rate);
            let range = group.range.clone();
            parameters[range.clone()]
                .par_chunks_mut(CHUNK)
                .zip(gradient[range.clone()].par_chunks(CHUNK))
                .zip(self.first_moment[range.clone()].par_chunks_mut(CHUNK))
                .zip(self.second_moment[range].par_chunks_mut(CHUNK))
                .for_each(|(((parameters, gradient), first), second)| {
                    update.apply(parameters, gradient, first, second);
                });
        }
    }
}

/// The global norm of a gradient, summed in a fixed order.
pub fn gradient_norm(gradient: &[f32]) -> f64 {
    let sum_of_squares = |chunk: &[f32]| -> f64 {
        let mut lanes = [0.0_f64; 8];
        for eight in chunk.chunks(8) {
            for (lane, &x) in lanes.iter_mut().zip(eight) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        lanes.iter().sum()
    };
    let sums: Vec<f64> = gradient.par_chunks(CHUNK).map(sum_of_squares).collect();
    sums.iter().sum::<f64>().sqrt()
}

/// Numbers that one thread handles at a time.
const CHUNK: usize = 1 << 15;

/// The step of one number, all factors worked out.
pub(crate) struct Factors {
    pub(crate) gradient_scale: f32,
    pub(crate) keep: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) rest1: f32,
    pub(crate) rest2: f32,
    pub(crate) step_size: f32,
    pub(crate) root_scale: f32,
    pub(crate) epsilon: f32,
}

impl Factors {
    /// The factors of step number `step`, the first being 1, for a gradient of norm `norm`.
    #[expect(clippy::cast_possible_truncation, reason = "parameters are f32")]
    pub(crate) fn new(
        settings: &OptimizerSettings,
        step: u64,
        norm: f64,
        decays: bool,
        learning_rate: f64,
    ) -> Self {
        let OptimizerSettings { beta1, beta2, epsilon, weight_decay, clip_norm: clip } = *settings;
        // PyTorch's epsilon, so that its values are reproduced.
        let scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let step = step as f64;
        let decay = if decays { weight_decay } else { 0.0 };
        Self {
            gradient_scale: scale as f32,
            keep: (1.0 - learning_rate * decay) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            step_size: (learning_rate / (1.0 - beta1.powf(step))) as f32,
            root_scale: (1.0 / (1.0 - beta2.powf(step)).sqrt()) as f32,
            epsilon: epsilon as f32,
        }
    }

    fn apply(
        &self,
        parameters: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        adam(self, parameters, gradient, first, second);
    }
}

vectorised! {
    fn adam<'a>(
        factors: &'a Factors,
        parameters: &'a mut [f32],
        gradient: &'a [f32],
        first: &'a mut [f32],
        second: &'a mut [f32],
    ) {
        let moments = first.iter_mut().zip(second);
        for ((parameter, gradient), (first, second)) in
            parameters.iter_mut().zip(gradient).zip(moments)
        {
            let gradient = gradient * factors.gradient_scale;
            *first = factors.beta1 * *first + factors.rest1 * gradient;
            *second = factors.beta2 * *second + factors.rest2 * (gradient * gradient);
            let root = second.sqrt() * factors.root_scale + factors.epsilon;
            *parameter = *parameter * factors.keep - factors.step_size * (*first / root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(shape: &[usize]) -> ParameterGroup {
        ParameterGroup { shape: shape.to_vec(), range: 0..shape.iter().product() }
    }

    fn settings() -> OptimizerSettings {
        OptimizerSettings { weight_decay: 0.5, clip_norm: 0.0, ..OptimizerSettings::default() }
    }

    #[test]
    fn the_first_step_moves_by_the_learning_rate_against_the_sign() {
        let mut optimizer = AdamW::new(settings(), 2);
        let mut parameters = [1.0, 1.0];
        optimizer.step(&mut parameters, &[3.0, -0.2], 3.0, &[group(&[2])], 0.1);
        assert!((parameters[0] - 0.9).abs() < 1e-6 && (parameters[1] - 1.1).abs() < 1e-6);
    }

    #[test]
    fn matrices_decay_and_norms_do_not() {
        for (shape, expected) in [(vec![1, 2], 0.95), (vec![2], 1.0)] {
            let mut parameters = [1.0, 1.0];
            let mut optimizer = AdamW::new(settings(), 2);
            optimizer.step(&mut parameters, &[0.0, 0.0], 0.0, &[group(&shape)], 0.1);
            assert_eq!(parameters, [expected; 2]);
        }
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_clip_norm() {
        let gradient = [3.0, 4.0];
        let norm = gradient_norm(&gradient);
        assert_eq!(norm, 5.0);
        let mut optimizer = AdamW::new(OptimizerSettings { clip_norm: 1.0, ..settings() }, 2);
        optimizer.step(&mut [0.0, 0.0], &gradient, norm, &[group(&[2])], 0.1);
        let (first, _) = optimizer.moments();
        assert!((first[0] - 0.06).abs() < 1e-6 && (first[1] - 0.08).abs() < 1e-6, "{first:?}");
    }

    #[test]
    fn the_norm_of_many_numbers_is_exact_enough() {
        let gradient = vec![0.5; 3 * CHUNK + 11];
        let expected = (gradient.len() as f64 * 0.25).sqrt();
        assert!((gradient_norm(&gradient) - expected).abs() < 1e-9);
    }
}
