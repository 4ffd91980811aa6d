//! The reference of all keys as Markdown: `docs/reference/config.md`.
//!
//! Everything in it comes from the schema (doc comments), the defaults, the presets and the table of
//! ranges, so that it cannot disagree with them. A test compares the file with [`render`].

use super::layers::{self, PRESET_KEYS, preset_table};
use super::ranges::Range;
use super::schema;
use bstar_core::preset::Preset;
use bstar_model::size::ModelSize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const OPENING: &str = "\
# Config reference

Every key of a config file, with what it may be, its default and its meaning. This page is what
`bstar config reference` prints; it is generated and not edited by hand.

A config file is TOML and needs only what differs from the defaults; `bstar init` writes one with
everything in it. Later wins: defaults, then the preset, then the file, then `--set key=value` on the
command line, such as `--set sample.k=16` or `--set method=sft`. `bstar config show FILE` prints the
values that result; `bstar config schema` prints the JSON Schema for editors.

Relative paths (`model.folder` and the files of `[task.files]`) start at the folder of the config file
that names them. Given with `--set` they start at the working directory.
";

/// The whole page.
pub(crate) fn render() -> String {
    let schema = schema::of_files();
    let page = Page::new(&schema);
    let mut out = String::from(OPENING);
    out.push_str("\n## Top level\n");
    let top = properties(&schema).expect("a config is a table");
    page.keys(&mut out, "", top);
    for (name, property) in top {
        page.table(&mut out, name, property);
    }
    out
}

/// What is looked up for each key.
struct Page<'a> {
    schema: &'a Value,
    ranges: BTreeMap<&'static str, Range>,
    /// For each preset its name and its values as `section.key`.
    presets: Vec<(&'static str, BTreeMap<String, Value>)>,
}

impl<'a> Page<'a> {
    fn new(schema: &'a Value) -> Self {
        let config = layers::load(None, &[]).expect("the embedded defaults resolve").config;
        let ranges = config.numbers().into_iter().map(|(key, _, range)| (key, range)).collect();
        let of_preset = |preset: Preset| {
            let table = serde_json::to_value(preset_table(&preset.values())).expect("JSON");
            let value =
                |(section, key, _)| (format!("{section}.{key}"), table[section][key].clone());
            (preset.name(), PRESET_KEYS.map(value).into())
        };
        let mut presets: Vec<_> = Preset::ALL.map(of_preset).into();
        presets.sort_by_key(|(name, _)| *name != Preset::Recommended.name());
        Self { schema, ranges, presets }
    }

    /// A table with its keys, then the tables inside it; nothing for a key that holds a value.
    fn table(&self, out: &mut String, path: &str, property: &Value) {
        let inner = resolve(property, self.schema);
        let Some(keys) = properties(inner) else { return };
        write!(out, "\n## `[{path}]`\n").expect("text");
        for text in [description(property), description(inner)].into_iter().flatten() {
            write!(out, "\n{text}\n").expect("text");
        }
        self.keys(out, &format!("{path}."), keys);
        for (name, property) in keys {
            self.table(out, &format!("{path}.{name}"), property);
        }
    }

    /// The keys of a table that hold values.
    fn keys(&self, out: &mut String, prefix: &str, keys: &Map<String, Value>) {
        for (name, property) in keys {
            let inner = resolve(property, self.schema);
            if properties(inner).is_none() {
                self.key(out, &format!("{prefix}{name}"), property, inner);
            }
        }
    }

    fn key(&self, out: &mut String, key: &str, property: &Value, inner: &Value) {
        let mut kind = self.kind(property);
        if let Some(range) = self.ranges.get(key).map(|range| range.words())
            && !range.is_empty()
        {
            write!(kind, " {range}").expect("text");
        }
        let default = self.default(key, property);
        write!(out, "\n### `{key}`\n\n{}; {default}.\n", capitalised(&kind)).expect("text");
        let text = description(property).expect("every key has a doc comment");
        let text = text.trim_end_matches(" The preset gives the default.");
        write!(out, "\n{text}\n").expect("text");
        let items = inner.get("items").map(|items| resolve(items, self.schema));
        let variants = variants(items.unwrap_or(inner));
        if key == "model.size" {
            out.push_str(&sizes());
        } else if !variants.is_empty() {
            out.push('\n');
        } else if inner.get("oneOf").is_some() {
            writeln!(out, "\n{}", description(inner).unwrap_or_default()).expect("text");
        }
        for variant in variants {
            let text = description(variant).unwrap_or_default().replace('\n', "\n  ");
            let text = without_spec(text);
            writeln!(out, "- {}: {text}", literal(variant).unwrap_or_default()).expect("text");
        }
    }

