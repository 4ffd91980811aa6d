//! The text of a `config.json`: what is read is a model whose shapes can be computed, and is the same when
//! it is written and read again.
#![no_main]

use bstar_model::config::ModelConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(config) = ModelConfig::from_json(text) else { return };
    let shapes = config.tensor_shapes();
    let numbers: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(numbers, config.parameter_count());
    assert_eq!(config.rotary_frequencies().len(), config.head_dim / 2);
    assert!((0..config.num_hidden_layers).all(|layer| config.window(layer) > 0));
    let written = config.to_json().to_string();
    let again = ModelConfig::from_json(written.as_bytes());
    assert!(again.is_ok_and(|again| again == config), "{written}");
});
