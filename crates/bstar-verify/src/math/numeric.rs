//! Values of expressions with roots, powers and functions, as numbers with an error bound.
//!
//! Constants are compared at their value, expressions with names at seeded points. A difference
//! counts only beyond both error bounds, and is measured against the size of the values, never
//! against an absolute limit: 10^-30 is not 0 and not 10^-40.

use super::ball::Ball;
use super::budget::Budget;
use super::expr::{Constant, Expr, Function};
use super::modular::{integer, mix};
use super::precise;

/// Points at which expressions with names are compared, and how many must have a value.
const POINTS: u64 = 12;
const POSITIVE_POINTS: u64 = 9;
const ENOUGH_POINTS: usize = 6;

/// Points at which expressions with names that agree are looked at more closely.
const CLOSE_POINTS: u64 = 2;

/// Decimal places that programs print and people do not write.
const LONG_DECIMAL: usize = 8;

/// Relative difference up to which two values are the same.
const NEAR: f64 = 1e-11;

/// Steps that each bit of an exponent takes.
const COST_OF_BIT: u64 = 8;

/// Steps that a power takes.
const COST_OF_POWER: u64 = 32;

/// Relative error from which a value says nothing.
const BLURRED: f64 = 1e-6;

/// Whether two expressions have the same value everywhere; none where too few points tell.
pub(super) fn same(left: &Expr, right: &Expr, budget: &Budget) -> Option<bool> {
    if left.is_constant() && right.is_constant() {
        let first = agree(value(left, 0, budget)?, value(right, 0, budget)?);
        return closely(left, right, first, 0, budget);
    }
    let mut agreed = 0;
    for point in 0..POINTS {
        let (Some(left), Some(right)) = (value(left, point, budget), value(right, point, budget))
        else {
            continue;
        };
        match agree(left, right) {
            Some(true) => agreed += 1,
            Some(false) => return Some(false),
            None => {}
        }
    }
    if agreed < ENOUGH_POINTS {
        return None;
    }
    let is_apart = |point| closely(left, right, Some(true), point, budget) == Some(false);
    Some(!(0..CLOSE_POINTS).any(is_apart))
}

/// What floats say about two values, or a closer look where they agree or cannot tell. Long decimals
/// are values of programs, and as rough as floats are.
fn closely(
    left: &Expr,
    right: &Expr,
    first: Option<bool>,
    point: u64,
    budget: &Budget,
) -> Option<bool> {
    let is_long =
        |node: &Expr| matches!(node, Expr::Number(literal) if literal.places >= LONG_DECIMAL);
    if first == Some(false) || left.any(&is_long) || right.any(&is_long) {
        return first;
    }
    precise::same(left, right, point, budget).or(first)
}

fn agree(left: Ball, right: Ball) -> Option<bool> {
    if left.holds_zero() && right.holds_zero() {
        return Some(true);
    }
    let is_clear = |ball: Ball| ball.is_zero() || ball.uncertainty() < BLURRED;
    if left.is_zero() || right.is_zero() {
        // One is exactly zero and the other is not.
        return (is_clear(left) && is_clear(right)).then_some(false);
    }
    if !is_clear(left) || !is_clear(right) {
        return (!left.is_near(right, BLURRED)).then_some(false);
    }
    Some(left.is_near(right, NEAR))
}

/// The value of a real constant.
pub(super) fn constant(expr: &Expr, budget: &Budget) -> Option<f64> {
    if !expr.is_constant() {
        return None;
    }
    value(expr, 0, budget)?.real()
}

/// The value at one of the points, where names are positive; at the last three they are negative.
fn value(expr: &Expr, point: u64, budget: &Budget) -> Option<Ball> {
    Evaluation { point, budget }.of(expr)
}

struct Evaluation<'a> {
    point: u64,
    budget: &'a Budget,
}

