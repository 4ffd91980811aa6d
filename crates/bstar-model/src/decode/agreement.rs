//! Tests of the sampler as a whole: agreement with the reference, independence of the batch, ends
//! of responses, progress and faults.

use super::batch::GROUP_STEPS;
use super::lanes::Lanes;
use super::reference::{draw, log_probabilities, model};
use super::{DecodeRequest, Decoder, Ends, Generation};
use crate::compute::Precision;
use crate::config::ModelConfig;
use crate::config::family::{Family, SlidingWindow};
use crate::config::rope::RopeScaling;
use crate::weights::Weights;
use bstar_core::ports::{Decoding, Progress};
use bstar_core::{Fault, FaultClass, FinishReason, RngKey};
use pulp::Arch;

fn sampling(max_tokens: usize) -> Decoding {
    Decoding { temperature: 1.0, ..Decoding::greedy(max_tokens) }
}

fn prompt(number: usize, len: usize) -> Vec<u32> {
    (0..len).map(|i| 2 + u32::try_from((number * 31 + i * i * 7 + i) % 15).unwrap()).collect()
}

fn keys(number: usize, samples: usize) -> Vec<RngKey> {
    let key = RngKey::from_seed(9).index(number as u64);
    (0..samples as u64).map(|sample| key.index(sample)).collect()
}

