//! One optimizer step on a device: what [`crate::trainer`] does.
//!
//! Parameters, gradient and moments stay on the device from step to step, `f32` all; products read a
//! rounded copy where the device's precision is less. A batch is cut into parts of a bounded number of
//! tokens, which run one after another and add to one gradient. The host waits twice a step: for loss
//! and norm, which decide whether the step is taken, and for what the step made not finite.

use super::memory::{Buffer, Place, Real, as_real};
use super::model::{Batch, Context, Gradient, GradientRoom, Keep, Model, Room, Rotary};
use super::ops::{self, HeadShape, Matrix, Moved};
use super::weights::DeviceWeights;
use super::{Device, Precision};
use crate::config::ModelConfig;
use crate::lora::Adapter;
use crate::loss::{TokenizedExample, learned_rows};
use crate::ops::matmul::Write;
use crate::optimizer::{AdamW, Factors, OptimizerSettings};
use crate::parameters::{ParameterGroup, parameter_groups};
use crate::trainer::{StepReport, TrainerError};
use crate::transformer::PackedTokens;
use crate::weights::Weights;
use bstar_core::Fault;

/// Parameters being trained on a device, and their optimizer.
pub struct DeviceTrainer {
    device: Device,
    config: ModelConfig,
    /// The parameters' groups.
    groups: Vec<ParameterGroup>,
    parameters: Buffer<f32>,
    /// What products read, where that is another.
    working: Option<Buffer<Real>>,
    weights: DeviceWeights,
    gradient: Buffer<f32>,
    optimizer: DeviceOptimizer,
    lora: Option<LoraTraining>,
    rotary: Rotary,
    rooms: Option<Rooms>,
    sums: Sums,
    /// Most examples of a part; 0 sets no limit.
    micro_batch_size: usize,
}

/// AdamW's state on the device.
struct DeviceOptimizer {
    settings: OptimizerSettings,
    step: u64,
    first_moment: Buffer<f32>,
    second_moment: Buffer<f32>,
    count: usize,
}

/// What is trained instead of all parameters.
struct LoraTraining {
    /// The base's parameters, to which the product of the factors is added.
    base_parameters: Buffer<f32>,
    /// Its shape; its factors are those before training.
    adapter: Adapter,
    factors: Buffer<f32>,
    gradient: Buffer<f32>,
}

/// Buffers of a pass, kept from step to step.
struct Rooms {
    capacity: usize,
    forward: Room,
    backward: GradientRoom,
    head: HeadRoom,
}

/// Buffers of the head, for some of the rows that are learned.
struct HeadRoom {
    capacity: usize,
    hidden: Buffer<Real>,
    grad_hidden: Buffer<Real>,
    logits: Buffer<f32>,
    /// The gradient of the logits, where it does not fit into their place.
    grad_logits: Option<Buffer<Real>>,
    losses: Buffer<f32>,
}

/// Small buffers for what the host reads.
struct Sums {
    partial: Buffer<f64>,
    /// Loss and square of the gradient's norm.
    totals: Buffer<f64>,
    flag: Buffer<u32>,
}

impl DeviceTrainer {
    /// Starts from a flat buffer and an optimizer of the same size.
    pub fn new(
        device: &Device,
        config: &ModelConfig,
        parameters: &[f32],
        optimizer: &AdamW,
    ) -> Result<Self, Fault> {
        Self::begin(device, config, parameters, optimizer, None)
    }

    /// Starts from an adapter on a base, which stays as it is, and an optimizer of the size of the
    /// adapter.
    pub fn with_adapter(
        device: &Device,
        base: &Weights,
        adapter: Adapter,
        optimizer: &AdamW,
    ) -> Result<Self, Fault> {
        let config = base.config.clone();
        let parameters = base.to_flat();
        let lora = LoraTraining {
            base_parameters: Buffer::of(device, &parameters)?,
            factors: Buffer::of(device, adapter.factors())?,
            gradient: Buffer::zeros(device, adapter.factors().len())?,
            adapter,
        };
        let trainer = Self::begin(device, &config, &parameters, optimizer, Some(lora))?;
        trainer.merge()?;
        Ok(trainer)
    }

