//! Letters of multiple-choice answers.
//!
//! Options are lettered A, B, C … by position, whatever labels the data gives them. Data sets mix
//! letter keys and digit keys; comparing keys as they are written makes digit-keyed questions
//! impossible to answer (spec §4.3), so a key is turned into a position and then into a letter.

use crate::verifier::Sameness;
use regex::Regex;
use std::sync::LazyLock;

/// Options that can be lettered.
pub const MAX_OPTIONS: usize = 26;

/// The letter of the option at `position` (from 0), for up to [`MAX_OPTIONS`] options.
pub fn letter(position: usize) -> Option<char> {
    let offset = u8::try_from(position).ok().filter(|&offset| usize::from(offset) < MAX_OPTIONS)?;
    Some(char::from(b'A' + offset))
}

/// The letter of the option that `key` names: by its label; else, where no label is like it, a
/// digit counts from 1 and a letter from A.
pub fn letter_of_key<S: AsRef<str>>(key: &str, labels: &[S]) -> Option<char> {
    let key = key.trim();
    let labelled = labels.iter().position(|label| label.as_ref().trim().eq_ignore_ascii_case(key));
    let position = labelled.or_else(|| position_of_key(key))?;
    if position < labels.len() { letter(position) } else { None }
}

/// Reads an answer that is one letter, bare or dressed: `b`, `(B)`, `B.`, `B) because`.
pub fn parse(text: &str) -> Option<char> {
    let found = DRESSED.captures(text.trim())?;
    found["letter"].chars().next().map(|letter| letter.to_ascii_uppercase())
}

/// Compares two answers by letter, in either case.
pub fn compare(answer: &str, gold: &str) -> Sameness {
    match (parse(answer), parse(gold)) {
        (Some(answer), Some(gold)) => Sameness::of(answer == gold),
        _ => Sameness::CannotTell,
    }
}

static DRESSED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[\s*\[({]*(?<letter>[A-Za-z])(?:[\s*\])}.:,]*$|[\])}.:].*)")
        .expect("a valid pattern")
});

fn position_of_key(key: &str) -> Option<usize> {
    let mut letters = key.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_ascii_alphabetic() => {
            Some(usize::from(letter.to_ascii_uppercase() as u8 - b'A'))
        }
        (Some('1'..='9'), _) => key.parse::<usize>().ok().map(|number| number - 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_become_letters_by_position() {
        let letters = ["A", "B", "C", "D"];
        let digits = ["1", "2", "3", "4"];
        let five = ["A", "B", "C", "D", "E"];
        for (key, labels, expected) in [
            ("B", &letters[..], Some('B')),
            ("b ", &letters[..], Some('B')),
            ("1", &digits[..], Some('A')),
            ("4", &digits[..], Some('D')),
            ("3", &letters[..], Some('C')),
            ("C", &digits[..], Some('C')),
            ("E", &five[..], Some('E')),
            ("E", &letters[..], None),
            ("5", &digits[..], None),
            ("0", &digits[..], None),
            ("", &digits[..], None),
            ("AB", &letters[..], None),
        ] {
            assert_eq!(letter_of_key(key, labels), expected, "{key:?} in {labels:?}");
        }
    }

    #[test]
    fn labels_out_of_order_still_map_by_position() {
        assert_eq!(letter_of_key("2", &["3", "2", "1"]), Some('B'));
        assert_eq!(letter_of_key("1", &["3", "2", "1"]), Some('C'));
    }

    #[test]
    fn a_letter_is_read_in_any_dress() {
        for (text, expected) in [
            ("B", Some('B')),
            (" (b) ", Some('B')),
            ("B.", Some('B')),
            ("[C]", Some('C')),
            ("**D**", Some('D')),
            ("A) dry palms", Some('A')),
            ("a dog", None),
            ("Because", None),
            ("", None),
            ("1", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
        assert_eq!(compare("(b)", "B"), Sameness::Same);
        assert_eq!(compare("(c)", "B"), Sameness::Different);
        assert_eq!(compare("maybe", "B"), Sameness::CannotTell);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in any::<String>(), labels in any::<Vec<String>>()) {
            let _ = parse(&text);
            let found = letter_of_key(&text, &labels);
            prop_assert!(found.is_none_or(|letter| letter.is_ascii_uppercase()));
        }
    }
}
