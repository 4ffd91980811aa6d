//! Tokenizers of folders that have a vocabulary and merges instead of a `tokenizer.json`.

#![expect(clippy::unwrap_used, reason = "a file that cannot be written fails the test")]

use bstar_core::{Fault, FaultClass};
use bstar_model::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Letters, a space (as `Ġ`), digits and line ends, and a few merges.
fn folder(config: &Value) -> TempDir {
    let mut vocabulary = serde_json::Map::new();
    let singles = "abcdefghijklmnopqrstuvwxyzĠ0123456789Ċ.'Ã©".chars().map(String::from);
    for token in singles.chain(["ab", "abc", "Ġab", "12", "<end>"].map(String::from)) {
        vocabulary.insert(token, json!(vocabulary.len()));
    }
    let dir = tempfile::tempdir().unwrap();
    let merges = "#version: 0.2\na b\nab c\nĠ ab\n1 2\n";
    fs::write(dir.path().join("vocab.json"), Value::from(vocabulary).to_string()).unwrap();
    fs::write(dir.path().join("merges.txt"), merges).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    dir
}

fn gpt2() -> Value {
    json!({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<end>"})
}

fn check(damage: impl FnOnce(&Path), words: &[&str]) {
    let dir = folder(&gpt2());
    damage(dir.path());
    let fault = Fault::from(Tokenizer::load(dir.path(), &[]).unwrap_err());
    assert_eq!(fault.class, FaultClass::Data);
    assert!(fault.hint.is_some());
    assert!(words.iter().all(|word| fault.message.contains(word)), "{fault}");
}

fn write(name: &'static str, text: &'static str) -> impl FnOnce(&Path) {
    move |dir| fs::write(dir.join(name), text).unwrap()
}

/// The texts of tokens.
fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let tokens = tokenizer.encode_response(text).unwrap();
    tokens.iter().map(|&token| tokenizer.decode(&[token]).unwrap()).collect()
}

#[test]
fn a_vocabulary_with_merges_is_a_tokenizer() {
    let dir = folder(&gpt2());
    let tokenizer = Tokenizer::load(dir.path(), &[]).unwrap();
    assert_eq!(pieces(&tokenizer, "abc ab12"), ["abc", " ab", "12"]);
    assert_eq!(tokenizer.decode(&[tokenizer.eos()]).unwrap(), "", "the end is special");
    let text = "abc 12.\n ab é";
    let tokens = tokenizer.encode_response(text).unwrap();
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    // Saved, it is a plain tokenizer.json that says the same.
    let out = tempfile::tempdir().unwrap();
    tokenizer.save(out.path()).unwrap();
    assert!(out.path().join("tokenizer.json").exists());
    let again = Tokenizer::load(out.path(), &[]).unwrap();
    assert_eq!(again.encode_response(text).unwrap(), tokens);
    assert_eq!(again.eos(), tokenizer.eos());
}

#[test]
fn the_class_says_how_texts_are_cut() {
    let cuts = |class: &str| {
        let dir = folder(&json!({"tokenizer_class": class, "eos_token": "<end>"}));
        pieces(&Tokenizer::load(dir.path(), &[]).unwrap(), "ab12")
    };
    for class in ["GPT2Tokenizer", "GPT2TokenizerFast", "CodeGenTokenizer"] {
        assert_eq!(cuts(class), ["ab", "12"]);
    }
    assert_eq!(cuts("Qwen2Tokenizer"), ["ab", "1", "2"], "digits stand alone");
}

#[test]
fn added_tokens_have_the_ids_of_the_files() {
    let token = json!({"content": "<more>", "special": true});
    let dir = folder(&json!({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<more>",
        "added_tokens_decoder": {"47": token}}));
    let vocabulary = fs::read(dir.path().join("vocab.json")).unwrap();
    let size = serde_json::from_slice::<Value>(&vocabulary).unwrap().as_object().unwrap().len();
    assert_eq!(size, 47);
    assert_eq!(Tokenizer::load(dir.path(), &[]).unwrap().eos(), 47);
    // The older way.
    let dir = folder(&json!({"tokenizer_class": "Qwen2Tokenizer"}));
    fs::write(dir.path().join("added_tokens.json"), r#"{"<more>": 47}"#).unwrap();
    let map = r#"{"eos_token": {"content": "<more>"}}"#;
    fs::write(dir.path().join("special_tokens_map.json"), map).unwrap();
    let tokenizer = Tokenizer::load(dir.path(), &[47]).unwrap();
    assert_eq!(tokenizer.decode(&[0, 47, 1]).unwrap(), "ab", "it is special");
}

#[test]
fn what_is_wrong_is_named_by_file() {
    check(write("merges.txt", "a b c\n"), &["merges.txt", "line 1"]);
    check(write("merges.txt", "a Z\n"), &["merges.txt", "line 1", "\"Z\""]);
    check(write("merges.txt", "\nab abc\n"), &["merges.txt", "line 2", "\"ababc\""]);
    check(write("vocab.json", r#"{"a": -1}"#), &["merges.txt"]);
    check(
        write(
            "tokenizer.json",
            r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}}"#,
        ),
        &["tokenizer.json"],
    );
    check(write("vocab.json", "{"), &["vocab.json"]);
    check(write("vocab.json", "[1]"), &["vocab.json"]);
    check(
        write("tokenizer_config.json", r#"{"tokenizer_class": "BartTokenizer"}"#),
        &["BartTokenizer", "tokenizer.json"],
    );
    check(
        write(
            "tokenizer_config.json",
            r#"{"eos_token": "x", "added_tokens_decoder": {"900": {"content": "x"}}}"#,
        ),
        &["tokenizer_config.json", "900"],
    );
    check(
        |dir| {
            fs::remove_file(dir.join("merges.txt")).unwrap();
            fs::write(dir.join("tokenizer.model"), "").unwrap();
        },
        &["SentencePiece"],
    );
    check(
        |dir| fs::remove_file(dir.join("merges.txt")).unwrap(),
        &["no such file", "tokenizer.json"],
    );
}
