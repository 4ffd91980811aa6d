//! What each kind of file task takes for granted: columns, prompt, target, extraction, comparison.
//!
//! | kind | prompt | target of a gold solution | answer found by | compared as |
//! |---|---|---|---|---|
//! | GSM8K | §4.1 | steps, `# Answer`, answer | last `# Answer`, last `####` | number |
//! | MATH | §4.1 | paragraphs, `# Answer`, answer | last `# Answer`, last box | mathematics |
//! | ARC-Challenge | §4.3, 0-shot | none | last `Final answer: (X)` | letter |
//! | APPS | that of APPS | the program | last block of Python, or all | tests |
//! | HumanEval | the function's head | its body | continuation, or as APPS | tests |
//! | MBPP | that of MBPP, 0-shot | the program | as APPS | tests |
//! | Game of 24 | four numbers | none | last line, or after `Answer:` | value and numbers |
//! | records | §4.1 | solution, `# Answer`, answer | those of GSM8K and MATH | text |
//!
//! In the chat style the prompt is an instruction, and an answer in a box counts too. A setting of
//! the configuration replaces any of these. Files are not opened here.

use crate::config::{ColumnsConfig, FilesConfig, PromptStyle, TaskKind};
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

/// The prompt of the APPS benchmark (Hendrycks et al. 2021, spec §4.2).
const APPS_PROMPT: &str = "\nQUESTION:\n{question}{starter}\n{input_format}\nANSWER:\n";

/// The prompt of MBPP (Austin et al. 2021), without worked examples.
const MBPP_PROMPT: &str = "You are an expert Python programmer, and here is your task: {question} \
                           Your code should pass these tests:\n\n{tests}\n[BEGIN]\n";

const GAME24_PROMPT: &str = "Use each of the four numbers once, with + - * / and brackets, to make \
                             24.\nNumbers: {question}\nAnswer: ";

const CHAT_QUESTION: &str = "{question}\n\nReason step by step, and put the final answer into \
                             \\boxed{{}}.";
const CHAT_CHOICE: &str = "{question}\n{choices}\n\nReason step by step, then end with a line \
                           `Final answer: (X)`, where X is the letter of your choice.";
const CHAT_APPS: &str = "Solve this problem in Python 3.\n\n{question}\n{starter}\n{input_format}. \
                         Give the whole program in one ```python block.";
const CHAT_HUMANEVAL: &str = "Complete this Python function. Give the whole function in one \
                              ```python block.\n\n```python\n{question}```";
const CHAT_MBPP: &str = "{question}\n\nThe code must pass these tests:\n\n```python\n{tests}\n```\n\n\
                         Give the whole code in one ```python block.";
const CHAT_GAME24: &str = "Make 24 out of the numbers {question}: use each exactly once, with \
                           + - * / and brackets. End with a line `Answer: `, followed by the \
                           expression.";

/// Rows of the published MATH training file whose box is empty.
const PUBLISHED_EMPTY_BOXES: usize = 2;

/// Solutions of a problem that the paper trains on (appendix B.3).
const APPS_SOLUTIONS: usize = 5;

/// How rows of files become queries, and responses are checked.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    pub(crate) kind: TaskKind,
    pub(crate) columns: Columns,
    pub(crate) prompt: Template,
    pub(crate) target: Template,
    pub(crate) rules: Vec<Rule>,
    pub(crate) verifier: Verifier,
    pub(crate) solutions_per_query: usize,
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
    pub(crate) tests: Option<Column>,
    pub(crate) starter: Option<Column>,
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
        let prompt = files.prompt.as_deref().unwrap_or_else(|| default_prompt(kind, files.style));
        let target = files.target.as_deref().unwrap_or_else(|| default_target(kind));
        let mut fields = vec!["question"];
        if columns.choices.is_some() {
            fields.push("choices");
        }
        if kind.is_programs() {
            fields.extend(["starter", "input_format", "tests"]);
        }
        let prompt = Template::parse(prompt, "task.files.prompt", &fields)?;
        if !prompt.uses("question") {
            let (key, field) = ("task.files.prompt", "question");
            return Err(TemplateError::MissingField { key, field });
        }
        let target = Template::parse(target, "task.files.target", &["solution", "answer"])?;
        let mut rules = default_rules(kind);
        if files.style == PromptStyle::Chat && !rules.is_empty() {
            rules.extend([Rule::Boxed, Rule::AnswerIs]);
        }
        let unreadable = match kind {
            TaskKind::Math => PUBLISHED_EMPTY_BOXES,
            // Some published problems have no tests.
            TaskKind::Apps => usize::MAX,
            _ => 0,
        };
        let solutions = if kind == TaskKind::Apps { APPS_SOLUTIONS } else { 1 };
        Ok(Self {
            kind,
            columns,
            prompt,
            target,
            rules: files.extract.clone().unwrap_or(rules),
            verifier: files.verifier.unwrap_or_else(|| default_verifier(kind)),
            solutions_per_query: files.solutions_per_query.unwrap_or(solutions),
            drop_calculator_annotations: files.drop_calculator_annotations,
            unreadable_rows: files.unreadable_rows.unwrap_or(unreadable),
        })
    }
}

