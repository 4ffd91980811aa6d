//! The link between supervisor and keeper: whole messages, and an end that both notice.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::child::keep::Note;
use crate::wire::{Failure, Layer, Step};

/// The most bytes of a note.
const MOST_BYTES: usize = 8192;

/// One end of the link.
pub(super) struct Link(OwnedFd);

impl Link {
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let lift = |end| rustix::io::fcntl_dupfd_cloexec(end, 256).map(Self);
        Ok((lift(one)?, lift(other)?))
    }

    /// Sends one order to the keeper.
    pub(super) fn order(&self, order: u8) -> io::Result<()> {
        rustix::net::send(&self.0, &[order], SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for an order. Nothing when the supervisor is gone.
    pub(super) fn next_order(&self) -> Option<u8> {
        let mut order = [0];
        loop {
            match rustix::net::recv(&self.0, &mut order, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Ok((1, _)) => return Some(order[0]),
                _ => return None,
            }
        }
    }

    /// Tells the supervisor. Best effort: if it is gone, the keeper notices by other means.
    pub(super) fn tell(&self, note: &Note) {
        let bytes = postcard::to_allocvec(note).expect("a note has no maps of unknown length");
        let _ = rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL);
    }

    /// Reads one note; nothing if the wait was interrupted. The end of the link is a failure.
    pub(super) fn note(&self) -> Result<Option<Note>, Failure> {
        let mut bytes = vec![0; MOST_BYTES];
        let count = match rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::empty()) {
            // A keeper that ended without reading an order resets the link, once; its last note is
            // still there.
            Err(Errno::INTR | Errno::CONNRESET) => return Ok(None),
            other => other.step(Layer::Other, "hear from the keeper")?.0,
        };
        if count == 0 {
            return Err(Failure::new(Layer::Other, "hear from the keeper", &"it died"));
        }
        postcard::from_bytes(&bytes[..count]).map(Some).step(Layer::Other, "read the keeper's note")
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
