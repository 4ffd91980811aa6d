//! Which records are for training, validation and testing.
//!
//! In this order: ids are checked to be unique over all files; training records that are met again
//! among the held-out ones are left out (same prompt up to white space); validation records are
//! taken from the training file by seed, if they have no file, and the training records that share a
//! prompt with one of them are left out; limits keep records spread evenly,
//! so that a file sorted by subject keeps all subjects and no seed decides which are kept.

use crate::config::FilesConfig;
use crate::records::{File, Record, RecordError};
use bstar_core::rng::shuffle;
use bstar_core::{Fault, FaultClass, RngKey};
use bstar_verify::exact::normalize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use thiserror::Error;

/// The largest validation split that is made without being asked for: that of the paper.
const MAX_DEFAULT_VALIDATION: usize = 500;

/// The records of each split, and what the user should know about them.
#[derive(Debug, Default)]
pub(crate) struct Splits {
    pub(crate) train: Vec<Record>,
    pub(crate) validation: Vec<Record>,
    pub(crate) test: Vec<Record>,
    pub(crate) notices: Vec<String>,
}

/// Checks what can be checked before any file is read.
pub(crate) fn check_settings(config: &FilesConfig) -> Result<(), SplitError> {
    if config.validation.is_some() && config.validation_size.is_some() {
        return Err(SplitError::ValidationTwice);
    }
    let limits = [
        ("train", config.train_limit),
        ("validation", config.validation_limit),
        ("test", config.test_limit),
    ];
    match limits.into_iter().find(|(_, limit)| *limit == Some(0)) {
        Some((split, _)) => Err(SplitError::ZeroLimit { split }),
        None => Ok(()),
    }
}

/// Where two files number their rows alike, puts the name of the split before every id; says whether
/// it did.
pub(crate) fn tell_ids_apart(mut files: [(&str, Option<&mut File>); 3]) -> bool {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut shared = false;
    for file in files.iter().filter_map(|(_, file)| file.as_deref()) {
        let ids: BTreeSet<&str> = file.records.iter().map(|r| r.query.id.as_str()).collect();
        shared |= ids.iter().any(|id| seen.contains(id));
        seen.extend(ids);
    }
    if shared {
        for (split, file) in &mut files {
            for record in file.iter_mut().flat_map(|file| &mut file.records) {
                record.query.id = format!("{split}/{}", record.query.id).into();
            }
        }
    }
    shared
}

/// Checks that no id stands twice.
pub(crate) fn check_ids(files: &[Option<&File>]) -> Result<(), RecordError> {
    let mut seen: BTreeMap<&str, (&File, u64)> = BTreeMap::new();
    for file in files.iter().copied().flatten() {
        for record in &file.records {
            let id = record.query.id.as_str();
            if let Some((first, first_line)) = seen.insert(id, (file, record.line)) {
                return Err(RecordError::DuplicateId {
                    id: id.to_owned(),
                    path: file.path.clone(),
                    line: record.line,
                    first_path: first.path.clone(),
                    first_line,
                });
            }
        }
    }
    Ok(())
}

/// Distributes the records.
pub(crate) fn split(
    config: &FilesConfig,
    train: Option<File>,
    validation: Option<File>,
    test: Option<File>,
    key: RngKey,
) -> Result<Splits, SplitError> {
    let files = [&train, &validation, &test].into_iter().flatten();
    let notices = files.flat_map(|file| file.left_out.iter().cloned()).collect();
    let mut splits = Splits { notices, ..Splits::default() };
    let test = test.map(|file| (file.path, file.records));
    let held_out = |file: &Option<(PathBuf, Vec<Record>)>| match file {
        Some((path, records)) => vec![(path.clone(), prompts(records))],
        None => Vec::new(),
    };
    let mut against = held_out(&test);
    let validation = match validation {
        Some(file) => {
            Some((file.path.clone(), drop_met(file, "validation", &against, &mut splits)?))
        }
        None => None,
    };
    against.extend(held_out(&validation));
    let mut train = match train {
        Some(file) => drop_met(file, "train", &against, &mut splits)?,
        None => Vec::new(),
    };
    splits.test = test.map(|(_, records)| records).unwrap_or_default();
    splits.validation = match validation {
        Some((_, records)) => records,
        None => take_validation(&mut train, config.validation_size, key, &mut splits.notices)?,
    };
    splits.train = limited(train, config.train_limit);
    splits.validation = limited(splits.validation, config.validation_limit);
    splits.test = limited(splits.test, config.test_limit);
    Ok(splits)
}