    fn begin(
        device: &Device,
        config: &ModelConfig,
        parameters: &[f32],
        optimizer: &AdamW,
        lora: Option<LoraTraining>,
    ) -> Result<Self, Fault> {
        HeadShape::check(device, config.head_dim)?;
        let working = match device.precision() {
            Precision::F32 => None,
            Precision::Bf16 => Some(Buffer::rounded(device, parameters)?),
        };
        let gradient = Buffer::zeros(device, parameters.len())?;
        let parameters = Buffer::of(device, parameters)?;
        Ok(Self {
            weights: DeviceWeights::over(device, config, &parameters, working.as_ref()),
            groups: parameter_groups(config),
            optimizer: DeviceOptimizer::new(device, optimizer)?,
            rotary: Rotary::new(device, config, 0)?,
            rooms: None,
            sums: Sums {
                partial: Buffer::new(device, ops::SQUARE_BLOCKS)?,
                totals: Buffer::zeros(device, 2)?,
                flag: Buffer::zeros(device, 1)?,
            },
            device: device.clone(),
            config: config.clone(),
            parameters,
            working,
            gradient,
            lora,
            micro_batch_size: 0,
        })
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> Result<Vec<f32>, Fault> {
        self.parameters.download(self.config.parameter_count())
    }

    /// The adapter as it is now, if one is trained.
    pub fn adapter(&self) -> Result<Option<Adapter>, Fault> {
        let Some(lora) = &self.lora else { return Ok(None) };
        let mut adapter = lora.adapter.clone();
        let count = adapter.factors().len();
        adapter.factors_mut().copy_from_slice(&lora.factors.download(count)?);
        Ok(Some(adapter))
    }

    /// The optimizer as it is now.
    pub fn optimizer(&self) -> Result<AdamW, Fault> {
        self.optimizer.to_host()
    }

    /// Forgets the optimizer's moments and step count.
    pub fn reset_optimizer(&mut self) -> Result<(), Fault> {
        self.optimizer.step = 0;
        self.optimizer.first_moment.clear()?;
        self.optimizer.second_moment.clear()
    }

    /// The same with at most so many examples in one forward and backward pass; 0 sets no limit.
    #[must_use]
    pub fn in_micro_batches(self, micro_batch_size: usize) -> Self {
        Self { micro_batch_size, ..self }
    }

    /// Takes one step on a batch. Faults as those of [`crate::trainer::Trainer::step`], and those of
    /// the device.
    pub fn step(
        &mut self,
        batch: &[&TokenizedExample],
        learning_rate: f64,
    ) -> Result<StepReport, Fault> {
        let report = self.measure(batch)?;
        if !report.loss.is_finite() {
            return Err(TrainerError::Loss(report.loss).into());
        }
        if !report.gradient_norm.is_finite() {
            return Err(TrainerError::Gradient(report.gradient_norm).into());
        }
        self.move_parameters(report.gradient_norm, learning_rate)?;
        self.check_finite()?;
        Ok(report)
    }

    /// The loss of a batch and its gradient, in the order of the parameters; with an adapter, of its
    /// factors.
    pub fn gradient(
        &mut self,
        batch: &[&TokenizedExample],
    ) -> Result<(StepReport, Vec<f32>), Fault> {
        let report = self.measure(batch)?;
        let gradient = match &self.lora {
            Some(lora) => &lora.gradient,
            None => &self.gradient,
        };
        Ok((report, gradient.download(self.optimizer.count)?))
    }

    /// Leaves the gradient of the batch in `self.gradient`, and that of an adapter beside it.
    fn measure(&mut self, batch: &[&TokenizedExample]) -> Result<StepReport, Fault> {
        let tokens: usize = batch.iter().map(|example| example.targets().len()).sum();
        if tokens == 0 {
            return Err(TrainerError::Empty.into());
        }
        let scale = 1.0 / tokens as f32;
        let learned: Vec<_> =
            batch.iter().copied().filter(|example| !example.targets().is_empty()).collect();
        let longest = learned.iter().map(|example| example.inputs().len()).max().unwrap_or(0);
        self.rotary.reach(&self.device, &self.config, longest)?;
        self.gradient.clear()?;
        self.sums.totals.clear()?;
        let parts = parts(&learned, self.micro_batch_size);
        let largest = parts.iter().map(|part| tokens_of(part)).max().unwrap_or(0);
        self.fit_rooms(largest)?;
        for part in parts {
            self.measure_part(part, scale)?;
        }
        if let Some(lora) = &self.lora {
            lora.gradient_of_factors(&self.device, &self.gradient)?;
        }
        let trained = self.lora.as_ref().map_or(&self.gradient, |lora| &lora.gradient);
        let Sums { partial, totals, .. } = &self.sums;
        let count = self.optimizer.count;
        ops::sum_of_squares(&self.device, trained.place(), count, partial.place(), totals.at(1))?;
        let totals = totals.download(2)?;
        let (loss, gradient_norm) = (totals[0], totals[1].sqrt());
        Ok(StepReport { loss, gradient_norm, tokens: tokens as u64 })
    }

    /// Adds loss and gradient of a part.
    fn measure_part(&mut self, part: &[&TokenizedExample], scale: f32) -> Result<(), Fault> {
        let Self { device, config, weights, rotary, rooms, gradient, sums, .. } = self;
        let Rooms { forward, backward, head, .. } = rooms.as_mut().expect("rooms were made");
        let packed = PackedTokens::new(part.iter().map(|example| example.inputs()));
        let (rows, targets) = learned_rows(part, &packed);
        let batch = Batch::new(device, packed.tokens(), packed.sequences())?;
        let model = Model { device, config, weights, rotary };
        model.forward((&batch).into(), &Context::Packed(&batch), forward)?;
        let gradient = Gradient::new(config, gradient);
        let width = config.hidden_size;
        backward.normed.clear_first(batch.count * width)?;
        for (rows, targets) in rows.chunks(head.capacity).zip(targets.chunks(head.capacity)) {
            let rows = Buffer::of(device, rows)?;
            let targets = (Buffer::of(device, targets)?, targets.len());
            let places = (forward.hidden.place(), backward.normed.place());
            let hidden = HeadRows { rows: &rows, places };
            head.run(&model, &hidden, (targets.0.place(), targets.1), (scale, sums), &gradient)?;
        }
        model.backward(&batch, forward, backward, &gradient)
    }

    fn fit_rooms(&mut self, tokens: usize) -> Result<(), Fault> {
        if self.rooms.as_ref().is_some_and(|rooms| rooms.capacity >= tokens) {
            return Ok(());
        }
        let (device, config) = (&self.device, &self.config);
        // The old rooms are given back first: the two may not fit together.
        self.rooms = None;
        let real = match device.precision() {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        };
        let free = device.accelerator.free_memory()?;
        let whole = Room::bytes_per_token(config, real, Keep::Layers)
            + GradientRoom::bytes_per_token(config, real);
        // What is left is for the head and for what allocation rounds up.
        let keep = if whole * tokens < free / 4 * 3 { Keep::Layers } else { Keep::Streams };
        self.rooms = Some(Rooms {
            capacity: tokens,
            forward: Room::new(device, config, tokens, keep)?,
            backward: GradientRoom::new(device, config, tokens)?,
            head: HeadRoom::new(device, config, tokens)?,
        });
        Ok(())
    }

    fn move_parameters(&mut self, norm: f64, learning_rate: f64) -> Result<(), Fault> {
        let (device, optimizer) = (&self.device, &mut self.optimizer);
        optimizer.step += 1;
        let adapted = self.lora.as_ref().map(|lora| lora.adapter.parameter_groups());
        let (parameters, gradient, groups) = match &self.lora {
            Some(lora) => (&lora.factors, &lora.gradient, adapted.as_ref().expect("an adapter")),
            None => (&self.parameters, &self.gradient, &self.groups),
        };
        // Of an adapter the factors move; what products read is made by `merge`.
        let working = if self.lora.is_some() { None } else { self.working.as_ref() };
        for group in groups {
            let start = group.range.start;
            let moved = Moved {
                parameters: parameters.at(start),
                working: working.map(|working| working.at(start)),
                gradient: gradient.at(start),
                first_moment: optimizer.first_moment.at(start),
                second_moment: optimizer.second_moment.at(start),
                count: group.range.len(),
            };
            let DeviceOptimizer { settings, step, .. } = optimizer;
            let factors = Factors::new(settings, *step, norm, group.decays(), learning_rate);
            ops::adamw(device, &moved, &factors)?;
        }
        self.merge()
    }

    /// Makes the parameters again from the base and the adapter, if one is trained.
    fn merge(&self) -> Result<(), Fault> {
        let Some(lora) = &self.lora else { return Ok(()) };
        let count = self.config.parameter_count();
        self.parameters.copy_from(&lora.base_parameters, count)?;
        lora.add_product(&self.device, &self.parameters)?;
        match &self.working {
            None => Ok(()),
            Some(working) => {
                let (parameters, working) = (self.parameters.place(), working.place());
                ops::convert(&self.device, parameters, working, count)
            }
        }
    }

    fn check_finite(&self) -> Result<(), Fault> {
        let count = self.config.parameter_count();
        let flag = &self.sums.flag;
        flag.clear()?;
        ops::find_not_finite(&self.device, self.parameters.place(), count, flag.place())?;
        if flag.download(1)? == [0] {
            return Ok(());
        }
        let name = self.config.first_not_finite(&self.parameters()?);
        Err(TrainerError::Parameter(name.expect("the device found one")).into())
    }
}

impl DeviceOptimizer {
    fn new(device: &Device, optimizer: &AdamW) -> Result<Self, Fault> {
        let (first, second) = optimizer.moments();
        Ok(Self {
            settings: *optimizer.settings(),
            step: optimizer.step_count(),
            first_moment: Buffer::of(device, first)?,
            second_moment: Buffer::of(device, second)?,
            count: first.len(),
        })
    }

