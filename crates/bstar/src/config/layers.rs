//! Layers of TOML: defaults < preset < file < `--set`.
//!
//! Relative paths in a file start at the folder of that file, whatever the working directory is, so
//! that a config and its data can be moved together. Paths given with `--set` are made absolute
//! here: they start at the working directory, where a shell completes them.

use super::source::Source;
use super::{Config, DEFAULTS, schema};
use bstar_core::preset::{Preset, PresetValues};
use bstar_core::{Fault, FaultClass};
use bstar_tasks::programs::ProgramsConfig;
use bstar_tasks::{ArithmeticConfig, FilesConfig};
use serde::Deserialize as _;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The keys that hold a path.
pub(super) const PATH_KEYS: [&[&str]; 5] = [
    &["model", "folder"],
    &["reward_model", "folder"],
    &["task", "files", "train"],
    &["task", "files", "validation"],
    &["task", "files", "test"],
];

/// A merged configuration, and the file as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) config: Config,
    /// Where relative paths start: the folder of the config file, or the working directory (empty).
    pub(crate) base_dir: PathBuf,
    /// The text of the config file with the `--set` values as a comment.
    pub(crate) written: String,
}

/// A key that is set over a file, as `key=value`, and who sets it.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// `key=value`.
    pub(crate) text: String,
    /// What errors name: the flag, or the place in a file of comparisons.
    pub(crate) origin: String,
}

impl Setting {
    /// From the command line.
    pub(crate) fn of_flag(text: &str) -> Self {
        Self { text: text.to_owned(), origin: format!("--set {text}") }
    }

    /// Whether it sets this key itself.
    pub(crate) fn sets(&self, key: &str) -> bool {
        self.text.split_once('=').is_some_and(|(own, _)| own.trim() == key)
    }
}

/// Reads and merges all layers. Without a file there are only defaults and `--set`.
pub(crate) fn load(file: Option<&Path>, settings: &[String]) -> Result<Loaded, Fault> {
    let settings: Vec<Setting> = settings.iter().map(|text| Setting::of_flag(text)).collect();
    load_with(file, &settings, "--set")
}

/// The same for settings that others than the command line give; errors whose key is in neither file
/// nor settings name `origin`.
pub(crate) fn load_with(
    file: Option<&Path>,
    settings: &[Setting],
    origin: &str,
) -> Result<Loaded, Fault> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?,
        None => String::new(),
    };
    let base_dir = file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let name = file.map(|path| path.display().to_string());
    load_text(&text, name, base_dir, settings, origin)
}

/// Merges the layers of a text that [`Loaded::written`] was; its `--set` values come before
/// `settings`. Relative paths start at the working directory.
pub(crate) fn load_written(written: &str, settings: &[String]) -> Result<Loaded, Fault> {
    let mut text = written.trim_end();
    let mut earlier = Vec::new();
    while let Some((before, setting)) = text.rsplit_once("\n# --set ") {
        if setting.contains('\n') {
            break;
        }
        earlier.push(Setting::of_flag(setting));
        text = before.trim_end();
    }
    earlier.reverse();
    earlier.extend(settings.iter().map(|text| Setting::of_flag(text)));
    load_text(text, None, PathBuf::new(), &earlier, "--set")
}

fn load_text(
    text: &str,
    name: Option<String>,
    base_dir: PathBuf,
    settings: &[Setting],
    origin: &str,
) -> Result<Loaded, Fault> {
    let source = Source { name, text, origin, inside: &[] };
    let mut user: Table = toml::from_str(text).map_err(|error| source.syntax(&error))?;
    if user.contains_key("entry")
        && let Some(name) = &source.name
    {
        let message = format!("{name} is a comparison of several runs, not the config of one");
        return Err(Fault::new(FaultClass::Usage, message)
            .hint(format!("`bstar compare {name}` makes them, `bstar plan {name}` plans them")));
    }
    let schema = schema::raw();
    source.check_keys(&user, &schema)?;
    let mut given = Vec::new();
    let mut set = Table::new();
    for setting in settings {
        let mut table = parsed(&setting.text)?;
        if let Some(key) = value_below(&set, &table) {
            let message = format!("{}: `{key}` is a value, not a table", setting.origin);
            return Err(Fault::new(FaultClass::Usage, message)
                .hint("a key is set before it that has keys of its own; leave it out"));
        }
        merge(&mut set, table.clone());
        Source { name: None, text: "", origin: &setting.origin, inside: &[] }
            .check_keys(&table, &schema)?;
        for keys in PATH_KEYS {
            make_absolute(&mut table, keys)?;
        }
        merge(&mut user, table.clone());
        given.push((table, setting.origin.as_str()));
    }
    let mut merged: Table = toml::from_str(DEFAULTS).expect("the embedded defaults are TOML");
    let preset = preset_of(&user, &merged)?;
    merge(&mut merged, preset_table(&preset.values()));
    merge(&mut merged, user);
    let config =
        Config::deserialize(Value::Table(merged)).map_err(|error| source.value(&error, &given))?;
    let written =
        settings.iter().fold(text.to_owned(), |text, set| text + "\n# --set " + &set.text + "\n");
    Ok(Loaded { config, base_dir, written })
}

