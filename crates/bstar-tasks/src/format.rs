//! What each kind of file task takes for granted: columns, prompt, target, extraction, comparison.
//!
//! | kind | prompt | target of a gold solution | answer found by | compared as |
//! |---|---|---|---|---|
//! | GSM8K | §4.1 | steps, `# Answer`, answer | last `# Answer`, last `####` | number |
//! | MATH | §4.1 | paragraphs, `# Answer`, answer | last `# Answer`, last box | mathematics |
//! | ARC-Challenge | §4.3, 0-shot | none | last `Final answer: (X)` | letter |
//! | records | §4.1 | solution, `# Answer`, answer | those of GSM8K and MATH | text |
//!
//! A setting of the configuration replaces any of these. Files are not opened here.

use crate::config::{ColumnsConfig, FilesConfig, TaskKind};
use crate::steps::ANSWER_MARKER;
use crate::template::{Template, TemplateError};
use bstar_verify::{Rule, Verifier};

/// The format of spec §4.1.
const QUESTION_PROMPT: &str = "# Question\n\n{question}\n\n# Solution\n\n";

/// The target of spec §4.1.
const QUESTION_TARGET: &str = "{solution}\n\n# Answer\n\n{answer}";

/// The 0-shot prompt of spec §4.3; its trailing space after the first line is the paper's.
const CHOICE_PROMPT: &str = "Your task is to answer the question below. Give step by step \
                             reasoning before you answer. \n\nQuestion: {question}\n{choices}\n\
                             Solution:\n";

/// A target that the extraction of spec §4.3 finds.
const CHOICE_TARGET: &str = "{solution}\nFinal answer: ({answer})";

/// Rows of the published MATH training file whose box is empty.
const PUBLISHED_EMPTY_BOXES: usize = 2;

/// How rows of files become queries, and responses are checked.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    pub(crate) kind: TaskKind,
    pub(crate) columns: Columns,
    pub(crate) prompt: Template,
    pub(crate) target: Template,
    pub(crate) rules: Vec<Rule>,
    pub(crate) verifier: Verifier,
    pub(crate) drop_calculator_annotations: bool,
    /// Rows of a file that may be left out because their gold answer cannot be read.
    pub(crate) unreadable_rows: usize,
}

/// Which column holds what.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) id: Option<Column>,
    pub(crate) question: Column,
    pub(crate) answer: Option<Column>,
    pub(crate) solution: Option<Column>,
    pub(crate) choices: Option<Column>,
}

/// A column and the setting that names it.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) key: &'static str,
    /// Whether a row without it is an error.
    pub(crate) is_needed: bool,
}

impl Format {
    /// The format of a kind of task, as changed by the configuration.
    pub(crate) fn new(kind: TaskKind, files: &FilesConfig) -> Result<Self, TemplateError> {
        let columns = Columns::new(kind, &files.columns);
        let is_choice = kind == TaskKind::ArcChallenge;
        let prompt = files.prompt.as_deref();
        let prompt = prompt.unwrap_or(if is_choice { CHOICE_PROMPT } else { QUESTION_PROMPT });
        let target = files.target.as_deref();
        let target = target.unwrap_or(if is_choice { CHOICE_TARGET } else { QUESTION_TARGET });
        let mut fields = vec!["question"];
        if columns.choices.is_some() {
            fields.push("choices");
        }
        let prompt = Template::parse(prompt, "task.files.prompt", &fields)?;
        if !prompt.uses("question") {
            let (key, field) = ("task.files.prompt", "question");
            return Err(TemplateError::MissingField { key, field });
        }
        let target = Template::parse(target, "task.files.target", &["solution", "answer"])?;
        Ok(Self {
            kind,
            columns,
            prompt,
            target,
            rules: files.extract.clone().unwrap_or_else(|| default_rules(kind)),
            verifier: files.verifier.unwrap_or_else(|| default_verifier(kind)),
            drop_calculator_annotations: files.drop_calculator_annotations,
            unreadable_rows: files
                .unreadable_rows
                .unwrap_or_else(|| if kind == TaskKind::Math { PUBLISHED_EMPTY_BOXES } else { 0 }),
        })
    }
}

