//! Grids of temperatures and thresholds, exact in decimal (spec §1.7, 9).
//!
//! `"0.5:1.2:0.1"` is every step from 0.5 to 1.2, both included, computed from integers so that 0.7
//! is the float nearest to 0.7. `"-1,0,0.5"` is a list. `"-1:1:0.01:accumulate"` adds the step again
//! and again in binary floating point, as the authors' code does: 200 values, the last one
//! 0.9900000000000014; it exists for the preset `official-code` only.
//!
//! In a config a grid is such a text, one number, or an array of numbers; it is always written out
//! as text.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// More values than this in one grid are a mistake.
const MOST_VALUES: usize = 10_000;
/// Digits after the point that a grid may have.
const MOST_DECIMALS: usize = 9;

/// An ascending grid, with the text it was written as.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "String")]
pub struct Grid {
    text: String,
    values: Vec<f64>,
}

/// Why a text is not a grid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GridError {
    /// A part that is not a plain decimal number.
    #[error(
        "`{part}` in the grid `{text}` is not a decimal number such as 0.5 (at most 9 decimals)"
    )]
    NotDecimal {
        /// The whole text.
        text: String,
        /// The part.
        part: String,
    },
    /// Wrong number of `:`, or an unknown fourth part.
    #[error("the grid `{text}` is neither `min:max:step` nor a list such as `-1,0,0.5`")]
    Form {
        /// The whole text.
        text: String,
    },
    /// Bounds or step that give no ascending values.
    #[error("the grid `{text}` needs min ≤ max and a step above 0")]
    Empty {
        /// The whole text.
        text: String,
    },
    /// Too many values.
    #[error("the grid `{text}` has more than 10000 values")]
    TooLong {
        /// The whole text.
        text: String,
    },
}

impl Grid {
    /// The values, ascending, without repeats.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

impl FromStr for Grid {
    type Err = GridError;

    fn from_str(text: &str) -> Result<Self, GridError> {
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let values = match parts.as_slice() {
            [list] => listed(text, list)?,
            [min, max, step] => stepped(text, min, max, step)?,
            [min, max, step, "accumulate"] => accumulated(text, min, max, step)?,
            _ => return Err(GridError::Form { text: text.into() }),
        };
        Ok(Self { text: text.into(), values })
    }
}

impl<'de> Deserialize<'de> for Grid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GridVisitor)
    }
}

/// Numbers become the text that one would write, so that there is one way to read a grid.
struct GridVisitor;

impl<'de> Visitor<'de> for GridVisitor {
    type Value = Grid;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("a grid: \"min:max:step\", \"0.5,0.8\", a number or an array of numbers")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Grid, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Grid, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Grid, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Grid, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Grid, A::Error> {
        let mut numbers: Vec<String> = Vec::new();
        while let Some(value) = sequence.next_element::<f64>()? {
            numbers.push(value.to_string());
        }
        if numbers.is_empty() {
            return Err(de::Error::invalid_length(0, &"at least one number"));
        }
        self.visit_str(&numbers.join(","))
    }
}

impl JsonSchema for Grid {
    fn schema_name() -> Cow<'static, str> {
        "Grid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A grid is written as `\"min:max:step\"` (both ends included), as a list \
                `\"0.5,0.8,1\"` or `[0.5, 0.8, 1]`, or as one number. Numbers are decimal, with at \
                most 9 digits after the point; a grid holds at most 10000 of them.",
            "oneOf": [
                { "type": "string" },
                { "type": "number" },
                { "type": "array", "items": { "type": "number" }, "minItems": 1 },
            ],
        })
    }
}

