//! How responses of a task are read: which answer is in them, whether it is right, what its steps are.

use crate::arithmetic::{self, ArithmeticConfig};
use crate::equations as marked_equations;
use crate::game24;
use crate::programs::{Judge, Judgement, ProgramsError, Suite};
use crate::steps;
use bstar_core::ports::{GradeRequest, Progress, Tick};
use bstar_core::{Fault, Grade, Query, QueryId, Verdict};
use bstar_verify::math::Reason;
use bstar_verify::{Rule, Sameness, Verifier, extract};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Responses that are graded between two reports of progress.
const BETWEEN_TICKS: usize = 64;

/// How responses are read.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    /// Rewriting of expressions.
    Arithmetic(ArithmeticConfig),
    /// An answer that stands in the text.
    Text {
        /// Where.
        rules: Vec<Rule>,
        /// How it is compared.
        verifier: Verifier,
    },
    /// An expression for 24.
    Game24,
    /// A program that is run on the tests of its query.
    Programs {
        /// Runs them.
        judge: Judge,
        /// The tests of each query.
        suites: Arc<BTreeMap<QueryId, Suite>>,
    },
}

impl Check {
    pub(crate) fn grade(&self, query: &Query, response: &str) -> Result<Grade, Fault> {
        Ok(match self {
            Self::Arithmetic(_) => arithmetic::grade(query, response),
            Self::Text { rules, verifier } => grade_text(rules, *verifier, query, response),
            Self::Game24 => game24::grade(query, response),
            Self::Programs { judge, suites } => grade_program(judge, suites, query, response)?,
        })
    }

    /// Grades on all cores; the order of the grades is that of the requests.
    pub(crate) fn grade_all(
        &self,
        requests: &[GradeRequest<'_>],
        tick: Tick<'_>,
    ) -> Result<Vec<Grade>, Fault> {
        let total = requests.len() as u64;
        let mut grades = Vec::with_capacity(requests.len());
        for some in requests.chunks(BETWEEN_TICKS) {
            let next: Result<Vec<Grade>, Fault> = some
                .par_iter()
                .map(|request| self.grade(request.query, request.response))
                .collect();
            grades.extend(next?);
            tick(Progress { done: grades.len() as u64, total })?;
        }
        Ok(grades)
    }

    pub(crate) fn steps(&self, response: &str) -> Vec<Range<usize>> {
        match self {
            Self::Arithmetic(_) => arithmetic::steps(response),
            Self::Text { .. } | Self::Game24 | Self::Programs { .. } => steps::paragraphs(response),
        }
    }

    pub(crate) fn equations(&self, response: &str) -> Vec<String> {
        match self {
            Self::Arithmetic(_) => arithmetic::equations(response),
            Self::Text { .. } | Self::Game24 => marked_equations::in_response(response),
            Self::Programs { .. } => Vec::new(),
        }
    }

    pub(crate) fn check_steps(&self, query: &Query, response: &str) -> Option<bool> {
        match self {
            Self::Arithmetic(config) => Some(arithmetic::check_steps(config, query, response)),
            Self::Text { .. } | Self::Game24 | Self::Programs { .. } => None,
        }
    }

    pub(crate) fn check_each_step(&self, query: &Query, response: &str) -> Option<Vec<bool>> {
        match self {
            Self::Arithmetic(config) => Some(arithmetic::check_each_step(config, query, response)),
            Self::Text { .. } | Self::Game24 | Self::Programs { .. } => None,
        }
    }
}

pub(crate) fn grade_text(
    rules: &[Rule],
    verifier: Verifier,
    query: &Query,
    response: &str,
) -> Grade {
    grade_answer(verifier, extract(response, rules), &query.gold_answer)
}

/// Grades an answer that was found in a response, if one was. The gold answer is one that the
/// verifier understands.
pub fn grade_answer(verifier: Verifier, answer: Option<&str>, gold: &str) -> Grade {
    let Some(answer) = answer else { return Grade::no_answer() };
    let judgement = verifier.judge(answer, gold);
    // Text that holds no number, or no letter, is no answer. Mathematics may be right and beyond us.
    let is_plain = matches!(verifier, Verifier::Number | Verifier::Choice);
    if is_plain && judgement.reason == Reason::CannotParse {
        return Grade::no_answer();
    }
    let verdict = verdict_of(judgement.sameness);
    Grade { answer: Some(answer.to_owned()), verdict, reason: judgement.reason.name() }
}

/// What a comparison of an answer that was found means.
pub fn verdict_of(sameness: Sameness) -> Verdict {
    match sameness {
        Sameness::Same => Verdict::Correct,
        Sameness::Different => Verdict::Incorrect,
        Sameness::CannotTell => Verdict::Ungradable,
    }
}

fn grade_program(
    judge: &Judge,
    suites: &BTreeMap<QueryId, Suite>,
    query: &Query,
    response: &str,
) -> Result<Grade, ProgramsError> {
    let suite = suites.get(&query.id).expect("a query of this task has tests");
    let Judgement { verdict, reason, program, detail: _ } = judge.judge(response, suite)?;
    Ok(Grade { answer: program, verdict, reason })
}
