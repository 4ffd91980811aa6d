//! What of a model is in the cache.
//!
//! ```text
//! models--organisation--name/
//!   refs/main                       the commit that a revision was when it was fetched
//!   snapshots/<commit>/config.json  a link to …
//!   blobs/<hash>                    … what it holds
//! ```

use crate::error::HubError;
use crate::name::ModelName;
use crate::{Snapshot, parts};
use std::path::{Path, PathBuf};

/// What a look into the cache finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// The whole model.
    Whole(Snapshot),
    /// Not all of it, or nothing.
    Lacking {
        /// The files that are not there; none if not even their folder is known.
        files: Vec<String>,
        /// Where they were looked for.
        looked_in: PathBuf,
    },
}

impl Cached {
    /// Looks for a model.
    pub fn look(cache: &Path, name: &ModelName) -> Result<Self, HubError> {
        let folder = cache.join(name.folder());
        let Some(commit) = commit(&folder, name.revision()) else {
            return Ok(Self::Lacking { files: Vec::new(), looked_in: folder });
        };
        let snapshot = Snapshot { folder: folder.join("snapshots").join(&commit), commit };
        let files = parts::lacking(&snapshot.folder)?;
        if files.is_empty() {
            return Ok(Self::Whole(snapshot));
        }
        Ok(Self::Lacking { files, looked_in: snapshot.folder })
    }
}

/// The commit that a revision is in the folder of a repository.
fn commit(folder: &Path, revision: &str) -> Option<String> {
    if is_commit(revision) && folder.join("snapshots").join(revision).is_dir() {
        return Some(revision.to_owned());
    }
    let text = std::fs::read_to_string(folder.join("refs").join(revision)).ok()?;
    Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
}

/// Whether a text is the hash of a commit, which is safe as the name of a folder.
pub(crate) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
