//! Where errors point: a line of a config file, or whoever set a key, and the key that was meant.

use super::{comparison_file, reference};
use bstar_core::{Fault, FaultClass};
use toml::{Table, Value};

/// Likeness above which a key is hardly another one, and above which it may be meant.
pub(super) const ALIKE: f64 = 0.9;
pub(super) const LIKE: f64 = 0.7;
/// How the parser ends what it says of a value that names none of several things.
const NO_NAME: &str = "expected string only";
/// Namesakes in other tables that are worth naming.
const MOST_NAMESAKES: usize = 4;

/// A text that errors point into.
pub(super) struct Source<'a> {
    /// The file's name; none for `--set`.
    pub(super) name: Option<String>,
    pub(super) text: &'a str,
    /// Who gives what is in no file: a flag, or a place in a file of comparisons.
    pub(super) origin: &'a str,
    /// Where in the text the checked table stands: names of tables, and places in arrays.
    pub(super) inside: &'a [String],
}

impl Source<'_> {
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Fault {
        let line = error.span().map(|span| self.line_of_offset(span.start));
        let place = self.place(line);
        Fault::new(FaultClass::Usage, format!("{place}: {}", error.message()))
    }

    /// A value that does not fit its key: of this text, or of the last of the settings that `given` it,
    /// each with who gave it. The error names the key as a path in backticks.
    pub(super) fn value(&self, error: &toml::de::Error, given: &[(Table, &str)]) -> Fault {
        let text = error.to_string();
        let (message, path) = text.trim().rsplit_once("\nin `").unwrap_or((text.trim(), ""));
        let path = path.trim_end_matches('`');
        let keys: Vec<&str> = path.split('.').filter(|key| !key.is_empty()).collect();
        let set = given.iter().rfind(|(table, _)| !keys.is_empty() && holds(table, &keys));
        let place = match set {
            Some((_, origin)) => (*origin).to_owned(),
            None => self.place(self.line_of_path(&keys)),
        };
        let what = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
        let mut message = in_plain_words(message);
        if message.ends_with(NO_NAME)
            && let Some(names) = reference::values_of(&keys)
        {
            message = format!("expected {names}");
        }
        let hint = match path {
            "evaluate.k" => {
                "it lists the K of Pass@K, as in [1, 8, 32]; how often each query is answered is \
                 `evaluate.samples`"
            }
            _ => "`bstar config reference` lists every key with its values",
        };
        Fault::new(FaultClass::Usage, format!("{place}: {what}{message}")).hint(hint)
    }

    pub(super) fn check_keys(
        &self,
        table: &Table,
        schema: &serde_json::Value,
    ) -> Result<(), Fault> {
        self.check_level(table, schema, schema, &mut Vec::new())
    }

    fn check_level(
        &self,
        table: &Table,
        level: &serde_json::Value,
        root: &serde_json::Value,
        path: &mut Vec<String>,
    ) -> Result<(), Fault> {
        // Free-form tables (such as column mappings) have no list of keys.
        let Some(known) = level.get("properties").and_then(|known| known.as_object()) else {
            return Ok(());
        };
        for (key, value) in table {
            let Some(inner) = known.get(key) else {
                let known: Vec<&str> = known.keys().map(String::as_str).collect();
                return Err(self.unknown_key(path, key, &known, root));
            };
            if let Value::Table(table) = value {
                path.push(key.clone());
                self.check_level(table, dereference(inner, root), root, path)?;
                path.pop();
            }
        }
        Ok(())
    }

    fn unknown_key(
        &self,
        path: &[String],
        key: &str,
        known: &[&str],
        root: &serde_json::Value,
    ) -> Fault {
        let full = |key: &str| {
            let keys = path.iter().map(String::as_str).chain([key]);
            keys.collect::<Vec<_>>().join(".")
        };
        let nearest = nearest(key, known).map(|(nearest, likeness)| (full(nearest), likeness));
        // The same name in another table.
        let namesakes: Vec<String> =
            keys_named(key, root).into_iter().map(|key| format!("`{key}`")).collect();
        let instead = match nearest {
            Some((nearest, likeness)) if likeness > ALIKE => Some(format!("`{nearest}`")),
            _ if !namesakes.is_empty() && namesakes.len() <= MOST_NAMESAKES => {
                Some(namesakes.join(" or "))
            }
            Some((nearest, likeness)) if likeness > LIKE => Some(format!("`{nearest}`")),
            _ => None,
        };
        let hint = match instead {
            instead if path.is_empty() && comparison_file::KEYS.contains(&key) => {
                let of_run = instead.map_or_else(String::new, |key| format!("; a run has {key}"));
                format!(
                    "`{key}` stands at the top of a comparison file, which `bstar compare` takes \
                     (docs/guide/compare.md){of_run}"
                )
            }
            Some(instead) => format!("did you mean {instead}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.unknown(path, key).hint(hint)
    }

    /// The message of a key that is not known.
    pub(super) fn unknown(&self, path: &[String], key: &str) -> Fault {
        let keys: Vec<&str> = path.iter().map(String::as_str).chain([key]).collect();
        let place = self.place(self.line_of_path(&keys));
        Fault::new(FaultClass::Usage, format!("{place}: unknown key `{}`", keys.join(".")))
    }

    pub(super) fn place(&self, line: Option<usize>) -> String {
        match (&self.name, line) {
            (Some(name), Some(line)) => format!("{name}:{line}"),
            (Some(name), None) if name == self.origin => name.clone(),
            (Some(name), None) => format!("{name} or {}", self.origin),
            (None, _) => self.origin.into(),
        }
    }

    fn line_of_offset(&self, offset: usize) -> usize {
        self.text[..offset.min(self.text.len())].matches('\n').count() + 1
    }

    /// The line where a key is written, if it is in this text.
    pub(super) fn line_of_path(&self, path: &[&str]) -> Option<usize> {
        let document = toml::de::DeTable::parse(self.text).ok()?;
        let (last, parents) = path.split_last()?;
        let inside = self.inside.iter().map(String::as_str);
        let mut names = inside.chain(parents.iter().copied());
        let mut table = document.get_ref();
        while let Some(name) = names.next() {
            let value = table.get(name)?.get_ref();
            table = match value.as_array() {
                Some(array) => {
                    array.get(names.next()?.parse::<usize>().ok()?)?.get_ref().as_table()?
                }
                None => value.as_table()?,
            };
        }
        let (key, _) = table.get_key_value(*last)?;
        Some(self.line_of_offset(key.span().start))
    }
}

/// Follows `$ref` and the single-branch `allOf` that schemas wrap references in.
fn dereference<'a>(
    schema: &'a serde_json::Value,
    root: &'a serde_json::Value,
) -> &'a serde_json::Value {
    let branches = ["allOf", "anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array());
    let branch = branches.and_then(|all| {
        all.iter().map(|branch| dereference(branch, root)).find(|b| b.get("properties").is_some())
    });
    let target = schema.get("$ref").and_then(|reference| reference.as_str());
    match target.and_then(|target| root.pointer(target.trim_start_matches('#'))) {
        Some(target) => dereference(target, root),
        None => branch.unwrap_or(schema),
    }
}

