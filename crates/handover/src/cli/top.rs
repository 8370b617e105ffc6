//! `handover top`: what every service does and uses, live.
//!
//! Rates and quantiles are of the time between two looks, so the first picture comes after the second look. On a
//! terminal it is the time since the look before the last ones, so that few requests make quantiles too.

mod shares;

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::time::Duration;

use admin::api::{ServiceReport, StatusReport, TrafficReport};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::client::{self, Client};
use super::deploy::{known, print_json};
use super::render::{self, Cell, Style, Table};
use super::{Failure, Global};
use crate::exit_code::Code;
use shares::{Shares, ms};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks that a picture on a terminal is made of.
const LOOKS: usize = 10;
/// Begins a picture that replaces the whole screen, on a screen of its own.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Gives the screen back as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// What was right of a line, and below all of them.
const ERASE_REST: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CPU is in percent of one processor. On a terminal it is redrawn every second until Ctrl-C, rates and latencies over
the last ten; elsewhere printed once, over one second. Latencies are from a request's head to the end of its answer.
Endpoint groups are those of `paths` in the manifest.

Examples:
  handover top                 watch all services
  handover top --once          one look, for people
  handover top --json          one look, for programs")]
pub(crate) struct Args {
    /// Only this service
    service: Option<String>,
    /// Print once, on a terminal too
    #[arg(long)]
    once: bool,
    /// Print once, as JSON with stable field names
    #[arg(long)]
    json: bool,
}

/// What one service does and uses.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    service: String,
    stable: Option<String>,
    state: String,
    requests_per_second: Option<f64>,
    errors_per_second: Option<f64>,
    in_flight: Option<u64>,
    #[serde(flatten)]
    shares: Shares,
    instances_ready: u64,
    instances_wanted: u64,
    cpu_percent: Option<f64>,
    memory_bytes: Option<u64>,
    restarts: u64,
}

/// Runs `handover top`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    let colour = global.colour_out();
    let live = Global::out_is_terminal() && !args.once && !args.json;
    client::block_on(async {
        let first = Look::take(&client).await?;
        if let Some(service) = &args.service {
            known(&first.status, service, &client)?;
        }
        let only = args.service.as_deref();
        if live {
            render::print(ENTER);
            let ended = tokio::select! {
                biased;
                () = client::interrupted() => Ok(()),
                ended = watch(&client, first, only, colour) => ended,
            };
            render::print(LEAVE);
            return ended.map(|()| Code::Done.into());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        let second = Look::take(&client).await?;
        let rows = rows(&first, &second, only);
        if args.json {
            print_json(&rows);
        } else {
            render::print(&tables(&rows, colour));
        }
        Ok(Code::Done.into())
    })
}

async fn watch(client: &Client, first: Look, only: Option<&str>, colour: bool) -> Result<(), Failure> {
    let mut looks = VecDeque::from([first]);
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = Look::take(client).await?;
        let before = looks.front().unwrap_or(&now);
        let rows = rows(before, &now, only);
        render::print(&picture(&heading(&now.status, colour), &tables(&rows, colour)));
        looks.push_back(now);
        if looks.len() > LOOKS {
            looks.pop_front();
        }
    }
}

/// What was seen at one time.
struct Look {
    at: Instant,
    status: StatusReport,
    traffic: TrafficReport,
}

impl Look {
    async fn take(client: &Client) -> Result<Self, Failure> {
        let (status, traffic) = (client.status().await?, client.traffic().await?);
        Ok(Self { at: Instant::now(), status, traffic })
    }
}

fn picture(heading: &str, table: &str) -> String {
    let mut text = HOME.to_owned();
    for line in heading.lines().chain([""]).chain(table.lines()) {
        text.push_str(line);
        text.push_str(ERASE_REST);
        text.push('\n');
    }
    text.push_str(ERASE_BELOW);
    text
}

fn heading(status: &StatusReport, colour: bool) -> String {
    let time = super::when::second(host::clock::wall_ms());
    let services = render::counted(status.services.len() as u64, "service");
    let mut text = format!("{}  {time} UTC  {services}", render::styled("handover top", Style::Bold, colour));
    if status.stopping {
        text.push_str("  everything is being stopped");
    }
    text
}

fn rows(before: &Look, now: &Look, only: Option<&str>) -> Vec<Row> {
    let between = now.at - before.at;
    let mut rows = status_rows(&before.status, &now.status, between, only);
    for row in &mut rows {
        row.shares = shares::shares(&before.traffic, &now.traffic, between, &row.service);
    }
    rows
}

fn status_rows(before: &StatusReport, now: &StatusReport, between: Duration, only: Option<&str>) -> Vec<Row> {
    let none = BTreeMap::new();
    // Another agent or state counts anew only where the services are others.
    let before = if before.schema == now.schema { &before.services } else { &none };
    now.services
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == name.as_str()))
        .map(|(name, service)| row(name, before.get(name), service, between))
        .collect()
}

