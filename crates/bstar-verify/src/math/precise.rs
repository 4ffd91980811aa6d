//! A second look at values that agree in all digits of a float: `e^{π√163}` is no integer.
//!
//! Values here are real numbers of 384 bits with a bound on their error. Beyond both bounds two
//! values differ; within them, if they are narrow, they are taken for the same. What has no real
//! value on the way is left to the first look.

use super::budget::Budget;
use super::expr::{Constant, Expr, Function, Literal};
use super::float::{Float, SURE};
use super::modular::integer;
use super::numeric::{fraction, value_of_name};

/// The bound of what is exact, as an exponent of two.
const EXACT: i64 = i64::MIN / 16;

/// Bits that two values agree in at least, to be taken for the same.
const AGREED: i64 = 200;

/// Steps of a few tens of nanoseconds that an operation takes.
const COST_OF_STEP: u64 = 12;
const COST_OF_ROOT: u64 = 40;
const COST_OF_EXP: u64 = 150;
const COST_OF_LN: u64 = 600;
const COST_OF_SINE: u64 = 250;
const COST_OF_ARCTAN: u64 = 1000;

/// Arguments of sine and exponents of e are below two to the power of these.
const LARGEST_ANGLE: i64 = 18;
const LARGEST_EXPONENT: i64 = 24;

/// Whether two expressions have the same value at a point; none where that cannot be told.
pub(super) fn same(left: &Expr, right: &Expr, point: u64, budget: &Budget) -> Option<bool> {
    let evaluation = Evaluation { point, budget };
    let (left, right) = (evaluation.of(left)?, evaluation.of(right)?);
    let difference = left.plus(right.negative());
    if difference.is_clear() {
        return Some(false);
    }
    let size = left.float.top.max(right.float.top).max(0);
    (difference.error <= size - AGREED && difference.error <= left.float.top.max(right.float.top))
        .then_some(true)
}

/// A number that is less than `2^error` away from the true value.
#[derive(Clone, Copy)]
struct Value {
    float: Float,
    error: i64,
}

impl Value {
    fn exact(float: Float) -> Self {
        Self { float, error: EXACT }
    }

    fn whole(value: u128) -> Self {
        Self::exact(Float::whole(value))
    }

    /// With the error of the operation that led to it.
    fn rounded(float: Float, error: i64) -> Self {
        Self { float, error: error.max(float.top - SURE) + 1 }
    }

    /// Whether zero is out of the question.
    fn is_clear(&self) -> bool {
        !self.float.is_zero() && self.float.top - 2 > self.error
    }

    fn is_zero(&self) -> bool {
        self.float.is_zero() && self.error == EXACT
    }

    fn negative(self) -> Self {
        Self { float: self.float.negative(), ..self }
    }

    fn plus(self, other: Self) -> Self {
        if self.is_zero() {
            return other;
        }
        let lost = self.float.top.max(other.float.top) - SURE;
        Self::rounded(self.float.plus(other.float), self.error.max(other.error).max(lost) + 1)
    }

