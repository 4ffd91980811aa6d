//! What can go wrong between a name and a model folder, each with what helps.

use crate::name::ModelName;
use bstar_core::{Fault, FaultClass};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A model that cannot be had by its name.
#[derive(Debug, Error)]
pub enum HubError {
    /// The text is no name that the hub could have.
    #[error("{0:?} is no name of a model")]
    NotAName(String),
    /// Not whole in the cache, and no connection may be opened.
    #[error("offline, and {}", lacking(name, files, looked_in))]
    Offline {
        /// The model.
        name: ModelName,
        /// What is not there; empty if nothing is.
        files: Vec<String>,
        /// The folder that was looked in.
        looked_in: PathBuf,
    },
    /// The hub refuses to say or show.
    #[error("the hub refuses {name} ({})", if *with_token {
        format!("status {status}, with the token that is set")
    } else {
        format!("status {status}, without a token")
    })]
    Refused {
        /// The model.
        name: ModelName,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// There is no such model, revision or file.
    #[error("the hub has no {what}")]
    NotFound {
        /// What it does not have, in words.
        what: String,
    },
    /// The repository has no safetensors.
    #[error("{name} has no weights as safetensors{}", match other {
        Some(other) => format!(" (it has {other})"),
        None => String::new(),
    })]
    NoSafetensors {
        /// The model.
        name: ModelName,
        /// A file of weights in another format.
        other: Option<String>,
    },
    /// The index of the weights is not one.
    #[error("broken file {}: {reason}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The hub cannot be reached, or the connection broke.
    #[error("cannot fetch {what} from {endpoint}: {reason}")]
    Network {
        /// What was asked for.
        what: String,
        /// The address of the hub.
        endpoint: String,
        /// What the connection says.
        reason: String,
    },
    /// What came is not what the hub announced.
    #[error("{file} of {name} came damaged: {reason}; it was thrown away")]
    Damaged {
        /// The model.
        name: ModelName,
        /// The file.
        file: String,
        /// How it is wrong.
        reason: String,
    },
    /// Another process downloads the same file.
    #[error("another process is downloading {file} of {name}")]
    Locked {
        /// The model.
        name: ModelName,
        /// The file.
        file: String,
    },
    /// The cache cannot be written.
    #[error("cannot write into the cache {}", path.display())]
    Cache {
        /// The cache.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn lacking(name: &ModelName, files: &[String], looked_in: &std::path::Path) -> String {
    let place = looked_in.display();
    match files {
        [] => format!("revision {} of {} is not in {place}", name.revision(), name.repository()),
        [file] => format!("{name} lacks {file} in {place}"),
        files => format!("{name} lacks {} in {place}", files.join(", ")),
    }
}

impl HubError {
    fn class(&self) -> FaultClass {
        match self {
            Self::NotAName(_) => FaultClass::Usage,
            Self::Offline { .. }
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::NoSafetensors { .. }
            | Self::Index { .. } => FaultClass::Data,
            Self::Network { .. }
            | Self::Damaged { .. }
            | Self::Locked { .. }
            | Self::Cache { .. } => FaultClass::Resource,
        }
    }

    /// What helps.
    fn hint(&self) -> String {
        match self {
            Self::NotAName(_) => "write organisation/model, or organisation/model@revision".into(),
            Self::Offline { name, .. } => format!(
                "unset HF_HUB_OFFLINE, or fetch it where there is a network (`hf download {}`) and \
                 copy the cache; HF_HUB_CACHE or HF_HOME say where the cache is",
                name.repository()
            ),
            Self::Refused { name, with_token, .. } => format!(
                "either there is no such model, or it needs permission: ask for access on the page \
                 of {}, then {}",
                name.repository(),
                if *with_token {
                    "use a token that may read it (HF_TOKEN)"
                } else {
                    "set HF_TOKEN or log in with `hf auth login`"
                }
            ),
            Self::NotFound { .. } => "check the name and the revision (name@revision)".into(),
            Self::NoSafetensors { .. } => "convert it: `save_pretrained` of transformers writes \
                safetensors; then name the folder"
                .into(),
            Self::Index { .. } => "remove the file and start again; it is fetched anew".into(),
            Self::Network { .. } => {
                "start the same command again when the network is back, it goes \
                on where it stopped; HF_ENDPOINT names another address, HF_HUB_OFFLINE=1 uses the \
                cache only"
                    .into()
            }
            Self::Damaged { .. } => "start the same command again; if it stays so, something \
                between changes files"
                .into(),
            Self::Locked { .. } => "wait for it, then start the same command again".into(),
            Self::Cache { .. } => {
                "check space and permissions, or name another place in HF_HUB_CACHE".into()
            }
        }
    }
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        let fault = Self::new(error.class(), error.to_string()).hint(error.hint());
        match error {
            HubError::Cache { source, .. } => fault.because(source),
            _ => fault,
        }
    }
}
