//! Whether two trees are the same answer: structure first, then values.

use super::budget::Budget;
use super::collection::{are_opposed, is_interval};
use super::expr::{Constant, Expr, Join, Literal};
use super::label::{are_named, by_name, named_value, settled, value_of};
use super::relation::related_same;
use super::words::{self, spelled};
use super::{Decimals, Options, Order, Percent, Units};
use super::{interval, matching, modular, numeric, units};

/// Steps that comparing two items of lists takes at least.
const COST_OF_PAIR: u64 = 40;

/// Whether two answers are the same; none where that cannot be told.
pub(super) fn same(first: &Expr, second: &Expr, options: &Options) -> Option<bool> {
    Comparison { options, budget: Budget::new() }.whole(&settled(first), &settled(second))
}

/// The steps of work that comparing two answers takes; none where one is not understood.
#[cfg(test)]
pub(super) fn steps(answer: &str, gold: &str) -> Option<u64> {
    let (answer, gold) = (super::parse::parse(answer)?, super::parse::parse(gold)?);
    let comparison = Comparison { options: &Options::default(), budget: Budget::new() };
    let _ = comparison.whole(&settled(&answer), &settled(&gold));
    Some(super::budget::STEPS - comparison.budget.left())
}

/// A comparison under way.
pub(super) struct Comparison<'a> {
    options: &'a Options,
    pub(super) budget: Budget,
}

