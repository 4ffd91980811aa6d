//! One optimizer step: the gradient of a batch by parts, summed in a fixed order, then AdamW.
//!
//! A batch is cut into parts that run side by side, and their gradients are added in the order of the parts
//! (`parts.rs`), so the result has the same bits for any number of threads. A loss or gradient that
//! is not finite leaves everything as it was; parameters that a step made not finite are an error of
//! that step. With an adapter its factors are what is trained; the parameters are those of the model
//! with the adapter merged.

use crate::compute::{ComputeSettings, HalfWeights, Precision};
use crate::config::ModelConfig;
use crate::lora::Adapter;
use crate::loss::{TokenizedExample, response_loss};
use crate::optimizer::{AdamW, gradient_norm};
use crate::parameters::{ParameterGroup, parameter_groups};
use crate::parts::{PartLimits, PartRoom, parts, sum_over_parts};
use crate::transformer::Transformer;
use crate::weights::Weights;
use bstar_core::{Fault, FaultClass};
use std::sync::Arc;
use thiserror::Error;

/// Why training cannot go on. Only [`TrainerError::Parameter`] comes after the step.
#[derive(Debug, Error)]
pub enum TrainerError {
    /// The loss is not finite.
    #[error("the loss is {0}")]
    Loss(f64),
    /// The gradient is not finite.
    #[error("the gradient has norm {0}")]
    Gradient(f64),
    /// A batch has nothing to learn.
    #[error("a batch has no response tokens")]
    Empty,
    /// The step left numbers that are not finite in a tensor.
    #[error("the step made `{0}` not finite")]
    Parameter(String),
}

impl From<TrainerError> for Fault {
    fn from(error: TrainerError) -> Self {
        let message = error.to_string();
        match error {
            TrainerError::Loss(_) | TrainerError::Gradient(_) | TrainerError::Parameter(_) => {
                Self::new(FaultClass::Training, message).hint(DIVERGED_HINT)
            }
            TrainerError::Empty => Self::new(FaultClass::Bug, message),
        }
    }
}

/// What to do when training diverges.
pub(crate) const DIVERGED_HINT: &str = "lower `train.learning_rate` (`supervised.learning_rate` in \
                                        supervised training) or `optimizer.clip_norm`";

/// What a step measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean cross-entropy (nats) over the response tokens, before the step.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Response tokens.
    pub tokens: u64,
}

/// Parameters being trained, and their optimizer.
pub struct Trainer {
    config: ModelConfig,
    groups: Vec<ParameterGroup>,
    parameters: Vec<f32>,
    optimizer: AdamW,
    room: PartRoom,
    /// The gradient of the last batch, in the order of the parameters.
    gradient: Vec<f32>,
    lora: Option<LoraTraining>,
    compute: ComputeSettings,
    /// The parameters for products in `bf16`, packed for the step at hand.
    half: HalfWeights,
}

/// What is trained instead of all parameters.
struct LoraTraining {
    base: Arc<Weights>,
    adapter: Adapter,
    gradient: Vec<f32>,
}

impl Trainer {
    /// Starts from a flat buffer (see [`crate::weights::Weights::to_flat`]) and an optimizer of the
    /// same size.
    pub fn new(config: &ModelConfig, parameters: Vec<f32>, optimizer: AdamW) -> Self {
        let (config, groups) = (config.clone(), parameter_groups(config));
        Self::begin(config, groups, parameters, optimizer, None)
    }

    /// Starts from an adapter on a base, which stays as it is, and an optimizer of the size of the
    /// adapter.
    pub fn with_adapter(base: Arc<Weights>, adapter: Adapter, optimizer: AdamW) -> Self {
        let (mut parameters, groups) = (base.to_flat(), adapter.parameter_groups());
        adapter.merge(&base, &mut parameters);
        let config = base.config.clone();
        let lora = Some(LoraTraining { base, adapter, gradient: Vec::new() });
        Self::begin(config, groups, parameters, optimizer, lora)
    }

    fn begin(
        config: ModelConfig,
        groups: Vec<ParameterGroup>,
        parameters: Vec<f32>,
        optimizer: AdamW,
        lora: Option<LoraTraining>,
    ) -> Self {
        Self {
            config,
            groups,
            parameters,
            optimizer,
            room: PartRoom::default(),
            gradient: Vec::new(),
            lora,
            compute: ComputeSettings::default(),
            half: HalfWeights::default(),
        }
    }

