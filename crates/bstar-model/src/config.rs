//! The shape of a Llama-family model: the fields of a Hugging Face `config.json`.
//!
//! A [`ModelConfig`] that exists is valid: counts are positive, heads divide evenly, and nothing in
//! the file asks for arithmetic that this engine does not do (biases, other activations, scaled
//! rotary embeddings, other architectures); such a file is an error that names the field. The
//! module knows no tensors' values, only their names and shapes.

use bstar_core::{Fault, FaultClass};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// A `config.json` that this engine cannot run.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not a JSON object.
    #[error("the model config is not JSON: {0}")]
    NotJson(String),
    /// A field is needed and absent.
    #[error("the model config has no `{0}`")]
    Missing(&'static str),
    /// A field has a value of another type or out of range.
    #[error("the model config has `{field}` = {value}, but it must be {expected}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Another family of models.
    #[error("the model config is of architecture `{0}`; only the Llama family can be loaded")]
    Architecture(String),
    /// Arithmetic that is not there.
    #[error("the model config asks for `{field}` = {value}, which is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
    },
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Self {
        Self::new(FaultClass::Data, error.to_string()).hint(
            "use a model folder with `\"model_type\": \"llama\"`, no biases and no rope scaling",
        )
    }
}

/// The shape of a Llama-family model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Rows of the embedding: token ids are below it.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Longest prompt with response, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the head reuses the embedding.
    pub tie_word_embeddings: bool,
    /// Beginning-of-sequence token, if the model has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a response; the first is the one that training appends.
    pub eos_token_ids: Vec<u32>,
    /// Padding token, if the model has one.
    pub pad_token_id: Option<u32>,
    /// What `generation_config.json` says beside these token ids: kept for those who read the folder
    /// later, without a meaning here.
    pub generation: Map<String, Value>,
}

