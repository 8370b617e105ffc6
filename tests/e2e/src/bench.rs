//! What the data plane costs beside nginx and HAProxy: the cells of `cargo xtask bench proxy`.
//!
//! All subjects stand before the same origin, with one worker thread each, in rounds that take turns, the order
//! rotating: what disturbs the machine disturbs all of them. What counts is the ratio, not the number. The peers run
//! without a log; Handover runs as it comes, and the time of all its processes counts. It deliberately judges nothing:
//! a table has the goal beside the figure, and a failed request ends the run.

use std::path::PathBuf;

mod certificate;
mod client;
mod handover;
mod haproxy;
mod idle;
mod load;
mod nginx;
mod onecore;
mod origin;
mod running;
mod seats;
mod speed;
mod stage;
mod streams;
mod subject;
mod table;
mod threads;
mod transfer;
mod tunnels;
mod wrk;

pub use table::{Section, json};

use stage::{Behind, Stage};
pub use streams::{WORD as STREAMS, serve as serve_streams};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rounds of each row.
    pub rounds: usize,
    /// Small requests of one run; runs with larger bodies take the fewer of them.
    pub requests: u64,
    /// Which cells.
    pub cells: Vec<Cell>,
    /// Binary under test.
    pub handover: PathBuf,
    /// nginx and HAProxy take part.
    pub peers: bool,
    /// A second binary that takes part in every row, for a comparison of two builds.
    pub beside: Option<PathBuf>,
}

/// A part of the bench that can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// CPU per small request over connections that stay.
    Keepalive,
    /// CPU per request of larger answers.
    Bodies,
    /// CPU per small request over TLS.
    Tls,
    /// Rate and latency on one core.
    Onecore,
    /// New connections on one core.
    Fresh,
    /// Two worker threads beside one.
    Threads,
    /// Memory of idle connections.
    Idle,
    /// Memory of tunnels.
    Tunnels,
    /// Memory while bodies of 1 GiB pass.
    Transfer,
}

impl Cell {
    /// All, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::Keepalive,
        Self::Bodies,
        Self::Tls,
        Self::Onecore,
        Self::Fresh,
        Self::Threads,
        Self::Idle,
        Self::Tunnels,
        Self::Transfer,
    ];

    /// For `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive",
            Self::Bodies => "bodies",
            Self::Tls => "tls",
            Self::Onecore => "onecore",
            Self::Fresh => "fresh",
            Self::Threads => "threads",
            Self::Idle => "idle",
            Self::Tunnels => "tunnels",
            Self::Transfer => "transfer",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cell| cell.name() == name)
    }
}

/// Measures the cells, says which it begins, and hands over each section as soon as it is known.
///
/// # Errors
/// When a program does not come to serve, or a single request fails.
pub fn run(
    options: &Options,
    on_begin: &mut dyn FnMut(&str),
    on_section: &mut dyn FnMut(Section),
) -> Result<(), String> {
    // Shared by the cells of speed. Memory is measured on subjects that have done nothing yet.
    let mut speed = None;
    for cell in &options.cells {
        on_begin(cell.name());
        on_section(match cell {
            Cell::Idle => idle::connections(&Stage::build(options, Behind::Requests)?)?,
            Cell::Tunnels => tunnels::tunnels(&Stage::build(options, Behind::Streams)?)?,
            Cell::Transfer => transfer::transfers(&Stage::build(options, Behind::Streams)?)?,
            of_speed => {
                if speed.is_none() {
                    let stage = speed.insert(Stage::build(options, Behind::Requests)?);
                    on_begin(&stage.processes());
                }
                let stage = speed.as_ref().expect("invariant: it was just built");
                measure_speed(*of_speed, stage, options)?
            }
        });
    }
    Ok(())
}

fn measure_speed(cell: Cell, stage: &Stage, options: &Options) -> Result<Section, String> {
    match cell {
        Cell::Keepalive => speed::keepalive(stage, options),
        Cell::Bodies => speed::bodies(stage, options),
        Cell::Tls => speed::tls(stage, options),
        Cell::Onecore => onecore::throughput(stage, options),
        Cell::Fresh => onecore::fresh(stage, options),
        Cell::Threads => threads::threads(stage, options),
        Cell::Idle | Cell::Tunnels | Cell::Transfer => Err("that is no cell of speed".to_owned()),
    }
}