    /// The same, computing in another way.
    #[must_use]
    pub fn computing(self, compute: ComputeSettings) -> Self {
        Self { compute, ..self }
    }

    /// The adapter as it is now, if one is trained.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.lora.as_ref().map(|lora| &lora.adapter)
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The optimizer as it is now.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// Parameters and optimizer, when training is over.
    pub fn finish(self) -> (Vec<f32>, AdamW) {
        (self.parameters, self.optimizer)
    }

    /// Forgets the optimizer's moments and step count.
    pub fn reset_optimizer(&mut self) {
        self.optimizer.reset();
    }

    /// Takes one step on a batch.
    pub fn step(
        &mut self,
        batch: &[&TokenizedExample],
        learning_rate: f64,
    ) -> Result<StepReport, TrainerError> {
        // One way into the pool of threads, not one for each of the loops of a step.
        rayon::scope(|_| self.step_in_pool(batch, learning_rate))
    }

    fn step_in_pool(
        &mut self,
        batch: &[&TokenizedExample],
        learning_rate: f64,
    ) -> Result<StepReport, TrainerError> {
        let report = self.measure(batch)?;
        let norm = report.gradient_norm;
        if !report.loss.is_finite() {
            return Err(TrainerError::Loss(report.loss));
        }
        if !norm.is_finite() {
            return Err(TrainerError::Gradient(norm));
        }
        let (optimizer, groups) = (&mut self.optimizer, &self.groups);
        if let Some(LoraTraining { base, adapter, gradient }) = &mut self.lora {
            optimizer.step(adapter.factors_mut(), gradient, norm, groups, learning_rate);
            adapter.merge(base, &mut self.parameters);
        } else {
            let (parameters, gradient) = (&mut self.parameters, &self.gradient);
            optimizer.step(parameters, gradient, norm, groups, learning_rate);
        }
        match self.config.first_not_finite(&self.parameters) {
            None => Ok(report),
            Some(name) => Err(TrainerError::Parameter(name)),
        }
    }

    /// The loss of a batch and its gradient, in the order of the parameters; with an adapter, of its
    /// factors.
    pub fn gradient(
        &mut self,
        batch: &[&TokenizedExample],
    ) -> Result<(StepReport, Vec<f32>), TrainerError> {
        let report = self.measure(batch)?;
        Ok((report, self.trained_gradient().to_vec()))
    }

    fn trained_gradient(&self) -> &[f32] {
        match &self.lora {
            Some(lora) => &lora.gradient,
            None => &self.gradient,
        }
    }

