//! Files that are there whole or not at all, and errors that name the path.
//!
//! A file is published by writing a temporary file beside it, `fsync`, `rename`, and `fsync` of the
//! folder: after a crash at any moment the name holds the old content or the new. Temporary names
//! are `.<name>.tmp`; whoever owns the folder removes leftovers. A full disk has an error of its
//! own, because the user can mend it; the half-written temporary is removed at once to give the
//! space back.

use bstar_core::{Fault, FaultClass};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The operating system refused something.
#[derive(Debug, Error)]
pub enum DiskError {
    /// No space is left, or none of the user's quota.
    #[error("no space left to {action} {}", path.display())]
    Full {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no such file.
    #[error("no such file: {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot {action} {}", path.display())]
    Refused {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The action whose failure may mean that a file was lost.
pub(crate) const READ: &str = "read";

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { action, path, source }
            }
            io::ErrorKind::NotFound if action == READ => Self::Missing { path },
            _ => Self::Refused { action, path, source },
        }
    }
}

impl From<DiskError> for Fault {
    fn from(error: DiskError) -> Self {
        let message = error.to_string();
        match error {
            DiskError::Full { source, path, .. } => {
                let folder = path.parent().unwrap_or(&path).display().to_string();
                Self::new(FaultClass::Resource, message).because(source).hint(format!(
                    "free space on the disk (or raise the quota) that holds {folder}, then run the \
                     same command again; what was published is safe"
                ))
            }
            DiskError::Missing { .. } => Self::new(FaultClass::Run, message)
                .hint("the run folder lost a file; restore it, or start over with `--fresh`"),
            DiskError::Refused { source, .. } => Self::new(FaultClass::Resource, message)
                .because(source)
                .hint("check owner and permissions of the path, and that its disk is writable"),
        }
    }
}

/// What the writer of a published file writes into; Parquet wants it `Send`.
pub(crate) type Sink<'a> = &'a mut (dyn Write + Send);

/// Publishes `path` with what `write` writes. An error of `write` that the disk did not cause is
/// reported as one of the path.
pub(crate) fn publish(
    path: &Path,
    write: impl FnOnce(Sink<'_>) -> io::Result<()>,
) -> Result<(), DiskError> {
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, write);
    if let Err(source) = written {
        // Best effort: the error to report is the one that led here.
        let _ = fs::remove_file(&temporary);
        return Err(DiskError::new("write", path, source));
    }
    rename(&temporary, path)
}

/// Creates an empty file, durably; fine if it is there already.
pub(crate) fn create_empty(path: &Path) -> Result<(), DiskError> {
    File::create(path).map_err(|error| DiskError::new("create", path, error))?;
    sync_folder(path.parent().expect("a file of a run has a folder"))
}

/// Renames and makes the new name durable.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).map_err(|error| DiskError::new("replace", to, error))?;
    sync_folder(to.parent().expect("a published path has a folder"))
}

/// `.<name>.tmp` in the same folder, so that renaming stays within one file system.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().expect("a published path has a name").to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(|error| DiskError::new("sync", folder, error))
}

/// Makes everything under a folder durable: files, sub-folders, the folder itself.
pub(crate) fn sync_tree(folder: &Path) -> Result<(), DiskError> {
    for entry in entries(folder)? {
        if entry.is_dir() {
            sync_tree(&entry)?;
        } else {
            let sync = || File::open(&entry)?.sync_all();
            sync().map_err(|error| DiskError::new("sync", &entry, error))?;
        }
    }
    sync_folder(folder)
}

/// Creates a folder and those above it, each made durable in the one that holds it.
pub(crate) fn create_folder(folder: &Path) -> Result<(), DiskError> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new(""));
    create_folder(above)?;
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(above),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(DiskError::new("create folder", folder, error)),
    }
}

/// The paths in a folder, sorted by name; none if the folder is missing.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|error| DiskError::new("list", folder, error))?,
    };
    paths.sort();
    Ok(paths)
}

/// Reads a text file whole.
pub(crate) fn read_text(path: &Path) -> Result<String, DiskError> {
    fs::read_to_string(path).map_err(|error| DiskError::new(READ, path, error))
}

/// Removes a file or a folder with all in it; nothing happens if it is missing.
pub(crate) fn remove(path: &Path) -> Result<(), DiskError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DiskError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes what an interrupted [`publish`] left directly in a folder.
pub(crate) fn remove_temporaries(folder: &Path) -> Result<(), DiskError> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            remove(&path)?;
        }
    }
    Ok(())
}

fn write_synced(
    temporary: &Path,
    write: impl FnOnce(Sink<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = BufWriter::with_capacity(1 << 18, Witness::of(File::create(temporary)?));
    let written = write(&mut buffer).and_then(|()| buffer.flush());
    // What is still in the buffer after an error must not be written by its destructor.
    let (witness, _) = buffer.into_parts();
    match (written, witness.failure) {
        (Ok(()), _) => witness.inner.sync_all(),
        (Err(_), Some(failure)) => Err(failure),
        (Err(error), None) => Err(error),
    }
}

/// Remembers the first error of a writer: encoders between us and the file wrap it beyond
/// recognition, and a full disk must be told from a bug.
pub(crate) struct Witness<W> {
    pub(crate) inner: W,
    pub(crate) failure: Option<io::Error>,
}

impl<W> Witness<W> {
    pub(crate) fn of(inner: W) -> Self {
        Self { inner, failure: None }
    }

    fn saw<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted && self.failure.is_none() {
                self.failure = Some(match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => error.kind().into(),
                });
            }
        })
    }
}

impl<W: Write> Write for Witness<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.inner.write(bytes);
        self.saw(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.saw(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_file_is_there_whole_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        publish(&path, |sink| sink.write_all(b"one")).unwrap();
        publish(&path, |sink| sink.write_all(b"two")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(entries(folder.path()).unwrap(), [path]);
    }

    #[test]
    fn a_failed_publish_keeps_the_old_content_and_gives_the_space_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        publish(&path, |sink| sink.write_all(b"old")).unwrap();
        let error = publish(&path, |sink| {
            sink.write_all(b"half of the new")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(matches!(error, DiskError::Full { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(entries(folder.path()).unwrap(), [path]);
        let fault = Fault::from(error);
        assert_eq!(fault.class, FaultClass::Resource);
        assert!(fault.hint.unwrap().starts_with("free space on the disk"));
    }

    #[test]
    fn leftovers_are_removed_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".a.parquet.tmp", "b.tmp", ".hidden"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir_all(folder.path().join(".iter-0001.tmp/deep")).unwrap();
        remove_temporaries(folder.path()).unwrap();
        let kept = entries(folder.path()).unwrap();
        assert_eq!(kept, [folder.path().join(".hidden"), folder.path().join("b.tmp")]);
    }

    #[test]
    fn a_witness_tells_a_full_disk_through_any_wrapping() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut witness = Witness::of(Full);
        assert!(witness.write(b"x").is_err());
        assert_eq!(witness.failure.unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
