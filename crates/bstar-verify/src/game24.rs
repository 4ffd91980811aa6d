//! The game of 24: is this expression a solution?
//!
//! A solution uses each of the given numbers exactly once, with `+`, `-`, `*`, `/` and brackets, and
//! comes to 24. Arithmetic is exact, so `8 / (3 - 8 / 3)` is 24. Only the answer counts, not the
//! steps before it: what is in the last box, behind the last mark (`Answer:`, `The answer is`, `####`),
//! or on the last line.

use crate::extraction;
use crate::verifier::Sameness;

/// What an expression has to come to.
const TARGET: Fraction = Fraction { above: 24, below: 1 };

/// Characters of an answer that are read.
const MAX_CHARS: usize = 1000;

/// Brackets and signs inside one another.
const MAX_DEPTH: usize = 50;

/// Why an answer is a solution, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is a solution.
    Solution,
    /// It comes to another value.
    OtherValue,
    /// It does not use each given number exactly once.
    OtherNumbers,
    /// It divides by zero.
    DivisionByZero,
    /// The response gives no expression, or says that there is none.
    NoAnswer,
    /// The answer is not an expression of this game.
    CannotParse,
}

impl Reason {
    /// The reason in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Solution => "a solution",
            Self::OtherValue => "comes to another value",
            Self::OtherNumbers => "uses other numbers",
            Self::DivisionByZero => "divides by zero",
            Self::NoAnswer => "no answer found",
            Self::CannotParse => "cannot parse",
        }
    }

    /// Same where it is a solution; cannot tell where there is no answer.
    pub fn sameness(self) -> Sameness {
        match self {
            Self::Solution => Sameness::Same,
            // The grammar of the game is closed: what it does not hold is no solution.
            Self::OtherValue | Self::OtherNumbers | Self::DivisionByZero | Self::CannotParse => {
                Sameness::Different
            }
            Self::NoAnswer => Sameness::CannotTell,
        }
    }
}

/// A verdict with the answer that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The answer as it stands in the response; none where there is none.
    pub extracted: Option<String>,
    /// Why.
    pub reason: Reason,
}

/// Whether the answer of a response is a solution for the given numbers.
///
/// ```
/// use bstar_verify::game24::{Reason, check};
///
/// let checked = check("Answer: (10 - 4) * (13 - 9) = 24", &[4, 9, 10, 13]);
/// assert_eq!(checked.reason, Reason::Solution);
/// ```
pub fn check(response: &str, numbers: &[i64]) -> Checked {
    let Some(answer) = answer(response) else {
        return Checked { extracted: None, reason: Reason::NoAnswer };
    };
    let reason = match expression(answer) {
        Some(found) => judge(found, numbers),
        None if is_prose(answer) => return Checked { extracted: None, reason: Reason::NoAnswer },
        None => Reason::CannotParse,
    };
    Checked { extracted: Some(answer.to_owned()), reason }
}

/// Whether an answer has no number, or words: "not possible".
fn is_prose(answer: &str) -> bool {
    let is_word = |word: &str| word.len() > 2 && word.bytes().all(|c| c.is_ascii_alphabetic());
    !answer.contains(|c: char| c.is_ascii_digit()) || answer.split_whitespace().any(is_word)
}

/// What is in the last box, behind the last mark, or on the last line.
fn answer(response: &str) -> Option<&str> {
    let tail = extraction::tail(response);
    if let Some(boxed) = extraction::last_boxed(tail) {
        return Some(boxed.trim());
    }
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let marked = last_marked(tail).map(|rest| {
        let rest = rest.trim_start_matches([':', '*', ' ', '\n', '\r']);
        rest.lines().next().unwrap_or_default().trim()
    });
    Some(marked.unwrap_or(without_conclusion(line))).filter(|answer| !answer.is_empty())
}

