//! Finding the answer in free text: which part of a response is what it answers.
//!
//! The rules, in order: the field "answer" of a JSON object; what stands in boxes, unless a sentence
//! "the final answer is …" comes after them; the rest of a line after `####` or `A:`; such a
//! sentence; the rest of the line after "answer:" or "answer is"; what a tool printed at the end; the
//! number in a sentence "Therefore …" after the last formula; the last formula; a text that is
//! understood as a whole; the last number. Boxes side by side are several answers. Only the end of a
//! long text is looked at, and thinking between `<think>` tags is passed over.

use super::{marks, parses};
use crate::extraction::MAX_RESPONSE;
use crate::number;
use regex::Regex;
use std::sync::LazyLock;

/// Boxes that one answer may have.
const MAX_BOXES: usize = 16;

/// The answer of a response.
pub fn find(response: &str) -> Option<String> {
    let cleared = marks::without_row_gaps(told(response));
    let text = &*cleared;
    let is_short = text.len() < 200 && !text.contains('\n');
    marked(text, is_short).or_else(|| {
        if is_compound(text) {
            return Some(text.to_owned());
        }
        if is_short && plain_words(text) < SENTENCE && parses(text) {
            return Some(text.trim().to_owned());
        }
        last_number(text).and_then(|number| not_taken_back(text, number))
    })
}

/// The answer of a gold answer that is more than an answer: a whole solution, or a text that
/// announces or marks it. A few words with a number are not cut down to the number.
pub(super) fn find_in_gold(gold: &str) -> Option<String> {
    let is_short = gold.len() < 200 && !gold.contains('\n');
    if is_short { marked(&marks::without_row_gaps(told(gold)), true) } else { find(gold) }
}

/// The answer that something in the text marks as such.
fn marked(text: &str, is_short: bool) -> Option<String> {
    let boxed = last_boxes(text);
    if let Some((at, value)) = marks::json_answer(text)
        && boxed.as_ref().is_none_or(|&(start, _)| start < at || value.contains("boxed"))
    {
        return within(&value).or(Some(value));
    }
    if let Some(line) = marks::after_last_block(text).filter(|line| number::parse(line).is_some()) {
        return Some(line.to_owned());
    }
    let phrase = last_phrase(&FINAL_ANSWER_IS, text);
    if let (Some((start, line)), Some((at, _))) = (&phrase, &boxed)
        && start > at
        && let Some(answer) = within(line)
    {
        return Some(answer);
    }
    if let Some((_, answers)) = boxed {
        return Some(told_in_words(&answers).unwrap_or(answers));
    }
    if is_short && is_formula(text) {
        return Some(text.trim().to_owned());
    }
    if is_short && let Some(formulas) = side_by_side(text) {
        return Some(formulas);
    }
    if let Some(answer) = marks::marked_line(text).and_then(within) {
        return Some(answer);
    }
    for pattern in [&FINAL_ANSWER_IS, &ANSWER_IS] {
        if let Some(answer) = last_phrase(pattern, text).and_then(|(_, line)| within(line)) {
            return Some(answer);
        }
    }
    if let Some(line) = marks::output(text).filter(|line| is_formula(line)) {
        return Some(line.to_owned());
    }
    let formula = last_formula_at(text);
    if let Some((start, sentence)) = last_phrase(&CONCLUSION, text)
        && formula.is_none_or(|(end, _)| start >= end)
        && let Some(number) = last_number(sentence)
    {
        return not_taken_back(sentence, number);
    }
    if let Some(several) = last_plural(text) {
        return Some(several);
    }
    let (_, formula) = formula?;
    not_taken_back(text, outcome(formula).to_owned())
}

/// What the last sentence names as several answers: `The solutions are $3$ and $5$.`
fn last_plural(text: &str) -> Option<String> {
    static PLURAL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)\b(?:answers|solutions|roots|values|zeros|zeroes)\b[^.\n]{0,60}?\bare:?\s+([^\r\n]+)$",
        )
        .expect("a valid pattern")
    });
    let last = text.trim_end().lines().next_back()?;
    let line = PLURAL.captures_iter(last).last()?.get(1)?.as_str();
    let told = first_sentence(line);
    // What follows the sentence is what the text comes to.
    if !line[told.len()..].trim_matches(['.', '。', ' ']).is_empty() {
        return None;
    }
    let told = told.trim();
    if is_formula(told) { Some(told.to_owned()) } else { undressed(told) }
}

