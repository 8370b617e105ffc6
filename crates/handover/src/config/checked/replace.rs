//! How a release is replaced, and what stands against running two at once: fixed ports, exclusive programs.

use std::ops::Range;
use std::time::Duration;

use model::manifest::{Rollout, Strategy};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::raw;
use super::super::read::Given;
use super::super::units::show_ports;
use super::life::or;
use super::{Checks, entries};

/// Most instances more or fewer at once.
const STEP_MAX: u32 = 1000;

impl Checks<'_> {
    /// The port the program insists on.
    pub(super) fn port(&mut self, key: &str, raw: &raw::Service) -> Option<u16> {
        let spot = raw.port.spot()?;
        let full = format!("{key}.port");
        let Some(port) = u16::try_from(spot.value).ok().filter(|port| *port > 0) else {
            self.push(Problem::error(&full, spot.span.clone(), "`port` must be 1 to 65535"));
            return None;
        };
        if raw.mode.get() == Some(&raw::Mode::Worker) {
            let problem = Problem::error(&full, spot.span.clone(), "a worker has no `port`");
            self.push(problem.help("take `port` out, or `mode = \"worker\"`"));
        }
        Some(port)
    }

    /// Programs that cannot run twice.
    fn must_be_alone(&mut self, key: &str, raw: &raw::Service, why: &str, place: &Range<usize>) {
        let Some(instances) = raw.instances.spot().filter(|spot| spot.value > 1) else { return };
        let message = format!("{why}: `instances` must be 1");
        let problem = Problem::error(&format!("{key}.instances"), instances.span.clone(), message);
        self.push(problem.and(place.clone(), "because of this").help("write instances = 1"));
    }

    pub(super) fn rollout(&mut self, key: &str, raw: &raw::Service) -> Rollout {
        let absent = raw::Rollout::default();
        let rollout = raw.rollout.get().unwrap_or(&absent);
        let table = format!("{key}.rollout");
        let written = rollout.strategy.get().copied();
        let exclusive = rollout.exclusive.spot().filter(|spot| spot.value);
        if let Some(port) = raw.port.spot() {
            self.must_be_alone(key, raw, "a program on a fixed port cannot run twice", &port.span);
            self.recreates(&table, rollout, "a fixed port", &port.span);
        } else if let Some(exclusive) = exclusive {
            self.must_be_alone(key, raw, "an exclusive program cannot run twice", &exclusive.span);
            self.recreates(&table, rollout, "`exclusive`", &exclusive.span);
        } else if let Some(spot) = rollout.strategy.spot().filter(|s| s.value == raw::Strategy::Recreate) {
            self.must_be_alone(key, raw, "`recreate` is for programs that cannot run twice", &spot.span);
        }
        let strategy = if raw.port.spot().is_some() || exclusive.is_some() {
            Strategy::Recreate
        } else {
            match written.unwrap_or(raw::Strategy::BlueGreen) {
                raw::Strategy::BlueGreen => Strategy::BlueGreen,
                raw::Strategy::Rolling => Strategy::Rolling,
                raw::Strategy::Recreate => Strategy::Recreate,
            }
        };
        let (max_surge, max_unavailable) = self.steps(&table, rollout, strategy);
        let keep_warm = self.keep_warm(&table, raw, rollout, strategy);
        let sticky = self.sticky(&format!("{table}.sticky"), &rollout.sticky);
        Rollout { strategy, keep_warm, max_surge, max_unavailable, sticky }
    }

    fn recreates(&mut self, table: &str, raw: &raw::Rollout, why: &str, place: &Range<usize>) {
        let Some(spot) = raw.strategy.spot().filter(|spot| spot.value != raw::Strategy::Recreate) else {
            return;
        };
        let message = format!("{why} needs `strategy = \"recreate\"`: two releases cannot run at once");
        let problem = Problem::error(&format!("{table}.strategy"), spot.span.clone(), message);
        self.push(problem.and(place.clone(), "because of this").help("leave `strategy` out"));
    }

    fn steps(&mut self, table: &str, raw: &raw::Rollout, strategy: Strategy) -> (u32, u32) {
        let at = |name: &str| format!("{table}.{name}");
        if strategy != Strategy::Rolling {
            for (name, given) in [("max_surge", &raw.max_surge), ("max_unavailable", &raw.max_unavailable)] {
                if let Some(spot) = given.spot() {
                    let message = format!("`{name}` belongs to `strategy = \"rolling\"`");
                    let problem = Problem::error(&at(name), spot.span.clone(), message);
                    self.push(problem.help("take it out, or write strategy = \"rolling\""));
                }
            }
            return (default::MAX_SURGE, default::MAX_UNAVAILABLE);
        }
        let surge = self.number(&at("max_surge"), &raw.max_surge, default::MAX_SURGE, 0..=STEP_MAX);
        let unavailable =
            self.number(&at("max_unavailable"), &raw.max_unavailable, default::MAX_UNAVAILABLE, 0..=STEP_MAX);
        if surge == 0 && unavailable == 0 {
            let span = raw.max_surge.spot().map_or(0..0, |spot| spot.span.clone());
            let message = "with `max_surge` and `max_unavailable` both 0 nothing could ever move";
            let problem = Problem::error(&at("max_surge"), span, message);
            self.push(problem.help("write max_surge = 1: one more than `instances` may run meanwhile"));
        }
        (surge, unavailable)
    }

    /// Only blue-green leaves a whole release behind that could go on.
    fn keep_warm(
        &mut self,
        table: &str,
        service: &raw::Service,
        raw: &raw::Rollout,
        strategy: Strategy,
    ) -> Duration {
        let is_worker = service.mode.get() == Some(&raw::Mode::Worker);
        if strategy == Strategy::BlueGreen && !is_worker {
            return or(&raw.keep_warm, default::KEEP_WARM);
        }
        if let Some(spot) = raw.keep_warm.spot().filter(|spot| !spot.value.0.is_zero()) {
            let message = if is_worker {
                "a worker's old release is not kept warm: both would work"
            } else {
                "`keep_warm` belongs to `strategy = \"blue-green\"`: no whole release is left to keep warm"
            };
            let problem = Problem::error(&format!("{table}.keep_warm"), spot.span.clone(), message);
            self.push(problem.help("take it out; `handover rollback` then starts the old release again"));
        }
        Duration::ZERO
    }

    /// Fixed ports against each other, listeners, the admin API and the ports of other instances.
    pub(super) fn fixed_ports(&mut self, raw: &raw::Manifest) {
        let mut taken: Vec<(u64, String, Range<usize>)> = Vec::new();
        let admin = raw.admin.get().and_then(|admin| admin.bind.spot());
        taken.extend(
            admin.map(|bind| (u64::from(bind.value.0.port()), "the admin API".to_owned(), bind.span.clone())),
        );
        for (name, listener) in entries(&raw.listener) {
            let bind = listener.value.bind.spot();
            taken.extend(bind.map(|bind| {
                (u64::from(bind.value.0.port()), format!("the listener `{}`", name.value), bind.span.clone())
            }));
        }
        let range = match raw.instances.get().map(|instances| &instances.ports) {
            None | Some(Given::Absent) => default::INSTANCE_PORTS,
            Some(Given::Wrong) => (0, 0),
            Some(Given::Is(ports)) => ports.value.0,
        };
        for (name, service) in entries(&raw.service) {
            let Some(port) = service.value.port.spot() else { continue };
            let key = format!("service.{}.port", name.value);
            if let Some((_, who, place)) = taken.iter().find(|(number, ..)| *number == port.value) {
                let message = format!("port {} belongs to {who} already", port.value);
                let problem = Problem::error(&key, port.span.clone(), message).label("the program's port");
                let help = "clients connect to the listener, and the proxy to this port: give the listener another one";
                let help =
                    if who.starts_with("the listener") { help } else { "give one of them another port" };
                self.push(problem.and(place.clone(), "taken by this").help(help));
            }
            let is_inside = (u64::from(range.0)..=u64::from(range.1)).contains(&port.value);
            if is_inside {
                let message =
                    format!("another instance may be given {} before this program starts", port.value);
                let problem = Problem::warning(&key, port.span.clone(), message);
                self.push(problem.help(format!(
                    "${{PORT}} is chosen from {}: write another range of `ports` in [instances]",
                    show_ports(range)
                )));
            }
            taken.push((port.value, format!("the service `{}`", name.value), port.span.clone()));
        }
    }
}
