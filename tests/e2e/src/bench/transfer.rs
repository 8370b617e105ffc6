//! How much memory a body of 1 GiB takes on its way through, up and down.

use std::io::Write;
use std::time::Instant;

use super::Cell;
use super::client::Client;
use super::stage::Stage;
use super::streams::{self, BYTES};
use super::subject::Subject;
use super::table::{Row, Section, Unit};

/// Bytes each way.
const BODY_BYTES: u64 = 1 << 30;
/// Before, so that what every request needs is there already.
const WARM_BYTES: u64 = 1 << 10;

/// One body through one subject.
#[derive(Debug, Clone, Copy)]
struct Passed {
    /// Peak over what was resident before, in MiB.
    more_mib: f64,
    /// CPU time, in µs.
    cpu_us: f64,
    /// MiB a second.
    rate: f64,
}

/// Memory, time and rate of both ways.
pub(super) fn transfers(stage: &Stage) -> Result<Section, String> {
    let mut rows = Vec::new();
    for (way, up) in [("up", true), ("down", false)] {
        let mut passed = Vec::new();
        for subject in &stage.subjects {
            let outcome = pass(subject, up).map_err(|why| format!("{} {way}: {why}", subject.name))?;
            passed.push(outcome);
        }
        let row = |what: String, unit: Unit, goal: &str, of: fn(&Passed) -> f64| Row {
            what,
            unit,
            rounds: vec![passed.iter().map(of).collect()],
            goal: goal.to_owned(),
        };
        rows.push(row(format!("{way}: peak of RSS over before"), Unit::Mebibytes, "< 2 MiB", |p| p.more_mib));
        rows.push(row(format!("{way}: CPU"), Unit::Micros, "", |p| p.cpu_us));
        rows.push(row(format!("{way}: MiB"), Unit::PerSecond, "", |p| p.rate));
    }
    Ok(Section {
        cell: Cell::Transfer.name(),
        title: "Memory: one body of 1 GiB".to_owned(),
        columns: stage.names(),
        rows,
        mean_goal: None,
        notes: vec!["Before is after a body of 1 KiB each way.".to_owned()],
    })
}

fn pass(subject: &Subject, up: bool) -> Result<Passed, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut client = Client::connect(subject.plain).map_err(text)?;
    for up in [true, false] {
        ask(&mut client, up, WARM_BYTES).map_err(text)?;
    }
    let resident = subject.resident_mib();
    subject.forget_peak()?;
    let (spent, began) = (subject.cpu(), Instant::now());
    ask(&mut client, up, BODY_BYTES).map_err(text)?;
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let mebibytes = (BODY_BYTES >> 20) as f64;
    Ok(Passed {
        rate: mebibytes / began.elapsed().as_secs_f64(),
        cpu_us: subject.cpu().saturating_sub(spent).as_secs_f64() * 1e6,
        more_mib: subject.peak_mib() - resident,
    })
}

fn ask(client: &mut Client, up: bool, bytes: u64) -> std::io::Result<()> {
    let head = if up {
        format!("PUT / HTTP/1.1\r\nHost: bench\r\nContent-Length: {bytes}\r\n\r\n")
    } else {
        format!("GET {BYTES}{bytes} HTTP/1.1\r\nHost: bench\r\n\r\n")
    };
    client.stream().write_all(head.as_bytes())?;
    if up {
        streams::pour(client.stream(), bytes)?;
    }
    client.expect_ok()
}
