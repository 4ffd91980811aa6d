//! A `tokenizer.json` for folders that have none, from the `vocab.json` and `merges.txt` of byte-level
//! byte-pair encoding.
//!
//! Two files do not say how a text is cut before it is encoded; `tokenizer_class` in
//! `tokenizer_config.json` does, and a class that is not known here is refused rather than guessed.
//! Added tokens come from `added_tokens_decoder` of that file, or from `added_tokens.json` and
//! `special_tokens_map.json`. The result is what `transformers` makes of the same files.

use super::TokenizerError;
use crate::files;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const VOCABULARY: &str = "vocab.json";
pub(super) const MERGES: &str = "merges.txt";
const CONFIG: &str = "tokenizer_config.json";
const ADDED: &str = "added_tokens.json";
const SPECIAL: &str = "special_tokens_map.json";

/// The text of a `tokenizer.json`. `found` holds the other files of the folder by name.
pub(super) fn tokenizer_json(
    dir: &Path,
    found: &BTreeMap<&'static str, Vec<u8>>,
) -> Result<Vec<u8>, TokenizerError> {
    let object = |name: &'static str| match found.get(name) {
        None => Ok(Map::new()),
        Some(text) => parse_object(dir, name, text),
    };
    let (config, added, special) = (object(CONFIG)?, object(ADDED)?, object(SPECIAL)?);
    let style = Style::of(dir, &config)?;
    let vocabulary = parse_object(dir, VOCABULARY, &files::read(&dir.join(VOCABULARY))?)?;
    let merges = parse_merges(dir, &files::read(&dir.join(MERGES))?, &vocabulary)?;
    let tokens = added_tokens(dir, &vocabulary, &config, &added, &special)?;
    let prefix = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    let (normalizer, cut) = style.parts(prefix);
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": false,
        "use_regex": true});
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens,
        "normalizer": normalizer,
        "pre_tokenizer": cut,
        "post_processor": bytes,
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    Ok(serde_json::to_vec(&file).expect("a JSON value can be written"))
}

/// Refuses a tokenizer whose added tokens got other ids than the files say: models were trained with
/// those.
pub(super) fn check_ids(
    dir: &Path,
    json: &[u8],
    tokenizer: &tokenizers::Tokenizer,
) -> Result<(), TokenizerError> {
    let file: Value = serde_json::from_slice(json).expect("made here");
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().unwrap_or_default();
        let found = tokenizer.token_to_id(text).map(u64::from);
        if found != token["id"].as_u64() {
            let reason = format!(
                "the added token {text:?} has the id {}, which does not follow the vocabulary",
                token["id"]
            );
            return Err(broken(dir, CONFIG, reason));
        }
    }
    Ok(())
}

/// How a text is cut before it is encoded.
enum Style {
    /// GPT-2: the expression that the library has built in.
    Gpt2,
    /// Qwen: an expression of its own, after composition of characters (NFC).
    Qwen2,
}

impl Style {
    fn of(dir: &Path, config: &Map<String, Value>) -> Result<Self, TokenizerError> {
        let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or(GPT2);
        match class.strip_suffix("Fast").unwrap_or(class) {
            GPT2 | "CodeGenTokenizer" => Ok(Self::Gpt2),
            "Qwen2Tokenizer" => Ok(Self::Qwen2),
            _ => Err(TokenizerError::UnknownClass { dir: dir.into(), class: class.into() }),
        }
    }

    /// The normalizer and the pre-tokenizer.
    fn parts(&self, prefix: bool) -> (Value, Value) {
        let bytes = |regex: bool| {
            json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": false,
                "use_regex": regex})
        };
        match self {
            Self::Gpt2 => (Value::Null, bytes(true)),
            Self::Qwen2 => {
                let split = json!({"type": "Split", "pattern": {"Regex": QWEN_CUT},
                    "behavior": "Isolated", "invert": false});
                let cut = json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]});
                (json!({"type": "NFC"}), cut)
            }
        }
    }
}

const GPT2: &str = "GPT2Tokenizer";

