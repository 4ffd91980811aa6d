//! One dial for the size of a model trained from scratch; everything else is derived from it.
//!
//! A size is one of seven names or a width. Names are the sizes that were tried; a width in
//! between takes the depth and the head width of the largest name that is not wider, and has to be a
//! multiple of that head width. Written as
//! `"pico"` or as `96` in a config file.

use crate::config::ModelConfig;
use crate::config::family::Family;
use crate::config::rope::RopeScaling;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// The size of a model: a name or a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSize {
    width: usize,
}

impl ModelSize {
    /// Width 64, 3 layers: about 149 thousand parameters with a character vocabulary.
    pub const PICO: Self = Self { width: 64 };
    /// Width 256, 6 layers: about 4.4 million.
    pub const SMALL: Self = Self { width: 256 };
    /// Width 768, 12 layers: 97.5 million with a vocabulary of 8192.
    pub const BASE: Self = Self { width: 768 };

    /// The named sizes, smallest first.
    pub fn named() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| Self { width: row.width })
    }

    /// The size with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| Self { width: row.width })
    }

    /// The size of this width, if it is one of [`ModelSize::widths`].
    pub fn from_width(width: usize) -> Option<Self> {
        let valid = (WIDTH_STEP..=LARGEST_WIDTH).contains(&width)
            && width.is_multiple_of(Self { width }.row().head_dim);
        valid.then_some(Self { width })
    }

    /// The widths that there are, smallest first: multiples of 16 to 112, of 32 from 128 to 224, and
    /// of 64 from 256 to 768.
    pub fn widths() -> impl Iterator<Item = usize> {
        (WIDTH_STEP..=LARGEST_WIDTH).filter(|&width| Self::from_width(width).is_some())
    }

    /// Width of the residual stream.
    pub fn width(self) -> usize {
        self.width
    }

    /// The name, if it has one.
    pub fn name(self) -> Option<&'static str> {
        TABLE.iter().find(|row| row.width == self.width).map(|row| row.name)
    }

    /// The whole shape, for a vocabulary, a context length (tokens) and an end-of-sequence token.
    pub fn config(self, vocab_size: usize, context_length: usize, eos: u32) -> ModelConfig {
        let row = self.row();
        let heads = self.width / row.head_dim;
        ModelConfig {
            family: Family::Llama,
            vocab_size,
            hidden_size: self.width,
            intermediate_size: self.inner_width(),
            num_hidden_layers: row.layers,
            num_attention_heads: heads,
            num_key_value_heads: if heads.is_multiple_of(row.group) {
                heads / row.group
            } else {
                heads
            },
            head_dim: row.head_dim,
            rms_norm_eps: 1e-5,
            // A short context needs only short wavelengths.
            rope_theta: if self.width < Self::SMALL.width { 1000.0 } else { 10_000.0 },
            rope_scaling: RopeScaling::Unscaled,
            sliding_window: None,
            max_position_embeddings: context_length,
            tie_word_embeddings: false,
            bos_token_id: None,
            eos_token_ids: vec![eos],
            pad_token_id: None,
            generation: serde_json::Map::new(),
        }
    }

    /// The widest row that is not wider than this size (the narrowest for still smaller widths).
    fn row(self) -> &'static Row {
        TABLE.iter().rev().find(|row| row.width <= self.width).unwrap_or(&TABLE[0])
    }

    /// About 8/3 of the width, so that three matrices cost what two of four times the width would.
    fn inner_width(self) -> usize {
        match TABLE.iter().find(|row| row.width == self.width) {
            Some(row) => row.inner,
            None => (self.width * 8 / 3).next_multiple_of(8),
        }
    }
}

struct Row {
    name: &'static str,
    width: usize,
    layers: usize,
    head_dim: usize,
    /// Query heads that share a key-value head.
    group: usize,
    inner: usize,
}

const WIDTH_STEP: usize = 16;
const LARGEST_WIDTH: usize = 768;

