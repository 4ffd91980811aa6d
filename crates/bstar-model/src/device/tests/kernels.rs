//! Kernel by kernel against the operations of [`crate::ops`], with sizes that do not fit tiles and
//! blocks evenly. What has no counterpart there (draws, the cache) is checked from its definition.

use super::{assert_close, check_everywhere};
use crate::device::memory::{Buffer, Real, as_real};
use crate::device::ops::{
    self, Attention, CacheShape, Draw, Drawn, HeadRows, HeadShape, Matrix, Norm, Saved,
};
use crate::device::{Device, Precision};
use crate::ops::gradient_check::draw;
use crate::ops::{bias, cross_entropy, head_norms, rms_norm, swiglu};
use bstar_core::RngKey;
use bstar_core::ports::Decoding;
use bstar_core::rng::uniform;

/// Numbers as activations.
fn reals(device: &Device, numbers: &[f32]) -> Buffer<Real> {
    Buffer::rounded(device, numbers).unwrap()
}

/// Activations as numbers, where the device stores `f32`.
fn numbers(device: &Device, reals: &Buffer<Real>, count: usize) -> Vec<f32> {
    let copy = Buffer::<f32>::new(device, count).unwrap();
    let place = as_real(device, copy.place()).expect("f32");
    let rows: Vec<u32> = (0..u32::try_from(count).unwrap()).collect();
    let rows = Buffer::of(device, &rows).unwrap();
    let to = Matrix { place, rows: count, width: 1 };
    ops::gather_rows(device, reals.place(), rows.place(), to).unwrap();
    copy.download(count).unwrap()
}

fn check_norms(device: &Device) {
    for (count, width) in [(3, 5), (131, 48), (70, 300)] {
        let (x, weight, grad_y) = (draw(1, count * width), draw(2, width), draw(3, count * width));
        let stream = Buffer::of(device, &x).unwrap();
        let on_device = Buffer::of(device, &weight).unwrap();
        let inverse = Buffer::new(device, count).unwrap();
        let norm = Norm { weight: on_device.place(), epsilon: 1e-5, inverse: inverse.place() };
        let y = Buffer::<Real>::new(device, x.len()).unwrap();
        let rows = Matrix { place: stream.place(), rows: count, width };
        norm.forward(device, rows, y.place()).unwrap();
        let mut expected = vec![0.0; x.len()];
        rms_norm::rms_norm(&x, &weight, 1e-5, &mut expected);
        assert_close(&numbers(device, &y, x.len()), &expected, 1e-6, "norm");

        let (mut grad_x, mut grad_weight) = (draw(4, x.len()), draw(5, width));
        let found_x = Buffer::of(device, &grad_x).unwrap();
        let found_weight = Buffer::of(device, &grad_weight).unwrap();
        let mut partial = Buffer::new(device, 0).unwrap();
        let of_y = reals(device, &grad_y);
        let places = (of_y.place(), found_x.place(), found_weight.place());
        norm.backward(device, rows, places.0, places.1, places.2, &mut partial).unwrap();
        rms_norm::rms_norm_backward(&x, &weight, 1e-5, &grad_y, &mut grad_x, &mut grad_weight);
        assert_close(&found_x.download(x.len()).unwrap(), &grad_x, 1e-5, "norm dx");
        assert_close(&found_weight.download(width).unwrap(), &grad_weight, 1e-4, "norm dw");
    }
}

