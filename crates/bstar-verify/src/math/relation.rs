//! Relations against relations: the same side by side, swapped, or up to a factor.

use super::compare::Comparison;
use super::expr::{Expr, Relation};
use super::{modular, numeric};

/// Whether two chains of relations are the same, side by side or turned round.
pub(super) fn related_same(
    comparison: &Comparison<'_>,
    answer: &Expr,
    gold: &Expr,
) -> Option<bool> {
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
