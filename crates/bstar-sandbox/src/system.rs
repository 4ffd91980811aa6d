//! The few system calls that have no safe wrapper, one small function each.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::ForkResult;

/// Splits this process in two. Only for the sandbox's child, which has one thread.
#[expect(unsafe_code, reason = "fork has no safe form: other threads would not be copied")]
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: the child process of the sandbox never starts a thread, so the copy is whole and may
    // allocate and lock as it likes.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// Puts a copy of a descriptor at a number, replacing what was there, to be kept across `exec`.
#[expect(unsafe_code, reason = "a raw number stands for a descriptor that nobody owns yet")]
pub(crate) fn place(descriptor: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: `dup2` reads no memory. Callers own no descriptor at `number`: they moved their own
    // out of the way.
    match unsafe { libc::dup2(descriptor.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Closes every descriptor from a number on. Only before this process opened any of its own.
#[expect(unsafe_code, reason = "descriptors that were inherited have no owner")]
pub(crate) fn close_from(first: u32) {
    // SAFETY: called first thing in the child, when nothing in it owns a descriptor from `first` on.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if closed == 0 {
        return;
    }
    // Before Linux 5.9: one by one, up to the limit.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = i32::try_from(most.unwrap_or(1 << 16).min(1 << 20)).unwrap_or(1 << 16);
    for number in i32::try_from(first).unwrap_or(3)..most {
        // SAFETY: as above; closing a number that is not open is harmless.
        unsafe { libc::close(number) };
    }
}

/// Ends a forked process at once, without returning into what it was forked from.
#[expect(clippy::exit, clippy::disallowed_methods, reason = "a forked copy must not return")]
pub(crate) fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// The version of Landlock that the running kernel offers; 0 where there is none.
#[expect(unsafe_code, reason = "the wrapper crate keeps this question to itself")]
pub(crate) fn landlock_version() -> u8 {
    const ASK_VERSION: u32 = 1;
    // SAFETY: with this flag the call reads no memory and returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            ASK_VERSION,
        )
    };
    u8::try_from(version.max(0)).unwrap_or(u8::MAX)
}

/// Makes every mount below a path read-only and set-user-id files in them powerless, or makes the
/// one mount at a path writable again.
#[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
pub(crate) fn set_read_only(path: &std::ffi::CStr, read_only: bool) -> io::Result<()> {
    let (attr_set, attr_clr, flags) = if read_only {
        (libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID, 0, libc::AT_RECURSIVE)
    } else {
        (0, libc::MOUNT_ATTR_RDONLY, 0)
    };
    let attributes = libc::mount_attr { attr_set, attr_clr, propagation: 0, userns_fd: 0 };
    // SAFETY: both pointers are valid for the call, and the size is that of the structure.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
