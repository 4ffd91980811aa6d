//! Inequalities as the intervals that they mean.
//!
//! Read: `a < x`, chains, linear expressions of one name, absolute values of these, `x \ne a`, and
//! several such conditions side by side. Two bounds that overlap are one interval ("x > 2 and
//! x < 5"); everything else side by side is a union.

use super::budget::Budget;
use super::expr::{Constant, Expr, Function, Join, Relation};
use super::{modular, numeric, region};

/// The name that a condition is about, and the interval or union of intervals that it means.
pub(super) fn of(expr: &Expr, budget: &Budget) -> Option<(String, Expr)> {
    let (name, mut parts) = match expr {
        Expr::Related(..) => parts_of(expr, budget)?,
        Expr::List(conditions, join) if conditions.len() <= 16 => {
            side_by_side(conditions, *join, budget)?
        }
        _ => return None,
    };
    let region = if parts.len() == 1 { parts.pop()? } else { Expr::Union(parts) };
    Some((name, region))
}

/// A set of all names for which a condition holds: its interval, or else the condition itself.
pub(super) fn set_of(condition: Expr, budget: &Budget) -> Expr {
    match of(&condition, budget) {
        Some((_, region)) => region,
        None => condition,
    }
}

/// All real numbers, or an interval of all, but for a few points.
pub(super) fn without_points(whole: &Expr, points: &Expr, budget: &Budget) -> Option<Expr> {
    let is_all = match whole {
        Expr::Text(text) => text == "all reals",
        Expr::Bracketed('(', ends, ')') => {
            matches!(ends.as_slice(), [low, Expr::Constant(Constant::Infinity)]
                if *low == Expr::Constant(Constant::Infinity).negated())
        }
        _ => false,
    };
    let Expr::Bracketed('{', points, '}') = points else {
        let is_alone = is_all && points.is_scalar();
        return is_alone.then(|| Expr::Union(around(points)));
    };
    if !is_all || points.is_empty() {
        return None;
    }
    let mut sorted: Vec<(f64, &Expr)> = Vec::new();
    for point in points {
        sorted.push((numeric::constant(point, budget)?, point));
    }
    sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut low = infinite().negated();
    let mut parts = Vec::new();
    for (_, point) in sorted {
        parts.push(interval(('(', low), (point.clone(), ')')));
        low = point.clone();
    }
    parts.push(interval(('(', low), (infinite(), ')')));
    Some(Expr::Union(parts))
}

fn infinite() -> Expr {
    Expr::Constant(Constant::Infinity)
}

fn interval(low: (char, Expr), high: (Expr, char)) -> Expr {
    Expr::Bracketed(low.0, vec![low.1, high.0], high.1)
}

/// Everything but a point.
fn around(point: &Expr) -> Vec<Expr> {
    vec![
        interval(('(', infinite().negated()), (point.clone(), ')')),
        interval(('(', point.clone()), (infinite(), ')')),
    ]
}

fn side_by_side(conditions: &[Expr], join: Join, budget: &Budget) -> Option<(String, Vec<Expr>)> {
    let mut all = Vec::new();
    let mut name: Option<String> = None;
    for condition in conditions {
        let (found, parts) = parts_of(condition, budget)?;
        if name.get_or_insert_with(|| found.clone()) != &found {
            return None;
        }
        all.push(parts);
    }
    let name = name?;
    if let Some(both) = in_common(conditions, &all, join, budget) {
        return Some((name, both));
    }
    Some((name, all.concat()))
}

