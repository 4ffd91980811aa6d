//! Reads a comparison file: its keys, the entries and what each of them sets, with their lines.

use super::comparison::{BudgetRule, Entry};
use super::layers::{PATH_KEYS, Setting};
use super::schema;
use super::source::{ALIKE, LIKE, Source, keys_named, nearest};
use bstar_core::{Fault, FaultClass};
use serde::Deserialize as _;
use std::path::Path;
use toml::{Table, Value};

/// Keys of a comparison.
pub(super) const KEYS: [&str; 10] = [
    "title",
    "base",
    "seeds",
    "reference",
    "budget",
    "workers",
    "threads",
    "validation_queries",
    "common",
    "entry",
];

/// Keys of an entry that are not keys of a run.
const ENTRY_KEYS: [&str; 4] = ["name", "budget", "reference", "vary"];

/// What a comparison may have at its top.
pub(super) const HEAD_HINT: &str = "a comparison has `seeds`, [[entry]] tables with `name` and run keys, and may have \
     `title`, `base`, `reference`, `budget` (equal-generations | equal-without-labels | \
     as-configured), `workers`, `threads` and [common]; an entry may have a `budget` and a \
     `reference` of its own";

/// Reads the tables of a comparison file.
pub(super) struct Reader<'a> {
    /// Its name.
    pub(super) file: &'a str,
    /// Its text.
    pub(super) text: &'a str,
    /// Its folder, where its paths start.
    pub(super) dir: &'a Path,
}

impl Reader<'_> {
    /// The file as errors point into it, inside these tables.
    pub(super) fn source<'b>(&'b self, inside: &'b [String]) -> Source<'b> {
        Source { name: Some(self.file.to_owned()), text: self.text, origin: self.file, inside }
    }

    /// A fault at the line of a key.
    pub(super) fn fault(&self, message: &str, path: &[&str]) -> Fault {
        let source = self.source(&[]);
        let line = source.line_of_path(path);
        let place = line.map_or_else(|| self.file.to_owned(), |line| source.place(Some(line)));
        Fault::new(FaultClass::Usage, format!("{place}: {message}"))
    }

    /// A key at the top that is none of a comparison; where it is one of a run, where that stands.
    pub(super) fn unknown_key(&self, key: &str) -> Fault {
        let fault = self.source(&[]).unknown(&[], key);
        let of_runs = keys_named(key, &schema::raw());
        match (nearest(key, &KEYS), of_runs.as_slice()) {
            (Some((nearest, likeness)), _) if likeness > ALIKE => {
                fault.hint(format!("did you mean `{nearest}`?"))
            }
            (_, [_, ..]) => {
                let keys = of_runs.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>();
                let keys = keys.join(" or ");
                fault.hint(format!(
                    "keys of runs stand in [common], for all entries, or in an [[entry]]: {keys}"
                ))
            }
            (Some((nearest, likeness)), _) if likeness > LIKE => {
                fault.hint(format!("did you mean `{nearest}`?"))
            }
            _ => fault.hint(format!("known here: {}", KEYS.join(", "))),
        }
    }

    /// What all entries set.
    pub(super) fn common(&self, table: &Table) -> Result<Vec<Setting>, Fault> {
        match table.get("common") {
            None => Ok(Vec::new()),
            Some(Value::Table(common)) => self.settings(common, &["common".to_owned()], "[common]"),
            Some(_) => Err(self.fault("`common` is not a table", &["common"])),
        }
    }

    /// The run keys of a table, checked, each with its line and `whose` it is.
    fn settings(
        &self,
        table: &Table,
        inside: &[String],
        whose: &str,
    ) -> Result<Vec<Setting>, Fault> {
        let source = self.source(inside);
        source.check_keys(table, &schema::raw())?;
        let mut settings = Vec::new();
        flatten(table, &mut Vec::new(), &mut settings);
        let absolute = |(keys, value): (Vec<String>, Value)| {
            let is_path = PATH_KEYS.iter().any(|path| keys.iter().eq(path.iter()));
            let value = match value {
                Value::String(text) if is_path && !text.is_empty() => {
                    Value::String(self.dir.join(text).display().to_string())
                }
                value => value,
            };
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            let origin = format!("{}: {whose}", source.place(source.line_of_path(&names)));
            Setting { text: setting(&keys.join("."), &value), origin }
        };
        Ok(settings.into_iter().map(absolute).collect())
    }

    /// The entries, those of `vary` each.
    pub(super) fn entries(
        &self,
        table: &Table,
        budget: BudgetRule,
        common: &[Setting],
    ) -> Result<Vec<Entry>, Fault> {
        let list = table.get("entry").and_then(Value::as_array);
        let list = list.filter(|list| !list.is_empty()).ok_or_else(|| {
            let why = "there is nothing to compare: no [[entry]]";
            self.fault(why, &["entry"]).hint(HEAD_HINT)
        })?;
        let mut entries: Vec<Entry> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let Value::Table(table) = value else {
                return Err(self.fault("write entries as [[entry]] tables", &["entry"]));
            };
            for entry in self.entry(table, index, budget, common)? {
                let same = |other: &&Entry| other.folder == entry.folder;
                if let Some(other) = entries.iter().find(same) {
                    let why = format!(
                        "the names `{}` and `{}` are too much alike: both would lie in {}",
                        other.name, entry.name, entry.folder
                    );
                    return Err(self.fault(&why, &["entry"]).hint("give each entry its own name"));
                }
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn entry(
        &self,
        table: &Table,
        index: usize,
        budget: BudgetRule,
        common: &[Setting],
    ) -> Result<Vec<Entry>, Fault> {
        let inside = ["entry".to_owned(), index.to_string()];
        let wrong = |key: &str, why: &str| {
            let source = self.source(&inside);
            let line = source.line_of_path(&[key]);
            Fault::new(FaultClass::Usage, format!("{}: {why}", source.place(line)))
        };
        let name = table.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            wrong("name", &format!("entry {} has no name", index + 1))
                .hint("name = \"B-STaR\", for tables and plots")
        })?;
        let budget = match table.get("budget") {
            None => budget,
            Some(value) => BudgetRule::deserialize(value.clone()).map_err(|error| {
                wrong("budget", &format!("`budget`: {}", error.to_string().trim())).hint(HEAD_HINT)
            })?,
        };
        let named_references = match table.get("reference") {
            None => Vec::new(),
            Some(value) => names_in(value).ok_or_else(|| {
                wrong("reference", "`reference` is the name of an entry, or a list of names")
                    .hint("reference = [\"Online RFT\", \"Iterative RFT\"]")
            })?,
        };
        let mut keys = table.clone();
        for key in ENTRY_KEYS {
            keys.remove(key);
        }
        let own = self.settings(&keys, &inside, &format!("entry `{name}`"))?;
        let source = self.source(&inside);
        let vary = source.place(source.line_of_path(&["vary"]));
        let mut entries = Vec::new();
        for varied in self.variations(table, &inside)? {
            let shown = varied.iter().map(|(key, value)| format!(", {} {value}", short(key)));
            let full_name = format!("{name}{}", shown.collect::<String>());
            let mut own = own.clone();
            own.extend(varied.iter().map(|(key, value)| Setting {
                text: format!("{key}={value}"),
                origin: format!("{vary}: entry `{full_name}`"),
            }));
            let group = name.to_owned();
            let (folder, common) = (folder_name(&full_name), common.to_vec());
            let named_references = named_references.clone();
            entries.push(Entry {
                name: full_name,
                folder,
                group,
                budget,
                named_references,
                varied,
                common,
                own,
            });
        }
        Ok(entries)
    }

    /// Every combination of the values of `vary`, the last key fastest; one empty one without it.
    fn variations(
        &self,
        table: &Table,
        inside: &[String],
    ) -> Result<Vec<Vec<(String, String)>>, Fault> {
        let mut all = vec![Vec::new()];
        let Some(vary) = table.get("vary") else { return Ok(all) };
        let source = self.source(inside);
        let line = source.line_of_path(&["vary"]);
        let wrong = |why: &str| {
            let hint = "vary = { \"sample.k\" = [8, 16, 32] } makes an entry of each value";
            Fault::new(FaultClass::Usage, format!("{}: {why}", source.place(line))).hint(hint)
        };
        let vary = vary.as_table().ok_or_else(|| wrong("`vary` is not a table"))?;
        let mut keys = Vec::new();
        flatten(vary, &mut Vec::new(), &mut keys);
        for (key, values) in keys {
            let key = key.join(".");
            let values = values.as_array().filter(|values| !values.is_empty());
            let values = values.ok_or_else(|| wrong(&format!("`{key}` needs a list of values")))?;
            all = all
                .into_iter()
                .flat_map(|before: Vec<(String, String)>| {
                    let key = key.clone();
                    values.iter().map(move |value| {
                        let mut with = before.clone();
                        with.push((key.clone(), plain(value)));
                        with
                    })
                })
                .collect();
        }
        Ok(all)
    }
}

