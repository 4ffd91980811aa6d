//! What a first comparison misses: numbers inside text commands, values with their approximation,
//! and answers that keep a way out.

use super::{Judgement, Options, Reason};
use crate::verifier::Sameness;

/// Commands that set text; what they hold may be the answer itself.
const TEXT: [&str; 5] = ["\\text{", "\\textbf{", "\\textrm{", "\\mbox{", "\\textit{"];

/// Words that take back what stands beside them.
const HEDGES: [&str; 11] = [
    "or",
    "if",
    "either",
    "not",
    "perhaps",
    "maybe",
    "possibly",
    "alternatively",
    "between",
    "least",
    "most",
];

/// Compares again in other forms, where the first comparison did not find the answers the same.
/// `compare` is that first comparison.
pub(super) fn same(
    answer: &str,
    gold: &str,
    options: &Options,
    compare: fn(&str, &str, &Options) -> Judgement,
) -> Option<Judgement> {
    let is_same = |left: &str, right: &str| {
        let judgement = compare(left, right, options);
        (judgement.sameness == Sameness::Same).then_some(judgement)
    };
    let (plain, plain_gold) = (without_text(answer), without_text(gold));
    if plain.is_some() || plain_gold.is_some() {
        let left = plain.as_deref().unwrap_or(answer);
        let right = plain_gold.as_deref().unwrap_or(gold);
        if let Some(judgement) = is_same(left, right) {
            return Some(judgement);
        }
    }
    let (first, second) = (exact_part(answer), exact_part(gold));
    match (first, second) {
        (Some(exact), None) => is_same(exact, gold),
        (None, Some(exact)) => is_same(answer, exact),
        _ => None,
    }
}

/// What stands before a sign that says "about", if there is one.
fn exact_part(text: &str) -> Option<&str> {
    let end = ["\\approx", "≈"].iter().filter_map(|mark| text.find(mark)).min()?;
    Some(text[..end].trim()).filter(|exact| !exact.is_empty())
}

/// The text without the commands around text that begins with a digit, if there are such.
fn without_text(text: &str) -> Option<String> {
    let mut plain = text.to_owned();
    let mut changed = false;
    for command in TEXT {
        let mut from = 0;
        while let Some(at) = plain[from..].find(command).map(|at| from + at) {
            let start = at + command.len();
            let Some(length) = plain[start..].find(['{', '}']) else { break };
            let held = plain[start..start + length].trim();
            let is_number = held.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
            if is_number && plain[start + length..].starts_with('}') {
                let held = held.to_owned();
                plain.replace_range(at..=start + length, &held);
                changed = true;
            } else {
                from = start;
            }
        }
    }
    changed.then_some(plain)
}

/// Whether exactly one of two answers hedges in its text: `5 \text{ (or 6)}` is not 5.
pub(super) fn is_hedged_once(answer: &str, gold: &str) -> bool {
    hedges_in_text(answer) != hedges_in_text(gold)
}

fn hedges_in_text(text: &str) -> bool {
    TEXT.iter().any(|command| {
        text.match_indices(command).any(|(at, _)| {
            let held = &text[at + command.len()..];
            let held = &held[..held.find('}').unwrap_or(held.len())];
            // `or` alone joins two answers.
            held.trim().contains(' ') && hedges(held)
        })
    })
}

/// Whether words of a text take back what it says.
pub(super) fn hedges(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphabetic());
    words.any(|word| HEDGES.contains(&word))
}

/// The verdict on an answer that hedges: it may be right.
pub(super) fn undecided() -> Judgement {
    Judgement::unclear(Reason::Undecided)
}