impl Columns {
    fn new(kind: TaskKind, config: &ColumnsConfig) -> Self {
        // (id, question, answer, solution, choices, tests, starter); a `?` marks a column that a row
        // may lack.
        let [id, question, answer, solution, choices, tests, starter] = match kind {
            TaskKind::Math => ["unique_id?", "problem", "answer?", "solution?", "", "", ""],
            TaskKind::ArcChallenge => ["id?", "question", "answerKey", "", "choices", "", ""],
            TaskKind::Apps => {
                ["problem_id?", "question", "", "solutions?", "", "input_output", "starter_code?"]
            }
            TaskKind::HumanEval => {
                ["task_id?", "prompt", "", "canonical_solution?", "", "test", ""]
            }
            TaskKind::Mbpp => ["task_id?", "text", "", "code?", "", "test_list", ""],
            TaskKind::Game24 => ["Rank?", "Puzzles", "", "", "", "", ""],
            TaskKind::Gsm8k | TaskKind::Records | TaskKind::Arithmetic => {
                ["id?", "question", "answer", "", "", "", ""]
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
            tests: column("task.files.columns.tests", &config.tests, tests),
            starter: column("task.files.columns.starter", &config.starter, starter),
        }
    }
}

fn default_prompt(kind: TaskKind, style: PromptStyle) -> &'static str {
    match (style, kind) {
        (PromptStyle::Paper, TaskKind::ArcChallenge) => CHOICE_PROMPT,
        (PromptStyle::Paper, TaskKind::Apps) => APPS_PROMPT,
        (PromptStyle::Paper, TaskKind::HumanEval) => "{question}",
        (PromptStyle::Paper, TaskKind::Mbpp) => MBPP_PROMPT,
        (PromptStyle::Paper, TaskKind::Game24) => GAME24_PROMPT,
        (PromptStyle::Paper, _) => QUESTION_PROMPT,
        (PromptStyle::Chat, TaskKind::ArcChallenge) => CHAT_CHOICE,
        (PromptStyle::Chat, TaskKind::Apps) => CHAT_APPS,
        (PromptStyle::Chat, TaskKind::HumanEval) => CHAT_HUMANEVAL,
        (PromptStyle::Chat, TaskKind::Mbpp) => CHAT_MBPP,
        (PromptStyle::Chat, TaskKind::Game24) => CHAT_GAME24,
        (PromptStyle::Chat, _) => CHAT_QUESTION,
    }
}

fn default_target(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::ArcChallenge => CHOICE_TARGET,
        TaskKind::Apps | TaskKind::HumanEval | TaskKind::Mbpp | TaskKind::Game24 => "{solution}",
        _ => QUESTION_TARGET,
    }
}

/// None where the answer is not a stretch of text: programs and puzzles have readers of their own.
fn default_rules(kind: TaskKind) -> Vec<Rule> {
    let marker = Rule::AfterLast(ANSWER_MARKER.to_owned());
    let hashes = Rule::AfterLast("####".to_owned());
    match kind {
        TaskKind::Gsm8k => vec![marker, hashes],
        TaskKind::Math => vec![marker, Rule::Boxed],
        TaskKind::ArcChallenge => vec![Rule::FinalAnswerLetter],
        TaskKind::Records | TaskKind::Arithmetic => vec![marker, hashes, Rule::Boxed],
        TaskKind::Apps | TaskKind::HumanEval | TaskKind::Mbpp | TaskKind::Game24 => Vec::new(),
    }
}

fn default_verifier(kind: TaskKind) -> Verifier {
    match kind {
        TaskKind::Gsm8k => Verifier::Number,
        TaskKind::Math => Verifier::Math,
        TaskKind::ArcChallenge => Verifier::Choice,
        _ => Verifier::Exact,
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
