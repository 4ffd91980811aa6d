//! Two resolved configurations compared key by key.
//!
//! Keys are dotted paths into nested objects; an array is one value. Some keys do not change what a
//! run computes (threads, how it is shown): the caller names them, and they are left out together
//! with everything below them. A key that an older build did not know counts as its default.

use serde_json::Value;
use std::fmt;

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigChange {
    /// Dotted path.
    pub key: String,
    /// The value that the run was created with; none if it had no such key.
    pub stored: Option<Value>,
    /// The value asked for now; none if there is no such key.
    pub given: Option<Value>,
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| {
            value.as_ref().map_or_else(|| "(absent)".to_owned(), Value::to_string)
        };
        write!(formatter, "{}: {} → {}", self.key, show(&self.stored), show(&self.given))
    }
}

/// The keys that differ, in the order of the stored configuration, added keys last.
pub fn config_diff(stored: &Value, given: &Value, unimportant: &[&str]) -> Vec<ConfigChange> {
    config_diff_from(stored, given, unimportant, &Value::Null)
}

/// The same, where a key that is missing in `stored` has the value that `defaults` gives it.
pub fn config_diff_from(
    stored: &Value,
    given: &Value,
    unimportant: &[&str],
    defaults: &Value,
) -> Vec<ConfigChange> {
    let mut changes = Vec::new();
    compare("", [Some(stored), Some(given), Some(defaults)], unimportant, &mut changes);
    changes
}

/// Compares what is stored, given and the default under a key.
fn compare(
    key: &str,
    [stored, given, default]: [Option<&Value>; 3],
    unimportant: &[&str],
    changes: &mut Vec<ConfigChange>,
) {
    let stored = stored.or(default);
    if stored == given || unimportant.contains(&key) {
        return;
    }
    let objects = stored.and_then(Value::as_object).zip(given.and_then(Value::as_object));
    let Some((stored, given)) = objects else {
        changes.push(ConfigChange {
            key: key.to_owned(),
            stored: stored.cloned(),
            given: given.cloned(),
        });
        return;
    };
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    let default = |name: &str| default.and_then(|of| of.get(name));
    for (name, value) in stored {
        let values = [Some(value), given.get(name), default(name)];
        compare(&below(name), values, unimportant, changes);
    }
    for (name, value) in given.iter().filter(|(name, _)| !stored.contains_key(*name)) {
        compare(&below(name), [None, Some(value), default(name)], unimportant, changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(stored: &Value, given: &Value, expected: &[&str]) {
        let changes = config_diff(stored, given, &["threads", "show"]);
        let shown: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn changes_are_named_by_dotted_key() {
        let stored = json!({"seed": 1, "balance": {"k": 16, "caps": [1, 2]}, "gone": true});
        check(&stored, &stored, &[]);
        check(
            &stored,
            &json!({"seed": 1, "balance": {"k": 32, "caps": [1], "new": "x"}}),
            &[
                "balance.k: 16 → 32",
                "balance.caps: [1,2] → [1]",
                "balance.new: (absent) → \"x\"",
                "gone: true → (absent)",
            ],
        );
        check(&json!({"a": {"b": 1}}), &json!({"a": 2}), &["a: {\"b\":1} → 2"]);
    }

    #[test]
    fn unimportant_keys_are_left_out_with_all_below_them() {
        let stored = json!({"threads": 2, "show": {"colour": true}, "a": {"threads": 1}});
        let given = json!({"show": {"colour": false, "bar": 1}, "a": {"threads": 2}, "threads": 1});
        check(&stored, &given, &["a.threads: 1 → 2"]);
    }

    #[test]
    fn a_key_that_was_not_known_counts_as_its_default() {
        let stored = json!({"seed": 1, "balance": {"k": 16}});
        let defaults =
            json!({"seed": 0, "balance": {"k": 64, "top_p": []}, "new": {"a": 1, "b": 2}});
        let check = |given: &Value, expected: &[&str]| {
            let changes = config_diff_from(&stored, given, &[], &defaults);
            let shown: Vec<_> = changes.iter().map(ToString::to_string).collect();
            assert_eq!(shown, expected);
        };
        let same = json!({"seed": 1, "balance": {"k": 16, "top_p": []}, "new": {"a": 1, "b": 2}});
        check(&same, &[]);
        let other =
            json!({"seed": 1, "balance": {"k": 64, "top_p": [0.9]}, "new": {"a": 1, "b": 3}});
        check(&other, &["balance.k: 16 → 64", "balance.top_p: [] → [0.9]", "new.b: 2 → 3"]);
        check(&json!({"seed": 1, "balance": {"k": 16}, "more": 1}), &["more: (absent) → 1"]);
    }
}