/// Whether a text is an amount in two units, of which neither is the answer: `6 ft 2 in`.
fn is_compound(text: &str) -> bool {
    static COMPOUND: LazyLock<Regex> = LazyLock::new(|| {
        let amount = r#"[0-9][0-9.,]*\s*(?:[A-Za-z]+\.?|['"])"#;
        Regex::new(&format!(r"^{amount},?\s*(?:and\s+)?{amount}$")).expect("a valid pattern")
    });
    text.len() < 60 && COMPOUND.is_match(text)
}

/// Words before an answer that it is taken away with.
const RETRACTIONS: [&str; 10] =
    ["not", "never", "cannot", "neither", "nor", "either", "or", "least", "most", "between"];

/// What was found in a text, unless one of the three words before it takes it back: `not 5`.
fn not_taken_back(text: &str, found: String) -> Option<String> {
    let before = text.rfind(&found).map_or("", |at| &text[..at]);
    let clause =
        before.rfind([',', '.', ';', ':', '\n', '=']).map_or(before, |at| &before[at + 1..]);
    let is_taken_back = clause.split_whitespace().rev().take(3).any(|word| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        RETRACTIONS.contains(&&*word) || word.ends_with("n't") || word.ends_with("n’t")
    });
    (!is_taken_back).then_some(found)
}

/// Words from which on a text is a sentence.
pub(super) const SENTENCE: usize = 5;

/// Words of running text, which those of `\text{…}` are not.
pub(super) fn plain_words(text: &str) -> usize {
    text.split_whitespace()
        .map(|word| word.trim_end_matches(['.', ',', '!', '?', ';', ':']))
        .filter(|word| word.len() > 1 && word.chars().all(char::is_alphabetic))
        .count()
}

/// The number in a box that holds a sentence: `\text{Adam loses \$16.}`.
fn told_in_words(boxed: &str) -> Option<String> {
    let held = boxed.trim().strip_prefix("\\text{")?.strip_suffix('}')?;
    let words =
        held.split_whitespace().filter(|word| word.bytes().all(|c| c.is_ascii_alphabetic()));
    let number = if words.count() >= 2 { last_number(held) } else { None };
    not_taken_back(held, number?)
}

/// Without thinking, chat markers and what comes long before the end.
fn told(response: &str) -> &str {
    let mut start = response.len().saturating_sub(MAX_RESPONSE);
    while !response.is_char_boundary(start) {
        start += 1;
    }
    let tail = &response[start..];
    let tail = tail.rfind("</think>").map_or(tail, |at| &tail[at + "</think>".len()..]);
    let end = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
        .iter()
        .filter_map(|marker| tail.find(marker))
        .filter(|&end| end > 0)
        .min();
    tail[..end.unwrap_or(tail.len())].trim()
}

/// Whether a text is a formula as a whole, rather than words or a sentence.
fn is_formula(text: &str) -> bool {
    let words = text
        .split_whitespace()
        .filter(|word| word.chars().all(char::is_alphabetic) && word.len() > 2);
    words.count() < 3
        && plain_words(text) < SENTENCE
        && !text.contains("nswer")
        && !is_dressed(text)
        && parses(text)
}

/// Whether formulas are marked in the text, so that what stands around them is prose.
pub(super) fn is_dressed(text: &str) -> bool {
    let cleared = marks::without_row_gaps(text);
    let bare = cleared.trim();
    let inner = bare.strip_prefix('$').and_then(|rest| rest.strip_suffix('$')).unwrap_or(bare);
    inner.trim_matches('$').contains('$') || inner.contains("\\(") || inner.contains("\\[")
}

/// What the last boxes hold, joined by commas if they stand side by side, and where they start.
fn last_boxes(text: &str) -> Option<(usize, String)> {
    let mut found: Vec<(usize, usize, &str)> = Vec::new();
    let mut end = text.len();
    for _ in 0..MAX_BOXES {
        let Some(at) = text[..end].rfind("boxed").max(text[..end].rfind("\\fbox")) else { break };
        let argument = crate::extraction::argument_at(text, at);
        let Some((next, held)) = argument.filter(|(_, held)| !held.trim().is_empty()) else {
            end = at;
            continue;
        };
        let is_beside =
            found.last().is_none_or(|&(later, _, _)| is_joint(text.get(next..later).unwrap_or("")));
        if !is_beside {
            break;
        }
        found.push((at, next, held));
        end = at;
    }
    let (start, _, _) = *found.first()?;
    found.reverse();
    let answers: Vec<&str> = found.iter().map(|&(_, _, held)| held).collect();
    Some((start, answers.join(", ")))
}