fn check_head_norms(device: &Device) {
    let (tokens, heads, kv_heads, head_dim) = (37, 6, 2, 10);
    let stride = (heads + 2 * kv_heads) * head_dim;
    let norms = head_norms::HeadNorms { heads, kv_heads, head_dim, epsilon: 1e-5 };
    let (x, grad_y) = (draw(1, tokens * stride), draw(2, tokens * stride));
    let weights = [draw(3, head_dim), draw(4, head_dim)];
    let of_cpu = head_norms::HeadWeights([&weights[0], &weights[1]]);
    let mut expected = x.clone();
    norms.forward(&x, of_cpu, &mut expected);
    let (mut expected_grad, mut expected_weights) = (grad_y.clone(), vec![0.0; 2 * head_dim]);
    norms.backward(&x, of_cpu, &mut expected_grad, &mut expected_weights);

    let (raw, y, grad) = (reals(device, &x), reals(device, &x), reals(device, &grad_y));
    let mut partial = Buffer::new(device, 0).unwrap();
    for (kind, (count, offset)) in
        [(heads, 0), (kv_heads, heads * head_dim)].into_iter().enumerate()
    {
        let weight = Buffer::of(device, &weights[kind]).unwrap();
        let inverse = Buffer::new(device, tokens * count).unwrap();
        let norm = Norm { weight: weight.place(), epsilon: 1e-5, inverse: inverse.place() };
        let rows = HeadRows { tokens, heads: count, head_dim, stride, offset };
        norm.forward_heads(device, rows, raw.place(), y.place()).unwrap();
        let of_weight = Buffer::zeros(device, head_dim).unwrap();
        let place = of_weight.place();
        norm.backward_heads(device, rows, raw.place(), grad.place(), place, &mut partial).unwrap();
        let expected = &expected_weights[kind * head_dim..][..head_dim];
        assert_close(&of_weight.download(head_dim).unwrap(), expected, 1e-4, "head norm dw");
    }
    assert_close(&numbers(device, &y, x.len()), &expected, 1e-6, "head norm");
    assert_close(&numbers(device, &grad, x.len()), &expected_grad, 1e-5, "head norm dx");
}

fn check_feed_forward(device: &Device) {
    let (rows, inner) = (7, 45);
    let (gate_up, grad_y) = (draw(1, rows * 2 * inner), draw(2, rows * inner));
    let mut expected = vec![0.0; rows * inner];
    swiglu::swiglu(&gate_up, inner, &mut expected);
    let mut expected_grad = vec![0.0; gate_up.len()];
    swiglu::swiglu_backward(&gate_up, inner, &grad_y, &mut expected_grad);
    let (x, y) = (reals(device, &gate_up), reals(device, &grad_y));
    let grad = Buffer::<Real>::new(device, gate_up.len()).unwrap();
    let of_y = Matrix { place: y.place(), rows, width: inner };
    ops::swiglu_backward(device, x.place(), of_y, grad.place()).unwrap();
    assert_close(&numbers(device, &grad, gate_up.len()), &expected_grad, 1e-6, "swiglu dx");
    ops::swiglu(device, x.place(), of_y).unwrap();
    assert_close(&numbers(device, &y, expected.len()), &expected, 1e-6, "swiglu");
}

fn check_bias(device: &Device) {
    let (rows, width) = (150, 70);
    let (grad_y, mut expected) = (draw(1, rows * width), vec![0.0; width]);
    bias::bias_backward(&grad_y, &mut expected);
    let of_y = reals(device, &grad_y);
    let found = Buffer::zeros(device, width).unwrap();
    let mut partial = Buffer::new(device, 0).unwrap();
    let of_rows = Matrix { place: of_y.place(), rows, width };
    ops::bias_backward(device, of_rows, found.place(), &mut partial).unwrap();
    assert_close(&found.download(width).unwrap(), &expected, 1e-5, "bias");
    let bias = Buffer::of(device, &expected).unwrap();
    ops::fill_rows(device, bias.place(), of_rows).unwrap();
    assert_eq!(numbers(device, &of_y, rows * width), expected.repeat(rows));
}