/// The key that is most like `key`, and how much, from 0 to 1.
pub(super) fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<(&'a str, f64)> {
    let small = key.to_lowercase();
    let likeness = |other: &str| strsim::jaro_winkler(&small, &other.to_lowercase());
    let all = known.iter().map(|other| (*other, likeness(other)));
    all.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Keys of any table with this name, in full.
pub(super) fn keys_named(name: &str, schema: &serde_json::Value) -> Vec<String> {
    fn walk(
        name: &str,
        level: &serde_json::Value,
        root: &serde_json::Value,
        path: &str,
        found: &mut Vec<String>,
    ) {
        let Some(known) = level.get("properties").and_then(|known| known.as_object()) else {
            return;
        };
        for (key, inner) in known {
            let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if key == name {
                found.push(full.clone());
            }
            walk(name, dereference(inner, root), root, &full, found);
        }
    }
    let mut found = Vec::new();
    walk(name, schema, schema, "", &mut found);
    found
}

/// Whether a table has a value under these keys.
fn holds(table: &Table, keys: &[&str]) -> bool {
    match keys {
        [] => true,
        [key, rest @ ..] => match table.get(*key) {
            Some(Value::Table(inner)) => holds(inner, rest),
            Some(_) => rest.is_empty(),
            None => false,
        },
    }
}

/// The parser's message without the names of Rust's types.
fn in_plain_words(message: &str) -> String {
    let mut words = message.to_owned();
    for kind in ["usize", "u64", "u32"] {
        words = words.replace(&format!("expected {kind}"), "expected a whole number");
    }
    for (kind, plain) in [
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list such as [1, 8]"),
        ("expected a string", "expected text"),
    ] {
        words = words.replace(kind, plain);
    }
    match words.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table of keys"),
        None => words,
    }
}
