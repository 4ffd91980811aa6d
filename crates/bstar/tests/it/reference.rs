//! The keys of a config and what is written about them: every key is described, the reference is
//! fresh, and a key that a text names exists.

use crate::binary::{Bench, repository};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn schema() -> Value {
    Bench::new().good("config schema").json()
}

/// Calls `visit` with the dotted path of every key and its property.
fn walk<'a>(
    schema: &'a Value,
    at: &'a Value,
    prefix: &str,
    visit: &mut dyn FnMut(&str, &'a Value),
) {
    if let Some(pointer) = at["$ref"].as_str() {
        let target = schema.pointer(pointer.trim_start_matches('#')).expect(pointer);
        return walk(schema, target, prefix, visit);
    }
    for branch in at["anyOf"].as_array().into_iter().flatten() {
        walk(schema, branch, prefix, visit);
    }
    for (name, property) in at["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        visit(&path, property);
        walk(schema, property, &path, visit);
    }
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    let schema = schema();
    let mut seen = 0;
    walk(&schema, &schema, "", &mut |path, property| {
        let text = property["description"].as_str().unwrap_or_default();
        assert!(text.len() > 8 && text.ends_with('.'), "`{path}` has no description: {text:?}");
        seen += 1;
    });
    assert!(seen > 90, "only {seen} keys");
}

#[test]
fn no_key_of_a_config_file_is_needed_and_defaults_are_those_of_show() {
    let schema = schema();
    let shown = Bench::new().good("config show --json").json();
    walk(&schema, &schema, "", &mut |path, property| {
        let value = shown.pointer(&format!("/{}", path.replace('.', "/")));
        if let Some(value) = value.filter(|value| !value.is_object()) {
            assert_eq!(&property["default"], value, "{path}");
        }
    });
    assert!(schema.get("required").is_none());
    assert!(schema["$defs"]["TrainConfig"].get("required").is_none());
}

#[test]
fn the_reference_is_fresh() {
    let path = repository().join("docs/reference/config.md");
    let printed = Bench::new().good("config reference").stdout;
    if std::env::var_os("BSTAR_BLESS").is_some() {
        std::fs::write(&path, &printed).expect("the reference can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == printed, "docs/reference/config.md is stale: run the tests with BSTAR_BLESS=1");
    walk(&schema(), &schema(), "", &mut |key, _| {
        let is_there = printed.contains(&format!("### `{key}`\n"))
            || printed.contains(&format!("## `[{key}]`\n"));
        assert!(is_there, "the reference lacks `{key}`");
    });
}

/// Texts that a user reads: documents, configs, and sources with their messages.
fn texts() -> Vec<(PathBuf, String)> {
    fn add(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    add(&path, found);
                }
            } else if path.extension().is_some_and(|e| e == "rs" || e == "md" || e == "toml") {
                let text = std::fs::read_to_string(&path).expect("a text");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["crates", "docs", "configs"] {
        add(&repository().join(folder), &mut found);
    }
    found.retain(|(path, _)| !path.components().any(|part| part.as_os_str() == "tests"));
    let readme = repository().join("README.md");
    found.push((readme.clone(), std::fs::read_to_string(readme).expect("a README")));
    found
}

/// The dotted keys that a line names: in backticks (perhaps with ` = value`), after `--set`, or any
/// word that begins with `task.files.` or `task.arithmetic.`.
fn keys_of<'a>(line: &'a str, sections: &BTreeSet<String>) -> Vec<&'a str> {
    let quoted = line.split('`').skip(1).step_by(2).map(|text| text.split(" = ").next());
    let set = line.split("--set ").skip(1).map(|text| text.split('=').next());
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let plain = line.split(move |c| !is_part(c)).map(|word| word.trim_end_matches('.'));
    let plain = plain.filter(|w| w.starts_with("task.files.") || w.starts_with("task.arithmetic."));
    let named = quoted.chain(set).flatten().filter(move |text| text.chars().all(is_part));
    // Names of files, and of tensors as Hugging Face calls them.
    let is_other = |text: &str| {
        let end = text.rsplit('.').next().unwrap_or_default();
        matches!(
            end,
            "rs" | "md" | "toml" | "json" | "jsonl" | "parquet" | "safetensors" | "weight"
        )
    };
    let of_section = |text: &&str| {
        text.split_once('.')
            .is_some_and(|(first, rest)| sections.contains(first) && !rest.is_empty())
    };
    named.chain(plain).filter(of_section).filter(|text| !is_other(text)).collect()
}

#[test]
fn every_key_that_a_text_names_exists() {
    let schema = schema();
    let mut known = BTreeSet::new();
    walk(&schema, &schema, "", &mut |path, _| {
        known.insert(path.to_owned());
    });
    let sections: BTreeSet<String> =
        known.iter().filter_map(|key| Some(key.split_once('.')?.0.to_owned())).collect();
    let mut named = 0;
    for (path, text) in texts() {
        for (index, line) in text.lines().enumerate() {
            for key in keys_of(line, &sections) {
                let place = format!("{}:{}", path.display(), index + 1);
                assert!(known.contains(key), "{place} names `{key}`, and there is no such key");
                named += 1;
            }
        }
    }
    assert!(named > 100, "only {named} keys are named");
}

#[test]
fn keys_are_found_where_they_stand() {
    let sections = BTreeSet::from(["train".to_owned(), "task".to_owned()]);
    for (line, keys) in [
        ("lower `train.steps` or `train.x = 3`", vec!["train.steps", "train.x"]),
        ("`task.*`, `train.rs`, `train.0.weight`, `self.train.steps`, train.steps", vec![]),
        ("set task.files.trian.", vec!["task.files.trian"]),
        ("run --set train.k=3", vec!["train.k"]),
    ] {
        assert_eq!(keys_of(line, &sections), keys, "{line}");
    }
}
