//! Where the steps of a response lie, as byte ranges.
//!
//! Ranges tile the response: each begins where the one before ends, the first at 0, the last ends
//! with the response, and a step includes the separator that ends it. So a reward model can score a
//! step at its last token. A step is never blank: blank text joins the step before it (or, at the
//! beginning, the one after it).

use std::ops::Range;

/// Marks the answer of a response in the format of spec §4.1.
pub(crate) const ANSWER_MARKER: &str = "# Answer";

/// Steps that blank lines separate; the answer, from the last `# Answer` on, is one step.
pub(crate) fn paragraphs(response: &str) -> Vec<Range<usize>> {
    let answer = response.rfind(ANSWER_MARKER).unwrap_or(response.len());
    let ends = response[..answer].match_indices("\n\n").map(|(at, gap)| at + gap.len());
    tiled(response, ends.chain([answer]))
}

/// Ranges that end at `ends` (in ascending order) and at the end of the text.
pub(crate) fn tiled(text: &str, ends: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for end in ends.chain([text.len()]) {
        if !text[start..end].trim().is_empty() {
            ranges.push(start..end);
            start = end;
        } else if let Some(last) = ranges.last_mut() {
            last.end = end;
            start = end;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(response: &str, expected: &[&str]) {
        let found: Vec<&str> = paragraphs(response).into_iter().map(|r| &response[r]).collect();
        assert_eq!(found, expected, "{response:?}");
    }

    #[test]
    fn blank_lines_end_steps_and_the_answer_is_the_last() {
        check("a\n\nb\n\n# Answer\n\n42", &["a\n\n", "b\n\n", "# Answer\n\n42"]);
        check("a\nb\n\n\n\nc", &["a\nb\n\n\n\n", "c"]);
        check("# Answer\n\n42\n\nand more", &["# Answer\n\n42\n\nand more"]);
        check("\n\na", &["\n\na"]);
        check("a\n\n", &["a\n\n"]);
        check("", &[]);
        check(" \n\n ", &[]);
    }

    proptest! {
        #[test]
        fn ranges_tile_any_response(response in r"(\PC|\n|# Answer){0,40}") {
            let ranges = paragraphs(&response);
            if response.trim().is_empty() {
                prop_assert!(ranges.is_empty());
            } else {
                let joined: String = ranges.iter().map(|range| &response[range.clone()]).collect();
                prop_assert!(ranges.iter().all(|range| !response[range.clone()].trim().is_empty()));
                prop_assert_eq!(joined, response);
            }
        }
    }
}