impl Evaluation<'_> {
    fn of(&self, expr: &Expr) -> Option<Ball> {
        self.budget.spend(4)?;
        match expr {
            Expr::Number(literal) => {
                self.budget.spend_on(literal.digits.len())?;
                if literal.integer().is_some_and(|value| value < 1 << 52) {
                    Ball::exact(literal.float())
                } else if literal.significant() > 300 {
                    None
                } else {
                    Ball::rounded(literal.float())
                }
            }
            Expr::Constant(Constant::Pi) => Ball::rounded(std::f64::consts::PI),
            Expr::Constant(Constant::E) => Ball::rounded(std::f64::consts::E),
            Expr::Constant(Constant::I) => Some(Ball::I),
            Expr::Name(name) => Ball::exact(value_of_name(name, self.point)),
            Expr::Based(digits, base) => {
                let value = i64::from_str_radix(digits, *base).ok()?;
                Ball::rounded(value as f64)
            }
            Expr::Sum(parts) => {
                parts.iter().try_fold(Ball::ZERO, |total, part| total.plus(self.of(part)?))
            }
            Expr::Product(parts) => {
                let one = Ball::exact(1.0)?;
                parts.iter().try_fold(one, |total, part| total.times(self.of(part)?))
            }
            Expr::Negative(inner) => Some(self.of(inner)?.negative()),
            Expr::Quotient(above, below) => self.of(above)?.times(self.of(below)?.inverse()?),
            Expr::Power(base, exponent) => self.power(base, exponent),
            Expr::Root(radicand, index) => {
                let index = integer(index).filter(|index| (2..1000).contains(index))?;
                let radicand = self.of(radicand)?;
                self.allows(index % 2 == 1 || !radicand.is_negative())?;
                radicand.root(index)
            }
            Expr::Factorial(inner) => factorial(integer(inner)?, self.budget),
            Expr::Binomial(above, below) => {
                let (above, below) = (integer(above)?, integer(below)?);
                if !(0..=above).contains(&below) {
                    return None;
                }
                let under =
                    factorial(below, self.budget)?.times(factorial(above - below, self.budget)?)?;
                factorial(above, self.budget)?.times(under.inverse()?)
            }
            Expr::Percent(inner) => self.of(inner)?.times(Ball::exact(100.0)?.inverse()?),
            Expr::Degrees(inner) => {
                self.of(inner)?.times(Ball::rounded(std::f64::consts::PI / 180.0)?)
            }
            Expr::Log(base, argument) => {
                self.of(argument)?.ln()?.times(self.of(base)?.ln()?.inverse()?)
            }
            Expr::Call(function, argument) => {
                let argument = self.of(argument)?;
                let is_log = matches!(function, Function::Ln | Function::Log10);
                self.allows(!(is_log && argument.is_negative()))?;
                call(*function, argument)
            }
            _ => None,
        }
    }

    /// Where names are negative, expressions that only make sense for positive ones have no value:
    /// so `\sqrt{x}\sqrt{y}` is `\sqrt{xy}`, but `\sqrt{x^2}` is not `x`.
    fn allows(&self, is_real: bool) -> Option<()> {
        (is_real || self.point < POSITIVE_POINTS).then_some(())
    }

    fn power(&self, base: &Expr, exponent: &Expr) -> Option<Ball> {
        self.budget.spend(COST_OF_POWER)?;
        let base = self.of(base)?;
        if let Some(exponent) = integer(exponent).filter(|value| value.unsigned_abs() < 1 << 40) {
            let bits = u64::from(128 - exponent.unsigned_abs().leading_zeros());
            self.budget.spend(COST_OF_BIT * bits)?;
            return base.to_integer(exponent);
        }
        // x^{2/3} is the square of a cube root, which a negative number has too.
        if let Some((above, below)) = fraction(exponent)
            && (2..1000).contains(&below)
            && below % 2 == 1
            && above.unsigned_abs() < 1 << 40
        {
            return base.root(below)?.to_integer(above);
        }
        self.allows(!base.is_negative())?;
        base.to_power(self.of(exponent)?)
    }
}

