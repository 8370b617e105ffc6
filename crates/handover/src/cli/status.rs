//! `handover status`: what runs, as a table or as the API's JSON.

use std::process::ExitCode;

use admin::api::{InstanceReport, Phase, Processes, RolloutReport, ServiceReport, StatusReport};

use super::client::{self, Client};
use super::deploy::{known, print_json};
use super::render::{self, Cell, Style, Table};
use super::{Failure, Global};
use crate::exit_code::Code;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  handover status              processes, listeners, services, instances
  handover status web          of one service
  handover status --json | jq .services.web.stable")]
pub(crate) struct Args {
    /// Only this service
    pub(crate) service: Option<String>,
    /// Print JSON with stable field names
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `handover status`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    client::block_on(async {
        let mut status = client.status().await?;
        if let Some(service) = &args.service {
            known(&status, service, &client)?;
            status.services.retain(|name, _| name == service);
        }
        if args.json {
            print_json(&status);
        } else {
            render::print(&text(&status, global.colour_out()));
        }
        Ok(Code::Done.into())
    })
}

/// The whole status for people.
fn text(status: &StatusReport, colour: bool) -> String {
    let mut text = processes(&status.processes, colour);
    if status.stopping {
        text.push_str(&render::styled("everything is being stopped\n", Style::Yellow, colour));
    }
    for warning in &status.warnings {
        text.push_str(&format!("{} {warning}\n", render::styled("warning:", Style::Yellow, colour)));
    }
    for table in [listeners(status), services(status), instances(status)] {
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.render(colour));
        }
    }
    let notes: Vec<String> =
        status.services.iter().filter_map(|(name, service)| last(name, service, colour)).collect();
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes.concat());
    }
    text
}

fn processes(processes: &Processes, colour: bool) -> String {
    let missing = |name: &str| render::styled(&format!("no {name}"), Style::Red, colour);
    let holder = processes
        .holder
        .as_ref()
        .map_or_else(|| missing("holder"), |holder| format!("holder {}", holder.pid));
    let mut parts = vec![holder];
    match &processes.proxy {
        None => parts.push(missing("proxy")),
        Some(proxy) => {
            parts.push(format!("proxy {} (generation {})", proxy.pid, proxy.generation));
            for old in &proxy.draining {
                let connections = render::counted(old.connections, "connection");
                parts.push(format!(
                    "draining proxy {} (generation {}, {connections})",
                    old.pid, old.generation
                ));
            }
        }
    }
    parts.push(format!("agent {}", processes.agent.pid));
    parts.join(" · ") + "\n"
}

fn listeners(status: &StatusReport) -> Table {
    let mut table = Table::new(&["LISTENER", "ADDRESS"]);
    for (name, listener) in &status.listeners {
        let address = match (&listener.address, &listener.error) {
            (Some(address), _) => Cell::from(address.as_str()),
            (None, Some(error)) => Cell::new(format!("not bound: {error}"), Style::Red),
            (None, None) => Cell::new("not bound yet", Style::Yellow),
        };
        table.row([name.as_str().into(), address]);
    }
    table
}

fn services(status: &StatusReport) -> Table {
    let mut table = Table::new(&["SERVICE", "STABLE", "READY", "STRATEGY", "REQUESTS", "ERRORS", "NOW"]);
    for (name, service) in &status.services {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), render::count);
        let errors = Style::Yellow;
        let errors = if service.errors_total.unwrap_or(0) > 0 { errors } else { Style::Plain };
        table.row([
            Cell::new(name, Style::Bold),
            service.stable.as_deref().map_or_else(|| Cell::new("none", Style::Yellow), Into::into),
            ready(service),
            strategy(service).into(),
            number(service.requests_total).into(),
            Cell::new(number(service.errors_total), errors),
            now(service),
        ]);
    }
    table
}

/// How many instances of the stable release are ready, of how many there should be.
fn ready(service: &ServiceReport) -> Cell {
    let is_stable = |instance: &&InstanceReport| service.stable.as_deref() == Some(&*instance.version);
    let ready =
        service.instances.iter().filter(is_stable).filter(|instance| instance.state == "ready").count();
    if service.stopped {
        return Cell::new("0/0", Style::Dim);
    }
    let wanted = service.instances_wanted.map_or(ready as u64, u64::from);
    let style = if (ready as u64) < wanted { Style::Red } else { Style::Green };
    Cell::new(format!("{ready}/{wanted}"), style)
}

/// How a release takes over; a worker's says that it is one.
fn strategy(service: &ServiceReport) -> String {
    let strategy = service.strategy.as_deref().unwrap_or("-");
    match service.mode.as_deref() {
        Some("worker") => format!("worker, {strategy}"),
        // Nothing of it is ever replaced here.
        Some("endpoints") => "endpoints".to_owned(),
        _ => strategy.to_owned(),
    }
}

