//! Whole models: the goldens of every family, training, adapters, sampling.

use super::goldens::{FAMILIES, Golden};
use super::{assert_close, check_everywhere};
use crate::decode::{DecodeRequest, Decoder, Ends, Generation};
use crate::device::{Device, DeviceDecoder, DeviceTrainer, Precision, emulator};
use crate::lora::Adapter;
use crate::loss::TokenizedExample;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::trainer::Trainer;
use crate::weights::Weights;
use bstar_core::ports::Decoding;
use bstar_core::{FaultClass, RngKey};

fn trainer(device: &Device, weights: &Weights, settings: OptimizerSettings) -> DeviceTrainer {
    let flat = weights.to_flat();
    let optimizer = AdamW::new(settings, flat.len());
    DeviceTrainer::new(device, &weights.config, &flat, &optimizer).unwrap()
}

/// Loss and gradient of the golden examples, against those of the CPU.
fn check_gradients(device: &Device) {
    for (most, family) in FAMILIES.into_iter().enumerate() {
        let golden = Golden::read(family);
        let batch: Vec<_> = golden.examples.iter().collect();
        let trainer = trainer(device, &golden.weights, golden.settings);
        let (report, found) = trainer.in_micro_batches(most).gradient(&batch).unwrap();
        let flat = golden.weights.to_flat();
        let optimizer = AdamW::new(golden.settings, flat.len());
        let mut on_cpu = Trainer::new(&golden.weights.config, flat, optimizer);
        let (expected_report, expected) = on_cpu.gradient(&batch).unwrap();
        let difference = (report.loss - expected_report.loss).abs();
        assert!(difference < 1e-5, "{family}: {report:?} is not {expected_report:?}");
        let norms = report.gradient_norm / expected_report.gradient_norm;
        assert!((norms - 1.0).abs() < 1e-4, "{family}: {report:?} is not {expected_report:?}");
        let found = Weights::from_flat(&golden.weights.config, &found);
        let expected = Weights::from_flat(&golden.weights.config, &expected);
        for ((name, found), (_, expected)) in found.tensors().zip(expected.tensors()) {
            assert_close(&found.data, &expected.data, 2e-5, &format!("{family}, {name}"));
        }
    }
}

check_everywhere!(
    gradients_are_those_of_the_cpu,
    gradients_are_those_of_the_cpu_on_a_card,
    Precision::F32,
    check_gradients
);

/// Steps of a loss curve: all on a card; an emulated one is slow.
fn steps_on(device: &Device) -> usize {
    if device.name() == emulator::NAME { 12 } else { 50 }
}

/// Losses of fifty steps are those of transformers.
fn check_loss_curve(device: &Device) {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let batch: Vec<_> = golden.examples.iter().collect();
        let mut trainer = trainer(device, &golden.weights, golden.settings);
        for (step, &expected) in golden.losses.iter().take(steps_on(device)).enumerate() {
            let loss = trainer.step(&batch, golden.learning_rate).unwrap().loss;
            let difference = (loss - expected).abs();
            assert!(difference < 1e-3, "{family}, step {step}: {loss} is not {expected}");
        }
    }
}

/// Losses of an adapter are those of PEFT, and the merged weights those of the adapter.
fn check_adapter(device: &Device) {
    for family in ["llama3", "qwen2"] {
        let golden = Golden::read(family);
        let adapter =
            Adapter::load(&Golden::folder(family).join("adapter"), &golden.weights.config);
        let adapter = adapter.unwrap();
        let optimizer = AdamW::new(golden.settings, adapter.factors().len());
        let mut trainer =
            DeviceTrainer::with_adapter(device, &golden.weights, adapter, &optimizer).unwrap();
        let batch: Vec<_> = golden.examples.iter().collect();
        for (step, &expected) in golden.lora_losses.iter().take(steps_on(device)).enumerate() {
            let loss = trainer.step(&batch, golden.learning_rate).unwrap().loss;
            let difference = (loss - expected).abs();
            assert!(difference < 1e-3, "{family}, step {step}: {loss} is not {expected}");
        }
        let merged = trainer.adapter().unwrap().unwrap().merged(&golden.weights).to_flat();
        assert_close(&trainer.parameters().unwrap(), &merged, 1e-5, family);
    }
}

