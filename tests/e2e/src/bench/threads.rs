//! Two worker threads beside one: what a request costs then, and whether both do their part.
//!
//! Where load and origin share the processors with the subject, twice the rate is not to be had; what can be seen is
//! that two threads spend no more per request than one, and that they share the work.

use std::path::Path;
use std::time::Instant;

use super::handover::{self, Fronted, Wanted};
use super::load::{self, Load};
use super::origin::SMALL;
use super::seats::Seats;
use super::speed::in_turns;
use super::stage::Stage;
use super::table::{Row, Section, Unit, median};
use super::{Cell, Options};
use crate::system;

/// Connections of a run.
const CONNECTIONS: u32 = 128;
/// A thread that did less of the work than this is no worker.
const WORKER_PART: f64 = 0.01;

/// One run.
#[derive(Debug, Clone)]
struct Run {
    per_second: f64,
    per_busy_second: f64,
    load_busy: f64,
    /// CPU time of the proxy's busiest thread, as a part of all its threads.
    busiest: f64,
}

/// Requests a second and per second of CPU time, with two threads and with one.
pub(super) fn threads(stage: &Stage, options: &Options) -> Result<Section, String> {
    let start = |name: &str, threads: u32| {
        let binary: &Path = &options.handover;
        handover::start(&Wanted { name, binary, threads, certificate: &stage.certificate }, &stage.files)
    };
    let subjects = [start("two threads", 2)?, start("one thread", 1)?];
    let pids = subjects.iter().flat_map(|fronted| {
        let origin = std::iter::once(fronted.origin_pid).chain(system::children_of(fronted.origin_pid));
        fronted.subject.pids().chain(origin)
    });
    let seats = Seats::share(&pids.collect::<Vec<u32>>());
    let warm = Load {
        path: SMALL,
        connections: CONNECTIONS,
        requests: options.requests / 10 + u64::from(CONNECTIONS),
    };
    let load = Load { requests: options.requests, ..warm };
    for fronted in &subjects {
        run(&seats, fronted, warm)?;
    }
    let runs = in_turns(subjects.len(), options.rounds, |at| run(&seats, &subjects[at], load))?;
    let row = |what: &str, unit: Unit, goal: &str, of: fn(&Run) -> f64| Row {
        what: what.to_owned(),
        unit,
        rounds: runs.iter().map(|round| round.iter().map(of).collect()).collect(),
        goal: goal.to_owned(),
    };
    let rows = vec![
        row("requests", Unit::PerSecond, "≥ 1.8 where the load leaves room", |run| run.per_second),
        row("requests per second of CPU time", Unit::PerSecond, "≥ 0.90: twice that is 1.8", |run| {
            run.per_busy_second
        }),
        row("the busiest thread's part of the work", Unit::Percent, "near a half", |run| run.busiest),
        row("load generator busy", Unit::Percent, "", |run| run.load_busy),
    ];
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = median(runs.iter().map(|round| round[0].load_busy).collect()) * 100.0;
    let note = format!(
        "{processors} processors for subject, origin and load together; the load generator alone used {busy:.0} % of one."
    );
    Ok(Section {
        cell: Cell::Threads.name(),
        title: format!("Two worker threads beside one: small answers, {CONNECTIONS} connections"),
        columns: subjects.iter().map(|fronted| fronted.subject.name.clone()).collect(),
        rows,
        mean_goal: None,
        notes: vec![note, seats.note()],
    })
}

fn run(seats: &Seats, fronted: &Fronted, load: Load) -> Result<Run, String> {
    let subject = &fronted.subject;
    let proxy = subject.processes.iter().find(|(role, _)| role == "proxy").map_or(0, |(_, pid)| *pid);
    let (before, threads_before, load_before) =
        (subject.cpu(), system::cpu_of_threads(proxy), system::cpu_of_children());
    let began = Instant::now();
    load::h2load(seats, load, subject.plain, false).map_err(|why| format!("{}: {why}", subject.name))?;
    let took = began.elapsed().as_secs_f64();
    let spent = subject.cpu().saturating_sub(before).as_secs_f64();
    let of_thread = |(thread, nanos): (u32, u64)| {
        let before = threads_before.iter().find(|(other, _)| *other == thread).map_or(0, |(_, nanos)| *nanos);
        std::time::Duration::from_nanos(nanos.saturating_sub(before)).as_secs_f64()
    };
    let each: Vec<f64> = system::cpu_of_threads(proxy).into_iter().map(of_thread).collect();
    let all: f64 = each.iter().sum();
    let workers: Vec<f64> =
        each.into_iter().map(|part| part / all).filter(|part| *part > WORKER_PART).collect();
    #[expect(clippy::cast_precision_loss, reason = "far fewer requests than that")]
    let requests = load.requests as f64;
    Ok(Run {
        per_second: requests / took,
        per_busy_second: requests / spent,
        load_busy: system::cpu_of_children().saturating_sub(load_before).as_secs_f64() / took,
        busiest: workers.into_iter().fold(0.0, f64::max),
    })
}