    fn times(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return Self::exact(Float::ZERO);
        }
        let (top, other_top) = (self.float.top, other.float.top);
        let error = (top + other.error).max(other_top + self.error).max(self.error + other.error);
        Self::rounded(self.float.times(other.float), error + 2)
    }

    fn inverse(self) -> Option<Self> {
        let error = self.error - 2 * self.float.top + 4;
        self.is_clear().then(|| Self::rounded(self.float.inverse(), error))
    }

    fn over(self, other: Self) -> Option<Self> {
        Some(self.times(other.inverse()?))
    }

    fn to_integer(self, exponent: i128) -> Option<Self> {
        let (mut left, mut square) = (exponent.unsigned_abs(), self);
        let mut result = Self::whole(1);
        while left > 0 {
            if left & 1 == 1 {
                result = result.times(square);
            }
            left >>= 1;
            if left > 0 {
                square = square.times(square);
            }
            // Exponents of exponents grow without bound.
            if square.float.top.abs() > 1 << 40 {
                return None;
            }
        }
        if exponent < 0 { result.inverse() } else { Some(result) }
    }

    fn exp(self) -> Option<Self> {
        if self.float.top > LARGEST_EXPONENT || self.error > -1 {
            return None;
        }
        let power = self.float.exp();
        let lost = self.float.top.max(0) - SURE;
        Some(Self::rounded(power, power.top + self.error.max(lost) + 2))
    }

    fn ln(self) -> Option<Self> {
        let is_positive = self.is_clear() && !self.float.is_negative();
        let error = (self.error - self.float.top + 2).max(16 - SURE);
        is_positive.then(|| Self::rounded(self.float.ln(), error))
    }

    /// The real root; none for even roots of negative numbers.
    fn root(self, index: i128) -> Option<Self> {
        if self.is_zero() {
            return Some(self);
        }
        if self.float.is_negative() {
            let is_odd = index % 2 != 0 && self.is_clear();
            return is_odd.then(|| self.negative().root(index))?.map(Self::negative);
        }
        if index == 2 {
            let error = self.error - self.float.top / 2 + 3;
            return self.is_clear().then(|| Self::rounded(self.float.sqrt(), error));
        }
        self.ln()?.over(Self::whole(index.unsigned_abs()))?.exp()
    }

    fn sin_cos(self) -> Option<(Self, Self)> {
        let is_small = self.float.top <= LARGEST_ANGLE && self.error < 0;
        let error = self.error.max(24 - SURE);
        let (sine, cosine) = is_small.then(|| self.float.sin_cos())?;
        Some((Self::rounded(sine, error), Self::rounded(cosine, error)))
    }

    fn arctan(self) -> Option<Self> {
        let error = self.error.max(8 - SURE);
        (self.error < 0).then(|| Self::rounded(self.float.arctan(), error))
    }

    fn arcsin(self) -> Option<Self> {
        let one = Self::whole(1);
        let rest = one.plus(self.times(self).negative());
        if rest.float.is_zero() {
            let quarter = Self::half_pi();
            let is_exact = self.error == EXACT;
            return is_exact
                .then(|| if self.float.is_negative() { quarter.negative() } else { quarter });
        }
        self.over(rest.root(2)?)?.arctan()
    }

    fn half_pi() -> Self {
        Self::rounded(Float::half_pi(), EXACT)
    }
}

struct Evaluation<'a> {
    point: u64,
    budget: &'a Budget,
}

