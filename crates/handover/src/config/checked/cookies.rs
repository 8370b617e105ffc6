//! Cookies that two services would take from each other.
//!
//! A browser has one cookie of a name for a host, whatever the port and path: a mark of one service overwrites that of
//! another, and visitors are kept on neither.

use std::ops::Range;

use model::manifest::{HostPattern, Route};

use super::super::error::Problem;
use super::super::raw;
use super::{Checks, entries};

/// A service that keeps its visitors by a cookie.
struct Marked<'a> {
    service: &'a str,
    cookie: &'a str,
    span: Range<usize>,
    hosts: Vec<&'a HostPattern>,
}

impl Checks<'_> {
    /// Warns of services that are reached at one host and mark their visitors by one name.
    pub(super) fn shared_cookies(&mut self, raw: &raw::Manifest, routes: &[Route]) {
        let mut earlier: Vec<Marked<'_>> = Vec::new();
        for (name, table) in entries(&raw.service) {
            let sticky = table.value.rollout.get().and_then(|rollout| rollout.sticky.get());
            let Some(cookie) = sticky.and_then(|sticky| sticky.cookie.spot()) else { continue };
            let leads = |route: &&Route| route.to.iter().any(|share| share.service.as_str() == name.value);
            let marked = Marked {
                service: &name.value,
                cookie: &cookie.value,
                span: cookie.span.clone(),
                hosts: routes.iter().filter(leads).map(|route| &route.host).collect(),
            };
            if let Some(other) = earlier.iter().find(|other| other.disturbs(&marked)) {
                let message = format!(
                    "`{}` and `{}` keep their visitors by the same cookie, and may be reached at the same host: each \
                     overwrites the other's",
                    other.service, marked.service
                );
                let key = format!("service.{}.rollout.sticky.cookie", marked.service);
                let help = format!("give each its own: cookie = \"{}_{}\"", marked.cookie, marked.service);
                let problem = Problem::warning(&key, marked.span.clone(), message);
                self.push(problem.and(other.span.clone(), "the same name").help(help));
            }
            earlier.push(marked);
        }
    }
}

impl Marked<'_> {
    fn disturbs(&self, other: &Self) -> bool {
        let meet = |host: &HostPattern| other.hosts.iter().any(|one| do_meet(host, one));
        self.cookie == other.cookie && self.hosts.iter().any(|host| meet(host))
    }
}

/// Whether one host may be of both.
fn do_meet(a: &HostPattern, b: &HostPattern) -> bool {
    match (a, b) {
        (HostPattern::Any, _) | (_, HostPattern::Any) => true,
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a == b,
        (HostPattern::Exact(host), HostPattern::Suffix(end))
        | (HostPattern::Suffix(end), HostPattern::Exact(host)) => host.ends_with(end.as_str()),
        (HostPattern::Suffix(a), HostPattern::Suffix(b)) => {
            a.ends_with(b.as_str()) || b.ends_with(a.as_str())
        }
    }
}
