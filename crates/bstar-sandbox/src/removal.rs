//! Removing and measuring trees that an untrusted program made.
//!
//! Names, permissions, links and depth are hostile: nothing is followed, locked folders are opened
//! up, and a deep tree is taken apart from the top, so that no path or recursion grows with it.
//! Only for trees in which no process is left.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes a folder and everything in it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let top = open_folder(CWD, path)?;
    // What is raised from below gets a name that no program can have reserved for long.
    let mut raised = 0_u64;
    loop {
        let names = names(top.as_fd())?;
        if names.is_empty() {
            break;
        }
        for name in &names {
            remove_one(top.as_fd(), name, &mut raised)?;
        }
    }
    Ok(rustix::fs::rmdir(path)?)
}

/// Removes a file or an almost empty folder of `top`; folders inside it move up to `top`.
fn remove_one(top: BorrowedFd<'_>, name: &CStr, raised: &mut u64) -> io::Result<()> {
    match rustix::fs::unlinkat(top, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return Ok(other?),
    }
    let folder = open_folder(top, name)?;
    for inner in names(folder.as_fd())? {
        match rustix::fs::unlinkat(&folder, &inner, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => raise(&folder, &inner, top, raised)?,
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)?)
}

/// Moves a folder up to `top`, to be removed in a later round.
fn raise(from: &OwnedFd, name: &CStr, top: BorrowedFd<'_>, raised: &mut u64) -> io::Result<()> {
    // A folder that may not be written cannot get another parent.
    drop(open_folder(from, name)?);
    loop {
        *raised += 1;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let target = format!(".raised-{raised}");
        match rustix::fs::renameat_with(from, name, top, target.as_str(), flags) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a folder, after giving its owner all rights to it. Follows no link at the end.
fn open_folder(parent: impl AsFd, name: impl rustix::path::Arg + Copy) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o700);
    match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Ok(folder) => {
            rustix::fs::fchmod(&folder, mode)?;
            return Ok(folder);
        }
        Err(Errno::ACCESS) => {}
        Err(error) => return Err(error.into()),
    }
    let there = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR.into());
    }
    rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
    Ok(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
}

/// The names in a folder.
fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Whether a tree holds more than so many bytes on disk, with a page for each entry, or is deeper
/// than any honest one. The tree may change meanwhile; what cannot be read counts as nothing.
pub(crate) fn exceeds(path: &Path, bytes: u64) -> bool {
    const DEEPEST: usize = 64;
    const PAGE: u64 = 4096;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |parent: BorrowedFd<'_>, name: &CStr| {
        rustix::fs::openat(parent, name, flags, Mode::empty()).ok()
    };
    let Ok(top) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return false };
    let Ok(top) = Dir::new(top) else { return false };
    let mut stack = vec![top];
    let mut total = 0;
    while let Some(folder) = stack.last_mut() {
        let Some(Ok(entry)) = folder.next() else {
            stack.pop();
            continue;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(parent) = folder.fd() else { continue };
        let Ok(there) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        total += (there.st_blocks.unsigned_abs() * 512).max(PAGE);
        let below = (FileType::from_raw_mode(there.st_mode) == FileType::Directory)
            .then(|| open(parent, name))
            .flatten();
        stack.extend(below.and_then(|below| Dir::new(below).ok()));
        if total > bytes || stack.len() > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_hostile_tree_goes_and_what_its_links_name_stays() {
        let place = std::env::temp_dir().join(format!("bstar-removal-{}", std::process::id()));
        let (tree, outside) = (place.join("tree"), place.join("outside"));
        fs::create_dir_all(tree.join("a/b/.raised-1")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        symlink(&outside, tree.join("a/b/link")).unwrap();
        symlink("/", tree.join("root")).unwrap();
        fs::write(tree.join(".raised-2"), "x").unwrap();
        fs::write(tree.join("a/b/\n\u{1}"), "x").unwrap();
        let deep = "d/".repeat(1500);
        fs::create_dir_all(tree.join(deep)).unwrap();
        assert!(exceeds(&tree, 1 << 40), "too deep");
        for locked in ["a/b/.raised-1", "a/b", "a"] {
            fs::set_permissions(tree.join(locked), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "x");
        assert!(!exceeds(&outside, 8192) && exceeds(&outside, 4095));
        remove_tree(&place).unwrap();
    }
}