impl Comparison<'_> {
    /// Two whole answers, either of which may name what it is the value of.
    fn whole(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        if let (Expr::Related(..), Expr::Related(..)) = (answer, gold) {
            if related_same(self, answer, gold)? || self.same_region(answer, gold)? {
                return Some(true);
            }
            let (answer_value, gold_value) = (named_value(answer), named_value(gold));
            return match (answer_value, gold_value) {
                // `x=3` and `y=3` are different; a chain is compared by what it comes to.
                (Some((left, answer)), Some((right, gold))) if left.may_be(right) => {
                    self.parts(answer, gold)
                }
                _ => Some(false),
            };
        }
        let (answer, gold) = (value_of(answer), value_of(gold));
        self.parts(&settled(&answer), &settled(&gold))
    }

    pub(super) fn parts(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        let (answer, gold) = (&spread(answer), &spread(gold));
        match (answer, gold) {
            (Expr::List(left, join), Expr::List(right, other)) => {
                let is_same =
                    !are_opposed((left, *join), (right, *other)) && self.lists(left, right)?;
                Some(is_same || self.same_region(answer, gold)?)
            }
            (Expr::Bracketed('{', left, _), Expr::Bracketed('{', right, _)) => {
                self.sets(left, right)
            }
            (Expr::List(left, _), Expr::Bracketed('{', right, _)) => {
                self.items(left, &self.without_repeats(right), false)
            }
            (Expr::Bracketed('{', left, _), Expr::List(right, _)) => {
                self.items(&self.without_repeats(left), right, false)
            }
            (Expr::Union(left), Expr::Union(right)) => {
                let is_same = self.items(left, right, false)?;
                Some(is_same || self.same_pieces(answer, gold)?)
            }
            (Expr::Union(parts), Expr::List(items, _))
            | (Expr::List(items, _), Expr::Union(parts))
                if items.iter().all(is_interval) =>
            {
                self.items(parts, items, false)
            }
            (Expr::Union(_), Expr::Bracketed(..)) | (Expr::Bracketed(..), Expr::Union(_)) => {
                self.same_pieces(answer, gold)
            }
            (Expr::List(values, _), Expr::Bracketed('(', items, ')'))
            | (Expr::Bracketed('(', items, ')'), Expr::List(values, _))
                if are_named(values) =>
            {
                self.items(&by_name(values), items, true)
            }
            (Expr::Matrix(rows), Expr::Bracketed(open @ ('(' | '['), items, close))
            | (Expr::Bracketed(open @ ('(' | '['), items, close), Expr::Matrix(rows))
                if (*open == '(') == (*close == ')') =>
            {
                self.matrix_in_brackets(rows, items)
            }
            (Expr::Bracketed(o1, left, c1), Expr::Bracketed(o2, right, c2)) => {
                if (o1, c1) != (o2, c2) {
                    return Some(false);
                }
                self.items(left, right, true)
            }
            (Expr::Ratio(left), Expr::Ratio(right)) => self.ratios(left, right),
            (Expr::Matrix(left), Expr::Matrix(right)) => self.matrices(left, right),
            (Expr::Modulo(left, modulus), Expr::Modulo(right, other)) => {
                self.residues((left, modulus), (right, other))
            }
            (Expr::Text(_), _) | (_, Expr::Text(_)) => self.words(answer, gold),
            (Expr::Related(..), Expr::Related(..)) => self.whole(answer, gold),
            (Expr::Related(..) | Expr::List(..), _) | (_, Expr::Related(..) | Expr::List(..)) => {
                self.same_region(answer, gold)
            }
            _ if answer.is_scalar() && gold.is_scalar() => self.scalars(answer, gold),
            _ => self.unlike(answer, gold),
        }
    }

    /// Answers of different kinds that may still mean the same.
    fn unlike(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        let is_lenient = self.options.units == Units::Optional;
        match (answer, gold) {
            (Expr::Quantity(left, unit), Expr::Quantity(right, other)) => {
                let is_same_unit = units::canonical(unit) == units::canonical(other);
                Some(is_same_unit && self.times(left, right)?)
            }
            (Expr::Quantity(inner, _), other) if is_lenient && !inner.is_scalar() => {
                self.parts(inner, other)
            }
            (other, Expr::Quantity(inner, _)) if is_lenient && !inner.is_scalar() => {
                self.parts(other, inner)
            }
            (Expr::Modulo(inner, modulus), other) | (other, Expr::Modulo(inner, modulus))
                if is_lenient =>
            {
                self.remainder(inner, modulus, other)
            }
            (Expr::Ratio(parts), other) | (other, Expr::Ratio(parts))
                if parts.len() == 2 && !is_clock(parts) && other.is_scalar() =>
            {
                let quotient =
                    Expr::Quotient(Box::new(parts[0].clone()), Box::new(parts[1].clone()));
                self.values(&quotient, other)
            }
            (Expr::Bracketed('{', items, _), other) | (other, Expr::Bracketed('{', items, _))
                if items.len() == 1 && other.is_scalar() && !self.is_ordered() =>
            {
                self.parts(&items[0], other)
            }
            _ => Some(false),
        }
    }

    /// Values of one unit; `8 p.m.` is `8:00 p.m.`.
    fn times(&self, left: &Expr, right: &Expr) -> Option<bool> {
        match (left, right) {
            (Expr::Ratio(clock), hour) | (hour, Expr::Ratio(clock)) if hour.is_scalar() => {
                let is_full_hour = clock.len() == 2 && clock[1] == zero_minutes();
                Some(is_full_hour && self.values(&clock[0], hour)?)
            }
            _ => self.parts(left, right),
        }
    }

    /// Words against words, or against the values or names that they spell.
    fn words(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        for side in [answer, gold] {
            if let Expr::Text(text) = side {
                self.budget.spend_on(8 * text.len())?;
            }
        }
        if words_same(answer, gold) {
            return Some(true);
        }
        let value = |expr: &Expr| match expr {
            Expr::Text(text) => words::value(text),
            other if other.is_scalar() => Some(other.clone()),
            _ => None,
        };
        match (value(answer), value(gold)) {
            (Some(answer), Some(gold)) => self.scalars(&answer, &gold),
            _ => Some(false),
        }
    }

    /// Residues of one modulus.
    fn residues(&self, answer: (&Expr, &Expr), gold: (&Expr, &Expr)) -> Option<bool> {
        if !self.values(answer.1, gold.1)? {
            return Some(false);
        }
        let integer = modular::integer;
        match (integer(answer.0), integer(gold.0), integer(gold.1)) {
            (Some(left), Some(right), Some(modulus)) if modulus != 0 => {
                Some((left - right) % modulus == 0)
            }
            _ => self.parts(answer.0, gold.0),
        }
    }

    /// A residue against a value: the remainder, `7 \\bmod 3` and 1, or the same negative number.
    fn remainder(&self, inner: &Expr, modulus: &Expr, value: &Expr) -> Option<bool> {
        let integer = modular::integer;
        let found =
            integer(modulus).and_then(|modulus| modular::residue(inner, modulus, &self.budget));
        match (found, integer(value)) {
            (Some(found), Some(value)) => {
                Some(found == value || (value < 0 && integer(inner) == Some(value)))
            }
            _ => self.parts(inner, value),
        }
    }

    /// Inequalities against inequalities of another form, or against intervals.
    fn same_region(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        let region = |expr: &Expr| match expr {
            Expr::Related(..) | Expr::List(..) => {
                interval::of(expr, &self.budget).map(|(name, region)| (Some(name), region))
            }
            Expr::Bracketed(..) | Expr::Union(_) => Some((None, expr.clone())),
            _ => None,
        };
        let is_condition = |expr: &Expr| matches!(expr, Expr::Related(..) | Expr::List(..));
        if !is_condition(answer) && !is_condition(gold) {
            return Some(false);
        }
        let (Some((name, answer)), Some((other, gold))) = (region(answer), region(gold)) else {
            return Some(false);
        };
        if name.is_some() && other.is_some() && name != other {
            return Some(false);
        }
        self.parts(&answer, &gold)
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.options.order == Order::Kept
    }

    pub(super) fn items(&self, left: &[Expr], right: &[Expr], is_ordered: bool) -> Option<bool> {
        if left.len() != right.len() || left.len() > 64 {
            return Some(false);
        }
        let pair = |left: &Expr, right: &Expr| {
            self.budget.spend(COST_OF_PAIR)?;
            self.whole(&settled(left), &settled(right))
        };
        if is_ordered {
            return all(left.iter().zip(right).map(|(left, right)| pair(left, right)));
        }
        matching::perfect(left.len(), |at, other| pair(&left[at], &right[other]))
    }

    /// Ratios may be scaled, but `12:00` and `1:00` are times.
    fn ratios(&self, left: &[Expr], right: &[Expr]) -> Option<bool> {
        if left.len() != right.len() {
            return Some(false);
        }
        if all(left.iter().zip(right).map(|(left, right)| self.scalars(left, right)))? {
            return Some(true);
        }
        if is_clock(left) && is_clock(right) {
            return Some(false);
        }
        let share = |parts: &[Expr], at: usize| {
            Expr::Quotient(Box::new(parts[at].clone()), Box::new(parts[0].clone()))
        };
        all((1..left.len()).map(|at| self.scalars(&share(left, at), &share(right, at))))
    }

    pub(super) fn matrices(&self, left: &[Vec<Expr>], right: &[Vec<Expr>]) -> Option<bool> {
        if left.len() != right.len() {
            return Some(false);
        }
        all(left.iter().zip(right).map(|(left, right)| self.items(left, right, true)))
    }

    /// Two values, with what percent signs and units allow.
    fn scalars(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        let (mut answer, mut answer_unit) = without_unit(answer);
        let (mut gold, mut gold_unit) = without_unit(gold);
        take_letter(&mut answer, &mut answer_unit, gold_unit.as_deref());
        take_letter(&mut gold, &mut gold_unit, answer_unit.as_deref());
        match (&answer_unit, &gold_unit, self.options.units) {
            (Some(left), Some(right), _) if left != right => return Some(false),
            (Some(_), None, Units::Strict)
            | (None, Some(_), Units::Strict | Units::GoldDecides) => {
                return Some(false);
            }
            _ => {}
        }
        if is_based(&answer) != is_based(&gold) {
            return Some(same_digits(&answer, &gold));
        }
        match (&answer, &gold) {
            (Expr::Percent(_), _) if gold_unit.is_some() => Some(false),
            (_, Expr::Percent(_)) if answer_unit.is_some() => Some(false),
            (Expr::Percent(left), Expr::Percent(right))
            | (Expr::Degrees(left), Expr::Degrees(right)) => self.values(left, right),
            (Expr::Percent(inner), other) | (other, Expr::Percent(inner)) => {
                let as_fraction = self.values(&Expr::Percent(inner.clone()), other)?;
                let is_lenient = self.options.percent == Percent::SignOptional;
                Some(as_fraction || (is_lenient && self.values(inner, other)?))
            }
            (Expr::Degrees(inner), other) | (other, Expr::Degrees(inner)) => {
                let is_plain = self.options.units != Units::Strict && self.values(inner, other)?;
                Some(is_plain || self.values(&Expr::Degrees(inner.clone()), other)?)
            }
            _ => self.values(&with_i(&answer, &gold), &with_i(&gold, &answer)),
        }
    }

    pub(super) fn values(&self, left: &Expr, right: &Expr) -> Option<bool> {
        if left == right {
            return Some(true);
        }
        match (infinity(left), infinity(right)) {
            (None, None) => {}
            (left, right) => return Some(left == right),
        }
        let exact = modular::same_fraction(left, right)
            .or_else(|| modular::same(left, right, &self.budget));
        let is_same = match exact {
            Some(is_same) => is_same,
            None => numeric::same(left, right, &self.budget)?,
        };
        Some(is_same || self.is_rounded(left, right))
    }

    /// Whether one is a decimal that rounds the other.
    fn is_rounded(&self, left: &Expr, right: &Expr) -> bool {
        let Decimals::Rounded { digits } = self.options.decimals else { return false };
        let decimal = |expr: &Expr| match bare(expr) {
            Expr::Number(literal) if literal.places > 0 => {
                Some((literal.significant(), literal.places))
            }
            _ => None,
        };
        let (given, places, is_pair) = match (decimal(left), decimal(right)) {
            (Some((given, places)), None) | (None, Some((given, places))) => (given, places, false),
            (Some(left), Some(right)) => {
                let longer = if left.1 > right.1 { left } else { right };
                (longer.0, longer.1, true)
            }
            (None, None) => return false,
        };
        let (Some(left), Some(right)) =
            (numeric::constant(left, &self.budget), numeric::constant(right, &self.budget))
        else {
            return false;
        };
        let difference = (left - right).abs();
        let larger = left.abs().max(right.abs());
        // Programs print 5.000000000001, and fractions of a power of two that are almost 326.5.
        let is_noise = given >= 12 && places >= 8 && difference <= 1e-11 * larger;
        if is_noise || (given <= 15 && difference <= 1e-15 * larger) {
            return true;
        }
        // Rounding and cutting off leave less than a whole unit: 1000.01 is not 1000. Two decimals
        // are both meant as they are written.
        let last_place = 10_f64.powi(-i32::try_from(places).unwrap_or(i32::MAX));
        !is_pair && given >= digits as usize && difference < last_place * (1.0 - 1e-6)
    }
}

