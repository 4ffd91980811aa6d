//! Letters of multiple-choice answers.
//!
//! Options are lettered A, B, C … by position, whatever labels the data gives them. Data sets mix
//! letter keys and digit keys; comparing keys as they are written makes digit-keyed questions
//! impossible to answer (spec §4.3), so a key is turned into a position and then into a letter.

use crate::extraction;
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

/// The letter that a response settles on: all of it, what its last box holds, what follows the last
/// `answer`, `option`, `choice` or `####`, the last line, or `(B) is correct`. Two letters side by side
/// are no answer, and neither is the article of `the answer is a dog`.
///
/// ```
/// use bstar_verify::choice::find;
///
/// assert_eq!(find("Heat rises, so the correct choice is (C)."), Some("C"));
/// assert_eq!(find("The answer is A or B."), None);
/// ```
pub fn find(response: &str) -> Option<&str> {
    let text = extraction::tail(response).trim();
    if let Some(found) = DRESSED.captures(text) {
        return found.name("letter").map(|letter| letter.as_str());
    }
    if let Some(boxed) = extraction::last_boxed(text) {
        return within(boxed);
    }
    if let Some(found) = ANNOUNCED.captures_iter(text).last() {
        let letter = found.name("letter").or(found.name("small"))?;
        return settled(letter.as_str(), &text[found.get(0)?.end()..]);
    }
    let line = text.lines().next_back()?.trim();
    if let Some(letter) = within(line) {
        return Some(letter);
    }
    CORRECT.captures_iter(text).last()?.name("letter").map(|letter| letter.as_str())
}

/// The letter of a text that is one, with LaTeX around it.
fn within(text: &str) -> Option<&str> {
    WRAPPED.captures(text.trim())?.name("letter").map(|letter| letter.as_str())
}

/// A letter, if what follows it does not make it a word or one of several.
fn settled<'a>(letter: &'a str, rest: &str) -> Option<&'a str> {
    const REASONS: [&str; 8] = ["because", "since", "as", "for", "due", "which", "with", "not"];
    let bare = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    let is_marked = rest.len() > bare.len() && rest[..rest.len() - bare.len()].trim() != "";
    let first = bare.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let is_end = bare.is_empty() || rest[..rest.len() - bare.len()].contains('\n');
    let is_joined = matches!(first, "or" | "and") || (!is_end && is_other_letter(first));
    ((is_end || is_marked || REASONS.contains(&first)) && !is_joined).then_some(letter)
}

fn is_other_letter(word: &str) -> bool {
    word.len() == 1 && word.bytes().all(|c| c.is_ascii_uppercase()) && word != "I" && word != "A"
}

/// Compares two answers by letter, in either case.
pub fn compare(answer: &str, gold: &str) -> Sameness {
    match (find(answer), find(gold)) {
        (Some(answer), Some(gold)) => Sameness::of(answer.eq_ignore_ascii_case(gold)),
        _ => Sameness::CannotTell,
    }
}

static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
    let mark = r"####|(?i:\b(?:answer|option|choice|choose|pick|select)\b)";
    let glue = r"(?i:(?:is|would be|should be|must be|option|choice|letter|for sure|definitely|clearly|the|correct|best|one)\b[\s*:]*)*";
    let dress = r"(?:[\s*\[({$]|\\(?:text|textbf|mathbf|mathrm)\{)*";
    // A small letter needs brackets: `answer is a` goes on.
    let letter = r"(?:(?<letter>[A-Z])\b|[(\[](?<small>[a-z])[)\]])";
    Regex::new(&format!(r"(?:{mark})[\s*:\-–]*{glue}(?:{dress})??{letter}"))
        .expect("a valid pattern")
});

static WRAPPED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:[\s*\[({$]|\\(?:text|textbf|mathbf|mathrm)\{)*(?<letter>[A-Za-z])[\s*\])}.:,$]*$",
    )
    .expect("a valid pattern")
});

static CORRECT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\((?<letter>[A-Z])\) is (?:the )?(?:correct|right|best)\b")
        .expect("a valid pattern")
});

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

    #[test]
    fn a_response_settles_on_a_letter_or_on_none() {
        for (response, expected) in [
            ("Answer: A", Some("A")),
            ("Option A", Some("A")),
            ("#### B", Some("B")),
            ("so \\boxed{\\text{A}}", Some("A")),
            ("$\\boxed{\\textbf{(A)}}$", Some("A")),
            ("Final answer: A", Some("A")),
            ("The answer is option (d).", Some("d")),
            ("the correct choice is (C)", Some("C")),
            ("Gravity.\nThe answer is C.", Some("C")),
            ("**Final Answer: B**", Some("B")),
            ("Answer: **B. dry palms**", Some("B")),
            ("The answer is B because heat rises.", Some("B")),
            ("The answer is B.\n\nFinal answer: C", Some("C")),
            ("Therefore, (B) is correct.", Some("B")),
            ("It rises.\n\n(D)", Some("D")),
            ("The answer is a dog", None),
            ("Answer: A dog", None),
            ("The answer is A or B.", None),
            ("The answer is not A.", None),
            ("A, B", None),
            ("Option A is wrong", None),
            ("Answer: Because", None),
        ] {
            assert_eq!(find(response), expected, "{response:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in any::<String>(), labels in any::<Vec<String>>()) {
            let _ = (parse(&text), find(&text));
            let found = letter_of_key(&text, &labels);
            prop_assert!(found.is_none_or(|letter| letter.is_ascii_uppercase()));
        }
    }
}
