//! Many services on one machine: how long they take to be ready, and what Handover's own processes weigh then.

use std::time::{Duration, Instant};

use crate::manifest::Setup;
use crate::sandbox::Sandbox;
use crate::system;
use crate::wait;

/// Instances of each service.
const INSTANCES: usize = 2;
/// From the last instance's readiness to the measurement: probes have their slow pace by then.
const SETTLE: Duration = Duration::from_secs(8);
/// How long idle processes are watched.
const WATCHED: Duration = Duration::from_secs(10);
/// For all instances to be ready.
const READY_MAX: Duration = Duration::from_secs(180);

/// Handover's processes.
pub const ROLES: [&str; 3] = ["holder", "proxy", "agent"];

/// One of Handover's processes while nothing happens.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    /// Proportional memory, in KiB.
    pub pss_kib: u64,
    /// CPU time per second.
    pub cpu: Duration,
    /// Threads.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
}

/// What so many services cost.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// How many.
    pub services: usize,
    /// From `up` to the last instance ready.
    pub ready_after: Duration,
    /// From `down` typed to its end.
    pub down_after: Duration,
    /// As [`ROLES`].
    pub weights: [Weight; 3],
    /// How long `status --json` takes.
    pub status_after: Duration,
}

/// A service's name.
fn name(number: usize) -> String {
    format!("shop-{number:03}")
}

fn manifest(sandbox: &Sandbox, services: usize) -> String {
    let release = sandbox.folder().join("source/1");
    let mut text = format!(
        "state_dir = '{}'\n[admin]\nbind = \"127.0.0.1:0\"\n[listener.web]\nbind = \"127.0.0.1:0\"\n",
        sandbox.state_dir().display()
    );
    for service in (0..services).map(name) {
        text.push_str(&format!(
            "[[route]]\nlistener = \"web\"\npath = \"/{service}\"\nservice = \"{service}\"\n\
             [service.{service}]\nrelease = '{}'\nversion = \"1\"\ncommand = ['./victim']\n\
             instances = {INSTANCES}\n[service.{service}.readiness]\nhttp = \"/healthz\"\n\
             startup_timeout = \"120s\"\n",
            release.display()
        ));
    }
    text
}

/// Starts so many services with two instances each, measures, and ends them.
///
/// # Errors
/// When not all get ready, or `down` fails.
pub fn measure(services: usize) -> Result<Crowd, String> {
    let mut sandbox = Sandbox::new(Setup::default());
    sandbox.write_manifest(&manifest(&sandbox, services));
    let began = Instant::now();
    sandbox.up();
    let mut ready = 0;
    let all_ready = || {
        let status = sandbox.try_status()?;
        ready = (0..services).map(|number| status.in_state(&name(number), "ready").len()).sum();
        (ready == services * INSTANCES).then(|| (began.elapsed(), status))
    };
    let Some((ready_after, status)) = wait::try_until(READY_MAX, all_ready) else {
        return Err(format!("{ready} of {} instances are ready:\n{}", services * INSTANCES, sandbox.logs()));
    };
    std::thread::sleep(SETTLE);
    let pids = ROLES.map(|role| status.pid(role).unwrap_or(0));
    let before = pids.map(system::cpu_nanos);
    std::thread::sleep(WATCHED);
    let after = pids.map(system::cpu_nanos);
    let seconds = WATCHED.as_secs();
    let weight = |at: usize| Weight {
        pss_kib: system::memory_of(pids[at]).1,
        cpu: Duration::from_nanos(after[at].saturating_sub(before[at]) / seconds),
        threads: system::threads_of(pids[at]),
        descriptors: system::descriptors_of(pids[at]),
    };
    let weights = [weight(0), weight(1), weight(2)];
    let status_after = sandbox.run(&["status", "--json"]).took;
    let down = sandbox.run(&["down"]);
    if down.code != Some(0) {
        return Err(format!("`down` failed:\n{}", down.text()));
    }
    sandbox.collect_up();
    Ok(Crowd { services, ready_after, down_after: down.took, weights, status_after })
}

/// All of them as Markdown.
pub fn markdown(crowds: &[Crowd]) -> String {
    let mut text = format!(
        "{INSTANCES} instances each; memory is PSS; CPU is that of one idle second\n\n\
         | services | all ready after | holder | proxy | agent | holder CPU | proxy CPU | agent CPU | \
         descriptors | `status` | `down` |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for crowd in crowds {
        let [holder, proxy, agent] = &crowd.weights;
        let mib = |weight: &Weight| {
            let tenths = weight.pss_kib * 10 / 1024;
            format!("{}.{} MiB", tenths / 10, tenths % 10)
        };
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        text.push_str(&format!(
            "| {} | {:.1} s | {} | {} | {} | {} | {} | {} | {}, {}, {} | {} | {:.1} s |\n",
            crowd.services,
            crowd.ready_after.as_secs_f64(),
            mib(holder),
            mib(proxy),
            mib(agent),
            ms(holder.cpu),
            ms(proxy.cpu),
            ms(agent.cpu),
            holder.descriptors,
            proxy.descriptors,
            agent.descriptors,
            ms(crowd.status_after),
            crowd.down_after.as_secs_f64(),
        ));
    }
    text
}
