//! What the parent and its child say to each other: one request with descriptors, one answer.
//!
//! Both go over one Unix socket. Descriptors travel with the first bytes, so no other child of a
//! parent with many threads can inherit them by accident.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::level::{Layers, Level};
use crate::program::{Limits, Report};

/// The most descriptors that one request carries.
pub(crate) const MOST_DESCRIPTORS: usize = 64;

/// The most bytes of one message; more is a broken peer.
const MOST_BYTES: u64 = 1 << 32;

/// What the child is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Find out which of these layers hold.
    Probe(Layers, Place),
    /// Run a program.
    Run(Box<Spec>),
}

/// Where programs live and what they may read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The sandbox's own folder, in which working folders are made.
    pub(crate) folder: OsString,
    /// Paths that may be read and executed besides the system's: as given, and without links.
    pub(crate) readable: Vec<(OsString, OsString)>,
}

/// A program and the layers around it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) level: Level,
    pub(crate) place: Place,
    /// Empty when the layers are only tried.
    pub(crate) command: Vec<OsString>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The number inside the program of each descriptor that came along.
    pub(crate) numbers: Vec<i32>,
    pub(crate) limits: Limits,
}

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The level that holds.
    Level(Level),
    /// What happened to the program.
    Report(Report),
    /// The sandbox itself failed.
    Broken(Failure),
}

/// A step that failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) layer: Layer,
    /// Completes "failed to".
    pub(crate) step: String,
    /// The system's answer.
    pub(crate) what: String,
}

/// The layer a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Layer {
    Namespaces,
    Landlock,
    Seccomp,
    Identity,
    /// Anything else, which no poorer level would mend.
    Other,
}

impl Failure {
    pub(crate) fn new(layer: Layer, step: impl Into<String>, what: &impl ToString) -> Self {
        Self { layer, step: step.into(), what: what.to_string() }
    }
}

/// Names the step of a failing call.
pub(crate) trait Step<T> {
    fn step(self, layer: Layer, step: &str) -> Result<T, Failure>;
}

impl<T, E: ToString> Step<T> for Result<T, E> {
    fn step(self, layer: Layer, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(layer, step, &error))
    }
}

/// Sends a value, with descriptors beside its first bytes.
pub(crate) fn send<T: Serialize>(
    mut socket: &UnixStream,
    value: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = postcard::to_allocvec(value).map_err(io::Error::other)?;
    let length = (body.len() as u64).to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&length)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    socket.write_all(&length[sent..])?;
    socket.write_all(&body)
}

/// Receives a value and the descriptors that came with it. The end of the stream is an error.
pub(crate) fn receive<T: DeserializeOwned>(
    mut socket: &UnixStream,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let slices = &mut [IoSliceMut::new(&mut length)];
        match rustix::net::recvmsg(socket.as_fd(), slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    socket.read_exact(&mut length[got..])?;
    let length = u64::from_le_bytes(length);
    if length > MOST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Vec::new();
    socket.take(length).read_to_end(&mut body)?;
    let value = postcard::from_bytes(&body).map_err(io::Error::other)?;
    Ok((value, descriptors))
}