/// Whether what stands between two boxes only joins them.
fn is_joint(between: &str) -> bool {
    static JOINT: LazyLock<Regex> = LazyLock::new(|| {
        let name = r"[A-Za-z](?:_\{?[A-Za-z0-9]\}?)?\s*=";
        let text = r"\\(?:text|mbox)\{[^{}=]{0,40}\}";
        let pattern = format!(
            r"^(?:[\s$,;\\]|\\quad|\\qquad|\\\(|\\\)|\\\[|\\\]|\band\b|\bor\b|{name}|{text})*$"
        );
        Regex::new(&pattern).expect("a valid pattern")
    });
    // The text begins with the backslash of the later box left over.
    between.len() <= 80 && !between.contains('\n') && JOINT.is_match(between)
}

static FINAL_ANSWER_IS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)final answer(?:\*\*)?(?: is)?\s*[:：]?\s*(?:the final answer is:?\s*)?([^\r\n]+)",
    )
    .expect("a valid pattern")
});

/// A sentence that concludes.
static CONCLUSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:Therefore|Thus|Hence),?\s([^\r\n]+)").expect("a valid pattern")
});

static ANSWER_IS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)(?:\banswer(?:\*\*)?(?: is\b:?|:)|réponse(?: est|:)|答案[是为:：]+)\s*([^\r\n]+)",
    )
    .expect("a valid pattern")
});

/// The rest of the sentence after the last match of a pattern.
fn last_phrase<'a>(pattern: &Regex, text: &'a str) -> Option<(usize, &'a str)> {
    let found = pattern.captures_iter(text).last()?;
    let line = found.get(1)?;
    Some((found.get(0)?.start(), first_sentence(line.as_str())))
}

/// Up to a full stop that is followed by a space and a capital letter.
fn first_sentence(line: &str) -> &str {
    static END: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[.。](?:\s+[A-Z]|\s*$)").expect("a valid pattern"));
    END.find(line).map_or(line, |end| &line[..end.start()])
}

/// The answer within a sentence: all of it, its last formula, or its last number.
fn within(sentence: &str) -> Option<String> {
    // What it is not is no part of it: `5, not 6`.
    let told = sentence.split_once(", not ").map_or(sentence, |(told, _)| told);
    let bare = told.trim().trim_matches('*').trim();
    if is_compound(bare) {
        return Some(bare.to_owned());
    }
    if is_formula(bare) {
        return Some(outcome(bare).to_owned());
    }
    if let Some((_, boxed)) = last_boxes(bare) {
        return Some(boxed);
    }
    if let Some(formulas) = undressed(bare).or_else(|| several(bare)) {
        return Some(formulas);
    }
    let formula = last_formula_at(bare);
    let number_after = formula.as_ref().and_then(|&(end, _)| last_number(&bare[end..]));
    let found = number_after
        .or_else(|| formula.map(|(_, formula)| formula.to_owned()))
        .or_else(|| last_number(bare));
    match found {
        // Where words take it back, all of the sentence is the answer, and no value.
        Some(found) => not_taken_back(bare, found).or_else(|| Some(bare.to_owned())),
        None => (!bare.is_empty() && parses(bare)).then(|| bare.to_owned()),
    }
}

/// Formulas with little between them, without their dollar signs: `$3$ or $4$`, `$5$ inches`.
fn undressed(sentence: &str) -> Option<String> {
    let plain =
        sentence.replace("\\$", "").replace("\\(", " ").replace("\\)", " ").replace('$', " ");
    let is_dressed = sentence.matches('$').count() >= 2 || sentence.contains("\\(");
    (is_dressed && is_formula(&plain)).then(|| plain.trim().to_owned())
}

/// Formulas of a text that has nothing but these and words that join them: `$3$ and $4$`.
fn side_by_side(text: &str) -> Option<String> {
    let mut is_inside = false;
    let marked = text.replace("\\(", "$").replace("\\)", "$");
    let outside = marked.split('$').filter(|_| {
        is_inside = !is_inside;
        is_inside
    });
    let is_joint = |word: &str| matches!(word, "and" | "or" | "both" | "either" | "," | "." | ";");
    let has_words = outside
        .flat_map(|part| part.split_whitespace())
        .any(|word| !is_joint(&word.trim_start_matches(',').to_lowercase()) && word != ",");
    if has_words { None } else { undressed(text) }
}