#[rustfmt::skip]
const TABLE: [Row; 7] = [
    Row { name: "pico",   width:  64, layers:  3, head_dim: 16, group: 1, inner:  168 },
    Row { name: "nano",   width:  96, layers:  4, head_dim: 16, group: 1, inner:  256 },
    Row { name: "micro",  width: 128, layers:  4, head_dim: 32, group: 1, inner:  344 },
    Row { name: "tiny",   width: 192, layers:  5, head_dim: 32, group: 1, inner:  512 },
    Row { name: "small",  width: 256, layers:  6, head_dim: 64, group: 2, inner:  688 },
    Row { name: "medium", width: 512, layers:  8, head_dim: 64, group: 2, inner: 1368 },
    Row { name: "base",   width: 768, layers: 12, head_dim: 64, group: 1, inner: 2048 },
];

impl fmt::Display for ModelSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}", self.width),
        }
    }
}

impl Serialize for ModelSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_u64(self.width as u64),
        }
    }
}

impl<'de> Deserialize<'de> for ModelSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ModelSize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        let widths: Vec<_> = ModelSize::widths().map(|width| width.to_string()).collect();
        write!(formatter, "one of {} or a width: {}", names.join(", "), widths.join(", "))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<ModelSize, E> {
        ModelSize::from_name(name).ok_or_else(|| E::invalid_value(de::Unexpected::Str(name), &self))
    }

    fn visit_u64<E: de::Error>(self, width: u64) -> Result<ModelSize, E> {
        usize::try_from(width)
            .ok()
            .and_then(ModelSize::from_width)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(width), &self))
    }

    fn visit_i64<E: de::Error>(self, width: i64) -> Result<ModelSize, E> {
        match u64::try_from(width) {
            Ok(width) => self.visit_u64(width),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(width), &self)),
        }
    }
}

impl JsonSchema for ModelSize {
    fn schema_name() -> Cow<'static, str> {
        "ModelSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        json_schema!({
            "description": "The size of a model: a name or a width.",
            "oneOf": [
                { "type": "string", "enum": names },
                { "type": "integer", "enum": ModelSize::widths().collect::<Vec<_>>() },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(size: &str, parameters: usize) {
        let size: ModelSize = serde_json::from_str(size).unwrap();
        let vocabulary = if size == ModelSize::BASE { 8192 } else { 21 };
        assert_eq!(size.config(vocabulary, 64, 1).parameter_count(), parameters, "{size}");
    }

    #[test]
    fn sizes_have_these_parameter_counts() {
        check("\"pico\"", 149_056);
        check("\"nano\"", 447_264);
        check("\"small\"", 4_364_032);
        check("\"base\"", 97_536_768);
        check("96", 447_264);
        check("80", 236_240);
    }

    #[test]
    fn every_multiple_of_the_head_width_gives_a_valid_shape() {
        let mut seen = 0;
        for width in 0..=800 {
            let Some(size) = ModelSize::from_width(width) else { continue };
            let json = size.config(50, 64, 1).to_json().to_string();
            ModelConfig::from_json(json.as_bytes()).unwrap();
            let text = serde_json::to_string(&size).unwrap();
            assert_eq!(serde_json::from_str::<ModelSize>(&text).unwrap(), size);
            seen += 1;
        }
        assert_eq!(seen, 20);
        let widths: Vec<_> = ModelSize::widths().collect();
        assert_eq!(
            widths,
            [
                16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
                704, 768
            ]
        );
        let schema = ModelSize::json_schema(&mut SchemaGenerator::default());
        assert_eq!(schema.as_value()["oneOf"][1]["enum"], serde_json::json!(widths));
    }

    #[test]
    fn an_unknown_size_names_the_known_ones() {
        let error = serde_json::from_str::<ModelSize>("\"huge\"").unwrap_err().to_string();
        assert!(error.contains("expected one of pico, nano, micro, tiny, small, medium, base"));
        let error = serde_json::from_str::<ModelSize>("144").unwrap_err().to_string();
        assert!(error.contains("112, 128, 160, 192"), "{error}");
        assert!(serde_json::from_str::<ModelSize>("-64").is_err());
    }
}
