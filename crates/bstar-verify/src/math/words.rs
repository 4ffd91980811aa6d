//! Answers in words: numbers, dates, and the many ways to say that there is no solution.

use super::expr::{Constant, Expr};

/// Words that begin an answer and name nothing.
const ARTICLES: [&str; 3] = ["a", "an", "the"];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Words of numbers below twenty.
const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];

const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

const ORDINALS: [&str; 13] = [
    "", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
    "tenth", "eleventh", "twelfth",
];

/// Lower-case words of letters and digits, in an order and a spelling of their own.
pub(super) fn canonical(text: &str) -> String {
    let lower = text.to_lowercase().replace(['\'', '’'], "");
    let mut words: Vec<String> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| full_name(word).to_owned())
        .collect();
    if words.len() > 1 && ARTICLES.contains(&words[0].as_str()) {
        words.remove(0);
    }
    if is_date(&words) {
        words.retain(|word| word != "of" && word != "the");
        for word in &mut words {
            let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
            let is_ordinal = ["st", "nd", "rd", "th"].contains(&&word[digits..]);
            if is_ordinal && digits > 0 {
                word.truncate(digits);
            }
        }
        // `June 3` is `3 June`, but which day belongs to which of two months is told by the order.
        if words.iter().filter(|word| MONTHS.contains(&word.as_str())).count() == 1 {
            words.sort();
        }
    }
    let joined = words.concat();
    meaning(&joined).unwrap_or(&joined).to_owned()
}

/// Whether a text is one of the phrases that say that there is no value, or that any will do.
pub(super) fn is_phrase(text: &str) -> bool {
    text.len() <= 60 && ["nosolution", "doesnotexist", "allreals"].contains(&&*canonical(text))
}

/// Whether a month stands beside a number in a text.
pub(super) fn names_a_day(text: &str) -> bool {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    is_date(&words.map(|word| full_name(word).to_owned()).collect::<Vec<_>>())
}

/// A month beside a number: the same in any order.
fn is_date(words: &[String]) -> bool {
    words.len() > 1
        && words.iter().any(|word| MONTHS.contains(&word.as_str()))
        && words.iter().any(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

fn full_name(word: &str) -> &str {
    if !(3..=4).contains(&word.len()) {
        return word;
    }
    let is_short_for = |name: &&&str| name.starts_with(word) && **name != word;
    match word {
        "sept" => "september",
        "tues" => "tuesday",
        "thur" => "thursday",
        "may" => word,
        _ if word.len() == 3 => MONTHS.iter().chain(&DAYS).find(is_short_for).unwrap_or(&word),
        _ => word,
    }
}

/// One phrase for all that mean the same.
fn meaning(joined: &str) -> Option<&'static str> {
    Some(match joined {
        "nosolution"
        | "nosolutions"
        | "norealsolution"
        | "norealsolutions"
        | "emptyset"
        | "none"
        | "thereisnosolution"
        | "therearenosolutions"
        | "nosolutionexists"
        | "nosolutionsexist"
        | "nonexist"
        | "nosuchnumber"
        | "nosuchnumberexists" => "nosolution",
        "dne" | "doesnotexist" | "doesntexist" | "limitdoesnotexist" | "limitdoesntexist"
        | "undefined" | "notdefined" | "isundefined" | "isnotdefined" | "limitisundefined" => {
            "doesnotexist"
        }
        "allreals" | "allrealnumbers" | "realnumbers" | "reals" | "allreal" | "anyrealnumber" => {
            "allreals"
        }
        _ => return None,
    })
}

/// The text of an expression as [`canonical`] has it; of a name as it is written; of a small number
/// as a word.
pub(super) fn spelled(expr: &Expr) -> Option<String> {
    let mut out = String::new();
    match expr {
        Expr::Text(text) => return Some(canonical(text)),
        Expr::Name(name) => out.push_str(&name.to_lowercase()),
        Expr::Constant(Constant::E) => out.push('e'),
        Expr::Constant(Constant::I) => out.push('i'),
        Expr::Product(parts) => {
            for part in parts {
                out.push_str(&spelled(part)?);
            }
        }
        Expr::Number(literal) => {
            let value = usize::try_from(literal.integer()?).ok()?;
            out.push_str(SMALL.get(value)?);
        }
        Expr::Bracketed('{', items, '}') if items.is_empty() => out.push_str("nosolution"),
        Expr::Bracketed('(', items, ')') if items.len() == 1 => return spelled(&items[0]),
        _ => return None,
    }
    Some(out)
}

/// A whole number in words.
pub(super) fn number(text: &str) -> Option<u32> {
    match read(text)? {
        (Spoken::Number(value), "") => Some(value),
        _ => None,
    }
}

/// A number, a fraction or a rank in words, with its unit behind.
pub(super) fn value(text: &str) -> Option<Expr> {
    let (spoken, unit) = read(text)?;
    let (value, unit) = match spoken {
        Spoken::Number(value) => (Expr::small(value), unit.to_owned()),
        Spoken::Fraction(above, below) => {
            let (above, below) = (Box::new(Expr::small(above)), Box::new(Expr::small(below)));
            (Expr::Quotient(above, below), unit.to_owned())
        }
        Spoken::Rank(value) => (Expr::small(value), format!("ordinal {unit}").trim().to_owned()),
    };
    Some(if unit.is_empty() { value } else { Expr::Quantity(Box::new(value), unit) })
}

enum Spoken {
    Number(u32),
    Fraction(u32, u32),
    Rank(u32),
}

/// The number that a text begins with, and the rest.
fn read(text: &str) -> Option<(Spoken, &str)> {
    let (mut total, mut group) = (0_u32, None::<u32>);
    let mut rest = text.trim();
    while let Some((word, after)) = next_word(rest) {
        let word = word.to_ascii_lowercase();
        if let Some(digit) = small(&word) {
            let so_far = group.unwrap_or(0);
            // "twenty five", "one hundred five", but not "five five".
            if group.is_some() && (so_far % 10 != 0 || (digit >= 10 && so_far % 100 != 0)) {
                break;
            }
            group = Some(so_far.checked_add(digit)?);
        } else if word == "hundred" && group.is_some_and(|group| group < 100) {
            group = Some(group? * 100);
        } else if let Some(scale) = scale(&word).filter(|_| group.is_some()) {
            total = total.checked_add(group?.checked_mul(scale)?)?;
            group = Some(0);
        } else if let Some(below) = share(&word) {
            return fraction(group.filter(|_| total == 0), &word, below, after);
        } else {
            break;
        }
        rest = after;
    }
    let value = total.checked_add(group?)?;
    Some((Spoken::Number(value), rest.trim()))
}

fn fraction<'a>(
    above: Option<u32>,
    word: &str,
    below: u32,
    rest: &'a str,
) -> Option<(Spoken, &'a str)> {
    let is_plural = word.ends_with('s') || word == "halves";
    let spoken = match above {
        None if word == "half" => Spoken::Fraction(1, 2),
        None if word == "quarter" => Spoken::Fraction(1, 4),
        None if !is_plural => Spoken::Rank(below),
        Some(1) if !is_plural => Spoken::Fraction(1, below),
        Some(above) if is_plural && above > 1 => Spoken::Fraction(above, below),
        // "twenty-third".
        Some(tens) if !is_plural && tens >= 20 && tens.is_multiple_of(10) && below < 10 => {
            Spoken::Rank(tens + below)
        }
        _ => return None,
    };
    Some((spoken, rest.trim()))
}