fn check_loss(device: &Device) {
    for vocabulary in [3, 41, 700] {
        let targets: Vec<u32> = vec![1, 0, 2, 2, 1];
        let logits: Vec<f32> = draw(1, 5 * vocabulary).iter().map(|x| 3.0 * x).collect();
        let mut expected = logits.clone();
        let loss = cross_entropy::cross_entropy(&mut expected, &targets, 0.3);
        let x = Buffer::of(device, &logits).unwrap();
        let targets = Buffer::of(device, &targets).unwrap();
        let losses = Buffer::new(device, 5).unwrap();
        let sum = Buffer::of(device, &[0.5_f64]).unwrap();
        let rows = Matrix { place: x.place(), rows: 5, width: vocabulary };
        let gradient = as_real(device, x.place());
        let place = losses.place();
        ops::cross_entropy(device, rows, targets.place(), 0.3, place, gradient).unwrap();
        ops::add_losses(device, place, 5, 0.3, sum.place()).unwrap();
        let found = x.download(5 * vocabulary).unwrap();
        assert_close(&found, &expected, 1e-6, "gradient of logits");
        assert!((sum.download(1).unwrap()[0] - 0.5 - loss).abs() < 1e-5, "loss");
    }
}

fn check_sums(device: &Device) {
    for count in [1, 255, 257, 400_000] {
        let mut x = draw(1, count);
        let on_device = Buffer::of(device, &x).unwrap();
        let partial = Buffer::new(device, ops::SQUARE_BLOCKS).unwrap();
        let sum = Buffer::new(device, 1).unwrap();
        ops::sum_of_squares(device, on_device.place(), count, partial.place(), sum.place())
            .unwrap();
        let expected: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let found = sum.download(1).unwrap()[0];
        assert!((found / expected - 1.0).abs() < 1e-12, "{count}: {found} is not {expected}");
        for (bad, expected) in [(1.0, 0), (f32::NAN, 1), (f32::INFINITY, 1), (-f32::INFINITY, 1)] {
            x[count / 2] = bad;
            on_device.upload(0, &x).unwrap();
            let flag = Buffer::zeros(device, 1).unwrap();
            ops::find_not_finite(device, on_device.place(), count, flag.place()).unwrap();
            assert_eq!(flag.download(1).unwrap(), [expected], "{bad}");
        }
    }
}

/// Lengths of sequences, and windows: within a tile, across tiles, longer than everything.
const SHAPES: [(&[usize], usize); 5] = [
    (&[1], usize::MAX),
    (&[5, 17, 3], usize::MAX),
    (&[70, 33], usize::MAX),
    (&[70, 33, 1], 9),
    (&[90, 40], 41),
];

fn heads(window: usize) -> HeadShape {
    HeadShape { heads: 4, kv_heads: 2, head_dim: 40, window }
}

