//! CPU time per request: the cells that hold whatever else the machine does.

use std::time::Duration;

use super::load::{self, Load};
use super::origin::{LARGE, MEDIUM, SMALL};
use super::seats::Seats;
use super::stage::Stage;
use super::subject::Subject;
use super::table::{Row, Section, Unit};
use super::{Cell, Options};

/// Connections at a time.
const CONNECTIONS: [u32; 3] = [32, 128, 512];
/// The same over TLS.
const TLS_CONNECTIONS: [u32; 2] = [32, 128];
/// How often the larger bodies are asked for, beside a small one.
const MEDIUM_PART: u64 = 4;
const LARGE_PART: u64 = 250;
/// Of the requests of a run, those that go before it unmeasured: pools fill, pages are touched.
const WARM_PART: u64 = 10;

/// Small answers over connections that stay.
pub(super) fn keepalive(stage: &Stage, options: &Options) -> Result<Section, String> {
    let before: Vec<Vec<Duration>> = stage.subjects.iter().map(Subject::cpu_by_process).collect();
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let load = Load { path: SMALL, connections, requests: options.requests };
        rows.push(row(stage, options, load, false, format!("{connections} connections"), "/ nginx ≤ 0.90")?);
    }
    Ok(Section {
        cell: Cell::Keepalive.name(),
        title: "CPU per request, keep-alive, small answers".to_owned(),
        columns: stage.names(),
        rows,
        mean_goal: Some("/ nginx ≤ 0.80, / HAProxy ≤ 0.75".to_owned()),
        notes: vec![shares(&stage.subjects[0], &before[0]), stage.seats.note()],
    })
}

/// How the time of ours falls to its processes.
fn shares(subject: &Subject, before: &[Duration]) -> String {
    let after = subject.cpu_by_process();
    let spent: Vec<f64> =
        after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before).as_secs_f64()).collect();
    let all: f64 = spent.iter().sum();
    let each = subject.processes.iter().zip(&spent);
    let each: Vec<String> =
        each.map(|((role, _), spent)| format!("{role} {:.1} %", spent / all * 100.0)).collect();
    format!("Of {}'s time: {}.", subject.name, each.join(", "))
}

/// Answers of 64 KiB and 10 MiB.
pub(super) fn bodies(stage: &Stage, options: &Options) -> Result<Section, String> {
    let medium = Load { path: MEDIUM.0, connections: 32, requests: (options.requests / MEDIUM_PART).max(32) };
    let large = Load { path: LARGE.0, connections: 8, requests: (options.requests / LARGE_PART).max(8) };
    let goal = "/ nginx ≤ 1.0";
    let rows = vec![
        row(stage, options, medium, false, "64 KiB, 32 connections".to_owned(), goal)?,
        row(stage, options, large, false, "10 MiB, 8 connections".to_owned(), goal)?,
    ];
    Ok(Section {
        cell: Cell::Bodies.name(),
        title: "CPU per request, keep-alive, larger answers".to_owned(),
        columns: stage.names(),
        rows,
        mean_goal: None,
        notes: Vec::new(),
    })
}

/// Small answers over TLS connections that stay.
pub(super) fn tls(stage: &Stage, options: &Options) -> Result<Section, String> {
    let mut notes = Vec::new();
    for subject in &stage.subjects {
        notes.push(format!("- {}: {}", subject.name, tls_of(&stage.seats, subject)?));
    }
    let mut rows = Vec::new();
    for connections in TLS_CONNECTIONS {
        let load = Load { path: SMALL, connections, requests: options.requests };
        rows.push(row(stage, options, load, true, format!("{connections} connections"), "/ nginx ≤ 1.0")?);
    }
    Ok(Section {
        cell: Cell::Tls.name(),
        title: "CPU per request, keep-alive, small answers over TLS (handshakes included)".to_owned(),
        columns: stage.names(),
        rows,
        mean_goal: None,
        notes: vec![notes.join("\n")],
    })
}

/// Protocol and cipher suite, as the load sees them.
fn tls_of(seats: &Seats, subject: &Subject) -> Result<String, String> {
    let Some(address) = subject.tls else {
        return Ok("this binary speaks no TLS on its listener".to_owned());
    };
    let seen = load::h2load(seats, Load { path: SMALL, connections: 1, requests: 1 }, address, true)?;
    Ok(seen.tls.unwrap_or_else(|| "h2load did not say".to_owned()))
}

/// One row: all subjects in turns, the first one of each round another.
fn row(
    stage: &Stage,
    options: &Options,
    load: Load,
    over_tls: bool,
    what: String,
    goal: &str,
) -> Result<Row, String> {
    let warm = Load { requests: (load.requests / WARM_PART).max(u64::from(load.connections)), ..load };
    for subject in &stage.subjects {
        micros_per_request(&stage.seats, subject, warm, over_tls)?;
    }
    let rounds = in_turns(stage.subjects.len(), options.rounds, |at| {
        micros_per_request(&stage.seats, &stage.subjects[at], load, over_tls)
    })?;
    Ok(Row { what, unit: Unit::Micros, rounds, goal: goal.to_owned() })
}

/// A figure for each subject and round; the order rotates from round to round.
pub(super) fn in_turns<T>(
    subjects: usize,
    rounds: usize,
    mut measure: impl FnMut(usize) -> Result<T, String>,
) -> Result<Vec<Vec<T>>, String> {
    let mut all = Vec::new();
    for round in 0..rounds {
        let mut measured = Vec::new();
        for turn in 0..subjects {
            measured.push(measure((round + turn) % subjects)?);
        }
        // Measured first was the subject of that number; back into the order of the columns.
        measured.rotate_right(round % subjects);
        all.push(measured);
    }
    Ok(all)
}

/// NaN where the subject has no such listener.
fn micros_per_request(seats: &Seats, subject: &Subject, load: Load, over_tls: bool) -> Result<f64, String> {
    let address = if over_tls { subject.tls } else { Some(subject.plain) };
    let Some(address) = address else { return Ok(f64::NAN) };
    let before = subject.cpu();
    load::h2load(seats, load, address, over_tls).map_err(|why| format!("{}: {why}", subject.name))?;
    let spent = subject.cpu().saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "far fewer requests than that")]
    Ok(spent.as_secs_f64() * 1e6 / load.requests as f64)
}

#[cfg(test)]
mod tests {
    use super::in_turns;

    #[test]
    fn whoever_begins_a_round_its_figures_stay_in_their_columns() {
        let mut order = Vec::new();
        let rounds = in_turns(3, 4, |at| {
            order.push(at);
            Ok(at)
        });
        assert_eq!(rounds, Ok(vec![vec![0, 1, 2]; 4]));
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]);
    }
}
