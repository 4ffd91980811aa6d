//! Reads and writes whole files, with the path in every error.
//!
//! A written file is flushed to the disk before the call returns; nothing is renamed here, because
//! publishing a folder at once is the job of whoever owns the folder. A missing or unreadable file
//! is the user's data; everything else that the operating system refuses (a full disk, a quota, a
//! permission) is a resource.

use bstar_core::{Fault, FaultClass};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The operating system refused a file.
#[derive(Debug, Error)]
#[error("{}", match action {
    Action::Read if source.kind() == io::ErrorKind::NotFound => {
        format!("no such file: {}", path.display())
    }
    Action::Read => format!("cannot read {}", path.display()),
    Action::Write => format!("cannot write {}", path.display()),
    Action::CreateFolder => format!("cannot create the folder {}", path.display()),
})]
pub struct FileError {
    action: Action,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// A file that could not be read.
    pub(crate) fn reading(path: &Path, source: io::Error) -> Self {
        Self { action: Action::Read, path: path.into(), source }
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Read,
    Write,
    CreateFolder,
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Self {
        let (class, hint) = match error.source.kind() {
            io::ErrorKind::NotFound => (FaultClass::Data, "check the path of the model folder"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (FaultClass::Resource, "free some disk space, then start the same command again")
            }
            io::ErrorKind::PermissionDenied => {
                (FaultClass::Resource, "give this user the permission that is missing")
            }
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
                (FaultClass::Data, "check the path of the model folder")
            }
            _ => (FaultClass::Resource, "check the disk that holds this path"),
        };
        Self::new(class, error.to_string()).hint(hint).because(error.source)
    }
}

/// The bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::reading(path, source))
}

/// Writes a whole file and flushes it to the disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_synced_by(path, |file| file.write_all(bytes))
}

/// The same for what `write` writes, piece by piece.
pub(crate) fn write_synced_by(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FileError> {
    let write = || {
        let mut file = File::create(path)?;
        write(&mut file)?;
        file.sync_all()
    };
    write().map_err(|source| FileError { action: Action::Write, path: path.into(), source })
}

/// Creates a folder and those above it; fine if it is there already.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(|source| FileError {
        action: Action::CreateFolder,
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_a_data_fault_that_names_the_path() {
        let fault = Fault::from(read(Path::new("no/such/config.json")).unwrap_err());
        assert_eq!(fault.class, FaultClass::Data);
        assert_eq!(fault.message, "no such file: no/such/config.json");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_a_resource_fault() {
        let fault = Fault::from(write_synced(Path::new("/dev/full"), b"x").unwrap_err());
        assert_eq!(fault.class, FaultClass::Resource);
        assert!(fault.hint.unwrap().contains("disk space"));
    }
}