/// Why files do not make splits.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SplitError {
    /// Most held-out queries are met again in a file that should differ.
    #[error(
        "{met} of {held_out} queries of {} stand in {} too",
        held_out_path.display(),
        path.display()
    )]
    SameData {
        /// Queries met again.
        met: usize,
        /// Queries of the held-out file.
        held_out: usize,
        /// The held-out file.
        held_out_path: PathBuf,
        /// The other file.
        path: PathBuf,
    },
    /// The validation split leaves nothing to train on.
    #[error("cannot take {size} validation queries from {rows} training queries")]
    ValidationTooLarge {
        /// Validation queries wanted.
        size: usize,
        /// Training queries there are.
        rows: usize,
    },
    /// A validation file and a size to take from the training file.
    #[error("both task.files.validation and task.files.validation_size are set")]
    ValidationTwice,
    /// A limit keeps nothing.
    #[error("task.files.{split}_limit is 0")]
    ZeroLimit {
        /// The split.
        split: &'static str,
    },
}

impl From<SplitError> for Fault {
    fn from(error: SplitError) -> Self {
        let (class, hint) = match &error {
            SplitError::SameData { .. } => (
                FaultClass::Data,
                "name different files in task.files.train, validation and test".to_owned(),
            ),
            SplitError::ValidationTooLarge { .. } => (
                FaultClass::Usage,
                "lower task.files.validation_size, or name a task.files.validation".to_owned(),
            ),
            SplitError::ValidationTwice => {
                (FaultClass::Usage, "remove one; task.files.validation_limit shortens".to_owned())
            }
            SplitError::ZeroLimit { split } => {
                (FaultClass::Usage, format!("raise it, or remove task.files.{split}"))
            }
        };
        Self::new(class, error.to_string()).hint(hint)
    }
}

/// Prompts without differences in white space.
fn prompts(records: &[Record]) -> BTreeSet<String> {
    records.iter().map(|record| normalize(&record.query.prompt)).collect()
}

/// The records of `file` that no held-out file holds.
fn drop_met(
    file: File,
    split: &str,
    against: &[(PathBuf, BTreeSet<String>)],
    splits: &mut Splits,
) -> Result<Vec<Record>, SplitError> {
    let own = prompts(&file.records);
    for (held_out_path, held_out) in against {
        let met = held_out.intersection(&own).count();
        if 2 * met > held_out.len() {
            return Err(SplitError::SameData {
                met,
                held_out: held_out.len(),
                held_out_path: held_out_path.clone(),
                path: file.path,
            });
        }
    }
    let count = file.records.len();
    let mut records = file.records;
    records.retain(|record| {
        let prompt = normalize(&record.query.prompt);
        !against.iter().any(|(_, held_out)| held_out.contains(&prompt))
    });
    let dropped = count - records.len();
    if dropped > 0 {
        splits.notices.push(format!(
            "left out {dropped} of {count} {split} queries that are held-out queries too"
        ));
    }
    Ok(records)
}

fn take_validation(
    train: &mut Vec<Record>,
    size: Option<usize>,
    key: RngKey,
    notices: &mut Vec<String>,
) -> Result<Vec<Record>, SplitError> {
    let rows = train.len();
    let size = size.unwrap_or_else(|| (rows / 10).min(MAX_DEFAULT_VALIDATION));
    if size > 0 && size >= rows {
        return Err(SplitError::ValidationTooLarge { size, rows });
    }
    let mut order: Vec<usize> = (0..rows).collect();
    shuffle(&mut order, &mut key.child("validation").rng());
    let chosen: BTreeSet<usize> = order.into_iter().take(size).collect();
    let indexed = std::mem::take(train).into_iter().enumerate();
    let (validation, rest): (Vec<_>, Vec<_>) =
        indexed.partition(|(index, _)| chosen.contains(index));
    let validation: Vec<Record> = validation.into_iter().map(|(_, record)| record).collect();
    let held_out = prompts(&validation);
    *train = rest.into_iter().map(|(_, record)| record).collect();
    let count = train.len();
    train.retain(|record| !held_out.contains(&normalize(&record.query.prompt)));
    if size > 0 && train.is_empty() {
        return Err(SplitError::ValidationTooLarge { size, rows });
    }
    let dropped = count - train.len();
    if dropped > 0 {
        notices.push(format!(
            "left out {dropped} of {count} train queries that are validation queries too"
        ));
    }
    Ok(validation)
}

/// At most `limit` records, spread evenly.
fn limited(records: Vec<Record>, limit: Option<usize>) -> Vec<Record> {
    let count = records.len();
    let limit = limit.unwrap_or(count).min(count);
    // Record i is kept where i·limit/count steps to the next whole number.
    let is_kept = |i: usize| i * limit / count.max(1) != (i + 1) * limit / count.max(1);
    let indexed = records.into_iter().enumerate();
    indexed.filter(|(i, _)| is_kept(*i)).map(|(_, record)| record).collect()
}