impl Columns {
    fn new(kind: TaskKind, config: &ColumnsConfig) -> Self {
        // (id, question, answer, solution, choices); a `?` marks a column that a row may lack.
        let [id, question, answer, solution, choices] = match kind {
            TaskKind::Math => ["unique_id?", "problem", "answer?", "solution?", ""],
            TaskKind::ArcChallenge => ["id?", "question", "answerKey", "", "choices"],
            TaskKind::Gsm8k | TaskKind::Records | TaskKind::Arithmetic => {
                ["id?", "question", "answer", "", ""]
            }
        };
        let column = |key, set: &Option<String>, default: &str| match set {
            Some(name) => Some(Column { name: name.clone(), key, is_needed: true }),
            None if default.is_empty() => None,
            None => {
                let name = default.trim_end_matches('?');
                Some(Column { name: name.to_owned(), key, is_needed: name == default })
            }
        };
        Self {
            id: column("task.files.columns.id", &config.id, id),
            question: column("task.files.columns.question", &config.question, question)
                .expect("every kind has a question column"),
            answer: column("task.files.columns.answer", &config.answer, answer),
            solution: column("task.files.columns.solution", &config.solution, solution),
            choices: column("task.files.columns.choices", &config.choices, choices),
        }
    }
}

fn default_rules(kind: TaskKind) -> Vec<Rule> {
    let marker = Rule::AfterLast(ANSWER_MARKER.to_owned());
    let hashes = Rule::AfterLast("####".to_owned());
    match kind {
        TaskKind::Gsm8k => vec![marker, hashes],
        TaskKind::Math => vec![marker, Rule::Boxed],
        TaskKind::ArcChallenge => vec![Rule::FinalAnswerLetter],
        TaskKind::Records | TaskKind::Arithmetic => vec![marker, hashes, Rule::Boxed],
    }
}

fn default_verifier(kind: TaskKind) -> Verifier {
    match kind {
        TaskKind::Gsm8k => Verifier::Number,
        TaskKind::Math => Verifier::Math,
        TaskKind::ArcChallenge => Verifier::Choice,
        TaskKind::Records | TaskKind::Arithmetic => Verifier::Exact,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_those_of_the_specification() {
        let format = Format::new(TaskKind::Gsm8k, &FilesConfig::default()).unwrap();
        let prompt = format.prompt.render(&[("question", "Why?")]);
        assert_eq!(prompt, "# Question\n\nWhy?\n\n# Solution\n\n");
        let target = format.target.render(&[("solution", "a\n\nb"), ("answer", "3")]);
        assert_eq!(target, "a\n\nb\n\n# Answer\n\n3");
        let format = Format::new(TaskKind::ArcChallenge, &FilesConfig::default()).unwrap();
        let values = [("question", "Why?"), ("choices", "(A) x\n(B) y")];
        assert_eq!(
            format.prompt.render(&values),
            "Your task is to answer the question below. Give step by step reasoning before you \
             answer. \n\nQuestion: Why?\n(A) x\n(B) y\nSolution:\n"
        );
    }

    #[test]
    fn choices_are_a_field_only_where_there_are_options() {
        let files =
            FilesConfig { prompt: Some("{question}{choices}".into()), ..Default::default() };
        assert!(Format::new(TaskKind::Gsm8k, &files).is_err());
        assert!(Format::new(TaskKind::ArcChallenge, &files).is_ok());
        let columns = ColumnsConfig { choices: Some("options".into()), ..Default::default() };
        let files = FilesConfig { columns, ..files };
        assert!(Format::new(TaskKind::Records, &files).is_ok());
    }

    #[test]
    fn a_prompt_must_show_the_question() {
        let files = FilesConfig { prompt: Some("Answer!".into()), ..Default::default() };
        let error = Format::new(TaskKind::Math, &files).unwrap_err();
        assert_eq!(error.to_string(), "no field `{question}` in task.files.prompt");
    }
}