    /// The default of a key, in words.
    fn default(&self, key: &str, property: &Value) -> String {
        let (_, recommended) = &self.presets[0];
        let Some(value) = recommended.get(key) else {
            return match property.get("default") {
                Some(value) => format!("default `{}`", toml(value)),
                None => "not set by default".into(),
            };
        };
        let mut others = String::new();
        for (name, values) in &self.presets[1..] {
            if values[key] != *value {
                write!(others, ", `{}` with `{name}`", toml(&values[key])).expect("text");
            }
        }
        format!("default from the preset: `{}`{others}", toml(value))
    }

    /// What a value may be, in words.
    fn kind(&self, schema: &Value) -> String {
        let schema = resolve(schema, self.schema);
        let literals: Vec<String> = variants(schema).into_iter().filter_map(literal).collect();
        if !literals.is_empty() {
            return alternatives(&literals);
        }
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            let names: Vec<String> = names.iter().map(|name| format!("`{}`", toml(name))).collect();
            return alternatives(&names);
        }
        if let Some(branches) = schema.get("oneOf").and_then(Value::as_array) {
            let kinds: Vec<String> = branches.iter().map(|branch| self.kind(branch)).collect();
            let nested = kinds.iter().any(|kind| kind.contains(" or "));
            return if nested { kinds.join(", or ") } else { alternatives(&kinds) };
        }
        let bounds = match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(least), Some(most)) => format!(" from {least} to {most}"),
            _ => String::new(),
        };
        match schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default() {
            "integer" => format!("whole number{bounds}"),
            "number" => "number".into(),
            "boolean" => "`true` or `false`".into(),
            "array" => match self.kind(&schema["items"]).as_str() {
                kind @ ("number" | "whole number" | "text") => format!("list of {kind}s"),
                other => format!("list, each one of {other}"),
            },
            _ => "text".into(),
        }
    }
}

/// The table of named sizes.
fn sizes() -> String {
    const CHARACTERS: usize = 64;
    let mut out = format!(
        "\n| name | width | layers | heads | parameters with a vocabulary of {CHARACTERS} |\n\
         |---|---|---|---|---|\n"
    );
    for size in ModelSize::named() {
        let config = size.config(CHARACTERS, 128, 0);
        let name = size.name().unwrap_or_default();
        let (layers, heads) = (config.num_hidden_layers, config.num_attention_heads);
        let parameters = config.parameter_count();
        writeln!(out, "| `{name}` | {} | {layers} | {heads} | {parameters} |", size.width())
            .expect("text");
    }
    out.push_str(
        "\nA width is a multiple of 16 (of 32 from 128, of 64 from 256) and takes the depth of the \
         largest\nname that is not wider.\n",
    );
    out
}

/// Follows a reference, also through the `anyOf` of a key that may be absent.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let branches = schema.get("anyOf").and_then(Value::as_array);
    if let Some(branch) = branches.and_then(|all| all.iter().find(|one| one["type"] != "null")) {
        return resolve(branch, root);
    }
    match schema.get("$ref").and_then(Value::as_str) {
        Some(target) => root.pointer(target.trim_start_matches('#')).expect("references resolve"),
        None => schema,
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn description(schema: &Value) -> Option<&str> {
    schema.get("description")?.as_str()
}

/// Without the sections of the specification, which only the sources refer to.
fn without_spec(mut text: String) -> String {
    while let Some(start) = text.find(" (spec ") {
        let length = text[start..].find(')').expect("brackets are closed");
        text.replace_range(start..=start + length, "");
    }
    text
}

/// The names that the value of a key may be, in words; none where it is no name.
pub(super) fn values_of(keys: &[&str]) -> Option<String> {
    let schema = super::schema::raw();
    let mut level = &schema;
    for key in keys {
        level = resolve(properties(level)?.get(*key)?, &schema);
    }
    let mut names: Vec<String> = variants(level).into_iter().filter_map(literal).collect();
    for list in [level.get("enum"), level["oneOf"][0].get("enum")].into_iter().flatten() {
        names.extend(list.as_array()?.iter().map(|name| format!("`{}`", toml(name))));
    }
    (!names.is_empty()).then(|| alternatives(&names))
}

/// The variants of an enumeration; none of anything else.
fn variants(schema: &Value) -> Vec<&Value> {
    let branches = schema.get("oneOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    branches.iter().filter(|branch| literal(branch).is_some()).collect()
}

/// How a variant of an enumeration is written, in backticks.
fn literal(variant: &Value) -> Option<String> {
    if let Some(name) = variant.get("const") {
        return Some(format!("`{}`", toml(name)));
    }
    let key = properties(variant)?.keys().next()?;
    Some(format!("`{{ {key} = \"…\" }}`"))
}

/// A value as one would write it in TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// "a, b or c".
fn alternatives(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        words => words.concat(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