fn run(
    decoder: &Decoder,
    requests: &[(Vec<u32>, Vec<RngKey>)],
    decoding: &Decoding,
) -> Vec<Vec<Generation>> {
    let requests: Vec<_> = requests
        .iter()
        .map(|(prompt, keys)| DecodeRequest { prompt, keys: keys.clone() })
        .collect();
    decoder.generate(&requests, decoding, &[1], &mut |_| Ok(())).unwrap()
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Greedy responses take the reference's likeliest token, and records match its distribution.
fn check_reference(weights: &Weights, prompt_len: usize) {
    let decoder = Decoder::new(weights);
    let requests: Vec<_> = (0..3).map(|i| (prompt(i, prompt_len + i), keys(i, 2))).collect();
    for (decoding, likeliest) in [(Decoding::greedy(20), true), (sampling(20), false)] {
        for (request, generations) in requests.iter().zip(run(&decoder, &requests, &decoding)) {
            for generation in generations {
                let tokens = [&request.0[..], &generation.tokens].concat();
                let exact = &log_probabilities(weights, &tokens)[request.0.len() - 1..];
                let records = generation.logprobs.iter().zip(&generation.entropies);
                for ((token, row), (logprob, entropy)) in
                    generation.tokens.iter().zip(exact).zip(records)
                {
                    let expected = row[*token as usize];
                    assert!((f64::from(*logprob) - expected).abs() < 2e-5, "{logprob} {expected}");
                    let expected = -row.iter().map(|l| l.exp() * l).sum::<f64>();
                    assert!((f64::from(*entropy) - expected).abs() < 2e-5, "{entropy} {expected}");
                    let largest = row.iter().copied().fold(f64::MIN, f64::max);
                    assert!(!likeliest || row[*token as usize] > largest - 1e-5);
                }
            }
        }
    }
}

#[test]
fn a_context_without_bound_costs_nothing_and_changes_nothing() {
    let mut weights = model([19, 24, 2], [4, 4, 6], false);
    let requests: Vec<_> = (0..3).map(|i| (prompt(i, 5 + i), keys(i, 2))).collect();
    let expected = run(&Decoder::new(&weights), &requests, &sampling(20));
    weights.config.max_position_embeddings = usize::MAX >> 8;
    assert_eq!(run(&Decoder::new(&weights), &requests, &sampling(20)), expected);
}

#[test]
fn responses_match_the_reference() {
    // Plain, grouped, tied, with heads that do not add up to the width; prompts that fill a lane
    // group once or several times, or are a single token.
    check_reference(&model([19, 24, 2], [4, 4, 6], false), 5);
    check_reference(&model([19, 16, 2], [4, 2, 4], false), 40);
    check_reference(&model([33, 16, 3], [4, 1, 8], true), 1);
    check_reference(&model([17, 20, 1], [2, 2, 2], true), 17);
}

/// A model of each family, with windows shorter than the responses.
fn family_models() -> Vec<Weights> {
    let plain = model([19, 16, 2], [4, 2, 6], false).config;
    let scaling = RopeScaling::Llama3 {
        factor: 4.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context: 24,
    };
    let window = |first_layer| Some(SlidingWindow { tokens: 7, first_layer });
    let configs = [
        ModelConfig { rope_scaling: scaling, tie_word_embeddings: true, ..plain.clone() },
        ModelConfig { rope_scaling: RopeScaling::Linear { factor: 3.0 }, ..plain.clone() },
        ModelConfig { family: Family::Mistral, sliding_window: window(0), ..plain.clone() },
        ModelConfig { family: Family::Qwen2, sliding_window: window(1), ..plain.clone() },
        ModelConfig { family: Family::Qwen3, ..plain },
    ];
    configs.iter().map(draw).collect()
}

#[test]
fn every_family_matches_the_reference() {
    for weights in family_models() {
        check_reference(&weights, 5);
        check_reference(&weights, 40);
    }
}

#[test]
fn what_is_out_of_the_window_is_not_kept_and_nothing_changes() {
    for weights in family_models() {
        // Several windows of 7 long, in one piece and in many, and with lanes that start apart.
        let requests: Vec<_> = (0..9).map(|i| (prompt(i, 1 + 11 * i), keys(i, 5))).collect();
        let scored: Vec<_> = (0..4).map(|i| (prompt(i, 30), prompt(i + 4, 50))).collect();
        let bounded = Decoder::new(&weights);
        let mut whole = Decoder::new(&weights);
        whole.body.kept = None;
        let expected = run(&whole, &requests, &sampling(60));
        assert_eq!(run(&bounded, &requests, &sampling(60)), expected);
        assert_eq!(bounded.logprobs(&scored).unwrap(), whole.logprobs(&scored).unwrap());
    }
}

#[test]
fn a_bound_on_memory_holds_and_changes_no_response() {
    let weights = model([19, 16, 2], [4, 2, 6], false);
    let mut decoder = Decoder::new(&weights);
    let requests: Vec<_> = (0..40).map(|i| (prompt(i, 1 + i % 7), keys(i, 8))).collect();
    let expected = on_threads(2, || run(&decoder, &requests, &sampling(30)));
    let lent: Vec<_> = requests
        .iter()
        .map(|(prompt, keys)| DecodeRequest { prompt, keys: keys.clone() })
        .collect();
    let lanes = Lanes::wide(decoder.body.arch);
    let shape = decoder.body.cache_shape();
    let group = 4 * lanes.count() * shape.sample_size(37, 7, 64);
    for (bytes, most) in [(1, 1), (group, 1), (2 * group - 1, 1), (2 * group, 2), (1 << 30, 8)] {
        decoder.limit_cache(bytes);
        let (workers, groups) = decoder.groups(&lent, &sampling(30), lanes, 320, 2);
        assert!(workers * groups <= most, "{workers} workers of {groups} groups in {bytes} bytes");
        assert_eq!(on_threads(2, || run(&decoder, &requests, &sampling(30))), expected);
    }
}

#[test]
fn responses_of_every_family_depend_on_their_keys_only() {
    for weights in family_models() {
        let decoder = Decoder::new(&weights);
        let requests: Vec<_> = (0..9).map(|i| (prompt(i, 1 + 5 * i), keys(i, 12))).collect();
        let together = on_threads(2, || run(&decoder, &requests, &sampling(30)));
        let mut sequences = Vec::new();
        for ((prompt, keys), generations) in requests.iter().zip(&together) {
            let alone = run(&decoder, &[(prompt.clone(), vec![keys[7]])], &sampling(30));
            assert_eq!(alone[0][0], generations[7]);
            sequences.push((prompt.clone(), generations[7].tokens.clone()));
        }
        let drawn: Vec<_> = together.iter().map(|samples| samples[7].logprobs.clone()).collect();
        assert_eq!(decoder.logprobs(&sequences).unwrap(), drawn);
    }
}

/// Prompts with many samples are read where they are, the same alone is copied into its lane.
#[test]
fn a_prompt_that_is_shared_gives_the_bits_of_one_that_is_copied() {
    let lanes = Lanes::wide(Arch::new());
    for weights in family_models() {
        for precision in [Precision::F32, Precision::Bf16] {
            let decoder = Decoder::with_precision(&weights, precision);
            // Prompts beyond the window, of one token, and some that are copied meet in a group.
            let requests: Vec<_> = [(1, 40), (50, 40), (23, 3), (9, 33), (40, 20), (12, 1)]
                .map(|(length, samples)| (prompt(length, length), keys(length, samples)))
                .to_vec();
            let shares = |(prompt, keys): &(Vec<u32>, Vec<RngKey>)| {
                DecodeRequest { prompt, keys: keys.clone() }.shares_prompt(lanes)
            };
            assert!(requests.iter().any(shares) && !requests.iter().all(shares));
            let together = on_threads(2, || run(&decoder, &requests, &sampling(40)));
            for ((prompt, keys), generations) in requests.iter().zip(&together) {
                for (key, generation) in keys.iter().zip(generations).step_by(6) {
                    let alone = run(&decoder, &[(prompt.clone(), vec![*key])], &sampling(40));
                    assert_eq!(&alone[0][0], generation);
                }
            }
        }
    }
}

#[test]
fn prompts_that_are_shared_leave_room_for_more_lanes() {
    let weights = model([19, 16, 2], [4, 2, 6], false);
    let mut decoder = Decoder::new(&weights);
    let lanes = Lanes::wide(decoder.body.arch);
    let (shape, prompt) = (decoder.body.cache_shape(), prompt(0, 60));
    let requests = |samples: usize, count| {
        let request = DecodeRequest { prompt: &prompt, keys: keys(0, samples) };
        vec![request; count]
    };
    let group = 4 * lanes.count() * shape.sample_size(8, 60, 32);
    decoder.limit_cache(2 * group);
    let groups = |requests: &[_]| decoder.groups(requests, &sampling(8), lanes, 320, 2);
    assert_eq!(groups(&requests(64, 5)), (2, 1));
    assert_eq!(groups(&requests(1, 320)), (1, 1));
}

#[test]
fn a_response_depends_on_its_key_only() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    check_independence(&decoder, &sampling(24));
    let everything = Decoding {
        temperature: 0.9,
        top_p: 0.95,
        top_k: 15,
        min_p: 0.02,
        repetition_penalty: 1.3,
        stop_tokens: vec![4, 11],
        ..sampling(24)
    };
    check_independence(&decoder, &everything);
}

