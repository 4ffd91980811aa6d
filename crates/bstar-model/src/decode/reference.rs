//! A naive forward pass in `f64`, to test the sampler against: one token after the other, straight
//! from the definitions, with nothing shared with the code under test but the weights.

use crate::config::ModelConfig;
use crate::config::family::Family;
use crate::config::rope::RopeScaling;
use crate::weights::Weights;
use bstar_core::RngKey;
use bstar_core::rng::normal;

/// A small model with weights large enough for peaked distributions.
pub(super) fn model(
    [vocabulary, width, layers]: [usize; 3],
    [heads, shared_heads, head_dim]: [usize; 3],
    tied: bool,
) -> Weights {
    let config = ModelConfig {
        family: Family::Llama,
        vocab_size: vocabulary,
        hidden_size: width,
        intermediate_size: 2 * width + 3,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: shared_heads,
        head_dim,
        rms_norm_eps: 1e-5,
        rope_theta: 1000.0,
        rope_scaling: RopeScaling::Unscaled,
        sliding_window: None,
        max_position_embeddings: 96,
        tie_word_embeddings: tied,
        bos_token_id: None,
        eos_token_ids: vec![1],
        pad_token_id: None,
        generation: serde_json::Map::new(),
    };
    draw(&config)
}

/// A model of that shape with weights large enough for peaked distributions.
pub(super) fn draw(config: &ModelConfig) -> Weights {
    let mut rng = RngKey::from_seed(42).child("reference").rng();
    let mut flat = Vec::new();
    for (_, shape) in config.tensor_shapes() {
        let size = shape.iter().product();
        let (mean, deviation) = if shape.len() == 1 { (1.0, 0.2) } else { (0.0, 0.35) };
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        flat.extend((0..size).map(|_| (mean + deviation * normal(&mut rng)) as f32));
    }
    Weights::from_flat(config, &flat)
}

/// Log-probabilities `[position][token]` of the token after each position.
pub(super) fn log_probabilities(weights: &Weights, tokens: &[u32]) -> Vec<Vec<f64>> {
    let config = &weights.config;
    let embedding = weights.embedding().chunks_exact(config.hidden_size);
    let embedding: Vec<Vec<f64>> = embedding.map(widen).collect();
    let mut residual: Vec<Vec<f64>> =
        tokens.iter().map(|&token| embedding[token as usize].clone()).collect();
    for layer in 0..config.num_hidden_layers {
        let get = |name| weights.layer(layer, name);
        let normed = norm(&residual, get("input_layernorm"), config);
        let attended = attention(weights, layer, &normed);
        add(&mut residual, &project(&attended, get("self_attn.o_proj")));
        let normed = norm(&residual, get("post_attention_layernorm"), config);
        let mut gates = project(&normed, get("mlp.gate_proj"));
        let ups = project(&normed, get("mlp.up_proj"));
        for (gate, up) in gates.iter_mut().flatten().zip(ups.iter().flatten()) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        add(&mut residual, &project(&gates, get("mlp.down_proj")));
    }
    let normed = norm(&residual, weights.get("model.norm.weight"), config);
    let mut logits = project(&normed, weights.head());
    for row in &mut logits {
        let total = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        for logit in row {
            *logit -= total;
        }
    }
    logits
}

fn attention(weights: &Weights, layer: usize, normed: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let config = &weights.config;
    let dim = config.head_dim;
    let project = |name: &str| {
        let mut rows = project(normed, weights.layer(layer, &format!("self_attn.{name}")));
        if config.family.has_attention_bias() {
            let bias = widen(weights.get(&format!("model.layers.{layer}.self_attn.{name}.bias")));
            let count = rows.len();
            add(&mut rows, &vec![bias; count]);
        }
        rows
    };
    let mut queries = project("q_proj");
    let mut keys = project("k_proj");
    let values = project("v_proj");
    for (rows, name) in [(&mut queries, "self_attn.q_norm"), (&mut keys, "self_attn.k_norm")] {
        for (position, row) in rows.iter_mut().enumerate() {
            for head in row.chunks_exact_mut(dim) {
                if config.family.has_head_norms() {
                    let normed = norm(&[head.to_vec()], weights.layer(layer, name), config);
                    head.copy_from_slice(&normed[0]);
                }
                rotate(head, position, config);
            }
        }
    }
    let shared_by = config.num_attention_heads / config.num_key_value_heads;
    let attend = |position: usize, head: usize| {
        let query = &queries[position][head * dim..][..dim];
        let shared = head / shared_by * dim;
        let score = |key: &Vec<f64>| dot(query, &key[shared..][..dim]) / (dim as f64).sqrt();
        let first = (position + 1).saturating_sub(config.window(layer));
        let scores: Vec<f64> = keys[first..=position].iter().map(|key| score(key).exp()).collect();
        let total: f64 = scores.iter().sum();
        let mixed = |i: usize| {
            let products =
                scores.iter().zip(&values[first..]).map(|(score, value)| score * value[shared + i]);
            products.sum::<f64>() / total
        };
        (0..dim).map(mixed).collect::<Vec<f64>>()
    };
    (0..normed.len())
        .map(|position| (0..config.num_attention_heads).flat_map(|h| attend(position, h)).collect())
        .collect()
}

fn rotate(head: &mut [f64], position: usize, config: &ModelConfig) {
    let half = head.len() / 2;
    for i in 0..half {
        let frequency = 1.0 / config.rope_theta.powf(i as f64 / half as f64);
        let angle = position as f64 * config.rope_scaling.apply(frequency);
        let (a, b) = (head[i], head[i + half]);
        head[i] = a * angle.cos() - b * angle.sin();
        head[i + half] = b * angle.cos() + a * angle.sin();
    }
}

fn norm(rows: &[Vec<f64>], weight: &[f32], config: &ModelConfig) -> Vec<Vec<f64>> {
    let one = |row: &Vec<f64>| {
        let root = (dot(row, row) / row.len() as f64 + config.rms_norm_eps).sqrt();
        row.iter().zip(weight).map(|(x, &weight)| x / root * f64::from(weight)).collect()
    };
    rows.iter().map(one).collect()
}

fn project(rows: &[Vec<f64>], weight: &[f32]) -> Vec<Vec<f64>> {
    let weight: Vec<Vec<f64>> = weight.chunks_exact(rows[0].len()).map(widen).collect();
    rows.iter().map(|row| weight.iter().map(|weight| dot(weight, row)).collect()).collect()
}

fn add(rows: &mut [Vec<f64>], more: &[Vec<f64>]) {
    for (x, y) in rows.iter_mut().flatten().zip(more.iter().flatten()) {
        *x += y;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn widen(row: &[f32]) -> Vec<f64> {
    row.iter().map(|&x| f64::from(x)).collect()
}
