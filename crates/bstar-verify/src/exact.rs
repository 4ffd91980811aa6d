//! Text against text, after taking away differences that never matter.
//!
//! [`normalize`] only touches white space. [`normalize_math`] also drops LaTeX that changes how an
//! answer looks but not what it is. Neither knows mathematics: `2x` and `x+x` stay different.

use crate::verifier::Sameness;

/// Trims, and makes each run of white space one space.
pub fn normalize(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Drops white space, enclosing dollar signs, a final full stop, `\left`, `\right` and thin
/// spaces, and writes `\dfrac` and `\tfrac` as `\frac`. Between two digits a space stays, unless it
/// separates thousands.
pub fn normalize_math(text: &str) -> String {
    let mut plain = without_spaces(&text.replace("\\,", " "));
    for (from, to) in
        [("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac")]
    {
        plain = replace_command(&plain, from, to);
    }
    let bare = without_full_stop(&plain);
    let inner = bare.strip_prefix('$').and_then(|rest| rest.strip_suffix('$'));
    without_full_stop(inner.unwrap_or(bare)).to_owned()
}

/// Without a final full stop; three of them are an ellipsis and stay.
fn without_full_stop(text: &str) -> &str {
    text.strip_suffix('.').filter(|bare| !bare.ends_with('.')).unwrap_or(text)
}

/// Without white space, but for single spaces between digits that are not thousands.
fn without_spaces(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && digits != 3 && joined.ends_with(|c: char| c.is_ascii_digit()) {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// Compares two texts up to white space.
pub fn compare(answer: &str, gold: &str) -> Sameness {
    Sameness::of(normalize(answer) == normalize(gold))
}

/// Replaces a command, but not the beginning of a longer one: `\left` inside `\leftarrow` stays.
fn replace_command(text: &str, command: &str, replacement: &str) -> String {
    let is_word = command.ends_with(|c: char| c.is_ascii_alphabetic());
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(command) {
        let (before, after) = (&rest[..at], &rest[at + command.len()..]);
        out.push_str(before);
        let is_longer = is_word && after.starts_with(|c: char| c.is_ascii_alphabetic());
        out.push_str(if is_longer { command } else { replacement });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_white_space_is_forgiven() {
        assert_eq!(compare(" a  b\n", "a b"), Sameness::Same);
        assert_eq!(compare("ab", "a b"), Sameness::Different);
        assert_eq!(compare("A b", "a b"), Sameness::Different);
    }

    #[test]
    fn looks_of_latex_are_dropped() {
        for (text, expected) in [
            ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
            ("$\\dfrac12$.", "\\frac12"),
            ("\\leftarrow", "\\leftarrow"),
            ("1\\,000", "1000"),
            ("$", "$"),
        ] {
            assert_eq!(normalize_math(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in any::<String>()) {
            let once = normalize(&text);
            prop_assert_eq!(normalize(&once), once.clone());
            let _ = normalize_math(&text);
        }
    }
}