    /// Leaves the gradient of the batch in `self.gradient`, and that of an adapter beside it.
    fn measure(&mut self, batch: &[&TokenizedExample]) -> Result<StepReport, TrainerError> {
        let tokens: usize = batch.iter().map(|example| example.targets().len()).sum();
        if tokens == 0 {
            return Err(TrainerError::Empty);
        }
        let scale = 1.0 / tokens as f32;
        let ComputeSettings { precision, micro_batch_size, checkpoint_activations } = self.compute;
        if precision == Precision::Bf16 {
            self.half.pack(&self.config, &self.parameters);
        }
        let transformer = Transformer::new(&self.config, &self.parameters)
            .in_half((precision == Precision::Bf16).then_some(&self.half))
            .recomputing(checkpoint_activations);
        let learnable: Vec<_> =
            batch.iter().copied().filter(|example| !example.targets().is_empty()).collect();
        let limits = PartLimits::new(&self.config, micro_batch_size);
        let parts = parts(&learnable, limits, |example| example.inputs().len());
        let (room, gradient) = (&mut self.room, &mut self.gradient);
        let loss = sum_over_parts(&parts, limits, room, gradient, |part, workspace| {
            response_loss(&transformer, part, scale, workspace)
        });
        if let Some(LoraTraining { adapter, gradient, .. }) = &mut self.lora {
            adapter.gradient(&self.gradient, gradient);
        }
        let gradient_norm = gradient_norm(self.trained_gradient());
        Ok(StepReport { loss, gradient_norm, tokens: tokens as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::LoraSettings;
    use crate::optimizer::OptimizerSettings;
    use crate::size::ModelSize;
    use crate::weights::Weights;
    use bstar_core::RngKey;
    use bstar_core::rng::below;

    fn examples(count: u64) -> Vec<TokenizedExample> {
        let example = |index| {
            let mut rng = RngKey::from_seed(7).index(index).rng();
            let mut draw = |longest| -> Vec<u32> {
                let length = 1 + below(&mut rng, longest);
                let token = |_| 2 + u32::try_from(below(&mut rng, 9)).unwrap();
                (0..length).map(token).collect()
            };
            let (prompt, response) = (draw(6), draw(12));
            TokenizedExample::new(&prompt, &response, 1)
        };
        (0..count).map(example).collect()
    }

    fn trainer() -> Trainer {
        let config = ModelSize::from_width(16).unwrap().config(11, 32, 1);
        let weights = Weights::random(&config, RngKey::from_seed(1));
        let optimizer = AdamW::new(OptimizerSettings::default(), config.parameter_count());
        Trainer::new(&config, weights.to_flat(), optimizer)
    }

    #[test]
    fn training_on_one_batch_learns_it_by_heart() {
        let (mut trainer, examples) = (trainer(), examples(6));
        let batch: Vec<_> = examples.iter().collect();
        let first = trainer.step(&batch, 1e-2).unwrap();
        // Fresh weights know nothing: the loss is near that of a uniform guess.
        assert!((first.loss - 11_f64.ln()).abs() < 0.5, "{first:?}");
        for _ in 0..150 {
            trainer.step(&batch, 1e-2).unwrap();
        }
        let last = trainer.step(&batch, 1e-2).unwrap();
        assert!(last.loss < 0.4, "{last:?}");
    }

    #[test]
    fn the_bits_of_a_step_do_not_depend_on_the_number_of_threads() {
        // The second has more parts than gradients are kept.
        for count in [13, 700] {
            let examples = examples(count);
            let batch: Vec<_> = examples.iter().collect();
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let mut trainer = trainer();
                    for _ in 0..3 {
                        trainer.step(&batch, 1e-2).unwrap();
                    }
                    trainer.finish()
                })
            };
            assert_eq!(run(1), run(2));
            assert_eq!(run(1), run(5));
        }
    }

