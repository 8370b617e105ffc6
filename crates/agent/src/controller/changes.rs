//! What differs between the manifest last applied and a given one, and what making it true does.
//!
//! Keys are compared with the manifest *last applied*, not with what holds: what a person has set since, by
//! `deploy`, `scale` or `stop`, stays unless that key was edited.
//!
//! It deliberately changes nothing, so that a plan and an apply cannot say different things.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use model::id::{ServiceName, Version};
use model::manifest as checked;
use model::manifest::{LivenessCheck, ReadinessCheck};
use wire::differences::differences;

use super::Controller;
use super::services::Service;
use crate::denied::Denied;
use crate::world::{ApplyRequest, Change, Effect};

/// Keys of a service that need other processes.
const ROLLOUT_KEYS: [&str; 12] = [
    "command",
    "environment",
    "environment_file",
    "environment_inherit",
    "group",
    "limits",
    "mode",
    "port",
    "release",
    "umask",
    "user",
    "version",
];
const WORKING_DIRECTORY: &str = "working_directory";
/// What is started anew with all of Handover.
const NEXT_UP: &str = "the next start of Handover: `handover down`, then `handover up`";

/// Why a service that runs here cannot be one that does not.
const BECOMES_FRONTED: &str = "it is run by Handover now; give the one with `endpoints` another name and let the route \
     lead there, or take this one out first";
/// Why one that does not run here cannot be one that does.
const BECOMES_OURS: &str = "only its endpoints were known until now; give the one with a `release` another name and \
     let the route lead there, or take this one out first";

/// What happens to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// It was not there.
    Add,
    /// Its settings hold at once.
    Settle,
    /// And another number of instances.
    Scale,
    /// Another release, or the same with another configuration.
    RollOut { version: Version, source: PathBuf },
    /// Its first release, which did not come up, is tried again.
    TryAgain,
    /// As `RollOut` when it is started; it is stopped now.
    RollOutLater { version: Version, source: PathBuf },
    /// Nothing of it stays.
    Remove,
}

/// A manifest compared with what holds.
#[derive(Debug)]
pub(super) struct Compared {
    pub given: checked::Manifest,
    pub changes: Vec<Change>,
    pub deeds: BTreeMap<ServiceName, Deed>,
    /// Services whose `instances` was edited: what `scale` has set is over.
    pub rescaled: BTreeSet<ServiceName>,
    /// Listeners that have to be bound, some of them to another address.
    pub bind: BTreeSet<String>,
}

impl Controller {
    pub(super) fn compare_manifest(&self, request: &ApplyRequest) -> Result<Compared, Denied> {
        let given = checked::Manifest::try_from(&request.manifest)
            .map_err(|error| Denied::Manifest { why: error.to_string() })?;
        let keys = differences(&self.base.wire, &request.manifest);
        let mut compared = Compared {
            changes: Vec::new(),
            deeds: BTreeMap::new(),
            rescaled: BTreeSet::new(),
            bind: BTreeSet::new(),
            given,
        };
        let names = compared.given.services.keys().chain(self.services.keys()).cloned();
        for name in names.collect::<BTreeSet<_>>() {
            let prefix = format!("service.{name}");
            let is_own = |key: &&String| **key == prefix || key.starts_with(&format!("{prefix}."));
            let own: Vec<&str> = keys.iter().filter(is_own).map(String::as_str).collect();
            self.compare_service(&name, &own, &mut compared);
        }
        self.compare_fronted(&keys, &mut compared);
        for key in keys.iter().filter(|key| !key.starts_with("service.")) {
            let effect = compare_base(key, &self.base.wire, &request.manifest, &mut compared.bind);
            compared.changes.push(Change { key: key.clone(), service: None, effect });
        }
        Ok(compared)
    }

    /// Services whose processes are not ours: what is said of them holds at once.
    fn compare_fronted(&self, keys: &[String], compared: &mut Compared) {
        let is_ours = |name: &ServiceName| self.services.contains_key(name);
        let known = self.fronted.iter().filter(|(_, front)| !front.is_removed()).map(|(name, _)| name);
        let known: BTreeSet<&ServiceName> = known.collect();
        let names = compared.given.fronted.keys().chain(known.iter().copied()).cloned();
        for name in names.collect::<BTreeSet<ServiceName>>() {
            let whole = format!("service.{name}");
            let given = compared.given.fronted.contains_key(&name);
            let mut say = |key: &str, effect| {
                let service = Some(name.to_string());
                compared.changes.push(Change { key: key.to_owned(), service, effect });
            };
            match (known.contains(&name), given) {
                (_, true) if is_ours(&name) => say(&whole, Effect::Refused(BECOMES_FRONTED.to_owned())),
                (true, false) if compared.given.services.contains_key(&name) => {
                    say(&whole, Effect::Refused(BECOMES_OURS.to_owned()));
                }
                (true, false) => say(&whole, Effect::Removed),
                (false, _) => say(&whole, Effect::Added),
                (true, true) => {
                    let own = keys.iter().filter(|key| key.starts_with(&format!("{whole}.")));
                    own.for_each(|key| say(key, Effect::Live));
                }
            }
        }
    }