/// What stands before an answer, in any case.
const MARKS: [&[u8]; 6] =
    [b"answer:", b"answer is", b"solution:", b"solution is", b"expression is", b"####"];

/// The text behind the last mark.
fn last_marked(text: &str) -> Option<&str> {
    let last = |mark: &&[u8]| {
        let found =
            text.as_bytes().windows(mark.len()).rposition(|w| w.eq_ignore_ascii_case(mark))?;
        Some(found + mark.len())
    };
    text.get(MARKS.iter().filter_map(last).max()?..)
}

/// A line without the word that it concludes with: `Thus, (7 - 1) * 4 = 24`.
fn without_conclusion(line: &str) -> &str {
    const WORDS: [&str; 5] = ["thus", "therefore", "hence", "so", "finally"];
    match line.split_once([' ', ',']) {
        Some((first, rest)) if WORDS.contains(&first.to_ascii_lowercase().as_str()) => {
            rest.trim_start_matches([',', ':', ' '])
        }
        _ => line,
    }
}

/// An exact value, in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fraction {
    above: i128,
    below: i128,
}

impl Fraction {
    fn new(above: i128, below: i128) -> Option<Self> {
        if below == 0 {
            return None;
        }
        let divisor = divisor(above.unsigned_abs(), below.unsigned_abs());
        let divisor = i128::try_from(divisor).ok().filter(|divisor| *divisor != 0)?;
        let sign = below.signum();
        Some(Self { above: sign * above / divisor, below: sign * below / divisor })
    }

    fn plus(self, other: Self) -> Option<Self> {
        let left = self.above.checked_mul(other.below)?;
        let right = other.above.checked_mul(self.below)?;
        Self::new(left.checked_add(right)?, self.below.checked_mul(other.below)?)
    }

    fn times(self, other: Self) -> Option<Self> {
        Self::new(self.above.checked_mul(other.above)?, self.below.checked_mul(other.below)?)
    }
}

fn divisor(mut left: u128, mut right: u128) -> u128 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

/// What an expression comes to and which numbers it uses.
struct Found {
    /// None where it divides by zero.
    value: Option<Fraction>,
    used: Vec<i64>,
}

fn judge(mut found: Found, numbers: &[i64]) -> Reason {
    let mut given = numbers.to_vec();
    given.sort_unstable();
    found.used.sort_unstable();
    match found.value {
        _ if found.used != given => Reason::OtherNumbers,
        None => Reason::DivisionByZero,
        Some(TARGET) => Reason::Solution,
        Some(_) => Reason::OtherValue,
    }
}

/// The first side of an equation that is more than a number.
fn expression(answer: &str) -> Option<Found> {
    if answer.len() > MAX_CHARS {
        return None;
    }
    let plain = plain(answer);
    let sides: Vec<&str> = plain.split('=').map(str::trim).collect();
    let is_number = |side: &&str| side.bytes().all(|c| c.is_ascii_digit());
    let side = sides.iter().find(|side| !is_number(side)).or(sides.first())?;
    let mut reader =
        Reader { bytes: side.as_bytes(), at: 0, depth: 0, used: Vec::new(), zero: false };
    let value = reader.sum()?;
    reader.skip_spaces();
    let value = (!reader.zero).then_some(value);
    (reader.at == reader.bytes.len()).then_some(Found { value, used: reader.used })
}