/// Steps on, from what a trainer left, are those of a trainer that went on.
fn check_resume(device: &Device) {
    let golden = Golden::read("qwen3");
    let config = &golden.weights.config;
    let batch: Vec<_> = golden.examples.iter().collect();
    let mut whole = trainer(device, &golden.weights, golden.settings);
    let mut first = trainer(device, &golden.weights, golden.settings);
    for _ in 0..3 {
        whole.step(&batch, golden.learning_rate).unwrap();
        first.step(&batch, golden.learning_rate).unwrap();
    }
    let (parameters, optimizer) = (first.parameters().unwrap(), first.optimizer().unwrap());
    assert_eq!(optimizer.step_count(), 3);
    let mut second = DeviceTrainer::new(device, config, &parameters, &optimizer).unwrap();
    for _ in 0..3 {
        let expected = whole.step(&batch, golden.learning_rate).unwrap();
        assert_eq!(second.step(&batch, golden.learning_rate).unwrap(), expected);
    }
    assert_eq!(second.parameters().unwrap(), whole.parameters().unwrap());
    assert_eq!(second.optimizer().unwrap(), whole.optimizer().unwrap());
}

/// A step that cannot be taken leaves everything as it was.
fn check_divergence(device: &Device) {
    let golden = Golden::read("llama2");
    let mut flat = golden.weights.to_flat();
    flat[5] = f32::NAN;
    let weights = Weights::from_flat(&golden.weights.config, &flat);
    let mut trainer = trainer(device, &weights, golden.settings);
    let batch: Vec<_> =
        (0..4).map(|token| TokenizedExample::new(&[0, 1, token], &[3], 1)).collect();
    let batch: Vec<_> = batch.iter().collect();
    let fault = trainer.step(&batch, 1e-2).unwrap_err();
    assert_eq!(fault.class, FaultClass::Training, "{fault}");
    assert_eq!(trainer.optimizer().unwrap().step_count(), 0);
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&trainer.parameters().unwrap()), bits(&flat));
    let decoder = DeviceDecoder::new(device, &weights).unwrap();
    let request = DecodeRequest { prompt: &[0, 1], keys: vec![RngKey::from_seed(1)] };
    let ends = Ends { tokens: &[], condition: None };
    let fault = decoder
        .generate_until(&[request], &Decoding::greedy(3), ends, &mut |_| Ok(()))
        .unwrap_err();
    assert_eq!(fault.class, FaultClass::Training);
}

/// Greedy responses are those of transformers, and log-probabilities those of the CPU.
fn check_greedy(device: &Device) {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let decoder = DeviceDecoder::new(device, &golden.weights).unwrap();
        let (prompt, expected) = &golden.greedy;
        let greedy = Decoding::greedy(expected.len());
        let penalised = Decoding { repetition_penalty: 1.4, ..greedy.clone() };
        for (decoding, expected) in [(greedy, expected), (penalised, &golden.penalised)] {
            let request = DecodeRequest { prompt, keys: vec![RngKey::from_seed(1)] };
            let ends = Ends { tokens: &[1], condition: None };
            let drawn =
                decoder.generate_until(&[request], &decoding, ends, &mut |_| Ok(())).unwrap();
            assert_eq!(&drawn[0][0].tokens, expected, "{family}");
        }
        let split = |example: &TokenizedExample| {
            let (prompt, response) = example.tokens().split_at(2);
            (prompt.to_vec(), response.to_vec())
        };
        let sequences: Vec<_> = golden.examples.iter().map(split).collect();
        let found = decoder.logprobs(&sequences).unwrap();
        let expected = Decoder::new(&golden.weights).logprobs(&sequences).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, 1e-4, family);
        }
    }
}

