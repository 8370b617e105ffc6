//! What holds where the manifest says nothing.
//!
//! Every default is here and nowhere else; the schema, `check` and the reference name these.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// `admin.bind`: loopback only.
pub(super) const ADMIN_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7979);
/// `proxy.access_log`.
pub(super) const ACCESS_LOG: bool = true;
/// `access_log.sample`, in basis points: every request.
pub(super) const ACCESS_LOG_SAMPLE: u32 = 10_000;
/// `access_log.query`: they often hold secrets.
pub(super) const ACCESS_LOG_QUERY: bool = false;
/// `instances.ports`: below the range from which Linux takes ports for outgoing connections.
pub(super) const INSTANCE_PORTS: (u16, u16) = (20_000, 29_999);

/// `listener.backlog`: bursts of new connections wait there while a proxy is replaced.
pub(super) const BACKLOG: u32 = 4096;
/// `listener.header_timeout`.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// `listener.idle_timeout`: above the 60 s that load balancers in front commonly keep a connection.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// `listener.body_timeout`.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// `listener.head_bytes_max`.
pub(super) const HEAD_BYTES_MAX: u64 = 64 << 10;
/// `listener.headers_max`.
pub(super) const HEADERS_MAX: u32 = 100;
/// `listener.body_bytes_max`: bodies pass through and are never held, so this only stops runaways.
pub(super) const BODY_BYTES_MAX: u64 = 1 << 30;

/// `route.path`: everything.
pub(super) const ROUTE_PATH: &str = "/";

/// `weight` of a service in a split, and of an endpoint.
pub(super) const WEIGHT: u32 = 1;

/// `service.instances`: one, and `check` says what that means.
pub(super) const INSTANCES: u32 = 1;

/// `readiness.interval`.
pub(super) const READINESS_INTERVAL: Duration = Duration::from_secs(1);
/// `readiness.timeout`.
pub(super) const READINESS_TIMEOUT: Duration = Duration::from_secs(2);
/// `readiness.rise`.
pub(super) const READINESS_RISE: u32 = 2;
/// `readiness.fall`.
pub(super) const READINESS_FALL: u32 = 3;
/// `readiness.startup_timeout`.
pub(super) const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// `readiness.alive_for` of a worker that says nothing else.
pub(super) const WORKER_ALIVE_FOR: Duration = Duration::from_secs(1);

/// `liveness.interval`.
pub(super) const LIVENESS_INTERVAL: Duration = Duration::from_secs(10);
/// `liveness.timeout`.
pub(super) const LIVENESS_TIMEOUT: Duration = Duration::from_secs(2);
/// `liveness.fall`.
pub(super) const LIVENESS_FALL: u32 = 3;

/// `stop.drain_timeout`.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// `stop.grace_period`.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// `restart.delay`.
pub(super) const RESTART_DELAY: Duration = Duration::from_secs(1);
/// `restart.max_delay`.
pub(super) const RESTART_MAX_DELAY: Duration = Duration::from_secs(60);
/// `restart.reset_after`.
pub(super) const RESTART_RESET_AFTER: Duration = Duration::from_secs(60);
/// `restart.unready_after`.
pub(super) const UNREADY_AFTER: Duration = Duration::from_secs(300);

/// `reload.timeout`.
pub(super) const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// `timeout` of a hook.
pub(super) const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// `output.max_size`.
pub(super) const OUTPUT_MAX_SIZE: u64 = 10 << 20;
/// `output.files`: with the size above 80 MiB a service, a day of a chatty one, and never a full disk.
pub(super) const OUTPUT_FILES: u32 = 8;

/// `upstream.connect_timeout`.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `upstream.response_timeout`.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// `upstream.idle_reuse`: shorter than the keep-alive limits that servers commonly have, so that a reused
/// connection is not one the server is just closing.
pub(super) const IDLE_REUSE: Duration = Duration::from_secs(2);

/// `upstream.request_timeout`: none, so that long downloads end by their own timeouts.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::ZERO;
/// `upstream.tunnel_idle_timeout`: above the pings that WebSocket libraries commonly send.
pub(super) const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// `retry.attempts`.
pub(super) const RETRY_ATTEMPTS: u32 = 3;
/// `retry.budget`, in basis points: retries never double the load of a service that is failing.
pub(super) const RETRY_BUDGET: u32 = 2_000;
/// `retry.non_idempotent`.
pub(super) const RETRY_NON_IDEMPOTENT: bool = false;

/// `balance.slow_start`.
pub(super) const SLOW_START: Duration = Duration::ZERO;
/// `balance.requests_max`.
pub(super) const REQUESTS_MAX: u32 = 0;
/// `balance.queue_max`.
pub(super) const QUEUE_MAX: u32 = 1_000;
/// `balance.queue_timeout`.
pub(super) const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);
/// `balance.panic`, in basis points.
pub(super) const PANIC: u32 = 5_000;

/// `outlier.enabled`: the last admitted is never ejected, and below `balance.panic` none counts as ejected.
pub(super) const OUTLIER_ENABLED: bool = true;

/// The other keys of `outlier`.
pub(super) fn outlier() -> model::manifest::Outlier {
    model::manifest::Outlier::default()
}

/// `maintenance.on`.
pub(super) const MAINTENANCE_ON: bool = false;
/// `maintenance.retry_after`.
pub(super) const MAINTENANCE_RETRY_AFTER: Duration = Duration::from_secs(60);

/// `sticky.max_age`.
pub(super) const STICKY_MAX_AGE: Duration = Duration::from_secs(86_400);

/// `rollout.keep_warm`.
pub(super) const KEEP_WARM: Duration = Duration::from_secs(600);
/// `rollout.max_surge`.
pub(super) const MAX_SURGE: u32 = 1;
/// `rollout.max_unavailable`: no request is lost to a smaller service.
pub(super) const MAX_UNAVAILABLE: u32 = 0;
/// `rollout.exclusive`.
pub(super) const EXCLUSIVE: bool = false;

/// `proxy.threads`: one per core.
pub(super) fn proxy_threads() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(super::checked::PROXY_THREADS_MAX).min(super::checked::PROXY_THREADS_MAX)
}
