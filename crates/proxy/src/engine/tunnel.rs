//! What follows a 101: bytes both ways between a client and an instance, until both sides have ended.
//!
//! ```text
//!  open ──end of one side──► its end is passed on, the other way goes on ──end of that──► over
//!    └── error, nothing moved for too long, drain's deadline ──────────────────────────► over
//! ```
//! Each way has one buffer, and only while there is something in it: more is read when that is written, so a slow side
//! slows the other down. What came before the 101 goes first. It begins only after the instance has agreed, and looks
//! at nothing that passes.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use host::upstream::Stream;
use model::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::{Buffer, Buffers, LARGE_BYTES};
use crate::engine::client_stream::ClientStream;
use crate::engine::exchange::Outgoing;
use crate::engine::slots::Slot;
use crate::engine::stats::{count, uncount};
use crate::engine::worker::Worker;

/// One of the two connections.
trait Side: AsyncRead + AsyncWrite + Unpin {
    /// Whether there may be something to read.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Side for ClientStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl Side for Stream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

/// What one way has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// Nothing more comes; that is to be passed on.
    Ending,
    Ended,
}

/// One way.
#[derive(Debug)]
struct Pipe {
    buffer: Buffer,
    flow: Flow,
    /// What was written may still be kept back.
    is_kept_back: bool,
    /// The last read filled the buffer.
    is_busy: bool,
    has_moved: bool,
    bytes: u64,
}

impl Pipe {
    /// One that begins with what was read already.
    fn new(buffer: Buffer) -> Self {
        let bytes = buffer.len() as u64;
        Self { buffer, flow: Flow::Open, is_kept_back: true, is_busy: false, has_moved: false, bytes }
    }

    /// Moves what can be moved; ready when its end was passed on.
    fn poll(
        &mut self,
        from: &mut impl Side,
        to: &mut impl Side,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.buffer.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, self.buffer.filled()))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.buffer.consume(written);
                (self.is_kept_back, self.has_moved) = (true, true);
            }
            match self.flow {
                Flow::Ended => return Poll::Ready(Ok(())),
                Flow::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    (self.flow, self.has_moved) = (Flow::Ended, true);
                    continue;
                }
                Flow::Open => {}
            }
            if self.is_kept_back {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                self.is_kept_back = false;
            }
            if !self.take_buffer(from, buffers, cx) {
                return Poll::Pending;
            }
            match self.buffer.poll_fill(from, cx)? {
                Poll::Pending => {
                    self.is_busy = false;
                    buffers.give_back(std::mem::take(&mut self.buffer));
                    return Poll::Pending;
                }
                Poll::Ready(0) => {
                    buffers.give_back(std::mem::take(&mut self.buffer));
                    self.flow = Flow::Ending;
                }
                Poll::Ready(count) => {
                    self.bytes += count as u64;
                    self.has_moved = true;
                    self.is_busy = count == self.buffer.capacity();
                }
            }
        }
    }

    /// Whether there is a buffer to read into: only when there may be something to read, and a large one where much
    /// comes at once.
    fn take_buffer(&mut self, from: &mut impl Side, buffers: &Buffers, cx: &mut Context<'_>) -> bool {
        if self.is_busy && self.buffer.capacity() < LARGE_BYTES {
            buffers.give_back(std::mem::replace(&mut self.buffer, buffers.large()));
        }
        if self.buffer.capacity() > 0 {
            return true;
        }
        // What is wrong with it the read will say.
        let may_read = from.poll_ready(cx).is_ready();
        if may_read {
            self.buffer = buffers.small();
        }
        may_read
    }
}

/// How much passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// From the client.
    pub(crate) received: u64,
    /// To the client, as far as it was read for it.
    pub(crate) sent: u64,
}

/// What a tunnel is made of.
pub(crate) struct Ends<'a> {
    pub(crate) worker: &'a Worker,
    /// Where it is counted.
    pub(crate) tunnels: &'a Cell<u64>,
    pub(crate) slot: &'a Slot,
    pub(crate) client: &'a mut ClientStream,
    /// What the client sent early.
    pub(crate) input: Buffer,
    /// The 101, as far as it is still to be written.
    pub(crate) answer: &'a mut Outgoing,
    pub(crate) instance: Stream,
    /// What the instance sent behind its 101.
    pub(crate) download: Buffer,
    /// Longest time in which nothing moves.
    pub(crate) idle_timeout: Duration,
}

/// Counts a tunnel while it is open.
struct Counted<'a>(&'a Cell<u64>);

impl<'a> Counted<'a> {
    fn new(tunnels: &'a Cell<u64>) -> Self {
        count(tunnels);
        Self(tunnels)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        uncount(self.0);
    }
}

/// Passes bytes on until it is over.
pub(crate) async fn run(ends: Ends<'_>) -> Passed {
    let Ends { worker, tunnels, slot, client, input, answer, mut instance, download, idle_timeout } = ends;
    let _counted = Counted::new(tunnels);
    let (mut up, mut down) = (Pipe::new(input), Pipe::new(download));
    slot.clear_limit();
    slot.arm(worker.clock.now() + idle_timeout);
    poll_fn(|cx| {
        let now: Instant = worker.clock.refresh();
        let has_fired = slot.has_fired(cx);
        if worker.is_cut() {
            return Poll::Ready(());
        }
        let sent_up = up.poll(client, &mut instance, &worker.buffers, cx);
        let sent_down = match poll_answer(answer, client, &worker.buffers, cx) {
            Poll::Ready(Ok(())) => down.poll(&mut instance, client, &worker.buffers, cx),
            not_yet => not_yet,
        };
        match (sent_up, sent_down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            (Poll::Ready(Err(_)), _) => return Poll::Ready(()),
            (_, Poll::Ready(Err(_))) => {
                // What came so far must not look like all of it; nothing more can be done if this fails.
                let _ = client.set_zero_linger();
                return Poll::Ready(());
            }
            _ => {}
        }
        let has_moved = std::mem::take(&mut up.has_moved) | std::mem::take(&mut down.has_moved);
        if has_moved {
            slot.arm(now + idle_timeout);
        } else if has_fired {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
    for pipe in [&mut up, &mut down] {
        worker.buffers.give_back(std::mem::take(&mut pipe.buffer));
    }
    Passed { received: up.bytes, sent: down.bytes }
}

/// Writes what is left of the 101, and gives its buffer back.
fn poll_answer(
    answer: &mut Outgoing,
    client: &mut ClientStream,
    buffers: &Buffers,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if answer.bytes.capacity() > 0 {
        ready!(answer.poll_write(client, &[], cx))?;
        buffers.give_back_output(std::mem::take(&mut answer.bytes));
    }
    Poll::Ready(Ok(()))
}