/// With ASCII signs for those of LaTeX and Unicode; `\frac{a}{b}` becomes `((a)/(b))`.
fn plain(answer: &str) -> String {
    const SIGNS: [(&str, &str); 12] = [
        ("\\left", ""),
        ("\\right", ""),
        ("\\times", "*"),
        ("\\cdot", "*"),
        ("\\div", "/"),
        ("\\dfrac", "\\frac"),
        ("\\(", ""),
        ("\\)", ""),
        ("\\[", ""),
        ("\\]", ""),
        ("\\,", " "),
        ("\\!", ""),
    ];
    let text = SIGNS.iter().fold(answer.to_owned(), |text, (from, to)| text.replace(from, to));
    without_fractions(&text, MAX_DEPTH)
        .chars()
        .filter(|c| !matches!(c, '$' | '`'))
        .map(|c| match c {
            '×' | '·' | '∗' | '⋅' | 'x' => '*',
            '÷' | '∕' => '/',
            '−' | '–' => '-',
            '[' | '{' => '(',
            ']' | '}' => ')',
            other => other,
        })
        .collect::<String>()
        .trim_matches(|c: char| c == '*' || c == '.' || c.is_whitespace())
        .to_owned()
}

/// Fractions with a slash, to this depth.
fn without_fractions(text: &str, depth: usize) -> String {
    let Some((before, rest)) = text.split_once("\\frac").filter(|_| depth > 0) else {
        return text.to_owned();
    };
    let groups = group(rest).and_then(|bar| Some((bar, bar + group(&rest[bar..])?)));
    let Some((bar, end)) = groups else { return text.to_owned() };
    let inner = |part: &str| without_fractions(part, depth - 1);
    let (above, below) = (inner(&rest[..bar]), inner(&rest[bar..end]));
    format!("{before}({above}/{below}){}", inner(&rest[end..]))
}

/// Where the first balanced group of braces ends.
fn group(text: &str) -> Option<usize> {
    if !text.starts_with('{') {
        return None;
    }
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at + 1),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A reader of sums, products and brackets.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    used: Vec<i64>,
    /// Whether something was divided by zero.
    zero: bool,
}

