//! h2load as the load of a fixed number of requests, and what it says about them.
//!
//! It deliberately knows no tolerance: one request that did not succeed is an error.

use std::net::SocketAddr;
use std::process::{Command, Output};

use super::seats::Seats;

/// What is asked for, how often and over how many connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) path: &'static str,
    pub(super) connections: u32,
    pub(super) requests: u64,
}

/// What h2load saw.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Protocol and cipher, where TLS was spoken.
    pub(super) tls: Option<String>,
}

/// Sends the requests, in the clear or over TLS, and sees that each is answered 200.
pub(super) fn h2load(seats: &Seats, load: Load, address: SocketAddr, over_tls: bool) -> Result<Seen, String> {
    let scheme = if over_tls { "https" } else { "http" };
    let mut command = seats.command("h2load");
    command.args(["--h1", "-t", "1"]);
    command.args(["-n", &load.requests.to_string(), "-c", &load.connections.to_string()]);
    command.arg(format!("{scheme}://{address}{}", load.path));
    let said = output_of(&mut command)?;
    let requests = load.requests;
    let complete = said.contains(&format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout"))
        && said.contains(&format!("status codes: {requests} 2xx,"));
    if !complete {
        return Err(format!("not all requests were answered:\n{said}"));
    }
    let after = |mark: &str| said.lines().find_map(|line| line.strip_prefix(mark)).map(str::trim);
    let tls = after("TLS Protocol:")
        .zip(after("Cipher:"))
        .map(|(protocol, cipher)| format!("{protocol}, {cipher}"));
    Ok(Seen { tls })
}

/// Runs a program to its end; what it printed.
pub(super) fn output_of(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| format!("{program} could not be started: {error}"))?;
    let said = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        Ok(said)
    } else {
        Err(format!("{program} ended with {status}:\n{said}{}", String::from_utf8_lossy(&stderr)))
    }
}
