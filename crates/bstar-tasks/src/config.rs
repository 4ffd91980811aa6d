//! Settings of a task: the `[task]` table of a configuration.
//!
//! Every setting but `kind` has a default; those that depend on the kind of task (columns, prompt,
//! target, extraction, verifier) are absent here and filled in when the task is loaded. Nothing is
//! read or checked in this file.

use crate::arithmetic::ArithmeticConfig;
use crate::programs::ProgramsConfig;
use bstar_verify::{Rule, Verifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where queries come from and how answers are checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Which task. Only `arithmetic` needs no data files.
    pub kind: TaskKind,
    /// The name in metric names and query ids; by default that of the kind. Letters, digits, `_`,
    /// `-` and `.` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fixes generated queries and the validation split. Without it they follow the seed of the
    /// run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What becomes of queries that do not fit into the model's context.
    #[serde(default)]
    pub long_queries: LongQueries,
    /// The generator of arithmetic queries; only with `kind = "arithmetic"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<ArithmeticConfig>,
    /// Only with the kinds that read files. Keys that are not set mean what fits the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesConfig>,
    /// How programs are run; only with the kinds whose answers are programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<ProgramsConfig>,
}

/// What becomes of queries whose prompt, or worked solution, does not fit into the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LongQueries {
    /// An error that names the first.
    #[default]
    Refuse,
    /// They are left out, and counted. Accuracies are then about the others.
    LeaveOut,
}

/// Kinds of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Generated expressions, solved by rewriting.
    #[default]
    Arithmetic,
    /// GSM8K files as published.
    Gsm8k,
    /// MATH files as published, MATH-500 included.
    Math,
    /// ARC-Challenge files as published.
    ArcChallenge,
    /// APPS files as published: programs, tested by runs or by calls.
    Apps,
    /// The HumanEval file as published: functions to complete.
    #[serde(rename = "humaneval")]
    HumanEval,
    /// MBPP files as published: functions to write.
    Mbpp,
    /// Puzzles of four numbers that make 24.
    #[serde(rename = "game24")]
    Game24,
    /// Any file of questions and answers.
    Records,
}

/// Who a prompt is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PromptStyle {
    /// A model that goes on from text: the format of the paper, or of those who published the set.
    #[default]
    Paper,
    /// A model that was taught to chat: an instruction, wrapped in the model's own chat template.
    Chat,
}

impl TaskKind {
    /// The name in configurations and, by default, of the task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Gsm8k => "gsm8k",
            Self::Math => "math",
            Self::ArcChallenge => "arc_challenge",
            Self::Apps => "apps",
            Self::HumanEval => "humaneval",
            Self::Mbpp => "mbpp",
            Self::Game24 => "game24",
            Self::Records => "records",
        }
    }
}

impl TaskKind {
    /// Whether answers are programs, judged by running them.
    pub fn is_programs(self) -> bool {
        matches!(self, Self::Apps | Self::HumanEval | Self::Mbpp)
    }
}

/// Data files and how their rows become queries.
///
/// Training rows whose prompt also stands in the validation or test file are left out, and
/// validation rows that stand in the test file too; the task says how many. If more than half of
/// the held-out queries are met again, the files are taken for the same data, which is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// File of training queries: JSON Lines (`.jsonl`, also `.gz` and `.zst`) or Parquet. A relative
    /// path starts at the folder of the config file that names it; given with `--set`, at the
    /// working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// File of validation queries; without one they are taken from the training file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// File of test queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Validation queries to take from the training file, drawn by seed; by default a tenth, at
    /// most 500. Only without a validation file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_size: Option<usize>,
    /// Keep this many training queries, spread evenly over the file, after the validation split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// Keep this many validation queries, spread evenly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_limit: Option<usize>,
    /// Keep this many test queries, spread evenly over the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// How the columns of the files are called.
    pub columns: ColumnsConfig,
    /// Whether prompts are for a model that goes on from text or for one that chats.
    pub style: PromptStyle,
    /// The prompt, with `{question}` and, where there are options, `{choices}`; `{{` and `}}` are
    /// braces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The response to learn from a gold solution, with `{solution}` and `{answer}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Ways to find the answer in a response, tried in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<Vec<Rule>>,
    /// How the answer found is compared with the gold answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifier: Option<Verifier>,
    /// Leave out up to this many rows of each file whose gold answer cannot be read, and say so;
    /// more are an error. By default none, but 2 for MATH: that many rows of the published
    /// training file have an empty box.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable_rows: Option<usize>,
    /// Keep up to this many gold solutions of a query for supervised fine-tuning, where the data has
    /// several; the paper takes 5 for APPS (appendix B.3). By default 5 for APPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solutions_per_query: Option<usize>,
    /// Remove the calculator annotations `<<48/2=24>>` from GSM8K solutions. Diversity counts
    /// them as equations, so they are kept by default.
    pub drop_calculator_annotations: bool,
}

/// The column that holds each part of a row; an absent entry means that of the kind of task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnsConfig {
    /// Unique name of the row. Without such a column it is `<task>/<split>/<line>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The gold answer; for GSM8K the solution that ends in `#### N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// A worked solution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
    /// Options of a multiple-choice question: a list of texts, or `{text: […], label: […]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<String>,
    /// Tests of a program: inputs and outputs, a list of assertions, or code that defines `check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<String>,
    /// Code that a program starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starter: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_needs_only_its_kind() {
        let config: TaskConfig = serde_json::from_str(r#"{"kind": "gsm8k"}"#).unwrap();
        assert_eq!(config.kind, TaskKind::Gsm8k);
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"kind":"gsm8k","long_queries":"refuse"}"#
        );
    }

    #[test]
    fn rules_are_written_as_data() {
        let text = r#"{"kind": "records", "files": {
            "extract": [{"after_last": "A:"}, "boxed"], "verifier": "number",
            "columns": {"question": "q"}}}"#;
        let files = serde_json::from_str::<TaskConfig>(text).unwrap().files.unwrap();
        assert_eq!(files.extract, Some(vec![Rule::AfterLast("A:".into()), Rule::Boxed]));
        assert_eq!(files.verifier, Some(Verifier::Number));
        assert_eq!(files.columns.question.as_deref(), Some("q"));
    }

    #[test]
    fn unknown_keys_fail_at_every_level() {
        for text in [
            r#"{"kind": "gsm8k", "file": {}}"#,
            r#"{"kind": "gsm8k", "files": {"trian": "a"}}"#,
            r#"{"kind": "gsm8k", "files": {"columns": {"questions": "a"}}}"#,
            r#"{"kind": "arithmetic", "arithmetic": {"modulo": 7}}"#,
            r#"{"kind": "arithmetic", "arithmetic": {"operators": {"plus": 7}}}"#,
            r#"{"kind": "gsm9k"}"#,
            r"{}",
        ] {
            assert!(serde_json::from_str::<TaskConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        for kind in [
            TaskKind::Arithmetic,
            TaskKind::Gsm8k,
            TaskKind::Math,
            TaskKind::ArcChallenge,
            TaskKind::Apps,
            TaskKind::HumanEval,
            TaskKind::Mbpp,
            TaskKind::Game24,
            TaskKind::Records,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
