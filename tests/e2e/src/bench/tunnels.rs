//! What a thousand tunnels cost that have carried a message and now only stay.

use std::io::Write;
use std::time::Duration;

use super::Cell;
use super::client::Client;
use super::stage::Stage;
use super::streams::KEY;
use super::subject::Subject;
use super::table::{Row, Section, Unit};

/// How many.
const TUNNELS: usize = 1_000;
/// From the last echo to the look.
const SETTLE: Duration = Duration::from_secs(3);
/// What goes through each tunnel and back.
const MESSAGE: &[u8] = b"a message through the tunnel";

/// Memory before and with them.
pub(super) fn tunnels(stage: &Stage) -> Result<Section, String> {
    let mut measured = Vec::new();
    let mut notes =
        vec!["PSS of the proxy's processes, both connections of each tunnel included.".to_owned()];
    for subject in &stage.subjects {
        let before = subject.memory_mib();
        match open(subject) {
            Ok(clients) => {
                std::thread::sleep(SETTLE);
                measured.push((before, subject.memory_mib()));
                drop(clients);
            }
            Err(why) => {
                notes.push(format!("{}: {why}.", subject.name));
                measured.push((before, f64::NAN));
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let each = |before: f64, after: f64| (after - before) * 1024.0 / TUNNELS as f64;
    let row = |what: &str, unit: Unit, of: &dyn Fn((f64, f64)) -> f64| Row {
        what: what.to_owned(),
        unit,
        rounds: vec![measured.iter().map(|pair| of(*pair)).collect()],
        goal: String::new(),
    };
    let rows = vec![
        row("before", Unit::Mebibytes, &|(before, _)| before),
        row("with them", Unit::Mebibytes, &|(_, after)| after),
        row("for each", Unit::Kibibytes, &|(before, after)| each(before, after)),
    ];
    Ok(Section {
        cell: Cell::Tunnels.name(),
        title: format!("Memory: {TUNNELS} idle tunnels, one message echoed through each"),
        columns: stage.names(),
        rows,
        mean_goal: None,
        notes,
    })
}

fn open(subject: &Subject) -> Result<Vec<Client>, String> {
    let mut clients = Vec::with_capacity(TUNNELS);
    for _ in 0..TUNNELS {
        clients.push(tunnel(subject).map_err(|error| error.to_string())?);
    }
    Ok(clients)
}

fn tunnel(subject: &Subject) -> std::io::Result<Client> {
    let mut client = Client::connect(subject.plain)?;
    let ask = format!(
        "GET /tunnel HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    client.stream().write_all(ask.as_bytes())?;
    let (status, _) = client.read_head()?;
    if status != 101 {
        return Err(std::io::Error::other(format!("answered {status} where a tunnel was asked for")));
    }
    client.stream().write_all(MESSAGE)?;
    client.skip(MESSAGE.len() as u64)?;
    Ok(client)
}
