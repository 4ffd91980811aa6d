//! What surrounds an answer: quotes, emphasis, option letters, and the text commands of words.

use super::words::canonical;

/// Pairs of marks that may enclose an answer.
const PAIRS: [(&str, &str); 8] = [
    ("**", "**"),
    ("`", "`"),
    ("\"", "\""),
    ("'", "'"),
    ("“", "”"),
    ("___", "___"),
    ("*", "*"),
    ("_", "_"),
];

/// An answer without white space, quotes and emphasis around it.
pub(super) fn bare(text: &str) -> &str {
    let mut bare = text.trim();
    for _ in 0..4 {
        let inner = PAIRS.iter().find_map(|(open, close)| {
            let inner = bare.strip_prefix(open)?.strip_suffix(close)?;
            (!inner.contains(open)).then_some(inner)
        });
        match inner {
            Some(inner) if !inner.trim().is_empty() => bare = inner.trim(),
            _ => break,
        }
    }
    bare
}

/// The words of a text that is nothing else: `\text{October 30}`.
#[derive(PartialEq, Eq)]
pub(super) struct Words {
    joined: String,
    /// Whether a month stands beside a number.
    pub(super) is_date: bool,
}

/// The words of a text that has a word of three letters or more and no mathematics.
pub(super) fn words(text: &str) -> Option<Words> {
    // Cheap tests first: most answers are numbers and formulas.
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '{' | '}' | '\\' | '.' | ',');
    if !text.chars().all(is_plain) {
        return None;
    }
    let mut bare = text.trim().trim_end_matches('.').to_lowercase();
    for wrapping in ["\\textbf{", "\\textrm{", "\\text{", "\\mbox{", "\\mathrm{"] {
        if bare.contains('\\') {
            bare = bare.replace(wrapping, "{");
        }
    }
    let has_word = bare.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().count() >= 3);
    let joined = canonical(&bare);
    let is_date = super::words::names_a_day(&bare);
    let is_plain = !bare.contains(['\\']) && (is_date || !bare.contains(['.', ',']));
    (has_word && is_plain).then_some(Words { joined, is_date })
}

/// The option letter that a text begins with, and what stands behind it: `(B) 5`, `B. 5`.
pub(super) fn option(text: &str) -> Option<(char, &str)> {
    let (letter, rest) = lettered(text)?;
    let rest = rest.trim_start_matches(['\\', ' ', '}', '~', '$']).trim();
    (!rest.is_empty()).then_some((letter, rest))
}

/// The letter of a text that is one, bare or in brackets.
pub(super) fn letter(text: &str) -> Option<char> {
    let text = text.trim().trim_matches('$');
    if let Some((letter, rest)) = lettered(text) {
        return rest.trim_matches(['}', ' ', '.', '\\', ':']).is_empty().then_some(letter);
    }
    let bare = unwrapped(text).trim_end_matches(['}', ' ', '.']);
    let mut letters = bare.chars();
    letters.next().filter(|c| c.is_ascii_alphabetic() && letters.next().is_none())
}

/// The letter of a text that says that it names an option: `Option A`.
pub(super) fn named_option(text: &str) -> Option<char> {
    let (word, rest) = text.trim().split_once(' ')?;
    let is_announced = ["option", "choice"].iter().any(|known| word.eq_ignore_ascii_case(known));
    if is_announced { letter(rest) } else { None }
}

fn unwrapped(text: &str) -> &str {
    ["\\textbf{", "\\text{", "\\mathrm{", "\\textrm{", "\\mathbf{", "{"]
        .iter()
        .find_map(|open| text.strip_prefix(open))
        .unwrap_or(text)
        .trim_start()
}

/// A capital letter in brackets, or before a full stop, a bracket or a colon with a space behind.
fn lettered(text: &str) -> Option<(char, &str)> {
    let text = unwrapped(text.trim().trim_start_matches('$'));
    let is_bracketed = text.starts_with('(');
    let mut rest = text.strip_prefix('(').unwrap_or(text).chars();
    let letter = rest.next().filter(|c| ('A'..='J').contains(c))?;
    let mark = rest.next()?;
    let rest = rest.as_str();
    let is_option = if is_bracketed {
        mark == ')' && (rest.is_empty() || rest.starts_with([' ', '}', '\\', '~']))
    } else {
        matches!(mark, '.' | ')' | ':') && rest.starts_with(' ')
    };
    is_option.then_some((letter, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_seen_and_formulas_are_not() {
        for (text, expected) in [
            ("(B) 5", Some(('B', "5"))),
            ("\\textbf{(B)}\\ 5", Some(('B', "5"))),
            ("\\text{(B) } 5", Some(('B', "5"))),
            ("A: 26", Some(('A', "26"))),
            ("B. 5", Some(('B', "5"))),
            ("(B)", None),
            ("(A+B)", None),
            ("(A)(B)", None),
            ("A:B", None),
            ("B", None),
        ] {
            assert_eq!(option(text), expected, "{text:?}");
        }
        assert_eq!(letter("\\text{(C)}"), Some('C'));
        assert_eq!(letter("D."), Some('D'));
        assert_eq!(letter("DA"), None);
    }

    #[test]
    fn emphasis_and_quotes_are_taken_away() {
        for (text, expected) in [
            ("**5**", "5"),
            ("___3___", "3"),
            (" \"x\" ", "x"),
            ("'a' or 'b'", "'a' or 'b'"),
            ("f'", "f'"),
        ] {
            assert_eq!(bare(text), expected);
        }
    }
}
