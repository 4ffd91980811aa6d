//! What configs are read, what is refused, and by which words.

use super::*;
use crate::size::ModelSize;
use serde_json::json;

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
    let families = "Llama, Mistral, Qwen2 and Qwen3 can be loaded";
    for (field, value, shown) in [
        ("model_type", json!("gemma2"), "gemma2"),
        ("architectures", json!(["GPT2LMHeadModel"]), "GPT2LMHeadModel"),
        ("architectures", json!(["Qwen3MoeForCausalLM"]), "Qwen3MoeForCausalLM"),
    ] {
        check(field, value, &format!("the model config has `{field}` = `{shown}`; {families}"));
    }
    check(
        "architectures",
        json!(["MistralForCausalLM"]),
        "the model config has `architectures` = [\"MistralForCausalLM\"], but it must be of the \
         family that `model_type` names",
    );
    for kind in ["dynamic", "yarn", "longrope", "su"] {
        let rope = json!({"rope_type": kind, "factor": 8.0});
        let message =
            format!("the model config asks for `rope_scaling` = {rope}, which is not supported");
        check("rope_scaling", rope, &message);
    }
    let rope = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0});
    check("rope_scaling", rope, "the model config has no `high_freq_factor`");
    check("rope_scaling", json!({"type": "linear"}), "the model config has no `factor`");
    check(
        "rope_scaling",
        json!({"type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}),
        "the model config has `high_freq_factor` = 4, but it must be above `low_freq_factor`",
    );
    check(
        "num_local_experts",
        json!(8),
        "the model config asks for `num_local_experts` = 8, which is not supported",
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

/// The example config as one of another family, with more fields.
fn of_family(family: Family, more: &Value) -> Result<ModelConfig, ConfigError> {
    let mut config: Value = serde_json::from_str(SMOLLM).unwrap();
    config["architectures"] = json!([family.architecture()]);
    config["model_type"] = json!(family.model_type());
    config["head_dim"] = json!(6);
    for (field, value) in more.as_object().unwrap() {
        config[field] = value.clone();
    }
    ModelConfig::from_json(config.to_string().as_bytes())
}

#[test]
fn windows_are_those_of_the_family() {
    for (family, more, expected) in [
        (Family::Llama, json!({"sliding_window": 9}), [usize::MAX; 2]),
        (Family::Mistral, json!({"sliding_window": 9}), [9; 2]),
        (Family::Mistral, json!({"sliding_window": null}), [usize::MAX; 2]),
        (Family::Mistral, json!({}), [4096; 2]),
        (Family::Qwen2, json!({"sliding_window": 9}), [usize::MAX; 2]),
        (
            Family::Qwen2,
            json!({"use_sliding_window": true, "sliding_window": 9, "max_window_layers": 1}),
            [usize::MAX, 9],
        ),
        (
            Family::Qwen3,
            json!({"use_sliding_window": true, "sliding_window": 9, "max_window_layers": 2,
                "layer_types": ["full_attention", "sliding_attention"]}),
            [usize::MAX, 9],
        ),
    ] {
        let config = of_family(family, &more).unwrap();
        assert_eq!([0, 1].map(|layer| config.window(layer)), expected, "{more}");
        let again = ModelConfig::from_json(config.to_json().to_string().as_bytes()).unwrap();
        assert_eq!(again, config);
    }
    for layers in [
        json!(["sliding_attention", "full_attention"]),
        json!(["full_attention"]),
        json!(["full_attention", "chunked_attention"]),
    ] {
        let more = json!({"use_sliding_window": true, "layer_types": layers});
        let error = of_family(Family::Qwen2, &more).unwrap_err().to_string();
        assert!(error.contains("asks for `layer_types`"), "{error}");
    }
}

#[test]
fn families_have_their_tensors_and_needed_fields() {
    for (family, per_layer) in
        [(Family::Llama, 9), (Family::Mistral, 9), (Family::Qwen2, 12), (Family::Qwen3, 11)]
    {
        let config = of_family(family, &json!({})).unwrap();
        assert_eq!(config.tensor_shapes().len(), 2 + 2 * per_layer, "{family:?}");
        assert_eq!(config.family, family);
    }
    let error = of_family(Family::Qwen3, &json!({"head_dim": null})).unwrap_err();
    assert_eq!(error.to_string(), "the model config has no `head_dim`");
    let error = of_family(Family::Qwen2, &json!({"num_key_value_heads": null})).unwrap_err();
    assert_eq!(error.to_string(), "the model config has no `num_key_value_heads`");
    let error = of_family(Family::Qwen3, &json!({"attention_bias": true})).unwrap_err();
    let message = "the model config asks for `attention_bias` = true, which is not supported";
    assert_eq!(error.to_string(), message);
}

#[test]
fn scalings_survive_the_round_trip_through_json() {
    for (field, rope) in [
        ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        (
            "rope_parameters",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
                "rope_theta": 5e5}),
        ),
    ] {
        let mut config: Value = serde_json::from_str(SMOLLM).unwrap();
        config[field] = rope;
        let config = ModelConfig::from_json(config.to_string().as_bytes()).unwrap();
        assert_ne!(config.rope_scaling, RopeScaling::Unscaled);
        let again = ModelConfig::from_json(config.to_json().to_string().as_bytes()).unwrap();
        assert_eq!(again, config);
    }
}
