//! A response against a gold answer: what is an answer is judged as it is, from what is longer the
//! answer is taken first.
//!
//! Extraction forgives what stands around an answer, which a text that is nothing but an answer must
//! not profit from: `12Ihopeitiscorrect` is not 12.

use super::{Judgement, Options, Reason, answer, judge, parses, second_look, words};
use crate::verifier::{MAX_ANSWER, Sameness};

/// A verdict with the answer that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graded {
    /// The verdict and why.
    pub judgement: Judgement,
    /// The answer that was taken from the response; none where none was found.
    pub extracted: Option<String>,
}

impl Graded {
    /// The reason in words.
    pub fn reason(&self) -> &'static str {
        match &self.extracted {
            Some(_) => self.judgement.reason.name(),
            None => "no answer found",
        }
    }
}

/// Longest text, in bytes, that is looked at as an answer as a whole.
const MAX_ALONE: usize = 300;

/// Compares the answer of a response with a gold answer, either of which may stand in running text.
///
/// ```
/// use bstar_verify::Sameness;
/// use bstar_verify::math::{Options, grade};
///
/// let graded = grade("So he pays $6 \\cdot 3 = 18$ dollars.\n\nThe answer is 18.", "18", &Options::default());
/// assert_eq!(graded.judgement.sameness, Sameness::Same);
/// assert_eq!(graded.extracted.as_deref(), Some("18"));
/// ```
pub fn grade(response: &str, gold: &str, options: &Options) -> Graded {
    let gold = if stands_alone(gold) { None } else { answer::find_in_gold(gold) }
        .unwrap_or_else(|| gold.trim().to_owned());
    let whole = response.trim();
    let told = sentence(whole);
    let whole = told.unwrap_or(whole);
    if told.is_none() && tail_of_sentence(whole).is_some_and(second_look::hedges) {
        let judgement = second_look::undecided();
        if !second_look::hedges(&gold) {
            return Graded { judgement, extracted: Some(whole.to_owned()) };
        }
    }
    if whole.len() <= MAX_ANSWER && (stands_alone(whole) || whole == gold) {
        let judgement = judge(whole, &gold, options);
        if judgement.reason == Reason::Empty && whole.is_empty() {
            return Graded { judgement, extracted: None };
        }
        return Graded { judgement, extracted: Some(whole.to_owned()) };
    }
    let Some(found) = answer::find(response) else {
        let judgement = Judgement { sameness: Sameness::CannotTell, reason: Reason::Empty };
        return Graded { judgement, extracted: None };
    };
    Graded { judgement: judge(&found, &gold, options), extracted: Some(found) }
}

/// Words that a sentence with an answer may begin with.
const THEREFORE: [&str; 4] = ["therefore", "thus", "hence", "so"];

/// What a short sentence says: `2\pi` of `The area is 2\pi.`, 12 of `Therefore, 12.`
fn sentence(text: &str) -> Option<&str> {
    let told = tail_of_sentence(text).or_else(|| {
        let (first, rest) = text.split_once([' ', ','])?;
        THEREFORE.contains(&first.to_ascii_lowercase().as_str()).then_some(rest)
    })?;
    let told = told.trim_start_matches([',', ' ']).trim_end_matches('.').trim();
    let told = told.trim_matches('$').trim();
    let is_answer = !told.is_empty() && !second_look::hedges(told) && parses(told);
    (is_answer && answer::plain_words(told) <= 2).then_some(told)
}

/// What stands behind the only `is` or `are` of a short text that has nothing but words before it.
fn tail_of_sentence(text: &str) -> Option<&str> {
    if text.len() > MAX_ALONE || text.contains('\n') || is_announced(text) {
        return None;
    }
    let verbs = [" is ", " are ", " equals "];
    let mut found = verbs.iter().flat_map(|verb| text.match_indices(verb));
    let (at, verb) = found.next()?;
    let is_words = text[..at].chars().all(|c| c.is_alphabetic() || c == ' ');
    (is_words && found.next().is_none()).then(|| &text[at + verb.len()..])
}

/// Whether a text is an answer and nothing more: short, on one line, without a mark that announces
/// an answer, and either understood or a single word.
fn stands_alone(text: &str) -> bool {
    let text = text.trim();
    if text.is_empty() {
        return true;
    }
    let is_short = text.len() <= MAX_ALONE && !text.contains('\n');
    if !is_short || is_announced(text) || answer::is_dressed(text) {
        return false;
    }
    if words::is_phrase(text) || words::names_a_day(&text.to_lowercase()) {
        return true;
    }
    let words = answer::plain_words(text);
    words < answer::SENTENCE && (words <= 1 || parses(text))
}

/// Whether something in the text says that an answer follows, or that it is no bare answer.
fn is_announced(text: &str) -> bool {
    const MARKS: [&str; 7] = ["####", "boxed", "fbox", "<|", "```", "think>", "\"answer"];
    const WORDS: [&str; 3] = ["answer", "réponse", "答案"];
    // Glued words announce nothing.
    let has_words = text.contains(char::is_whitespace);
    let lower = text.to_lowercase();
    MARKS.iter().any(|mark| lower.contains(mark))
        || (has_words && WORDS.iter().any(|word| lower.contains(word)))
        || lower.chars().filter(|c| ('\u{3000}'..='\u{9fff}').contains(c)).count() > 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &str, gold: &str, expected: Sameness, extracted: Option<&str>) {
        let graded = grade(response, gold, &Options::default());
        assert_eq!(graded.judgement.sameness, expected, "{response:?}: {}", graded.reason());
        assert_eq!(graded.extracted.as_deref(), extracted, "{response:?}");
    }

    #[test]
    fn bare_answers_are_judged_as_they_are() {
        check("12Ihopeitiscorrect", "12", Sameness::CannotTell, Some("12Ihopeitiscorrect"));
        check("5", "5", Sameness::Same, Some("5"));
        check("x = 5 or x = 6", "6", Sameness::Different, Some("x = 5 or x = 6"));
        check("", "5", Sameness::CannotTell, None);
        check("Monday", "monday", Sameness::Same, Some("Monday"));
    }

    #[test]
    fn longer_texts_are_searched() {
        check("He has 7 left, so the answer is 7.", "7", Sameness::Same, Some("7"));
        check("I do not know it at all.", "7", Sameness::CannotTell, None);
    }
}
