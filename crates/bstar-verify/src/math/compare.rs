//! Whether two trees are the same answer: structure first, then values.

use super::budget::Budget;
use super::expr::{Constant, Expr, Relation};
use super::{Decimals, Options, Order, Percent, Units, modular, numeric, units};

/// Whether an answer is the gold answer; none where that cannot be told.
pub(super) fn same(answer: &Expr, gold: &Expr, options: &Options) -> Option<bool> {
    Comparison { options, budget: Budget::new() }.whole(&settled(answer), &settled(gold))
}

struct Comparison<'a> {
    options: &'a Options,
    budget: Budget,
}

impl Comparison<'_> {
    /// Two whole answers, either of which may name what it is the value of.
    fn whole(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        if let (Expr::Related(..), Expr::Related(..)) = (answer, gold) {
            if related_same(self, answer, gold)? {
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

    fn parts(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        let (answer, gold) = (&spread(answer), &spread(gold));
        match (answer, gold) {
            (Expr::List(left), Expr::List(right)) => self.items(left, right, self.is_ordered()),
            (Expr::List(left) | Expr::Bracketed('{', left, _), Expr::Bracketed('{', right, _))
            | (Expr::Bracketed('{', left, _), Expr::List(right))
            | (Expr::Union(left), Expr::Union(right)) => self.items(left, right, false),
            (Expr::List(values), Expr::Bracketed('(', _, ')')) if are_named(values) => {
                self.parts(&Expr::Bracketed('(', values.clone(), ')'), gold)
            }
            (Expr::Bracketed('(', _, ')'), Expr::List(values)) if are_named(values) => {
                self.parts(answer, &Expr::Bracketed('(', values.clone(), ')'))
            }
            (Expr::Bracketed(o1, left, c1), Expr::Bracketed(o2, right, c2)) => {
                if (o1, c1) != (o2, c2) {
                    return Some(false);
                }
                self.items(left, right, true)
            }
            (Expr::List(cases), Expr::Union(parts)) | (Expr::Union(parts), Expr::List(cases)) => {
                let intervals: Option<Vec<Expr>> = cases.iter().map(as_interval).collect();
                match intervals {
                    Some(intervals) => self.items(&intervals, parts, false),
                    None => Some(false),
                }
            }
            (Expr::Ratio(left), Expr::Ratio(right)) => self.ratios(left, right),
            (Expr::Matrix(left), Expr::Matrix(right)) => self.matrices(left, right),
            (Expr::Text(_), _) | (_, Expr::Text(_)) => Some(words_same(answer, gold)),
            (Expr::Quantity(left, unit), Expr::Quantity(right, other))
                if !left.is_scalar() || !right.is_scalar() =>
            {
                Some(units::canonical(unit) == units::canonical(other) && self.parts(left, right)?)
            }
            (Expr::Quantity(inner, _), other) if !inner.is_scalar() => self.parts(inner, other),
            (other, Expr::Quantity(inner, _)) if !inner.is_scalar() => self.parts(other, inner),
            (Expr::Related(..), Expr::Related(..)) => self.whole(answer, gold),
            (Expr::Related(..), other) => self.interval_or_none(answer, other),
            (other, Expr::Related(..)) => self.interval_or_none(gold, other),
            _ if answer.is_scalar() && gold.is_scalar() => self.scalars(answer, gold),
            _ => Some(false),
        }
    }

    fn is_ordered(&self) -> bool {
        self.options.order == Order::Kept
    }

    /// An inequality against an interval; every other structure differs from a relation.
    fn interval_or_none(&self, relation: &Expr, other: &Expr) -> Option<bool> {
        match as_interval(relation) {
            Some(interval) if !matches!(other, Expr::Related(..)) => self.parts(&interval, other),
            _ => Some(false),
        }
    }

    fn items(&self, left: &[Expr], right: &[Expr], is_ordered: bool) -> Option<bool> {
        if left.len() != right.len() || left.len() > 64 {
            return Some(false);
        }
        let pair = |left: &Expr, right: &Expr| self.whole(&settled(left), &settled(right));
        if is_ordered {
            return all(left.iter().zip(right).map(|(left, right)| pair(left, right)));
        }
        let mut open: Vec<&Expr> = right.iter().collect();
        let mut is_unclear = false;
        for item in left {
            let found = open.iter().position(|other| {
                let told = pair(item, other);
                is_unclear |= told.is_none();
                told == Some(true)
            });
            let Some(at) = found else { return if is_unclear { None } else { Some(false) } };
            open.swap_remove(at);
        }
        Some(true)
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

    fn matrices(&self, left: &[Vec<Expr>], right: &[Vec<Expr>]) -> Option<bool> {
        if left.len() != right.len() {
            return Some(false);
        }
        all(left.iter().zip(right).map(|(left, right)| self.items(left, right, true)))
    }

    /// Two values, with what percent signs and units allow.
    fn scalars(&self, answer: &Expr, gold: &Expr) -> Option<bool> {
        let (answer, answer_unit) = without_unit(answer);
        let (gold, gold_unit) = without_unit(gold);
        match (&answer_unit, &gold_unit, self.options.units) {
            (Some(left), Some(right), _) if left != right => return Some(false),
            (Some(_), None, Units::Strict)
            | (None, Some(_), Units::Strict | Units::GoldDecides) => {
                return Some(false);
            }
            _ => {}
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
            _ => self.values(&answer, &gold),
        }
    }

    fn values(&self, left: &Expr, right: &Expr) -> Option<bool> {
        if left == right {
            return Some(true);
        }
        match (infinity(left), infinity(right)) {
            (None, None) => {}
            (left, right) => return Some(left == right),
        }
        let exact = modular::same(left, right, &self.budget);
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

/// Without the brackets and signs of a wrapping that says nothing.
fn settled(expr: &Expr) -> Expr {
    match expr {
        Expr::Bracketed('(', items, ')')
            if items.len() == 1 && matches!(items[0], Expr::Text(_)) =>
        {
            items[0].clone()
        }
        // `x = 3 or x = 4` names its values more than once; so does `x=3, y=4`.
        Expr::Related(..) => value_of_chain(expr),
        other => other.clone(),
    }
}

/// A chain `z = 1+1 = 2 ≈ 2.0` as `z = 2`.
fn value_of_chain(expr: &Expr) -> Expr {
    let Expr::Related(first, others) = expr else { return expr.clone() };
    let is_chain =
        others.iter().all(|(relation, _)| matches!(relation, Relation::Equal | Relation::About));
    if !is_chain {
        return expr.clone();
    }
    let exact = others.iter().rev().find(|(relation, _)| *relation == Relation::Equal);
    let (_, last) = exact.or(others.last()).expect("a relation has another side");
    Expr::Related(first.clone(), vec![(Relation::Equal, last.clone())])
}

/// What an equation with one name on a side says the name is; the name is none for tuples of names
/// and the like.
fn named_value(expr: &Expr) -> Option<(Label<'_>, &Expr)> {
    let Expr::Related(first, others) = expr else { return None };
    let [(Relation::Equal | Relation::Element, last)] = others.as_slice() else { return None };
    if let Some(name) = name_of(first) {
        return Some((name, last));
    }
    let name = name_of(last)?;
    Some((name, first))
}

/// What an equation gives a value to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label<'a> {
    Name(&'a str),
    /// A tuple, a ratio or a product of names, or words.
    Other,
}

impl Label<'_> {
    /// Whether both may stand for the same thing.
    fn may_be(self, other: Self) -> bool {
        self == other || self == Self::Other || other == Self::Other
    }
}

/// Whether each item says what a name is: `x = 1, y = 2`.
fn are_named(items: &[Expr]) -> bool {
    items.iter().all(|item| matches!(named_value(item), Some((Label::Name(_), _))))
}

fn name_of(expr: &Expr) -> Option<Label<'_>> {
    let is_name = |part: &Expr| matches!(part, Expr::Name(_));
    match expr {
        Expr::Name(name) => Some(Label::Name(name)),
        Expr::Text(_) => Some(Label::Other),
        Expr::Product(parts) if parts.iter().all(is_label) => Some(Label::Other),
        Expr::Bracketed('(', parts, ')') | Expr::Ratio(parts)
            if parts.iter().all(|part| is_name(part) || name_of_product(part)) =>
        {
            Some(Label::Other)
        }
        _ => None,
    }
}

fn name_of_product(expr: &Expr) -> bool {
    matches!(expr, Expr::Product(parts) if parts.iter().all(is_label))
}

/// A capital letter, as in `AB` or `APC`, or a function of a name, as in `f(x)`.
fn is_label(expr: &Expr) -> bool {
    matches!(expr, Expr::Name(name) if name.starts_with(|c: char| c.is_ascii_uppercase()))
}

fn value_of(expr: &Expr) -> Expr {
    match named_value(expr) {
        Some((_, value)) => value.clone(),
        None => function_value(expr).unwrap_or_else(|| expr.clone()),
    }
}

/// The right side of `f(x) = …`.
fn function_value(expr: &Expr) -> Option<Expr> {
    let Expr::Related(first, others) = expr else { return None };
    let [(Relation::Equal, last)] = others.as_slice() else { return None };
    let Expr::Product(parts) = &**first else { return None };
    match parts.as_slice() {
        [Expr::Name(name), _]
            if matches!(name.as_str(), "f" | "g" | "h" | "p" | "q" | "P" | "Q" | "T") =>
        {
            Some(last.clone())
        }
        _ => None,
    }
}

fn is_all_reals(text: &Expr) -> bool {
    spelled(text).is_some_and(|words| {
        matches!(words.as_str(), "allrealnumbers" | "allreals" | "realnumbers" | "thereals")
    })
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
            Expr::List(vec![scalar.with_sign(false), scalar.with_sign(true)])
        }
        Expr::List(items) if items.iter().any(|item| item.is_scalar() && has_sign(item)) => {
            let values = items.iter().flat_map(|item| match spread(item) {
                Expr::List(values) => values,
                value => vec![value],
            });
            Expr::List(values.collect())
        }
        other => other.clone(),
    }
}

fn related_same(comparison: &Comparison<'_>, answer: &Expr, gold: &Expr) -> Option<bool> {
    let (Expr::Related(first, others), Expr::Related(gold_first, gold_others)) = (answer, gold)
    else {
        return Some(false);
    };
    if let ([(relation, last)], [(gold_relation, gold_last)]) =
        (others.as_slice(), gold_others.as_slice())
    {
        return one_relation(
            comparison,
            (first, *relation, last),
            (gold_first, *gold_relation, gold_last),
        );
    }
    let chain = |first: &Expr, others: &[(Relation, Expr)]| {
        let mut sides = vec![first.clone()];
        sides.extend(others.iter().map(|(_, side)| side.clone()));
        let relations: Vec<Relation> = others.iter().map(|(relation, _)| *relation).collect();
        (sides, relations)
    };
    let (left, left_relations) = chain(first, others);
    let (mut right, mut right_relations) = chain(gold_first, gold_others);
    if left_relations != right_relations {
        right.reverse();
        right_relations = right_relations.iter().rev().map(|relation| relation.swapped()).collect();
    }
    if left_relations != right_relations {
        return Some(false);
    }
    comparison.items(&left, &right, true)
}

type Sides<'a> = (&'a Expr, Relation, &'a Expr);

/// Two relations of two sides: the same side by side, swapped, or up to a factor.
fn one_relation(comparison: &Comparison<'_>, answer: Sides<'_>, gold: Sides<'_>) -> Option<bool> {
    let (left, relation, right) = answer;
    let (gold_left, gold_relation, gold_right) = gold;
    if relation == gold_relation
        && comparison.parts(left, gold_left) == Some(true)
        && comparison.parts(right, gold_right) == Some(true)
    {
        return Some(true);
    }
    if !(left.is_scalar() && right.is_scalar() && gold_left.is_scalar() && gold_right.is_scalar()) {
        return Some(false);
    }
    let is_swap = relation != gold_relation;
    if is_swap && relation.swapped() != gold_relation {
        return Some(false);
    }
    let difference = |left: &Expr, right: &Expr| {
        Expr::Sum(vec![left.clone(), Expr::Negative(Box::new(right.clone()))])
    };
    let answer = if is_swap { difference(right, left) } else { difference(left, right) };
    let gold = difference(gold_left, gold_right);
    let is_equation = matches!(relation, Relation::Equal | Relation::NotEqual);
    if is_equation {
        return match modular::are_proportional(&answer, &gold, &comparison.budget) {
            Some(is_same) => Some(is_same),
            None => numeric::same(&answer, &gold, &comparison.budget),
        };
    }
    inequality_same(comparison, &answer, &gold)
}

/// `answer R 0` and `gold R 0`: equal up to a positive factor, which two names-only bounds show.
fn inequality_same(comparison: &Comparison<'_>, answer: &Expr, gold: &Expr) -> Option<bool> {
    if modular::are_proportional(answer, gold, &comparison.budget) == Some(true) {
        return numeric::positive_factor(answer, gold, &comparison.budget);
    }
    Some(numeric::same(answer, gold, &comparison.budget).unwrap_or(false))
}

/// `a < x ≤ b` or `x > a` as an interval.
fn as_interval(expr: &Expr) -> Option<Expr> {
    let Expr::Related(first, others) = expr else { return None };
    let infinite = || Expr::Constant(Constant::Infinity);
    let (low, high, low_end, high_end) = match others.as_slice() {
        [(relation, last)] => {
            let (relation, bound) = match (&**first, last) {
                (Expr::Name(_), bound) => (*relation, bound),
                (bound, Expr::Name(_)) => (relation.swapped(), bound),
                _ => return None,
            };
            match relation {
                Relation::Less | Relation::LessEqual => {
                    (Expr::Negative(Box::new(infinite())), bound.clone(), Relation::Less, relation)
                }
                Relation::Greater | Relation::GreaterEqual => {
                    (bound.clone(), infinite(), relation.swapped(), Relation::Less)
                }
                _ => return None,
            }
        }
        [(left, Expr::Name(_)), (right, last)] => match (left, right) {
            (Relation::Less | Relation::LessEqual, Relation::Less | Relation::LessEqual) => {
                ((**first).clone(), last.clone(), *left, *right)
            }
            (
                Relation::Greater | Relation::GreaterEqual,
                Relation::Greater | Relation::GreaterEqual,
            ) => (last.clone(), (**first).clone(), right.swapped(), left.swapped()),
            _ => return None,
        },
        _ => return None,
    };
    let open = if low_end == Relation::Less { '(' } else { '[' };
    let close = if high_end == Relation::Less { ')' } else { ']' };
    Some(Expr::Bracketed(open, vec![low, high], close))
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

/// Letters and digits of a text in lower case; of a name as it is written; of a small number as a
/// word.
fn spelled(expr: &Expr) -> Option<String> {
    const WORDS: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    let mut out = String::new();
    match expr {
        Expr::Text(text) => {
            out.extend(text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase));
        }
        Expr::Name(name) => out.push_str(&name.to_lowercase()),
        Expr::Constant(Constant::E) => out.push('e'),
        Expr::Constant(Constant::I) => out.push('i'),
        Expr::Product(parts) => {
            for part in parts {
                out.push_str(&spelled(part)?);
            }
        }
        Expr::Number(literal) => {
            let value = usize::try_from(literal.integer()?).ok()?;
            out.push_str(WORDS.get(value)?);
        }
        Expr::Bracketed('(', items, ')') if items.len() == 1 => return spelled(&items[0]),
        _ => return None,
    }
    Some(out)
}
