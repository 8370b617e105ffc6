//! Times of single events: a proxy killed, a deploy seen by a steady client.

use std::time::{Duration, Instant};

use super::subject::{HandoverSubject, Subject};
use crate::http::{self, Request};
use crate::load::{Kind, Load, Plan, Tally};
use crate::system::{self, Signal};
use crate::wait::{self, PATIENCE};

/// Keep-alive clients at work when the proxy is killed; all of them have a request in flight.
const BUSY_CLIENTS: usize = 14;
/// Clients beside them that make a new connection for each request.
const FRESH_CLIENTS: usize = 2;
/// From the start of a proxy until its death is a first one again and not part of a crash loop, which the holder
/// slows down on purpose.
const CRASH_LOOP: Duration = Duration::from_millis(10_500);
/// Clients that watch a deploy.
const STEADY_CLIENTS: usize = 2;

/// What clients saw of proxies killed.
#[derive(Debug, Clone)]
pub struct ProxyKills {
    /// How many kills.
    pub kills: usize,
    /// Connections at each of them.
    pub clients: usize,
    /// All together.
    pub tally: Tally,
    /// From each kill to the first answer on a new connection.
    pub serving_again: Vec<Duration>,
}

impl ProxyKills {
    /// No connection refused, and at most one request lost per connection and kill.
    pub fn is_clean(&self, longest: Duration) -> bool {
        let allowed = (self.kills * self.clients) as u64;
        self.tally.connect_failures() == 0
            && self.tally.failures() <= allowed
            && self.serving_again.iter().all(|time| *time <= longest)
    }
}

/// Kills the newest proxy so many times under load.
///
/// # Errors
/// When Handover does not start, or no new proxy comes.
pub(super) fn proxy_kills(kills: usize) -> Result<ProxyKills, String> {
    let mut handover = HandoverSubject::start(&[])?;
    let address = handover.address();
    let mut clients = vec![Kind::Think0; BUSY_CLIENTS];
    clients.extend([Kind::Fresh; FRESH_CLIENTS]);
    let load = Load::start(&Plan::new(address), &clients);
    let mut serving_again = Vec::new();
    let mut served_since: Option<Instant> = None;
    for _ in 0..kills {
        load.wait_for_answers(200);
        if let Some(since) = served_since {
            std::thread::sleep((since + CRASH_LOOP).saturating_duration_since(Instant::now()));
        }
        let status = handover.sandbox().status();
        let (pid, generation) = (status.pid("proxy"), status.proxy_generation());
        let pid = pid.ok_or("status shows no proxy")?;
        system::send(pid, Signal::Kill);
        let killed = Instant::now();
        let answered = || http::once(address, &Request::get("/")).ok().map(|_| killed.elapsed());
        serving_again
            .push(wait::try_until(PATIENCE, answered).ok_or("nobody serves after a proxy was killed")?);
        handover.sandbox().wait_status("a newer proxy", |status| {
            (status.proxy_generation() > generation && status.pid("proxy").is_some()).then_some(())
        });
        served_since = Some(Instant::now());
    }
    let tally = load.finish();
    handover.end();
    Ok(ProxyKills { kills, clients: clients.len(), tally, serving_again })
}

/// What steady clients saw of deploys.
#[derive(Debug, Clone)]
pub struct DeployTimes {
    /// From each deploy typed to the last request sent to the old release.
    pub switched_after: Vec<Duration>,
    /// The same clients without deploys, for as long.
    pub baseline: Tally,
    /// During the deploys.
    pub tally: Tally,
}

/// So many deploys of a service that is ready 100 ms after its start.
///
/// # Errors
/// When Handover does not start, or a deploy fails.
pub(super) fn deploy_times(deploys: usize, baseline: Duration) -> Result<DeployTimes, String> {
    let mut handover = HandoverSubject::start(&["--ready-after", "100"])?;
    let plan = Plan::new(handover.address());
    let quiet = Load::of(&plan, Kind::Think2ms, STEADY_CLIENTS);
    std::thread::sleep(baseline);
    let baseline = quiet.finish();
    let load = Load::of(&plan, Kind::Think2ms, STEADY_CLIENTS);
    let mut typed = Vec::new();
    for _ in 0..deploys {
        load.wait_for_answers(100);
        let old = handover.version();
        typed.push((old, handover.deploy()?));
    }
    load.wait_for_answers(100);
    let tally = load.finish();
    handover.end();
    let switched_after = typed
        .iter()
        .filter_map(|(old, typed)| {
            tally.last_sent_to.get(old).map(|last| last.saturating_duration_since(*typed))
        })
        .collect();
    Ok(DeployTimes { switched_after, baseline, tally })
}