/// The defaults under a preset, with those of every table that a task may have: what a key was for a
/// build that did not know it yet.
pub(crate) fn defaults(preset: Preset) -> Config {
    let preset = format!("preset={}", preset.name());
    let mut config = load(None, &[preset]).expect("the embedded defaults are whole").config;
    config.task.arithmetic = Some(ArithmeticConfig::default());
    config.task.files = Some(FilesConfig::default());
    config.task.programs = Some(ProgramsConfig::default());
    config
}

/// Makes the path under a key absolute, if the key is set; an empty text stays empty.
fn make_absolute(table: &mut Table, keys: &[&str]) -> Result<(), Fault> {
    let Some((last, parents)) = keys.split_last() else { return Ok(()) };
    let mut place = table;
    for key in parents {
        let Some(Value::Table(inner)) = place.get_mut(*key) else { return Ok(()) };
        place = inner;
    }
    let Some(Value::String(text)) = place.get_mut(*last) else { return Ok(()) };
    if !text.is_empty() {
        let path = std::path::absolute(&*text).map_err(|error| {
            Fault::new(FaultClass::Usage, format!("cannot resolve the path {text}")).because(error)
        })?;
        *text = path.display().to_string();
    }
    Ok(())
}

fn unreadable(path: &Path, error: std::io::Error) -> Fault {
    Fault::new(FaultClass::Usage, format!("cannot read the config file {}", path.display()))
        .hint("`bstar init` writes a commented config file to start from")
        .because(error)
}

/// `1,8,32` as a list of numbers.
fn numbers(text: &str) -> Option<Value> {
    let numbers = text.contains(',').then(|| format!("value = [{text}]"))?;
    let value = toml::from_str::<Table>(&numbers).ok()?.remove("value")?;
    let is_number = |value: &Value| value.is_integer() || value.is_float();
    value.as_array().is_some_and(|list| list.iter().all(is_number)).then_some(value)
}

/// `a.b=value` as a table, where the value is TOML, numbers with commas between them, or else text.
fn parsed(setting: &str) -> Result<Table, Fault> {
    let usage = |why: String| {
        Fault::new(FaultClass::Usage, why).hint("write it as --set sample.k=16 or --set method=sft")
    };
    let (path, text) =
        setting.split_once('=').ok_or_else(|| usage(format!("`--set {setting}` has no `=`")))?;
    let text = text.trim();
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .or_else(|| numbers(text))
        .unwrap_or_else(|| Value::String(text.into()));
    let keys: Vec<&str> = path.split('.').map(str::trim).collect();
    if keys.last().is_none_or(|key| key.is_empty()) {
        return Err(usage(format!("`--set {setting}` names no key")));
    }
    let table = keys
        .into_iter()
        .rev()
        .fold(value, |value, key| Value::Table(std::iter::once((key.to_owned(), value)).collect()));
    let Value::Table(table) = table else { unreachable!("there is a key") };
    Ok(table)
}

/// The key that has a value in `base` and keys of its own in `over`, if any.
fn value_below(base: &Table, over: &Table) -> Option<String> {
    over.iter().find_map(|(key, value)| match (base.get(key)?, value) {
        (Value::Table(base), Value::Table(over)) => {
            value_below(base, over).map(|below| format!("{key}.{below}"))
        }
        (_, Value::Table(_)) => Some(key.clone()),
        _ => None,
    })
}

