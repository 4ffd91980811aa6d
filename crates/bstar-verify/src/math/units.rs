//! Units of measure: when two ways of writing one are the same.

use super::expr::Expr;

/// Whether a short word right after a value is a unit and not names.
pub(super) fn is_short_unit(word: &str) -> bool {
    matches!(
        word,
        "cm" | "mm"
            | "km"
            | "kg"
            | "mg"
            | "ft"
            | "mi"
            | "lb"
            | "lbs"
            | "oz"
            | "ml"
            | "mph"
            | "hr"
            | "hrs"
            | "min"
            | "sec"
            | "in"
            | "yd"
            | "pct"
            | "sq"
            | "gal"
            | "mL"
            | "kb"
            | "Mb"
            | "Gb"
            | "KB"
            | "MB"
            | "GB"
            | "TB"
            | "kW"
            | "Hz"
            | "qt"
            | "tsp"
            | "rpm"
            | "bpm"
    )
}

/// Words that fill a sentence and name nothing.
const FILLERS: [&str; 12] = [
    "the",
    "a",
    "an",
    "of",
    "in",
    "total",
    "about",
    "different",
    "possible",
    "each",
    "for",
    "more",
];

/// A unit in one way of writing: no punctuation, full singular names, powers as digits.
pub(super) fn canonical(unit: &str) -> String {
    let spaced: String = unit
        .to_lowercase()
        .replace("p.m.", "pm")
        .replace("a.m.", "am")
        .replace("m/s", "m per s")
        .chars()
        .map(|c| if c.is_alphanumeric() || "$€£¥/".contains(c) { c } else { ' ' })
        .collect();
    let spaced = spaced.replace('/', " per ") + " ";
    let spaced = spaced.replace("per cent ", "percent ");
    let mut parts = vec![Part::default()];
    let mut words = spaced.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let part = parts.last_mut().expect("never empty");
        match word {
            // Inches, unless more than a power follows: `5 in`, `5 in^2`, but `5 in total`.
            "in" if part.words.is_empty() && words.peek().is_none_or(|next| is_power(next)) => {
                part.words.push("inch".into());
            }
            "per" => parts.push(Part::default()),
            "mph" => {
                part.words.push("mile".into());
                parts.push(Part { words: vec!["hour".into()], power: None });
            }
            "kph" | "kmh" => {
                part.words.push("kilometer".into());
                parts.push(Part { words: vec!["hour".into()], power: None });
            }
            "square" | "sq" | "squared" | "2" => part.power = Some("2"),
            "cubic" | "cu" | "cubed" | "3" => part.power = Some("3"),
            filler if FILLERS.contains(&filler) => {}
            word => part.words.push(full_name(word)),
        }
    }
    let parts: Vec<String> = parts.into_iter().map(Part::joined).collect();
    parts.join(" per ").trim().to_owned()
}

fn is_power(word: &str) -> bool {
    matches!(word, "squared" | "cubed" | "2" | "3" | "per")
}

/// The unit of a temperature whose scale stands behind a degree sign.
pub(super) fn temperature_scale(text: &str) -> Option<&'static str> {
    match text.trim_end_matches('.').to_ascii_lowercase().as_str() {
        "f" | "fahrenheit" => Some("degrees Fahrenheit"),
        "c" | "celsius" | "centigrade" => Some("degrees Celsius"),
        _ => None,
    }
}

/// What stands before, between or behind "per".
#[derive(Default)]
struct Part {
    words: Vec<String>,
    power: Option<&'static str>,
}

impl Part {
    fn joined(mut self) -> String {
        self.words.extend(self.power.map(str::to_owned));
        self.words.join(" ")
    }
}

/// The factor that the first word behind a number stands for, as in `3 million dollars`, and the
/// rest.
pub(super) fn magnitude(unit: &str) -> (Option<Expr>, &str) {
    let (first, rest) = unit.split_once(' ').unwrap_or((unit, ""));
    let factor = match first.to_lowercase().as_str() {
        "dozen" => 12,
        "hundred" => 100,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => {
            let thousand = Expr::small(1000);
            return (Some(Expr::Product(vec![Expr::small(1_000_000_000), thousand])), rest);
        }
        _ => return (None, unit),
    };
    (Some(Expr::small(factor)), rest)
}

/// Whether a text in upright letters is a unit of measure.
pub(super) fn is_unit(text: &str) -> bool {
    const KNOWN: [&str; 24] = [
        "centimeter",
        "millimeter",
        "meter",
        "kilometer",
        "foot",
        "inch",
        "mile",
        "kilogram",
        "gram",
        "pound",
        "ounce",
        "milliliter",
        "liter",
        "hour",
        "minute",
        "second",
        "yard",
        "gallon",
        "degree",
        "percent",
        "unit",
        "pm",
        "am",
        "ton",
    ];
    let name = canonical(text);
    let mut words = name.split(' ').filter(|word| !matches!(*word, "per" | "2" | "3")).peekable();
    words.peek().is_some() && words.all(|word| KNOWN.contains(&word))
}

fn full_name(word: &str) -> String {
    match word {
        "cm" | "centimetre" | "centimetres" | "centimeters" => "centimeter",
        "mm" | "millimetre" | "millimeters" => "millimeter",
        "m" | "metre" | "metres" | "meters" => "meter",
        "km" | "kilometre" | "kilometers" => "kilometer",
        "ft" | "feet" => "foot",
        "in" | "inches" => "inch",
        "mi" => "mile",
        "kg" => "kilogram",
        "g" => "gram",
        "lb" | "lbs" => "pound",
        "oz" => "ounce",
        "ml" => "milliliter",
        "l" | "litre" | "litres" => "liter",
        "h" | "hr" | "hrs" => "hour",
        "min" | "mins" => "minute",
        "s" | "sec" | "secs" => "second",
        "dollar" | "dollars" | "usd" | "bucks" => "$",
        "euro" | "euros" => "€",
        "pounds sterling" => "£",
        "yd" | "yds" => "yard",
        "gal" => "gallon",
        "mg" => "milligram",
        "¢" => "cent",
        "deg" | "degrees" => "degree",
        "pct" | "percentage" => "percent",
        "centigrade" => "celsius",
        plural if plural.len() > 3 && plural.ends_with('s') && !plural.ends_with("ss") => {
            &plural[..plural.len() - 1]
        }
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_writing_a_unit_meet() {
        for (left, right) in [
            ("cm^2", "square centimeters"),
            ("sq units", "units^2"),
            ("dollars", "$"),
            (" ways.", "way"),
            ("p.m.", "pm"),
            ("km/h", "kilometers per hour"),
            ("mph", "miles per hour"),
            ("m/s^2", "meters per second squared"),
            ("in", "inches"),
            ("in.", "inch"),
            ("in^2", "square inches"),
            ("sq in", "square inches"),
            ("lb/in", "pounds per inch"),
            ("in total", ""),
            ("people in line", "people line"),
            ("per cent", "percent"),
        ] {
            assert_eq!(canonical(left), canonical(right), "{left:?} {right:?}");
        }
        assert_ne!(canonical("cm"), canonical("cm^2"));
        assert_ne!(canonical("feet"), canonical("inches"));
        assert_ne!(canonical("ft"), canonical("in"));
        assert_ne!(canonical("square meters per second"), canonical("m/s^2"));
        assert!(is_unit("m/s^2") && is_unit("kg") && !is_unit("e") && !is_unit("dx"));
    }
}
