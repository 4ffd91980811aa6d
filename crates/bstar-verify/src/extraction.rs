//! Finding the answer in a response: rules as data, tried in order.
//!
//! Only the last [`MAX_RESPONSE`] bytes of a response are looked at, because that is where an
//! answer stands; so the cost of a runaway response is bounded. Markers are searched from the end:
//! the last one is what a response settles on (spec §4.1). There is deliberately no rule "last
//! number anywhere" among the defaults of a task, because it would reward unfinished responses.

use crate::number;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Bytes at the end of a response that are searched for an answer.
pub const MAX_RESPONSE: usize = 256 * 1024;

/// Boxes, from the last backwards, that are tried for balanced braces.
const MAX_BOXES: usize = 32;

/// One way to find an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Everything after the last occurrence of this marker, such as `# Answer` or `####`.
    AfterLast(String),
    /// What the last `\boxed{…}` or `\fbox{…}` with balanced braces holds.
    Boxed,
    /// The letter after the last `Final answer:`, bare or in brackets.
    FinalAnswerLetter,
    /// The rest of the line after the last `the answer is` or `the final answer is`.
    AnswerIs,
    /// The rest of the line after the last `=`.
    AfterLastEquals,
    /// The last number anywhere.
    LastNumber,
    /// The last line that is not blank.
    LastLine,
}

impl Rule {
    /// The answer that this rule finds, trimmed and not empty.
    pub fn find<'a>(&self, response: &'a str) -> Option<&'a str> {
        let tail = tail(response);
        let found = match self {
            Self::AfterLast(marker) => after_last(tail, marker),
            Self::Boxed => last_boxed(tail),
            Self::FinalAnswerLetter => last_group(&FINAL_ANSWER, tail),
            Self::AnswerIs => last_group(&ANSWER_IS, tail).map(without_full_stop),
            Self::AfterLastEquals => after_last(tail, "=").and_then(|rest| rest.lines().next()),
            Self::LastNumber => number::last_in(tail),
            Self::LastLine => tail.lines().rev().find(|line| !line.trim().is_empty()),
        };
        found.map(str::trim).filter(|answer| !answer.is_empty())
    }
}

/// The answer that the first successful rule finds.
pub fn extract<'a>(response: &'a str, rules: &[Rule]) -> Option<&'a str> {
    rules.iter().find_map(|rule| rule.find(response))
}

/// What the last `\boxed{…}` or `\fbox{…}` with balanced braces holds; `\boxed 2` holds its token.
pub fn last_boxed(text: &str) -> Option<&str> {
    let mut end = text.len();
    for _ in 0..MAX_BOXES {
        let before = &text[..end];
        let at = before.rfind("\\boxed").max(before.rfind("\\fbox"))?;
        let command = if text[at..].starts_with("\\boxed") { "\\boxed" } else { "\\fbox" };
        if let Some(held) = argument(&text[at + command.len()..]) {
            return Some(held);
        }
        end = at;
    }
    None
}

static FINAL_ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)final answer[\s*]*:[\s*]*[\[\(]?([A-Z])\b").expect("a valid pattern")
});

static ANSWER_IS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\bthe (?:final )?answer is:?[ \t]*([^\r\n]+)").expect("a valid pattern")
});

/// The end of a response, cut at a character boundary.
pub(crate) fn tail(response: &str) -> &str {
    let mut start = response.len().saturating_sub(MAX_RESPONSE);
    while !response.is_char_boundary(start) {
        start += 1;
    }
    &response[start..]
}

fn after_last<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    text.rfind(marker).map(|at| &text[at + marker.len()..])
}

fn last_group<'a>(pattern: &Regex, text: &'a str) -> Option<&'a str> {
    pattern.captures_iter(text).last().and_then(|found| found.get(1)).map(|group| group.as_str())
}

fn without_full_stop(text: &str) -> &str {
    text.trim_end().trim_end_matches('.')
}

/// What the box command whose name stands at `at` holds, and where its argument ends.
pub(crate) fn argument_at(text: &str, at: usize) -> Option<(usize, &str)> {
    let rest = text[at..].trim_start_matches('\\');
    let rest = rest.strip_prefix("boxed").or_else(|| rest.strip_prefix("fbox"))?;
    let held = argument(rest)?;
    let bare = rest.trim_start_matches(' ');
    let width = if bare.starts_with('{') { held.len() + 2 } else { held.len() };
    Some((text.len() - bare.len() + width, held))
}

