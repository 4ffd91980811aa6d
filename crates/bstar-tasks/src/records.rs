//! Rows of a file as queries.
//!
//! Every error names the file, the line (row, for Parquet) and the setting or value to change. A
//! row that cannot be read is an error and never skipped silently: a model would look better or
//! worse for it. Only unreadable gold answers can be left out, up to a number that the
//! configuration sets, and are then named. Which rows go into which split is decided elsewhere.

use crate::config::TaskKind;
use crate::format::{Column, Format};
use crate::game24;
use crate::programs::Suite;
use bstar_core::{Fault, FaultClass, Query, QueryId};
use bstar_table::TableError;
use bstar_verify::{Verifier, choice, extraction};
use regex::Regex;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use thiserror::Error;

/// The queries of one file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) records: Vec<Record>,
    /// Rows left out because their gold answer cannot be read, in words.
    pub(crate) left_out: Vec<String>,
}

/// A query and the line it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) line: u64,
    pub(crate) query: Query,
    /// Gold solutions beyond that of the query, in the form of a response.
    pub(crate) more_solutions: Vec<String>,
    /// The tests, where answers are programs.
    pub(crate) suite: Option<Suite>,
}

/// Rows left out that are named one by one.
const MOST_NAMED: usize = 3;

/// Reads all rows of the file of a split. `key` is the setting that names the file.
pub(crate) fn read_file(
    path: &Path,
    key: &'static str,
    id_prefix: &str,
    format: &Format,
) -> Result<File, RecordError> {
    let table = |source| RecordError::Table { key, source };
    let mut records = Vec::new();
    let mut left_out = Vec::new();
    let mut unreadable = 0;
    let mut last_error = None;
    for row in bstar_table::read_rows(path, None).map_err(table)? {
        let row = row.map_err(table)?;
        let source = Source { path, line: row.number, row: &row.value };
        match source.record(id_prefix, format) {
            Ok(record) => records.push(record),
            Err(error @ RecordError::GoldAnswer { .. }) if unreadable < format.unreadable_rows => {
                unreadable += 1;
                if unreadable <= MOST_NAMED {
                    left_out.push(format!("left out a row: {error}"));
                }
                last_error = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    if unreadable > MOST_NAMED {
        let more = unreadable - MOST_NAMED;
        left_out.push(format!("left out {more} more such rows of {}", path.display()));
    }
    // Where no row can be read, the fault is not in the rows.
    if let Some(error) = last_error.filter(|_| records.is_empty()) {
        return Err(error);
    }
    if records.is_empty() {
        return Err(table(TableError::Empty { path: path.to_owned() }));
    }
    Ok(File { path: path.to_owned(), records, left_out })
}

/// A row with its place, for messages.
pub(crate) struct Source<'a> {
    path: &'a Path,
    line: u64,
    pub(crate) row: &'a Map<String, Value>,
}

impl Source<'_> {
    fn record(&self, id_prefix: &str, format: &Format) -> Result<Record, RecordError> {
        let columns = &format.columns;
        let id = match self.optional(columns.id.as_ref())? {
            Some(id) if !id.trim().is_empty() => id,
            _ => format!("{id_prefix}/{}", self.line),
        };
        let id = id.into();
        match format.kind {
            kind if kind.is_programs() => return self.program(id, format),
            TaskKind::Game24 => return self.puzzle(id, format),
            _ => {}
        }
        let question = self.needed(&columns.question)?;
        let options = match &columns.choices {
            Some(column) => self.options(column)?,
            None => Options::default(),
        };
        let values = [("question", question.trim()), ("choices", &options.lettered(self)?)];
        let prompt = format.prompt.render(&values);
        let (gold_answer, solution) = self.gold(format, &options)?;
        if !format.verifier.understands(&gold_answer) {
            let problem = format!("{gold_answer:?} is no {}", kind_of_answer(format.verifier));
            return Err(self.gold_error(problem, columns.answer.as_ref()));
        }
        let gold_solution = solution.filter(|solution| !solution.is_empty()).map(|solution| {
            format.target.render(&[("solution", &solution), ("answer", &gold_answer)])
        });
        let query = Query { id, prompt, gold_answer, gold_solution };
        Ok(Record { line: self.line, query, more_solutions: Vec::new(), suite: None })
    }

    /// A puzzle: the numbers are both what is asked and what an answer is checked against.
    fn puzzle(&self, id: QueryId, format: &Format) -> Result<Record, RecordError> {
        let column = &format.columns.question;
        let numbers = self.needed(column)?.trim().to_owned();
        if game24::numbers(&numbers).is_none() {
            let problem = format!("{numbers:?} is no list of four whole numbers");
            return Err(self.gold_error(problem, Some(column)));
        }
        let prompt = format.prompt.render(&[("question", &numbers)]);
        let query = Query { id, prompt, gold_answer: numbers, gold_solution: None };
        Ok(Record { line: self.line, query, more_solutions: Vec::new(), suite: None })
    }

    /// The gold answer, and a solution with its steps separated by blank lines.
    fn gold(
        &self,
        format: &Format,
        options: &Options,
    ) -> Result<(String, Option<String>), RecordError> {
        let columns = &format.columns;
        let answer = self.optional(columns.answer.as_ref())?;
        // Null in the column of solutions says that this query has none.
        let has_value = |column: &&Column| self.row.get(&column.name) != Some(&Value::Null);
        let solution = self.optional(columns.solution.as_ref().filter(has_value))?;
        let paragraphs = solution.as_deref().map(with_blank_lines);
        match (format.kind, answer) {
            (TaskKind::Gsm8k, Some(text)) => {
                let Some((steps, answer)) = text.rsplit_once("####") else {
                    let problem = "no `####` before the answer".to_owned();
                    return Err(self.gold_error(problem, columns.answer.as_ref()));
                };
                let steps = one_step_a_line(steps, format.drop_calculator_annotations);
                Ok((answer.trim().to_owned(), Some(steps)))
            }
            (TaskKind::Math, None) => {
                let column = columns.solution.as_ref().expect("MATH has a solution column");
                let solution = solution.ok_or_else(|| self.missing(column))?;
                match extraction::last_boxed(&solution).map(str::trim) {
                    Some(boxed) if !boxed.is_empty() => Ok((boxed.to_owned(), paragraphs)),
                    _ => {
                        let problem = "no \\boxed{…} with balanced braces".to_owned();
                        Err(self.gold_error(problem, Some(column)))
                    }
                }
            }
            (_, Some(key)) if !options.texts.is_empty() => {
                let letter = choice::letter_of_key(&key, &options.labels).ok_or_else(|| {
                    let labels = options.labels.join(", ");
                    let problem = format!("key {key:?} is none of the labels {labels}");
                    self.gold_error(problem, columns.answer.as_ref())
                })?;
                Ok((letter.to_string(), paragraphs))
            }
            (_, Some(answer)) => Ok((answer.trim().to_owned(), paragraphs)),
            (_, None) => {
                let column = columns.answer.as_ref().expect("every kind has an answer column");
                Err(self.missing(column))
            }
        }
    }

    /// The line, or row, in the file.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn needed(&self, column: &Column) -> Result<String, RecordError> {
        self.text(column)?.ok_or_else(|| self.missing(column))
    }

    /// The text in a column; none if the row lacks it and may.
    pub(crate) fn optional(&self, column: Option<&Column>) -> Result<Option<String>, RecordError> {
        let Some(column) = column else { return Ok(None) };
        if column.is_needed {
            return self.needed(column).map(Some);
        }
        self.text(column)
    }

    fn text(&self, column: &Column) -> Result<Option<String>, RecordError> {
        match self.row.get(&column.name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(Value::Array(_)) => Err(self.kind_error(column, "a list", "text")),
            Some(Value::Object(_)) => Err(self.kind_error(column, "an object", "text")),
        }
    }

    fn options(&self, column: &Column) -> Result<Options, RecordError> {
        let expected = "a list of texts, or {text, label} with lists of one length";
        let value = self.row.get(&column.name).ok_or_else(|| self.missing(column))?;
        let (texts, labels) = match value {
            Value::Object(fields) => {
                (fields.get("text").and_then(texts_of), fields.get("label").and_then(texts_of))
            }
            list => {
                let texts = texts_of(list);
                let count = texts.as_ref().map_or(0, Vec::len);
                let label = |position: usize| {
                    choice::letter(position)
                        .map_or_else(|| (position + 1).to_string(), String::from)
                };
                (texts, Some((0..count).map(label).collect()))
            }
        };
        match (texts, labels) {
            (Some(texts), Some(labels)) if texts.len() == labels.len() && !texts.is_empty() => {
                Ok(Options { texts, labels })
            }
            _ => Err(self.kind_error(column, "something else", expected)),
        }
    }

    fn missing(&self, column: &Column) -> RecordError {
        if self.row.contains_key(&column.name) {
            return self.kind_error(column, "null", "a value");
        }
        RecordError::MissingColumn {
            path: self.path.to_owned(),
            line: self.line,
            column: column.name.clone(),
            key: column.key,
            present: self.row.keys().cloned().collect(),
        }
    }

    fn kind_error(
        &self,
        column: &Column,
        found: &'static str,
        expected: &'static str,
    ) -> RecordError {
        RecordError::WrongKind {
            path: self.path.to_owned(),
            line: self.line,
            column: column.name.clone(),
            key: column.key,
            found,
            expected,
        }
    }

    pub(crate) fn gold_error(&self, problem: String, column: Option<&Column>) -> RecordError {
        let key = column.map_or("task.files.columns.answer", |column| column.key);
        RecordError::GoldAnswer { path: self.path.to_owned(), line: self.line, problem, key }
    }
}

