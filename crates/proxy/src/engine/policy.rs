//! What decides about an instance's answer before the client sees any of it.
//!
//! It does not know who could be asked instead: whether anybody can is decided before the attempt.

use std::cell::RefCell;

use model::balance::RetryBudget;
use model::time::Instant;

use crate::engine::exchange::Ended;
use crate::h1::response::ResponseHead;

/// What holds for the answer of one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy<'a> {
    /// What the instance says about draining is believed.
    pub(crate) believes_draining: bool,
    /// Statuses that are tried again, where this request can be, and what that costs.
    pub(crate) retried: Option<(&'a [u16], &'a RefCell<RetryBudget>)>,
    /// A whole header field that marks the visitor.
    pub(crate) cookie: Option<&'a str>,
}

impl Policy<'_> {
    /// How the attempt ends when the answer is not passed on; a retry is then paid for.
    pub(crate) fn refuses(&self, response: &ResponseHead, now: Instant) -> Option<Ended> {
        if response.is_draining && self.believes_draining {
            return Some(Ended::Draining);
        }
        let (statuses, budget) = self.retried?;
        let is_unwanted = statuses.contains(&response.status) && budget.borrow_mut().try_take(now);
        is_unwanted.then_some(Ended::Unwanted(response.status))
    }

    /// Adds the mark to a head that is whole.
    pub(crate) fn mark(&self, head: &mut Vec<u8>) {
        if let Some(cookie) = self.cookie {
            // The empty line moves behind it.
            head.truncate(head.len() - 2);
            head.extend_from_slice(cookie.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
    }
}
