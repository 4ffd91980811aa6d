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
mod compare;
mod expr;
mod modular;
mod numeric;
mod parse;
mod primary;
mod token;
mod units;

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
    let (plain, plain_gold) = (normalize_math(answer), normalize_math(gold));
    if !says_something(&plain) || !says_something(&plain_gold) {
        return Judgement::unclear(Reason::Empty);
    }
    if plain == plain_gold {
        return Judgement::same(Reason::EqualText);
    }
    if let (Some(answer), Some(gold)) = (integer(&plain), integer(&plain_gold)) {
        let is_same = answer == gold;
        return if is_same {
            Judgement::same(Reason::EqualNumbers)
        } else {
            Judgement::different()
        };
    }
    if words(answer).is_some_and(|answer| words(gold) == Some(answer)) {
        return Judgement::same(Reason::EqualText);
    }
    let Some(gold_tree) = parse::parse(gold) else {
        return Judgement::unclear(Reason::CannotParseGold);
    };
    let Some(answer_tree) = parse::parse(answer) else {
        return Judgement::unclear(Reason::CannotParse);
    };
    match compare::same(&answer_tree, &gold_tree, options) {
        Some(true) => Judgement::same(Reason::EqualExpressions),
        Some(false) if is_decimal_comma(&plain, &plain_gold) => {
            Judgement::same(Reason::EqualNumbers)
        }
        Some(false) => Judgement::different(),
        None => Judgement::unclear(Reason::Undecided),
    }
}

/// Whether a text is understood as mathematics or as words.
pub fn parses(text: &str) -> bool {
    parse::parse(text).is_some()
}

fn says_something(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// The letters and digits, in lower case, of a text of words: `\text{October 30}`.
fn words(text: &str) -> Option<String> {
    let mut bare = text.trim().trim_end_matches('.').to_lowercase();
    for wrapping in ["\\textbf{", "\\textrm{", "\\text{", "\\mbox{", "\\mathrm{"] {
        bare = bare.replace(wrapping, "{");
    }
    let is_plain = bare.chars().all(|c| c.is_alphanumeric() || c == ' ' || c == '{' || c == '}');
    let has_word = bare.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().count() >= 3);
    if !is_plain || !has_word {
        return None;
    }
    let spaced = bare.replace(['{', '}'], " ");
    Some(spaced.split_whitespace().collect::<Vec<_>>().join(" "))
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
