//! Whose rights a service has, and what it may use: users, masks, limits.

use model::manifest::{Account, Limits};

use super::super::error::Problem;
use super::super::raw;
use super::{Checks, entries};

/// Fewer files, and hardly any program starts.
const OPEN_FILES_MIN: u64 = 32;
/// More than any kernel grants.
const OPEN_FILES_MAX: u64 = 1 << 30;
/// Less memory, and no program starts.
const MEMORY_MIN: u64 = 1 << 20;
/// 1 PiB: more than any machine has.
const MEMORY_MAX: u64 = 1 << 50;
/// Most places shown with one warning.
const PLACES_MAX: usize = 4;

/// Whether the system knows the user, and the group where one is named.
pub(super) fn lookup(user: &str, group: Option<&str>) -> Result<(), String> {
    host::account::lookup(user, group).map(|_| ()).map_err(|error| error.to_string())
}

fn is_started_as_root(raw: &raw::Service) -> bool {
    raw.user.is_absent() && raw.endpoints.is_absent()
}

impl Checks<'_> {
    pub(super) fn account(&mut self, key: &str, raw: &raw::Service) -> Option<Account> {
        let group = raw.group.spot();
        let Some(user) = raw.user.spot() else {
            if let Some(group) = group.filter(|_| raw.user.is_absent()) {
                let problem =
                    Problem::error(&format!("{key}.group"), group.span.clone(), "`group` without `user`");
                self.push(
                    problem.help("name the user too; without one a service runs as whoever runs Handover"),
                );
            }
            return None;
        };
        let full = format!("{key}.user");
        if !self.machine.is_root {
            let message = format!("`user = \"{}\"` needs root", user.value);
            let problem =
                Problem::error(&full, user.span.clone(), message).label("only root may become another user");
            self.push(problem.help("run `handover up` as root, or take `user` out: it then runs as you"));
            return None;
        }
        let name = group.map(|group| group.value.as_str());
        if let Err(why) = (self.machine.account)(&user.value, name) {
            self.push(Problem::error(&full, user.span.clone(), why).label("looked up on this machine"));
        }
        Some(Account { user: user.value.clone(), group: name.map(str::to_owned) })
    }

    /// A service that is broken into is then all of the machine.
    pub(super) fn warn_of_root(&mut self, raw: &raw::Manifest) {
        if !self.machine.is_root {
            return;
        }
        let without: Vec<_> =
            entries(&raw.service).iter().filter(|(_, service)| is_started_as_root(&service.value)).collect();
        let Some(((first, _), rest)) = without.split_first() else { return };
        let message = match without.as_slice() {
            [_] => format!("`{}` runs as root", first.value),
            _ => format!("{} services run as root", without.len()),
        };
        let mut problem =
            Problem::warning(&format!("service.{}.user", first.value), first.span.clone(), message);
        for (name, _) in rest.iter().take(PLACES_MAX - 1) {
            problem = problem.and(name.span.clone(), "");
        }
        self.push(problem.help("write user = \"NAME\", a user with as few rights as it needs"));
    }

    pub(super) fn limits(&mut self, key: &str, raw: Option<&raw::Limits>) -> Limits {
        let Some(raw) = raw else { return Limits::default() };
        let open_files = raw.open_files.spot().map(|spot| {
            if !(OPEN_FILES_MIN..=OPEN_FILES_MAX).contains(&spot.value) {
                let message = format!("`open_files` must be {OPEN_FILES_MIN} to {OPEN_FILES_MAX}");
                self.push(Problem::error(&format!("{key}.open_files"), spot.span.clone(), message));
            } else if spot.value > self.machine.open_files {
                let message =
                    format!("`open_files` is more than the {} granted here", self.machine.open_files);
                let problem = Problem::error(&format!("{key}.open_files"), spot.span.clone(), message);
                self.push(
                    problem.help("write fewer, or raise the hard limit first (`ulimit -Hn`, LimitNOFILE=)"),
                );
            }
            spot.value
        });
        let memory = raw.memory.spot().map(|spot| {
            let full = format!("{key}.memory");
            if let Err(why) = (self.machine.memory)() {
                let problem = Problem::error(&full, spot.span.clone(), "`memory` cannot be limited here");
                self.push(problem.label("refused, so that nothing is silently ignored").help(why));
            }
            self.size(&full, &raw.memory, 0, MEMORY_MIN..=MEMORY_MAX)
        });
        Limits { open_files, memory }
    }
}