/// Contractions, words with what stands before them, single digits, signs, line ends, spaces.
const QWEN_CUT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The added tokens as `tokenizer.json` has them, by id.
fn added_tokens(
    dir: &Path,
    vocabulary: &Map<String, Value>,
    config: &Map<String, Value>,
    added: &Map<String, Value>,
    special: &Map<String, Value>,
) -> Result<Vec<Value>, TokenizerError> {
    let mut tokens = BTreeMap::new();
    if let Some(decoder) = config.get("added_tokens_decoder").and_then(Value::as_object) {
        for (id, token) in decoder {
            let wrong = |what: &str| broken(dir, CONFIG, format!("added token {id}: {what}"));
            let id: u32 = id.parse().map_err(|_| wrong("its id is no number"))?;
            let text = token["content"].as_str().filter(|text| !text.is_empty());
            let text = text.ok_or_else(|| wrong("it has no text"))?;
            tokens.insert(id, added_token(id, text, token));
        }
    } else {
        for (text, id) in added {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.filter(|_| !text.is_empty());
            let id = id.ok_or_else(|| broken(dir, ADDED, format!("{text:?} has no id")))?;
            // The slow tokenizers take every token of this file from the text as it is.
            tokens.insert(id, added_token(id, text, &json!({"special": false})));
        }
    }
    for token in named_tokens(config).chain(named_tokens(special)) {
        let Some(text) = token.as_str().or_else(|| token["content"].as_str()) else { continue };
        let known = tokens.values().find(|known| known["content"] == text);
        let id = known.map_or_else(|| vocabulary.get(text), |known| known.get("id"));
        if let Some(id) = id.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()) {
            let token = tokens.entry(id).or_insert_with(|| added_token(id, text, token));
            token["special"] = true.into();
        }
    }
    Ok(tokens.into_values().collect())
}

/// The tokens that have a role.
fn named_tokens(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let roles = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"];
    let more = fields.get("additional_special_tokens").and_then(Value::as_array);
    roles.into_iter().filter_map(|role| fields.get(role)).chain(more.into_iter().flatten())
}

fn added_token(id: u32, text: &str, flags: &Value) -> Value {
    let flag = |name: &str| flags[name].as_bool();
    let special = flag("special").unwrap_or(true);
    json!({
        "id": id,
        "content": text,
        "single_word": flag("single_word").unwrap_or(false),
        "lstrip": flag("lstrip").unwrap_or(false),
        "rstrip": flag("rstrip").unwrap_or(false),
        "normalized": flag("normalized").unwrap_or(!special),
        "special": special,
    })
}

/// Pairs of `merges.txt`, a line each, after a line with the version. The library panics on some
/// whose result is no token, so that is looked at here.
fn parse_merges(
    dir: &Path,
    text: &[u8],
    vocabulary: &Map<String, Value>,
) -> Result<Vec<[String; 2]>, TokenizerError> {
    let text = std::str::from_utf8(text).map_err(|error| broken(dir, MERGES, error.to_string()))?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with("#version") {
            continue;
        }
        let number = number + 1;
        let [left, right] = line.split(' ').collect::<Vec<_>>()[..] else {
            let reason = format!("line {number} is not two tokens and a space");
            return Err(broken(dir, MERGES, reason));
        };
        for token in [left, right, &[left, right].concat()] {
            if !vocabulary.contains_key(token) {
                let reason = format!("line {number} has {token:?}, which {VOCABULARY} has not");
                return Err(broken(dir, MERGES, reason));
            }
        }
        merges.push([left.to_owned(), right.to_owned()]);
    }
    Ok(merges)
}

fn parse_object(dir: &Path, name: &str, text: &[u8]) -> Result<Map<String, Value>, TokenizerError> {
    serde_json::from_slice(text).map_err(|error| broken(dir, name, error.to_string()))
}

fn broken(dir: &Path, name: &str, reason: String) -> TokenizerError {
    TokenizerError::Broken { path: dir.join(name), reason }
}
