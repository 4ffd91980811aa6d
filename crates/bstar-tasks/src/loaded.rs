//! Loading a task, and the task once loaded.
//!
//! Loading is where everything that can be wrong with settings and files is found; afterwards only
//! responses vary, and grading them cannot fail. A task holds its queries in memory.

use crate::arithmetic::{self, ArithmeticConfig};
use crate::config::{FilesConfig, TaskConfig, TaskKind};
use crate::equations as marked_equations;
use crate::error::TaskError;
use crate::format::Format;
use crate::records::{File, RecordError, read_file};
use crate::splits::{check_ids, check_settings, split, tell_ids_apart};
use crate::steps;
use bstar_core::ports::{Example, Task};
use bstar_core::{Fault, Grade, Query, RngKey, Verdict};
use bstar_verify::{Rule, Sameness, Verifier, extract};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Loads the task that `config` describes. What is drawn at random is drawn with `key`, unless the
/// configuration has a seed of its own; relative paths start at `base_dir`.
pub fn load(config: &TaskConfig, key: RngKey, base_dir: &Path) -> Result<LoadedTask, TaskError> {
    let name = config.name.as_deref().unwrap_or(config.kind.name());
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(is_word) {
        let hint = "use letters, digits, `_`, `-` and `.` in task.name";
        return Err(TaskError::config(format!("invalid task.name {name:?}"), hint));
    }
    let key = config.seed.map_or(key, RngKey::from_seed).child("task");
    match (config.kind, &config.arithmetic, &config.files) {
        (TaskKind::Arithmetic, settings, None) => {
            load_arithmetic(settings.clone().unwrap_or_default(), name, key)
        }
        (TaskKind::Arithmetic, _, Some(_)) => Err(TaskError::config(
            "task.files is set, but an arithmetic task is generated",
            "remove task.files, or set task.kind",
        )),
        (kind, Some(_), _) => Err(TaskError::config(
            format!("task.arithmetic is set, but task.kind is {}", kind.name()),
            "remove task.arithmetic, or set task.kind to arithmetic",
        )),
        (kind, None, files) => {
            let files = files.clone().unwrap_or_default();
            load_files(kind, &files, name, key, base_dir)
        }
    }
}

/// A task that is ready to be asked.
#[derive(Clone, Debug)]
pub struct LoadedTask {
    name: String,
    supervised: Vec<Example>,
    train: Vec<Query>,
    validation: Vec<Query>,
    test: Vec<Query>,
    notices: Vec<String>,
    check: Check,
}

/// How responses are read.
#[derive(Clone, Debug)]
enum Check {
    Arithmetic(ArithmeticConfig),
    Text { rules: Vec<Rule>, verifier: Verifier },
}

impl LoadedTask {
    /// Prompts with solutions, for the supervised start: generated ones, or the training queries
    /// that have a gold solution.
    pub fn supervised(&self) -> &[Example] {
        &self.supervised
    }

    /// SHA-256 (hex) of everything that a run takes from the data: a continued run must find the
    /// same.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        for example in &self.supervised {
            add(&example.prompt);
            add(&example.response);
        }
        for (name, queries) in
            [("train", &self.train), ("validation", &self.validation), ("test", &self.test)]
        {
            add(name);
            for query in queries {
                add(query.id.as_str());
                add(&query.prompt);
                add(&query.gold_answer);
                add(query.gold_solution.as_deref().unwrap_or_default());
            }
        }
        hasher.finalize().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes every write");
            hex
        })
    }

    /// The task without the queries and examples that do not fit, and how many those were.
    pub fn fitting(
        mut self,
        query_fits: impl Fn(&Query) -> bool,
        example_fits: impl Fn(&Example) -> bool,
    ) -> (Self, usize) {
        let count = |task: &Self| {
            task.supervised.len() + task.train.len() + task.validation.len() + task.test.len()
        };
        let before = count(&self);
        self.supervised.retain(example_fits);
        for queries in [&mut self.train, &mut self.validation, &mut self.test] {
            queries.retain(&query_fits);
        }
        let left_out = before - count(&self);
        (self, left_out)
    }

    /// What the user should know about the data: sentences without a full stop.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// The equations of a response as a task of this kind counts them for diversity (spec §2):
/// rewriting states for `arithmetic`, marked formulas for every other kind.
pub fn equations(kind: TaskKind, response: &str) -> Vec<String> {
    match kind {
        TaskKind::Arithmetic => arithmetic::equations(response),
        TaskKind::Gsm8k | TaskKind::Math | TaskKind::ArcChallenge | TaskKind::Records => {
            marked_equations::in_response(response)
        }
    }
}

impl Task for LoadedTask {
    fn name(&self) -> &str {
        &self.name
    }

    fn train(&self) -> &[Query] {
        &self.train
    }