impl Reader<'_> {
    fn skip_spaces(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_spaces();
        self.bytes.get(self.at).copied()
    }

    fn sum(&mut self) -> Option<Fraction> {
        let mut total = self.product()?;
        while let Some(sign @ (b'+' | b'-')) = self.peek() {
            self.at += 1;
            let part = self.product()?;
            let sign = if sign == b'-' { -1 } else { 1 };
            total = total.plus(part.times(Fraction { above: sign, below: 1 })?)?;
        }
        Some(total)
    }

    fn product(&mut self) -> Option<Fraction> {
        let mut total = self.value()?;
        loop {
            match self.peek() {
                Some(b'*') => {
                    self.at += 1;
                    total = total.times(self.value()?)?;
                }
                Some(b'/') => {
                    self.at += 1;
                    let by = self.value()?;
                    self.zero |= by.above == 0;
                    // What a division by zero comes to does not matter any more.
                    total = Fraction::new(by.below, by.above)
                        .map_or(Some(total), |inverse| total.times(inverse))?;
                }
                Some(b'(') => total = total.times(self.value()?)?,
                _ => return Some(total),
            }
        }
    }

    fn value(&mut self) -> Option<Fraction> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = match self.peek()? {
            b'(' => {
                self.at += 1;
                let inner = self.sum()?;
                if self.peek() != Some(b')') {
                    return None;
                }
                self.at += 1;
                inner
            }
            b'-' => {
                self.at += 1;
                self.value()?.times(Fraction { above: -1, below: 1 })?
            }
            b'0'..=b'9' => self.number()?,
            _ => return None,
        };
        self.depth -= 1;
        Some(value)
    }

    fn number(&mut self) -> Option<Fraction> {
        let rest = &self.bytes[self.at..];
        let width = rest.iter().take_while(|c| c.is_ascii_digit()).count();
        // A decimal is no number of this game.
        if rest.get(width) == Some(&b'.') && rest.get(width + 1).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let digits = std::str::from_utf8(&rest[..width]).ok()?;
        let number: i64 = digits.parse().ok()?;
        self.at += width;
        self.used.push(number);
        Some(Fraction { above: i128::from(number), below: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(response: &str, numbers: &[i64]) -> Reason {
        check(response, numbers).reason
    }

    #[test]
    fn solutions_in_any_dress_are_found() {
        for (response, numbers) in [
            ("(10 - 4) * (13 - 9) = 24", [4, 9, 10, 13]),
            ("Steps:\n13 - 9 = 4\nAnswer: (10 - 4) × (13 − 9) = 24", [4, 9, 10, 13]),
            ("Answer: 8 ÷ (3 − 8 ÷ 3)", [3, 3, 8, 8]),
            ("Answer: $\\frac{8}{3 - \\frac{8}{3}} = 24$", [3, 3, 8, 8]),
            ("so \\boxed{8 \\div \\left(3 - \\dfrac{8}{3}\\right)}", [3, 3, 8, 8]),
            ("**Answer:** (7 - 1)(4)(1)", [1, 1, 4, 7]),
            ("Answer: 24 = 4 * [7 - 1] * 1", [1, 1, 4, 7]),
            ("answer: 6 * 4 * 1 * 1 = 24 * 1 = 24.", [1, 1, 4, 6]),
            ("The answer is (10 - 4) * (13 - 9) = 24.", [4, 9, 10, 13]),
            ("So the final answer is: (10-4)*(13-9)=24. I hope it helps.", [4, 9, 10, 13]),
            ("13 - 9 = 4\nThe solution is $(10-4)\\times(13-9)=24$.\nDone", [4, 9, 10, 13]),
            ("Thus, (10-4)*(13-9)=24.", [4, 9, 10, 13]),
            ("#### (10-4)*(13-9)", [4, 9, 10, 13]),
        ] {
            assert_eq!(reason(response, &numbers), Reason::Solution, "{response:?}");
        }
    }

    #[test]
    fn other_answers_are_told_apart() {
        for (response, expected) in [
            ("Answer: (10 - 4) * (13 - 9) * 1 = 24", Reason::OtherNumbers),
            ("Answer: 6 * 4 = 24", Reason::OtherNumbers),
            ("Answer: 4 + 9 + 10 + 13 = 24", Reason::OtherValue),
            ("Answer: 13 / (9 - 10 + 4 - 3)", Reason::OtherNumbers),
            ("Answer: 10 / (13 - 9 - 4)", Reason::DivisionByZero),
            ("Answer: 24", Reason::OtherNumbers),
            ("Answer: 4 ^ 9 + 10 + 13", Reason::CannotParse),
            ("Answer: (10 - 4 * (13 - 9)", Reason::CannotParse),
            ("Answer: 10.4 + 13 + 9", Reason::CannotParse),
            ("Answer: not possible", Reason::NoAnswer),
            ("The answer is not (10 - 4) * (13 - 9) = 24.", Reason::NoAnswer),
            ("The answer is 24.", Reason::OtherNumbers),
            ("The answer is 10 + 4 + 13 + 9 = 24.", Reason::OtherValue),
            ("", Reason::NoAnswer),
        ] {
            assert_eq!(reason(response, &[4, 9, 10, 13]), expected, "{response:?}");
        }
        assert_eq!(Reason::OtherValue.sameness(), Sameness::Different);
        assert_eq!(Reason::NoAnswer.sameness(), Sameness::CannotTell);
    }

    #[test]
    fn deep_and_large_expressions_are_refused() {
        for (response, expected) in [
            ("(".repeat(900), Reason::NoAnswer),
            // No solution of a few numbers is so deep or so large.
            ("-".repeat(900) + "1", Reason::CannotParse),
            ("9".repeat(30) + "*9", Reason::CannotParse),
        ] {
            assert_eq!(reason(&response, &[9, 9]), expected);
        }
        let product = vec!["9223372036854775807"; 40].join("*");
        assert_eq!(reason(&product, &[1]), Reason::CannotParse);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_check(text in r"(\PC|[0-9()+*/=-]|\\frac|\{|\}| |Answer:){0,40}") {
            let _ = check(&text, &[1, 2, 3, 4]);
        }
    }
}
