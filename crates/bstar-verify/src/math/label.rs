//! Equations that say what something is: `x = 3`, `(p, q) = (3, 2)`, `f(x) = x^2`, `A = 1+1 = 2`.

use super::expr::{Expr, Relation};

/// Without the brackets and signs of a wrapping that says nothing.
pub(super) fn settled(expr: &Expr) -> Expr {
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
pub(super) fn named_value(expr: &Expr) -> Option<(Label<'_>, &Expr)> {
    let Expr::Related(first, others) = expr else { return None };
    let [(Relation::Equal | Relation::Element, last)] = others.as_slice() else { return None };
    if let Some(name) = name_of(first).or_else(|| function_of(first)) {
        return Some((name, last));
    }
    let name = name_of(last)?;
    Some((name, first))
}

/// What the name of an inverse function ends with.
pub(super) const INVERSE: &str = "⁻¹";

/// What an equation gives a value to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Label<'a> {
    Name(&'a str),
    /// A function of something.
    Function(&'a str),
    /// A tuple, a ratio or a product of names, or words.
    Other,
}

impl Label<'_> {
    /// Whether both may stand for the same thing.
    pub(super) fn may_be(self, other: Self) -> bool {
        match (self, other) {
            (Self::Other, _) | (_, Self::Other) => true,
            // `y = 2x` tells what `f(x) = 2x` tells.
            (Self::Function(_), Self::Name(name)) | (Self::Name(name), Self::Function(_)) => {
                name == "y"
            }
            _ => self == other,
        }
    }
}

/// The values that items say names have, in the order of the names where these follow one another
/// in the alphabet; where names stand for several answers or have an order of their own, as they
/// are written.
pub(super) fn by_name(items: &[Expr]) -> Vec<Expr> {
    let mut named: Vec<(&str, &Expr)> = items
        .iter()
        .filter_map(|item| match named_value(item) {
            Some((Label::Name(name), _)) => Some((name, item)),
            _ => None,
        })
        .collect();
    let letters = |named: &[(&str, &Expr)]| {
        named.iter().map(|(name, _)| name.bytes().map(u32::from).sum::<u32>()).collect::<Vec<_>>()
    };
    let is_short = named.iter().all(|(name, _)| name.len() == 1);
    let mut sorted = named.clone();
    sorted.sort_by_key(|(name, _)| *name);
    if is_short && letters(&sorted).windows(2).all(|pair| pair[0] + 1 == pair[1]) {
        named = sorted;
    }
    named.into_iter().map(|(_, item)| value_of(item)).collect()
}

/// Whether each item says what a name of its own is: `x = 1, y = 2`.
pub(super) fn are_named(items: &[Expr]) -> bool {
    let mut names: Vec<&str> = Vec::new();
    items.iter().all(|item| match named_value(item) {
        Some((Label::Name(name), _)) => {
            let is_new = !names.contains(&name);
            names.push(name);
            is_new
        }
        _ => false,
    })
}

/// Whether the names are different unknowns; `x_1` and `x_2` are two solutions for x.
pub(super) fn are_unknowns(items: &[Expr]) -> bool {
    let is_indexed = |item: &Expr| matches!(named_value(item), Some((Label::Name(name), _)) if name.contains('_'));
    are_named(items) && !items.iter().any(is_indexed)
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

pub(super) fn value_of(expr: &Expr) -> Expr {
    match named_value(expr) {
        Some((_, value)) => value.clone(),
        None => expr.clone(),
    }
}

/// The function of a left side such as `f(x)`.
fn function_of(expr: &Expr) -> Option<Label<'_>> {
    let Expr::Product(parts) = expr else { return None };
    match parts.as_slice() {
        [Expr::Name(name), _]
            if matches!(name.as_str(), "f" | "g" | "h" | "p" | "q" | "P" | "Q" | "T")
                || name.ends_with(INVERSE) =>
        {
            Some(Label::Function(name))
        }
        _ => None,
    }
}
