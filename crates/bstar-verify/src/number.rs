//! Numbers as people write answers: parsed from text as exact fractions, compared exactly.
//!
//! Read: `18`, `-5`, `1,234,567`, `50 000`, `$18.50`, `50%` (the sign is dropped: 50), `1.5e3`,
//! `3/4`, `1 1/2`, `\frac{3}{4}`, `1\frac{1}{2}`, `18.` and `.5`. A comma or a space counts only as
//! a thousands separator, so the lists `1,2` and `1 2` are no numbers. Two numbers are the same if
//! they are at most 10^-6 apart (absolute): so 18.5 is not 18 and 2.5 is not 2, which the reference
//! code confuses (spec §4.1). Numbers with more than [`MAX_DIGITS`] digits in all are not read.

use crate::natural::Natural;
use crate::verifier::Sameness;
use regex::Regex;
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
    let part = |name| parts.name(name).map_or("", |part| part.as_str());
    let minus = |name| part(name) == "-";
    let (top, bottom, is_negative) = if parts.name("above").is_some() {
        let below = parts.name("below").map_or("1", |below| below.as_str());
        (part("above"), below, minus("below_sign"))
    } else if parts.name("top").is_some() {
        (part("top"), part("bottom"), false)
    } else {
        let is_negative = minus("latex_top_sign") ^ minus("latex_bottom_sign");
        (part("latex_top"), part("latex_bottom"), is_negative)
    };
    let whole = [part("whole"), part("latex_whole")].concat();
    // `1\frac{-1}{2}` could mean anything.
    if is_negative && !whole.is_empty() {
        return None;
    }
    mixed(minus("sign") ^ is_negative, &whole, top, bottom)
}

/// The last number that stands in the text, as it is written there.
///
/// A minus sign counts only where no letter, digit or bracket stands before it: the last number of
/// `10-4` is 4, that of `= -4` is -4. Digits right after a letter, `^` or `_` belong to a name or a
/// unit (`m^2`, `x_1`, `H2O`) and are passed over.
pub fn last_in(text: &str) -> Option<&str> {
    let (mut last, mut from) = (None, 0);
    while let Some(found) = IN_TEXT.captures_at(text, from).and_then(|found| found.name("number")) {
        let (before, number) = (&text[..found.start()], found.as_str());
        if is_part_of_a_name(before, number) {
            // What follows the first digits may be a number of its own: `v2 100` ends with 100.
            let is_digits = |c: char| c.is_ascii_digit() || "+-−.,/".contains(c);
            let digits = number.find(|c| !is_digits(c)).filter(|&end| end > 0);
            from = found.start() + digits.unwrap_or(number.len());
            continue;
        }
        let is_difference =
            before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | ']' | '}'));
        let signs = ['-', '+', '−'];
        last = Some(if is_difference { number.trim_start_matches(signs) } else { number });
        from = found.end();
    }
    last
}

/// Whether a number goes on what stands before it, as in `m^2`, `x_{12}`, `10^{-3}` and `H2`.
fn is_part_of_a_name(before: &str, number: &str) -> bool {
    let raised = before.strip_suffix('{').unwrap_or(before).ends_with(['^', '_']);
    let begins_with_digit = number.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    raised || (begins_with_digit && before.ends_with(|c: char| c.is_ascii_alphabetic()))
}

/// Compares two texts as numbers.
pub fn compare(answer: &str, gold: &str) -> Sameness {
    match (parse(answer), parse(gold)) {
        (Some(answer), Some(gold)) if answer.is_near(&gold) => Sameness::Same,
        (Some(_), Some(_)) => Sameness::Different,
        _ => Sameness::CannotTell,
    }
}

/// Digits with thousands separators of one kind.
const GROUPED: &str = concat!(
    r"[0-9]{1,3}(?:(?:,[0-9]{3})+|(?:[ \u{a0}\u{202f}][0-9]{3})+|(?:\{,\}[0-9]{3})+",
    r"|(?:\\,[0-9]{3})+|(?:,\\![0-9]{3})+)"
);

/// A power of ten behind a decimal, as programs write it.
const EXPONENT: &str = "(?:[eE][+-]?[0-9]{1,3})?";

