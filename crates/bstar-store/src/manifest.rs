//! `manifest.json`: which format a run folder has and which bstar made it.
//!
//! A format version is `major.minor`. A new minor adds files or fields that a reader of the same
//! major may leave unread; anything else is a new major, and a reader refuses a newer one rather
//! than guess. The manifest is the last file written when a run is created: a folder without one is
//! not a run.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The format that this version writes.
pub const RUN_FORMAT: FormatVersion = FormatVersion { major: 1, minor: 0 };

/// `major.minor`, in files as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion {
    /// Readers refuse a newer one.
    pub major: u32,
    /// Readers do not mind a newer one.
    pub minor: u32,
}

impl FormatVersion {
    /// Whether a reader whose own version is `reader` understands files of this version.
    pub fn is_readable_by(self, reader: Self) -> bool {
        self.major <= reader.major
    }
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for FormatVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('.').and_then(|(major, minor)| {
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("expected a version like `1.0`, found `{text}`"))
    }
}

impl Serialize for FormatVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The content of `manifest.json`. Fields that a newer minor adds are left unread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of the whole run folder.
    pub format: FormatVersion,
    /// Version of the bstar that created the run.
    pub bstar_version: String,
    /// When, RFC 3339.
    pub created_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_major_is_not_readable_and_a_newer_minor_is() {
        let version = |text: &str| text.parse::<FormatVersion>().unwrap();
        assert!(version("1.7").is_readable_by(version("1.0")));
        assert!(version("1.7").is_readable_by(version("2.0")));
        assert!(!version("2.0").is_readable_by(version("1.7")));
        assert!("1".parse::<FormatVersion>().is_err());
        assert!("1.x".parse::<FormatVersion>().is_err());
    }

    #[test]
    fn unknown_fields_of_a_newer_minor_are_left_unread() {
        let text = r#"{"format":"1.3","bstar_version":"9","created_at":"-","colour":"red"}"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(manifest.format.to_string(), "1.3");
    }
}
