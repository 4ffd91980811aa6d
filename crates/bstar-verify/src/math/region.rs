//! Parts of the real line: intervals and points in order, joined where they touch.

use super::budget::Budget;
use super::expr::{Constant, Expr};
use super::{modular, numeric};
use std::cmp::Ordering;

/// Pieces of one region.
const MAX_PIECES: usize = 64;

/// Steps that comparing two ends takes at least.
const COST_OF_END: u64 = 10;

/// Relative distance from which two ends are told apart by their floats.
const CLEAR: f64 = 1e-9;

/// One end of a piece.
#[derive(Clone)]
pub(super) struct End {
    pub(super) value: Expr,
    pub(super) is_closed: bool,
    at: f64,
}

/// What lies between two ends; a point where they are the same and closed.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) low: End,
    pub(super) high: End,
}

/// The pieces of an interval, a set of numbers or a union of these; none where it is something else.
pub(super) fn pieces(expr: &Expr, budget: &Budget) -> Option<Vec<Piece>> {
    let found = match expr {
        Expr::Bracketed(open @ ('(' | '['), ends, close @ (')' | ']')) => {
            let [low, high] = ends.as_slice() else { return None };
            let low = end(low, *open == '[', budget)?;
            let high = end(high, *close == ']', budget)?;
            (low.at < high.at).then(|| vec![Piece { low, high }])?
        }
        Expr::Bracketed('{', points, '}') => {
            let point = |point: &Expr| {
                let low = end(point, true, budget).filter(|end| end.at.is_finite())?;
                Some(Piece { high: low.clone(), low })
            };
            points.iter().map(point).collect::<Option<Vec<_>>>()?
        }
        Expr::Union(parts) if parts.len() <= MAX_PIECES => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(pieces(part, budget)?);
            }
            all
        }
        _ => return None,
    };
    (found.len() <= MAX_PIECES).then_some(found)
}

fn end(value: &Expr, is_closed: bool, budget: &Budget) -> Option<End> {
    budget.spend(COST_OF_END)?;
    let at = match value {
        Expr::Constant(Constant::Infinity) => f64::INFINITY,
        Expr::Negative(inner) if **inner == Expr::Constant(Constant::Infinity) => f64::NEG_INFINITY,
        value if value.is_scalar() => numeric::constant(value, budget)?,
        _ => return None,
    };
    Some(End { value: value.clone(), is_closed, at })
}

/// The same region in pieces that do not touch, from the lowest to the highest; none where it cannot
/// be told whether two of them touch.
pub(super) fn joined(mut pieces: Vec<Piece>, budget: &Budget) -> Option<Vec<Piece>> {
    pieces.sort_by(|left, right| left.low.at.total_cmp(&right.low.at));
    let mut done: Vec<Piece> = Vec::new();
    for piece in pieces {
        let Some(last) = done.last_mut() else {
            done.push(piece);
            continue;
        };
        if order(&piece.low, &last.low, budget)? == Ordering::Equal {
            last.low.is_closed |= piece.low.is_closed;
        }
        let is_joined = match order(&piece.low, &last.high, budget)? {
            Ordering::Less => true,
            Ordering::Equal => piece.low.is_closed || last.high.is_closed,
            Ordering::Greater => false,
        };
        if !is_joined {
            done.push(piece);
            continue;
        }
        match order(&piece.high, &last.high, budget)? {
            Ordering::Greater => last.high = piece.high,
            Ordering::Equal => last.high.is_closed |= piece.high.is_closed,
            Ordering::Less => {}
        }
    }
    Some(done)
}

/// What two regions have in common.
pub(super) fn common(left: &[Piece], right: &[Piece], budget: &Budget) -> Option<Vec<Piece>> {
    let mut found = Vec::new();
    for one in left {
        for other in right {
            let low = inner(&one.low, &other.low, Ordering::Greater, budget)?;
            let high = inner(&one.high, &other.high, Ordering::Less, budget)?;
            let is_kept = match order(&low, &high, budget)? {
                Ordering::Less => true,
                Ordering::Equal => low.is_closed && high.is_closed,
                Ordering::Greater => false,
            };
            if is_kept {
                found.push(Piece { low, high });
            }
        }
    }
    (found.len() <= MAX_PIECES).then_some(found)
}

/// The end that lies `further` in; where both are at one place, it is closed only if both are.
fn inner(one: &End, other: &End, further: Ordering, budget: &Budget) -> Option<End> {
    Some(match order(one, other, budget)? {
        Ordering::Equal => End { is_closed: one.is_closed && other.is_closed, ..one.clone() },
        found if found == further => one.clone(),
        _ => other.clone(),
    })
}

fn order(one: &End, other: &End, budget: &Budget) -> Option<Ordering> {
    budget.spend(COST_OF_END)?;
    let larger = one.at.abs().max(other.at.abs());
    if one.at == other.at && one.at.is_infinite() || one.value == other.value {
        return Some(Ordering::Equal);
    }
    let floats = one.at.total_cmp(&other.at);
    if larger.is_infinite() || (one.at - other.at).abs() > CLEAR * larger {
        return Some(floats);
    }
    let is_same = modular::same_fraction(&one.value, &other.value)
        .or_else(|| modular::same(&one.value, &other.value, budget))
        .or_else(|| numeric::same(&one.value, &other.value, budget))?;
    if is_same { Some(Ordering::Equal) } else { Some(floats).filter(|order| order.is_ne()) }
}

/// A region as an interval, a set of points or a union.
pub(super) fn expression(pieces: &[Piece]) -> Expr {
    let part = |piece: &Piece| {
        let is_point = piece.low.is_closed && piece.high.is_closed && piece.low.at == piece.high.at;
        if is_point {
            return Expr::Bracketed('{', vec![piece.low.value.clone()], '}');
        }
        let open = if piece.low.is_closed { '[' } else { '(' };
        let close = if piece.high.is_closed { ']' } else { ')' };
        Expr::Bracketed(open, vec![piece.low.value.clone(), piece.high.value.clone()], close)
    };
    let mut parts: Vec<Expr> = pieces.iter().map(part).collect();
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            Expr::Union(parts)
        }
        None => Expr::Bracketed('{', parts, '}'),
    }
}
