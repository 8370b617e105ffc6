//! Counters of one thread, as plain numbers: summed only when somebody asks.

use std::cell::Cell;
use std::time::Duration;

use wire::traffic::{Counters, ListenerCounters, ReleaseCounters};

/// Adds one.
pub(crate) fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// What happened to the requests of one release on one thread.
#[derive(Debug, Default)]
pub(crate) struct ReleaseStats {
    /// Service.
    pub(crate) service: String,
    /// Release; empty for requests that found no endpoint.
    pub(crate) release: String,
    /// Answered.
    pub(crate) requests: Cell<u64>,
    /// Answered 5xx.
    pub(crate) errors: Cell<u64>,
    /// Attempts tried again elsewhere.
    pub(crate) retried: Cell<u64>,
    /// No answer, or half of one.
    pub(crate) failed: Cell<u64>,
    /// Lost on a reused connection.
    pub(crate) lost_on_reuse: Cell<u64>,
    /// Times an endpoint was ejected.
    pub(crate) ejected: Cell<u64>,
    /// Waited for a slot.
    pub(crate) queued: Cell<u64>,
    /// Wait for a slot now.
    pub(crate) waiting: Cell<u64>,
    /// In flight now.
    pub(crate) in_flight: Cell<u64>,
    /// Longest wait for a connection since the last report, in µs.
    pub(crate) wait_us_max: Cell<u64>,
    /// Waited because no endpoint served.
    pub(crate) held: Cell<u64>,
    /// Longest such wait since the last report, in µs.
    pub(crate) hold_us_max: Cell<u64>,
}

impl ReleaseStats {
    /// Zeros.
    pub(crate) fn new(service: &str, release: &str) -> Self {
        Self { service: service.to_owned(), release: release.to_owned(), ..Self::default() }
    }

    /// Whether they are about that release.
    pub(crate) fn is_of(&self, service: &str, release: &str) -> bool {
        self.service == service && self.release == release
    }

    /// One request was answered with that status.
    pub(crate) fn answered(&self, status: u16) {
        count(&self.requests);
        if status >= 500 {
            count(&self.errors);
        }
    }

    /// One request waited that long because no endpoint served.
    pub(crate) fn was_held(&self, time: Duration) {
        count(&self.held);
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.hold_us_max.set(self.hold_us_max.get().max(us));
    }

    /// The numbers now; the longest waits start over.
    pub(crate) fn report(&self) -> ReleaseCounters {
        ReleaseCounters {
            service: self.service.clone(),
            release: self.release.clone(),
            requests: self.requests.get(),
            errors: self.errors.get(),
            retried: self.retried.get(),
            failed: self.failed.get(),
            lost_on_reuse: self.lost_on_reuse.get(),
            ejected: self.ejected.get(),
            queued: self.queued.get(),
            waiting: self.waiting.get(),
            ejected_now: 0,
            in_flight: self.in_flight.get(),
            wait_us_max: self.wait_us_max.take(),
            held: self.held.get(),
            hold_us_max: self.hold_us_max.take(),
        }
    }
}

/// What happened before a release was known, on one thread.
#[derive(Debug, Default)]
pub(crate) struct ThreadStats {
    /// Connections accepted.
    pub(crate) accepted: Cell<u64>,
    /// Requests refused before a route was known.
    pub(crate) refused: Cell<u64>,
}

/// What happened on one listener, on one thread.
#[derive(Debug, Default)]
pub(crate) struct ListenerStats {
    /// Its name.
    pub(crate) name: String,
    /// Open client connections now.
    pub(crate) connections: Cell<u64>,
    /// Of these, tunnels.
    pub(crate) tunnels: Cell<u64>,
    /// Connections accepted.
    pub(crate) accepted: Cell<u64>,
    /// TLS handshakes that were done.
    pub(crate) handshakes: Cell<u64>,
    /// Of these, such as went on from an earlier session.
    pub(crate) handshakes_resumed: Cell<u64>,
    /// TLS handshakes that failed, or came to no end.
    pub(crate) handshakes_failed: Cell<u64>,
    /// Requests refused before a route was known.
    pub(crate) refused: Cell<u64>,
}

impl ListenerStats {
    /// Zeros.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The numbers now.
    pub(crate) fn report(&self) -> ListenerCounters {
        ListenerCounters {
            listener: self.name.clone(),
            connections: self.connections.get(),
            tunnels: self.tunnels.get(),
            accepted: self.accepted.get(),
            handshakes: self.handshakes.get(),
            handshakes_resumed: self.handshakes_resumed.get(),
            handshakes_failed: self.handshakes_failed.get(),
            refused: self.refused.get(),
        }
    }
}

/// Takes one away.
pub(crate) fn uncount(cell: &Cell<u64>) {
    cell.set(cell.get().saturating_sub(1));
}

fn add_listener(sum: &mut Vec<ListenerCounters>, more: &ListenerCounters) {
    let Some(one) = sum.iter_mut().find(|one| one.listener == more.listener) else {
        return sum.push(more.clone());
    };
    one.connections += more.connections;
    one.tunnels += more.tunnels;
    one.accepted += more.accepted;
    one.handshakes += more.handshakes;
    one.handshakes_resumed += more.handshakes_resumed;
    one.handshakes_failed += more.handshakes_failed;
    one.refused += more.refused;
}

/// Adds the counters of one thread to those of others.
pub(crate) fn add(sum: &mut Counters, thread: &Counters) {
    sum.connections += thread.connections;
    sum.accepted += thread.accepted;
    sum.refused += thread.refused;
    sum.log_lines_dropped += thread.log_lines_dropped;
    thread.listeners.iter().for_each(|more| add_listener(&mut sum.listeners, more));
    for more in &thread.releases {
        let known = |one: &&mut ReleaseCounters| one.service == more.service && one.release == more.release;
        let Some(one) = sum.releases.iter_mut().find(known) else {
            sum.releases.push(more.clone());
            continue;
        };
        one.requests += more.requests;
        one.errors += more.errors;
        one.retried += more.retried;
        one.failed += more.failed;
        one.lost_on_reuse += more.lost_on_reuse;
        one.ejected += more.ejected;
        one.queued += more.queued;
        one.waiting += more.waiting;
        one.ejected_now = one.ejected_now.max(more.ejected_now);
        one.in_flight += more.in_flight;
        one.wait_us_max = one.wait_us_max.max(more.wait_us_max);
        one.held += more.held;
        one.hold_us_max = one.hold_us_max.max(more.hold_us_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_summed_by_release_and_the_longest_wait_counts() {
        let stats = ReleaseStats::new("web", "1");
        stats.answered(502);
        stats.answered(200);
        stats.wait_us_max.set(7);
        let thread = |stats: &ReleaseStats| Counters {
            accepted: 2,
            releases: vec![stats.report()],
            ..Counters::default()
        };
        let mut sum = Counters::default();
        add(&mut sum, &thread(&stats));
        add(&mut sum, &thread(&stats));
        let one = &sum.releases[0];
        assert_eq!((sum.accepted, sum.releases.len()), (4, 1));
        assert_eq!((one.requests, one.errors, one.wait_us_max), (4, 2, 7));
    }
}
