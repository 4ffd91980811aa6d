//! Puzzles of four numbers: reading them, and grading what should be an expression for 24.

use crate::check::verdict_of;
use bstar_core::{Grade, Query};
use bstar_verify::game24;

/// The numbers of a puzzle, written with spaces or commas between them.
pub fn numbers(text: &str) -> Option<Vec<i64>> {
    let words = text.split([' ', ',', '\t']).filter(|word| !word.is_empty());
    let numbers: Option<Vec<i64>> = words.map(|word| word.parse().ok()).collect();
    numbers.filter(|numbers| numbers.len() == 4)
}

/// Grades a response to the puzzle that the query's gold answer names.
pub(crate) fn grade(query: &Query, response: &str) -> Grade {
    let numbers = numbers(&query.gold_answer).expect("a puzzle was read when the task was loaded");
    grade_for(&numbers, response)
}

/// Grades a response to a puzzle.
pub fn grade_for(numbers: &[i64], response: &str) -> Grade {
    let checked = game24::check(response, numbers);
    if checked.extracted.is_none() {
        return Grade::no_answer();
    }
    let verdict = verdict_of(checked.reason.sameness());
    Grade { answer: checked.extracted, verdict, reason: checked.reason.name() }
}
