//! Whether a client is still there while nothing is asked of it.
//!
//! No system call is made unless something came. What came is the client's next request, and stays in the input; once
//! that is full nothing more is seen. An orderly end may be that of one direction only, so it is no proof that nobody
//! waits for the answer: it has a limited time from then on. A reset is one.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::buffer::{Buffer, Buffers};
use crate::engine::client_stream::ClientStream;

/// How long an instance may think for a client whose side has ended. Most of these have left; who closed one
/// direction only still gets a quick answer.
pub(crate) const ENDED_CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a look at the client showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It waits, as far as can be seen; the task is woken by what changes that.
    Nothing,
    /// It will send no more. It is not to be looked at again.
    End,
    /// Its connection is broken.
    Gone,
}

/// Looks at the client.
pub(crate) fn watch(
    client: &mut ClientStream,
    input: &mut Buffer,
    buffers: &Buffers,
    cx: &mut Context<'_>,
) -> Seen {
    while client.poll_read_ready(cx).is_ready() {
        if input.capacity() == 0 {
            *input = buffers.small();
        }
        let size = input.capacity();
        if !input.make_room(size) {
            return Seen::Nothing;
        }
        match input.poll_fill(client, cx) {
            Poll::Ready(Ok(0)) => return Seen::End,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return Seen::Gone,
            Poll::Pending => break,
        }
    }
    if input.is_empty() && input.capacity() > 0 {
        buffers.give_back(std::mem::take(input));
    }
    Seen::Nothing
}
