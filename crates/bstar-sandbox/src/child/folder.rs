//! The working folder on the host's disk, where there are no namespaces, and whose it is.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::level::Identity;
use crate::removal;
use crate::wire::{Failure, Layer, Step};

/// Unused user ids start here; the supervisor's process id is added, so that two runs never share
/// one.
const FIRST_UNUSED: u32 = 0x6000_0000;

/// The user and group id for the program: nobody else's, or its starter's.
pub(super) fn identity(identity: Identity) -> Option<u32> {
    let pid = std::process::id();
    match identity {
        Identity::Own | Identity::Root => None,
        Identity::Unused if mapped(FIRST_UNUSED + pid) => Some(FIRST_UNUSED + pid),
        // In a container with its own small range of ids.
        Identity::Unused => Some(30_000 + pid % 30_000),
    }
}

/// Whether this process's user namespace knows an id.
fn mapped(id: u32) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok());
        let (first, count) = (fields.next(), fields.nth(1));
        first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&id.into()))
    })
}

/// A working folder. Removed on drop, when no process is left in it.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(parent: &OsStr, identity: Option<u32>) -> Result<Self, Failure> {
        let path = Path::new(parent).join(format!("run-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .step(Layer::Other, &format!("make the working folder {}", path.display()))?;
        let folder = Self { path };
        std::os::unix::fs::chown(&folder.path, identity, identity)
            .step(Layer::Identity, "give the working folder to an unused user")?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The path alone, in a process that must not remove it.
    pub(super) fn into_path(self) -> PathBuf {
        let path = self.path.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = removal::remove_tree(&self.path);
    }
}