impl Evaluation<'_> {
    fn of(&self, expr: &Expr) -> Option<Value> {
        self.budget.spend(COST_OF_STEP)?;
        Some(match expr {
            Expr::Number(literal) => self.literal(literal)?,
            Expr::Constant(Constant::Pi) => Value::half_pi().times(Value::whole(2)),
            Expr::Constant(Constant::E) => self.at_cost(COST_OF_EXP, Value::whole(1).exp())?,
            Expr::Name(name) => Value::exact(Float::of(value_of_name(name, self.point))),
            Expr::Based(digits, base) => Value::whole(u128::from_str_radix(digits, *base).ok()?),
            Expr::Sum(parts) => parts
                .iter()
                .try_fold(Value::exact(Float::ZERO), |sum, part| Some(sum.plus(self.of(part)?)))?,
            Expr::Product(parts) => parts
                .iter()
                .try_fold(Value::whole(1), |product, part| Some(product.times(self.of(part)?)))?,
            Expr::Negative(inner) => self.of(inner)?.negative(),
            Expr::Quotient(above, below) => self.of(above)?.over(self.of(below)?)?,
            Expr::Power(base, exponent) => self.power(base, exponent)?,
            Expr::Root(radicand, index) => {
                let index = integer(index).filter(|index| (2..1000).contains(index))?;
                self.root(self.of(radicand)?, index)?
            }
            Expr::Factorial(inner) => self.factorial(integer(inner)?)?,
            Expr::Binomial(above, below) => {
                let (above, below) = (integer(above)?, integer(below)?);
                let rest = above.checked_sub(below)?;
                let under = self.factorial(below)?.times(self.factorial(rest)?);
                self.factorial(above)?.over(under)?
            }
            Expr::Percent(inner) => self.of(inner)?.over(Value::whole(100))?,
            Expr::Degrees(inner) => {
                self.of(inner)?.times(Value::half_pi()).over(Value::whole(90))?
            }
            Expr::Log(base, argument) => self.ln(argument)?.over(self.ln(base)?)?,
            Expr::Call(function, argument) => self.call(*function, argument)?,
            _ => return None,
        })
    }

    fn at_cost<T>(&self, steps: u64, found: Option<T>) -> Option<T> {
        self.budget.spend(steps)?;
        found
    }

    fn literal(&self, literal: &Literal) -> Option<Value> {
        if literal.digits.len() > 300 {
            return None;
        }
        self.budget.spend(COST_OF_STEP * literal.digits.len() as u64)?;
        let ten = Value::whole(10);
        let digits = literal.digits.bytes().fold(Value::exact(Float::ZERO), |value, digit| {
            value.times(ten).plus(Value::whole(u128::from(digit - b'0')))
        });
        if literal.places == 0 {
            return Some(digits);
        }
        digits.over(ten.to_integer(i128::try_from(literal.places).ok()?)?)
    }

    fn ln(&self, expr: &Expr) -> Option<Value> {
        self.budget.spend(COST_OF_LN)?;
        self.of(expr)?.ln()
    }

    fn root(&self, radicand: Value, index: i128) -> Option<Value> {
        self.budget.spend(if index == 2 { COST_OF_ROOT } else { COST_OF_LN + COST_OF_EXP })?;
        radicand.root(index)
    }

    fn power(&self, base: &Expr, exponent: &Expr) -> Option<Value> {
        let base = self.of(base)?;
        if let Some(exponent) = integer(exponent).filter(|value| value.unsigned_abs() < 1 << 40) {
            let bits = u64::from(128 - exponent.unsigned_abs().leading_zeros());
            self.budget.spend(2 * COST_OF_STEP * bits)?;
            return base.to_integer(exponent);
        }
        if let Some((above, below)) = fraction(exponent)
            && (2..1000).contains(&below)
            && above.unsigned_abs() < 1 << 20
        {
            return self.root(base, below)?.to_integer(above);
        }
        let exponent = self.of(exponent)?;
        self.budget.spend(COST_OF_LN + COST_OF_EXP)?;
        base.ln()?.times(exponent).exp()
    }

    fn factorial(&self, top: i128) -> Option<Value> {
        let top = u64::try_from(top).ok().filter(|top| *top <= 3000)?;
        self.budget.spend(COST_OF_STEP * top)?;
        Some((1..=top).fold(Value::whole(1), |product, factor| {
            product.times(Value::whole(u128::from(factor)))
        }))
    }

    fn call(&self, function: Function, argument: &Expr) -> Option<Value> {
        self.budget.spend(cost(function))?;
        let at = self.of(argument)?;
        let one = Value::whole(1);
        let is_in_unit = !one.plus(at.times(at).negative()).float.is_negative();
        // Half the sum or the difference of e^x and e^-x.
        let hyperbolic = |is_sum: bool| {
            let (up, down) = (at.exp()?, at.negative().exp()?);
            up.plus(if is_sum { down } else { down.negative() }).over(Value::whole(2))
        };
        match function {
            Function::Sin => Some(at.sin_cos()?.0),
            Function::Cos => Some(at.sin_cos()?.1),
            Function::Tan => at.sin_cos().and_then(|(sine, cosine)| sine.over(cosine)),
            Function::Cot => at.sin_cos().and_then(|(sine, cosine)| cosine.over(sine)),
            Function::Sec => at.sin_cos()?.1.inverse(),
            Function::Csc => at.sin_cos()?.0.inverse(),
            Function::Arcsin if is_in_unit => at.arcsin(),
            Function::Arccos if is_in_unit => Some(Value::half_pi().plus(at.arcsin()?.negative())),
            Function::Arctan => at.arctan(),
            Function::Sinh => hyperbolic(false),
            Function::Cosh => hyperbolic(true),
            Function::Tanh => hyperbolic(false)?.over(hyperbolic(true)?),
            Function::Ln => at.ln(),
            Function::Log10 => at.ln()?.over(Value::whole(10).ln()?),
            Function::Exp => at.exp(),
            Function::Abs => Some(Value { float: at.float.abs(), ..at }),
            Function::Floor | Function::Ceil | Function::Arcsin | Function::Arccos => None,
        }
    }
}

fn cost(function: Function) -> u64 {
    match function {
        Function::Sin
        | Function::Cos
        | Function::Tan
        | Function::Cot
        | Function::Sec
        | Function::Csc => COST_OF_SINE,
        Function::Arcsin | Function::Arccos | Function::Arctan => COST_OF_ARCTAN,
        Function::Sinh | Function::Cosh | Function::Exp => 2 * COST_OF_EXP,
        Function::Tanh => 4 * COST_OF_EXP,
        Function::Ln => COST_OF_LN,
        Function::Log10 => 2 * COST_OF_LN,
        Function::Abs | Function::Floor | Function::Ceil => COST_OF_STEP,
    }
}
