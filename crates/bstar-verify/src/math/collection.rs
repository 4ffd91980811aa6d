//! Lists, sets, unions and matrices against one another.

use super::compare::Comparison;
use super::expr::{Expr, Join, Relation};
use super::label::{are_unknowns, by_name, settled};
use super::{region, words};

impl Comparison<'_> {
    /// Items side by side; those that say what names are stand in the order of the names.
    pub(super) fn lists(&self, left: &[Expr], right: &[Expr]) -> Option<bool> {
        let is_unnamed =
            |items: &[Expr]| !items.iter().any(|item| matches!(item, Expr::Related(..)));
        match (are_unknowns(left), are_unknowns(right)) {
            (true, false) if is_unnamed(right) => self.items(&by_name(left), right, true),
            (false, true) if is_unnamed(left) => self.items(left, &by_name(right), true),
            _ => self.items(left, right, self.is_ordered()),
        }
    }

    /// Sets, in which nothing counts twice.
    pub(super) fn sets(&self, left: &[Expr], right: &[Expr]) -> Option<bool> {
        if self.items(left, right, false)? {
            return Some(true);
        }
        let (first, second) = (self.without_repeats(left), self.without_repeats(right));
        let is_changed = first.len() < left.len() || second.len() < right.len();
        if is_changed { self.items(&first, &second, false) } else { Some(false) }
    }

    /// The items of a set without those that are the same as one before.
    pub(super) fn without_repeats(&self, items: &[Expr]) -> Vec<Expr> {
        let mut kept: Vec<Expr> = Vec::new();
        for item in items.iter().take(MAX_SET) {
            let is_new = !kept.iter().any(|other| {
                let pair = std::slice::from_ref(other);
                self.items(pair, std::slice::from_ref(item), true) == Some(true)
            });
            if is_new {
                kept.push(item.clone());
            }
        }
        kept.extend(items.iter().skip(MAX_SET).cloned());
        kept
    }

    /// Unions of intervals and points of the real line, however they are cut.
    pub(super) fn same_pieces(&self, left: &Expr, right: &Expr) -> Option<bool> {
        let (Some(left), Some(right)) =
            (region::pieces(left, &self.budget), region::pieces(right, &self.budget))
        else {
            return Some(false);
        };
        let (Some(left), Some(right)) =
            (region::joined(left, &self.budget), region::joined(right, &self.budget))
        else {
            return Some(false);
        };
        if left.len() != right.len() {
            return Some(false);
        }
        for (left, right) in left.iter().zip(&right) {
            for (end, other) in [(&left.low, &right.low), (&left.high, &right.high)] {
                if end.is_closed != other.is_closed || !self.values(&end.value, &other.value)? {
                    return Some(false);
                }
            }
        }
        Some(true)
    }

    /// A matrix against brackets: rows in brackets, or the items of its only row or column.
    pub(super) fn matrix_in_brackets(&self, rows: &[Vec<Expr>], items: &[Expr]) -> Option<bool> {
        let row = |item: &Expr| match settled(item) {
            Expr::Bracketed('(' | '[', items, ')' | ']') => Some(items),
            _ => None,
        };
        if let Some(other) = items.iter().map(row).collect::<Option<Vec<_>>>()
            && !items.is_empty()
        {
            return self.matrices(rows, &other);
        }
        line(rows).map_or(Some(false), |line| self.items(&line, items, true))
    }
}

/// Items of a set among which repeats are looked for.
const MAX_SET: usize = 24;

/// Whether a list says "and" of what the other says "or": of words, and of conditions. Of values it
/// does not matter: the solutions are 3 and 5, x is 3 or 5.
pub(super) fn are_opposed(left: (&[Expr], Join), right: (&[Expr], Join)) -> bool {
    let is_statement = |item: &Expr| match item {
        Expr::Text(text) => words::value(text).is_none(),
        Expr::Name(_) => true,
        Expr::Related(_, others) => others.iter().any(|(relation, _)| {
            !matches!(relation, Relation::Equal | Relation::About | Relation::NotEqual)
        }),
        _ => false,
    };
    let is_opposed = matches!((left.1, right.1), (Join::And, Join::Or) | (Join::Or, Join::And));
    is_opposed && left.0.iter().chain(right.0).any(is_statement)
}

/// Two ends between round or square brackets.
pub(super) fn is_interval(item: &Expr) -> bool {
    matches!(item, Expr::Bracketed('(' | '[', ends, ')' | ']') if ends.len() == 2)
}

/// A matrix of one row or one column as a list.
fn line(rows: &[Vec<Expr>]) -> Option<Vec<Expr>> {
    match rows {
        [row] => Some(row.clone()),
        rows if rows.iter().all(|row| row.len() == 1) => {
            Some(rows.iter().flatten().cloned().collect())
        }
        _ => None,
    }
}