    fn compare_service(&self, name: &ServiceName, keys: &[&str], compared: &mut Compared) {
        let known = self.services.get(name).filter(|service| !service.desired.removed);
        let given = compared.given.services.get(name);
        let changes = &mut compared.changes;
        let mut say = |key: String, effect| {
            changes.push(Change { key, service: Some(name.to_string()), effect });
        };
        let deed = match (known, given) {
            (None, None) => return,
            (None, Some(_)) => {
                say(format!("service.{name}"), Effect::Added);
                Deed::Add
            }
            (Some(_), None) => {
                say(format!("service.{name}"), Effect::Removed);
                Deed::Remove
            }
            (Some(_), Some(_)) if keys.is_empty() => return,
            (Some(known), Some(given)) => {
                let old = self.base.manifest.services.get(name).unwrap_or(&known.settings);
                let (deed, rollout) = decide(known, old, given, keys);
                if old.instances != given.instances {
                    compared.rescaled.insert(name.clone());
                }
                for key in keys {
                    let effect = match &rollout {
                        Some(rollout) if is_rollout_key(key) => rollout.clone(),
                        _ => live(name, key, old, given),
                    };
                    say((*key).to_owned(), effect);
                }
                deed
            }
        };
        compared.deeds.insert(name.clone(), deed);
    }
}

/// The key of a service without `service.NAME.`, up to the next dot.
fn own_key(key: &str) -> &str {
    key.split('.').nth(2).unwrap_or_default()
}

fn is_rollout_key(key: &str) -> bool {
    let own = own_key(key);
    ROLLOUT_KEYS.contains(&own) || own == WORKING_DIRECTORY
}

/// What happens to a service, and what its keys that need other processes lead to.
fn decide(
    service: &Service,
    old: &checked::Service,
    given: &checked::Service,
    keys: &[&str],
) -> (Deed, Option<Effect>) {
    let scales = old.instances != given.instances;
    let settled = if scales { Deed::Scale } else { Deed::Settle };
    if !keys.iter().any(|key| is_rollout_key(key)) && service.stable.is_some() {
        return (settled, None);
    }
    let is_edited = old.release != given.release || old.version != given.version;
    let stable = service.stable.as_ref().and_then(|stable| service.release(stable));
    let (version, source) = match stable {
        Some(stable) if !is_edited => (stable.id.version.clone(), PathBuf::from(&stable.record.source)),
        _ => (given.version.clone(), given.release.clone()),
    };
    let mut configuration = wire::manifest::Service::from(given);
    configuration.release.clone_from(&source);
    configuration.version = version.to_string();
    let id = service.release_id(&version, &configuration);
    // What a rollout leads to now would be stable afterwards, whatever this says.
    let is_left = service
        .rollout
        .as_ref()
        .is_some_and(|running| !running.machine.phase().is_promoted() && running.machine.plan().to != id);
    if service.stable.as_ref() == Some(&id) && !is_left {
        return (settled, None);
    }
    let effect = Effect::Rollout { release: id.to_string(), gap: gap(service, given) };
    if service.desired.stopped {
        let start = "the next `handover start` of it, by a rollout".to_owned();
        return (Deed::RollOutLater { version, source }, Some(Effect::NextStart(start)));
    }
    let deed = match service.stable {
        Some(_) => Deed::RollOut { version, source },
        None => Deed::TryAgain,
    };
    (deed, Some(effect))
}

/// Why requests wait while a service gets another release, where they do.
pub(super) fn gap(service: &Service, given: &checked::Service) -> Option<String> {
    let recreates = given.rollout.strategy == checked::Strategy::Recreate && service.stable.is_some();
    if !recreates {
        return None;
    }
    let why = match given.port {
        Some(port) => format!("port {port} is fixed, so the old instance ends before the new one starts"),
        None => "only one process of it may run, so the old one ends before the new one starts".to_owned(),
    };
    Some(match given.mode {
        checked::Mode::Proxied => {
            format!("{why}; requests wait meanwhile, for at most 30 s and at most 1,000 of them")
        }
        checked::Mode::Worker => format!("{why}; nothing of it works meanwhile"),
    })
}

/// What a key does that needs no other process.
fn live(name: &ServiceName, key: &str, old: &checked::Service, given: &checked::Service) -> Effect {
    let needs_start = match own_key(key) {
        // Its process is told where and how to say so when it starts.
        "readiness" => {
            let check = &given.readiness.check;
            *check != old.readiness.check && matches!(check, ReadinessCheck::Notify | ReadinessCheck::Log(_))
        }
        "liveness" => {
            let watchdog = |service: &checked::Service| {
                service.liveness.as_ref().filter(|l| l.check == LivenessCheck::Watchdog).map(|l| l.interval)
            };
            watchdog(given).is_some() && watchdog(given) != watchdog(old)
        }
        _ => false,
    };
    if needs_start {
        return Effect::NextStart(format!("the next start of its instances: `handover restart {name}`"));
    }
    Effect::Live
}

fn compare_base(
    key: &str,
    holds: &wire::manifest::Manifest,
    given: &wire::manifest::Manifest,
    bind: &mut BTreeSet<String>,
) -> Effect {
    let mut words = key.split('.');
    match (words.next().unwrap_or_default(), words.next(), words.next()) {
        ("state_dir", ..) => Effect::Refused(
            "everything that must survive lives there: stop Handover, move it, and start it with the new place".to_owned(),
        ),
        ("proxy", Some("threads"), _) => Effect::NextStart(NEXT_UP.to_owned()),
        ("admin", ..) => {
            bind.insert("admin".to_owned());
            Effect::Rebound
        }
        ("listener", Some(name), own) => {
            let (old, new) = (holds.listeners.get(name), given.listeners.get(name));
            match (old, new, own) {
                (_, None, _) => Effect::Removed,
                (None, Some(_), _) => {
                    bind.insert(name.to_owned());
                    Effect::Added
                }
                (Some(_), Some(_), Some("bind")) => {
                    bind.insert(name.to_owned());
                    Effect::Rebound
                }
                (Some(_), Some(_), own) => {
                    if own == Some("backlog") {
                        bind.insert(name.to_owned());
                    }
                    Effect::Live
                }
            }
        }
        _ => Effect::Live,
    }
}
