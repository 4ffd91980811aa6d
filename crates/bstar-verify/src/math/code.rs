//! Dates and numbers that are names: `2020-01-02`, `555-1234`. They are no subtractions.

/// A text of digits and the marks between them.
#[derive(PartialEq, Eq)]
pub(super) enum Code {
    /// Year, month and day.
    Day(u32, u32, u32),
    /// Digits that are dialled, or otherwise stand for nothing but themselves.
    Digits(String),
}

/// Reads a text that is a date or a number with hyphens as a whole.
pub(super) fn read(text: &str) -> Option<Code> {
    let text = text.trim().trim_end_matches('.');
    let is_mark = |c: char| matches!(c, '-' | '/' | '(' | ')' | ' ' | '+');
    let is_short = (6..=20).contains(&text.len());
    if !is_short
        || !text.contains(['-', '/'])
        || !text.chars().all(|c| c.is_ascii_digit() || is_mark(c))
    {
        return None;
    }
    day(text).or_else(|| digits(text))
}

fn day(text: &str) -> Option<Code> {
    let mark = if text.contains('-') { '-' } else { '/' };
    let parts: Vec<&str> = text.split(mark).collect();
    let [first, second, third] = parts.as_slice() else { return None };
    let number = |part: &str| part.parse::<u32>().ok();
    let (year, month, date) = match (first.len(), second.len(), third.len()) {
        (4, 2, 2) => (number(first)?, number(second)?, number(third)?),
        (1..=2, 1..=2, 4) => (number(third)?, number(first)?, number(second)?),
        _ => return None,
    };
    let is_date =
        (1000..3000).contains(&year) && (1..=31).contains(&month) && (1..=31).contains(&date);
    (is_date && (month <= 12 || date <= 12)).then_some(Code::Day(year, month, date))
}

/// Groups of digits as telephone and similar numbers have them; `(555) 123-4567` too.
fn digits(text: &str) -> Option<Code> {
    let groups: Vec<&str> =
        text.split(['-', ' ', '(', ')', '+']).filter(|group| !group.is_empty()).collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_dialled = matches!(lengths.as_slice(), [3, 4] | [3, 2 | 3, 4] | [1..=3, 3, 3, 4]);
    let is_hyphened = text.contains('-') && !text.starts_with('-') && !text.contains("- ");
    (is_dialled && is_hyphened).then(|| Code::Digits(groups.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_telephone_numbers_are_seen_and_calculations_are_not() {
        for text in [
            "2020-01-02",
            "1/2/2020",
            "555-1234",
            "1-800-555-1234",
            "(555) 123-4567",
            "123-45-6789",
        ] {
            assert!(read(text).is_some(), "{text:?}");
        }
        for text in [
            "10-5",
            "2020-1",
            "12-5-3",
            "100-20-30",
            "1/2",
            "12/25",
            "-555-1234",
            "555 - 1234",
            "1000-999",
            "2020/4",
        ] {
            assert!(read(text).is_none(), "{text:?}");
        }
    }
}
