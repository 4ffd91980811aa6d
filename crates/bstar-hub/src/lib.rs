//! Models by their name on the Hugging Face hub: found in the cache, or fetched into it.
//!
//! | module | its job |
//! |---|---|
//! | [`name`] | `organisation/model@revision` |
//! | [`parts`] | which files of a repository make up a model |
//! | [`cache`] | where the cache lies, and what of a model is in it |
//! | `download` | the files that are missing, whole or not at all |
//!
//! The cache has the layout of `huggingface_hub`, so that all programs of a machine share it. What is
//! there whole is used as it is, and nobody is asked: a name means the same model until its
//! revision is named or the cache is emptied. Only a model that is not there opens a connection, and
//! none is opened offline. Nothing else of bstar uses the network.
//!
//! This crate knows neither tensors nor configs of bstar; it reads no environment of its own.

#![forbid(unsafe_code)]

pub mod cache;
mod download;
mod error;
pub mod name;
pub mod parts;

pub use error::HubError;
pub use name::ModelName;

use cache::Cached;
use std::path::PathBuf;

/// Where models by name come from.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The folder that holds `models--organisation--name`.
    pub cache: PathBuf,
    /// The address of the hub, without a slash at its end.
    pub endpoint: String,
    /// What opens models that are not for everybody.
    pub token: Option<String>,
    /// Never open a connection.
    pub offline: bool,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its folder; a plain model folder.
    pub folder: PathBuf,
    /// The commit of the repository that it is.
    pub commit: String,
}

/// Is told of downloads as they happen.
pub trait Watcher {
    /// A model begins: files and bytes that are to come in all.
    fn begin(&mut self, name: &ModelName, files: usize, bytes: u64);
    /// This many more bytes of a file are here.
    fn advance(&mut self, file: &str, bytes: u64);
    /// The model is there, or what failed will be told.
    fn end(&mut self);
}

impl Hub {
    /// The settings that the programs of Hugging Face share: `HF_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`. `get` is
    /// the value of a variable of the environment, `home` the folder of the user.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let own = get("XDG_CACHE_HOME").map(PathBuf::from);
        let own = own.or(home.map(|home| home.join(".cache"))).unwrap_or_default();
        let root = get("HF_HOME").map_or_else(|| own.join("huggingface"), PathBuf::from);
        let cache = get("HF_HUB_CACHE").map_or_else(|| root.join("hub"), PathBuf::from);
        let token_file = get("HF_TOKEN_PATH").map_or_else(|| root.join("token"), PathBuf::from);
        let stored = || std::fs::read_to_string(&token_file).ok();
        let token = get("HF_TOKEN").or_else(stored).map(|token| token.trim().to_owned());
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Self {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
            offline: get("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value)),
        }
    }

    /// The model of a name: from the cache if it is there whole, else fetched into it.
    ///
    /// A fetched file appears under its name once its length, and where the hub tells one its hash,
    /// is right; a revision points at its commit once all files are there. What an interrupted
    /// download left is used by the next one.
    pub fn find(&self, name: &ModelName, watcher: &mut dyn Watcher) -> Result<Snapshot, HubError> {
        match Cached::look(&self.cache, name)? {
            Cached::Whole(snapshot) => Ok(snapshot),
            Cached::Lacking { files, looked_in } if self.offline => {
                Err(HubError::Offline { name: name.clone(), files, looked_in })
            }
            Cached::Lacking { .. } => download::fetch(self, name, watcher),
        }
    }
}

const ENDPOINT: &str = "https://huggingface.co";

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Hub::from_environment(get, Some("/home/ann".into()))
    }

    #[test]
    fn the_cache_is_where_other_programs_have_it() {
        for (variables, expected) in [
            (&[][..], "/home/ann/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", "")], "/home/ann/.cache/huggingface/hub"),
        ] {
            assert_eq!(hub(variables).cache, PathBuf::from(expected));
        }
    }

    #[test]
    fn offline_is_asked_for_by_the_usual_words() {
        for (value, offline) in
            [("1", true), ("true", true), ("Yes", true), ("0", false), ("", false), ("no", false)]
        {
            assert_eq!(hub(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert!(!hub(&[]).offline);
    }

    #[test]
    fn a_token_comes_from_the_environment_or_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        assert_eq!(hub(&[("HF_HOME", &root)]).token, None);
        std::fs::write(folder.path().join("token"), "stored\n").unwrap();
        assert_eq!(hub(&[("HF_HOME", &root)]).token.as_deref(), Some("stored"));
        let both = hub(&[("HF_HOME", &root), ("HF_TOKEN", "given")]);
        assert_eq!(both.token.as_deref(), Some("given"));
        let slash = hub(&[("HF_ENDPOINT", "http://mirror/")]);
        assert_eq!(slash.endpoint, "http://mirror");
    }
}
