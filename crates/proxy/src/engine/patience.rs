//! A request that waits for something here: until its time is over, or its client is gone.
//!
//! It does not know what is waited for. A client that ends its side may still wait for its answer, but not for long.

use std::task::Context;

use model::time::Instant;

use crate::engine::forward::Client;
use crate::engine::watch::{ENDED_CLIENT_TIMEOUT, Seen, watch};

/// How long a request waits.
#[derive(Debug)]
pub(crate) struct Patience {
    deadline: Instant,
    has_ended: bool,
}

/// What a look around showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It still waits; the task is woken by what changes that.
    Waits,
    /// The time is over.
    Late,
    /// The drain's deadline is over: nobody waits any more.
    Cut,
}

impl Patience {
    /// Until `deadline`.
    pub(crate) fn until(client: &Client<'_>, deadline: Instant) -> Self {
        client.slot.arm(deadline);
        Self { deadline, has_ended: false }
    }

    /// Looks at drain and time.
    pub(crate) fn look(&self, client: &Client<'_>, cx: &Context<'_>) -> Mood {
        let has_fired = client.slot.has_fired(cx);
        if client.worker.is_overdue() {
            return Mood::Cut;
        }
        if has_fired { Mood::Late } else { Mood::Waits }
    }

    /// Looks at the client; false when it is gone.
    pub(crate) fn watch(&mut self, client: &mut Client<'_>, cx: &mut Context<'_>) -> bool {
        if self.has_ended {
            return true;
        }
        match watch(client.stream, client.input, &client.worker.buffers, cx) {
            Seen::Nothing => true,
            Seen::End => {
                self.has_ended = true;
                self.deadline = self.deadline.min(client.worker.clock.refresh() + ENDED_CLIENT_TIMEOUT);
                client.slot.arm(self.deadline);
                true
            }
            Seen::Gone => false,
        }
    }
}
