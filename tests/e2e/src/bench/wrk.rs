//! wrk as the load of a fixed time: how many requests a second, and how long they took.
//!
//! It deliberately knows no tolerance: one request that did not succeed is an error.

use std::net::SocketAddr;
use std::time::Duration;

use super::load::output_of;
use super::seats::Seats;
use crate::system;

/// How long each run lasts.
const SECONDS: u32 = 4;

/// What wrk saw, and used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Blast {
    pub(super) requests: f64,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Blasts from its seat; with `fresh` every request has a connection of its own. Beside what wrk saw: the CPU
/// time that it used.
pub(super) fn blast(
    seats: &Seats,
    address: SocketAddr,
    connections: u32,
    fresh: bool,
) -> Result<(Blast, Duration), String> {
    let before = system::cpu_of_children();
    let mut command = seats.command("wrk");
    command.args(["-t", "1", "--latency", "-d", &format!("{SECONDS}s"), "-c", &connections.to_string()]);
    if fresh {
        command.args(["-H", "Connection: close"]);
    }
    let said = output_of(command.arg(format!("http://{address}/")))?;
    let used = system::cpu_of_children().saturating_sub(before);
    if said.contains("Socket errors") || said.contains("Non-2xx") {
        return Err(format!("not all requests were answered:\n{said}"));
    }
    let seen = parse(&said).ok_or_else(|| format!("wrk said something unknown:\n{said}"))?;
    Ok((seen, used))
}

fn parse(said: &str) -> Option<Blast> {
    let line = |mark: &str| said.lines().map(str::trim).find_map(|line| line.strip_prefix(mark));
    let total = said.lines().find(|line| line.contains(" requests in "))?;
    Some(Blast {
        requests: total.split_whitespace().next()?.parse().ok()?,
        per_second: line("Requests/sec:")?.trim().parse().ok()?,
        p50_us: micros(line("50%")?)?,
        p99_us: micros(line("99%")?)?,
    })
}

/// `1.23ms` and the like.
fn micros(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, factor) = [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let said = "Running 4s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n  Latency Distribution\n     \
                    50%  512.00us\n     75%    1.10ms\n     90%    1.20ms\n     99%    2.50ms\n  \
                    188142 requests in 4.00s, 31.94MB read\nRequests/sec:  47035.00\nTransfer/sec:      7.98MB\n";
        let seen = Blast { requests: 188_142.0, per_second: 47_035.0, p50_us: 512.0, p99_us: 2_500.0 };
        assert_eq!(parse(said), Some(seen));
    }
}