impl ModelConfig {
    /// Parses the text of a `config.json`.
    pub fn from_json(text: &[u8]) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| ConfigError::NotJson(error.to_string()))?;
        let fields = value
            .as_object()
            .ok_or_else(|| ConfigError::NotJson("the top level is not an object".into()))?;
        refuse_other_architectures(fields)?;
        refuse_other_arithmetic(fields)?;
        let hidden_size = size(fields, "hidden_size")?;
        let num_attention_heads = size(fields, "num_attention_heads")?;
        let size_or = |field, default| count_or(fields, field, LARGEST_SIZE, default);
        let config = Self {
            vocab_size: count(fields, "vocab_size", MOST_TOKENS)?,
            hidden_size,
            intermediate_size: size(fields, "intermediate_size")?,
            num_hidden_layers: count(fields, "num_hidden_layers", MOST_LAYERS)?,
            num_attention_heads,
            num_key_value_heads: size_or("num_key_value_heads", num_attention_heads)?,
            head_dim: size_or("head_dim", hidden_size / num_attention_heads)?,
            rms_norm_eps: positive(fields, "rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: rope_theta(fields)?,
            max_position_embeddings: count_or(
                fields,
                "max_position_embeddings",
                MOST_TOKENS,
                2048,
            )?,
            tie_word_embeddings: flag(fields, "tie_word_embeddings")?,
            bos_token_id: token_ids(fields, "bos_token_id")?.first().copied(),
            eos_token_ids: token_ids(fields, "eos_token_id")?,
            pad_token_id: None,
            generation: Map::new(),
        };
        config.check()?;
        // Nothing depends on it, and some models write -1 for none.
        let pad = token_ids(fields, "pad_token_id").unwrap_or_default().first().copied();
        let pad_token_id = pad.filter(|&id| (id as usize) < config.vocab_size);
        Ok(Self { pad_token_id, ..config })
    }

    /// Takes over the fields of a `generation_config.json`: its end-of-sequence tokens follow those
    /// that are there.
    pub(crate) fn join_generation(
        &mut self,
        mut fields: Map<String, Value>,
    ) -> Result<(), ConfigError> {
        for id in token_ids(&fields, "eos_token_id")? {
            if !self.eos_token_ids.contains(&id) {
                self.eos_token_ids.push(id);
            }
        }
        for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            fields.shift_remove(name);
        }
        self.generation = fields;
        self.check()
    }

    /// The `generation_config.json` that `transformers` and vLLM read.
    pub(crate) fn to_generation_json(&self) -> Value {
        let mut config = self.to_json();
        let mut fields = self.generation.clone();
        for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            fields.insert(name.to_owned(), config[name].take());
        }
        Value::Object(fields)
    }

    /// The `config.json` that `transformers` and vLLM read.
    pub fn to_json(&self) -> Value {
        let eos = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            // Newer readers look here, older ones at `rope_theta`.
            "rope_parameters": { "rope_type": "default", "rope_theta": self.rope_theta },
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "mlp_bias": false,
            "initializer_range": 0.02,
            "use_cache": true,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "pad_token_id": self.pad_token_id,
            "torch_dtype": "float32",
        })
    }

    /// Name and shape of every tensor, in the one order used for flat buffers: embedding, layers
    /// (norm, q, k, v, o, norm, gate, up, down), last norm, head unless tied. Matrices are
    /// `[out, in]`.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (width, inner) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (self.query_width(), self.key_value_width());
        let mut shapes = vec![("model.embed_tokens.weight".into(), vec![self.vocab_size, width])];
        for layer in 0..self.num_hidden_layers {
            for (name, shape) in [
                ("input_layernorm", vec![width]),
                ("self_attn.q_proj", vec![queries, width]),
                ("self_attn.k_proj", vec![keys, width]),
                ("self_attn.v_proj", vec![keys, width]),
                ("self_attn.o_proj", vec![width, queries]),
                ("post_attention_layernorm", vec![width]),
                ("mlp.gate_proj", vec![inner, width]),
                ("mlp.up_proj", vec![inner, width]),
                ("mlp.down_proj", vec![width, inner]),
            ] {
                shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        shapes.push(("model.norm.weight".into(), vec![width]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".into(), vec![self.vocab_size, width]));
        }
        shapes
    }

    /// The first tensor of a flat buffer in which a number is infinite or not a number.
    pub(crate) fn first_not_finite(&self, flat: &[f32]) -> Option<String> {
        if flat.par_chunks(1 << 15).all(all_finite) {
            return None;
        }
        let mut rest = flat;
        self.tensor_shapes().into_iter().find_map(|(name, shape)| {
            let (data, after) = rest.split_at(shape.iter().product());
            rest = after;
            (!all_finite(data)).then_some(name)
        })
    }

    /// Numbers in all tensors together.
    pub fn parameter_count(&self) -> usize {
        self.tensor_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads.
    pub fn key_value_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |field, value: usize, expected| {
            Err(ConfigError::Invalid { field, value: value.to_string(), expected })
        };
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = "a divisor of `num_attention_heads`";
            return invalid("num_key_value_heads", self.num_key_value_heads, expected);
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return invalid("head_dim", self.head_dim, "even and positive");
        }
        let ids = self.eos_token_ids.iter().chain(&self.bos_token_id);
        if let Some(&id) = ids.into_iter().find(|&&id| id as usize >= self.vocab_size) {
            return invalid("eos_token_id", id as usize, "below `vocab_size`");
        }
        Ok(())
    }
}

/// Whether no number is infinite or not a number; without a branch, so that it runs on vectors.
pub(crate) fn all_finite(numbers: &[f32]) -> bool {
    numbers.iter().fold(true, |finite, number| finite & number.is_finite())
}

/// Counts above these are a broken or hostile file, not a model: layers, sizes that matrices are
/// made of, and tokens (of a vocabulary or a context).
const MOST_LAYERS: usize = 4096;
const LARGEST_SIZE: usize = 1 << 20;
const MOST_TOKENS: usize = 1 << 28;

