//! The built-in task: expressions modulo m, solved by rewriting one operation at a time.
//!
//! A query is the prompt `6-6,5*9-1=`; a response is `6-6,5-1=6-6,4=0,4#0,4`: states separated by
//! `=`, then `#` and the answer. Operations may be reduced in many orders, so a query has many
//! distinct correct responses, and a right answer may come from wrong steps. `check_steps` tells
//! these apart exactly; it is for measurement and must never reach a reward.
//!
//! Splits share no query, and neither do they share one with the supervised examples.

mod config;
mod expression;
mod generation;

pub use config::{ArithmeticConfig, ArithmeticError, OperatorWeights};
pub use expression::Order;

use crate::steps::tiled;
use bstar_core::ports::Example;
use bstar_core::{Grade, Query, RngKey, Verdict};
use expression::State;
use std::collections::BTreeSet;
use std::ops::Range;

/// Ends a prompt, and separates the states of a response.
pub(crate) const STEP: char = '=';

/// Stands before the answer.
pub(crate) const ANSWER: char = '#';

/// Generated queries and examples.
pub(crate) struct Generated {
    pub(crate) supervised: Vec<Example>,
    pub(crate) train: Vec<Query>,
    pub(crate) validation: Vec<Query>,
    pub(crate) test: Vec<Query>,
}

/// Draws all splits. Test comes first and training last, so that held-out queries stay the same
/// when the sizes of the others change.
pub(crate) fn generate(
    config: &ArithmeticConfig,
    name: &str,
    key: RngKey,
) -> Result<Generated, ArithmeticError> {
    config.validate()?;
    let mut seen = BTreeSet::new();
    let mut draw = |split, size, weights: &[f64]| {
        let states_key = key.child(split).child("state");
        generation::draw_states(config, split, size, weights, states_key, &mut seen)
    };
    let test = draw("test", config.test, &config.query_operations)?;
    let validation = draw("validation", config.validation, &config.query_operations)?;
    let supervised = draw("supervised", config.supervised, &config.supervised_operations)?;
    let train = draw("train", config.train, &config.query_operations)?;
    let queries = |split: &str, states: Vec<State>| {
        let solution_key = key.child(split).child("solution");
        let states = states.into_iter().enumerate();
        states
            .map(|(index, state)| Query {
                id: format!("{name}/{split}/{index}").into(),
                prompt: prompt(&state),
                gold_answer: state.solved(config.modulus).to_string(),
                gold_solution: Some(generation::draw_solution(
                    config,
                    &state,
                    solution_key.index(index as u64),
                )),
            })
            .collect()
    };
    let solution_key = key.child("supervised").child("solution");
    let examples = supervised.into_iter().enumerate().map(|(index, state)| Example {
        prompt: prompt(&state).into(),
        response: generation::draw_solution(config, &state, solution_key.index(index as u64))
            .into(),
    });
    Ok(Generated {
        supervised: examples.collect(),
        train: queries("train", train),
        validation: queries("validation", validation),
        test: queries("test", test),
    })
}

/// Compares what follows the last `#` with the gold answer.
pub(crate) fn grade(query: &Query, response: &str) -> Grade {
    let answer = response.rsplit_once(ANSWER).map(|(_, answer)| answer.trim());
    match answer.filter(|answer| !answer.is_empty()) {
        None => Grade::no_answer(),
        Some(answer) => {
            let is_correct = answer == query.gold_answer;
            let (verdict, reason) = if is_correct {
                (Verdict::Correct, "the same answer")
            } else {
                (Verdict::Incorrect, "different value")
            };
            Grade { answer: Some(answer.to_owned()), verdict, reason }
        }
    }
}

/// Whether each state follows from the one before by reducing one operation, or two at once, and
/// the answer is the last state, solved.
pub(crate) fn check_steps(config: &ArithmeticConfig, query: &Query, response: &str) -> bool {
    response.contains(ANSWER) && check_each_step(config, query, response).iter().all(|ok| *ok)
}

/// For each of [`steps`], whether everything up to its end is right.
pub(crate) fn check_each_step(
    config: &ArithmeticConfig,
    query: &Query,
    response: &str,
) -> Vec<bool> {
    let start = query.prompt.strip_suffix(STEP);
    let mut state = start.and_then(|start| State::parse(start, config.modulus));
    let mut answering = false;
    let check = |step: Range<usize>| {
        let text = &response[step];
        if answering {
            let is_answer = |last: &State| last.operations() == 0 && last.to_string() == text;
            return state.as_ref().is_some_and(is_answer);
        }
        let next = State::parse(text.strip_suffix([STEP, ANSWER]).unwrap_or(text), config.modulus);
        let follows = |next: &State| {
            state.as_ref().is_some_and(|s| s.leads_to(next, config.modulus, config.order))
        };
        state = next.filter(follows);
        answering = text.ends_with(ANSWER);
        state.is_some()
    };
    steps(response).into_iter().map(check).collect()
}

/// Byte ranges of the states, each with the `=` or `#` that ends it, and of the answer.
pub(crate) fn steps(response: &str) -> Vec<Range<usize>> {
    let ends = response.match_indices([STEP, ANSWER]).map(|(at, mark)| at + mark.len());
    tiled(response, ends)
}

/// The text of each state of the response.
pub(crate) fn equations(response: &str) -> Vec<String> {
    let states = response.split(ANSWER).next().unwrap_or_default();
    states.split(STEP).filter(|state| !state.is_empty()).map(str::to_owned).collect()
}

fn prompt(state: &State) -> String {
    format!("{state}{STEP}")
}

#[cfg(test)]
mod tests;
