//! One end of a link: frames in and out, descriptors with them, acknowledged before the next frame.
//!
//! ```text
//!  queue() ──► [out] ──transmit()/transmitted()──► stream ──receive()──► poll_message()
//!                │ a frame with descriptors closes the gate; the peer's ack opens it.
//!                └ acks of our own pass the gate, or two senders would wait for each other.
//! ```
//! `F` is whatever a descriptor is to the driver; the session only counts and moves them. It does no
//! IO, keeps no clock, and trusts the peer in nothing: lengths, counts and acks are checked.

use std::collections::VecDeque;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{self, FrameError, Head, KIND_ACK};

/// Most bytes that wait to be sent; a peer that does not read for that long is given up.
pub const OUT_BYTES_MAX: usize = 32 << 20;

/// Why a link cannot go on. The driver closes it and treats the peer as gone.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A frame broke a rule.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame announced another number of descriptors than arrived.
    #[error("a frame announced {announced} descriptors and {received} arrived")]
    DescriptorCount {
        /// In the frame.
        announced: usize,
        /// With it.
        received: usize,
    },
    /// An ack without a frame that wants one.
    #[error("the peer acknowledged descriptors that were never sent")]
    UnexpectedAck,
    /// The peer does not read.
    #[error("{OUT_BYTES_MAX} bytes wait and the peer does not read them")]
    Backlog,
}

#[derive(Debug)]
struct OutFrame<F> {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<F>,
    wants_ack: bool,
}

/// One end of a link that receives messages of type `In`.
#[derive(Debug)]
pub struct Session<In, F> {
    out: VecDeque<OutFrame<F>>,
    out_bytes: usize,
    current: Option<OutFrame<F>>,
    acks_due: usize,
    awaiting_ack: bool,
    input: Vec<u8>,
    input_descriptors: VecDeque<F>,
    incoming: PhantomData<fn() -> In>,
}

impl<In: DeserializeOwned, F> Default for Session<In, F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<In: DeserializeOwned, F> Session<In, F> {
    /// A session on a fresh stream.
    pub fn new() -> Self {
        Self {
            out: VecDeque::new(),
            out_bytes: 0,
            current: None,
            acks_due: 0,
            awaiting_ack: false,
            input: Vec::new(),
            input_descriptors: VecDeque::new(),
            incoming: PhantomData,
        }
    }

    /// Queues `message` with its descriptors, which the session owns until the peer has them.
    ///
    /// # Errors
    /// When a limit is broken; the message is then not queued.
    pub fn queue<M: Serialize>(&mut self, message: &M, descriptors: Vec<F>) -> Result<(), SessionError> {
        let bytes = frame::encode(message, descriptors.len())?;
        if self.out_bytes + bytes.len() > OUT_BYTES_MAX {
            return Err(SessionError::Backlog);
        }
        self.out_bytes += bytes.len();
        let wants_ack = !descriptors.is_empty();
        self.out.push_back(OutFrame { bytes, sent: 0, descriptors, wants_ack });
        Ok(())
    }

    /// The bytes to write next, and the descriptors that must go with their first byte.
    pub fn transmit(&mut self) -> Option<(&[u8], &[F])> {
        if self.current.is_none() {
            self.current = self.next_frame();
        }
        self.current.as_ref().map(|frame| (&frame.bytes[frame.sent..], frame.descriptors.as_slice()))
    }

    fn next_frame(&mut self) -> Option<OutFrame<F>> {
        if self.acks_due > 0 {
            self.acks_due -= 1;
            #[derive(Serialize)]
            struct Ack {
                kind: &'static str,
            }
            let bytes = frame::encode(&Ack { kind: KIND_ACK }, 0).expect("invariant: an ack is small");
            return Some(OutFrame { bytes, sent: 0, descriptors: Vec::new(), wants_ack: false });
        }
        if self.awaiting_ack {
            return None;
        }
        let frame = self.out.pop_front()?;
        self.out_bytes -= frame.bytes.len();
        Some(frame)
    }

    /// The stream took `written` of the bytes that `transmit` gave, and with them all descriptors.
    pub fn transmitted(&mut self, written: usize) {
        let Some(frame) = &mut self.current else { return };
        if written == 0 {
            return;
        }
        frame.descriptors.clear();
        frame.sent = (frame.sent + written).min(frame.bytes.len());
        if frame.sent == frame.bytes.len() {
            self.awaiting_ack |= frame.wants_ack;
            self.current = None;
        }
    }

    /// Whether anything still has to leave, or be acknowledged.
    pub fn is_flushed(&self) -> bool {
        self.current.is_none() && self.out.is_empty() && self.acks_due == 0 && !self.awaiting_ack
    }

