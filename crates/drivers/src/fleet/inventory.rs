//! From what the vault holds to what the agent hears: everything that runs, as the holder knows it.

use agent::world::Inventory;
use wire::routes::RouteTable;
use wire::vault::{ProcessRole, VaultItem};

/// The inventory in the items of a vault.
pub(crate) fn compose<'a>(
    items: impl Iterator<Item = &'a VaultItem>,
    table: Option<RouteTable>,
    holder: u32,
) -> Inventory {
    let mut inventory = Inventory { table, holder, ..Inventory::default() };
    for item in items {
        match item {
            VaultItem::Listener(listener) => {
                inventory.listeners.push((listener.name.clone(), listener.address.clone()));
            }
            VaultItem::Process(process) => match (process.role, process.name.parse(), process.ended) {
                (ProcessRole::Proxy, _, None) => inventory.proxies.push((process.generation, process.pid)),
                (ProcessRole::Instance, Ok(instance), Some(status)) => {
                    inventory.ended.push((instance, status))
                }
                (ProcessRole::Instance, Ok(instance), None) => {
                    inventory.running.push((instance, process.pid))
                }
                (ProcessRole::Instance, Err(_), _) if process.name.contains('~') => {} // a task, and no instance
                (ProcessRole::Instance, Err(_), _) => {
                    tracing::warn!(name = process.name, "the vault has an instance that is none");
                }
                (ProcessRole::Agent | ProcessRole::Proxy, ..) => {}
            },
            VaultItem::Notify { .. } => {}
        }
    }
    inventory.proxies.sort_unstable();
    inventory
}

#[cfg(test)]
mod tests {
    use wire::link::ExitStatus;
    use wire::vault::{Listener, ListenerUse, Process};

    use super::*;

    fn process(name: &str, role: ProcessRole, pid: u32, ended: Option<ExitStatus>) -> VaultItem {
        let generation = name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        VaultItem::Process(Process {
            name: name.into(),
            role,
            pid,
            start_ticks: 1,
            generation,
            descriptor: false,
            cgroup: None,
            stop_signal: 15,
            grace_ms: 1,
            ended,
        })
    }

    #[test]
    fn the_living_and_the_ended_are_told_apart() {
        let listener = Listener {
            name: "web".into(),
            used_by: ListenerUse::Traffic,
            requested: "127.0.0.1:0".into(),
            address: "127.0.0.1:8080".into(),
            backlog: 1,
        };
        let items = [
            VaultItem::Listener(listener),
            process("proxy-2", ProcessRole::Proxy, 21, None),
            process("proxy-1", ProcessRole::Proxy, 20, None),
            process("proxy-0", ProcessRole::Proxy, 0, Some(ExitStatus::Signal(9))),
            process("agent-1", ProcessRole::Agent, 30, None),
            process("shop@1/0", ProcessRole::Instance, 40, None),
            process("shop@1/0~reload-3", ProcessRole::Instance, 41, None),
            process("shop@1/1", ProcessRole::Instance, 0, Some(ExitStatus::Code(1))),
        ];
        let inventory = compose(items.iter(), None, 7);
        assert_eq!(inventory.listeners, [("web".into(), "127.0.0.1:8080".into())]);
        assert_eq!(inventory.proxies, [(1, 20), (2, 21)]);
        assert_eq!(inventory.running, [("shop@1/0".parse().unwrap(), 40)]);
        assert_eq!(inventory.ended, [("shop@1/1".parse().unwrap(), ExitStatus::Code(1))]);
        assert_eq!(inventory.holder, 7);
    }
}
