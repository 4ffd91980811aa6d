//! The sandbox's own folder in the system's temporary folder, with one folder per program in it.
//!
//! It is held by a lock, so that what a killed run left behind is recognised, in whatever process
//! namespace its owner lived, and removed at the next start.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use crate::removal;
use crate::sandbox::SandboxError;

/// Begins the name of every sandbox's folder.
const PREFIX: &str = "bstar-sandbox-";

/// Held by the owner for as long as it lives.
const LOCK: &str = "lock";

/// A sandbox's folder. Removed on drop.
#[derive(Debug)]
pub(crate) struct Workplace {
    path: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Makes it, after removing those of dead owners.
    pub(crate) fn new() -> Result<Self, SandboxError> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        make(&parent).map_err(|source| SandboxError::Folder { path: parent, source })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = removal::remove_tree(&self.path);
    }
}

/// Makes a folder that is locked from the moment it has its name, so that no other start can take it
/// for abandoned.
fn make(parent: &Path) -> io::Result<Workplace> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let parent = parent.canonicalize()?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let name = format!("{PREFIX}{}-{now:x}-{count}", std::process::id());
    let (fresh, path) = (parent.join(format!(".{name}")), parent.join(name));
    DirBuilder::new().mode(0o700).create(&fresh)?;
    let lock = File::create(fresh.join(LOCK))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    // Programs under another user id pass through, but cannot list it.
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o711))?;
    fs::rename(&fresh, &path)?;
    Ok(Workplace { path, _lock: lock })
}

/// Removes the folders of this user whose owners are gone. Best effort: a folder that resists stays.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == me);
        if !ours {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = removal::remove_tree(&path);
        }
    }
}