impl From<Grid> for String {
    fn from(grid: Grid) -> Self {
        grid.text
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn listed(text: &str, list: &str) -> Result<Vec<f64>, GridError> {
    let parsed: Result<Vec<f64>, GridError> =
        list.split(',').map(|part| Ok(decimal(text, part.trim())?.value())).collect();
    let mut values = parsed?;
    if values.len() > MOST_VALUES {
        return Err(GridError::TooLong { text: text.into() });
    }
    values.sort_by(f64::total_cmp);
    values.dedup();
    Ok(values)
}

fn stepped(text: &str, min: &str, max: &str, step: &str) -> Result<Vec<f64>, GridError> {
    let parts = [decimal(text, min)?, decimal(text, max)?, decimal(text, step)?];
    let decimals = parts.iter().map(|part| part.decimals).max().unwrap_or(0);
    let [min, max, step] = parts.map(|part| part.units(decimals));
    if step <= 0 || min > max {
        return Err(GridError::Empty { text: text.into() });
    }
    let count = usize::try_from((max - min) / step).unwrap_or(usize::MAX).saturating_add(1);
    if count > MOST_VALUES {
        return Err(GridError::TooLong { text: text.into() });
    }
    let steps = (0..count).zip((0..).map(|index| min + index * step));
    Ok(steps.map(|(_, units)| Decimal { units, decimals }.value()).collect())
}

fn accumulated(text: &str, min: &str, max: &str, step: &str) -> Result<Vec<f64>, GridError> {
    let [min, max, step] = [decimal(text, min)?, decimal(text, max)?, decimal(text, step)?];
    let (mut value, max, step) = (min.value(), max.value(), step.value());
    if step <= 0.0 || value > max {
        return Err(GridError::Empty { text: text.into() });
    }
    let mut values = Vec::new();
    while value <= max {
        values.push(value);
        value += step;
        if values.len() > MOST_VALUES {
            return Err(GridError::TooLong { text: text.into() });
        }
    }
    Ok(values)
}

/// `units / 10^decimals`.
#[derive(Clone, Copy)]
struct Decimal {
    units: i64,
    decimals: u32,
}

impl Decimal {
    fn value(self) -> f64 {
        self.units as f64 / 10_i64.pow(self.decimals) as f64
    }

    fn units(self, decimals: u32) -> i64 {
        self.units * 10_i64.pow(decimals - self.decimals)
    }
}

fn decimal(text: &str, part: &str) -> Result<Decimal, GridError> {
    let error = || GridError::NotDecimal { text: text.into(), part: part.into() };
    let (negative, digits) = match part.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, part.strip_prefix('+').unwrap_or(part)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = whole.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit());
    let too_long = fraction.len() > MOST_DECIMALS || whole.len() > 6;
    if whole.is_empty() && fraction.is_empty() || !all_digits || too_long {
        return Err(error());
    }
    let units: i64 = format!("{whole}{fraction}").parse().map_err(|_| error())?;
    Ok(Decimal {
        units: if negative { -units } else { units },
        decimals: u32::try_from(fraction.len()).map_err(|_| error())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stepped_grid_has_the_floats_that_one_would_write() {
        let grid: Grid = "-1:1:0.1".parse().expect("a grid");
        assert_eq!(grid.values().len(), 21);
        assert_eq!(grid.values()[10], 0.0);
        assert_eq!(grid.values()[12], 0.2);
        assert_eq!(grid.values()[17], 0.7);
        let fine: Grid = "0.5:1.2:0.05".parse().expect("a grid");
        assert_eq!(fine.values().len(), 15);
        assert_eq!(fine.values()[1], 0.55);
    }

    #[test]
    fn an_accumulated_grid_drifts_as_the_authors_code_does() {
        let grid: Grid = "-1:1:0.01:accumulate".parse().expect("a grid");
        assert_eq!(grid.values().len(), 200);
        assert_eq!(grid.values()[199], 0.990_000_000_000_001_4);
        assert_eq!(grid.values()[120], 0.200_000_000_000_000_8);
    }

    #[test]
    fn a_list_is_sorted_and_loses_repeats() {
        let grid: Grid = "0.5, -1,0,0.50".parse().expect("a grid");
        assert_eq!(grid.values(), [-1.0, 0.0, 0.5]);
        assert_eq!(grid.to_string(), "0.5, -1,0,0.50");
    }

    #[test]
    fn a_grid_is_also_a_number_or_an_array_and_is_written_as_text() {
        for (json, text) in [
            ("0.8", "0.8"),
            ("1", "1"),
            ("-1", "-1"),
            ("[0.5, 0.8, 1]", "0.5,0.8,1"),
            ("[1]", "1"),
            ("\"0.5:0.7:0.1\"", "0.5:0.7:0.1"),
        ] {
            let grid: Grid = serde_json::from_str(json).expect(json);
            assert_eq!(grid, text.parse().expect(text), "{json}");
            assert_eq!(serde_json::to_value(&grid).expect("JSON"), text);
        }
    }

    #[test]
    fn what_is_not_a_number_or_text_is_no_grid() {
        for (json, part) in [
            ("[]", "at least one number"),
            ("[\"0.5\"]", "f64"),
            ("true", "a grid"),
            ("1e-12", "not a decimal"),
            ("1e12", "not a decimal"),
        ] {
            let error = serde_json::from_str::<Grid>(json).expect_err(json).to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn what_is_not_a_grid_is_refused_by_name() {
        for (text, part) in [
            ("a", "not a decimal"),
            ("", "not a decimal"),
            ("1:0:0.1", "min ≤ max"),
            ("0:1:0", "step above 0"),
            ("0:1", "neither"),
            ("0:1:0.1:x", "neither"),
            ("0:1000:0.0001", "10000 values"),
            ("1e3", "not a decimal"),
            ("nan", "not a decimal"),
            ("inf", "not a decimal"),
            ("1,".repeat(10_001).trim_end_matches(','), "10000 values"),
        ] {
            let error = text.parse::<Grid>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