fn refuse_other_architectures(fields: &Map<String, Value>) -> Result<(), ConfigError> {
    let architecture = fields.get("architectures").and_then(|list| list.get(0)?.as_str());
    let model_type = fields.get("model_type").and_then(Value::as_str);
    match (architecture, model_type) {
        (None, None) => Err(ConfigError::Missing("model_type")),
        (Some(other), _) if other != "LlamaForCausalLM" => {
            Err(ConfigError::Architecture(other.to_owned()))
        }
        (_, Some(other)) if other != "llama" => Err(ConfigError::Architecture(other.to_owned())),
        _ => Ok(()),
    }
}

fn refuse_other_arithmetic(fields: &Map<String, Value>) -> Result<(), ConfigError> {
    let refuse =
        |field, value: &Value| Err(ConfigError::Unsupported { field, value: value.to_string() });
    for field in ["attention_bias", "mlp_bias"] {
        if let Some(value) = fields.get(field)
            && !matches!(value, Value::Null | Value::Bool(false))
        {
            return refuse(field, value);
        }
    }
    if let Some(value) = fields.get("hidden_act")
        && !matches!(value.as_str(), Some("silu" | "swish"))
    {
        return refuse("hidden_act", value);
    }
    if let Some(value) = fields.get("quantization_config")
        && !value.is_null()
    {
        return refuse("quantization_config", value);
    }
    for field in ["rope_scaling", "rope_parameters"] {
        let Some(value @ Value::Object(rope)) = fields.get(field) else { continue };
        for kind in ["rope_type", "type"] {
            if rope.get(kind).is_some_and(|kind| kind != "default") {
                return refuse(field, value);
            }
        }
        if rope.get("partial_rotary_factor").is_some_and(|factor| factor != 1.0) {
            return refuse(field, value);
        }
    }
    Ok(())
}

fn rope_theta(fields: &Map<String, Value>) -> Result<f64, ConfigError> {
    if let Some(Value::Object(rope)) = fields.get("rope_parameters")
        && let Some(theta) = positive(rope, "rope_theta")?
    {
        return Ok(theta);
    }
    Ok(positive(fields, "rope_theta")?.unwrap_or(10_000.0))
}

fn size(fields: &Map<String, Value>, field: &'static str) -> Result<usize, ConfigError> {
    count(fields, field, LARGEST_SIZE)
}

fn count(
    fields: &Map<String, Value>,
    field: &'static str,
    most: usize,
) -> Result<usize, ConfigError> {
    let value =
        fields.get(field).filter(|value| !value.is_null()).ok_or(ConfigError::Missing(field))?;
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.filter(|count| (1..=most).contains(count)).ok_or_else(|| ConfigError::Invalid {
        field,
        value: value.to_string(),
        expected: match most {
            MOST_LAYERS => "a positive integer of at most 4096",
            LARGEST_SIZE => "a positive integer of at most 2^20",
            _ => "a positive integer of at most 2^28",
        },
    })
}

fn count_or(
    fields: &Map<String, Value>,
    field: &'static str,
    most: usize,
    default: usize,
) -> Result<usize, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => count(fields, field, most),
    }
}

fn positive(fields: &Map<String, Value>, field: &'static str) -> Result<Option<f64>, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => Err(ConfigError::Invalid {
                field,
                value: value.to_string(),
                expected: "a positive number",
            }),
        },
    }
}

fn flag(fields: &Map<String, Value>, field: &'static str) -> Result<bool, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(&Value::Bool(flag)) => Ok(flag),
        Some(value) => {
            Err(ConfigError::Invalid { field, value: value.to_string(), expected: "true or false" })
        }
    }
}

