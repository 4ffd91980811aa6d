//! Fixed pieces of training and sampling whose speed is comparable between machines, versions and
//! engines: what `bstar bench` runs.
//!
//! The shapes are those of the engine comparison in `docs/design/engine.md`. Weights and tokens are
//! random, the same each time; no response ends early.

use crate::compute::{ComputeSettings, Precision};
use crate::config::ModelConfig;
use crate::decode::{DecodeRequest, Decoder, Ends};
use crate::device::{Device, DeviceDecoder, DeviceTrainer};
use crate::engine::{Sampler, Training};
use crate::loss::TokenizedExample;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::size::ModelSize;
use crate::trainer::Trainer;
use crate::weights::Weights;
use bstar_core::ports::Decoding;
use bstar_core::rng::below;
use bstar_core::{Fault, RngKey};
use std::time::{Duration, Instant};

/// A piece of work.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name: `small-train`.
    pub name: String,
    config: ModelConfig,
    kind: Kind,
    /// Sequences in a batch.
    sequences: usize,
    /// Where it runs; none is the CPU.
    device: Option<Device>,
    compute: ComputeSettings,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Optimizer steps on sequences of so many tokens.
    Train { tokens: usize },
    /// A prompt of so many tokens, then so many new ones.
    Sample { prompt: usize, new: usize },
}

/// What was measured: the median of the tries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// Tokens trained on, or new tokens drawn, a second.
    pub tokens_per_second: f64,
    /// Operations of matrix products and attention a second; what is computed twice counts
    /// once.
    pub operations_per_second: f64,
    /// Sampling: bytes a second that have to be read at least, every weight once for each token of
    /// a response and the cache of each response.
    pub bytes_per_second: Option<f64>,
}

impl Workload {
    /// The workloads of a size: `pico` (149 thousand parameters, the model of the quickstart), `small`
    /// (4.4 million) or `large` (97.5 million); none of any other name.
    pub fn of_size(size: &str) -> Vec<Self> {
        let (config, sequences, tokens, batches) = match size {
            "pico" => (ModelSize::PICO.config(32, 128, 1), 64, 96, [512, 32, 1]),
            "small" => (ModelSize::SMALL.config(64, 128, 1), 64, 96, [512, 32, 1]),
            "large" => (ModelSize::BASE.config(8192, 128, 1), 8, 128, [128, 32, 1]),
            _ => return Vec::new(),
        };
        let kind = Kind::Train { tokens };
        let name = format!("{size}-train");
        let (device, compute) = (None, ComputeSettings::default());
        let mut workloads =
            vec![Self { name, config: config.clone(), kind, sequences, device, compute }];
        workloads.extend(batches.map(|sequences| Self {
            name: format!("{size}-sample-{sequences}"),
            config: config.clone(),
            kind: Kind::Sample { prompt: 32, new: 64 },
            sequences,
            device: None,
            compute,
        }));
        workloads
    }

    /// The same on a device; none is the CPU.
    #[must_use]
    pub fn on(self, device: Option<Device>) -> Self {
        Self { device, ..self }
    }

    /// The same, computed in another way.
    #[must_use]
    pub fn computing(self, compute: ComputeSettings) -> Self {
        Self { compute, ..self }
    }

    /// The workload with this name.
    pub fn named(name: &str) -> Option<Self> {
        let (size, _) = name.split_once('-')?;
        Self::of_size(size).into_iter().find(|workload| workload.name == name)
    }

    /// Runs it once to warm up, and then so many times.
    pub fn measure(&self, tries: usize) -> Result<Measurement, Fault> {
        match self.kind {
            Kind::Train { tokens } => self.train(tokens, tries),
            Kind::Sample { prompt, new } => self.sample(prompt, new, tries),
        }
    }

    fn train(&self, tokens: usize, tries: usize) -> Result<Measurement, Fault> {
        let weights = Weights::random(&self.config, RngKey::from_seed(1));
        let optimizer = AdamW::new(OptimizerSettings::default(), self.config.parameter_count());
        let parameters = weights.to_flat();
        drop(weights);
        let mut training = match &self.device {
            None => {
                let trainer = Trainer::new(&self.config, parameters, optimizer);
                Training::Cpu(Box::new(trainer.computing(self.compute)))
            }
            Some(device) => {
                let trainer = DeviceTrainer::new(device, &self.config, &parameters, &optimizer)?;
                Training::Device(Box::new(trainer))
            }
        };
        let draw = |index| self.draw(index, tokens + 1);
        let examples: Vec<_> = (0..self.sequences)
            .map(|index| TokenizedExample::new(&[], &draw(index)[..tokens], draw(index)[tokens]))
            .collect();
        let batch: Vec<_> = examples.iter().collect();
        let seconds = median(tries, || training.step(&batch, 1e-4).map(drop))?;
        let count = (self.sequences * tokens) as f64;
        // Backward is twice forward.
        let operations = 3.0 * self.sequences as f64 * self.operations(tokens, tokens);
        Ok(Measurement {
            tokens_per_second: count / seconds,
            operations_per_second: operations / seconds,
            bytes_per_second: None,
        })
    }