#[test]
fn a_response_in_half_precision_depends_on_its_key_only() {
    // Dimensions that are odd or do not fill a tile.
    for weights in [model([19, 16, 2], [4, 2, 4], false), model([23, 13, 2], [3, 1, 6], true)] {
        check_independence(&Decoder::with_precision(&weights, Precision::Bf16), &sampling(24));
    }
}

#[test]
fn half_precision_is_near_the_reference() {
    let weights = model([19, 24, 2], [4, 4, 6], false);
    let decoder = Decoder::with_precision(&weights, Precision::Bf16);
    let requests: Vec<_> = (0..3).map(|i| (prompt(i, 5 + i), keys(i, 2))).collect();
    let (mut sum, mut count) = (0.0, 0.0);
    for (request, generations) in requests.iter().zip(run(&decoder, &requests, &sampling(20))) {
        for generation in generations {
            let tokens = [&request.0[..], &generation.tokens].concat();
            let exact = &log_probabilities(&weights, &tokens)[request.0.len() - 1..];
            for ((token, row), found) in
                generation.tokens.iter().zip(exact).zip(&generation.logprobs)
            {
                sum += (f64::from(*found) - row[*token as usize]).abs();
                count += 1.0;
            }
        }
    }
    let mean = sum / count;
    assert!(mean > 1e-4 && mean < 0.05, "rounding shows and stays small: {mean}");
}

