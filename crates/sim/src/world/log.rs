//! The world's log: what a golden scenario shows.

use agent::world::FleetRequest;
use wire::record::Record;
use wire::routes::{EndpointState, RouteTable};

use super::World;
use crate::hands::Asked;

/// Most lines kept; of more the first are dropped.
const LINES_MAX: usize = 20_000;

impl World {
    /// Adds a line with the time.
    pub fn note(&mut self, text: &str) {
        let millis = self.now.since_start().as_millis();
        self.log.push(format!("{:>4}.{:03} {text}", millis / 1_000, millis % 1_000));
        if self.log.len() > LINES_MAX {
            self.log.drain(..LINES_MAX / 10);
        }
    }

    /// What was noted so far.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    pub(super) fn log_asked(&mut self, asked: &Asked) {
        match asked {
            Asked::Fleet(FleetRequest::Spawn(request)) => {
                self.note(&format!("  spawn {} on port {}", request.instance, request.port.unwrap_or(0)));
            }
            Asked::Fleet(FleetRequest::Signal { instance, signal }) => {
                self.note(&format!("  signal {instance}: {signal:?}"));
            }
            Asked::Fleet(FleetRequest::KillTree { instance }) => {
                self.note(&format!("  kill the tree of {instance}"))
            }
            Asked::Fleet(FleetRequest::Stopped) => self.note("  stopped"),
            Asked::Fleet(
                FleetRequest::Bind { .. }
                | FleetRequest::Unbind { .. }
                | FleetRequest::MainPid { .. }
                | FleetRequest::Check(_)
                | FleetRequest::Run(_)
                | FleetRequest::Cancel { .. }
                | FleetRequest::Forget { .. },
            )
            | Asked::Report(_) => {}
            Asked::Table(table) => self.note(&format!("  table {}", table_text(table))),
            Asked::Drain(deadline) => self.note(&format!("  proxies drain within {deadline:?}")),
            Asked::Prepare(request) => {
                self.note(&format!(
                    "  copy {} {} from {}",
                    request.service,
                    request.release,
                    request.source.display()
                ));
            }
            Asked::Remove(service, directory) => self.note(&format!("  remove {service} {directory}")),
            Asked::Notice(notice) => self.note(&format!("{:?}: {}", notice.severity, notice.text)),
            Asked::Wrote(record) => {
                let text = record_text(record);
                if text != self.logged_record {
                    self.note(&format!("  record {text}"));
                    self.logged_record = text;
                }
            }
        }
    }
}

fn table_text(table: &RouteTable) -> String {
    let mut text = table.generation.to_string();
    for (service, traffic) in &table.services {
        text.push_str(&format!(" · {service}"));
        if traffic.hold.is_some() {
            text.push_str(" held");
        }
        if traffic.releases.is_empty() {
            text.push_str(" nothing");
        }
        for release in &traffic.releases {
            text.push_str(&format!(" {}={}%", release.release, release.weight / 100));
            for endpoint in &release.endpoints {
                let number = endpoint.instance.rsplit('/').next().unwrap_or_default();
                let state = match endpoint.state {
                    EndpointState::Candidate => "candidate",
                    EndpointState::Serving => "serving",
                    EndpointState::Draining => "draining",
                };
                text.push_str(&format!(" /{number}:{state}"));
            }
        }
    }
    for (service, release) in &table.refused {
        text.push_str(&format!(" · refused {service} {release}"));
    }
    text
}

fn record_text(record: &Record) -> String {
    let mut text = String::new();
    for (name, service) in &record.services {
        text.push_str(&format!("· {name} stable {}", service.stable.as_deref().unwrap_or("none")));
        if let Some(warm) = &service.warm {
            text.push_str(&format!(", warm {}", warm.release));
        }
        if let Some(rollout) = &service.rollout {
            let phase = phase_text(rollout.phase);
            text.push_str(&format!(", rollout {} to {} {phase}", rollout.id, rollout.to));
            if let Some(intent) = &rollout.intent {
                text.push_str(&format!(" ({intent})"));
            }
        }
        if let Some(last) = &service.last_rollout {
            text.push_str(&format!(", last {} {}", last.id, phase_text(last.phase)));
        }
        text.push(' ');
    }
    if let Some(level) = record.stopping {
        text.push_str(&format!("· stopping {level:?}"));
    }
    text.trim_end().to_owned()
}

/// A phase as people read it.
fn phase_text(phase: wire::record::Phase) -> String {
    format!("{phase:?}").to_lowercase()
}