    #[test]
    fn the_gradient_of_a_batch_is_the_token_mean_whatever_the_parts() {
        let (mut trainer, examples) = (trainer(), examples(9));
        let whole = trainer.gradient(&examples.iter().collect::<Vec<_>>()).unwrap();
        let mut mean = vec![0.0_f64; whole.1.len()];
        for example in &examples {
            let (report, gradient) = trainer.gradient(&[example]).unwrap();
            let share = report.tokens as f64 / whole.0.tokens as f64;
            mean.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += f64::from(g) * share);
        }
        for (mean, whole) in mean.iter().zip(&whole.1) {
            assert!((mean - f64::from(*whole)).abs() < 1e-6, "{mean} {whole}");
        }
    }

    #[test]
    fn a_loss_that_is_not_finite_changes_nothing() {
        let mut trainer = trainer();
        trainer.parameters[5] = f32::NAN;
        let before: Vec<u32> = trainer.parameters.iter().map(|x| x.to_bits()).collect();
        let optimizer = trainer.optimizer.clone();
        let examples: Vec<_> =
            (2..11).map(|token| TokenizedExample::new(&[0, 1, token], &[3], 1)).collect();
        let error = trainer.step(&examples.iter().collect::<Vec<_>>(), 1e-2).unwrap_err();
        assert_eq!(Fault::from(error).class, FaultClass::Training);
        let after: Vec<u32> = trainer.parameters.iter().map(|x| x.to_bits()).collect();
        assert_eq!(before, after);
        assert_eq!(trainer.optimizer, optimizer);
    }

    #[test]
    fn a_split_batch_has_the_gradient_of_the_whole() {
        let examples = examples(23);
        let batch: Vec<_> = examples.iter().collect();
        let split = |micro_batch_size| {
            let compute = ComputeSettings { micro_batch_size, ..ComputeSettings::default() };
            trainer().computing(compute).gradient(&batch).unwrap()
        };
        let whole = split(0);
        assert_eq!(split(23), whole, "a limit that is not reached changes nothing");
        for size in [1, 2, 5] {
            let (report, gradient) = split(size);
            assert!((report.loss - whole.0.loss).abs() < 1e-6, "{size}: {report:?}");
            for (found, expected) in gradient.iter().zip(&whole.1) {
                assert!((found - expected).abs() < 1e-6, "{size}: {found} {expected}");
            }
        }
    }

    #[test]
    fn checkpoints_of_activations_change_no_bit() {
        let examples = examples(13);
        let batch: Vec<_> = examples.iter().collect();
        for precision in [Precision::F32, Precision::Bf16] {
            let trained = |checkpoint_activations| {
                let compute =
                    ComputeSettings { precision, checkpoint_activations, micro_batch_size: 2 };
                let mut trainer = trainer().computing(compute);
                for _ in 0..3 {
                    trainer.step(&batch, 1e-2).unwrap();
                }
                trainer.finish()
            };
            assert_eq!(trained(true), trained(false), "{precision:?}");
        }
    }

    #[test]
    fn half_precision_learns_like_single_precision() {
        let examples = examples(16);
        let batch: Vec<_> = examples.iter().collect();
        let losses = |precision| -> Vec<f64> {
            let compute = ComputeSettings { precision, ..ComputeSettings::default() };
            let mut trainer = trainer().computing(compute);
            (0..50).map(|_| trainer.step(&batch, 3e-3).unwrap().loss).collect()
        };
        let (half, single) = (losses(Precision::Bf16), losses(Precision::F32));
        assert!(single[49] < 0.5 * single[0], "the curve falls: {single:?}");
        assert_ne!(half, single);
        for (step, (half, single)) in half.iter().zip(&single).enumerate() {
            assert!((half - single).abs() < 0.05, "step {step}: {half} beside {single}");
        }
    }

    #[test]
    fn gradients_in_half_precision_point_where_those_in_single_precision_do() {
        let examples = examples(16);
        let batch: Vec<_> = examples.iter().collect();
        let gradient = |precision| {
            let compute = ComputeSettings { precision, ..ComputeSettings::default() };
            trainer().computing(compute).gradient(&batch).unwrap().1
        };
        let (half, single) = (gradient(Precision::Bf16), gradient(Precision::F32));
        let difference: Vec<f32> = half.iter().zip(&single).map(|(h, s)| h - s).collect();
        let error = gradient_norm(&difference) / gradient_norm(&single);
        assert!(error > 1e-4 && error < 0.02, "the relative error is {error}");
    }

    #[test]
    fn adapters_train_with_checkpoints_and_in_half_precision() {
        let config = ModelSize::from_width(16).unwrap().config(11, 32, 1);
        let base = Arc::new(Weights::random(&config, RngKey::from_seed(1)));
        let examples = examples(16);
        let batch: Vec<_> = examples.iter().collect();
        let train = |compute| {
            let lora = LoraSettings { rank: 4, ..LoraSettings::default() };
            let adapter = Adapter::fresh(&config, lora, RngKey::from_seed(2));
            let optimizer = AdamW::new(OptimizerSettings::default(), adapter.factors().len());
            let mut trainer =
                Trainer::with_adapter(Arc::clone(&base), adapter, optimizer).computing(compute);
            let losses: Vec<f64> =
                (0..30).map(|_| trainer.step(&batch, 1e-2).unwrap().loss).collect();
            (losses, trainer.adapter().unwrap().clone())
        };
        let plain = ComputeSettings::default();
        let single = train(plain);
        assert!(single.0[29] < single.0[0] - 0.2, "{:?}", single.0);
        assert!(train(ComputeSettings { checkpoint_activations: true, ..plain }) == single);
        let split = train(ComputeSettings { micro_batch_size: 2, ..plain });
        let half = train(ComputeSettings { precision: Precision::Bf16, ..plain });
        assert!((split.0[29] - single.0[29]).abs() < 1e-3, "{:?} {:?}", split.0, single.0);
        assert!((half.0[29] - single.0[29]).abs() < 0.05, "{:?} {:?}", half.0, single.0);
    }

    #[test]
    fn the_bits_of_half_precision_do_not_depend_on_the_number_of_threads() {
        let examples = examples(13);
        let batch: Vec<_> = examples.iter().collect();
        let compute = ComputeSettings { precision: Precision::Bf16, ..ComputeSettings::default() };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut trainer = trainer().computing(compute);
                for _ in 0..3 {
                    trainer.step(&batch, 1e-2).unwrap();
                }
                trainer.finish()
            })
        };
        assert_eq!(run(1), run(2));
    }
}