/// Responses in a batch, with others in flight, have the bits that they have alone.
fn check_independence(decoder: &Decoder, decoding: &Decoding) {
    let alone = |number: usize, sample: usize| {
        let request = (prompt(number, 3 + number % 29), vec![keys(number, 600)[sample]]);
        run(decoder, &[request], decoding).remove(0).remove(0)
    };
    for (samples, count) in [(1, 40), (7, 12), (64, 3), (512, 2)] {
        for threads in [1, 2, 3] {
            let requests: Vec<_> =
                (0..count).map(|i| (prompt(i, 3 + i % 29), keys(i, samples))).collect();
            let together = on_threads(threads, || run(decoder, &requests, decoding));
            assert!(together.iter().all(|generations| generations.len() == samples));
            for (number, generations) in together.iter().enumerate() {
                for sample in (0..samples).step_by(1 + samples / 9) {
                    let generation = &generations[sample];
                    let expected = alone(number, sample);
                    assert_eq!(generation, &expected, "{samples} {threads} {number} {sample}");
                }
            }
        }
    }
}

#[test]
fn the_order_of_requests_changes_nothing() {
    let decoder = Decoder::new(&model([19, 24, 2], [4, 4, 6], false));
    let mut requests: Vec<_> = (0..50).map(|i| (prompt(i, 1 + i % 23), keys(i, i % 4))).collect();
    let decoding = Decoding { temperature: 0.8, top_p: 0.9, top_k: 12, ..sampling(15) };
    let forwards = on_threads(2, || run(&decoder, &requests, &decoding));
    requests.reverse();
    let mut backwards = on_threads(1, || run(&decoder, &requests, &decoding));
    backwards.reverse();
    assert_eq!(forwards, backwards);
}

#[test]
fn every_vector_width_gives_the_same_responses() {
    let weights = model([19, 16, 2], [4, 2, 4], false);
    let requests: Vec<_> = (0..5).map(|i| (prompt(i, 4 + 5 * i), keys(i, 5))).collect();
    for precision in [Precision::F32, Precision::Bf16] {
        let narrow = Decoder::with_arch(&weights, precision, Arch::Scalar);
        let decoding = Decoding { temperature: 0.9, ..sampling(12) };
        let wide = Decoder::with_precision(&weights, precision);
        assert_eq!(run(&narrow, &requests, &decoding), run(&wide, &requests, &decoding));
    }
}

#[test]
fn scored_responses_have_the_bits_of_drawn_ones() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let requests: Vec<_> = (0..9).map(|i| (prompt(i, 1 + 6 * i), keys(i, 3))).collect();
    let drawn = run(&decoder, &requests, &Decoding { temperature: 1.5, ..sampling(40) });
    let (mut sequences, mut expected) = (Vec::new(), Vec::new());
    for (request, generations) in requests.iter().zip(drawn) {
        for generation in generations {
            sequences.push((request.0.clone(), generation.tokens));
            expected.push(generation.logprobs);
        }
    }
    sequences.push((prompt(0, 4), Vec::new()));
    expected.push(Vec::new());
    assert_eq!(decoder.logprobs(&sequences).unwrap(), expected);
}

#[test]
fn a_response_ends_at_the_first_end_token_or_at_its_limit() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let requests: Vec<_> = (0..10).map(|i| (prompt(i, 6), keys(i, 20))).collect();
    let mut seen = [0; 2];
    for generation in run(&decoder, &requests, &sampling(18)).iter().flatten() {
        let ends: Vec<_> = generation.tokens.iter().map(|&token| token == 1).collect();
        let (last, before) = ends.split_last().unwrap();
        assert!(before.iter().all(|end| !end));
        assert_eq!(*last, generation.finish_reason == FinishReason::Stop);
        assert!(*last || generation.tokens.len() == 18);
        assert_eq!(generation.logprobs.len(), generation.tokens.len());
        assert_eq!(generation.entropies.len(), generation.tokens.len());
        seen[usize::from(*last)] += 1;
    }
    assert!(seen[0] > 5 && seen[1] > 5, "both ends occur: {seen:?}");
}