/// Values of `over` replace those of `base`; tables are merged key by key.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn preset_of(user: &Table, defaults: &Table) -> Result<Preset, Fault> {
    let value = user.get("preset").or_else(|| defaults.get("preset"));
    let name = value.and_then(Value::as_str).unwrap_or_default();
    Preset::from_name(name).ok_or_else(|| {
        let known = Preset::ALL.map(Preset::name).join(", ");
        Fault::new(FaultClass::Usage, format!("there is no preset `{name}`"))
            .hint(format!("the presets are {known}"))
    })
}

/// Section and key of each value that a preset gives, and its name there.
pub(crate) const PRESET_KEYS: [(&str, &str, &str); 17] = [
    ("sample", "k", "samples_per_query"),
    ("balance", "target_count", "target_count"),
    ("balance", "temperatures", "temperatures"),
    ("balance", "thresholds", "thresholds"),
    ("balance", "threshold_from", "threshold_from"),
    ("balance", "ties", "ties"),
    ("balance", "empty_queries", "empty_queries"),
    ("balance", "probe_queries", "probe_queries"),
    ("selection", "deduplication", "deduplication"),
    ("selection", "gold_solutions", "gold_solutions"),
    ("selection", "cap_to_pool", "cap_to_pool"),
    ("selection", "drop_unanswered", "drop_unanswered"),
    ("selection", "slack", "slack"),
    ("reward", "scale", "scale"),
    ("reward", "divisor", "divisor"),
    ("reward", "clip", "clip"),
    ("reward", "reduction", "reduction"),
];

/// A preset's values under the keys that they are the defaults of.
pub(crate) fn preset_table(values: &PresetValues) -> Table {
    let all = Table::try_from(values).expect("presets are TOML values");
    let mut table = Table::new();
    for (section, key, name) in PRESET_KEYS {
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let section = section.as_table_mut().expect("made as a table");
        section.insert(key.into(), all[name].clone());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstar_tasks::TaskConfig;

    /// The defaults with every commented-out table and key switched on.
    fn uncommented() -> String {
        let switch_on = |line: &str| {
            let rest = line.strip_prefix("# ")?;
            let key = rest.split_once(" = ").map(|(key, _)| key);
            let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
            let is_key = key.is_some_and(|key| key.chars().all(is_name));
            (is_key || rest.starts_with("[task.")).then(|| rest.to_owned())
        };
        let lines = DEFAULTS.lines().map(|line| switch_on(line).unwrap_or_else(|| line.into()));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_values_that_the_defaults_show_in_comments_are_the_defaults() {
        let text = uncommented();
        let shown = Config::deserialize(Value::Table(toml::from_str(&text).expect(&text)));
        let shown = shown.expect("every key of every table has a value");
        let mut expected = load(None, &[]).expect("the defaults").config;
        expected.task = TaskConfig {
            name: Some("arithmetic".into()),
            seed: Some(1),
            arithmetic: Some(bstar_tasks::ArithmeticConfig::default()),
            ..expected.task
        };
        assert_eq!(shown, expected);
        let schema = schema::raw();
        let arithmetic = &schema["$defs"]["ArithmeticConfig"]["properties"];
        for key in arithmetic.as_object().expect("keys").keys() {
            assert!(text.contains(&format!("\n{key} = ")), "task.arithmetic.{key} is not shown");
        }
    }

    #[test]
    fn paths_of_a_file_start_at_its_folder_and_those_of_a_flag_at_the_working_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("c.toml");
        let text = "[model]\nfolder = \"m\"\n[task]\nkind = \"gsm8k\"\n[task.files]\ntrain = \"t\"\ntest = \"e\"\n";
        std::fs::write(&file, text).expect("a file");
        let loaded = load(Some(&file), &["task.files.test=e".into()]).expect("a config");
        let files = loaded.config.task.files.expect("files");
        assert_eq!(loaded.base_dir, folder.path());
        assert_eq!(loaded.config.model.folder, "m");
        assert_eq!(files.train.as_deref(), Some(Path::new("t")));
        let here = std::env::current_dir().expect("a working directory");
        assert_eq!(files.test, Some(here.join("e")));
        let cleared = load(Some(&file), &["model.folder=".into()]).expect("a config");
        assert_eq!(cleared.config.model.folder, "", "an empty text is no path");
    }
}