/// The options of a question: texts, and the labels the data gives them.
#[derive(Default)]
struct Options {
    texts: Vec<String>,
    labels: Vec<String>,
}

impl Options {
    /// One option a line, lettered A, B, C … by position.
    fn lettered(&self, source: &Source<'_>) -> Result<String, RecordError> {
        let lines = self.texts.iter().enumerate().map(|(position, text)| {
            let letter = choice::letter(position).ok_or_else(|| RecordError::ManyOptions {
                path: source.path.to_owned(),
                line: source.line,
                count: self.texts.len(),
            })?;
            Ok(format!("({letter}) {}", text.trim()))
        });
        Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}

/// What is wrong with a file or one of its rows.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("{source}")]
    Table {
        /// The setting that names the file.
        key: &'static str,
        /// The cause, with file and line.
        source: TableError,
    },
    /// A row lacks a column.
    #[error(
        "no column `{column}` in {}:{line} (columns present: {})",
        path.display(),
        present.join(", ")
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column.
        column: String,
        /// The setting that names the column.
        key: &'static str,
        /// The columns that are there.
        present: Vec<String>,
    },
    /// A cell holds something of another kind.
    #[error("column `{column}` in {}:{line} holds {found}, expected {expected}", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column.
        column: String,
        /// The setting that names the column.
        key: &'static str,
        /// What it holds.
        found: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A question has more options than letters.
    #[error("{count} options in {}:{line}, more than letters", path.display())]
    ManyOptions {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// Options found.
        count: usize,
    },
    /// A gold answer cannot be read.
    #[error("unreadable gold answer in {}:{line}: {problem}", path.display())]
    GoldAnswer {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong.
        problem: String,
        /// The setting that names the column.
        key: &'static str,
    },
    /// A gold solution, put into the target, is not graded correct against its own answer.
    #[error("gold solution in {}:{line} is not graded correct: found {found}", path.display())]
    Target {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What extraction found in it.
        found: String,
    },
    /// Two rows have one id.
    #[error(
        "id `{id}` in {}:{line} stands in {}:{first_line} too",
        path.display(),
        first_path.display()
    )]
    DuplicateId {
        /// The id.
        id: String,
        /// The second file.
        path: PathBuf,
        /// The line there.
        line: u64,
        /// The first file.
        first_path: PathBuf,
        /// The line there.
        first_line: u64,
    },
}

