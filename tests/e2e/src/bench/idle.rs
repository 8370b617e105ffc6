//! What ten thousand clients cost that have asked once and now only stay.

use std::io::Write;
use std::time::Duration;

use super::Cell;
use super::client::Client;
use super::stage::Stage;
use super::subject::Subject;
use super::table::{Row, Section, Unit};

/// How many.
const CONNECTIONS: usize = 10_000;
/// How many of them ask at once: buffers are in use at the same time, as in earnest.
const AT_ONCE: usize = 100;
/// From the last answer to the look: what is given back late has been given back.
const SETTLE: Duration = Duration::from_secs(3);

/// Memory before and with them.
pub(super) fn connections(stage: &Stage) -> Result<Section, String> {
    let mut measured = Vec::new();
    for subject in &stage.subjects {
        measured.push(measure(subject).map_err(|why| format!("{}: {why}", subject.name))?);
    }
    #[expect(clippy::cast_precision_loss, reason = "ten thousand")]
    let each = |before: f64, after: f64| (after - before) * 1024.0 / CONNECTIONS as f64;
    let row = |what: &str, unit: Unit, goal: &str, of: &dyn Fn((f64, f64)) -> f64| Row {
        what: what.to_owned(),
        unit,
        rounds: vec![measured.iter().map(|pair| of(*pair)).collect()],
        goal: goal.to_owned(),
    };
    let rows = vec![
        row("before", Unit::Mebibytes, "", &|(before, _)| before),
        row("with them", Unit::Mebibytes, "≤ 40 MiB", &|(_, after)| after),
        row("for each", Unit::Kibibytes, "", &|(before, after)| each(before, after)),
    ];
    Ok(Section {
        cell: Cell::Idle.name(),
        title: format!("Memory: {CONNECTIONS} idle keep-alive connections, one request done on each"),
        columns: stage.names(),
        rows,
        mean_goal: None,
        notes: vec![
            "PSS of the proxy's processes: of Handover the proxy, of nginx master and worker.".to_owned(),
        ],
    })
}

fn measure(subject: &Subject) -> Result<(f64, f64), String> {
    let before = subject.memory_mib();
    let clients = open(subject).map_err(|error| error.to_string())?;
    std::thread::sleep(SETTLE);
    let after = subject.memory_mib();
    drop(clients);
    Ok((before, after))
}

fn open(subject: &Subject) -> std::io::Result<Vec<Client>> {
    let mut clients: Vec<Client> = Vec::with_capacity(CONNECTIONS);
    while clients.len() < CONNECTIONS {
        let from = clients.len();
        for _ in 0..AT_ONCE {
            clients.push(Client::connect(subject.plain)?);
        }
        for client in &clients[from..] {
            client.stream().write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        }
        for client in &mut clients[from..] {
            client.expect_ok()?;
        }
    }
    Ok(clients)
}
