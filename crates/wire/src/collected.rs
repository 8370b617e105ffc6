//! What the vaults of several roles say together: one item per key, whoever held it.
//!
//! Roles may be a message apart. The same socket from two of them is one socket; of two states of a process the
//! later counts; of two different sockets the first is kept. It does not judge whether a process still runs.

use std::collections::BTreeMap;

use crate::vault::{Process, VaultItem};

/// An item with its descriptor, where it has one.
pub type Kept<F> = (VaultItem, Option<F>);

/// What was collected so far, by key.
#[derive(Debug)]
pub struct Collected<F>(BTreeMap<String, Kept<F>>);

impl<F> Default for Collected<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<F> Collected<F> {
    /// Adds a deposit with its descriptors, in item order.
    ///
    /// # Errors
    /// When they do not match; nothing of it is taken then.
    pub fn add(&mut self, items: Vec<VaultItem>, descriptors: Vec<F>) -> Result<(), &'static str> {
        if items.iter().filter(|item| item.has_descriptor()).count() != descriptors.len() {
            return Err("a deposit whose descriptors do not match its items");
        }
        let mut descriptors = descriptors.into_iter();
        for item in items {
            let descriptor = if item.has_descriptor() { descriptors.next() } else { None };
            let key = item.key();
            if self.0.get(&key).is_none_or(|(held, _)| replaces(&item, held)) {
                self.0.insert(key, (item, descriptor));
            }
        }
        Ok(())
    }

    /// Everything, in order of the keys.
    pub fn into_items(self) -> impl Iterator<Item = Kept<F>> {
        self.0.into_values()
    }
}

fn replaces(new: &VaultItem, held: &VaultItem) -> bool {
    match (new, held) {
        (VaultItem::Process(new), VaultItem::Process(held)) => state(new) > state(held),
        _ => false,
    }
}

/// Grows with the life of a slot: a later process, and of one process its end.
fn state(process: &Process) -> (u64, bool) {
    (process.start_ticks, process.ended.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::ExitStatus;
    use crate::vault::{Listener, ListenerUse, ProcessRole};

    fn listener(name: &str) -> VaultItem {
        VaultItem::Listener(Listener {
            name: name.to_owned(),
            used_by: ListenerUse::Traffic,
            requested: "127.0.0.1:0".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            backlog: 16,
        })
    }

    fn process(start_ticks: u64, ended: Option<ExitStatus>) -> VaultItem {
        VaultItem::Process(Process {
            name: "web@1/0".to_owned(),
            role: ProcessRole::Instance,
            pid: 7,
            start_ticks,
            generation: 0,
            descriptor: false,
            cgroup: None,
            stop_signal: 15,
            grace_ms: 1,
            ended,
        })
    }

    #[test]
    fn a_socket_that_several_roles_hold_is_kept_once() {
        let mut collected = Collected::default();
        collected.add(vec![listener("web"), process(1, None), listener("api")], vec![1, 2]).unwrap();
        collected.add(vec![listener("api"), listener("web")], vec![3, 4]).unwrap();
        let sockets: Vec<_> = collected.into_items().filter_map(|(_, socket)| socket).collect();
        assert_eq!(sockets, [2, 1]);
    }

    #[test]
    fn of_two_states_of_a_process_the_later_counts_whoever_comes_first() {
        let (old, end) = (process(1, None), process(1, Some(ExitStatus::Code(3))));
        let new = process(2, None);
        for order in [[&old, &end, &new], [&new, &end, &old], [&end, &new, &old]] {
            let mut collected = Collected::<u8>::default();
            for item in order {
                collected.add(vec![item.clone()], vec![]).unwrap();
            }
            assert_eq!(collected.into_items().next().unwrap().0, new);
        }
        let mut collected = Collected::<u8>::default();
        collected.add(vec![end.clone(), old], vec![]).unwrap();
        assert_eq!(collected.into_items().next().unwrap().0, end);
    }

    #[test]
    fn a_deposit_that_lacks_a_descriptor_is_refused_whole() {
        let mut collected = Collected::default();
        assert!(collected.add(vec![listener("a"), listener("b")], vec![1]).is_err());
        assert!(collected.add(vec![process(1, None)], vec![1]).is_err());
        assert_eq!(collected.into_items().count(), 0);
    }
}