/// The letter behind a constant is a unit where the other side has that unit: `5 m`.
fn take_letter(value: &mut Expr, unit: &mut Option<String>, other: Option<&str>) {
    let (Expr::Product(parts), None, Some(other)) = (&*value, &*unit, other) else { return };
    if let Some((Expr::Name(name), rest)) = parts.split_last()
        && rest.iter().all(Expr::is_constant)
        && units::canonical(name) == other
    {
        *value = Expr::Product(rest.to_vec());
        *unit = Some(other.to_owned());
    }
}

/// With `j` read as the imaginary unit, where that has a real part beside it and the other side has
/// `i` instead.
fn with_i(value: &Expr, other: &Expr) -> Expr {
    let is_i = |node: &Expr| *node == Expr::Constant(Constant::I);
    match value {
        Expr::Sum(parts)
            if value.only_name() == Some("j")
                && parts.iter().any(Expr::is_constant)
                && !value.any(&is_i)
                && other.is_constant()
                && other.any(&is_i) =>
        {
            value.with_name("j", &Expr::Constant(Constant::I))
        }
        _ => value.clone(),
    }
}

/// Whether a number is written in a base of its own. Where one side is, that is what was asked for:
/// the value in base ten is no answer.
fn is_based(expr: &Expr) -> bool {
    matches!(expr, Expr::Based(_, base) if *base != 10)
}