/// A name, or a list of names that is not empty.
pub(super) fn names_in(value: &Value) -> Option<Vec<String>> {
    let names = match value {
        Value::Array(values) => values.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        value => value.as_str().map(|name| vec![name.to_owned()]),
    };
    names.filter(|names: &Vec<String>| !names.is_empty())
}

/// The leaves of a table with their keys.
fn flatten(table: &Table, above: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Value)>) {
    for (key, value) in table {
        above.push(key.clone());
        match value {
            Value::Table(inner) => flatten(inner, above, leaves),
            value => leaves.push((above.clone(), value.clone())),
        }
        above.pop();
    }
}

/// `key=value` on one line: JSON's text, numbers and lists are TOML too.
fn setting(key: &str, value: &Value) -> String {
    format!("{key}={}", serde_json::to_string(value).expect("values of a config are JSON"))
}

/// A value as a person would write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string(value).expect("values of a config are JSON"),
    }
}

/// A key in the name of an entry.
fn short(key: &str) -> &str {
    match key {
        "balance.fixed_temperature" => "t",
        "balance.fixed_threshold" => "τ",
        "balance.target_count" => "n*",
        "sample.k" => "k",
        key => key.rsplit('.').next().unwrap_or(key),
    }
}

/// A name as that of a folder: lower case, digits, points and single dashes; a minus sign is `neg`.
fn folder_name(name: &str) -> String {
    let mut folder = String::new();
    let letters: Vec<char> = name.chars().collect();
    for (place, letter) in letters.iter().enumerate() {
        let next_is_digit = letters.get(place + 1).is_some_and(char::is_ascii_digit);
        let begins = place == 0 || !letters[place - 1].is_alphanumeric();
        match letter {
            'τ' => folder.push_str("tau"),
            '*' => folder.push_str("star"),
            '-' if begins && next_is_digit => folder.push_str("neg"),
            letter if letter.is_ascii_alphanumeric() => folder.push(letter.to_ascii_lowercase()),
            '.' if next_is_digit => folder.push('.'),
            _ if !folder.ends_with('-') && !folder.is_empty() => folder.push('-'),
            _ => {}
        }
    }
    folder.trim_end_matches('-').to_owned()
}
