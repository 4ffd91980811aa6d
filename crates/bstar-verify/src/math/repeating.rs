//! Decimals without end: `0.\overline{3}`, `0.1(6)` and `0.333…`.

/// What follows the digits of a decimal that does not end.
pub(super) struct Repetition {
    /// Characters that the mark takes.
    pub(super) width: usize,
    /// The digits that repeat; none where an ellipsis does not show them.
    pub(super) block: Option<String>,
}

/// Marks of an ellipsis, longer ones first.
const ELLIPSES: [&str; 6] = ["\\ldots", "\\cdots", "\\dots", "....", "...", "\\ldotp"];

/// Reads the mark of a repetition right behind the digits of a decimal, `places` of which stand
/// behind the point.
pub(super) fn repetition(rest: &[char], digits: &str, places: usize) -> Option<Repetition> {
    over(rest).or_else(|| bracketed(rest)).or_else(|| ellipsis(rest, digits, places))
}

fn starts_with(rest: &[char], mark: &str) -> bool {
    let mut left = rest.iter();
    mark.chars().all(|c| left.next() == Some(&c))
}

/// A line, bar or dot over the digits.
fn over(rest: &[char]) -> Option<Repetition> {
    let mark = ["\\overline", "\\bar", "\\dot"].into_iter().find(|mark| {
        starts_with(rest, mark) && !rest.get(mark.len()).is_some_and(char::is_ascii_alphabetic)
    })?;
    let mut at = mark.len();
    at += rest[at..].iter().take_while(|c| **c == ' ').count();
    let is_braced = rest.get(at) == Some(&'{');
    at += usize::from(is_braced);
    let most = if is_braced { usize::MAX } else { 1 };
    let block: String =
        rest[at.min(rest.len())..].iter().take(most).take_while(|c| c.is_ascii_digit()).collect();
    at += block.len();
    let is_closed = !is_braced || rest.get(at) == Some(&'}');
    let width = at + usize::from(is_braced);
    (is_closed && !block.is_empty()).then_some(Repetition { width, block: Some(block) })
}

/// Digits in round brackets and nothing that would make them a factor.
fn bracketed(rest: &[char]) -> Option<Repetition> {
    if rest.first() != Some(&'(') {
        return None;
    }
    let block: String = rest[1..].iter().take_while(|c| c.is_ascii_digit()).collect();
    let width = block.len() + 2;
    let is_closed = rest.get(width - 1) == Some(&')');
    let is_last =
        rest.get(width).is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '(' | '^' | '!'));
    (is_closed && is_last && !block.is_empty()).then_some(Repetition { width, block: Some(block) })
}

fn ellipsis(rest: &[char], digits: &str, places: usize) -> Option<Repetition> {
    let spaces = rest.iter().take_while(|c| **c == ' ').count();
    let mark = ELLIPSES.into_iter().find(|mark| starts_with(&rest[spaces..], mark))?;
    if places == 0 {
        return None;
    }
    let block = period(&digits[digits.len() - places..]);
    Some(Repetition { width: spaces + mark.len(), block: block.map(str::to_owned) })
}

/// The block that the digits behind the point end with at least twice; a single digit stands three
/// times, or makes up all of them.
fn period(places: &str) -> Option<&str> {
    let is_period = |length: usize| {
        let block = &places[places.len() - length..];
        let times = places
            .as_bytes()
            .rchunks(length)
            .take_while(|chunk| *chunk == block.as_bytes())
            .count();
        let is_all = times * length == places.len();
        times >= if length == 1 && !is_all { 3 } else { 2 }
    };
    let length = (1..=places.len() / 2).take(64).find(|&length| is_period(length))?;
    Some(&places[places.len() - length..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_seen_where_they_stand_often_enough() {
        for (places, expected) in [
            ("333", Some("3")),
            ("33", Some("3")),
            ("1666", Some("6")),
            ("166", None),
            ("1212", Some("12")),
            ("142857142857", Some("142857")),
            ("14159", None),
            ("3", None),
        ] {
            assert_eq!(period(places), expected, "{places:?}");
        }
    }
}
