//! One answer of a file, graded: what `bstar grade` and `bstar audit` have in common.

use crate::cli::{AnswerKind, GradingArgs};
use bstar_core::{Fault, FaultClass, Grade, Verdict};
use bstar_sandbox::Launcher;
use bstar_tasks::programs::{Judge, Judgement, ProgramsConfig, Suite};
use bstar_tasks::{game24, grade_answer, verdict_of};
use bstar_verify::math::{self, Options, Reason};
use bstar_verify::{Rule, Sameness, Verifier, choice, extract};
use serde_json::{Map, Value};

/// The first argument that makes this program the child of its sandbox.
pub(crate) const SANDBOX_CHILD: &str = "sandbox-child";

/// Starts the child of the sandbox.
pub(crate) fn launcher() -> Result<Launcher, Fault> {
    Launcher::this_program(SANDBOX_CHILD).map_err(|error| {
        Fault::new(FaultClass::Resource, "cannot find the program itself").because(error)
    })
}

/// What was found of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Graded {
    pub(crate) grade: Grade,
    /// For people: which test failed and how.
    pub(crate) detail: Option<String>,
}

/// Why a row has no grade.
#[derive(Debug)]
pub(crate) enum Ungraded {
    /// The row cannot be read.
    Unreadable(String),
    /// The checker broke, which is no statement about the row.
    Broken(Fault),
}

/// Grades rows of one kind.
#[derive(Debug)]
pub(crate) struct Grader {
    kind: AnswerKind,
    options: Options,
    gold: String,
    pred: Option<String>,
    tests: String,
    judge: Option<Judge>,
}

impl Grader {
    /// A grader; for programs this finds the interpreter and sets the sandbox up.
    pub(crate) fn new(args: &GradingArgs) -> Result<Self, Fault> {
        let judge = if args.kind == AnswerKind::Code {
            let defaults = ProgramsConfig::default();
            let config = ProgramsConfig {
                python: args.python.clone(),
                time_limit: args.time_limit.unwrap_or(defaults.time_limit),
                memory_mib: args.memory_mib.unwrap_or(defaults.memory_mib),
                allow_weak_sandbox: args.allow_weak_sandbox,
                ..defaults
            };
            Some(Judge::new(&config, launcher()?)?)
        } else {
            None
        };
        Ok(Self {
            kind: args.kind,
            options: if args.strict { Options::STRICT } else { Options::default() },
            gold: args.gold.clone(),
            pred: args.pred.clone(),
            tests: args.tests.clone(),
            judge,
        })
    }

    /// Where programs run, if this grades programs.
    pub(crate) fn judge(&self) -> Option<&Judge> {
        self.judge.as_ref()
    }

    /// The answer of a row and what it is compared with, as text.
    pub(crate) fn texts(&self, row: &Map<String, Value>) -> Result<(String, String), String> {
        let pred = match &self.pred {
            Some(column) => text_of(row, column)?,
            None if self.kind == AnswerKind::Code => {
                text_of(row, "program").or_else(|_| text_of(row, "pred"))?
            }
            None => text_of(row, "pred")?,
        };
        let gold = match self.kind {
            AnswerKind::Code => String::new(),
            _ => text_of(row, &self.gold)?,
        };
        Ok((pred, gold))
    }

    /// Grades a row.
    pub(crate) fn grade(&self, row: &Map<String, Value>) -> Result<Graded, Ungraded> {
        let (pred, gold) = self.texts(row).map_err(Ungraded::Unreadable)?;
        if let Some(judge) = &self.judge {
            let suite = Suite::from_row(row, &self.tests).map_err(Ungraded::Unreadable)?;
            let judged = judge.judge(&pred, &suite);
            let judged = judged.map_err(|error| Ungraded::Broken(error.into()))?;
            let Judgement { verdict, reason, program, detail } = judged;
            return Ok(Graded { grade: Grade { answer: program, verdict, reason }, detail });
        }
        let grade = self.grade_text(&pred, &gold).map_err(Ungraded::Unreadable)?;
        Ok(Graded { grade, detail: None })
    }

    fn grade_text(&self, pred: &str, gold: &str) -> Result<Grade, String> {
        if gold.trim().is_empty() {
            let (verdict, reason) = (Verdict::Ungradable, "no gold answer");
            return Ok(Grade { answer: None, verdict, reason });
        }
        Ok(match self.kind {
            AnswerKind::Math => grade_math(pred, gold, &self.options),
            AnswerKind::Number => {
                let marked = [Rule::Boxed, Rule::AfterLast("####".into()), Rule::AnswerIs];
                let rules =
                    [&marked[..], &[Rule::AfterLast("# Answer".into()), Rule::LastNumber]].concat();
                let gold = extract(gold, &marked).unwrap_or(gold);
                grade_answer(Verifier::Number, extract(pred, &rules), gold)
            }
            AnswerKind::Choice => {
                let rules = [Rule::FinalAnswerLetter, Rule::Boxed, Rule::AnswerIs];
                let letter = choice::find(pred).or_else(|| extract(pred, &rules));
                grade_answer(Verifier::Choice, letter, gold)
            }
            AnswerKind::Exact => {
                let text = Some(pred.trim()).filter(|text| !text.is_empty());
                grade_answer(Verifier::Exact, text, gold)
            }
            AnswerKind::Game24 => {
                let numbers = game24::numbers(gold)
                    .ok_or_else(|| format!("{gold:?} is no list of four whole numbers"))?;
                game24::grade_for(&numbers, pred)
            }
            AnswerKind::Code => unreachable!("programs have a judge"),
        })
    }
}

/// The text in a column; numbers are text too, and null is none.
pub(crate) fn text_of(row: &Map<String, Value>, column: &str) -> Result<String, String> {
    match row.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ Value::Number(_)) => Ok(value.to_string()),
        Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(format!("`{column}` holds neither text nor a number")),
        None => Err(format!("no `{column}`")),
    }
}

/// A bare answer as it is; of a longer text, the answer that a reader would take from it.
fn grade_math(pred: &str, gold: &str, options: &Options) -> Grade {
    let graded = math::grade(pred, gold, options);
    let reason = graded.reason();
    let verdict = match (graded.judgement.sameness, graded.judgement.reason) {
        (Sameness::CannotTell, Reason::Empty) => Verdict::NoAnswer,
        (sameness, _) => verdict_of(sameness),
    };
    Grade { answer: graded.extracted, verdict, reason }
}