fn row(name: &str, before: Option<&ServiceReport>, now: &ServiceReport, between: Duration) -> Row {
    let rate = |count: fn(&ServiceReport) -> Option<u64>| {
        let (old, new) = (count(before?)?, count(now)?);
        // Counts are far below where a double would lose ones.
        Some(new.saturating_sub(old) as f64 / between.as_secs_f64().max(0.001))
    };
    let stable = |version: &str| now.stable.as_deref() == Some(version);
    let ready = now.instances.iter().filter(|one| one.state == "ready" && stable(&one.version)).count();
    let wanted = now.instances_wanted.map_or(now.instances.len() as u64, u64::from);
    Row {
        service: name.to_owned(),
        stable: now.stable.clone(),
        state: state(now),
        requests_per_second: rate(|service| service.requests_total),
        errors_per_second: rate(|service| service.errors_total),
        in_flight: now.in_flight,
        shares: Shares::default(),
        instances_ready: ready as u64,
        instances_wanted: if now.stopped { 0 } else { wanted },
        cpu_percent: sum(now.instances.iter().map(|one| one.cpu_percent), |a, b| a + b),
        memory_bytes: sum(now.instances.iter().map(|one| one.memory_bytes), |a, b| a + b),
        restarts: now.instances.iter().map(|one| u64::from(one.restarts)).sum(),
    }
}

/// What is known of all, if it is known of one.
fn sum<T>(values: impl Iterator<Item = Option<T>>, plus: fn(T, T) -> T) -> Option<T> {
    values.flatten().reduce(plus)
}

/// In a word or two, what is worth a look.
fn state(service: &ServiceReport) -> String {
    if service.stopped {
        return "stopped".to_owned();
    }
    if let Some(operation) = &service.operation {
        return operation.kind.to_string();
    }
    if let Some(rollout) =
        service.rollout.as_ref().filter(|rollout| rollout.phase != admin::api::Phase::Baking)
    {
        return format!("{} to {}", rollout.phase, rollout.version);
    }
    if service.instances.iter().any(|one| one.state == "backoff") {
        return "crashing".to_owned();
    }
    String::new()
}

fn tables(rows: &[Row], colour: bool) -> String {
    let mut text = table(rows, colour);
    let below = shares::table(rows.iter().map(|row| (&*row.service, &row.shares)), colour);
    if !below.is_empty() {
        text.push('\n');
        text.push_str(&below);
    }
    text
}

fn table(rows: &[Row], colour: bool) -> String {
    let headings = [
        "SERVICE",
        "STABLE",
        "REQ/S",
        "ERR/S",
        "P50",
        "P99",
        "IN FLIGHT",
        "READY",
        "CPU",
        "MEMORY",
        "RESTARTS",
        "STATE",
    ];
    let mut table = Table::new(&headings);
    for row in rows {
        table.row(cells(row));
    }
    table.render(colour)
}

fn cells(row: &Row) -> [Cell; 12] {
    let dash = || "-".to_owned();
    let rate = |rate: Option<f64>| rate.map_or_else(dash, |rate| format!("{rate:.1}"));
    let fails = row.errors_per_second.unwrap_or(0.0) > 0.0;
    let lacks = row.instances_ready < row.instances_wanted;
    [
        Cell::new(&row.service, Style::Bold),
        row.stable.clone().unwrap_or_else(dash).into(),
        rate(row.requests_per_second).into(),
        Cell::new(rate(row.errors_per_second), if fails { Style::Red } else { Style::Plain }),
        ms(row.shares.all.p50_ms).into(),
        ms(row.shares.all.p99_ms).into(),
        row.in_flight.map_or_else(dash, render::count).into(),
        Cell::new(
            format!("{}/{}", row.instances_ready, row.instances_wanted),
            if lacks { Style::Red } else { Style::Green },
        ),
        row.cpu_percent.map_or_else(dash, |percent| format!("{percent:.1} %")).into(),
        row.memory_bytes.map_or_else(dash, render::bytes).into(),
        Cell::new(row.restarts.to_string(), if row.restarts > 0 { Style::Yellow } else { Style::Plain }),
        Cell::new(&row.state, Style::Yellow),
    ]
}

#[cfg(test)]
mod tests {
    use admin::api::InstanceReport;

    use super::*;

    fn status(requests: u64, errors: u64) -> StatusReport {
        let instance = |state: &str, restarts| InstanceReport {
            version: "1".into(),
            state: state.into(),
            restarts,
            cpu_percent: Some(1.25),
            memory_bytes: Some(3 << 20),
            ..InstanceReport::default()
        };
        let service = ServiceReport {
            stable: Some("1".into()),
            instances: vec![instance("ready", 0), instance("backoff", 3)],
            instances_wanted: Some(2),
            requests_total: Some(requests),
            errors_total: Some(errors),
            in_flight: Some(4),
            ..ServiceReport::default()
        };
        let mut status = StatusReport::default();
        status.services.insert("web".into(), service);
        status.services.insert("worker".into(), ServiceReport { stopped: true, ..ServiceReport::default() });
        status
    }

    #[test]
    fn rates_are_differences_over_the_time_between_two_looks() {
        let rows = status_rows(&status(100, 1), &status(350, 2), Duration::from_secs(2), None);
        assert_eq!(
            table(&rows, false),
            "\
SERVICE  STABLE  REQ/S  ERR/S  P50  P99  IN FLIGHT  READY  CPU    MEMORY   RESTARTS  STATE
web      1       125.0  0.5    -    -    4          1/2    2.5 %  6.0 MiB  3         crashing
worker   -       -      -      -    -    -          0/0    -      -        0         stopped
"
        );
    }

    #[test]
    fn one_service_may_be_looked_at_alone() {
        let rows = status_rows(&status(1, 0), &status(1, 0), Duration::from_secs(1), Some("worker"));
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].requests_per_second, None);
    }
}
