//! Reads and writes `config.json`, and what counts of `generation_config.json`.

use super::family::{Family, SlidingWindow};
use super::fields::{
    Fields, LARGEST_SIZE, MOST_LAYERS, MOST_TOKENS, count, count_or, flag, positive, size,
    size_or_none, token_ids,
};
use super::rope::RopeScaling;
use super::{ConfigError, ModelConfig};
use serde_json::{Map, Value, json};

impl ModelConfig {
    /// Parses the text of a `config.json`.
    pub fn from_json(text: &[u8]) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| ConfigError::NotJson(error.to_string()))?;
        let fields = value
            .as_object()
            .ok_or_else(|| ConfigError::NotJson("the top level is not an object".into()))?;
        let family = read_family(fields)?;
        refuse_other_arithmetic(fields, family)?;
        let hidden_size = size(fields, "hidden_size")?;
        let num_attention_heads = size(fields, "num_attention_heads")?;
        let size_or = |field, default| count_or(fields, field, LARGEST_SIZE, default);
        let num_hidden_layers = count(fields, "num_hidden_layers", MOST_LAYERS)?;
        let context = family.default_context();
        let context = count_or(fields, "max_position_embeddings", MOST_TOKENS, context)?;
        let config = Self {
            family,
            vocab_size: count(fields, "vocab_size", MOST_TOKENS)?,
            hidden_size,
            intermediate_size: size(fields, "intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            // Elsewhere the default would be that of one size of the family.
            num_key_value_heads: match family {
                Family::Llama => size_or("num_key_value_heads", num_attention_heads)?,
                _ => size(fields, "num_key_value_heads")?,
            },
            head_dim: match family {
                Family::Qwen3 => size(fields, "head_dim")?,
                _ => size_or("head_dim", hidden_size / num_attention_heads)?,
            },
            rms_norm_eps: positive(fields, "rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: rope_theta(fields)?,
            rope_scaling: RopeScaling::read(fields, context)?,
            sliding_window: read_window(fields, family, num_hidden_layers)?,
            max_position_embeddings: context,
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
        let scaling = self.rope_scaling.to_json();
        // Newer readers look here, older ones at `rope_theta` and `rope_scaling`.
        let mut rope = json!({ "rope_type": "default" });
        if let Value::Object(_) = scaling {
            rope = scaling.clone();
        }
        rope["rope_theta"] = json!(self.rope_theta);
        let mut config = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
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
            "rope_parameters": rope,
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "use_cache": true,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "pad_token_id": self.pad_token_id,
            "torch_dtype": "float32",
        });
        if !scaling.is_null() {
            config["rope_scaling"] = scaling;
        }
        self.write_family(&mut config);
        config
    }

    /// The fields that only some families have.
    fn write_family(&self, config: &mut Value) {
        let tokens = self.sliding_window.map(|window| window.tokens);
        match self.family {
            Family::Llama => {
                config["attention_bias"] = json!(false);
                config["mlp_bias"] = json!(false);
            }
            Family::Mistral => config["sliding_window"] = json!(tokens),
            Family::Qwen2 | Family::Qwen3 => {
                let full = self.num_hidden_layers;
                let first = self.sliding_window.map_or(full, |window| window.first_layer);
                config["use_sliding_window"] = json!(tokens.is_some());
                config["sliding_window"] = json!(tokens);
                config["max_window_layers"] = json!(first);
            }
        }
        if self.family == Family::Qwen3 {
            config["attention_bias"] = json!(false);
        }
    }
}

/// The family that `architectures` and `model_type` name; they must not disagree.
fn read_family(fields: &Fields) -> Result<Family, ConfigError> {
    let architecture = fields.get("architectures").and_then(|list| list.get(0)?.as_str());
    let model_type = fields.get("model_type").and_then(Value::as_str);
    let find = |field, value: Option<&str>, name: fn(Family) -> &'static str| match value {
        None => Ok(None),
        Some(value) => match Family::ALL.into_iter().find(|&family| name(family) == value) {
            Some(family) => Ok(Some(family)),
            None => Err(ConfigError::Architecture { field, value: value.to_owned() }),
        },
    };
    let of_type = find("model_type", model_type, Family::model_type)?;
    let of_architecture = find("architectures", architecture, Family::architecture)?;
    match (of_type, of_architecture) {
        (None, None) => Err(ConfigError::Missing("model_type")),
        (Some(a), Some(b)) if a != b => Err(ConfigError::Invalid {
            field: "architectures",
            value: format!("[\"{}\"]", b.architecture()),
            expected: "of the family that `model_type` names",
        }),
        (Some(family), _) | (None, Some(family)) => Ok(family),
    }
}

