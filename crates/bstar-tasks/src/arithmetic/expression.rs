//! Expressions modulo m, and the rewriting of one operation at a time.
//!
//! A *state* is a list of expressions, written `6-6,5*9-1`. × binds tighter than + and −, and
//! equals are taken from left to right. An operation may be *reduced* (replaced by its value modulo
//! m) where that leaves the value of the expression as it is; [`Order`] says how freely. Nothing
//! here knows prompts, responses or randomness.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most operands that one state may have; longer text is not parsed.
pub(crate) const MAX_OPERANDS: usize = 64;

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
}

impl Operator {
    pub(crate) fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
        }
    }

    fn from_symbol(symbol: u8) -> Option<Self> {
        match symbol {
            b'+' => Some(Self::Add),
            b'-' => Some(Self::Subtract),
            b'*' => Some(Self::Multiply),
            _ => None,
        }
    }

    /// The value modulo `modulus` of an operation on operands below it.
    fn apply(self, left: u32, right: u32, modulus: u32) -> u32 {
        match self {
            Self::Add => (left + right) % modulus,
            Self::Subtract => (left + modulus - right) % modulus,
            Self::Multiply => left * right % modulus,
        }
    }
}

/// Which operations of an expression may be reduced next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Any whose reduction leaves the value as it is, whatever the operands: also `b+c` in `a+b+c`
    /// and `b*c` in `a*b*c`, but not `b+c` in `a-b+c`.
    #[default]
    Any,
    /// Only the leftmost of a chain of equals.
    LeftToRight,
}

/// An expression without brackets: operands, and the operators between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Expression {
    operands: Vec<u32>,
    operators: Vec<Operator>,
}

impl Expression {
    /// An expression of at least one operand, with one operator fewer than operands.
    pub(crate) fn new(operands: Vec<u32>, operators: Vec<Operator>) -> Self {
        assert_eq!(operands.len(), operators.len() + 1, "operators stand between operands");
        Self { operands, operators }
    }

    /// Reads an expression whose operands are canonical numbers below `modulus`.
    fn parse(text: &str, modulus: u32) -> Option<Self> {
        let mut operands = Vec::new();
        let mut operators = Vec::new();
        let mut rest = text;
        loop {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            operands.push(parse_operand(&rest[..end], modulus)?);
            if operands.len() > MAX_OPERANDS {
                return None;
            }
            let Some(&symbol) = rest.as_bytes().get(end) else { break };
            operators.push(Operator::from_symbol(symbol)?);
            rest = &rest[end + 1..];
        }
        Some(Self { operands, operators })
    }

    pub(crate) fn operations(&self) -> usize {
        self.operators.len()
    }

    /// Whether operation `at` may be reduced.
    fn is_reducible(&self, at: usize, order: Order) -> bool {
        use Operator::{Add, Multiply, Subtract};
        let left = at.checked_sub(1).map(|left| self.operators[left]);
        let right = self.operators.get(at + 1);
        match (self.operators[at], left) {
            (Multiply, Some(Multiply)) => order == Order::Any,
            (Add | Subtract, _) if right == Some(&Multiply) => false,
            (Multiply, _) | (Add | Subtract, None) => true,
            (Add | Subtract, Some(Add)) => order == Order::Any,
            (Add | Subtract, Some(Subtract | Multiply)) => false,
        }
    }

    fn reduced(&self, at: usize, modulus: u32) -> Self {
        let mut next = self.clone();
        let right = next.operands.remove(at + 1);
        let operator = next.operators.remove(at);
        next.operands[at] = operator.apply(next.operands[at], right, modulus);
        next
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.operands[0])?;
        for (operator, operand) in self.operators.iter().zip(&self.operands[1..]) {
            write!(formatter, "{}{operand}", operator.symbol())?;
        }
        Ok(())
    }
}

/// Several expressions that are solved side by side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    expressions: Vec<Expression>,
}

impl State {
    pub(crate) fn new(expressions: Vec<Expression>) -> Self {
        Self { expressions }
    }

    /// Reads a state as [`fmt::Display`] writes it, and nothing else: no spaces, no leading zeros.
    pub(crate) fn parse(text: &str, modulus: u32) -> Option<Self> {
        let mut expressions = Vec::new();
        for part in text.split(',') {
            if expressions.len() == MAX_OPERANDS {
                return None;
            }
            expressions.push(Expression::parse(part, modulus)?);
        }
        Some(Self { expressions })
    }

    /// Operations left.
    pub(crate) fn operations(&self) -> usize {
        self.expressions.iter().map(Expression::operations).sum()
    }

    /// Every state that reducing one operation leads to, one for each reducible operation.
    pub(crate) fn successors(&self, modulus: u32, order: Order) -> Vec<Self> {
        let mut found = Vec::new();
        for (which, expression) in self.expressions.iter().enumerate() {
            for at in 0..expression.operations() {
                if expression.is_reducible(at, order) {
                    let mut next = self.clone();
                    next.expressions[which] = expression.reduced(at, modulus);
                    found.push(next);
                }
            }
        }
        found
    }

    /// Whether reducing one or two operations of `self` gives `next`.
    pub(crate) fn leads_to(&self, next: &Self, modulus: u32, order: Order) -> bool {
        match self.operations().checked_sub(next.operations()) {
            Some(1) => self.successors(modulus, order).contains(next),
            Some(2) => self
                .successors(modulus, order)
                .iter()
                .any(|middle| middle.successors(modulus, order).contains(next)),
            _ => false,
        }
    }