/// What is under way.
fn now(service: &ServiceReport) -> Cell {
    if let Some(operation) = &service.operation {
        let waits = operation.waiting_on.as_ref().map_or_else(String::new, |waits| format!(", {waits}"));
        return Cell::new(format!("{} by {}{waits}", operation.kind, operation.actor), Style::Yellow);
    }
    if service.removed {
        return Cell::new("not in the manifest any more; ends", Style::Yellow);
    }
    if service.stopped {
        return Cell::new("stopped by an operator", Style::Yellow);
    }
    match (&service.rollout, &service.waiting_on) {
        (None, Some(waits)) => Cell::new(waits, Style::Yellow),
        _ => rollout(service),
    }
}

fn rollout(service: &ServiceReport) -> Cell {
    let warm = service
        .warm
        .as_ref()
        .map(|warm| format!("{} warm for {}", warm.version, render::millis(warm.left_ms)));
    let Some(rollout) = &service.rollout else {
        return Cell::new(warm.unwrap_or_default(), Style::Dim);
    };
    if let Some(warm) = warm.as_ref().filter(|_| rollout.phase == Phase::Baking) {
        return Cell::new(warm, Style::Dim);
    }
    let mut text = format!("{} {}", rollout.version, rollout.phase);
    if rollout.weight_percent > 0 && rollout.weight_percent < 100 {
        text.push_str(&format!(" at {} %", rollout.weight_percent));
    }
    for more in [&rollout.step, &rollout.verdict, &rollout.waiting_on, &warm].into_iter().flatten() {
        text.push_str(", ");
        text.push_str(more);
    }
    Cell::new(text, if rollout.phase == Phase::Baking { Style::Dim } else { Style::Yellow })
}

fn instances(status: &StatusReport) -> Table {
    let mut table = Table::new(&["INSTANCE", "STATE", "PID", "ADDRESS", "RESTARTS", "DETAIL"]);
    for instance in status.services.values().flat_map(|service| &service.instances) {
        table.row(instance_row(instance));
    }
    table
}

fn instance_row(instance: &InstanceReport) -> [Cell; 6] {
    let style = match instance.state.as_str() {
        "ready" => Style::Green,
        "warm" | "stopped" => Style::Dim,
        "unready" | "backoff" => Style::Red,
        _ => Style::Yellow,
    };
    let dash = || "-".to_owned();
    [
        instance.id.as_str().into(),
        Cell::new(&instance.state, style),
        instance.pid.map_or_else(dash, |pid| pid.to_string()).into(),
        instance.address.clone().unwrap_or_else(dash).into(),
        Cell::new(
            instance.restarts.to_string(),
            if instance.restarts > 0 { Style::Yellow } else { Style::Plain },
        ),
        render::cut(&detail(instance), usize::MAX).into(),
    ]
}

/// Why it is in that state, and when it is tried again.
fn detail(instance: &InstanceReport) -> String {
    let mut text = instance.detail.clone().unwrap_or_default();
    let Some(left) = instance.next_start_in_ms.filter(|_| !text.contains("UTC")) else { return text };
    let at = super::when::second(host::clock::wall_ms().saturating_add(left));
    let at = at.split(' ').next_back().unwrap_or(&at);
    if text.contains("starts again") {
        text.push_str(&format!(" (next start at {at} UTC)"));
        return text;
    }
    if !text.is_empty() {
        text.push_str("; ");
    }
    text.push_str(&format!("starts again in {}, at {at} UTC", render::millis(left)));
    text
}

/// The last rollout, where it did not hold: with what it said, because the command that saw it may be long gone.
fn last(name: &str, service: &ServiceReport, colour: bool) -> Option<String> {
    let rollout: &RolloutReport = service.last_rollout.as_ref()?;
    if service.rollout.is_some() || !matches!(rollout.phase, Phase::RolledBack | Phase::Failed) {
        return None;
    }
    let ended = if rollout.phase == Phase::Failed { "failed" } else { "was rolled back" };
    let head = format!("{name}: the last rollout, to {}, {ended}", rollout.version);
    let mut text = render::styled(&head, Style::Red, colour);
    if let Some(reason) = &rollout.reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    text.push('\n');
    text.push_str(&render::quoted(&rollout.output));
    Some(text)
}

#[cfg(test)]
mod tests {
    use admin::api::{
        AgentProcess, DrainingProxy, HolderProcess, ListenerReport, OperationKind, OperationReport,
        ProxyProcess, WarmReport,
    };

    use super::*;

    fn instance(id: &str, state: &str) -> InstanceReport {
        InstanceReport {
            id: id.into(),
            pid: Some(1210),
            version: "1.4.1".into(),
            state: state.into(),
            address: Some("127.0.0.1:20000".into()),
            ..InstanceReport::default()
        }
    }

