//! What the suite found, as Markdown for people and JSON for machines.

use std::fmt::{Arguments, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::{DeployTimes, Options, ProxyKills, Row};
use crate::load::Tally;

/// All findings.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    /// One per subject and mix.
    pub rows: Vec<Row>,
    /// Measured after the rows.
    pub proxy_kills: Option<ProxyKills>,
    /// Measured after the rows.
    pub deploy_times: Option<DeployTimes>,
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn middle_and_last(durations: &[Duration]) -> (Duration, Duration) {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    (middle, sorted.last().copied().unwrap_or_default())
}

/// Where a request takes its time on purpose there is no stall to see.
fn stall(tally: &Tally) -> String {
    if tally.longest_stall.is_zero() { "—".to_owned() } else { ms(tally.longest_stall) }
}

fn add(text: &mut String, line: Arguments<'_>) {
    writeln!(text, "{line}").expect("invariant: writing to a String cannot fail");
}

impl Report {
    /// Empty.
    pub fn new(options: &Options) -> Self {
        Self { options: options.clone(), rows: Vec::new(), proxy_kills: None, deploy_times: None }
    }

    /// What Handover promised and did not keep; empty is good. Peers are reported, not judged.
    pub fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for row in self.rows.iter().filter(|row| row.subject == "Handover" && !row.is_clean()) {
            let lost = row.tally.failures_by_name();
            let before = row.baseline.failures_by_name();
            broken.push(format!(
                "{}: lost: {lost}; without deploys: {before}; {}",
                row.mix,
                row.broken.join("; ")
            ));
        }
        if let Some(kills) = self.proxy_kills.as_ref().filter(|k| !k.is_clean(self.options.serving_again_max))
        {
            let (_, worst) = middle_and_last(&kills.serving_again);
            let lost = kills.tally.failures_by_name();
            broken.push(format!("{} proxy kills: {lost}; serving again after {}", kills.kills, ms(worst)));
        }
        if let Some(times) = &self.deploy_times {
            let (_, worst) = middle_and_last(&times.switched_after);
            if times.tally.failures() > 0 || worst > self.options.switch_max {
                let lost = times.tally.failures_by_name();
                broken.push(format!(
                    "timed deploys: {lost}; last request on the old release after {}",
                    ms(worst)
                ));
            }
        }
        broken
    }

    /// Tables.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut said: Vec<(&str, &str)> = Vec::new();
        for row in &self.rows {
            if !said.contains(&(&row.subject, &row.steps)) {
                let from = &row.mix;
                said.push((&row.subject, &row.steps));
                add(
                    &mut text,
                    format_args!("- {}, from \"{from}\" on, per line: {}", row.subject, row.steps),
                );
            }
        }
        add(
            &mut text,
            format_args!(
                "\n| | clients | requests | lost | connect failed | failed reused | failed fresh | other | \
                 lost without steps | longest stall | without steps | closes honoured |\n\
                 |---|---|---|---|---|---|---|---|---|---|---|---|"
            ),
        );
        for row in &self.rows {
            let by_loss = losses(&row.tally);
            let (name, mix) = (&row.subject, &row.mix);
            let (requests, lost) = (row.tally.requests(), row.tally.failures());
            let [connect, reused, fresh, other] = by_loss;
            let quiet = row.baseline.failures();
            let (mut stall, quiet_stall) = (stall(&row.tally), stall(&row.baseline));
            if row.held {
                stall.push_str(" (held)");
            }
            let closes = row.tally.closes_honoured;
            add(
                &mut text,
                format_args!(
                    "| {name} | {mix} | {requests} | **{lost}** | {connect} | {reused} | {fresh} | {other} | \
                     {quiet} | {stall} | {quiet_stall} | {closes} |"
                ),
            );
        }
        if self.proxy_kills.is_some() || self.deploy_times.is_some() {
            self.add_measures(&mut text);
        }
        for row in self.rows.iter().filter(|row| !row.broken.is_empty()) {
            add(&mut text, format_args!("\n{}, {}: {}", row.subject, row.mix, row.broken.join("; ")));
        }
        text
    }

    fn add_measures(&self, text: &mut String) {
        add(text, format_args!("\n| Handover | |\n|---|---|"));
        let mut line = |name: &str, value: String| add(text, format_args!("| {name} | {value} |"));
        if let Some(kills) = &self.proxy_kills {
            let (middle, worst) = middle_and_last(&kills.serving_again);
            let lost = kills.tally.failures() - kills.tally.connect_failures();
            line("proxy kills; busy connections at each", format!("{}; {}", kills.kills, kills.clients));
            line("connections refused", kills.tally.connect_failures().to_string());
            line("requests in flight lost", lost.to_string());
            line("serving again after, median and worst", format!("{}, {}", ms(middle), ms(worst)));
        }
        if let Some(times) = &self.deploy_times {
            let (middle, worst) = middle_and_last(&times.switched_after);
            line("deploys timed, of a service ready after 100 ms", times.switched_after.len().to_string());
            line(
                "`deploy` typed to last request on the old release, median and worst",
                format!("{}, {}", ms(middle), ms(worst)),
            );
            let stalls = (ms(times.tally.longest_stall), ms(times.baseline.longest_stall));
            line(
                "longest stall of two steady clients; without deploys",
                format!("{}; {}", stalls.0, stalls.1),
            );
            let over = (times.tally.stalls, times.baseline.stalls);
            line("their stalls over 20 ms; without deploys", format!("{}; {}", over.0, over.1));
        }
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "subject": row.subject,
                "clients": row.mix,
                "steps": row.steps,
                "broken_steps": row.broken,
                "held": row.held,
                "with_steps": tally_json(&row.tally),
                "without_steps": tally_json(&row.baseline),
            })
        };
        let micros = |durations: &[Duration]| -> Vec<u64> {
            durations.iter().map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)).collect()
        };
        json!({
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "proxy_kills": self.proxy_kills.as_ref().map(|kills| json!({
                "kills": kills.kills,
                "clients": kills.clients,
                "tally": tally_json(&kills.tally),
                "serving_again_us": micros(&kills.serving_again),
            })),
            "deploys": self.deploy_times.as_ref().map(|times| json!({
                "switched_after_us": micros(&times.switched_after),
                "with_deploys": tally_json(&times.tally),
                "without_deploys": tally_json(&times.baseline),
            })),
            "broken_promises": self.broken_promises(),
        })
    }
}