/// The formulas that a sentence ends with, where there are several: `therefore $3$ or $4$`.
fn several(sentence: &str) -> Option<String> {
    let (before, _) = sentence.split_once('$')?;
    let formulas = side_by_side(&sentence[before.len()..])?;
    let is_taken_back = not_taken_back(sentence, sentence[before.len()..].to_owned()).is_none();
    (!is_taken_back).then_some(formulas)
}

/// What a calculation comes to: `(35 + 70 = 105)` is 105; other text is itself.
fn outcome(formula: &str) -> &str {
    let bare = formula.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(formula);
    match bare.rsplit_once('=') {
        Some((left, right))
            if !left.ends_with(['<', '>', '!'])
                && !left.contains(|c: char| c.is_alphabetic() || c == '\\')
                && !left.trim().is_empty() =>
        {
            right.trim()
        }
        _ => formula,
    }
}

/// The last marked formula of a text that is understood, and where it ends.
fn last_formula_at(text: &str) -> Option<(usize, &str)> {
    static FORMULA: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?s)\$\$(.+?)\$\$|\\\[(.+?)\\\]|\$([^$]+?)\$|\\\((.+?)\\\)")
            .expect("a valid pattern")
    });
    let (mut formulas, mut from) = (Vec::new(), 0);
    while let Some(found) = FORMULA.captures_at(text, from) {
        let (Some(whole), Some(held)) = (found.get(0), found.iter().skip(1).flatten().next())
        else {
            break;
        };
        from = whole.end();
        // Between two amounts of money or two formulas stands prose; the second sign may begin one.
        if found.get(3).is_some() && is_between_amounts(held.as_str()) {
            from -= 1;
        } else {
            formulas.push((whole.end(), held.as_str()));
        }
    }
    formulas.into_iter().rev().find(|(_, held)| parses(held))
}

fn is_between_amounts(held: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    let is_prose = plain_words(held) >= 2;
    let is_spaced = held.starts_with(' ') && held.ends_with(' ');
    (held.starts_with(is_digit) && (is_prose || held.ends_with(char::is_whitespace)))
        || (is_spaced && is_prose)
}

/// The last number of a text, with its percent sign.
fn last_number(text: &str) -> Option<String> {
    let mut found = number::last_in(text)?;
    let end = text.rfind(found)? + found.len();
    // A comma for the decimal point: `2,74`.
    let before = text[..end - found.len()].strip_suffix(',').unwrap_or("");
    let whole = before.bytes().rev().take_while(u8::is_ascii_digit).count();
    if whole > 0 && found.bytes().all(|c| c.is_ascii_digit()) && found.len() != 3 {
        found = &text[before.len() - whole..end];
    }
    let rest = text[end..].trim_start().trim_start_matches('\\');
    let is_percent = rest.starts_with('%');
    Some(if is_percent { format!("{found}%") } else { found.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_found_in_prose() {
        for (response, expected) in [
            ("so $x = \\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
            ("$\\boxed{2}$ and $\\boxed{3}$", "2, 3"),
            ("first $\\boxed{2}$. Final Answer: The final answer is $3$. I hope so.", "$3$"),
            ("Final Answer: it took 8 hours. I hope", "8"),
            ("<think>\\boxed{1}</think> The answer is 2.", "2"),
            ("We find that $x = 4$ and $y \\ge 2$.", "y \\ge 2"),
            ("The answer is (35 + 70 = 105).", "105"),
            ("il coûte 2,74 $ a..", "2,74"),
            ("a total of **25%**.", "25%"),
            ("\\sqrt{2} + 1", "\\sqrt{2} + 1"),
            ("$d = \\frac{90}{n}$. Therefore, there are 12 of the three kinds. Good.", "12"),
            ("Answer \\[ 9 \\]", " 9 "),
            ("She has $100 and spends $40, so $100 - $40 = $60 is left.", "$60"),
            ("The answer is $\\frac{7}{2}$ or $4$.", "\\frac{7}{2}  or  4"),
            ("It is $15.975$ inches. Final answer: $15.975$ inches.", "15.975  inches"),
            ("{\"reasoning\": \"2+2\", \"answer\": \"4 feet\"}", "4 feet"),
            ("2 + 2 = 4\n#### 4", "4"),
            ("so $2 more\nA: 26", "26"),
            ("\\boxed{\\text{Adam loses \\$16.}}", "\\$16"),
        ] {
            assert_eq!(find(response).as_deref(), Some(expected), "{response:?}");
        }
        assert_eq!(find(""), None);
    }
}
