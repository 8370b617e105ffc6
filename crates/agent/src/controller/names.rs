//! Names of endpoints: which are looked up, and what their last good answers were.
//!
//! A failed lookup changes nothing but what people are told, once. When to look again is the driver's to decide: it
//! knows for how long an answer holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Action, Controller};
use crate::world::Severity;

/// Most addresses of one name: more is no answer for a service.
const ADDRESSES_MAX: usize = 64;

/// What is known of names.
#[derive(Debug, Default)]
pub(super) struct Names {
    asked: BTreeSet<String>,
    answers: BTreeMap<String, Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    /// The last good one; empty while there was none.
    addresses: Vec<IpAddr>,
    /// Why the last lookup failed.
    failed: Option<String>,
}

impl Names {
    /// By the last good answer.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.answers.get(name).map(|answer| answer.addresses.as_slice()).unwrap_or_default()
    }

    /// There was a good answer.
    pub(super) fn is_known(&self, name: &str) -> bool {
        !self.addresses(name).is_empty()
    }

    /// Names whose last lookup failed, with why.
    pub(super) fn failing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.answers.iter().filter_map(|(name, answer)| Some((name.as_str(), answer.failed.as_deref()?)))
    }
}

impl Controller {
    /// These names are looked up from now on, and no others.
    pub(super) fn ask_names(&mut self, wanted: BTreeSet<String>) {
        if self.names.asked == wanted {
            return;
        }
        self.names.answers.retain(|name, _| wanted.contains(name));
        self.names.asked.clone_from(&wanted);
        self.out.push_back(Action::LookUp(wanted));
    }

    pub(super) fn handle_looked_up(&mut self, name: &str, result: Result<Vec<IpAddr>, String>) {
        if !self.names.asked.contains(name) {
            return;
        }
        let answer = self.names.answers.entry(name.to_owned()).or_default();
        let result = result.and_then(|addresses| {
            if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
        });
        let (severity, text) = match result {
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES_MAX);
                answer.addresses = addresses;
                if answer.failed.take().is_none() {
                    return;
                }
                (Severity::Info, format!("{name} can be looked up again"))
            }
            Err(why) => {
                let stays = if answer.addresses.is_empty() { "" } else { "; its former addresses stay" };
                if answer.failed.replace(why.clone()).is_some() {
                    return;
                }
                (Severity::Warning, format!("{name} cannot be looked up: {why}{stays}"))
            }
        };
        self.announce(severity, None, text.clone());
        self.append(None, "name", text, "agent");
    }
}
