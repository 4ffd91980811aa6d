//! Loading a task, and the task once loaded.
//!
//! Loading is where everything that can be wrong with settings and files is found; afterwards only
//! responses vary, and grading them cannot fail unless the sandbox breaks. A task holds its queries
//! in memory.

use crate::arithmetic::{self, ArithmeticConfig};
use crate::check::{Check, grade_text};
use crate::config::{FilesConfig, PromptStyle, TaskConfig, TaskKind};
use crate::equations as marked_equations;
use crate::error::TaskError;
use crate::format::Format;
use crate::programs::Judge;
use crate::records::{File, Record, RecordError, read_file};
use crate::splits::{Splits, check_ids, check_settings, split, tell_ids_apart};
use bstar_core::ports::{Example, GradeRequest, Task, Tick};
use bstar_core::{Fault, Grade, Query, RngKey};
use bstar_sandbox::Launcher;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a task needs of the program that it is loaded in.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    /// Where relative paths start.
    pub base_dir: &'a Path,
    /// Starts the child of the sandbox that programs run in.
    pub launcher: Launcher,
}

/// Loads the task that `config` describes. What is drawn at random is drawn with `key`, unless the
/// configuration has a seed of its own.
pub fn load(config: &TaskConfig, key: RngKey, host: &Host<'_>) -> Result<LoadedTask, TaskError> {
    let name = config.name.as_deref().unwrap_or(config.kind.name());
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(is_word) {
        let hint = "use letters, digits, `_`, `-` and `.` in task.name";
        return Err(TaskError::config(format!("invalid task.name {name:?}"), hint));
    }
    let key = config.seed.map_or(key, RngKey::from_seed).child("task");
    check_tables(config)?;
    match config.kind {
        TaskKind::Arithmetic => {
            load_arithmetic(config.arithmetic.clone().unwrap_or_default(), name, key)
        }
        _ => load_files(config, name, key, host),
    }
}

/// Refuses tables that the kind of task has no use for.
fn check_tables(config: &TaskConfig) -> Result<(), TaskError> {
    let kind = config.kind.name();
    if config.kind == TaskKind::Arithmetic && config.files.is_some() {
        return Err(TaskError::config(
            "task.files is set, but an arithmetic task is generated",
            "remove task.files, or set task.kind",
        ));
    }
    if config.kind != TaskKind::Arithmetic && config.arithmetic.is_some() {
        return Err(TaskError::config(
            format!("task.arithmetic is set, but task.kind is {kind}"),
            "remove task.arithmetic, or set task.kind to arithmetic",
        ));
    }
    if !config.kind.is_programs() && config.programs.is_some() {
        return Err(TaskError::config(
            format!("task.programs is set, but the answers of {kind} are no programs"),
            "remove task.programs, or set task.kind to apps, humaneval or mbpp",
        ));
    }
    Ok(())
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
    style: PromptStyle,
    check: Check,
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

    /// Whom the prompts are written for.
    pub fn style(&self) -> PromptStyle {
        self.style
    }

    /// How programs are run and confined, where answers are programs.
    pub fn judge(&self) -> Option<&Judge> {
        match &self.check {
            Check::Programs { judge, .. } => Some(judge),
            _ => None,
        }
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
        TaskKind::Apps | TaskKind::HumanEval | TaskKind::Mbpp => Vec::new(),
        TaskKind::Gsm8k
        | TaskKind::Math
        | TaskKind::ArcChallenge
        | TaskKind::Game24
        | TaskKind::Records => marked_equations::in_response(response),
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
        self.check.grade(query, response)
    }

    fn grade_all(
        &self,
        requests: &[GradeRequest<'_>],
        tick: Tick<'_>,
    ) -> Result<Vec<Grade>, Fault> {
        self.check.grade_all(requests, tick)
    }

    fn steps(&self, response: &str) -> Vec<Range<usize>> {
        self.check.steps(response)
    }

    fn equations(&self, response: &str) -> Vec<String> {
        self.check.equations(response)
    }

    fn checker(&self) -> Option<String> {
        let judge = self.judge()?;
        Some(format!("Python {}, sandbox: {}", judge.python().version, judge.level()))
    }

    fn check_steps(&self, query: &Query, response: &str) -> Option<bool> {
        self.check.check_steps(query, response)
    }

    fn check_steps_all(&self, requests: &[GradeRequest<'_>]) -> Vec<Option<bool>> {
        let check = |request: &GradeRequest<'_>| self.check_steps(request.query, request.response);
        requests.par_iter().map(check).collect()
    }

    fn check_each_step(&self, query: &Query, response: &str) -> Option<Vec<bool>> {
        self.check.check_each_step(query, response)
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
        style: PromptStyle::Paper,
        check: Check::Arithmetic(config),
    })
}

fn load_files(
    task: &TaskConfig,
    name: &str,
    key: RngKey,
    host: &Host<'_>,
) -> Result<LoadedTask, TaskError> {
    let TaskConfig { kind, files, programs, .. } = task;
    let (kind, config) = (*kind, files.clone().unwrap_or_default());
    let format = Format::new(kind, &config)?;
    check_settings(&config)?;
    if config.train.is_none() && config.validation.is_none() && config.test.is_none() {
        let problem = format!("no data files for task {name}");
        return Err(TaskError::config(problem, "set task.files.train and task.files.test"));
    }
    // Without an interpreter or a sandbox nothing can be graded: found before files are read.
    let judge = if kind.is_programs() {
        Some(Judge::new(&programs.clone().unwrap_or_default(), host.launcher.clone())?)
    } else {
        None
    };
    let Splits { train, validation, test, notices } =
        read_splits(&config, &format, name, key, host.base_dir)?;
    let check = match judge {
        Some(judge) => {
            let records = [&train, &validation, &test].into_iter().flatten();
            let suites =
                records.filter_map(|record| Some((record.query.id.clone(), record.suite.clone()?)));
            Check::Programs { judge, suites: Arc::new(suites.collect()) }
        }
        None if kind == TaskKind::Game24 => Check::Game24,
        None => Check::Text { rules: format.rules, verifier: format.verifier },
    };
    let queries = |records: Vec<Record>| -> Vec<Query> {
        records.into_iter().map(|record| record.query).collect()
    };
    Ok(LoadedTask {
        name: name.to_owned(),
        supervised: train.iter().flat_map(examples).collect(),
        train: queries(train),
        validation: queries(validation),
        test: queries(test),
        notices,
        style: config.style,
        check,
    })
}

/// The records of each split.
fn read_splits(
    config: &FilesConfig,
    format: &Format,
    name: &str,
    key: RngKey,
    base_dir: &Path,
) -> Result<Splits, TaskError> {
    let read = |path: &Option<PathBuf>, key, split| match path {
        Some(path) => {
            let file = read_file(&base_dir.join(path), key, &format!("{name}/{split}"), format)?;
            check_targets(&file, format)?;
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
    Ok(splits)
}

/// What supervised fine-tuning learns from a record.
fn examples(record: &Record) -> impl Iterator<Item = Example> {
    let solutions = record.query.gold_solution.iter().chain(&record.more_solutions);
    solutions.map(|solution| Example {
        prompt: record.query.prompt.as_str().into(),
        response: solution.as_str().into(),
    })
}

/// A policy that learns targets which are not graded correct would learn to fail. Programs are not
/// tried: thousands of them would take hours.
fn check_targets(file: &File, format: &Format) -> Result<(), RecordError> {
    if format.rules.is_empty() {
        return Ok(());
    }
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