/// Forward and backward pass from the definition, in double precision: output and gradient.
fn attention_by_definition(
    heads: HeadShape,
    sequences: &[std::ops::Range<usize>],
    qkv: &[f32],
    grad_output: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (d, width, group) = (heads.head_dim, heads.packed_width(), heads.heads / heads.kv_heads);
    let out_width = heads.heads * d;
    let at = |token: usize, column: usize| f64::from(qkv[token * width + column]);
    let mut output = vec![0.0_f64; grad_output.len()];
    let mut gradient = vec![0.0_f64; qkv.len()];
    for sequence in sequences {
        for (query, head) in sequence.clone().flat_map(|q| (0..heads.heads).map(move |h| (q, h))) {
            let (key, value) = (
                (heads.heads + head / group) * d,
                (heads.heads + heads.kv_heads + head / group) * d,
            );
            let seen = (query + 1).saturating_sub(heads.window).max(sequence.start)..=query;
            let scale = 1.0 / (d as f64).sqrt();
            let score = |token| (0..d).map(|i| at(query, head * d + i) * at(token, key + i)).sum();
            let scores: Vec<f64> =
                seen.clone().map(score).map(|s: f64| (s * scale).exp()).collect();
            let total: f64 = scores.iter().sum();
            let grad = |i: usize| f64::from(grad_output[query * out_width + head * d + i]);
            for (token, score) in seen.clone().zip(&scores) {
                for i in 0..d {
                    output[query * out_width + head * d + i] +=
                        score / total * at(token, value + i);
                }
            }
            let products: Vec<f64> = seen
                .clone()
                .map(|token| (0..d).map(|i| grad(i) * at(token, value + i)).sum())
                .collect();
            let mean: f64 = scores.iter().zip(&products).map(|(s, p)| s / total * p).sum();
            for (token, (score, product)) in seen.zip(scores.iter().zip(&products)) {
                let slope = score / total * (product - mean) * scale;
                for i in 0..d {
                    gradient[token * width + value + i] += score / total * grad(i);
                    gradient[query * width + head * d + i] += slope * at(token, key + i);
                    gradient[token * width + key + i] += slope * at(query, head * d + i);
                }
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "compared with f32")]
    let single = |numbers: Vec<f64>| numbers.into_iter().map(|x| x as f32).collect();
    (single(output), single(gradient))
}

fn check_attention(device: &Device) {
    for (lengths, window) in SHAPES {
        let heads = heads(window);
        let mut end = 0;
        let sequence = |&length: &usize| {
            end += length;
            end - length..end
        };
        let sequences: Vec<_> = lengths.iter().map(sequence).collect();
        let qkv = draw(1, end * heads.packed_width());
        let grad_output = draw(2, end * heads.heads * heads.head_dim);
        let (expected, expected_grad) =
            attention_by_definition(heads, &sequences, &qkv, &grad_output);
        let (x, of_output) = (reals(device, &qkv), reals(device, &grad_output));
        let output = Buffer::<Real>::new(device, grad_output.len()).unwrap();
        let log_totals = Buffer::new(device, end * heads.heads).unwrap();
        let tiles = Attention::tiles(&sequences);
        let on_device = Buffer::of(device, &tiles).unwrap();
        let attention = Attention { heads, tiles: on_device.place(), count: tiles.len() / 3 };
        let saved =
            Saved { qkv: x.place(), output: output.place(), log_totals: log_totals.place() };
        attention.forward(device, saved.qkv, saved.output, saved.log_totals).unwrap();
        let what = format!("attention over {lengths:?} with window {window}");
        assert_close(&numbers(device, &output, expected.len()), &expected, 1e-5, &what);
        let deltas = Buffer::new(device, end * heads.heads).unwrap();
        let grad = Buffer::<Real>::new(device, qkv.len()).unwrap();
        let (of_output, places) = (of_output.place(), (deltas.place(), grad.place()));
        attention.backward(device, end, &saved, of_output, places.0, places.1).unwrap();
        assert_close(&numbers(device, &grad, qkv.len()), &expected_grad, 2e-5, &what);
    }
}

/// Prompts enter lanes, then a step of every lane: what comes out is the last row of attention over
/// prompt and step.
fn check_cache(device: &Device) {
    for (lengths, window) in SHAPES {
        let heads = heads(window);
        let (width, kv_width) = (heads.packed_width(), heads.kv_heads * heads.head_dim);
        let out_width = heads.heads * heads.head_dim;
        let longest = *lengths.iter().max().unwrap();
        let capacity = longest.min(window);
        // Every sequence but its last token is a prompt.
        let rows: usize = lengths.iter().sum();
        let qkv = draw(1, rows * width);
        let mut sequences = Vec::new();
        let (mut prompts, mut steps, mut entries, mut positions) = (vec![], vec![], vec![], vec![]);
        let mut start = 0;
        for (lane, &length) in lengths.iter().enumerate() {
            sequences.push(start..start + length);
            entries.extend([lane, prompts.len() / width, length - 1]);
            positions.push(u32::try_from(length - 1).unwrap());
            prompts.extend_from_slice(&qkv[start * width..(start + length - 1) * width]);
            steps.extend_from_slice(&qkv[(start + length - 1) * width..(start + length) * width]);
            start += length;
        }
        let no_grad = vec![0.0; rows * out_width];
        let (expected, _) = attention_by_definition(heads, &sequences, &qkv, &no_grad);
        let lanes = lengths.len();
        let room = || Buffer::<Real>::new(device, lanes * capacity * kv_width).unwrap();
        let (keys, values) = (room(), room());
        let shape = CacheShape { heads, capacity, keys: keys.place(), values: values.place() };
        let entries: Vec<u32> = entries.into_iter().map(|x| u32::try_from(x).unwrap()).collect();
        let entries = Buffer::of(device, &entries).unwrap();
        let (prompts, steps) = (reals(device, &prompts), reals(device, &steps));
        shape
            .store_prompts(device, prompts.place(), (entries.place(), lanes), longest - 1)
            .unwrap();
        let output = Buffer::<Real>::new(device, lanes * out_width).unwrap();
        let positions = Buffer::of(device, &positions).unwrap();
        let places = (steps.place(), positions.place(), output.place());
        shape.step(device, lanes, places.0, places.1, places.2).unwrap();
        let last = |sequence: &std::ops::Range<usize>| {
            expected[(sequence.end - 1) * out_width..sequence.end * out_width].to_vec()
        };
        let expected: Vec<f32> = sequences.iter().flat_map(last).collect();
        let what = format!("cache of {lengths:?} with window {window}");
        assert_close(&numbers(device, &output, expected.len()), &expected, 1e-5, &what);
    }
}

/// The token at a place in the distribution, from the definition of the draw in double precision.
fn pick(logits: &[f32], seen: &[u32], decoding: &Decoding, uniform: f64) -> usize {
    let penalty = decoding.repetition_penalty;
    let penalised = |token: usize| {
        let logit = f64::from(logits[token]);
        if !seen.contains(&u32::try_from(token).unwrap()) {
            logit
        } else if logit < 0.0 {
            logit * penalty
        } else {
            logit / penalty
        }
    };
    let logits: Vec<f64> = (0..logits.len()).map(penalised).collect();
    let largest = logits.iter().copied().fold(f64::MIN, f64::max);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if decoding.temperature == 0.0 {
        return order[0];
    }
    let mut weights: Vec<f64> =
        logits.iter().map(|logit| ((logit - largest) / decoding.temperature).exp()).collect();
    let top_k = if decoding.top_k == 0 { weights.len() } else { decoding.top_k };
    let enough = decoding.top_p * order[..top_k].iter().map(|&t| weights[t]).sum::<f64>();
    let mut reached = 0.0;
    for (rank, &token) in order.iter().enumerate() {
        let kept = rank < top_k && (decoding.top_p >= 1.0 || reached < enough);
        reached += weights[token];
        if !kept || weights[token] < decoding.min_p {
            weights[token] = 0.0;
        }
    }
    let target = uniform * weights.iter().sum::<f64>();
    let mut reached = 0.0;
    let passed = |weight: &f64| {
        reached += weight;
        reached > target
    };
    weights.iter().position(passed).unwrap()
}

fn check_draws(device: &Device) {
    let plain = Decoding { temperature: 1.0, ..Decoding::greedy(1) };
    let decodings = [
        Decoding::greedy(1),
        plain.clone(),
        Decoding { temperature: 0.6, ..plain.clone() },
        Decoding { top_k: 1, ..plain.clone() },
        Decoding { top_k: 5, ..plain.clone() },
        Decoding { top_p: 0.5, ..plain.clone() },
        Decoding { top_p: 1e-9, ..plain.clone() },
        Decoding { top_k: 7, top_p: 0.8, ..plain.clone() },
        Decoding { min_p: 0.2, ..plain.clone() },
        Decoding { top_k: 20, top_p: 0.9, min_p: 0.1, temperature: 1.4, ..plain.clone() },
        Decoding { repetition_penalty: 1.7, ..plain.clone() },
        Decoding { repetition_penalty: 1.7, ..Decoding::greedy(1) },
    ];
    // One warp, several, and shares that end within a tile; logits with ties.
    for vocabulary in [29, 613, 1500] {
        let lanes = 24;
        let logits: Vec<f32> =
            draw(1, lanes * vocabulary).iter().map(|x| (4.0 * x).round() / 2.0).collect();
        let mut rng = RngKey::from_seed(3).rng();
        let uniforms: Vec<f64> = (0..lanes).map(|_| uniform(&mut rng)).collect();
        for decoding in &decodings {
            let found = draw_lanes(device, vocabulary, &logits, &uniforms, decoding);
            for (lane, found) in found.iter().enumerate() {
                let logits = &logits[lane * vocabulary..][..vocabulary];
                let expected = pick(logits, &[2, 3], decoding, uniforms[lane]);
                let what = format!("{vocabulary} tokens, lane {lane}, {decoding:?}");
                assert_eq!(found.token as usize, expected, "{what}");
                let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
                let probability = |logit: f32| f64::from(logit).exp() / total;
                let entropy: f64 =
                    logits.iter().map(|&l| -probability(l) * probability(l).ln()).sum();
                let records = [found.log_probability, found.entropy];
                #[expect(clippy::cast_possible_truncation, reason = "compared with f32")]
                let expected = [probability(logits[expected]).ln() as f32, entropy as f32];
                assert_close(&records, &expected, 1e-5, &what);
                assert!(found.finite);
            }
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = logits.clone();
            logits[3 * vocabulary + 7] = bad;
            let found = draw_lanes(device, vocabulary, &logits, &uniforms, &plain);
            assert!(found.iter().enumerate().all(|(lane, drawn)| drawn.finite == (lane != 3)));
        }
    }
}

/// Draws for every lane; tokens 2 and 3 were seen.
fn draw_lanes(
    device: &Device,
    vocabulary: usize,
    logits: &[f32],
    uniforms: &[f64],
    decoding: &Decoding,
) -> Vec<Drawn> {
    let lanes = uniforms.len();
    let logits = Buffer::of(device, logits).unwrap();
    let uniforms = Buffer::of(device, uniforms).unwrap();
    let weights = Buffer::new(device, lanes * vocabulary).unwrap();
    let words = vocabulary.div_ceil(32);
    let mut seen = vec![0; lanes * words];
    seen.iter_mut().step_by(words).for_each(|word| *word = 0b1100);
    let seen = Buffer::of(device, &seen).unwrap();
    let drawn = Buffer::new(device, lanes * Drawn::WORDS).unwrap();
    let rows = Matrix { place: logits.place(), rows: lanes, width: vocabulary };
    let asked = Draw {
        decoding,
        uniforms: uniforms.place(),
        weights: weights.place(),
        seen: seen.place(),
        drawn: drawn.place(),
    };
    ops::draw(device, rows, &asked).unwrap();
    let found = Drawn::download(&drawn, lanes).unwrap();
    if decoding.repetition_penalty != 1.0 {
        let marked = seen.download(lanes * words).unwrap();
        for (lane, drawn) in found.iter().enumerate() {
            assert_ne!(
                marked[lane * words + drawn.token as usize / 32] >> (drawn.token % 32) & 1,
                0
            );
        }
    }
    found
}

check_everywhere!(norms, norms_on_a_card, Precision::F32, check_norms);
check_everywhere!(norms_of_heads, norms_of_heads_on_a_card, Precision::F32, check_head_norms);
check_everywhere!(gates, gates_on_a_card, Precision::F32, check_feed_forward);
check_everywhere!(biases, biases_on_a_card, Precision::F32, check_bias);
check_everywhere!(losses, losses_on_a_card, Precision::F32, check_loss);
check_everywhere!(sums, sums_on_a_card, Precision::F32, check_sums);
check_everywhere!(attention, attention_on_a_card, Precision::F32, check_attention);
check_everywhere!(caches, caches_on_a_card, Precision::F32, check_cache);
check_everywhere!(draws, draws_on_a_card, Precision::F32, check_draws);
