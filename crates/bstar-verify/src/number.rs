//! Numbers as people write answers: parsed from text as exact fractions, compared exactly.
//!
//! Read: `18`, `-5`, `1,234,567`, `$18.50`, `50%` (the sign is dropped: 50), `3/4`, `1 1/2`,
//! `\frac{3}{4}`, `18.` and `.5`. A comma counts only as a thousands separator, so the list `1,2`
//! is no number. Two numbers are the same if they are at most 10^-6 apart (absolute): so 18.5 is
//! not 18 and 2.5 is not 2, which the reference code confuses (spec §4.1). Numbers with more than
//! [`MAX_DIGITS`] digits in all are not read.

use crate::natural::Natural;
use crate::verifier::Sameness;
use regex::{Captures, Regex};
use std::sync::LazyLock;

/// Digits that one number may have; above it nothing is read and the comparison cannot tell.
pub const MAX_DIGITS: usize = 400;

/// Decimal places of the tolerance: numbers are the same up to 10^-6.
const TOLERANCE_PLACES: usize = 6;

/// An exact fraction read from text.
#[derive(Clone, Debug)]
pub struct Number {
    negative: bool,
    numerator: Natural,
    denominator: Natural,
}

impl Number {
    /// Whether two numbers are at most 10^-6 apart.
    pub fn is_near(&self, other: &Self) -> bool {
        let left = self.numerator.times(&other.denominator);
        let right = other.numerator.times(&self.denominator);
        let distance = if self.negative == other.negative {
            left.difference(&right)
        } else {
            left.plus(&right)
        };
        let bound = self.denominator.times(&other.denominator);
        distance.times(&Natural::power_of_ten(TOLERANCE_PLACES)) <= bound
    }
}

/// Reads text that is a number and nothing else.
pub fn parse(text: &str) -> Option<Number> {
    if text.len() > 4 * MAX_DIGITS || text.bytes().filter(u8::is_ascii_digit).count() > MAX_DIGITS {
        return None;
    }
    let bare = strip(text);
    let parts = WHOLE_TEXT.captures(&bare)?;
    let negative = &parts["sign"] == "-";
    if let (Some(whole), Some(top), Some(bottom)) =
        (parts.name("whole"), parts.name("top"), parts.name("bottom"))
    {
        return mixed(negative, whole.as_str(), top.as_str(), bottom.as_str());
    }
    if let (Some(top), Some(bottom)) = (parts.name("latex_top"), parts.name("latex_bottom")) {
        return fraction(negative, top.as_str(), bottom.as_str());
    }
    let bottom = parts.name("below").map_or("1", |below| below.as_str());
    fraction(negative ^ is_minus(&parts, "below_sign"), &parts["above"], bottom)
}

/// The last number that stands in the text, as it is written there.
///
/// A minus sign counts only where no letter, digit or bracket stands before it: the last number of
/// `10-4` is 4, that of `= -4` is -4.
pub fn last_in(text: &str) -> Option<&str> {
    let found = IN_TEXT.find_iter(text).last()?;
    let before = text[..found.start()].chars().next_back();
    let is_difference = before.is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | ']' | '}'));
    let number = found.as_str();
    Some(if is_difference { number.trim_start_matches(['-', '+', '−']) } else { number })
}

/// Compares two texts as numbers.
pub fn compare(answer: &str, gold: &str) -> Sameness {
    match (parse(answer), parse(gold)) {
        (Some(answer), Some(gold)) if answer.is_near(&gold) => Sameness::Same,
        (Some(_), Some(_)) => Sameness::Different,
        _ => Sameness::CannotTell,
    }
}

/// A decimal without sign, with or without thousands separators.
const DECIMAL: &str = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)";

static WHOLE_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    let mixed = r"(?<whole>[0-9]+)\s+(?<top>[0-9]+)\s*/\s*(?<bottom>[0-9]+)";
    let latex = r"\\[dt]?frac\{(?<latex_top>[0-9]+)\}\{(?<latex_bottom>[0-9]+)\}";
    let below = format!(r"\s*/\s*(?<below_sign>[+-]?)\s*(?<below>{DECIMAL})");
    let plain = format!(r"(?<above>{DECIMAL})(?:{below})?");
    let pattern = format!(r"^(?<sign>[+-]?)\s*(?:{mixed}|{latex}|{plain})$");
    Regex::new(&pattern).expect("a valid pattern")
});

static IN_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    let decimal = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)";
    let pattern = format!(r"[-+−]?\$?{decimal}(?:\s*/\s*{decimal})?");
    Regex::new(&pattern).expect("a valid pattern")
});

/// Takes away what surrounds a number: spaces, currency, percent, LaTeX spacing, a full stop.
fn strip(text: &str) -> String {
    let plain = text
        .replace('−', "-")
        .replace("{,}", ",")
        .replace("\\!", "")
        .replace("\\,", "")
        .replace("\\$", "")
        .replace("\\%", "")
        .replace(['$', '%'], "");
    plain.trim().trim_end_matches('.').trim_end().to_owned()
}

fn is_minus(parts: &Captures<'_>, name: &str) -> bool {
    parts.name(name).is_some_and(|sign| sign.as_str() == "-")
}