    fn validation(&self) -> &[Query] {
        &self.validation
    }

    fn test(&self) -> &[Query] {
        &self.test
    }

    fn grade(&self, query: &Query, response: &str) -> Result<Grade, Fault> {
        Ok(match &self.check {
            Check::Arithmetic(_) => arithmetic::grade(query, response),
            Check::Text { rules, verifier } => grade_text(rules, *verifier, query, response),
        })
    }

    fn steps(&self, response: &str) -> Vec<Range<usize>> {
        match &self.check {
            Check::Arithmetic(_) => arithmetic::steps(response),
            Check::Text { .. } => steps::paragraphs(response),
        }
    }

    fn equations(&self, response: &str) -> Vec<String> {
        match &self.check {
            Check::Arithmetic(_) => arithmetic::equations(response),
            Check::Text { .. } => marked_equations::in_response(response),
        }
    }

    fn check_steps(&self, query: &Query, response: &str) -> Option<bool> {
        match &self.check {
            Check::Arithmetic(config) => Some(arithmetic::check_steps(config, query, response)),
            Check::Text { .. } => None,
        }
    }
}

fn load_arithmetic(
    config: ArithmeticConfig,
    name: &str,
    key: RngKey,
) -> Result<LoadedTask, TaskError> {
    let generated = arithmetic::generate(&config, name, key)?;
    Ok(LoadedTask {
        name: name.to_owned(),
        supervised: generated.supervised,
        train: generated.train,
        validation: generated.validation,
        test: generated.test,
        notices: Vec::new(),
        check: Check::Arithmetic(config),
    })
}

fn load_files(
    kind: TaskKind,
    config: &FilesConfig,
    name: &str,
    key: RngKey,
    base_dir: &Path,
) -> Result<LoadedTask, TaskError> {
    let format = Format::new(kind, config)?;
    check_settings(config)?;
    if config.train.is_none() && config.validation.is_none() && config.test.is_none() {
        let problem = format!("no data files for task {name}");
        return Err(TaskError::config(problem, "set task.files.train and task.files.test"));
    }
    let read = |path: &Option<PathBuf>, key, split| match path {
        Some(path) => {
            let file = read_file(&base_dir.join(path), key, &format!("{name}/{split}"), &format)?;
            check_targets(&file, &format)?;
            Ok(Some(file))
        }
        None => Ok::<_, TaskError>(None),
    };
    let mut train = read(&config.train, "task.files.train", "train")?;
    let mut validation = read(&config.validation, "task.files.validation", "validation")?;
    let mut test = read(&config.test, "task.files.test", "test")?;
    let told_apart = tell_ids_apart([
        ("train", train.as_mut()),
        ("validation", validation.as_mut()),
        ("test", test.as_mut()),
    ]);
    check_ids(&[train.as_ref(), validation.as_ref(), test.as_ref()])?;
    let mut splits = split(config, train, validation, test, key)?;
    if told_apart {
        let notice = "several files use the same ids, so each id has its split before it";
        splits.notices.push(notice.into());
    }
    let queries = |records: Vec<crate::records::Record>| -> Vec<Query> {
        records.into_iter().map(|record| record.query).collect()
    };
    let train = queries(splits.train);
    let with_solution = train.iter().filter_map(|query| {
        let response = query.gold_solution.as_deref()?.into();
        Some(Example { prompt: query.prompt.as_str().into(), response })
    });
    Ok(LoadedTask {
        name: name.to_owned(),
        supervised: with_solution.collect(),
        train,
        validation: queries(splits.validation),
        test: queries(splits.test),
        notices: splits.notices,
        check: Check::Text { rules: format.rules, verifier: format.verifier },
    })
}

/// A policy that learns targets which are not graded correct would learn to fail.
fn check_targets(file: &File, format: &Format) -> Result<(), RecordError> {
    for record in &file.records {
        let Some(solution) = &record.query.gold_solution else { continue };
        let grade = grade_text(&format.rules, format.verifier, &record.query, solution);
        if !grade.verdict.is_correct() {
            return Err(RecordError::Target {
                path: file.path.clone(),
                line: record.line,
                found: grade.answer.map_or("no answer".to_owned(), |answer| format!("{answer:?}")),
            });
        }
    }
    Ok(())
}

fn grade_text(rules: &[Rule], verifier: Verifier, query: &Query, response: &str) -> Grade {
    let Some(answer) = extract(response, rules) else {
        return Grade { answer: None, verdict: Verdict::NoAnswer };
    };
    let verdict = match verifier.compare(answer, &query.gold_answer) {
        Sameness::Same => Verdict::Correct,
        Sameness::Different => Verdict::Incorrect,
        Sameness::CannotTell => Verdict::Ungradable,
    };
    Grade { answer: Some(answer.to_owned()), verdict }
}
