//! What one processor can do: the subject alone on the first, load and origin on the others.
//!
//! The rows that say how busy both were decide what a rate means: where the subject was not busy, the load was the
//! limit and not the subject.

use std::time::Instant;

use super::load::{self, Load};
use super::origin::SMALL;
use super::seats::Seats;
use super::speed::in_turns;
use super::stage::Stage;
use super::subject::Subject;
use super::table::{Row, Section, Unit};
use super::wrk::{self, Blast};
use super::{Cell, Options};
use crate::system;

/// Connections of a run.
const CONNECTIONS: u32 = 32;
/// Requests before the first run: pools fill, pages are touched.
const WARM_REQUESTS: u64 = 5_000;

/// One run of one subject.
#[derive(Debug, Clone, Copy)]
struct Run {
    blast: Blast,
    /// CPU time of the subject, in µs.
    spent_us: f64,
    subject_busy: f64,
    origin_busy: f64,
    load_busy: f64,
}

/// Rate and latency of small answers.
pub(super) fn throughput(stage: &Stage, options: &Options) -> Result<Section, String> {
    let runs = runs(stage, options, false)?;
    let rows = vec![
        row(&runs, "requests", Unit::PerSecond, "≥ the better", |run| run.blast.per_second),
        row(&runs, "p50", Unit::Micros, "", |run| run.blast.p50_us),
        row(&runs, "p99", Unit::Micros, "≤ the better", |run| run.blast.p99_us),
        row(&runs, "subject busy", Unit::Percent, "", |run| run.subject_busy),
        row(&runs, "origin busy", Unit::Percent, "", |run| run.origin_busy),
        row(&runs, "load generator busy", Unit::Percent, "", |run| run.load_busy),
        row(&runs, "requests per busy second", Unit::PerSecond, "≥ the better", |run| {
            run.blast.requests / run.spent_us * 1e6
        }),
    ];
    let title = format!("One core: small answers, {CONNECTIONS} connections that stay");
    Ok(section(stage, Cell::Onecore, title, rows))
}

/// A connection for every request.
pub(super) fn fresh(stage: &Stage, options: &Options) -> Result<Section, String> {
    let runs = runs(stage, options, true)?;
    let rows = vec![
        row(&runs, "connections", Unit::PerSecond, "≥ 0.95 of the better", |run| run.blast.per_second),
        row(&runs, "CPU per connection", Unit::Micros, "", |run| run.spent_us / run.blast.requests),
        row(&runs, "p99", Unit::Micros, "", |run| run.blast.p99_us),
        row(&runs, "subject busy", Unit::Percent, "", |run| run.subject_busy),
        row(&runs, "origin busy", Unit::Percent, "", |run| run.origin_busy),
        row(&runs, "load generator busy", Unit::Percent, "", |run| run.load_busy),
    ];
    let title = format!("One core: a new connection for every request, {CONNECTIONS} at a time");
    Ok(section(stage, Cell::Fresh, title, rows))
}

fn section(stage: &Stage, cell: Cell, title: String, rows: Vec<Row>) -> Section {
    let notes = vec![format!("Busy is the part of one processor. {}", stage.seats.note())];
    Section { cell: cell.name(), title, columns: stage.names(), rows, mean_goal: None, notes }
}

fn row(runs: &[Vec<Run>], what: &str, unit: Unit, goal: &str, of: impl Fn(&Run) -> f64) -> Row {
    let rounds = runs.iter().map(|round| round.iter().map(&of).collect()).collect();
    Row { what: what.to_owned(), unit, rounds, goal: goal.to_owned() }
}

fn runs(stage: &Stage, options: &Options, fresh: bool) -> Result<Vec<Vec<Run>>, String> {
    if !stage.seats.are_apart() {
        return Err("one core against another needs two".to_owned());
    }
    for subject in &stage.subjects {
        let warm = Load { path: SMALL, connections: CONNECTIONS, requests: WARM_REQUESTS };
        let sent = load::h2load(&stage.seats, warm, subject.plain, false);
        sent.map_err(|why| format!("{}: {why}", subject.name))?;
    }
    in_turns(stage.subjects.len(), options.rounds, |at| {
        let subject = &stage.subjects[at];
        run(&stage.seats, subject, stage.origins[subject.origin], fresh)
            .map_err(|why| format!("{}: {why}", subject.name))
    })
}

fn origin_nanos(origin: u32) -> u64 {
    system::cpu_nanos(origin) + system::children_of(origin).into_iter().map(system::cpu_nanos).sum::<u64>()
}

fn run(seats: &Seats, subject: &Subject, origin: u32, fresh: bool) -> Result<Run, String> {
    let (before, origin_before, began) = (subject.cpu(), origin_nanos(origin), Instant::now());
    let (blast, load_used) = wrk::blast(seats, subject.plain, CONNECTIONS, fresh)?;
    let took = began.elapsed().as_secs_f64();
    let spent = subject.cpu().saturating_sub(before).as_secs_f64();
    let origin_spent = std::time::Duration::from_nanos(origin_nanos(origin).saturating_sub(origin_before));
    Ok(Run {
        blast,
        spent_us: spent * 1e6,
        subject_busy: spent / took,
        origin_busy: origin_spent.as_secs_f64() / took,
        load_busy: load_used.as_secs_f64() / took,
    })
}
