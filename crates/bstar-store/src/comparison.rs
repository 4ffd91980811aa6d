//! A comparison on disk: run folders by entry and seed, and what was made of them.
//!
//! ```text
//! comparisons/<name>/
//!   comparison.json                  format version, version of bstar      (makes it a comparison)
//!   config.toml                      the comparison as written, once what was begun agrees with it
//!   runs/<entry>/seed-0001/          a run folder
//!   starts/<fingerprint>/seed-0001/  a run folder that holds iteration 0 only: what runs share
//!   validation/<entry>/seed-0001.json   accuracy of its checkpoints on validation queries
//!   results.json, tables.md, …       what the last command made of it
//!   lock                             held while a process works
//! ```

use crate::disk;
use crate::layout;
use crate::lock::{Attempt, RunLock};
use crate::manifest::FormatVersion;
use crate::run::{RunError, RunStore};
use crate::view;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The format that this version writes.
const COMPARISON_FORMAT: FormatVersion = FormatVersion { major: 1, minor: 0 };

const MANIFEST: &str = "comparison.json";
pub(crate) const RUNS: &str = "runs";
const STARTS: &str = "starts";

/// Whether a folder holds a comparison.
pub(crate) fn is_comparison(dir: &Path) -> bool {
    dir.join(MANIFEST).is_file()
}

/// Where the runs of a comparison lie, or would.
#[derive(Clone, Debug)]
pub struct ComparisonLayout {
    dir: PathBuf,
}

impl ComparisonLayout {
    /// In this folder, which need not be there.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Whether a comparison lies there.
    pub fn is_there(&self) -> bool {
        is_comparison(&self.dir)
    }

    /// Refuses a folder in which something else lies than a comparison.
    pub fn check_free(&self) -> Result<(), RunError> {
        match foreign(&self.dir)? {
            Some(found) => {
                let other = what_it_is(&self.dir)?;
                Err(RunError::ForeignFolder { dir: self.dir.clone(), found, other })
            }
            None => Ok(()),
        }
    }

    /// Reads a file that was published, if it is there.
    pub fn read(&self, name: &str) -> Result<Option<String>, RunError> {
        let path = self.dir.join(name);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(disk::read_text(&path)?))
    }

    /// Where the run of an entry (by the name of its folder) and a seed lies.
    pub fn run_dir(&self, entry: &str, seed: u64) -> PathBuf {
        self.dir.join(RUNS).join(entry).join(seed_name(seed))
    }

    /// Where the start of this name and a seed lies: a run folder that holds iteration 0 only.
    pub fn start_dir(&self, start: &str, seed: u64) -> PathBuf {
        self.dir.join(STARTS).join(start).join(seed_name(seed))
    }

    /// The starts of a seed that are there.
    pub fn starts(&self, seed: u64) -> Result<Vec<PathBuf>, RunError> {
        let folders = disk::entries(&self.dir.join(STARTS))?.into_iter();
        let of_seed = folders.map(|folder| folder.join(seed_name(seed)));
        Ok(of_seed.filter(|dir| dir.is_dir()).collect())
    }
}

/// The folder of a comparison, held by this process.
#[derive(Debug)]
pub struct ComparisonStore {
    dir: PathBuf,
    _lock: RunLock,
}

impl ComparisonStore {
    /// Opens the comparison in `dir`, or makes one in a folder that is missing or empty.
    pub fn open_or_create(dir: &Path, bstar_version: &str) -> Result<Self, RunError> {
        disk::create_folder(dir)?;
        let manifest = dir.join(MANIFEST);
        if manifest.exists() {
            check_format(&manifest)?;
        } else {
            ComparisonLayout::new(dir).check_free()?;
        }
        let lock = match RunLock::acquire(&dir.join(layout::LOCK))? {
            Attempt::Held(lock) => lock,
            Attempt::Taken(pid) => return Err(RunError::Locked { dir: dir.to_owned(), pid }),
        };
        disk::remove_temporaries(dir)?;
        if !manifest.exists() {
            let fields = json!({ "format": COMPARISON_FORMAT, "bstar_version": bstar_version });
            let text = format!("{fields:#}\n");
            disk::publish(&manifest, |sink| sink.write_all(text.as_bytes()))?;
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Puts the config as written beside the runs. What was begun should agree with it by then.
    pub fn keep_config(&self, config_toml: &str) -> Result<(), RunError> {
        self.publish("config.toml", config_toml.as_bytes()).map(drop)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its runs lie.
    pub fn layout(&self) -> ComparisonLayout {
        ComparisonLayout::new(&self.dir)
    }

    /// Removes every run, every start and what validation found.
    pub fn discard_runs(&self) -> Result<(), RunError> {
        for folder in [RUNS, STARTS] {
            for entry in disk::entries(&self.dir.join(folder))? {
                for run in disk::entries(&entry)? {
                    RunStore::discard(&run)?;
                }
            }
        }
        Ok(disk::remove(&self.dir.join("validation"))?)
    }

    /// Publishes a file of the comparison; `name` may lie in a folder.
    pub fn publish(&self, name: &str, content: &[u8]) -> Result<PathBuf, RunError> {
        let path = self.dir.join(name);
        disk::create_folder(path.parent().unwrap_or(&self.dir))?;
        disk::publish(&path, |sink| sink.write_all(content))?;
        Ok(path)
    }
}

fn seed_name(seed: u64) -> String {
    format!("seed-{seed:04}")
}

/// A file that is no part of a comparison that was just begun.
fn foreign(dir: &Path) -> Result<Option<String>, RunError> {
    let is_ours = |path: &PathBuf| {
        crate::lock::is_lock_file(path) || path.ends_with(format!(".{MANIFEST}.tmp"))
    };
    let found = disk::entries(dir)?.into_iter().find(|path| !is_ours(path));
    Ok(found.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()))
}

/// What a folder with files is, if it is of bstar.
pub(crate) fn what_it_is(dir: &Path) -> Result<Option<&'static str>, RunError> {
    let is_comparison = |dir: &Path| ComparisonLayout::new(dir).is_there();
    if is_comparison(dir) {
        return Ok(Some("a comparison"));
    }
    if view::has_manifest(dir) {
        return Ok(Some("a run"));
    }
    let holds =
        disk::entries(dir)?.iter().any(|path| view::has_manifest(path) || is_comparison(path));
    Ok(holds.then_some("a folder of runs"))
}

fn check_format(manifest: &Path) -> Result<(), RunError> {
    let broken = |problem: String| RunError::BrokenFile { path: manifest.to_owned(), problem };
    let text = disk::read_text(manifest)?;
    let fields: Value = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    let format = fields["format"].as_str().unwrap_or_default().parse();
    let found: FormatVersion = format.map_err(broken)?;
    if found.is_readable_by(COMPARISON_FORMAT) {
        return Ok(());
    }
    let dir = manifest.parent().unwrap_or(Path::new("")).to_owned();
    let wrote = fields["bstar_version"].as_str().unwrap_or("(unknown)").to_owned();
    Err(RunError::NewerFormat { dir, found, wrote })
}
