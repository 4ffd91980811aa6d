//! A model and tokenizers that other people made.
//!
//! They lie in the folder that `BSTAR_SHARED` names, or in `shared` beside the checkout; without
//! them these tests say that they were skipped.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]
#![expect(clippy::print_stderr, reason = "a test that was skipped says so")]

mod goldens;

use bstar_core::RngKey;
use bstar_core::ports::Decoding;
use bstar_model::decode::{DecodeRequest, Decoder};
use bstar_model::tokenizer::Tokenizer;
use bstar_model::weights::Weights;
use goldens::Golden;
use std::path::{Path, PathBuf};

fn shared(folder: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("BSTAR_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("data").join(folder);
    if !folder.exists() {
        eprintln!("skipped: no {} in the shared data", folder.display());
    }
    folder.exists().then_some(folder)
}

#[test]
fn greedy_tokens_of_a_model_that_is_not_ours_are_those_of_transformers() {
    let Some(folder) = shared("tiny_llama_digits") else { return };
    let weights = Weights::load(&folder).unwrap();
    let golden = std::fs::read(Golden::folder("digits.json")).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&golden).unwrap();
    assert_eq!(rows.len(), 64);
    let tokens = |row: &serde_json::Value, field: &str| -> Vec<u32> {
        serde_json::from_value(row[field].clone()).unwrap()
    };
    let prompts: Vec<_> = rows.iter().map(|row| tokens(row, "prompt")).collect();
    let keys = || vec![RngKey::from_seed(1)];
    let requests: Vec<_> =
        prompts.iter().map(|prompt| DecodeRequest { prompt, keys: keys() }).collect();
    let eos = &weights.config.eos_token_ids;
    let decoding = Decoding::greedy(16);
    let drawn = Decoder::new(&weights).generate(&requests, &decoding, eos, &mut |_| Ok(()));
    for (row, drawn) in rows.iter().zip(drawn.unwrap()) {
        assert_eq!(drawn[0].tokens, tokens(row, "response"), "{row}");
    }
}

#[test]
fn tokenizers_that_are_not_ours_load_and_keep_texts() {
    for name in ["tokenizers/phi-2", "tokenizers/phi-3-mini"] {
        let Some(folder) = shared(name) else { return };
        let tokenizer = Tokenizer::load(&folder, &[]).unwrap();
        for text in
            ["3 + 4 = 7", "def f(x):\n    return x  # tab\t", "naïve Ωmega — 你好 🙂", "<s>"]
        {
            let tokens = tokenizer.encode_response(text).unwrap();
            assert_eq!(tokenizer.decode(&tokens).unwrap(), text, "{name}");
        }
    }
}