/// Were lanes not filled again, every batch would take as many steps as its longest response.
#[test]
fn lanes_that_end_are_filled_again() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let requests: Vec<_> = (0..400).map(|i| (prompt(i, 6), keys(i, 1))).collect();
    let (lengths, steps) = on_threads(1, || {
        let before = GROUP_STEPS.get();
        let lengths = run(&decoder, &requests, &sampling(40));
        let lengths = lengths.into_iter().flatten().map(|response| response.tokens.len());
        (lengths.collect::<Vec<_>>(), GROUP_STEPS.get() - before)
    });
    let lanes = Lanes::wide(Arch::new()).count();
    let least = lengths.iter().sum::<usize>() / lanes;
    let in_batches: usize = lengths.chunks(lanes).filter_map(|batch| batch.iter().max()).sum();
    assert!(in_batches > least * 3 / 2, "lengths differ: {in_batches} {least}");
    assert!(steps >= least && steps < least * 5 / 4, "{steps} steps for {least} at least");
}

#[test]
fn prompt_and_response_never_exceed_the_context() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    for (prompt_len, limit, expected) in
        [(90, 50, 6), (96, 50, 0), (95, 50, 1), (10, 0, 0), (60, 20, 20), (1, usize::MAX, 95)]
    {
        let request = [(prompt(0, prompt_len), keys(0, 1))];
        // No end token is 99, so that only a limit ends the response.
        let requests = [DecodeRequest { prompt: &request[0].0, keys: request[0].1.clone() }];
        let decoding = sampling(limit);
        let drawn = decoder.generate(&requests, &decoding, &[99], &mut |_| Ok(())).unwrap();
        assert_eq!(drawn[0][0].tokens.len(), expected, "prompt of {prompt_len}, limit {limit}");
        assert_eq!(drawn[0][0].finish_reason, FinishReason::Length);
    }
}

#[test]
fn progress_comes_in_the_same_strides_for_any_number_of_threads() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let requests: Vec<_> = (0..10).map(|i| (prompt(i, 6), keys(i, 20))).collect();
    let requests: Vec<_> = requests
        .iter()
        .map(|(prompt, keys)| DecodeRequest { prompt, keys: keys.clone() })
        .collect();
    for threads in [1, 2] {
        let told = on_threads(threads, || {
            let mut told = Vec::new();
            let mut tick = |progress: Progress| {
                told.push((progress.done, progress.total));
                Ok(())
            };
            decoder.generate(&requests, &sampling(10), &[1], &mut tick).unwrap();
            told
        });
        assert_eq!(told, [(64, 200), (128, 200), (192, 200), (200, 200)]);
    }
}

#[test]
fn an_error_from_tick_ends_the_work_and_is_returned() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let prompt = prompt(0, 6);
    let requests = [DecodeRequest { prompt: &prompt, keys: keys(0, 400) }];
    for threads in [1, 2] {
        let (calls, fault) = on_threads(threads, || {
            let mut calls = 0;
            let mut tick = |_| {
                calls += 1;
                Err(Fault::new(FaultClass::Interrupted, "interrupted"))
            };
            let result = decoder.generate(&requests, &sampling(10), &[1], &mut tick);
            (calls, result.unwrap_err())
        });
        assert_eq!((calls, fault.class), (1, FaultClass::Interrupted));
    }
}

#[test]
fn nothing_to_draw_gives_nothing() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    assert!(run(&decoder, &[], &sampling(5)).is_empty());
    assert_eq!(run(&decoder, &[(prompt(0, 3), vec![])], &sampling(5)), [vec![]]);
}