    fn to_host(&self) -> Result<AdamW, Fault> {
        let first = self.first_moment.download(self.count)?;
        let second = self.second_moment.download(self.count)?;
        Ok(AdamW::resume(self.settings, self.step, first, second))
    }
}

impl LoraTraining {
    /// Adds s · B · A of every adapted matrix.
    fn add_product(&self, device: &Device, parameters: &Buffer<f32>) -> Result<(), Fault> {
        for pair in self.adapter.factor_pairs() {
            let [outer, inner] = pair.shape;
            let (down, up) = (self.factors.at(pair.down), self.factors.at(pair.up));
            ops::multiply(
                device,
                [outer, inner, pair.rank],
                parameters.at(pair.matrix),
                Write::Add,
                pair.scale,
                &ops::Side::plain(up),
                &ops::Side::plain(down),
            )?;
        }
        Ok(())
    }

    /// Writes dA = s · Bᵀ · dW and dB = s · dW · Aᵀ.
    fn gradient_of_factors(&self, device: &Device, of_weights: &Buffer<f32>) -> Result<(), Fault> {
        for pair in self.adapter.factor_pairs() {
            let ([outer, inner], rank) = (pair.shape, pair.rank);
            let of_matrix = || ops::Side::plain(of_weights.at(pair.matrix));
            let down = ops::Side::transposed(self.factors.at(pair.down));
            let up = ops::Side::transposed(self.factors.at(pair.up));
            let (of_down, of_up) = (self.gradient.at(pair.down), self.gradient.at(pair.up));
            let size = [rank, inner, outer];
            ops::multiply(device, size, of_down, Write::Replace, pair.scale, &up, &of_matrix())?;
            let size = [outer, rank, inner];
            ops::multiply(device, size, of_up, Write::Replace, pair.scale, &of_matrix(), &down)?;
        }
        Ok(())
    }
}

/// Rows of the last hidden states.
struct HeadRows<'a> {
    rows: &'a Buffer<u32>,
    /// The hidden states of all tokens, and their gradients.
    places: (Place<Real>, Place<Real>),
}