fn token_ids(fields: &Map<String, Value>, field: &'static str) -> Result<Vec<u32>, ConfigError> {
    let id = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| ConfigError::Invalid {
            field,
            value: value.to_string(),
            expected: "a token id or a list of token ids",
        })
    };
    match fields.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(one) => Ok(vec![id(one)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::ModelSize;

    const SMOLLM: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "vocab_size": 100, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 3, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
        "rope_theta": 5000, "tie_word_embeddings": true, "eos_token_id": [2, 5]}"#;

    /// The example config with one field replaced (or added), and the words its error must hold.
    fn check(field: &str, value: Value, expected: &str) {
        let mut config: Value = serde_json::from_str(SMOLLM).unwrap();
        config[field] = value;
        let error = ModelConfig::from_json(config.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_llama_config_is_read_with_its_defaults() {
        let config = ModelConfig::from_json(SMOLLM.as_bytes()).unwrap();
        assert_eq!((config.head_dim, config.query_width(), config.key_value_width()), (4, 12, 4));
        assert_eq!(config.rope_theta, 5000.0);
        assert_eq!(config.eos_token_ids, [2, 5]);
        assert!(config.tie_word_embeddings);
        assert!(config.tensor_shapes().iter().all(|(name, _)| name != "lm_head.weight"));
    }

    #[test]
    fn the_newer_place_of_the_rope_base_wins() {
        let mut config: Value = serde_json::from_str(SMOLLM).unwrap();
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 777.0});
        let config = ModelConfig::from_json(config.to_string().as_bytes()).unwrap();
        assert_eq!(config.rope_theta, 777.0);
    }

    #[test]
    fn what_the_engine_cannot_do_is_refused_by_name() {
        let rope = json!({"rope_type": "llama3", "factor": 8.0});
        check(
            "model_type",
            json!("qwen2"),
            "the model config is of architecture `qwen2`; only the Llama family can be loaded",
        );
        check(
            "architectures",
            json!(["GPT2LMHeadModel"]),
            "the model config is of architecture `GPT2LMHeadModel`; only the Llama family can be \
             loaded",
        );
        check(
            "rope_scaling",
            rope,
            "the model config asks for `rope_scaling` = {\"rope_type\":\"llama3\",\"factor\":8.0}, \
             which is not supported",
        );
        check(
            "attention_bias",
            json!(true),
            "the model config asks for `attention_bias` = true, which is not supported",
        );
        check(
            "hidden_act",
            json!("gelu"),
            "the model config asks for `hidden_act` = \"gelu\", which is not supported",
        );
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let size = "a positive integer of at most 2^20";
        for (field, value, expected) in [
            ("hidden_size", json!(0), size),
            ("intermediate_size", json!((1 << 20) + 1), size),
            ("num_attention_heads", json!(1u64 << 40), size),
            ("num_key_value_heads", json!(1u64 << 40), size),
            ("head_dim", json!(1u64 << 40), size),
            ("vocab_size", json!(-3), "a positive integer of at most 2^28"),
            ("max_position_embeddings", json!(1u64 << 40), "a positive integer of at most 2^28"),
            ("num_hidden_layers", json!(4097), "a positive integer of at most 4096"),
            ("num_key_value_heads", json!(2), "a divisor of `num_attention_heads`"),
            ("head_dim", json!(5), "even and positive"),
            ("rms_norm_eps", json!(0.0), "a positive number"),
            ("tie_word_embeddings", json!("yes"), "true or false"),
            ("eos_token_id", json!(100), "below `vocab_size`"),
            ("eos_token_id", json!("</s>"), "a token id or a list of token ids"),
        ] {
            let message =
                format!("the model config has `{field}` = {value}, but it must be {expected}");
            check(field, value, &message);
        }
        check("hidden_size", Value::Null, "the model config has no `hidden_size`");
    }

    #[test]
    fn a_padding_token_out_of_range_is_none() {
        for (pad, expected) in
            [(json!(99), Some(99)), (json!(100), None), (json!(-1), None), (json!("<pad>"), None)]
        {
            let mut config: Value = serde_json::from_str(SMOLLM).unwrap();
            config["pad_token_id"] = pad;
            let config = ModelConfig::from_json(config.to_string().as_bytes()).unwrap();
            assert_eq!(config.pad_token_id, expected);
        }
    }

    #[test]
    fn every_size_survives_the_round_trip_through_json() {
        for size in ModelSize::named() {
            let config = size.config(300, 128, 1);
            let text = config.to_json().to_string();
            assert_eq!(ModelConfig::from_json(text.as_bytes()).unwrap(), config);
        }
    }
}