    /// The state without operations that this one comes to.
    pub(crate) fn solved(&self, modulus: u32) -> Self {
        let mut state = self.clone();
        while let Some(next) = state.successors(modulus, Order::LeftToRight).into_iter().next() {
            state = next;
        }
        state
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, expression) in self.expressions.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(formatter, "{separator}{expression}")?;
        }
        Ok(())
    }
}

fn parse_operand(digits: &str, modulus: u32) -> Option<u32> {
    let is_canonical = digits == "0" || (!digits.starts_with('0') && digits.len() <= 9);
    let operand = digits.parse().ok().filter(|_| is_canonical)?;
    (operand < modulus).then_some(operand)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(text: &str) -> State {
        State::parse(text, 10).expect("a valid state")
    }

    fn check_successors(text: &str, order: Order, expected: &[&str]) {
        let found: Vec<String> =
            state(text).successors(10, order).iter().map(State::to_string).collect();
        assert_eq!(found, expected, "{text} {order:?}");
    }

    #[test]
    fn reductions_respect_precedence() {
        check_successors("6-6,5*9-1", Order::Any, &["0,5*9-1", "6-6,5-1"]);
        check_successors("1+2*3", Order::Any, &["1+6"]);
        check_successors("1*2+3", Order::Any, &["2+3"]);
        check_successors("9-2+3", Order::Any, &["7+3"]);
        check_successors("9-2-3", Order::Any, &["7-3"]);
        check_successors("1+2-3", Order::Any, &["3-3", "1+9"]);
        check_successors("2*3*4", Order::Any, &["6*4", "2*2"]);
        check_successors("1+2+3*4", Order::Any, &["3+3*4", "1+2+2"]);
        check_successors("2*3+4+5", Order::Any, &["6+4+5", "2*3+9"]);
        check_successors("7,3", Order::Any, &[]);
    }

    #[test]
    fn left_to_right_takes_only_the_leftmost_of_a_chain() {
        check_successors("1+2-3", Order::LeftToRight, &["3-3"]);
        check_successors("2*3*4", Order::LeftToRight, &["6*4"]);
        check_successors("2*3+4*5", Order::LeftToRight, &["6+4*5", "2*3+0"]);
    }

    #[test]
    fn only_canonical_states_are_read() {
        for text in ["6-6,5*9-1", "0", "1,2,3", "9*9"] {
            assert_eq!(state(text).to_string(), text);
        }
        let long = vec!["1"; MAX_OPERANDS + 1];
        for text in
            ["", ",", "1,", "1+", "+1", "01", "10", "1 +2", "1++2", "-1", "1=2", "١", "99999999999"]
        {
            assert_eq!(State::parse(text, 10), None, "{text:?}");
        }
        assert_eq!(State::parse(&long.join("+"), 10), None);
        assert_eq!(State::parse(&long.join(","), 10), None);
        assert_eq!(State::parse("12+3", 13).map(|s| s.solved(13).to_string()), Some("2".into()));
    }

    #[test]
    fn two_reductions_in_one_step_are_a_step() {
        for (from, to, expected) in [
            ("6-6,5*9-1", "0,4", false),
            ("6-6,5*9-1", "6-6,4", true),
            ("6-6,5*9-1", "0,5-1", true),
            ("6-6,5*9-1", "6-6,5*8", false),
            ("1+2", "1+2", false),
            ("1+2", "4", false),
            ("1+2", "3,0", false),
            ("1,2", "2,1", false),
        ] {
            assert_eq!(state(from).leads_to(&state(to), 10, Order::Any), expected, "{from} {to}");
        }
    }

    /// Evaluates by splitting at + and −, then at ×, with wide signed integers: shares nothing with
    /// the rewriting above.
    fn slow_value(expression: &str, modulus: i128) -> i128 {
        let mut sum = 0;
        let mut sign = 1;
        let mut product = String::new();
        for c in expression.chars().chain(['+']) {
            if c == '+' || c == '-' {
                sum +=
                    sign * product.split('*').map(|n| n.parse::<i128>().unwrap()).product::<i128>();
                sign = if c == '+' { 1 } else { -1 };
                product.clear();
            } else {
                product.push(c);
            }
        }
        sum.rem_euclid(modulus)
    }

    proptest! {
        #[test]
        fn every_reduction_keeps_the_value(text in "[0-9]([-+*][0-9]){0,8}") {
            for order in [Order::Any, Order::LeftToRight] {
                let all = state(&text).successors(10, order);
                prop_assert_eq!(all.is_empty(), state(&text).operations() == 0);
                for next in all {
                    prop_assert_eq!(slow_value(&next.to_string(), 10), slow_value(&text, 10));
                }
            }
            let solved = state(&text).solved(10).to_string();
            prop_assert_eq!(solved, slow_value(&text, 10).to_string());
        }

        #[test]
        fn no_text_breaks_the_parser(text in any::<String>(), like in "[-+*0-9,]{0,40}") {
            let _ = State::parse(&text, 10);
            if let Some(state) = State::parse(&like, 10) {
                prop_assert_eq!(state.to_string(), like);
            }
        }
    }
}