    fn sample() -> StatusReport {
        let mut status = StatusReport {
            processes: Processes {
                holder: Some(HolderProcess { pid: 1201 }),
                proxy: Some(ProxyProcess {
                    pid: 1203,
                    generation: 2,
                    draining: vec![DrainingProxy { pid: 1190, generation: 1, connections: 1 }],
                }),
                agent: AgentProcess { pid: 1202 },
            },
            ..StatusReport::default()
        };
        let bound = ListenerReport { address: Some("0.0.0.0:8080".into()), error: None };
        status.listeners.insert("web".into(), bound);
        let mut backoff = instance("web@1.5.0/0", "backoff");
        backoff.pid = None;
        backoff.address = None;
        backoff.restarts = 3;
        backoff.detail = Some("exited with code 1; starts again in 4 s".into());
        let service = ServiceReport {
            stable: Some("1.4.1".into()),
            warm: None,
            rollout: Some(RolloutReport {
                version: "1.5.0".into(),
                phase: Phase::Starting,
                waiting_on: Some("web@1.5.0/0 is not ready".into()),
                ..RolloutReport::default()
            }),
            instances: vec![instance("web@1.4.1/0", "ready"), backoff],
            requests_total: Some(1_204_331),
            errors_total: Some(0),
            instances_wanted: Some(1),
            strategy: Some("blue-green".into()),
            mode: Some("proxied".into()),
            ..ServiceReport::default()
        };
        status.services.insert("web".into(), service);
        status
    }

    #[test]
    fn everything_that_runs_is_in_aligned_tables() {
        assert_eq!(
            text(&sample(), false),
            "\
holder 1201 · proxy 1203 (generation 2) · draining proxy 1190 (generation 1, 1 connection) · agent 1202

LISTENER  ADDRESS
web       0.0.0.0:8080

SERVICE  STABLE  READY  STRATEGY    REQUESTS   ERRORS  NOW
web      1.4.1   1/1    blue-green  1,204,331  0       1.5.0 starting, web@1.5.0/0 is not ready

INSTANCE     STATE    PID   ADDRESS          RESTARTS  DETAIL
web@1.4.1/0  ready    1210  127.0.0.1:20000  0
web@1.5.0/0  backoff  -     -                3         exited with code 1; starts again in 4 s
"
        );
    }

    #[test]
    fn a_rollout_that_did_not_hold_is_told_after_the_tables() {
        let mut status = sample();
        let service = status.services.get_mut("web").unwrap();
        service.rollout = None;
        service.warm = Some(WarmReport { version: "1.4.0".into(), left_ms: 590_000 });
        service.last_rollout = Some(RolloutReport {
            version: "1.5.0".into(),
            phase: Phase::RolledBack,
            reason: Some("web@1.5.0/0 did not get ready within 60 s".into()),
            output: vec!["panic!".into()],
            ..RolloutReport::default()
        });
        let text = text(&status, false);
        assert!(text.contains("1,204,331  0       1.4.0 warm for 9 m 50 s\n"), "{text}");
        assert!(
            text.ends_with(
                "\nweb: the last rollout, to 1.5.0, was rolled back: web@1.5.0/0 did not get ready within 60 s\n  │ panic!\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_an_operator_did_and_what_a_worker_is_are_told() {
        let mut service = sample().services["web"].clone();
        service.rollout = None;
        service.mode = Some("worker".into());
        assert_eq!(strategy(&service), "worker, blue-green");
        let told = |service: &ServiceReport| now(service);
        service.stopped = true;
        assert_eq!(told(&service), Cell::new("stopped by an operator", Style::Yellow));
        assert_eq!(ready(&service), Cell::new("0/0", Style::Dim));
        let operation = OperationReport {
            kind: OperationKind::Start,
            actor: "ann".into(),
            waiting_on: Some("web@1.4.1/0 is not ready".into()),
            ..OperationReport::default()
        };
        service.operation = Some(operation);
        assert_eq!(told(&service), Cell::new("start by ann, web@1.4.1/0 is not ready", Style::Yellow));
        (service.operation, service.stopped) = (None, false);
        service.waiting_on = Some("waits for db to be ready".into());
        assert_eq!(told(&service), Cell::new("waits for db to be ready", Style::Yellow));
    }

    #[test]
    fn an_instance_that_waits_for_its_next_start_says_when_that_is() {
        let mut backoff = instance("web@1/0", "backoff");
        backoff.next_start_in_ms = Some(4_000);
        backoff.detail = Some("exited with code 1".into());
        let text = detail(&backoff);
        assert!(text.starts_with("exited with code 1; starts again in 4.0 s, at "), "{text}");
        backoff.detail = Some("crash loop: 7 ends in a row; starts again in 4 s: it exited".into());
        assert!(
            detail(&backoff)
                .starts_with("crash loop: 7 ends in a row; starts again in 4 s: it exited (next start at ")
        );
        backoff.detail = Some("crash loop: 7 ends in a row; starts again in 32 s (at 17:00:00 UTC)".into());
        assert_eq!(Some(detail(&backoff)), backoff.detail);
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        assert!(!text(&sample(), false).contains('\x1b'));
        assert!(text(&sample(), true).contains("\x1b[32mready\x1b[0m"));
    }
}
