//! Seeded generation of states to solve and of derivations that solve them.
//!
//! Every item is drawn from a key of its own, so that item i of a split is the same whatever the
//! sizes of the splits drawn after it. All states of all splits are distinct.

use super::config::{ArithmeticConfig, ArithmeticError};
use super::expression::{Expression, Operator, State};
use bstar_core::RngKey;
use bstar_core::rng::{Rng, below, uniform};
use std::collections::BTreeSet;

/// How often a state that was drawn before is drawn again, before giving up.
const MAX_DRAWS: u32 = 1000;

/// Draws `size` states that are not in `seen` and adds them to it. `weights[i]` is the weight of
/// states with i+1 operations.
pub(super) fn draw_states(
    config: &ArithmeticConfig,
    split: &'static str,
    size: usize,
    weights: &[f64],
    key: RngKey,
    seen: &mut BTreeSet<String>,
) -> Result<Vec<State>, ArithmeticError> {
    let mut states = Vec::with_capacity(size);
    for index in 0..size {
        let mut rng = key.index(index as u64).rng();
        let operations = draw_weighted(weights, &mut rng) + 1;
        let state = (0..MAX_DRAWS)
            .map(|_| draw_state(config, operations, &mut rng))
            .find(|state| seen.insert(state.to_string()));
        let exhausted = ArithmeticError::Exhausted { split, size, drawn: index, operations };
        states.push(state.ok_or(exhausted)?);
    }
    Ok(states)
}

/// A response that solves `state`, in an order drawn with `key`.
pub(super) fn draw_solution(config: &ArithmeticConfig, state: &State, key: RngKey) -> String {
    let mut rng = key.rng();
    let mut state = state.clone();
    let mut response = String::new();
    while state.operations() > 0 {
        let is_double = uniform(&mut rng) < config.double_step_share && state.operations() > 1;
        for _ in 0..if is_double { 2 } else { 1 } {
            let mut successors = state.successors(config.modulus, config.order);
            state = successors.swap_remove(below(&mut rng, successors.len()));
        }
        if !response.is_empty() {
            response.push(super::STEP);
        }
        response.push_str(&state.to_string());
    }
    let answer = state.to_string();
    response.push(super::ANSWER);
    response.push_str(&answer);
    response
}

fn draw_state(config: &ArithmeticConfig, operations: usize, rng: &mut Rng) -> State {
    let mut counts = vec![0_usize; config.expressions];
    for _ in 0..operations {
        counts[below(rng, config.expressions)] += 1;
    }
    State::new(counts.into_iter().map(|count| draw_expression(config, count, rng)).collect())
}

fn draw_expression(config: &ArithmeticConfig, operations: usize, rng: &mut Rng) -> Expression {
    let kinds = [Operator::Add, Operator::Subtract, Operator::Multiply];
    let weights = config.operators.weights();
    let span = (config.largest_operand - config.smallest_operand + 1) as usize;
    let operand = |rng: &mut Rng| {
        let offset = u32::try_from(below(rng, span)).expect("operands are 32-bit");
        config.smallest_operand + offset
    };
    let mut operands = vec![operand(rng)];
    let mut operators = Vec::with_capacity(operations);
    for _ in 0..operations {
        operators.push(kinds[draw_weighted(&weights, rng)]);
        operands.push(operand(rng));
    }
    Expression::new(operands, operators)
}

/// An index drawn in proportion to its weight; the weights are not all zero.
fn draw_weighted(weights: &[f64], rng: &mut Rng) -> usize {
    let total: f64 = weights.iter().sum();
    let mut left = uniform(rng) * total;
    let mut last = 0;
    for (index, &weight) in weights.iter().enumerate() {
        if weight > 0.0 {
            if left < weight {
                return index;
            }
            left -= weight;
            last = index;
        }
    }
    // Rounding may leave a remainder past the last weight.
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighted_draws_follow_the_weights() {
        let mut rng = RngKey::from_seed(5).rng();
        let mut counts = [0_u32; 4];
        for _ in 0..40_000 {
            counts[draw_weighted(&[0.0, 1.0, 3.0, 0.0], &mut rng)] += 1;
        }
        assert_eq!((counts[0], counts[3]), (0, 0));
        // Five standard deviations of a binomial with n = 40,000 and p = 1/4.
        assert!(counts[1].abs_diff(10_000) < 433, "{counts:?}");
    }

    #[test]
    fn a_space_that_is_too_small_is_an_error_and_not_a_loop() {
        let config = ArithmeticConfig { expressions: 1, largest_operand: 2, ..Default::default() };
        let key = RngKey::from_seed(1);
        let mut seen = BTreeSet::new();
        let error = draw_states(&config, "test", 13, &[1.0], key, &mut seen).unwrap_err();
        // Two operands of two values and three operators make twelve states.
        assert!(matches!(error, ArithmeticError::Exhausted { drawn: 12, operations: 1, .. }));
    }

    #[test]
    fn a_share_of_one_doubles_every_step_that_can_be_doubled() {
        let config = ArithmeticConfig { double_step_share: 1.0, ..Default::default() };
        let state = State::parse("1+2+3+4,5+6+7", 10).unwrap();
        let response = draw_solution(&config, &state, RngKey::from_seed(2));
        assert_eq!(response.matches(super::super::STEP).count(), 2, "{response}");
    }
}
