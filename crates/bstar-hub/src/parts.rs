//! Which files of a repository make up a model, or an adapter.
//!
//! Repositories hold much beside it: other formats of the same weights, pictures, scripts. What is
//! fetched is the configs, the files of the tokenizer, and the weights as safetensors.

use crate::error::HubError;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The config of a model; an adapter has none.
pub const CONFIG: &str = "config.json";
/// The config of an adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The weights of a model in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Which file holds which tensor, where there are several.
pub const INDEX: &str = "model.safetensors.index.json";
/// The factors of an adapter.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// Files that a model may have beside [`CONFIG`] and weights: how it ends, tokenizer, chat template.
pub const BESIDE: [&str; 9] = [
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// What has to be in a folder, one of each row.
const TOKENIZERS: [&[&str]; 3] =
    [&["tokenizer.json"], &["vocab.json", "merges.txt"], &["tokenizer.model"]];

/// What a folder lacks to be a whole model or adapter; nothing if it is one.
pub fn lacking(folder: &Path) -> Result<Vec<String>, HubError> {
    // Links of a cache can point at nothing; those count as absent.
    let has = |name: &str| folder.join(name).exists();
    let mut lacking = Vec::new();
    let mut need = |name: &str| {
        if !has(name) {
            lacking.push(name.to_owned());
        }
    };
    if has(ADAPTER_CONFIG) && !has(CONFIG) {
        need(ADAPTER_WEIGHTS);
        return Ok(lacking);
    }
    need(CONFIG);
    if !TOKENIZERS.iter().any(|files| files.iter().all(|file| has(file))) {
        need(TOKENIZERS[0][0]);
    }
    if has(INDEX) && !has(WEIGHTS) {
        shards(&folder.join(INDEX))?.iter().for_each(|shard| need(shard));
    } else {
        need(WEIGHTS);
    }
    Ok(lacking)
}

/// The files of a repository to fetch first, in this order: all that is small. The weights follow
/// from them.
pub(crate) fn small_files<'a>(listed: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let is_small =
        |name: &&str| [CONFIG, ADAPTER_CONFIG, INDEX].contains(name) || BESIDE.contains(name);
    listed.iter().copied().filter(is_small).collect()
}

/// The files of weights, once the small ones are in `folder`.
pub(crate) fn weight_files(
    listed: &BTreeSet<&str>,
    folder: &Path,
) -> Result<Vec<String>, HubError> {
    if !listed.contains(CONFIG) && listed.contains(ADAPTER_CONFIG) {
        return Ok(vec![ADAPTER_WEIGHTS.to_owned()]);
    }
    if listed.contains(INDEX) && !listed.contains(WEIGHTS) {
        return shards(&folder.join(INDEX));
    }
    Ok(vec![WEIGHTS.to_owned()])
}

/// The files that an index names.
fn shards(index: &Path) -> Result<Vec<String>, HubError> {
    let broken =
        |reason: &str| HubError::Index { path: index.to_owned(), reason: reason.to_owned() };
    let text = std::fs::read(index).map_err(|error| broken(&error.to_string()))?;
    let index: Value = serde_json::from_slice(&text).map_err(|error| broken(&error.to_string()))?;
    let map = index["weight_map"].as_object().ok_or_else(|| broken("it has no `weight_map`"))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().ok_or_else(|| broken("a file name is not a string"))?;
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(broken("a file name leads out of the folder"));
        }
        names.insert(name.to_owned());
    }
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(lacking(folder.path()).unwrap(), expected);
    }

    #[test]
    fn what_a_model_lacks_is_named() {
        check(&[], &["config.json", "tokenizer.json", "model.safetensors"]);
        let two = [("vocab.json", ""), ("merges.txt", "")];
        check(&two, &["config.json", "model.safetensors"]);
        check(&[two[0], ("model.safetensors", "")], &["config.json", "tokenizer.json"]);
        check(&[("config.json", ""), ("tokenizer.model", ""), ("model.safetensors", "")], &[]);
        let index = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
        let sharded = [("config.json", ""), ("tokenizer.json", ""), (INDEX, index)];
        check(&sharded, &["m-1.safetensors", "m-2.safetensors"]);
        let one = [&sharded[..], &[("m-1.safetensors", "")]].concat();
        check(&one, &["m-2.safetensors"]);
    }

    #[test]
    fn an_adapter_has_no_tokenizer_and_no_model() {
        check(&[(ADAPTER_CONFIG, "")], &[ADAPTER_WEIGHTS]);
        check(&[(ADAPTER_CONFIG, ""), (ADAPTER_WEIGHTS, "")], &[]);
    }

    #[test]
    fn an_index_that_leads_out_of_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in [r#"{"weight_map": {"a": "../b"}}"#, r#"{"weight_map": {"a": 1}}"#, "{}", "{"] {
            std::fs::write(folder.path().join(INDEX), text).unwrap();
            let error = lacking(folder.path()).unwrap_err().to_string();
            assert!(error.contains(INDEX), "{error}");
        }
    }
}