/// Connect, reused, fresh, everything else.
fn losses(tally: &Tally) -> [u64; 4] {
    use crate::http::Loss;
    let of = |loss: Loss| tally.lost.get(&loss).copied().unwrap_or(0);
    let named = [of(Loss::Connect), of(Loss::Reused), of(Loss::Fresh)];
    let other = tally.failures() - named.iter().sum::<u64>();
    [named[0], named[1], named[2], other]
}

fn tally_json(tally: &Tally) -> Value {
    let lost: serde_json::Map<String, Value> =
        tally.lost.iter().map(|(loss, count)| (loss.name().replace(' ', "_"), json!(count))).collect();
    let status: serde_json::Map<String, Value> =
        tally.bad_status.iter().map(|(status, count)| (status.to_string(), json!(count))).collect();
    json!({
        "requests": tally.requests(),
        "ok": tally.ok,
        "failures": tally.failures(),
        "lost": lost,
        "bad_status": status,
        "wrong_body": tally.wrong_body,
        "connections": tally.connections,
        "closes_honoured": tally.closes_honoured,
        "overslept": tally.overslept,
        "longest_stall_us": u64::try_from(tally.longest_stall.as_micros()).unwrap_or(u64::MAX),
        "stalls_over_20_ms": tally.stalls,
    })
}