impl From<RecordError> for Fault {
    fn from(error: RecordError) -> Self {
        let message = error.to_string();
        let fault = |hint: String| Self::new(FaultClass::Data, &message).hint(hint);
        match error {
            RecordError::Table { key, source } => table_fault(key, source),
            RecordError::MissingColumn { key, .. } => {
                fault(format!("set {key} to the column that holds it"))
            }
            RecordError::WrongKind { key, .. } => {
                fault(format!("set {key} to another column, or correct the file"))
            }
            RecordError::ManyOptions { .. } => {
                fault(format!("at most {} options can be lettered", choice::MAX_OPTIONS))
            }
            RecordError::GoldAnswer { key, .. } => fault(format!(
                "correct the line, set {key} or task.files.verifier, or leave such rows out with \
                 task.files.unreadable_rows"
            )),
            RecordError::Target { .. } => Self::new(FaultClass::Usage, message)
                .hint("make task.files.target, task.files.extract and task.files.verifier agree"),
            RecordError::DuplicateId { .. } => {
                fault("make ids unique, or set task.files.columns.id to another column".to_owned())
            }
        }
    }
}

fn table_fault(key: &str, error: TableError) -> Fault {
    let hint = match &error {
        TableError::Missing { .. } => {
            format!(
                "set {key}; relative paths start at the folder of the config file, those given \
                 with --set at the working directory"
            )
        }
        other => other.hint().map_or_else(|| format!("check {key}"), str::to_owned),
    };
    let fault = Fault::new(FaultClass::Data, error.to_string()).hint(hint);
    match error {
        TableError::Unreadable { source, .. } | TableError::BrokenCompression { source, .. } => {
            fault.because(source)
        }
        TableError::BrokenParquet { source, .. } => fault.because(source),
        _ => fault,
    }
}

static ANNOTATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("<<[^<>]*>>").expect("a valid pattern"));

static BLANK_LINES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\n\s*\n").expect("a valid pattern"));

/// GSM8K writes one step a line; the paper's format separates steps by blank lines.
fn one_step_a_line(solution: &str, drop_annotations: bool) -> String {
    let solution =
        if drop_annotations { ANNOTATION.replace_all(solution, "") } else { solution.into() };
    let lines = solution.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n\n")
}

fn with_blank_lines(solution: &str) -> String {
    BLANK_LINES.replace_all(solution.trim(), "\n\n").into_owned()
}

fn texts_of(value: &Value) -> Option<Vec<String>> {
    let cells = value.as_array()?.iter();
    cells
        .map(|cell| match cell {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

fn kind_of_answer(verifier: Verifier) -> &'static str {
    match verifier {
        Verifier::Exact => "text",
        Verifier::Number => "number",
        Verifier::Choice => "option letter",
        Verifier::Math => "mathematical answer",
    }
}
