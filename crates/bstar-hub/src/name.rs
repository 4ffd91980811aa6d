//! The name of a model on the hub: `organisation/model`, or `model` for the oldest ones, with
//! `@revision` behind it where another one than `main` is meant.
//!
//! Names become paths and addresses, so only what the hub allows in them is a name.

use crate::error::HubError;
use std::fmt;
use std::path::PathBuf;

/// A name that the hub could have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    repository: String,
    revision: Option<String>,
}

impl ModelName {
    /// Reads `organisation/model@revision`.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let wrong = || HubError::NotAName(text.to_owned());
        let (repository, revision) = match text.split_once('@') {
            None => (text, None),
            Some((repository, revision)) => (repository, Some(revision)),
        };
        let parts: Vec<&str> = repository.split('/').collect();
        let good = parts.len() <= 2
            && repository.len() <= LONGEST
            && parts.iter().all(|part| is_part(part) && !part.contains("--"))
            && !repository.to_ascii_lowercase().ends_with(".git");
        let revision_is_good = revision
            .is_none_or(|revision| revision.len() <= LONGEST && revision.split('/').all(is_part));
        if !good || !revision_is_good {
            return Err(wrong());
        }
        Ok(Self { repository: repository.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// Whether a text on the command line that is no folder can only mean a name: it has one slash,
    /// between two parts that the hub allows.
    pub fn is_likely(text: &str) -> bool {
        text.split('@').next().is_some_and(|repository| repository.contains('/'))
            && Self::parse(text).is_ok()
    }

    /// The name of the repository, without the revision.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit that is meant.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The folder of the repository in a cache.
    pub(crate) fn folder(&self) -> PathBuf {
        format!("models--{}", self.repository.replace('/', "--")).into()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.repository)?;
        match &self.revision {
            None => Ok(()),
            Some(revision) => write!(formatter, "@{revision}"),
        }
    }
}

/// Characters of the longest name, and of the longest revision.
const LONGEST: usize = 96;

/// Whether a text is part of a name: letters, digits, `-`, `_` and `.`, and no `..`.
fn is_part(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty()
        && text.chars().all(allowed)
        && !text.contains("..")
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_a_revision() {
        for (text, repository, revision, folder) in [
            ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B", "main", "models--Qwen--Qwen2.5-0.5B"),
            ("gpt2", "gpt2", "main", "models--gpt2"),
            ("a/b@refs/pr/3", "a/b", "refs/pr/3", "models--a--b"),
            ("a/b@0123abcd", "a/b", "0123abcd", "models--a--b"),
        ] {
            let name = ModelName::parse(text).unwrap();
            assert_eq!((name.repository(), name.revision()), (repository, revision));
            assert_eq!(name.folder(), PathBuf::from(folder));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_could_lead_out_of_the_cache_is_no_name() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "../b",
            "a/..",
            "a/b@",
            "a/b@../../x",
            "a/b@/x",
            "a/b c",
            "a--b/c",
            "a/b.git",
            "a\\b",
            "./a",
            "a/b@x@y",
            "~/a",
            "-a/b",
        ] {
            assert!(ModelName::parse(text).is_err(), "{text:?}");
        }
        assert!(ModelName::parse(&"a".repeat(97)).is_err());
    }

    #[test]
    fn a_text_without_a_slash_is_more_likely_a_folder() {
        assert!(ModelName::is_likely("a/b") && ModelName::is_likely("a/b@v1"));
        assert!(!ModelName::is_likely("a") && !ModelName::is_likely("a@v/1"));
        assert!(!ModelName::is_likely("runs/a/b") && !ModelName::is_likely("./a"));
    }
}