impl HeadRoom {
    fn new(device: &Device, config: &ModelConfig, tokens: usize) -> Result<Self, Fault> {
        let vocabulary = config.vocab_size;
        let capacity = (HEAD_BYTES / (vocabulary * size_of::<f32>())).clamp(64, 8192).min(tokens);
        let logits = Buffer::new(device, capacity * vocabulary)?;
        let grad_logits = match as_real(device, logits.place()) {
            Some(_) => None,
            None => Some(Buffer::new(device, capacity * vocabulary)?),
        };
        Ok(Self {
            capacity,
            hidden: Buffer::new(device, capacity * config.hidden_size)?,
            grad_hidden: Buffer::new(device, capacity * config.hidden_size)?,
            logits,
            grad_logits,
            losses: Buffer::new(device, capacity)?,
        })
    }

    /// Adds the loss of some rows and the gradient of the head, and writes that of their hidden
    /// states.
    fn run(
        &self,
        model: &Model<'_>,
        hidden: &HeadRows<'_>,
        (targets, count): (Place<u32>, usize),
        (scale, sums): (f32, &Sums),
        gradient: &Gradient<'_>,
    ) -> Result<(), Fault> {
        let device = model.device;
        let group = model.weights.groups.head();
        let width = model.config.hidden_size;
        let own = Matrix { place: self.hidden.place(), rows: count, width };
        let grad_own = Matrix { place: self.grad_hidden.place(), ..own };
        ops::gather_rows(device, hidden.places.0, hidden.rows.place(), own)?;
        let product = model.head_product(count);
        let (logits, weight) = (self.logits.place(), model.weights.matrix(group));
        product.forward(device, own.place, weight, Write::Replace, logits)?;
        let grad_logits = match &self.grad_logits {
            Some(buffer) => buffer.place(),
            None => as_real(device, logits).expect("stored alike"),
        };
        let rows = Matrix { place: logits, rows: count, width: model.config.vocab_size };
        let losses = self.losses.place();
        ops::cross_entropy(device, rows, targets, scale, losses, Some(grad_logits))?;
        ops::add_losses(device, losses, count, scale, sums.totals.place())?;
        product.backward_weight(device, grad_logits, own.place, gradient.of(group))?;
        product.backward_input(device, grad_logits, weight, grad_own.place)?;
        ops::scatter_rows(device, grad_own, hidden.rows.place(), hidden.places.1)
    }
}

