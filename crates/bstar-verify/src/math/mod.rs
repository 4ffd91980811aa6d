//! Mathematical answers: read into a tree, compared exactly where possible, and always bounded.
//!
//! [`judge`] decides in this order: the same text after normalisation; the same plain number;
//! otherwise both are parsed and compared by structure (lists, sets, intervals, unions, matrices,
//! relations, ratios, text) down to values. Rational expressions are compared in prime fields, which
//! is exact for all sizes; everything else by values with error bounds and a relative tolerance.
//! Text, trees, depth and the cost of factorials are capped, so that no answer can hang the judge.

pub mod answer;
mod ball;
mod budget;
mod code;
mod collection;
mod compare;
mod dressing;
mod expr;
mod float;
mod grade;
mod interval;
mod label;
mod marks;
mod matching;
mod modular;
mod numeric;
mod parse;
mod precise;
mod primary;
mod region;
mod relation;
mod repeating;
mod second_look;
mod token;
mod units;
mod words;

pub use grade::{Graded, grade};

use crate::exact::normalize_math;
use crate::verifier::Sameness;

/// What a percent sign means against a value without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Percent {
    /// `25%` is 0.25, and also 25: questions often ask "what percent".
    #[default]
    SignOptional,
    /// `25%` is 0.25 only.
    Fraction,
}

/// What units mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Units {
    /// A unit on one side only does not matter; two different units do.
    #[default]
    Optional,
    /// The gold answer may lack the unit that the answer has, but not the other way round.
    GoldDecides,
    /// Both have the same unit or none.
    Strict,
}

/// When a decimal stands for a value that it only rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimals {
    /// Never: 0.333333 is not 1/3.
    Exact,
    /// If it has at least this many significant digits and is right up to one unit of the last.
    Rounded {
        /// Significant digits that a rounded decimal needs.
        digits: u32,
    },
}

impl Default for Decimals {
    fn default() -> Self {
        Self::Rounded { digits: 6 }
    }
}

/// Whether the order of several answers side by side matters. In tuples it always does, in sets it
/// never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// `1, 2` is `2, 1`.
    #[default]
    Free,
    /// It is not.
    Kept,
}

/// How strict the comparison is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Percent signs on one side.
    pub percent: Percent,
    /// Units of measure and currency.
    pub units: Units,
    /// Rounded decimals.
    pub decimals: Decimals,
    /// Lists of answers.
    pub order: Order,
}

impl Options {
    /// Nothing is forgiven.
    pub const STRICT: Self = Self {
        percent: Percent::Fraction,
        units: Units::Strict,
        decimals: Decimals::Exact,
        order: Order::Kept,
    };
}

/// Why two answers are the same, or are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The same text after normalisation.
    EqualText,
    /// The same number.
    EqualNumbers,
    /// The same expression.
    EqualExpressions,
    /// Both are understood, and they differ.
    DifferentValue,
    /// There is no answer, or no gold answer.
    Empty,
    /// The answer is not understood, and the gold answer is.
    CannotParse,
    /// The gold answer is not understood: no answer can be judged by it, except as text.
    CannotParseGold,
    /// Both are understood, but their values cannot be compared.
    Undecided,
    /// One of them is longer than what is compared.
    TooLong,
}

impl Reason {
    /// The reason in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::EqualText => "equal as text",
            Self::EqualNumbers => "equal as numbers",
            Self::EqualExpressions => "equal as expressions",
            Self::DifferentValue => "different value",
            Self::Empty => "nothing to compare",
            Self::CannotParse => "cannot parse",
            Self::CannotParseGold => "cannot parse gold",
            Self::Undecided => "cannot decide",
            Self::TooLong => "too long",
        }
    }
}

/// A verdict with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub sameness: Sameness,
    /// Why.
    pub reason: Reason,
}

impl Judgement {
    fn same(reason: Reason) -> Self {
        Self { sameness: Sameness::Same, reason }
    }

    fn different() -> Self {
        Self { sameness: Sameness::Different, reason: Reason::DifferentValue }
    }

    fn unclear(reason: Reason) -> Self {
        Self { sameness: Sameness::CannotTell, reason }
    }
}

/// Compares an answer with the gold answer.
pub fn judge(answer: &str, gold: &str, options: &Options) -> Judgement {
    let first = compared(answer, gold, options);
    let judgement = match first.sameness {
        Sameness::Same => first,
        _ if first.reason == Reason::Empty => first,
        _ => second_look::same(answer, gold, options, compared).unwrap_or(first),
    };
    let is_new = judgement.sameness == Sameness::Same && judgement.reason != Reason::EqualText;
    if is_new && second_look::is_hedged_once(answer, gold) {
        return second_look::undecided();
    }
    judgement
}

fn compared(answer: &str, gold: &str, options: &Options) -> Judgement {
    let (answer, gold) = (dressing::bare(answer), dressing::bare(gold));
    let (plain, plain_gold) = (normalize_math(answer), normalize_math(gold));
    if let Some(judgement) = by_text((answer, &plain), (gold, &plain_gold)) {
        return judgement;
    }
    if let Some(judgement) = by_option(answer, gold, options) {
        return judgement;
    }
    as_expressions((answer, &plain), (gold, &plain_gold), options)
}

