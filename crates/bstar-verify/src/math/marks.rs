//! Answers that a format marks: a JSON field, `#### 18`, a last line `A: 18`, the output of a tool.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Bytes of a field that are looked at.
const MAX_VALUE: usize = 2048;

/// A text without the heights behind breaks between rows: `\\\\[4pt]` is `\\\\`.
pub(super) fn without_row_gaps(text: &str) -> Cow<'_, str> {
    static GAP: LazyLock<Regex> = LazyLock::new(|| {
        let height = r"-?\s*[0-9.]+\s*(?:pt|ex|em|mm|cm|in|mu|pc|bp|sp|px)";
        let height = format!(r"(?:{height}|-?[0-9.]*\\(?:baselineskip|jot|[a-z]+skip))");
        Regex::new(&format!(r"(\\\\)\*?\s*\[\s*{height}\s*\]")).expect("a valid pattern")
    });
    if text.contains("\\\\") { GAP.replace_all(text, "$1 ") } else { Cow::Borrowed(text) }
}

/// The value of the last JSON field `answer` that holds something and where its key stands, whether
/// or not the text around it is good JSON. A field in backticks is an example.
pub(super) fn json_answer(text: &str) -> Option<(usize, String)> {
    static KEY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"\\?"(?:final_)?answer\\?"\s*:\s*"#).expect("a valid pattern")
    });
    let mut last = None;
    for found in KEY.find_iter(text) {
        let value = value(&text[found.end()..]);
        let is_value = value.contains(char::is_alphanumeric)
            && value != "null"
            && !value.starts_with('{')
            && !text[..found.start()].ends_with('`');
        if is_value {
            last = Some((found.start(), value));
        }
    }
    last
}

/// A JSON string, or what stands up to the next comma, bracket or line.
fn value(rest: &str) -> String {
    // A bound for each of many fields.
    let rest = &rest[..rest.floor_char_boundary(MAX_VALUE)];
    match ["\\\"", "\""].into_iter().find_map(|quote| rest.strip_prefix(quote)) {
        Some(held) => string(held),
        None => rest[..rest.find([',', '}', '\n', ']']).unwrap_or(rest.len())].trim().to_owned(),
    }
}

/// What a JSON string holds, up to its closing quote. Only quotes and backslashes are unescaped:
/// many models write LaTeX with single backslashes, and `\frac` is no form feed.
fn string(text: &str) -> String {
    let mut held = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => break,
            ('\\', Some('\\')) => {
                chars.next();
                held.push('\\');
            }
            ('\\', Some('"')) => {
                chars.next();
                // The end of a string within a string.
                if chars.peek().is_none_or(|next| matches!(next, '"' | '}' | '\n')) {
                    break;
                }
                held.push('"');
            }
            _ => held.push(c),
        }
    }
    held
}

/// The rest of a line after the last `####`, or of a last line that begins with `A:`.
pub(super) fn marked_line(text: &str) -> Option<&str> {
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    if let Some(rest) = last.trim_start().strip_prefix("A:") {
        return Some(rest.trim()).filter(|rest| !rest.is_empty());
    }
    let at = text.rfind("####")?;
    let line = text[at + 4..].lines().next()?.trim();
    let is_heading = line.starts_with('#') || line.contains(':');
    (!line.is_empty() && !is_heading).then_some(line)
}

/// The last line of a text that a program of the response has the answer repeated on.
pub(super) fn after_last_block(text: &str) -> Option<&str> {
    let line = text.trim_end().rsplit_once("[text]\n")?.1.trim();
    (!line.contains('\n') && line.len() <= 60 && !line.is_empty()).then_some(line)
}

/// The last line that the last tool of a response printed, if little text follows it.
pub(super) fn output(text: &str) -> Option<&str> {
    const BLOCKS: [(&str, &str); 2] = [("```output\n", "```"), ("[execution]\n", "[text]")];
    let last = BLOCKS
        .iter()
        .filter_map(|(open, close)| text.rfind(open).map(|at| (at + open.len(), *close)));
    let (start, close) = last.max()?;
    let block = &text[start..];
    let (printed, rest) = block.split_once(close).unwrap_or((block, ""));
    let line = printed.trim_end().lines().next_back()?.trim();
    (rest.len() <= 400 && !line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_fields_are_read_from_good_and_bad_json() {
        for (text, expected) in [
            (r#"{"reasoning": "x", "answer": "18"}"#, Some("18")),
            ("```json\n{\"answer\": 18\n}\n```", Some("18")),
            (r#"{"answer": "\\frac{1}{2}"}"#, Some(r"\frac{1}{2}")),
            (r#"{"answer": "\frac{1}{2}"}"#, Some(r"\frac{1}{2}")),
            (r#"{"answer": "5", "answer": "-6.5"}"#, Some("-6.5")),
            (r#"so: \"answer\": \"500\"""#, Some("500")),
            (r#"{"answer": null}"#, None),
            (r#"{"answer": "7"} as in `"answer": "42"` {"answer": "___"}"#, Some("7")),
            (r#"{"answer": {"a": 1}}"#, None),
            ("the answer: 5", None),
        ] {
            assert_eq!(json_answer(text).map(|found| found.1).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn heights_of_row_breaks_are_left_out() {
        for (text, expected) in [
            (r"1 \\[4pt] 2", r"1 \\  2"),
            (r"1\\ [0.5em]2", r"1\\ 2"),
            (r"1 \\*[-1ex] 2", r"1 \\  2"),
            (r"\\[1,2]", r"\\[1,2]"),
            (r"\[4pt]", r"\[4pt]"),
        ] {
            assert_eq!(without_row_gaps(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_and_blocks_are_found() {
        assert_eq!(marked_line("so 5 + 3 = 8\n#### 8\n"), Some("8"));
        assert_eq!(marked_line("#### Step 1: add\n8"), None);
        assert_eq!(marked_line("A: 26 is wrong\nA: 27"), Some("27"));
        assert_eq!(after_last_block("[text]\n\\boxed{5}\n[text]\n5"), Some("5"));
        assert_eq!(output("```output\n1\n3.0\n```\nThree trucks."), Some("3.0"));
    }
}