/// Draws of the same keys are those of the CPU: small models have no two tokens that rounding could
/// exchange here. Samples wait, enter and leave; some have no room.
fn check_samples(device: &Device) {
    for family in ["llama3", "mistral", "qwen3"] {
        let golden = Golden::read(family);
        let (prompt, _) = &golden.greedy;
        let keys = |request: u64, count: u64| {
            (0..count).map(|i| RngKey::from_seed(7).index(request).index(i)).collect::<Vec<_>>()
        };
        let long = prompt.repeat(3);
        let requests = [
            DecodeRequest { prompt: &prompt[..1], keys: keys(0, 3) },
            DecodeRequest { prompt, keys: keys(1, 5) },
            DecodeRequest { prompt: &long, keys: keys(2, 4) },
        ];
        let decoding =
            Decoding { temperature: 0.9, top_p: 0.95, top_k: 30, ..Decoding::greedy(12) };
        let ends = Ends { tokens: &[1, 4], condition: Some(&|tokens| tokens.ends_with(&[3])) };
        let mut told = Vec::new();
        let mut tick = |progress: bstar_core::ports::Progress| {
            told.push((progress.done, progress.total));
            Ok(())
        };
        let decoder = DeviceDecoder::new(device, &golden.weights).unwrap();
        let found = decoder.generate_until(&requests, &decoding, ends, &mut tick).unwrap();
        assert_eq!(told, [(12, 12)]);
        let on_cpu = Decoder::new(&golden.weights);
        let expected = on_cpu.generate_until(&requests, &decoding, ends, &mut |_| Ok(())).unwrap();
        let all = |drawn: &[Vec<Generation>]| drawn.iter().flatten().cloned().collect::<Vec<_>>();
        for (found, expected) in all(&found).iter().zip(all(&expected)) {
            assert_eq!(found.tokens, expected.tokens, "{family}");
            assert_eq!(found.finish_reason, expected.finish_reason);
            assert_close(&found.logprobs, &expected.logprobs, 1e-4, family);
            assert_close(&found.entropies, &expected.entropies, 1e-4, family);
        }
    }
}

/// With bfloat16 losses stay near those of `f32`, and training learns.
fn check_bfloat(device: &Device) {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let batch: Vec<_> = golden.examples.iter().collect();
        let mut trainer = trainer(device, &golden.weights, golden.settings);
        let mut last = f64::INFINITY;
        for (step, &expected) in golden.losses.iter().take(4).enumerate() {
            last = trainer.step(&batch, golden.learning_rate).unwrap().loss;
            let difference = (last - expected).abs();
            assert!(difference < 0.03 * expected, "{family}, step {step}: {last}, {expected}");
        }
        assert!(last < golden.losses[0]);
        let decoder = DeviceDecoder::new(device, &golden.weights).unwrap();
        let sequences = [(golden.greedy.0.clone(), golden.greedy.1.clone())];
        let found = decoder.logprobs(&sequences).unwrap();
        let expected = Decoder::new(&golden.weights).logprobs(&sequences).unwrap();
        assert_close(&found[0], &expected[0], 0.1, family);
    }
}

check_everywhere!(loss_curves, loss_curves_on_a_card, Precision::F32, check_loss_curve);
check_everywhere!(adapters, adapters_on_a_card, Precision::F32, check_adapter);
check_everywhere!(resuming, resuming_on_a_card, Precision::F32, check_resume);
check_everywhere!(divergence, divergence_on_a_card, Precision::F32, check_divergence);
check_everywhere!(greedy, greedy_on_a_card, Precision::F32, check_greedy);
check_everywhere!(samples, samples_on_a_card, Precision::F32, check_samples);
check_everywhere!(bfloat, bfloat_on_a_card, Precision::Bf16, check_bfloat);
