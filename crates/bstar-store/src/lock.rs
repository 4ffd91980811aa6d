//! One writing process per run folder.
//!
//! The lock is the operating system's (advisory, on the file `lock`), so it ends with its process,
//! also when that is killed: no stale lock ever needs to be removed by hand. The file holds the pid
//! of its owner for the error message and is never deleted, since deleting it would let two
//! processes lock two files of one name.

use crate::disk::DiskError;
use crate::layout;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Times that a taken lock is tried, and the pause between two of them: whoever only asks whether
/// the run is in use ([`is_taken`]) has given its lock back by then.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

/// What came of trying.
#[derive(Debug)]
pub(crate) enum Attempt {
    Held(RunLock),
    /// Another process holds it: its pid, where the file tells.
    Taken(Option<u32>),
}

impl RunLock {
    pub(crate) fn acquire(path: &Path) -> Result<Attempt, DiskError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| DiskError::new("open", path, error))?;
        let mut attempt = 1;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Ok(Attempt::Taken(pid_in(&mut file))),
                Err(TryLockError::Error(error)) => {
                    return Err(DiskError::new("lock", path, error));
                }
            }
            attempt += 1;
        }
        // The pid only serves a message: a disk too full to hold it must not stop the run.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Attempt::Held(Self { _file: file }))
    }
}

/// Whether a process holds the lock now. Takes a shared lock for a moment to find out.
pub(crate) fn is_taken(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Whether a file is one that [`RunLock::acquire`] made: of its name, with a pid or nothing in it.
pub(crate) fn is_lock_file(path: &Path) -> bool {
    const LONGEST: u64 = 16;
    path.ends_with(layout::LOCK)
        && path.symlink_metadata().is_ok_and(|about| about.is_file() && about.len() <= LONGEST)
        && std::fs::read(path).is_ok_and(|text| text.trim_ascii().iter().all(u8::is_ascii_digit))
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_asks_does_not_keep_the_lock_from_an_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let asking = File::create(&path).unwrap();
        asking.try_lock_shared().unwrap();
        let asker = thread::spawn(move || {
            thread::sleep(2 * PAUSE);
            drop(asking);
        });
        assert!(matches!(RunLock::acquire(&path).unwrap(), Attempt::Held(_)));
        asker.join().unwrap();
    }

    #[test]
    fn a_second_owner_learns_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Attempt::Held(lock) = RunLock::acquire(&path).unwrap() else { panic!("free") };
        let Attempt::Taken(pid) = RunLock::acquire(&path).unwrap() else { panic!("taken") };
        assert_eq!(pid, Some(std::process::id()));
        assert!(is_taken(&path));
        drop(lock);
        assert!(!is_taken(&path));
        assert!(matches!(RunLock::acquire(&path).unwrap(), Attempt::Held(_)));
    }
}
