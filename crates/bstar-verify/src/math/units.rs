//! Units of measure: when two ways of writing one are the same.

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
        .chars()
        .map(|c| if c.is_alphanumeric() || "$€£¥".contains(c) { c } else { ' ' })
        .collect();
    let mut words: Vec<String> = Vec::new();
    let mut power = None;
    for word in spaced.split_whitespace() {
        match word {
            "square" | "sq" | "squared" | "2" => power = Some("2"),
            "cubic" | "cu" | "cubed" | "3" => power = Some("3"),
            filler if FILLERS.contains(&filler) => {}
            word => words.push(full_name(word)),
        }
    }
    words.extend(power.map(str::to_owned));
    words.join(" ")
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
        "deg" | "degrees" => "degree",
        "pct" | "percentage" => "percent",
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
        ] {
            assert_eq!(canonical(left), canonical(right), "{left:?} {right:?}");
        }
        assert_ne!(canonical("cm"), canonical("cm^2"));
        assert_ne!(canonical("feet"), canonical("inches"));
    }
}