/// What conditions have in common, where they are meant to hold together: joined by "and" they are,
/// unless nothing is left ("x < 1 and x > 3" are two parts); joined by commas where points are taken
/// out, or where two bounds face one another; joined by "or" never.
fn in_common(
    conditions: &[Expr],
    parts: &[Vec<Expr>],
    join: Join,
    budget: &Budget,
) -> Option<Vec<Expr>> {
    if join == Join::Or {
        return None;
    }
    let takes_out = |condition: &Expr| {
        matches!(condition, Expr::Related(_, others)
            if others.iter().any(|(relation, _)| *relation == Relation::NotEqual))
    };
    if join == Join::Plain && !conditions.iter().any(takes_out) {
        let [first, second] = parts else { return None };
        let ([first], [second]) = (first.as_slice(), second.as_slice()) else { return None };
        return overlap(first, second, budget)
            .or_else(|| overlap(second, first, budget))
            .map(|both| vec![both]);
    }
    let mut common: Option<Vec<region::Piece>> = None;
    for parts in parts {
        let pieces = region::pieces(&Expr::Union(parts.clone()), budget)?;
        common = Some(match common {
            Some(so_far) => region::common(&so_far, &pieces, budget)?,
            None => pieces,
        });
    }
    let common = region::joined(common.filter(|common| !common.is_empty())?, budget)?;
    Some(match region::expression(&common) {
        Expr::Union(parts) => parts,
        only => vec![only],
    })
}

/// What `(a, ∞)` and `(-∞, b)` with a < b have in common.
fn overlap(above: &Expr, below: &Expr, budget: &Budget) -> Option<Expr> {
    let (Expr::Bracketed(open, low, _), Expr::Bracketed(_, high, close)) = (above, below) else {
        return None;
    };
    let is_pair = low.get(1) == Some(&infinite()) && high.first() == Some(&infinite().negated());
    let (low, high) = (low.first()?, high.get(1)?);
    let is_before = numeric::constant(low, budget)? < numeric::constant(high, budget)?;
    (is_pair && is_before).then(|| interval((*open, low.clone()), (high.clone(), *close)))
}

/// The intervals of one condition.
fn parts_of(expr: &Expr, budget: &Budget) -> Option<(String, Vec<Expr>)> {
    let Expr::Related(first, others) = expr else { return None };
    if let (Expr::Name(name), [(Relation::Element, region)]) = (&**first, others.as_slice()) {
        let parts = match region {
            Expr::Bracketed('(' | '[', _, _) => vec![region.clone()],
            Expr::Union(parts) => parts.clone(),
            _ => return None,
        };
        return Some((name.clone(), parts));
    }
    match others.as_slice() {
        [(relation, last)] if last.is_constant() && last.is_scalar() => {
            one_bound(first, *relation, last, budget)
        }
        [(relation, last)] if first.is_constant() && first.is_scalar() => {
            one_bound(last, relation.swapped(), first, budget)
        }
        [(left, middle), (right, last)] if first.is_constant() && last.is_constant() => {
            let (low, high) = match (left, right) {
                (Relation::Less | Relation::LessEqual, Relation::Less | Relation::LessEqual) => {
                    ((&**first, *left), (last, *right))
                }
                (
                    Relation::Greater | Relation::GreaterEqual,
                    Relation::Greater | Relation::GreaterEqual,
                ) => ((last, right.swapped()), (&**first, left.swapped())),
                _ => return None,
            };
            between_bounds(middle, low, high, budget)
        }
        _ => None,
    }
}

/// A line between two bounds, or its absolute value between two that are not negative.
fn between_bounds(
    middle: &Expr,
    low: (&Expr, Relation),
    high: (&Expr, Relation),
    budget: &Budget,
) -> Option<(String, Vec<Expr>)> {
    let Expr::Call(Function::Abs, inner) = middle else {
        let line = Line::of(middle, budget)?;
        return Some((line.name.clone(), vec![line.between(low, high)]));
    };
    numeric::constant(low.0, budget).filter(|low| *low > 0.0)?;
    let line = Line::of(inner, budget)?;
    let (opposite_low, opposite_high) = (low.0.clone().negated(), high.0.clone().negated());
    let above = line.between(low, high);
    let below = line.between((&opposite_high, high.1), (&opposite_low, low.1));
    let parts = if line.is_falling { vec![above, below] } else { vec![below, above] };
    Some((line.name, parts))
}

