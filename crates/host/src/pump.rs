//! Moves bytes and descriptors between a channel and whatever speaks a protocol on it, one step at a time.
//!
//! A step ends with something done, so that the caller looks at the messages that arrived, queues what it wants to
//! say, and steps again. It holds no data of its own: dropping a step that waits loses nothing.

use std::io;

use crate::Descriptor;
use crate::channel::AsyncChannel;

/// Bytes read in one step.
const READ_BYTES_MAX: usize = 64 << 10;

/// One end of a protocol: bytes and descriptors out and in.
pub trait Duplex {
    /// The bytes to write next, and the descriptors that must go with their first byte.
    fn transmit(&mut self) -> Option<(&[u8], &[Descriptor])>;
    /// The stream took that many bytes, and all the descriptors.
    fn transmitted(&mut self, written: usize);
    /// Bytes and descriptors from the stream.
    ///
    /// # Errors
    /// When the peer broke a rule; the connection is of no use then.
    fn receive(&mut self, bytes: &[u8], descriptors: Vec<Descriptor>) -> Result<(), String>;
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// Something was received.
    Read,
    /// Something was sent.
    Wrote,
    /// The peer closed, and all it had sent was received.
    Closed,
}

/// Waits until something can be read or written, and does it. Cancel-safe.
///
/// # Errors
/// When the connection fails or the peer breaks a rule (`InvalidData`).
pub async fn pump_once(channel: &AsyncChannel, duplex: &mut impl Duplex) -> io::Result<Pumped> {
    loop {
        let wants_to_write = duplex.transmit().is_some();
        let done = tokio::select! {
            ready = channel.readable() => {
                ready?;
                read_some(channel, duplex)?
            }
            ready = channel.writable(), if wants_to_write => {
                ready?;
                write_some(channel, duplex)?
            }
        };
        if let Some(pumped) = done {
            return Ok(pumped);
        }
    }
}

/// Reads what is there; `None` when nothing is.
fn read_some(channel: &AsyncChannel, duplex: &mut impl Duplex) -> io::Result<Option<Pumped>> {
    take_in(duplex, |buffer, descriptors| channel.try_recv(buffer, descriptors))
}

fn take_in(
    duplex: &mut impl Duplex,
    receive: impl FnOnce(&mut [u8], &mut Vec<Descriptor>) -> io::Result<usize>,
) -> io::Result<Option<Pumped>> {
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut descriptors = Vec::new();
    match receive(&mut buffer, &mut descriptors) {
        Ok(0) => Ok(Some(Pumped::Closed)),
        Ok(received) => {
            duplex
                .receive(&buffer[..received], descriptors)
                .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            Ok(Some(Pumped::Read))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Some(Pumped::Closed)),
        Err(error) => Err(error),
    }
}

/// Writes what fits; `None` when nothing does.
fn write_some(channel: &AsyncChannel, duplex: &mut impl Duplex) -> io::Result<Option<Pumped>> {
    let Some((bytes, descriptors)) = duplex.transmit() else { return Ok(None) };
    match channel.try_send(bytes, descriptors) {
        Ok(written) => {
            duplex.transmitted(written);
            Ok(Some(Pumped::Wrote))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // The peer is gone, and what it said before is still to be read; the runtime may not know of it yet.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            let left = take_in(duplex, |buffer, descriptors| channel.channel().recv(buffer, descriptors))?;
            Ok(Some(left.unwrap_or(Pumped::Closed)))
        }
        Err(error) => Err(error),
    }
}