    /// Bytes and descriptors that the stream gave.
    ///
    /// # Errors
    /// When the peer sent more descriptors than a frame may carry.
    pub fn receive(&mut self, bytes: &[u8], descriptors: Vec<F>) -> Result<(), SessionError> {
        self.input.extend_from_slice(bytes);
        self.input_descriptors.extend(descriptors);
        let held = self.input_descriptors.len();
        // Acks gate the sender, so at most one frame's descriptors can be here at a time.
        if held > frame::DESCRIPTORS_MAX {
            return Err(FrameError::TooManyDescriptors(held).into());
        }
        Ok(())
    }

    /// The next whole message with its descriptors, or `None` until more is received.
    ///
    /// # Errors
    /// When the peer broke the protocol; the link is of no use then.
    pub fn poll_message(&mut self) -> Result<Option<(In, Vec<F>)>, SessionError> {
        while let Some(length) = frame::length(&self.input)? {
            if self.input.len() < length {
                return Ok(None);
            }
            let rest = self.input.split_off(length);
            let whole = std::mem::replace(&mut self.input, rest);
            let head: Head = serde_json::from_slice(&whole[4..]).map_err(FrameError::Json)?;
            if head.kind == KIND_ACK {
                if !std::mem::take(&mut self.awaiting_ack) {
                    return Err(SessionError::UnexpectedAck);
                }
                continue;
            }
            let received = self.input_descriptors.len();
            if head.descriptors > received {
                return Err(SessionError::DescriptorCount { announced: head.descriptors, received });
            }
            let descriptors: Vec<F> = self.input_descriptors.drain(..head.descriptors).collect();
            if !descriptors.is_empty() {
                self.acks_due += 1;
            }
            let message = serde_json::from_slice(&whole[4..]).map_err(FrameError::Json)?;
            return Ok(Some((message, descriptors)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", content = "body", rename_all = "kebab-case")]
    enum Message {
        Alive,
        Count { n: u32 },
    }

    type End = Session<Message, u8>;

    fn pump(from: &mut End, to: &mut End, chunk: usize) {
        while let Some((bytes, descriptors)) = from.transmit() {
            let n = bytes.len().min(chunk);
            to.receive(&bytes[..n], descriptors.to_vec()).unwrap();
            from.transmitted(n);
        }
    }

    #[test]
    fn messages_arrive_in_order_whatever_the_pieces() {
        for chunk in [1, 3, 7, 4096] {
            let (mut a, mut b) = (End::new(), End::new());
            a.queue(&Message::Alive, vec![]).unwrap();
            a.queue(&Message::Count { n: 7 }, vec![9]).unwrap();
            pump(&mut a, &mut b, chunk);
            assert_eq!(b.poll_message().unwrap(), Some((Message::Alive, vec![])));
            assert_eq!(b.poll_message().unwrap(), Some((Message::Count { n: 7 }, vec![9])));
            assert_eq!(b.poll_message().unwrap(), None);
        }
    }

    #[test]
    fn nothing_follows_descriptors_before_their_ack_and_two_senders_do_not_block_each_other() {
        let (mut a, mut b) = (End::new(), End::new());
        a.queue(&Message::Count { n: 1 }, vec![1]).unwrap();
        a.queue(&Message::Alive, vec![]).unwrap();
        b.queue(&Message::Count { n: 2 }, vec![2]).unwrap();
        b.queue(&Message::Alive, vec![]).unwrap();
        pump(&mut a, &mut b, 64);
        pump(&mut b, &mut a, 64);
        assert!(!a.is_flushed());
        assert!(b.poll_message().unwrap().is_some() && b.poll_message().unwrap().is_none());
        assert!(a.poll_message().unwrap().is_some());
        pump(&mut a, &mut b, 64); // only the ack
        assert!(b.poll_message().unwrap().is_none());
        pump(&mut b, &mut a, 64);
        assert_eq!(a.poll_message().unwrap(), Some((Message::Alive, vec![])));
        pump(&mut a, &mut b, 64);
        assert_eq!(b.poll_message().unwrap(), Some((Message::Alive, vec![])));
        assert!(a.is_flushed() && b.is_flushed());
    }

    #[test]
    fn a_hostile_peer_gets_an_error_and_no_memory() {
        let mut a = End::new();
        a.receive(&[0xff; 8], vec![]).unwrap();
        assert!(a.poll_message().is_err());
        let mut a = End::new();
        a.receive(&frame::encode(&Message::Count { n: 1 }, 3).unwrap(), vec![1]).unwrap();
        assert!(matches!(a.poll_message(), Err(SessionError::DescriptorCount { announced: 3, received: 1 })));
        let mut a = End::new();
        a.receive(b"\0\0\0\x12{\"v\":1,\"kind\":\"ack\"}", vec![]).unwrap();
        assert!(a.poll_message().is_err());
        assert!(End::new().receive(b"", vec![0; 65]).is_err());
    }
}