/// What the texts alone tell, each with its plain form.
fn by_text(answer: (&str, &str), gold: (&str, &str)) -> Option<Judgement> {
    if !says_something(answer.1) || !says_something(gold.1) {
        return Some(Judgement::unclear(Reason::Empty));
    }
    if answer.1 == gold.1 {
        return Some(Judgement::same(Reason::EqualText));
    }
    if let (Some(answer), Some(gold)) = (integer(answer.1), integer(gold.1)) {
        let is_same = answer == gold;
        return Some(if is_same {
            Judgement::same(Reason::EqualNumbers)
        } else {
            Judgement::different()
        });
    }
    match (code::read(answer.0), code::read(gold.0)) {
        (None, None) => {}
        (Some(answer), Some(gold)) if answer == gold => {
            return Some(Judgement::same(Reason::EqualText));
        }
        (one, other) => {
            // A date in words may be the same.
            let text = if one.is_none() { answer.0 } else { gold.0 };
            let is_date = one.is_none() != other.is_none()
                && dressing::words(text).is_some_and(|words| words.is_date);
            return Some(if is_date {
                Judgement::unclear(Reason::Undecided)
            } else {
                Judgement::different()
            });
        }
    }
    let (answer, gold) = (dressing::words(answer.0)?, dressing::words(gold.0)?);
    if answer == gold {
        return Some(Judgement::same(Reason::EqualText));
    }
    (answer.is_date && gold.is_date).then(Judgement::different)
}

/// Both parsed, with the texts that they are parsed from and their plain forms.
fn as_expressions(answer: (&str, &str), gold: (&str, &str), options: &Options) -> Judgement {
    let Some(gold_tree) = parse::parse(gold.0) else {
        return Judgement::unclear(Reason::CannotParseGold);
    };
    let Some(answer_tree) = parse::parse(answer.0) else {
        return Judgement::unclear(Reason::CannotParse);
    };
    // Always in the same order: where the budget ends depends on what is compared first, and the
    // verdict must not depend on which of the two is the gold answer.
    let (first, second) =
        if answer.0 <= gold.0 { (&answer_tree, &gold_tree) } else { (&gold_tree, &answer_tree) };
    match compare::same(first, second, options) {
        Some(true) => Judgement::same(Reason::EqualExpressions),
        Some(false) if is_decimal_comma(answer.1, gold.1) => Judgement::same(Reason::EqualNumbers),
        Some(false) => Judgement::different(),
        None => Judgement::unclear(Reason::Undecided),
    }
}

/// An option letter with what it stands for, as in `(B) 5`, against a letter, a value or both.
fn by_option(answer: &str, gold: &str, options: &Options) -> Option<Judgement> {
    let letters = |is_same| {
        if is_same { Judgement::same(Reason::EqualText) } else { Judgement::different() }
    };
    let named = (dressing::named_option(answer), dressing::named_option(gold));
    if named != (None, None)
        && let Some(answer) = named.0.or_else(|| dressing::letter(answer))
        && let Some(gold) = named.1.or_else(|| dressing::letter(gold))
    {
        return Some(letters(answer == gold));
    }
    let values = |answer, gold| {
        let (plain, plain_gold) = (normalize_math(answer), normalize_math(gold));
        by_text((answer, &plain), (gold, &plain_gold))
            .unwrap_or_else(|| as_expressions((answer, &plain), (gold, &plain_gold), options))
    };
    Some(match (dressing::option(answer), dressing::option(gold)) {
        (None, None) => return None,
        (Some((left, _)), Some((right, _))) if left != right => Judgement::different(),
        (Some((_, answer)), Some((_, gold))) => values(answer, gold),
        (Some((letter, answer)), None) => match dressing::letter(gold) {
            Some(gold) => letters(letter == gold),
            None => values(answer, gold),
        },
        (None, Some((letter, gold))) => match dressing::letter(answer) {
            Some(answer) => letters(letter == answer),
            None => values(answer, gold),
        },
    })
}

/// Whether a text is understood as mathematics or as words.
pub fn parses(text: &str) -> bool {
    parse::parse(dressing::bare(text)).is_some()
}

fn says_something(text: &str) -> bool {
    text.chars().any(|c| c.is_alphanumeric() || c == '∅') || text == "\\{\\}"
}

/// A plain integer of at most 18 digits.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = (1..=18).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

/// Whether one is the other with a comma for the decimal point: `1,22` and `1.22`.
fn is_decimal_comma(left: &str, right: &str) -> bool {
    let is_decimal =
        |text: &str| text.contains('.') && text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let is_comma = |text: &str| {
        let parts: Vec<&str> = text.split(',').collect();
        matches!(parts.as_slice(), [whole, places]
            if !whole.is_empty() && !places.is_empty() && places.len() != 3)
    };
    (is_decimal(left) && is_comma(right) && left.replace('.', ",") == right)
        || (is_decimal(right) && is_comma(left) && right.replace('.', ",") == left)
}

#[cfg(test)]
mod tests;
