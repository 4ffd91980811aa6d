//! A comparison's configuration: a base run config, seeds, and entries that set keys of it.
//!
//! An entry is a name and run keys, written as in a run config; whatever a run can be told, an entry
//! can be told. Layers: defaults < preset < base < `[common]` < entry < `--set`. The result is a run
//! config for each entry and seed, which says with `--set` lines what was changed of the base.

use super::Retention;
use super::comparison_file::{HEAD_HINT, KEYS, Reader, names_in};
use super::layers::{self, Loaded, Setting};
use bstar_core::method::Method;
use bstar_core::{Fault, FaultClass};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

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
    pub(super) named_references: Vec<String>,
    /// Values of the keys that its `vary` gave, by key.
    pub(crate) varied: Vec<(String, String)>,
    /// Set over the base: those of all entries, then its own.
    pub(super) common: Vec<Setting>,
    pub(super) own: Vec<Setting>,
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
    over: Vec<Setting>,
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
        over.iter().try_for_each(|text| refuse_own_key(text))?;
        let is_comparison = ["entry", "seeds", "base"].iter().any(|key| table.contains_key(*key));
        if !is_comparison && table.keys().any(|key| !KEYS.contains(&key.as_str())) {
            let message = format!("{file} is the config of one run, not a comparison of several");
            return Err(Fault::new(FaultClass::Usage, message).hint(format!(
                "`bstar run {file}` runs it; a comparison has `seeds` and [[entry]] \
                 (docs/guide/compare.md)"
            )));
        }
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(reader.unknown_key(key));
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
            over: over.iter().map(|text| Setting::of_flag(text)).collect(),
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
        let origin = format!("{}: entry `{}`", self.file, entry.name);
        let set = |text: String| Setting { text, origin: origin.clone() };
        settings.push(set(format!("seed={seed}")));
        settings.extend(queries.map(|queries| set(format!("sample.queries={queries}"))));
        layers::load_with(self.base.as_deref(), &settings, &origin)
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

    /// The same for a key that a message names in backticks, with who set it last.
    fn of_key(&self, entry: &Entry, fault: Fault) -> Fault {
        let message = fault.to_string();
        let mut keys = message.split('`').skip(1).step_by(2).map(|key| key.split(' ').next());
        let layers = || self.over.iter().chain(entry.own.iter().rev()).chain(&entry.common);
        let set = keys.find_map(|key| layers().find(|setting| setting.sets(key.unwrap_or(""))));
        let Some(Setting { origin, .. }) = set else { return self.of_entry(entry, fault) };
        let named = Fault::new(fault.class, format!("{origin}: {message}"));
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
            config.check().map_err(|fault| self.of_key(entry, fault))?;
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
            let sets = |given: &[Setting], key: &str| given.iter().any(|set| set.sets(key));
            if [&entry.own, &entry.common, &self.over].into_iter().any(|given| sets(given, "seed"))
            {
                let fault = Fault::new(FaultClass::Usage, "`seed` is given by `seeds`");
                return Err(
                    self.of_key(entry, fault.hint("remove it; a comparison lists its `seeds`"))
                );
            }
            if entry.budget != BudgetRule::AsConfigured && sets(&entry.own, "sample.queries") {
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

/// Refuses a `--set` of a key that a comparison has itself.
fn refuse_own_key(text: &str) -> Result<(), Fault> {
    let key = text.split(['=', '.']).next().unwrap_or_default().trim();
    if !KEYS.contains(&key) {
        return Ok(());
    }
    let instead = match key {
        "workers" => ", or give `--workers`",
        _ => "",
    };
    let message = format!("--set {text}: unknown key `{key}`");
    Err(Fault::new(FaultClass::Usage, message).hint(format!(
        "`{key}` stands at the top of a comparison file, and `--set` sets keys of its runs: edit the \
         file{instead}"
    )))
}

/// What all entries must be alike in.
fn evaluation_of(config: &super::Config) -> serde_json::Value {
    let sample = &config.sample;
    serde_json::json!([config.evaluate, sample.max_tokens, sample.stop, sample.stop_tokens])
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
