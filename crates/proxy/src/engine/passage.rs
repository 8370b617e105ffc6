//! The part of an exchange in which a large body passes inside the system, without being read.
//!
//! Only where nothing has to be looked at or added: a body of known length, to a client without TLS. The head, and what
//! came with it, has been written before. What is in the pipe when an exchange ends early is lost with the pipe, and
//! the client sees that its answer broke off.

use std::task::{Context, Poll};

use host::splice::Pipe;

use crate::engine::exchange::{Ended, Exchange, Step};
use crate::h1::body::BodyReader;

/// Shorter rests are read and written: the calls for a pipe are more, and what they spare is little.
const PASSED_BYTES_MIN: u64 = 128 << 10;

impl Exchange<'_> {
    /// How many bytes of the body can pass unread now, or still have to because some are in the pipe.
    pub(super) fn passage(&self) -> Option<u64> {
        let Some(BodyReader::Length(left)) = self.response.as_ref().map(|response| &response.body) else {
            return None;
        };
        let is_begun = self.pipe.is_some();
        let is_worth_it = *left >= if is_begun { 1 } else { PASSED_BYTES_MIN };
        let is_possible = self.client.plain().is_some() && Pipe::can_take(self.instance);
        let is_piped = self.pipe.as_ref().is_some_and(|pipe| pipe.filled() > 0);
        (is_piped || (is_worth_it && is_possible && self.download.is_empty() && !self.is_unpiped))
            .then_some(*left)
    }

    /// Moves what can be moved through the pipe; false when nothing can.
    pub(super) fn poll_pass(&mut self, left: u64, cx: &mut Context<'_>) -> Step {
        let Some(client) = self.client.plain() else { return Ok(false) };
        let Some(pipe) = self.pipe.take().or_else(|| self.worker.buffers.pipe()) else {
            // No descriptors: the ordinary way needs none.
            self.is_unpiped = true;
            return Ok(true);
        };
        let pipe = self.pipe.insert(pipe);
        if pipe.filled() > 0 {
            return match pipe.poll_drain(client, cx) {
                Poll::Pending => Ok(false),
                Poll::Ready(Ok(count)) if count > 0 => Ok(true),
                Poll::Ready(_) => Err(Ended::ClientGone),
            };
        }
        match pipe.poll_fill(self.instance, usize::try_from(left).unwrap_or(usize::MAX), cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(count)) if count > 0 => {
                self.body_bytes += count as u64;
                if let Some(response) = &mut self.response {
                    response.body.skip(count as u64);
                }
                Ok(true)
            }
            Poll::Ready(result) => self.instance_ended(result.is_ok()),
        }
    }
}