/// Whether a number in a base is the other one but for the base: `1010` where `1010_2` is meant.
fn same_digits(left: &Expr, right: &Expr) -> bool {
    let ((Expr::Based(digits, _), Expr::Number(other))
    | (Expr::Number(other), Expr::Based(digits, _))) = (left, right)
    else {
        return false;
    };
    other.places == 0 && digits.trim_start_matches('0') == other.digits.trim_start_matches('0')
}

fn zero_minutes() -> Expr {
    Expr::Number(Literal { digits: "00".into(), places: 0 })
}

fn all(mut parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut is_unclear = false;
    if parts.any(|part| {
        is_unclear |= part.is_none();
        part == Some(false)
    }) {
        return Some(false);
    }
    if is_unclear { None } else { Some(true) }
}

fn is_all_reals(text: &Expr) -> bool {
    spelled(text).is_some_and(|words| words == "allreals")
}

/// All real numbers as an interval, and an answer with ± as the list of its two values.
fn spread(expr: &Expr) -> Expr {
    let has_sign = |expr: &Expr| expr.any(&|node| matches!(node, Expr::PlusMinus(_)));
    match expr {
        Expr::Text(_) if is_all_reals(expr) => {
            let infinity = Expr::Constant(Constant::Infinity);
            let below = Expr::Negative(Box::new(infinity.clone()));
            Expr::Bracketed('(', vec![below, infinity], ')')
        }
        scalar if scalar.is_scalar() && has_sign(scalar) => {
            Expr::List(vec![scalar.with_sign(false), scalar.with_sign(true)], Join::Plain)
        }
        Expr::List(items, join) if items.iter().any(|item| item.is_scalar() && has_sign(item)) => {
            let values = items.iter().flat_map(|item| match spread(item) {
                Expr::List(values, _) => values,
                value => vec![value],
            });
            Expr::List(values.collect(), *join)
        }
        Expr::Union(parts) if parts.iter().all(|part| matches!(part, Expr::Bracketed('{', ..))) => {
            let items = parts.iter().flat_map(|part| match part {
                Expr::Bracketed(_, items, _) => items.clone(),
                _ => Vec::new(),
            });
            Expr::Bracketed('{', items.collect(), '}')
        }
        other => other.clone(),
    }
}

