//! SCM_RIGHTS over Unix stream sockets.
#![expect(unsafe_code, reason = "a descriptor is registered with the runtime through an unsafe call")]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
    socketpair,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{DESCRIPTORS_MAX, Peer};
use crate::Descriptor;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

pub(super) fn pair() -> io::Result<(Descriptor, Descriptor)> {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    Ok((Arc::new(a), Arc::new(b)))
}

pub(super) fn prepare(socket: &Descriptor) -> io::Result<()> {
    rustix::net::sockopt::socket_type(socket)?;
    rustix::io::ioctl_fionbio(socket, true)?;
    Ok(())
}

pub(super) fn connect(path: &Path) -> io::Result<Descriptor> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(Arc::new(socket))
}

pub(super) fn inherit(number: i32) -> io::Result<Descriptor> {
    crate::process::take_inherited(number)
}

pub(super) fn send(socket: &Descriptor, bytes: &[u8], descriptors: &[Descriptor]) -> io::Result<usize> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    loop {
        match sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

pub(super) fn receive(
    socket: &Descriptor,
    buffer: &mut [u8],
    descriptors: &mut Vec<Descriptor>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    // Draining owns, and so closes, also those that came with a truncated message.
    let received: Vec<Descriptor> = ancillary
        .drain()
        .filter_map(
            |part| if let RecvAncillaryMessage::ScmRights(rights) = part { Some(rights) } else { None },
        )
        .flatten()
        .map(Arc::new)
        .collect();
    // The space is rounded up, so that one or two too many may fit.
    if message.flags.contains(ReturnFlags::CTRUNC) || received.len() > DESCRIPTORS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "descriptors were lost on the way: the peer sent too many, or this process has none left",
        ));
    }
    descriptors.extend(received);
    Ok(message.bytes)
}

pub(super) fn peer(socket: &Descriptor) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer { pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(), uid: credentials.uid.as_raw() })
}

#[derive(Debug)]
pub(super) struct Readiness(AsyncFd<Descriptor>);

impl Readiness {
    pub(super) fn new(socket: Descriptor) -> io::Result<Self> {
        // SAFETY: the shared descriptor stays open as long as this clone of it, which the registration owns.
        Ok(Self(unsafe { AsyncFd::register(socket) }?))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.retain_ready();
        Ok(())
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.0.writable().await?.retain_ready();
        Ok(())
    }

    pub(super) fn try_write<R>(&self, send: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.0.try_io(Interest::WRITABLE, |_| send())
    }

    pub(super) fn try_read<R>(&self, receive: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.0.try_io(Interest::READABLE, |_| receive())
    }
}