fn check_fault(prompt: &[u32], decoding: &Decoding, class: FaultClass, message: &str) {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let requests = [DecodeRequest { prompt, keys: keys(0, 1) }];
    let fault = decoder.generate(&requests, decoding, &[1], &mut |_| Ok(())).unwrap_err();
    assert_eq!((fault.class, fault.message.as_str()), (class, message));
}

#[test]
fn what_cannot_be_drawn_is_refused_by_name() {
    let (data, usage) = (FaultClass::Data, FaultClass::Usage);
    check_fault(&[], &sampling(5), data, "prompt 0 has no tokens");
    let message = "prompt 0 has token 19, but the vocabulary has 19";
    check_fault(&[3, 19], &sampling(5), data, message);
    let message = "prompt 0 has 97 tokens, but the context holds 96";
    check_fault(&prompt(0, 97), &sampling(5), data, message);
    let hot = Decoding { temperature: f64::NAN, ..sampling(5) };
    check_fault(&[3], &hot, usage, "temperature is NaN, but it must be at least 0");
    let narrow = Decoding { top_p: 0.0, ..sampling(5) };
    check_fault(&[3], &narrow, usage, "top_p is 0, but it must be above 0 and at most 1");
    let all = Decoding { min_p: 1.5, ..sampling(5) };
    check_fault(&[3], &all, usage, "min_p is 1.5, but it must be from 0 to 1");
    let none = Decoding { repetition_penalty: 0.0, ..sampling(5) };
    check_fault(&[3], &none, usage, "repetition_penalty is 0, but it must be above 0");
    let unknown = Decoding { stop_tokens: vec![1, 19], ..sampling(5) };
    let message = "the vocabulary has 19 tokens, but a stop token is 19";
    check_fault(&[3], &unknown, usage, message);
    let empty = Decoding { stop: vec![String::new()], ..sampling(5) };
    check_fault(&[3], &empty, usage, "a stop string is empty");
}

#[test]
fn a_stop_token_ends_a_response() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let requests: Vec<_> = (0..10).map(|i| (prompt(i, 6), keys(i, 20))).collect();
    let decoding = Decoding { stop_tokens: vec![5, 9], ..sampling(18) };
    let free = run(&decoder, &requests, &sampling(18));
    for (stopped, free) in
        run(&decoder, &requests, &decoding).iter().flatten().zip(free.iter().flatten())
    {
        let end = free.tokens.iter().position(|token| [5, 9].contains(token));
        let tokens = &free.tokens[..end.map_or(free.tokens.len(), |end| end + 1)];
        assert_eq!(stopped.tokens, tokens);
        assert!(end.is_none() || stopped.finish_reason == FinishReason::Stop);
    }
}

#[test]
fn a_condition_on_the_response_ends_it() {
    let decoder = Decoder::new(&model([19, 16, 2], [4, 2, 4], false));
    let prompt = prompt(0, 6);
    let requests = [DecodeRequest { prompt: &prompt, keys: keys(0, 30) }];
    let three = |tokens: &[u32]| tokens.len() == 3;
    let ends = Ends { tokens: &[1], condition: Some(&three) };
    let drawn = decoder.generate_until(&requests, &sampling(18), ends, &mut |_| Ok(())).unwrap();
    for generation in &drawn[0] {
        assert!(generation.tokens.len() <= 3);
        assert_eq!(generation.finish_reason, FinishReason::Stop);
    }
}

#[test]
fn diverged_weights_are_a_training_fault() {
    let weights = model([19, 16, 2], [4, 2, 4], false);
    let mut flat = weights.to_flat();
    flat.fill(f32::NAN);
    let decoder = Decoder::new(&Weights::from_flat(&weights.config, &flat));
    let requests = [DecodeRequest { prompt: &[3, 4], keys: keys(0, 3) }];
    let fault = decoder.generate(&requests, &sampling(5), &[1], &mut |_| Ok(())).unwrap_err();
    assert_eq!(fault.class, FaultClass::Training);
    assert_eq!(decoder.logprobs(&[(vec![3], vec![4])]).unwrap_err().class, FaultClass::Training);
}
