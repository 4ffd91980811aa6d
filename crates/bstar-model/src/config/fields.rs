//! Typed fields of a JSON object; each error names the field.

use super::ConfigError;
use serde_json::{Map, Value};

/// A JSON object.
pub(super) type Fields = Map<String, Value>;

/// Counts above these are a broken or hostile file, not a model: layers, sizes that matrices are
/// made of, and tokens (of a vocabulary or a context).
pub(super) const MOST_LAYERS: usize = 4096;
pub(super) const LARGEST_SIZE: usize = 1 << 20;
pub(super) const MOST_TOKENS: usize = 1 << 28;

/// A size that matrices are made of.
pub(super) fn size(fields: &Fields, field: &'static str) -> Result<usize, ConfigError> {
    count(fields, field, LARGEST_SIZE)
}

/// A positive count of at most `most`.
pub(super) fn count(
    fields: &Fields,
    field: &'static str,
    most: usize,
) -> Result<usize, ConfigError> {
    let value =
        fields.get(field).filter(|value| !value.is_null()).ok_or(ConfigError::Missing(field))?;
    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
    count.filter(|count| (1..=most).contains(count)).ok_or_else(|| ConfigError::Invalid {
        field,
        value: value.to_string(),
        expected: match most {
            MOST_LAYERS => "a positive integer of at most 4096",
            LARGEST_SIZE => "a positive integer of at most 2^20",
            _ => "a positive integer of at most 2^28",
        },
    })
}

/// The same with a default where the field is absent or null.
pub(super) fn count_or(
    fields: &Fields,
    field: &'static str,
    most: usize,
    default: usize,
) -> Result<usize, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => count(fields, field, most),
    }
}

/// A positive finite number, if there is one.
pub(super) fn positive(fields: &Fields, field: &'static str) -> Result<Option<f64>, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => Err(ConfigError::Invalid {
                field,
                value: value.to_string(),
                expected: "a positive number",
            }),
        },
    }
}

/// True or false; false where the field is absent or null.
pub(super) fn flag(fields: &Fields, field: &'static str) -> Result<bool, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(&Value::Bool(flag)) => Ok(flag),
        Some(value) => {
            Err(ConfigError::Invalid { field, value: value.to_string(), expected: "true or false" })
        }
    }
}

/// A token id or a list of them; nothing where the field is absent or null.
pub(super) fn token_ids(fields: &Fields, field: &'static str) -> Result<Vec<u32>, ConfigError> {
    let id = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| ConfigError::Invalid {
            field,
            value: value.to_string(),
            expected: "a token id or a list of token ids",
        })
    };
    match fields.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(one) => Ok(vec![id(one)?]),
    }
}

/// A count of tokens, if there is one.
pub(super) fn size_or_none(
    fields: &Fields,
    field: &'static str,
) -> Result<Option<usize>, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => count(fields, field, MOST_TOKENS).map(Some),
    }
}