fn mixed(negative: bool, whole: &str, top: &str, bottom: &str) -> Option<Number> {
    let bottom = Natural::from_digits(bottom.as_bytes());
    let whole = Natural::from_digits(whole.as_bytes()).times(&bottom);
    let numerator = whole.plus(&Natural::from_digits(top.as_bytes()));
    (!bottom.is_zero()).then_some(Number { negative, numerator, denominator: bottom })
}

fn fraction(negative: bool, above: &str, below: &str) -> Option<Number> {
    let (above_digits, above_scale) = decimal(above);
    let (below_digits, below_scale) = decimal(below);
    if below_digits.is_zero() {
        return None;
    }
    let numerator = above_digits.times(&below_scale);
    let denominator = below_digits.times(&above_scale);
    Some(Number { negative, numerator, denominator })
}

/// A decimal as digits over a power of ten.
fn decimal(text: &str) -> (Natural, Natural) {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits: Vec<u8> = whole.bytes().chain(places.bytes()).filter(u8::is_ascii_digit).collect();
    (Natural::from_digits(&digits), Natural::power_of_ten(places.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(answer: &str, gold: &str, expected: Sameness) {
        assert_eq!(compare(answer, gold), expected, "{answer:?} against {gold:?}");
        assert_eq!(compare(gold, answer), expected, "{gold:?} against {answer:?}");
    }

    #[test]
    fn equal_numbers_in_different_dress_are_the_same() {
        for (answer, gold) in [
            ("18", "18"),
            ("18.", "18"),
            ("18.0", "18"),
            ("$18.50", "18.5"),
            ("\\$18.50", "18.5"),
            ("- $5", "-5"),
            ("$-5", "-5"),
            ("−5", "-5"),
            ("+5", "5"),
            ("1,234,567", "1234567"),
            ("1{,}234", "1234"),
            ("50%", "50"),
            ("50 \\%", "50"),
            ("3/4", "0.75"),
            ("-3/4", "3/-4"),
            ("1 1/2", "1.5"),
            ("-1 1/2", "-1.5"),
            ("\\frac{3}{4}", ".75"),
            ("-\\dfrac{6}{8}", "-3/4"),
            ("1/3", "0.3333333"),
            ("-0", "0"),
            ("007", "7"),
            ("0.0000005", "0"),
        ] {
            check(answer, gold, Sameness::Same);
        }
    }

    #[test]
    fn traps_of_the_reference_code_are_different_here() {
        for (answer, gold) in [
            ("18.5", "18"),
            ("2.5", "2"),
            ("3/4", "1"),
            ("1,234,567", "1234"),
            ("-5", "5"),
            ("0.333", "1/3"),
            ("0.00000101", "0"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
        ] {
            check(answer, gold, Sameness::Different);
        }
    }

    #[test]
    fn what_is_no_number_cannot_be_told() {
        for text in ["", "x", "1,2", "1,23,456", "5!", "1/0", "1 000", "3-4", "1..2", "2/", "x=5"] {
            check(text, "12", Sameness::CannotTell);
        }
        check(&"9".repeat(MAX_DIGITS + 1), "9", Sameness::CannotTell);
        check(&"9".repeat(MAX_DIGITS), "9", Sameness::Different);
    }

    #[test]
    fn the_last_number_of_a_text_is_found() {
        for (text, expected) in [
            ("He pays $18.", Some("$18")),
            ("18 dollars and 5 cents", Some("5")),
            ("10-4", Some("4")),
            ("x = -4", Some("-4")),
            ("16 - 3 - 4 = 9 duck eggs", Some("9")),
            ("1,234,567 people", Some("1,234,567")),
            ("a/b is 3/4.", Some("3/4")),
            ("about 2.5%", Some("2.5")),
            ("1,2", Some("2")),
            ("none", None),
        ] {
            assert_eq!(last_in(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in any::<String>()) {
            let _ = compare(&text, "18");
            if let Some(number) = last_in(&text) {
                prop_assert!(text.contains(number));
            }
        }

        #[test]
        fn number_like_text_is_read_without_panic(text in r"[-+$ ]{0,2}[0-9,./ ]{0,30}[%. ]{0,2}") {
            let _ = compare(&text, &text);
        }

        #[test]
        fn thousands_separators_change_nothing(value in any::<i64>()) {
            let plain = value.unsigned_abs().to_string();
            let mut grouped = String::new();
            for (at, digit) in plain.chars().enumerate() {
                if at > 0 && (plain.len() - at).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            prop_assert_eq!(compare(&grouped, &plain), Sameness::Same);
            let sentence = format!("It is {grouped}.");
            prop_assert_eq!(last_in(&sentence), Some(grouped.as_str()));
        }

        #[test]
        fn fractions_compare_like_integers(
            a in -9999..9999_i64,
            b in 1..999_i64,
            factor in 1..99_i64,
        ) {
            let (plain, scaled) = (format!("{a}/{b}"), format!("{}/{}", a * factor, b * factor));
            prop_assert_eq!(compare(&plain, &scaled), Sameness::Same);
            let next = format!("{}/{}", a * factor + 1, b * factor);
            prop_assert_eq!(compare(&plain, &next), Sameness::Different);
        }
    }
}