/// Whether a ratio may be a time: whole numbers, all but the first of two digits.
fn is_clock(parts: &[Expr]) -> bool {
    parts.iter().enumerate().all(|(at, part)| {
        matches!(part, Expr::Number(literal)
            if literal.places == 0 && (literal.digits.len() == 2 || at == 0))
    })
}

/// Infinity with its sign.
fn infinity(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Constant(Constant::Infinity) => Some(true),
        Expr::Negative(inner) => infinity(inner).map(|is_positive| !is_positive),
        _ => None,
    }
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Negative(inner) | Expr::Percent(inner) => bare(inner),
        other => other,
    }
}

/// A value and the canonical name of its unit.
fn without_unit(expr: &Expr) -> (Expr, Option<String>) {
    match expr {
        Expr::Quantity(inner, unit) => {
            let (value, inner_unit) = without_unit(inner);
            let unit = units::canonical(unit);
            (value, inner_unit.or((!unit.is_empty()).then_some(unit)))
        }
        Expr::Negative(inner) => {
            let (value, unit) = without_unit(inner);
            (Expr::Negative(Box::new(value)), unit)
        }
        other => (other.clone(), None),
    }
}

/// Words against words, or against names that spell them.
fn words_same(left: &Expr, right: &Expr) -> bool {
    match (spelled(left), spelled(right)) {
        (Some(left), Some(right)) => !left.is_empty() && left == right,
        _ => false,
    }
}