fn refuse_other_arithmetic(fields: &Fields, family: Family) -> Result<(), ConfigError> {
    let refuse =
        |field, value: &Value| Err(ConfigError::Unsupported { field, value: value.to_string() });
    for field in ["attention_bias", "mlp_bias"] {
        // Qwen2 has no such field: its biases are always there.
        if let Some(value) = fields.get(field)
            && !matches!(value, Value::Null | Value::Bool(false))
            && family != Family::Qwen2
        {
            return refuse(field, value);
        }
    }
    if let Some(value) = fields.get("hidden_act")
        && !matches!(value.as_str(), Some("silu" | "swish"))
    {
        return refuse("hidden_act", value);
    }
    for field in ["num_experts", "num_local_experts", "num_experts_per_tok", "quantization_config"]
    {
        if let Some(value) = fields.get(field)
            && !value.is_null()
        {
            return refuse(field, value);
        }
    }
    if let Some(value) = fields.get("partial_rotary_factor")
        && !(value.is_null() || value.as_f64() == Some(1.0))
    {
        return refuse("partial_rotary_factor", value);
    }
    Ok(())
}

/// The sliding window of a config. Windows are refused where full layers follow sliding ones.
fn read_window(
    fields: &Fields,
    family: Family,
    layers: usize,
) -> Result<Option<SlidingWindow>, ConfigError> {
    let window = |first_layer| {
        let tokens = size_or_none(fields, "sliding_window")?;
        Ok(tokens.map(|tokens| SlidingWindow { tokens, first_layer }))
    };
    let slides = match family {
        Family::Llama => false,
        // Where the field is absent, `transformers` takes that of the first Mistral.
        Family::Mistral if !fields.contains_key("sliding_window") => {
            return Ok(Some(SlidingWindow { tokens: 4096, first_layer: 0 }));
        }
        Family::Mistral => return window(0),
        Family::Qwen2 | Family::Qwen3 => flag(fields, "use_sliding_window")?,
    };
    let full = match fields.get("max_window_layers") {
        None | Some(Value::Null) => 28,
        Some(value) => {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count.ok_or_else(|| ConfigError::Invalid {
                field: "max_window_layers",
                value: value.to_string(),
                expected: "a count of layers",
            })?
        }
    };
    let first = match fields.get("layer_types") {
        None | Some(Value::Null) => full,
        Some(list) => first_sliding_layer(list, layers, slides)?,
    };
    if slides && first < layers { window(first) } else { Ok(None) }
}

/// The first sliding layer of `layer_types`: full layers, then sliding ones if any slide.
fn first_sliding_layer(list: &Value, layers: usize, slides: bool) -> Result<usize, ConfigError> {
    let refuse =
        || ConfigError::Unsupported { field: "layer_types", value: shortened(&list.to_string()) };
    let list = list.as_array().filter(|list| list.len() == layers).ok_or_else(refuse)?;
    let first = list.iter().take_while(|kind| *kind == "full_attention").count();
    let rest = &list[first..];
    let fits = rest.iter().all(|kind| *kind == "sliding_attention");
    if fits && (slides || rest.is_empty()) { Ok(first) } else { Err(refuse()) }
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The base of the rotary embedding, in its newer places first.
fn rope_theta(fields: &Fields) -> Result<f64, ConfigError> {
    for place in ["rope_scaling", "rope_parameters"] {
        if let Some(Value::Object(rope)) = fields.get(place)
            && let Some(theta) = positive(rope, "rope_theta")?
        {
            return Ok(theta);
        }
    }
    Ok(positive(fields, "rope_theta")?.unwrap_or(10_000.0))
}