/// Bound on the logits that are held at once.
const HEAD_BYTES: usize = 256 << 20;

/// Tokens of a part. A constant: results must not depend on the card's memory.
const PART: usize = 16_384;

fn tokens_of(part: &[&TokenizedExample]) -> usize {
    part.iter().map(|example| example.inputs().len()).sum()
}

/// Neighbours in parts of at most [`PART`] tokens and, unless that is 0, `most` examples; a longer example
/// is a part of its own.
fn parts<'a, 'b>(
    batch: &'a [&'b TokenizedExample],
    most: usize,
) -> Vec<&'a [&'b TokenizedExample]> {
    let mut parts = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (index, example) in batch.iter().enumerate() {
        let more = example.inputs().len();
        let full = most > 0 && index - first >= most;
        if index > first && (full || tokens + more > PART) {
            parts.push(&batch[first..index]);
            (first, tokens) = (index, 0);
        }
        tokens += more;
    }
    if first < batch.len() {
        parts.push(&batch[first..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_all_examples_in_order_and_no_more_than_may_be() {
        let examples: Vec<_> = (0..7).map(|_| TokenizedExample::new(&[0, 1], &[3], 1)).collect();
        let batch: Vec<_> = examples.iter().collect();
        let sizes = |most| parts(&batch, most).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(0), [7]);
        assert_eq!(sizes(1), [1; 7]);
        assert_eq!(sizes(3), [3, 3, 1]);
        let long = TokenizedExample::new(&vec![0; PART], &[3], 1);
        assert_eq!(parts(&[&long, batch[0], &long], 0).len(), 3);
        assert!(parts(&[], 2).is_empty());
    }
}