    fn sample(&self, prompt: usize, new: usize, tries: usize) -> Result<Measurement, Fault> {
        let weights = Weights::random(&self.config, RngKey::from_seed(1));
        let sampler = match &self.device {
            None => Sampler::Cpu(Decoder::with_precision(&weights, self.compute.precision)),
            Some(device) => Sampler::Device(DeviceDecoder::new(device, &weights)?),
        };
        drop(weights);
        let prompts: Vec<_> = (0..self.sequences).map(|index| self.draw(index, prompt)).collect();
        let key = RngKey::from_seed(5);
        let requests: Vec<_> = (0_u64..)
            .zip(&prompts)
            .map(|(index, prompt)| DecodeRequest { prompt, keys: vec![key.index(index)] })
            .collect();
        let decoding = Decoding { temperature: 1.0, ..Decoding::greedy(new) };
        let seconds = median(tries, || {
            let ends = Ends { tokens: &[], condition: None };
            sampler.generate_until(&requests, &decoding, ends, &mut |_| Ok(())).map(drop)
        })?;
        let rows = self.sequences as f64;
        // The last token is drawn and not read.
        let (read, config) = (prompt + new - 1, &self.config);
        let positions = (prompt..read).map(|position| position as f64).sum::<f64>();
        let cache = rows * positions * (2 * config.key_value_width()) as f64;
        let cache = cache * config.num_hidden_layers as f64 * size_of::<f32>() as f64;
        let weight_bytes = match self.compute.precision {
            Precision::F32 => 4.0,
            Precision::Bf16 => 2.0,
        };
        let bytes = new as f64 * (self.body() + self.head()) * weight_bytes + cache;
        Ok(Measurement {
            tokens_per_second: rows * new as f64 / seconds,
            operations_per_second: rows * self.operations(read, new) / seconds,
            bytes_per_second: Some(bytes / seconds),
        })
    }

    /// Operations to read a sequence of tokens, and to predict some of them.
    fn operations(&self, tokens: usize, predicted: usize) -> f64 {
        let config = &self.config;
        let scores = (tokens * (tokens + 1) / 2 * config.query_width()) as f64;
        let attention = 4.0 * scores * config.num_hidden_layers as f64;
        2.0 * (tokens as f64 * self.body() + predicted as f64 * self.head()) + attention
    }

    /// Numbers in the matrices of all layers.
    fn body(&self) -> f64 {
        let config = &self.config;
        let attention = 2 * config.query_width() + 2 * config.key_value_width();
        let layer = config.hidden_size * (attention + 3 * config.intermediate_size);
        (config.num_hidden_layers * layer) as f64
    }

    fn head(&self) -> f64 {
        (self.config.hidden_size * self.config.vocab_size) as f64
    }

    /// The tokens of a sequence.
    fn draw(&self, index: usize, count: usize) -> Vec<u32> {
        let mut rng = RngKey::from_seed(2).index(index as u64).rng();
        let token = |_| {
            let token = below(&mut rng, self.config.vocab_size);
            u32::try_from(token).expect("a vocabulary of less than 2^32")
        };
        (0..count).map(token).collect()
    }
}

/// The median time of so many tries, after one that does not count; seconds.
fn median(tries: usize, mut work: impl FnMut() -> Result<(), Fault>) -> Result<f64, Fault> {
    work()?;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..tries.max(1) {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2].as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_found_by_name_and_have_the_sizes_of_the_comparison() {
        for (size, parameters) in [("small", 4.39e6), ("large", 97.5e6)] {
            let workloads = Workload::of_size(size);
            assert_eq!(workloads.len(), 4);
            for workload in workloads {
                let found = Workload::named(&workload.name).unwrap();
                let count = found.config.parameter_count() as f64;
                assert!((count / parameters - 1.0).abs() < 0.002, "{}: {count}", workload.name);
            }
        }
        assert!(Workload::of_size("medium").is_empty() && Workload::named("small").is_none());
    }

    #[test]
    fn operations_are_those_that_the_peer_counts() {
        let train = Workload::named("small-train").unwrap();
        // torch_peer.py: 2 (L (2 D H + 2 D K + 3 D F) + D V) + 2 L T H a token.
        let products = 2.0 * (6.0 * 256.0 * (512.0 + 256.0 + 3.0 * 688.0) + 256.0 * 64.0);
        let expected = 96.0 * (products + 6.0 * 4.0 * 48.5 * 256.0);
        assert!((train.operations(96, 96) / expected - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_measurement_is_positive() {
        for precision in [Precision::F32, Precision::Bf16] {
            let compute = ComputeSettings { precision, ..ComputeSettings::default() };
            let sample = Workload::named("pico-sample-1").unwrap().computing(compute);
            let measured = sample.measure(1).unwrap();
            assert!(measured.tokens_per_second > 0.0 && measured.bytes_per_second > Some(0.0));
        }
    }
}
