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

#[test]
fn a_vocabulary_with_merges_gives_the_tokens_of_transformers() {
    let Some(folder) = shared("tokenizers/qwen2.5") else { return };
    let unpacked = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        let packed = std::fs::File::open(folder.join(format!("{name}.gz"))).unwrap();
        let mut file = std::fs::File::create(unpacked.path().join(name)).unwrap();
        std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut file).unwrap();
    }
    for name in ["tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"] {
        std::fs::copy(folder.join(name), unpacked.path().join(name)).unwrap();
    }
    let tokenizer = Tokenizer::load(unpacked.path(), &[]).unwrap();
    assert_eq!(tokenizer.eos(), 151_645);
    assert_eq!(tokenizer.vocab_size(), 151_665);
    for (text, expected) in [
        ("Hello world", &[9707, 1879][..]),
        ("3 + 4 = 7", &[18, 488, 220, 19, 284, 220, 22]),
        (
            "def f(x):\n    return x  # tab\t",
            &[750, 282, 2075, 982, 262, 470, 856, 220, 671, 5651, 197],
        ),
        ("naïve — 你好", &[3376, 37572, 586, 1959, 220, 108_386]),
        (
            "It's 12,345.67!\r\n\n  end",
            &[2132, 594, 220, 16, 17, 11, 18, 19, 20, 13, 21, 22, 0, 80823, 220, 835],
        ),
        ("<|im_end|>", &[27, 91, 318, 6213, 91, 29]),
    ] {
        let tokens = tokenizer.encode_response(text).unwrap();
        assert_eq!(tokens, expected, "{text}");
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    }
}
