//! Mutated requests through one Handover to origins of other people's making: no origin ever sees a request
//! boundary that Handover did not see.
//!
//! ```text
//!  case N ─► listener of an origin ─► origin
//!    │ mutated request /c/N/a, with /c/N/s hidden in it and /c/N/z behind it
//!    └ what the origin logged, what Handover logged and what the client was answered must agree
//! ```
//! Cases are made from a seed and a number alone, so one can be run again. What a request means is not judged:
//! only whether all see the same ones.

pub mod mutate;
pub mod origin;
mod rig;
mod verdict;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rig::Rig;
use verdict::{Answers, judge};

/// Requests between two comparisons of what was seen.
const BATCH: u64 = 5_000;
/// Clients at once.
const CLIENTS: usize = 8;
/// Nothing that a client does here takes longer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(20);
/// Most violations that are told.
const TOLD_MAX: usize = 20;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of all cases.
    pub seed: u64,
    /// Requests sent, over all origins.
    pub requests: u64,
    /// Only this case, at every origin.
    pub case: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, requests: 60_000, case: None }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Mutated requests sent.
    pub sent: u64,
    /// Requests that origins saw, by origin.
    pub seen: BTreeMap<String, u64>,
    /// Answers to clients by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Time for sending.
    pub took: Duration,
    /// The longest exchange, with its case and origin.
    pub slowest: Option<(Duration, u64, String)>,
    /// What must not be.
    pub violations: Vec<String>,
}

impl Report {
    /// As a table.
    pub fn markdown(&self) -> String {
        let rate = self.sent as f64 / self.took.as_secs_f64().max(0.001);
        let mut text = format!(
            "seed {}: {} mutated requests in {:.1} s, {rate:.0} a second; {} violations\n\n| origin | requests seen |\n|---|---|\n",
            self.seed,
            self.sent,
            self.took.as_secs_f64(),
            self.violations.len()
        );
        if let Some((took, case, origin)) = &self.slowest {
            let after =
                format!("the slowest was case {case} at {origin}: {:.1} s\n\n| origin", took.as_secs_f64());
            text = text.replacen("| origin", &after, 1);
        }
        for (origin, count) in &self.seen {
            text.push_str(&format!("| {origin} | {count} |\n"));
        }
        text.push_str("\n| status | answers |\n|---|---|\n");
        for (status, count) in &self.statuses {
            text.push_str(&format!("| {status} | {count} |\n"));
        }
        text
    }
}

/// Runs all of it.
///
/// # Errors
/// When Handover or an origin does not come to serve.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Report, String> {
    say(&format!("seed {}", options.seed));
    let mut rig = Rig::start()?;
    let mut report = Report { seed: options.seed, ..Report::default() };
    let origins = rig.origins().to_vec();
    let cases = options.requests.div_ceil(origins.len() as u64);
    let per_batch = (BATCH / origins.len() as u64).max(1);
    let (first, end) = options.case.map_or((0, cases), |case| (case, case + 1));
    let mut from = first;
    while from < end && report.violations.is_empty() {
        let to = end.min(from + per_batch);
        let began = Instant::now();
        let answers = send_batch(options.seed, from..to, &origins);
        report.took += began.elapsed();
        report.sent += (to - from) * origins.len() as u64;
        report.slowest = report.slowest.take().max(answers.slowest().cloned());
        for status in answers.statuses() {
            *report.statuses.entry(status).or_default() += 1;
        }
        let mut violations = judge(&mut rig, options.seed, &answers, &mut report.seen);
        violations.truncate(TOLD_MAX);
        for case in violations
            .iter()
            .filter_map(|(case, _)| *case)
            .filter(|case| *case < cases)
            .collect::<std::collections::BTreeSet<_>>()
        {
            say(&format!("case {case}: {}", mutate::request(options.seed, case).escape_ascii()));
            say(&format!("again: cargo xtask strict --seed {} --case {case}", options.seed));
        }
        report.violations.extend(violations.into_iter().map(|(_, text)| text));
        from = to;
    }
    report.violations.extend(rig.panics());
    Ok(report)
}

/// Sends the cases of `range` to every origin.
fn send_batch(seed: u64, range: std::ops::Range<u64>, origins: &[(String, SocketAddr)]) -> Answers {
    let next = AtomicU64::new(range.start);
    let all = Mutex::new(Answers::default());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut own = Answers::default();
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= range.end {
                        break;
                    }
                    let bytes = mutate::request(seed, case);
                    for (origin, address) in origins {
                        let began = Instant::now();
                        let answer = exchange(*address, &bytes);
                        own.add(case, origin, answer, began.elapsed());
                    }
                }
                all.lock().expect("no client panics").append(own);
            });
        }
    });
    all.into_inner().expect("no client panics")
}

/// Everything that is answered to `bytes` on a connection of their own.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let problem = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(problem)?;
    stream.set_read_timeout(Some(CLIENT_TIMEOUT)).map_err(problem)?;
    stream.set_write_timeout(Some(CLIENT_TIMEOUT)).map_err(problem)?;
    // A refused one may be closed while it is written; what was answered counts.
    let _written = stream.write_all(bytes);
    let _closed = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err("its connection did not end in time".to_owned())
        }
        _ => Ok(answer),
    }
}
