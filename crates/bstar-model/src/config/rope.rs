//! Scaling of the rotary embedding: how models trained on short texts read longer ones.
//!
//! A scaling changes the frequencies of the pairs once and for all. `dynamic`, `yarn` and
//! `longrope`, which depend on the length of the text or also scale the scores, are refused by name.

use super::ConfigError;
use super::fields::{Fields, positive, size_or_none};
use serde_json::{Value, json};
use std::f64::consts::TAU;

/// What is done to the frequencies of the rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Nothing.
    Unscaled,
    /// Every frequency is divided.
    Linear {
        /// By this.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths are divided, short ones are kept, those between are mixed.
    Llama3 {
        /// What long wavelengths are divided by.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` tokens are long.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` tokens are short.
        high_frequency_factor: f64,
        /// The context of the first training, in tokens.
        original_context: usize,
    },
}

impl RopeScaling {
    /// The frequency (radians a position) that a pair has in place of `frequency`.
    pub fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::Unscaled => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                let turns = original_context as f64 * frequency / TAU;
                if turns > high {
                    frequency
                } else if turns < low {
                    frequency / factor
                } else {
                    let kept = (turns - low) / (high - low);
                    (1.0 - kept) * frequency / factor + kept * frequency
                }
            }
        }
    }

    /// Reads `rope_scaling`, or where it is absent `rope_parameters`. `context` is the
    /// `max_position_embeddings` of the config.
    pub(super) fn read(fields: &Fields, context: usize) -> Result<Self, ConfigError> {
        for field in ["rope_scaling", "rope_parameters"] {
            let value = match fields.get(field) {
                None | Some(Value::Null) => continue,
                Some(value) => value,
            };
            let refuse = || ConfigError::Unsupported { field, value: value.to_string() };
            let rope = value.as_object().ok_or_else(|| ConfigError::Invalid {
                field,
                value: value.to_string(),
                expected: "an object or null",
            })?;
            if rope.is_empty() {
                continue;
            }
            if rope.get("partial_rotary_factor").is_some_and(|factor| factor != 1.0) {
                return Err(refuse());
            }
            let kind = rope.get("rope_type").or_else(|| rope.get("type"));
            return match kind.map_or(Some("default"), Value::as_str) {
                Some("default") => Ok(Self::Unscaled),
                Some("linear") => Ok(Self::Linear { factor: required(rope, "factor")? }),
                Some("llama3") => Self::read_llama3(rope, context),
                _ => Err(refuse()),
            };
        }
        Ok(Self::Unscaled)
    }

    fn read_llama3(rope: &Fields, context: usize) -> Result<Self, ConfigError> {
        let high_frequency_factor = required(rope, "high_freq_factor")?;
        let low_frequency_factor = required(rope, "low_freq_factor")?;
        if high_frequency_factor <= low_frequency_factor {
            return Err(ConfigError::Invalid {
                field: "high_freq_factor",
                value: high_frequency_factor.to_string(),
                expected: "above `low_freq_factor`",
            });
        }
        Ok(Self::Llama3 {
            factor: required(rope, "factor")?,
            low_frequency_factor,
            high_frequency_factor,
            original_context: size_or_none(rope, "original_max_position_embeddings")?
                .unwrap_or(context),
        })
    }

    /// The object that `transformers` reads as `rope_scaling`; null if nothing is scaled.
    pub(super) fn to_json(self) -> Value {
        match self {
            Self::Unscaled => Value::Null,
            Self::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            Self::Llama3 {
                factor,
                low_frequency_factor,
                high_frequency_factor,
                original_context,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_frequency_factor,
                "high_freq_factor": high_frequency_factor,
                "original_max_position_embeddings": original_context,
            }),
        }
    }
}

fn required(rope: &Fields, field: &'static str) -> Result<f64, ConfigError> {
    positive(rope, field)?.ok_or(ConfigError::Missing(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_short_wavelengths_divides_long_ones_and_mixes_between() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context: 64,
        };
        let of_wavelength = |tokens: f64| scaling.apply(TAU / tokens) * tokens / TAU;
        assert_eq!(of_wavelength(15.0), 1.0);
        assert!((of_wavelength(65.0) - 0.125).abs() < 1e-12);
        // Two turns in the context: a third of the way from one to four.
        assert!((of_wavelength(32.0) - (1.0 / 3.0 + 2.0 / 3.0 / 8.0)).abs() < 1e-12);
        assert_eq!(RopeScaling::Linear { factor: 4.0 }.apply(2.0), 0.5);
    }
}