/// The argument of a command: a balanced group of braces, or the token after spaces.
fn argument(text: &str) -> Option<&str> {
    let bare = text.trim_start_matches(' ');
    if !bare.starts_with('{') {
        let is_token = bare.len() < text.len();
        let end = bare.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(bare.len());
        return (is_token && end > 0).then(|| &bare[..end]);
    }
    let mut depth = 0_usize;
    let mut is_escaped = false;
    for (at, byte) in bare.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(&bare[1..at]),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(rule: &Rule, response: &str, expected: Option<&str>) {
        assert_eq!(rule.find(response), expected, "{rule:?} in {response:?}");
    }

    #[test]
    fn text_after_the_last_marker_is_the_answer() {
        let answer = Rule::AfterLast("# Answer".into());
        check(&answer, "steps\n\n# Answer\n\n42\n", Some("42"));
        check(&answer, "# Answer\n\n1\n\n# Answer\n\n2", Some("2"));
        check(&answer, "# Answer\n\n", None);
        check(&answer, "the answer", None);
        check(&Rule::AfterLast("####".into()), "a\n#### 1,234", Some("1,234"));
    }

    #[test]
    fn the_last_balanced_box_is_the_answer() {
        for (response, expected) in [
            ("so $\\boxed{\\frac{1}{2}}$.", Some("\\frac{1}{2}")),
            ("\\boxed{1} then \\boxed{2}", Some("2")),
            ("\\boxed{1} then \\boxed{2", Some("1")),
            ("is $\\boxed 2$.", Some("2")),
            ("\\fbox{x}", Some("x")),
            ("\\boxed{\\{1, 2\\}}", Some("\\{1, 2\\}")),
            ("\\boxed{}", None),
            ("\\boxed", None),
            ("\\boxedx", None),
        ] {
            check(&Rule::Boxed, response, expected);
        }
    }

    #[test]
    fn a_final_answer_names_a_letter() {
        for (response, expected) in [
            ("Final answer: (B)", Some("B")),
            ("final ANSWER: [c]", Some("c")),
            ("**Final answer:** D.", Some("D")),
            ("Final answer: (A) no, Final answer: (B)", Some("B")),
            ("Final answer: Because", None),
            ("answer: B", None),
        ] {
            check(&Rule::FinalAnswerLetter, response, expected);
        }
    }

    #[test]
    fn lines_and_phrases_hold_answers() {
        check(&Rule::AnswerIs, "The answer is: 18.\nbye", Some("18"));
        check(&Rule::AnswerIs, "so the final answer is 3.5", Some("3.5"));
        check(&Rule::AnswerIs, "the answer is", None);
        check(&Rule::AfterLastEquals, "1+1=2=3\nfour", Some("3"));
        check(&Rule::AfterLastEquals, "1+1", None);
        check(&Rule::LastLine, "a\n b \n\n", Some("b"));
        check(&Rule::LastLine, "\n \n", None);
        check(&Rule::LastNumber, "he has 5 of 7 left", Some("7"));
    }

    #[test]
    fn rules_are_tried_in_order() {
        let rules = [Rule::AfterLast("####".into()), Rule::Boxed];
        assert_eq!(extract("\\boxed{1} #### 2", &rules), Some("2"));
        assert_eq!(extract("\\boxed{1} ####", &rules), Some("1"));
        assert_eq!(extract("1", &rules), None);
    }

    #[test]
    fn many_unbalanced_boxes_are_searched_in_bounded_time() {
        let response = "\\boxed{".repeat(MAX_RESPONSE);
        check(&Rule::Boxed, &response, None);
    }

    #[test]
    fn an_answer_before_the_searched_tail_is_not_found() {
        let response = format!("#### 7{}", "é".repeat(MAX_RESPONSE));
        check(&Rule::LastNumber, &response, None);
    }

    proptest! {
        #[test]
        fn no_response_breaks_a_rule(response in r"(\PC|\\boxed|[{}=#\n]|the answer is){0,60}") {
            for rule in [
                Rule::AfterLast("#".into()),
                Rule::Boxed,
                Rule::FinalAnswerLetter,
                Rule::AnswerIs,
                Rule::AfterLastEquals,
                Rule::LastNumber,
                Rule::LastLine,
            ] {
                if let Some(answer) = rule.find(&response) {
                    prop_assert!(!answer.is_empty() && response.contains(answer));
                }
            }
        }
    }
}