fn one_bound(
    side: &Expr,
    relation: Relation,
    bound: &Expr,
    budget: &Budget,
) -> Option<(String, Vec<Expr>)> {
    let below = infinite().negated();
    let above = infinite();
    if let Expr::Call(Function::Abs, inner) = side {
        numeric::constant(bound, budget).filter(|bound| *bound > 0.0)?;
        let line = Line::of(inner, budget)?;
        let opposite = bound.clone().negated();
        let parts = match relation {
            Relation::Less | Relation::LessEqual => {
                vec![line.between((&opposite, relation), (bound, relation))]
            }
            Relation::Greater | Relation::GreaterEqual => {
                let end = relation.swapped();
                let mut parts = vec![
                    line.between((&below, Relation::Less), (&opposite, end)),
                    line.between((bound, end), (&above, Relation::Less)),
                ];
                if line.is_falling {
                    parts.reverse();
                }
                parts
            }
            _ => return None,
        };
        return Some((line.name, parts));
    }
    let line = Line::of(side, budget)?;
    let parts = match relation {
        Relation::Less | Relation::LessEqual => {
            vec![line.between((&below, Relation::Less), (bound, relation))]
        }
        Relation::Greater | Relation::GreaterEqual => {
            vec![line.between((bound, relation.swapped()), (&above, Relation::Less))]
        }
        Relation::NotEqual => around(&line.solved(bound)),
        _ => return None,
    };
    Some((line.name, parts))
}

/// `slope · name + shift` with a constant slope that is not zero.
struct Line {
    name: String,
    is_falling: bool,
    /// Slope and shift; none for the name alone.
    terms: Option<(Expr, Expr)>,
}

impl Line {
    fn of(expr: &Expr, budget: &Budget) -> Option<Self> {
        if let Expr::Name(name) = expr {
            return Some(Self { name: name.clone(), is_falling: false, terms: None });
        }
        if !expr.is_scalar() {
            return None;
        }
        let name = expr.only_name()?.to_owned();
        let shift = expr.with_name(&name, &Expr::small(0));
        let at_one = expr.with_name(&name, &Expr::small(1));
        let slope = Expr::Sum(vec![at_one, shift.clone().negated()]);
        let line = Expr::Sum(vec![
            Expr::Product(vec![slope.clone(), Expr::Name(name.clone())]),
            shift.clone(),
        ]);
        if modular::same(expr, &line, budget) != Some(true) {
            return None;
        }
        let size = numeric::constant(&slope, budget).filter(|slope| *slope != 0.0)?;
        Some(Self { name, is_falling: size < 0.0, terms: Some((slope, shift)) })
    }

    /// The value of the name where the line has this value.
    fn solved(&self, value: &Expr) -> Expr {
        let Some((slope, shift)) = &self.terms else { return value.clone() };
        if *value == infinite() || *value == infinite().negated() {
            return if self.is_falling { opposite(value) } else { value.clone() };
        }
        let above = Expr::Sum(vec![value.clone(), shift.clone().negated()]);
        Expr::Quotient(Box::new(above), Box::new(slope.clone()))
    }

    /// Where the line lies between two bounds.
    fn between(&self, low: (&Expr, Relation), high: (&Expr, Relation)) -> Expr {
        let (low, high) = if self.is_falling { (high, low) } else { (low, high) };
        let open = if low.1 == Relation::LessEqual { '[' } else { '(' };
        let close = if high.1 == Relation::LessEqual { ']' } else { ')' };
        interval((open, self.solved(low.0)), (self.solved(high.0), close))
    }
}

fn opposite(value: &Expr) -> Expr {
    match value {
        Expr::Negative(inner) => (**inner).clone(),
        other => other.clone().negated(),
    }
}
