//! A local stream that carries bytes and, with them, descriptors.
//!
//! Truncated descriptors are an error and never a shorter list, what is received is close-on-exec, and a peer that
//! is gone is an error and never a signal. It knows nothing of frames: `wire::session` does.

use std::io;
use std::path::Path;

use crate::Descriptor;

#[cfg(unix)]
#[path = "channel/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "channel/windows.rs"]
mod system;

/// Most descriptors that one message may carry.
pub const DESCRIPTORS_MAX: usize = 64;

/// Who is at the other end, as the system saw it when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// One end; non-blocking. Clones share it.
#[derive(Debug, Clone)]
pub struct Channel {
    socket: Descriptor,
}

impl Channel {
    /// Two ends, connected.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = system::pair()?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// The stream socket that was received as a descriptor.
    ///
    /// # Errors
    /// When it is no socket.
    pub fn from_descriptor(socket: Descriptor) -> io::Result<Self> {
        system::prepare(&socket)?;
        Ok(Self { socket })
    }

    /// Connects to a local socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: system::connect(path)? })
    }

    /// Takes the descriptor that this process was started with under that number. Once: whoever calls it owns it.
    ///
    /// # Errors
    /// When there is no such descriptor, or it is no socket.
    pub fn inherited(number: i32) -> io::Result<Self> {
        Self::from_descriptor(system::inherit(number)?)
    }

    /// Sends some of `bytes`, and all `descriptors` with the first of them.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits now; `BrokenPipe` when the peer is gone.
    pub fn send(&self, bytes: &[u8], descriptors: &[Descriptor]) -> io::Result<usize> {
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
        }
        system::send(&self.socket, bytes, descriptors)
    }

    /// Receives some bytes into `buffer`, and what descriptors came with them; 0 bytes mean that the peer closed.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `InvalidData` when descriptors were lost on the way.
    pub fn recv(&self, buffer: &mut [u8], descriptors: &mut Vec<Descriptor>) -> io::Result<usize> {
        system::receive(&self.socket, buffer, descriptors)
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn peer(&self) -> io::Result<Peer> {
        system::peer(&self.socket)
    }

    /// The descriptor itself, shared.
    pub fn descriptor(&self) -> Descriptor {
        self.socket.clone()
    }
}

/// A channel in a tokio runtime.
#[derive(Debug)]
pub struct AsyncChannel {
    channel: Channel,
    readiness: system::Readiness,
}

impl AsyncChannel {
    /// Registers the channel with the runtime that this is called in.
    ///
    /// # Errors
    /// When the system does not take it.
    pub fn new(channel: Channel) -> io::Result<Self> {
        let readiness = system::Readiness::new(channel.descriptor())?;
        Ok(Self { channel, readiness })
    }

    /// The channel itself.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Waits until `try_recv` may give something; cancel-safe.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn readable(&self) -> io::Result<()> {
        self.readiness.readable().await
    }

    /// Waits until `try_send` may take something; cancel-safe.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn writable(&self) -> io::Result<()> {
        self.readiness.writable().await
    }

    /// As `Channel::send`; `WouldBlock` makes `writable` wait again.
    ///
    /// # Errors
    /// As `Channel::send`.
    pub fn try_send(&self, bytes: &[u8], descriptors: &[Descriptor]) -> io::Result<usize> {
        self.readiness.try_write(|| self.channel.send(bytes, descriptors))
    }

    /// As `Channel::recv`; `WouldBlock` makes `readable` wait again.
    ///
    /// # Errors
    /// As `Channel::recv`.
    pub fn try_recv(&self, buffer: &mut [u8], descriptors: &mut Vec<Descriptor>) -> io::Result<usize> {
        self.readiness.try_read(|| self.channel.recv(buffer, descriptors))
    }
}
