//! A comparison's configuration: a base run config, seeds, and entries that set keys of it.
//!
//! An entry is a name and run keys, written as in a run config; whatever a run can be told, an entry
//! can be told. Layers: defaults < preset < base < `[common]` < entry < `--set`. The result is a run
//! config for each entry and seed, which says with `--set` lines what was changed of the base.

use super::layers::{self, Loaded, PATH_KEYS, Source};
use super::{Retention, schema};
use bstar_core::method::Method;
use bstar_core::{Fault, FaultClass};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Keys of a comparison.
const KEYS: [&str; 10] = [
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

/// Whether entries generate as much as the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BudgetRule {
    /// Search, draw and labels together are as many responses as the reference generates: who pays
    /// for a search or for labels draws fewer training queries.
    EqualGenerations,
    /// The same, but labels of reward models come on top, as if the reward model were given.
    EqualWithoutLabels,
    /// Everyone draws what its config says; search and labels come on top (the paper).
    AsConfigured,
}

impl BudgetRule {
    /// The name in configs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EqualGenerations => "equal-generations",
            Self::EqualWithoutLabels => "equal-without-labels",
            Self::AsConfigured => "as-configured",
        }
    }
}

/// What is compared.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Unique name.
    pub(crate) name: String,
    /// Name of its folder.
    pub(crate) folder: String,
    /// The name that it shares with its siblings.
    pub(crate) group: String,
    /// Its budget.
    pub(crate) budget: BudgetRule,
    /// Names of the entries that it is compared with; none for the table's reference.
    named_references: Vec<String>,
    /// Values of the keys that its `vary` gave, by key.
    pub(crate) varied: Vec<(String, String)>,
    /// `key=value` over the base: those of all entries, then its own.
    common: Vec<String>,
    own: Vec<String>,
}

/// A comparison, checked: each of its run configs resolves.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// What it shows, in words.
    pub(crate) title: String,
    /// Seeds, each a run of every entry.
    pub(crate) seeds: Vec<u64>,
    /// Index of the entry that the others are compared with, and that sets the budget.
    pub(crate) reference: usize,
    /// Runs side by side; 0 is one per core.
    workers: usize,
    /// Threads of each run.
    pub(crate) threads: usize,
    /// Validation queries that choose a checkpoint; 0 chooses none.
    pub(crate) validation_queries: usize,
    /// The entries.
    pub(crate) entries: Vec<Entry>,
    /// The file as written.
    pub(crate) written: String,
    /// The base config; none for the defaults.
    base: Option<PathBuf>,
    file: String,
    /// `--set` of the command line.
    over: Vec<String>,
}

/// The top of the file, its tables left as they are.
#[derive(Debug, Deserialize)]
struct Head {
    title: Option<String>,
    base: Option<PathBuf>,
    seeds: Vec<u64>,
    reference: Option<String>,
    budget: Option<BudgetRule>,
    workers: Option<usize>,
    threads: Option<usize>,
    validation_queries: Option<usize>,
}