/// The value of a name at a point.
pub(super) fn value_of_name(name: &str, point: u64) -> f64 {
    let mut state = point;
    for byte in name.bytes() {
        state = mix(state ^ u64::from(byte));
    }
    // 32 random bits over the range from 0.25 to 2.25.
    let size = f64::from((mix(state) >> 32) as u32) / f64::from(1_u32 << 31) + 0.25;
    if point >= POSITIVE_POINTS { -size } else { size }
}

/// A small fraction as numerator and positive denominator, not always in lowest terms.
pub(super) fn fraction(expr: &Expr) -> Option<(i128, i128)> {
    match expr {
        Expr::Quotient(above, below) => {
            let (above, below) = (integer(above)?, integer(below)?);
            (below > 0).then_some((above, below))
        }
        Expr::Product(parts) => parts.iter().try_fold((1_i128, 1_i128), |(above, below), part| {
            let (other_above, other_below) = fraction(part)?;
            Some((above.checked_mul(other_above)?, below.checked_mul(other_below)?))
        }),
        Expr::Negative(inner) => fraction(inner).map(|(above, below)| (-above, below)),
        whole => Some((integer(whole)?, 1)),
    }
}

fn factorial(top: i128, budget: &Budget) -> Option<Ball> {
    if !(0..=3000).contains(&top) {
        return None;
    }
    budget.spend(4 * u64::try_from(top).ok()?)?;
    (1..=top).try_fold(Ball::exact(1.0)?, |total, factor| total.times(Ball::exact(factor as f64)?))
}

fn call(function: Function, at: Ball) -> Option<Ball> {
    let in_unit = |at: Ball| at.real().is_some_and(|at| at.abs() <= 1.0);
    match function {
        Function::Sin => sine(at),
        Function::Cos => cosine(at),
        Function::Tan => sine(at)?.times(cosine(at)?.inverse()?),
        Function::Cot => cosine(at)?.times(sine(at)?.inverse()?),
        Function::Sec => cosine(at)?.inverse(),
        Function::Csc => sine(at)?.inverse(),
        Function::Arcsin if in_unit(at) => at.map_real(f64::asin, slope_of_arcsin),
        Function::Arccos if in_unit(at) => at.map_real(f64::acos, slope_of_arcsin),
        Function::Arctan => at.map_real(f64::atan, |_| 1.0),
        Function::Sinh => at.map_real(f64::sinh, f64::cosh),
        Function::Cosh => at.map_real(f64::cosh, f64::sinh),
        Function::Tanh => at.map_real(f64::tanh, |_| 1.0),
        Function::Ln => at.ln(),
        Function::Log10 => at.ln()?.times(Ball::rounded(std::f64::consts::LN_10)?.inverse()?),
        Function::Exp => at.exp(),
        Function::Abs => at.abs(),
        Function::Floor => at.step(f64::floor),
        Function::Ceil => at.step(f64::ceil),
        Function::Arcsin | Function::Arccos => None,
    }
}

fn slope_of_arcsin(at: f64) -> f64 {
    1.0 / (1.0 - at * at).max(1e-16).sqrt()
}

/// Sines of arguments so large that their digits are lost are not taken.
fn sine(at: Ball) -> Option<Ball> {
    at.real().filter(|at| at.abs() < 1e6)?;
    at.map_real(f64::sin, |_| 1.0)
}

fn cosine(at: Ball) -> Option<Ball> {
    at.real().filter(|at| at.abs() < 1e6)?;
    at.map_real(f64::cos, |_| 1.0)
}

/// Whether the quotient of two proportional expressions is positive.
pub(super) fn positive_factor(left: &Expr, right: &Expr, budget: &Budget) -> Option<bool> {
    (0..POINTS).find_map(|point| {
        let quotient =
            value(left, point, budget)?.times(value(right, point, budget)?.inverse()?)?;
        quotient.real().map(|quotient| quotient > 0.0)
    })
}
