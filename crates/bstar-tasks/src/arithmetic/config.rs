//! Settings of the arithmetic generator and what can be wrong with them.

use super::expression::{MAX_OPERANDS, Order};
use bstar_core::{Fault, FaultClass};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest modulus, far from any overflow.
const MAX_MODULUS: u32 = 1000;

/// A query is one or more expressions modulo a number; a solution rewrites them one operation at a
/// time until their values are left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArithmeticConfig {
    /// Values are taken modulo this number, from 2 to 1000.
    pub modulus: u32,
    /// Expressions in a query, from 1 to 32. The answer is the list of their values, so that more
    /// expressions make a right guess less likely.
    pub expressions: usize,
    /// The smallest operand in a query.
    pub smallest_operand: u32,
    /// The largest operand in a query; below the modulus.
    pub largest_operand: u32,
    /// How often each operator is drawn.
    pub operators: OperatorWeights,
    /// Which operations may be reduced next.
    pub order: Order,
    /// Share (0 to 1) of steps in generated solutions that reduce two operations at once. The step check
    /// accepts such steps whatever this is.
    pub double_step_share: f64,
    /// Weights of 1, 2, 3, … operations in the queries that are solved for supervised fine-tuning.
    pub supervised_operations: Vec<f64>,
    /// Weights of 1, 2, 3, … operations in training, validation and test queries.
    pub query_operations: Vec<f64>,
    /// Solved queries for supervised fine-tuning.
    pub supervised: usize,
    /// Training queries.
    pub train: usize,
    /// Validation queries.
    pub validation: usize,
    /// Test queries.
    pub test: usize,
}

impl Default for ArithmeticConfig {
    fn default() -> Self {
        Self {
            modulus: 10,
            expressions: 2,
            smallest_operand: 1,
            largest_operand: 9,
            operators: OperatorWeights::default(),
            order: Order::default(),
            double_step_share: 0.15,
            supervised_operations: vec![2.0, 5.0, 3.2, 0.6, 0.2],
            query_operations: vec![0.0, 0.0, 1.0, 1.0, 1.0],
            supervised: 5000,
            train: 4000,
            validation: 200,
            test: 420,
        }
    }
}

impl ArithmeticConfig {
    /// Whether queries can be generated from these settings.
    pub fn validate(&self) -> Result<(), ArithmeticError> {
        let operators = self.operators.weights();
        let max_operations = self.supervised_operations.len().max(self.query_operations.len());
        if !(2..=MAX_MODULUS).contains(&self.modulus) {
            return invalid("modulus", format!("{} is not in 2..={MAX_MODULUS}", self.modulus));
        }
        if !(1..=MAX_OPERANDS / 2).contains(&self.expressions) {
            let range = format!("1..={}", MAX_OPERANDS / 2);
            return invalid("expressions", format!("{} is not in {range}", self.expressions));
        }
        if self.largest_operand >= self.modulus {
            let text = format!("{} is not below modulus {}", self.largest_operand, self.modulus);
            return invalid("largest_operand", text);
        }
        if self.smallest_operand > self.largest_operand {
            let text = format!("{} > largest_operand", self.smallest_operand);
            return invalid("smallest_operand", text);
        }
        if !(0.0..=1.0).contains(&self.double_step_share) {
            return invalid("double_step_share", format!("{} is no share", self.double_step_share));
        }
        if max_operations > MAX_OPERANDS / 2 {
            let text = format!("more than {} operations", MAX_OPERANDS / 2);
            return invalid("query_operations", text);
        }
        check_weights("operators", &operators)?;
        check_weights("supervised_operations", &self.supervised_operations)?;
        check_weights("query_operations", &self.query_operations)
    }
}

/// Weights with which operators are drawn; they need not sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorWeights {
    /// Weight of `+`.
    pub add: f64,
    /// Weight of `-`.
    pub subtract: f64,
    /// Weight of `*`.
    pub multiply: f64,
}

impl OperatorWeights {
    /// In the order add, subtract, multiply.
    pub(super) fn weights(self) -> [f64; 3] {
        [self.add, self.subtract, self.multiply]
    }
}

impl Default for OperatorWeights {
    fn default() -> Self {
        Self { add: 0.5, subtract: 0.25, multiply: 0.25 }
    }
}

/// Why arithmetic queries cannot be generated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArithmeticError {
    /// A setting is out of range.
    #[error("invalid task.arithmetic.{key}: {problem}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There are not enough distinct queries.
    #[error(
        "no more distinct arithmetic queries with {operations} operations after {drawn} of {size} \
         for {split}"
    )]
    Exhausted {
        /// The split that could not be filled.
        split: &'static str,
        /// Queries wanted.
        size: usize,
        /// Queries drawn.
        drawn: usize,
        /// Operations of the query that could not be drawn.
        operations: usize,
    },
}

impl From<ArithmeticError> for Fault {
    fn from(error: ArithmeticError) -> Self {
        let hint = match &error {
            ArithmeticError::Invalid { key, .. } => format!("change task.arithmetic.{key}"),
            ArithmeticError::Exhausted { split, .. } => format!(
                "lower task.arithmetic.{split}, give more weight to longer queries, or raise \
                 task.arithmetic.expressions, largest_operand or modulus"
            ),
        };
        Self::new(FaultClass::Usage, error.to_string()).hint(hint)
    }
}

fn invalid(key: &'static str, problem: String) -> Result<(), ArithmeticError> {
    Err(ArithmeticError::Invalid { key, problem })
}

fn check_weights(key: &'static str, weights: &[f64]) -> Result<(), ArithmeticError> {
    let total: f64 = weights.iter().sum();
    let is_usable = weights.iter().all(|&weight| weight >= 0.0) && total > 0.0 && total.is_finite();
    if is_usable {
        return Ok(());
    }
    invalid(key, format!("{weights:?} are not weights: none negative, and not all zero"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut ArithmeticConfig), expected: &str) {
        let mut config = ArithmeticConfig::default();
        change(&mut config);
        match config.validate() {
            Err(ArithmeticError::Invalid { key, .. }) => assert_eq!(key, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        assert_eq!(ArithmeticConfig::default().validate(), Ok(()));
        check(|config| config.modulus = 1, "modulus");
        check(|config| config.modulus = 1001, "modulus");
        check(|config| config.expressions = 0, "expressions");
        check(|config| config.expressions = 33, "expressions");
        check(|config| config.largest_operand = 10, "largest_operand");
        check(|config| config.smallest_operand = 10, "smallest_operand");
        check(|config| config.double_step_share = f64::NAN, "double_step_share");
        check(|config| config.operators.add = -1.0, "operators");
        check(|config| config.supervised_operations.clear(), "supervised_operations");
        check(|config| config.query_operations = vec![0.0; 3], "query_operations");
        check(|config| config.query_operations = vec![f64::INFINITY], "query_operations");
        check(|config| config.query_operations = vec![1.0; 33], "query_operations");
    }

    #[test]
    fn faults_are_of_usage_and_name_the_key() {
        let error = ArithmeticError::Exhausted { split: "test", size: 9, drawn: 5, operations: 1 };
        let fault = Fault::from(error);
        assert_eq!(fault.class, FaultClass::Usage);
        assert!(fault.hint.is_some_and(|hint| hint.contains("task.arithmetic.test")));
    }
}