impl Comparison {
    /// Reads a comparison and checks every run config that it leads to. `over` are `--set` values
    /// for every entry.
    pub(crate) fn load(path: &Path, over: &[String]) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read the comparison {}", path.display());
            Fault::new(FaultClass::Usage, message)
                .because(error)
                .hint("docs/guide/compare.md shows one of fifteen lines")
        })?;
        let file = path.display().to_string();
        let reader =
            Reader { file: &file, text: &text, dir: path.parent().unwrap_or(Path::new("")) };
        let source = reader.source(&[]);
        let table: Table = toml::from_str(&text).map_err(|error| source.syntax(&error))?;
        let is_comparison = ["entry", "seeds", "base"].iter().any(|key| table.contains_key(*key));
        if !is_comparison && table.keys().any(|key| !KEYS.contains(&key.as_str())) {
            let message = format!("{file} is the config of one run, not a comparison of several");
            return Err(Fault::new(FaultClass::Usage, message).hint(format!(
                "`bstar run {file}` runs it; a comparison has `seeds` and [[entry]] \
                 (docs/guide/compare.md)"
            )));
        }
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(source.unknown_key(&[], key, &KEYS));
        }
        let head = Head::deserialize(Value::Table(table.clone())).map_err(|error| {
            let why = error.to_string();
            reader.fault(why.trim(), &[]).hint(HEAD_HINT)
        })?;
        let base = head.base.map(|base| reader.dir.join(base));
        if let Some(base) = base.as_deref().filter(|base| !base.is_file()) {
            let why = format!("`base`: there is no file {}", base.display());
            return Err(reader.fault(&why, &["base"]).hint(
                "it names the config of a run and starts at the folder of this file; without it the \
                 base is the defaults",
            ));
        }
        let common = reader.common(&table)?;
        let budget = head.budget.unwrap_or(BudgetRule::EqualGenerations);
        let entries = reader.entries(&table, budget, &common)?;
        let mut comparison = Self {
            title: head.title.unwrap_or_else(|| stem(path)),
            seeds: head.seeds,
            reference: 0,
            workers: head.workers.unwrap_or(0),
            threads: head.threads.unwrap_or(1),
            validation_queries: head.validation_queries.unwrap_or(0),
            entries,
            base,
            written: text.clone(),
            file: file.clone(),
            over: over.to_vec(),
        };
        comparison.check_seeds(&reader)?;
        comparison.reference = comparison.find_reference(head.reference.as_deref(), &reader)?;
        comparison.check_references(&table, &reader)?;
        comparison.check_entries()?;
        Ok(comparison)
    }

    /// The config of a run. `queries` replaces `sample.queries`.
    pub(crate) fn run_config(
        &self,
        entry: &Entry,
        seed: u64,
        queries: Option<usize>,
    ) -> Result<Loaded, Fault> {
        let mut settings = entry.common.clone();
        settings.extend_from_slice(&entry.own);
        settings.extend_from_slice(&self.over);
        settings.push(format!("seed={seed}"));
        settings.extend(queries.map(|queries| format!("sample.queries={queries}")));
        let origin = format!("{}: entry `{}`", self.file, entry.name);
        layers::load_set_by(self.base.as_deref(), &settings, &origin)
    }

    /// Runs side by side: so many as `over` says, else as the file does.
    pub(crate) fn workers(&self, over: Option<usize>) -> usize {
        match over.unwrap_or(self.workers) {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    /// Indices of the entries that an entry is compared with; itself is none of them.
    pub(crate) fn references(&self, entry: usize) -> Vec<usize> {
        let named = &self.entries[entry].named_references;
        let all: Vec<usize> = if named.is_empty() {
            vec![self.reference]
        } else {
            named.iter().filter_map(|name| self.position(name)).collect()
        };
        all.into_iter().filter(|reference| *reference != entry).collect()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// Every entry with every seed, seed by seed.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, u64)> {
        let entries = self.entries.len();
        self.seeds.iter().flat_map(move |seed| (0..entries).map(move |entry| (entry, *seed)))
    }

    fn check_seeds(&self, reader: &Reader<'_>) -> Result<(), Fault> {
        let unique: BTreeSet<u64> = self.seeds.iter().copied().collect();
        if self.seeds.is_empty() || unique.len() < self.seeds.len() {
            let why = "`seeds` needs at least one number, and none twice";
            return Err(reader.fault(why, &["seeds"]).hint("seeds = [1, 2, 3, 4, 5]"));
        }
        Ok(())
    }

    fn find_reference(&self, name: Option<&str>, reader: &Reader<'_>) -> Result<usize, Fault> {
        if let Some(name) = name {
            return self.position(name).ok_or_else(|| self.no_reference(name, reader, &[]));
        }
        let seed = self.seeds[0];
        for (index, entry) in self.entries.iter().enumerate() {
            if self.run_config(entry, seed, None)?.config.method == Method::OnlineRft {
                return Ok(index);
            }
        }
        Ok(0)
    }

    fn no_reference(&self, name: &str, reader: &Reader<'_>, inside: &[String]) -> Fault {
        let names: Vec<&str> = self.entries.iter().map(|e| e.name.as_str()).collect();
        let source = reader.source(inside);
        let place = source.place(source.line_of_path(&["reference"]));
        let why = format!("{place}: there is no entry `{name}` to refer to");
        Fault::new(FaultClass::Usage, why).hint(format!("the entries are {}", names.join("; ")))
    }

    /// Refuses references of entries that are no entries, that stand there twice, or that are the entry alone.
    fn check_references(&self, table: &Table, reader: &Reader<'_>) -> Result<(), Fault> {
        let list = table.get("entry").and_then(Value::as_array).into_iter().flatten();
        for (index, entry) in list.enumerate() {
            let Some(value) = entry.get("reference") else { continue };
            let inside = ["entry".to_owned(), index.to_string()];
            let names = names_in(value).unwrap_or_default();
            for (place, name) in names.iter().enumerate() {
                if self.position(name).is_none() {
                    return Err(self.no_reference(name, reader, &inside));
                }
                let is_itself = names.len() == 1 && entry.get("name") == Some(&name[..].into());
                if is_itself || names[..place].contains(name) {
                    let source = reader.source(&inside);
                    let line = source.place(source.line_of_path(&["reference"]));
                    let why = if is_itself { "is the entry itself" } else { "stands there twice" };
                    let message = format!("{line}: the reference `{name}` {why}");
                    return Err(Fault::new(FaultClass::Usage, message)
                        .hint("name other entries, each once, or leave `reference` out"));
                }
            }
        }
        Ok(())
    }

    /// A fault with the name of the entry that it is about.
    pub(crate) fn of_entry(&self, entry: &Entry, fault: Fault) -> Fault {
        let message = format!("{}: entry `{}`: {fault}", self.file, entry.name);
        let named = Fault::new(fault.class, message);
        match fault.hint {
            Some(hint) => named.hint(hint),
            None => named,
        }
    }

    /// Refuses values that cannot be, evaluations that differ, and budgets that contradict a key.
    fn check_entries(&self) -> Result<(), Fault> {
        let of = |entry: &Entry| self.run_config(entry, self.seeds[0], None);
        let reference = of(&self.entries[self.reference])?.config;
        for entry in &self.entries {
            let place = |fault: Fault| self.of_entry(entry, fault);
            let config = of(entry)?.config;
            config.check().map_err(place)?;
            if evaluation_of(&config) != evaluation_of(&reference) {
                let name = &self.entries[self.reference].name;
                let fault = Fault::new(
                    FaultClass::Usage,
                    format!("it is evaluated otherwise than the reference `{name}`"),
                );
                return Err(place(fault.hint(
                    "`evaluate`, `sample.max_tokens`, `sample.stop` and `sample.stop_tokens` must \
                     be the same for all: set them in [common]",
                )));
            }
            if self.validation_queries > 0 && config.run.checkpoints == Retention::KeepLast {
                let why = "`validation_queries` chooses among all checkpoints";
                return Err(place(
                    Fault::new(FaultClass::Usage, why).hint("set run.checkpoints = \"keep-all\""),
                ));
            }
            let sets = |given: &[String], key: &str| given.iter().any(|set| set.starts_with(key));
            if [&entry.own, &entry.common, &self.over].into_iter().any(|given| sets(given, "seed="))
            {
                let fault = Fault::new(FaultClass::Usage, "`seed` is given by `seeds`");
                return Err(place(fault.hint("remove it")));
            }
            if entry.budget != BudgetRule::AsConfigured && sets(&entry.own, "sample.queries=") {
                let budget = entry.budget.name();
                let why = format!("it sets `sample.queries`, which the budget `{budget}` decides");
                return Err(place(Fault::new(FaultClass::Usage, why).hint(
                    "set `sample.queries` in [common] or in the base, or give the entry \
                     budget = \"as-configured\"",
                )));
            }
        }
        Ok(())
    }
}

const HEAD_HINT: &str = "a comparison has `seeds`, [[entry]] tables with `name` and run keys, and may have \
     `title`, `base`, `reference`, `budget` (equal-generations | equal-without-labels | \
     as-configured), `workers`, `threads` and [common]; an entry may have a `budget` and a \
     `reference` of its own";

/// What all entries must be alike in.
fn evaluation_of(config: &super::Config) -> serde_json::Value {
    let sample = &config.sample;
    serde_json::json!([config.evaluate, sample.max_tokens, sample.stop, sample.stop_tokens])
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads the tables of a comparison file.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    dir: &'a Path,
}

impl Reader<'_> {
    fn source<'b>(&'b self, inside: &'b [String]) -> Source<'b> {
        Source { name: Some(self.file.to_owned()), text: self.text, origin: self.file, inside }
    }

    fn fault(&self, message: &str, path: &[&str]) -> Fault {
        let source = self.source(&[]);
        let line = source.line_of_path(path);
        let place = line.map_or_else(|| self.file.to_owned(), |line| source.place(Some(line)));
        Fault::new(FaultClass::Usage, format!("{place}: {message}"))
    }

    fn common(&self, table: &Table) -> Result<Vec<String>, Fault> {
        match table.get("common") {
            None => Ok(Vec::new()),
            Some(Value::Table(common)) => self.settings(common, &["common".to_owned()]),
            Some(_) => Err(self.fault("`common` is not a table", &["common"])),
        }
    }

    /// The run keys of a table as `key=value`, checked.
    fn settings(&self, table: &Table, inside: &[String]) -> Result<Vec<String>, Fault> {
        self.source(inside).check_keys(table, &schema::raw())?;
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
            setting(&keys.join("."), &value)
        };
        Ok(settings.into_iter().map(absolute).collect())
    }

    fn entries(
        &self,
        table: &Table,
        budget: BudgetRule,
        common: &[String],
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
        common: &[String],
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
        let own = self.settings(&keys, &inside)?;
        let mut entries = Vec::new();
        for varied in self.variations(table, &inside)? {
            let mut own = own.clone();
            own.extend(varied.iter().map(|(key, value)| format!("{key}={value}")));
            let shown = varied.iter().map(|(key, value)| format!(", {} {value}", short(key)));
            let group = name.to_owned();
            let name = format!("{name}{}", shown.collect::<String>());
            let (folder, common) = (folder_name(&name), common.to_vec());
            let named_references = named_references.clone();
            entries.push(Entry {
                name,
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
fn names_in(value: &Value) -> Option<Vec<String>> {
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