/// The word up to a space or a hyphen, and what follows it.
fn next_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '-']);
    let end = text.find([' ', '-']).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn small(word: &str) -> Option<u32> {
    let at = |words: &[&str]| words.iter().position(|known| *known == word);
    let value = at(&SMALL).or_else(|| at(&TENS).filter(|tens| *tens > 1).map(|tens| tens * 10))?;
    u32::try_from(value).ok()
}

fn scale(word: &str) -> Option<u32> {
    match word {
        "thousand" => Some(1000),
        "million" => Some(1_000_000),
        "billion" => Some(1_000_000_000),
        _ => None,
    }
}

/// What the name of a share or a rank says: "thirds" and "third" are 3.
fn share(word: &str) -> Option<u32> {
    match word {
        "half" | "halves" => return Some(2),
        "quarter" | "quarters" => return Some(4),
        _ => {}
    }
    let single = word.strip_suffix('s').unwrap_or(word);
    let at = ORDINALS.iter().position(|known| *known == single).filter(|at| *at > 0)?;
    u32::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_words() {
        for (text, expected) in [
            ("twelve", Some(12)),
            ("twenty-five", Some(25)),
            ("two hundred five", Some(205)),
            ("Three Hundred thousand", Some(300_000)),
            ("one million two hundred thousand six", Some(1_200_006)),
            ("five five", None),
            ("hundred", None),
            ("third", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn phrases_meet() {
        for (left, right) in [
            ("No solutions.", "no real solution"),
            ("October 30th", "30 Oct"),
            ("the circle", "A circle"),
            ("Fri", "friday"),
            ("doesn't exist", "DNE"),
            ("undefined", "does not exist"),
            ("The limit does not exist.", "DNE"),
        ] {
            assert_eq!(canonical(left), canonical(right), "{left:?} {right:?}");
        }
        assert_ne!(canonical("undefined"), canonical("no solution"));
        assert_ne!(canonical("a"), canonical("the"));
        assert_ne!(canonical("October 30"), canonical("October 31"));
    }
}