static WHOLE_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    let decimal = format!(r"(?:(?:{GROUPED}|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+){EXPONENT}");
    let mixed = r"(?<whole>[0-9]+)\s+(?<top>[1-9][0-9]*)\s*/\s*(?<bottom>[0-9]+)";
    let braced = |name| format!(r"\{{\s*(?<{name}_sign>[+-]?)\s*(?<{name}>{decimal})\s*\}}");
    let (top, bottom) = (braced("latex_top"), braced("latex_bottom"));
    let latex = format!(r"(?<latex_whole>[0-9]*)\s*\\[dt]?frac\s*{top}\s*{bottom}");
    let below = format!(r"\s*/\s*(?<below_sign>[+-]?)\s*(?<below>{decimal})");
    let plain = format!(r"(?<above>{decimal})(?:{below})?");
    let pattern = format!(r"^(?<sign>[+-]?)\s*(?:{mixed}|{latex}|{plain})$");
    Regex::new(&pattern).expect("a valid pattern")
});

/// A number in running text, and the character that ends it: no digit, so that the groups of
/// `12 3456` are not taken for thousands.
static IN_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    let decimal = format!(r"(?:(?:{GROUPED}|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+){EXPONENT}");
    let mixed = "[0-9]+ {1,3}[1-9][0-9]*/[0-9]+";
    let braced = format!(r"\{{ ?[+-]? ?{decimal} ?\}}");
    let latex = format!(r"(?:[0-9]+ ?)?\\[dt]?frac{braced}{braced}");
    let plain = format!(r"{decimal}(?:\s*/\s*{decimal})?");
    let pattern = format!(r"(?<number>[-+−]?(?:\\?\$)?(?:{mixed}|{latex}|{plain}))(?:[^0-9]|$)");
    Regex::new(&pattern).expect("a valid pattern")
});

/// Takes away what surrounds a number: spaces, currency, percent, LaTeX spacing, a full stop.
fn strip(text: &str) -> String {
    let plain = text
        .replace('−', "-")
        .replace("{,}", ",")
        .replace("\\!", "")
        .replace("\\,", " ")
        .replace("\\$", "")
        .replace("\\%", "")
        .replace(['$', '%'], "");
    plain.trim().trim_end_matches('.').trim_end().to_owned()
}

/// `whole` and a fraction of two decimals; an empty `whole` is none.
fn mixed(negative: bool, whole: &str, above: &str, below: &str) -> Option<Number> {
    let (above_digits, above_scale) = decimal(above);
    let (below_digits, below_scale) = decimal(below);
    if below_digits.is_zero() {
        return None;
    }
    let denominator = below_digits.times(&above_scale);
    let whole = Natural::from_digits(whole.as_bytes()).times(&denominator);
    let numerator = above_digits.times(&below_scale).plus(&whole);
    Some(Number { negative, numerator, denominator })
}

/// A decimal as digits over a power of ten.
fn decimal(text: &str) -> (Natural, Natural) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: isize = exponent.parse().expect("the pattern has at most three digits");
    let (whole, places) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(places.bytes()).filter(u8::is_ascii_digit).collect();
    let digits = Natural::from_digits(&digits);
    let (up, down) =
        if exponent < 0 { (0, exponent.unsigned_abs()) } else { (exponent.unsigned_abs(), 0) };
    (digits.times(&Natural::power_of_ten(up)), Natural::power_of_ten(places.len() + down))
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
            ("\\frac{-3}{4}", "-0.75"),
            ("-\\frac{-3}{4}", "0.75"),
            ("2\\frac{1}{2}", "5/2"),
            ("1.5e3", "1500"),
            ("25E-2", "0.25"),
            ("50 000", "50000"),
            ("1\\,234\\,567.5", "1234567.5"),
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
        for text in ["", "x", "1,2", "1,23,456", "5!", "1/0", "1 2", "3-4", "1..2", "2/", "x=5"] {
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
            ("3, 12 3456", Some("3456")),
            ("x2 and v2 100", Some("100")),
            ("x_{12} = 10^{-3}", Some("10")),
            ("1,234kg", Some("1,234")),
            ("5e 3f", Some("3")),
            ("H2O", None),
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
