//! What a program writes, kept up to a cap.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

/// The reading end of one stream and what came out of it.
pub(super) struct Capture {
    source: Option<OwnedFd>,
    /// There was more than the cap. The pipe stays open, so that the writer waits for its end
    /// instead of hearing of a broken pipe.
    over: bool,
    bytes: Vec<u8>,
    cap: usize,
}

impl Capture {
    /// Reads a pipe, keeping at most `cap` bytes.
    pub(super) fn new(source: OwnedFd, cap: usize) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&source)?;
        rustix::fs::fcntl_setfl(&source, flags | OFlags::NONBLOCK)?;
        Ok(Self { source: Some(source), over: false, bytes: Vec::new(), cap })
    }

    /// A stream that is not captured.
    pub(super) fn closed() -> Self {
        Self { source: None, over: false, bytes: Vec::new(), cap: 0 }
    }

    /// What to wait for; nothing after the end of the stream or beyond the cap.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().filter(|_| !self.over).map(AsFd::as_fd)
    }

    /// Reads a piece of what there is. True when there was more than the cap.
    pub(super) fn read(&mut self) -> bool {
        let Some(source) = self.source.as_ref().filter(|_| !self.over) else { return false };
        let mut buffer = [0; 1 << 14];
        match rustix::io::read(source, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Err(_) | Ok(0) => {
                self.source = None;
                false
            }
            Ok(count) => {
                let room = self.cap - self.bytes.len();
                self.bytes.extend_from_slice(&buffer[..count.min(room)]);
                self.over = count > room;
                self.over
            }
        }
    }

    /// Reads all that is left after the end of every writer. True when there was more than the cap.
    pub(super) fn drain(&mut self) -> bool {
        while self.source.is_some() {
            let before = self.bytes.len();
            if self.read() {
                return true;
            }
            // A writer outside the sandbox may still hold a descriptor that it was given.
            if self.bytes.len() == before {
                break;
            }
        }
        false
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
