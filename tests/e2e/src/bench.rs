//! What the data plane costs beside nginx and HAProxy: the cells of `cargo xtask bench proxy`.
//!
//! All subjects stand before the same origin, with one worker thread each, in rounds that take turns, the order
//! rotating: what disturbs the machine disturbs all of them. What counts is the ratio, not the number. The peers run
//! without a log; Handover runs as it comes, and the time of all its processes counts. It deliberately judges nothing:
//! a table has the goal beside the figure, and a failed request ends the run.

use std::path::PathBuf;

mod certificate;
mod handover;
mod haproxy;
mod load;
mod nginx;
mod origin;
mod running;
mod speed;
mod stage;
mod subject;
mod table;

pub use table::{Section, json};

use stage::Stage;

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
}

impl Cell {
    /// All, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Keepalive, Self::Bodies, Self::Tls];

    /// For `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive",
            Self::Bodies => "bodies",
            Self::Tls => "tls",
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
    let stage = Stage::build(options)?;
    for cell in &options.cells {
        on_begin(cell.name());
        on_section(match cell {
            Cell::Keepalive => speed::keepalive(&stage, options)?,
            Cell::Bodies => speed::bodies(&stage, options)?,
            Cell::Tls => speed::tls(&stage, options)?,
        });
    }
    Ok(())
}
