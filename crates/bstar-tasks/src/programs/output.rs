//! Whether what a program printed or returned is what was expected.
//!
//! Printed text is compared word by word, so white space never matters; a number may be written
//! differently, and be off by a relative 10^-5 where a fraction is expected (APPS compares floats
//! so). Results of calls are compared as Python compares them.

use serde_json::Value;
use std::collections::BTreeSet;

/// Relative and absolute slack of printed fractions.
const RELATIVE: f64 = 1e-5;
const ABSOLUTE: f64 = 1e-8;

/// Whole numbers below this are exact as floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether printed text is the expected text.
pub(super) fn same_text(found: &str, expected: &str) -> bool {
    let mut found = found.split_whitespace();
    let mut expected = expected.split_whitespace();
    loop {
        match (found.next(), expected.next()) {
            (None, None) => return true,
            (Some(found), Some(expected)) if same_word(found, expected) => {}
            _ => return false,
        }
    }
}

fn same_word(found: &str, expected: &str) -> bool {
    if found == expected {
        return true;
    }
    let is_fraction = |word: &str| word.contains(['.', 'e', 'E']);
    let number = |word: &str| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        word.parse::<f64>().ok().filter(|number| is_number && number.is_finite())
    };
    match (number(found), number(expected)) {
        (Some(a), Some(b)) if is_fraction(expected) => {
            (a - b).abs() <= ABSOLUTE + RELATIVE * b.abs()
        }
        (Some(a), Some(b)) if is_fraction(found) => a == b && b.abs() < EXACT,
        _ => false,
    }
}

/// Whether the result of a call is the expected one. Rows of APPS wrap many results into a list of
/// one, so the only element of the expected list counts too.
pub(super) fn same_result(found: &Value, expected: &Value) -> bool {
    same_value(found, expected)
        || matches!(expected, Value::Array(only) if only.len() == 1 && same_value(found, &only[0]))
}

/// Whether a value as the driver sends it equals one of the data. Tuples are lists, as they are in
/// JSON; keys of dictionaries are compared by their text, because JSON has no others.
fn same_value(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Null, Value::Null) => true,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(tagged), expected) => {
            let Some((tag, held)) = tagged.iter().next() else { return false };
            match (tag.as_str(), held, expected) {
                ("tuple" | "list", held, Value::Array(_)) => same_value(held, expected),
                ("dict", Value::Array(pairs), Value::Object(fields)) => {
                    let keys: BTreeSet<_> = pairs.iter().filter_map(|p| key_text(&p[0])).collect();
                    pairs.len() == fields.len()
                        && keys.len() == fields.len()
                        && pairs.iter().all(|pair| {
                            key_text(&pair[0])
                                .and_then(|key| fields.get(&key))
                                .is_some_and(|expected| same_value(&pair[1], expected))
                        })
                }
                ("int", Value::String(hex), Value::Number(number)) if number.is_f64() => {
                    number.as_f64() == rounded(hex)
                }
                ("int", Value::String(hex), Value::Number(number)) => {
                    same_big_integer(hex, &number.to_string())
                }
                _ => false,
            }
        }
        (found, expected) => match (number(found), number(expected)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

/// Python's `True` is 1, and 1 is 1.0.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

fn key_text(key: &Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) => Some(key.to_string()),
        _ => None,
    }
}

/// Whether a hexadecimal integer of any size is the decimal one, digit by digit.
fn same_big_integer(hex: &str, decimal: &str) -> bool {
    decimal_of(hex).is_some_and(|digits| digits == decimal)
}

/// A hexadecimal integer as a float: integers of more than 64 bits are floats in the data as read.
fn rounded(hex: &str) -> Option<f64> {
    decimal_of(hex)?.parse().ok()
}

/// A hexadecimal integer, such as `-0xff`, in decimal digits.
fn decimal_of(hex: &str) -> Option<String> {
    let (sign, hex) = hex.strip_prefix('-').map_or(("", hex), |rest| ("-", rest));
    let hex = hex.strip_prefix("0x").filter(|hex| hex.len() <= MAX_DIGITS)?;
    // Lowest digit first.
    let mut digits: Vec<u8> = vec![0];
    for digit in hex.chars() {
        let mut carry = digit.to_digit(16)?;
        for place in &mut digits {
            let value = u32::from(*place) * 16 + carry;
            *place = (value % 10) as u8;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    let digits = digits.iter().rev().map(|digit| char::from(*digit + b'0'));
    Some(sign.chars().chain(digits).collect())
}

/// Hexadecimal digits of an integer that is compared; longer ones are not in any data.
const MAX_DIGITS: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn white_space_and_the_form_of_fractions_do_not_matter() {
        for (found, expected, same) in [
            ("1 2\n3", "1 2 3\n", true),
            ("", " \n", true),
            ("0.50000", "0.5", true),
            ("1.0", "1", true),
            ("0.3333333", "0.33333333333", true),
            ("1e3", "1000", true),
            ("1000000", "1000001", false),
            ("1000000.0", "1000001", false),
            ("100000000000000000001", "100000000000000000002", false),
            ("Yes", "yes", false),
            ("1 2", "1 2 3", false),
            ("1 2 3", "1 2", false),
            ("nan", "nan", true),
            ("inf", "1e400", false),
            ("0.51", "0.5", false),
        ] {
            assert_eq!(same_text(found, expected), same, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn results_are_compared_as_python_does() {
        for (found, expected, same) in [
            (json!(3), json!(3), true),
            (json!(3), json!(3.0), true),
            (json!(true), json!(1), true),
            (json!(3), json!([3]), true),
            (json!([3]), json!([3]), true),
            (json!([3]), json!(3), false),
            (json!(3), json!([3, 3]), false),
            (json!({"tuple": [1, {"tuple": [2]}]}), json!([1, [2]]), true),
            (json!({"set": [1]}), json!([1]), false),
            (json!({"dict": [[1, "a"], ["b", null]]}), json!({"1": "a", "b": null}), true),
            (json!({"dict": [[1, "a"]]}), json!({"1": "a", "b": null}), false),
            (json!({"object": 0}), json!(null), false),
            (json!("3"), json!(3), false),
            (json!(null), json!(false), false),
            (json!({}), json!({}), false),
        ] {
            assert_eq!(same_result(&found, &expected), same, "{found} {expected}");
        }
    }

    #[test]
    fn large_integers_are_compared_exactly() {
        let large: Value = serde_json::from_str("18446744073709551615").unwrap();
        assert!(same_result(&json!({"int": "0xffffffffffffffff"}), &large));
        assert!(!same_result(&json!({"int": "0xfffffffffffffffe"}), &large));
        assert!(!same_result(&json!({"int": "-0xffffffffffffffff"}), &large));
        let larger: Value = serde_json::from_str("100000000000000000000").unwrap();
        assert!(same_result(&json!({"int": "0x56bc75e2d63100000"}), &larger));
        assert!(!same_result(&json!({"int": "0x56bc75e2d63200000"}), &larger));
        // 28! needs more bits than a float has.
        let factorial: Value = serde_json::from_str("304888344611713860501504000000").unwrap();
        assert!(same_result(&json!({"int": "0x3d925ba47ad2cd59dae000000"}), &factorial));
        let twice = json!({"dict": [["a", 1], ["a", 1]]});
        assert!(!same_result(&twice, &json!({"a": 1, "b": 2})));
        assert!(same_big_integer("-0x10", "-16") && !same_big_integer("0x1g", "17"));
    }
}
