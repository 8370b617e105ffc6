//! What is said of a service's requests: connections, retries, balance, ejection, endpoint groups, maintenance,
//! stickiness.

use std::time::Duration;

use model::endpoint_groups::{TEMPLATES_MAX, check_template};
use model::manifest::{Algorithm, Balance, HashKey, Maintenance, Outlier, Retry, Sticky, Traffic, Upstream};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::raw;
use super::super::read::{Given, Spot, last};
use super::super::units::{parse_decimal, show_duration};
use super::super::values::Percent;
use super::Checks;
use super::health::CHECK_MIN;
use super::life::or;

/// Largest page of a maintenance: it is in the route table of every proxy.
const PAGE_BYTES_MAX: u64 = 64 << 10;
/// All pages of a manifest together: they are in every route table, and in the record.
const PAGES_BYTES_MAX: usize = 1 << 20;
/// Most attempts for one request.
const ATTEMPTS_MAX: u32 = 10;
/// Most statuses that are tried again.
const STATUSES_MAX: usize = 32;
/// Answers below these are no failures.
const STATUSES: std::ops::RangeInclusive<u64> = 400..=599;
/// More requests than any instance has in flight.
const REQUESTS_MAX: u32 = 1_000_000;
/// Most requests that wait: each is a connection.
const QUEUE_MAX: u32 = 100_000;
/// Shorter spans are shorter than the sweep that ends them.
const EJECTION_MIN: Duration = Duration::from_millis(100);
/// Failures in a row after which an instance would never be ejected.
const ERRORS_MAX: u32 = 10_000;
/// Standard deviations, in thousandths: nothing is that far from a mean.
const STDEV_MILLI_MAX: u32 = 100_000;
/// Longest name of a header field or cookie.
const TOKEN_BYTES_MAX: usize = 64;
/// A tunnel that is closed earlier is of no use.
const TUNNEL_IDLE_MIN: Duration = Duration::from_secs(1);

impl Checks<'_> {
    pub(super) fn traffic(&mut self, key: &str, raw: &raw::Service) -> Traffic {
        let at = |name: &str| format!("{key}.{name}");
        Traffic {
            upstream: self.upstream(&at("upstream"), raw.upstream.get()),
            retry: self.retry(&at("retry"), raw.retry.get()),
            balance: self.balance(&at("balance"), &raw.balance),
            outlier: self.outlier(&at("outlier"), raw.outlier.get()),
            paths: self.paths(&at("paths"), &raw.paths),
            maintenance: self.maintenance(&at("maintenance"), &raw.maintenance),
        }
    }

    fn upstream(&mut self, key: &str, raw: Option<&raw::Upstream>) -> Upstream {
        let absent = raw::Upstream::default();
        let raw = raw.unwrap_or(&absent);
        let mut wait = |name: &str, given, default, least| {
            self.duration(&format!("{key}.{name}"), given, default, least)
        };
        let request_timeout = or(&raw.request_timeout, default::REQUEST_TIMEOUT);
        let least = if request_timeout.is_zero() { Duration::ZERO } else { CHECK_MIN };
        Upstream {
            connect_timeout: wait(
                "connect_timeout",
                &raw.connect_timeout,
                default::CONNECT_TIMEOUT,
                CHECK_MIN,
            ),
            response_timeout: wait(
                "response_timeout",
                &raw.response_timeout,
                default::RESPONSE_TIMEOUT,
                CHECK_MIN,
            ),
            idle_reuse: or(&raw.idle_reuse, default::IDLE_REUSE),
            request_timeout: wait("request_timeout", &raw.request_timeout, default::REQUEST_TIMEOUT, least),
            tunnel_idle_timeout: wait(
                "tunnel_idle_timeout",
                &raw.tunnel_idle_timeout,
                default::TUNNEL_IDLE_TIMEOUT,
                TUNNEL_IDLE_MIN,
            ),
        }
    }

    fn retry(&mut self, key: &str, raw: Option<&raw::Retry>) -> Retry {
        let absent = raw::Retry::default();
        let raw = raw.unwrap_or(&absent);
        let full = format!("{key}.statuses");
        let mut statuses = Vec::new();
        for spot in raw.statuses.get().into_iter().flatten() {
            match u16::try_from(spot.value).ok().filter(|_| STATUSES.contains(&spot.value)) {
                Some(status) if statuses.contains(&status) => {
                    let message = format!("{status} is there twice");
                    self.push(Problem::error(&full, spot.span.clone(), message).help("keep one of them"));
                }
                Some(status) => statuses.push(status),
                None => {
                    let message =
                        format!("a status that is tried again is {} to {}", STATUSES.start(), STATUSES.end());
                    self.push(Problem::error(&full, spot.span.clone(), message));
                }
            }
        }
        if let Some(spot) = raw.statuses.spot().filter(|_| statuses.len() > STATUSES_MAX) {
            let message = format!("`statuses` has more than {STATUSES_MAX}");
            self.push(Problem::error(&full, spot.span.clone(), message));
        }
        let attempts = format!("{key}.attempts");
        Retry {
            attempts: self.number(&attempts, &raw.attempts, default::RETRY_ATTEMPTS, 1..=ATTEMPTS_MAX),
            budget_percent: self.whole_percent(&format!("{key}.budget"), &raw.budget, default::RETRY_BUDGET),
            statuses,
            non_idempotent: raw.non_idempotent.or(default::RETRY_NON_IDEMPOTENT),
        }
    }

    fn balance(&mut self, key: &str, given: &Given<raw::Balance>) -> Balance {
        let absent = raw::Balance::default();
        let raw = given.get().unwrap_or(&absent);
        let at = |name: &str| format!("{key}.{name}");
        let hash = self.hash(&at("hash"), &raw.hash);
        let algorithm = match (raw.algorithm.or(raw::Algorithm::LeastRequests), hash) {
            (raw::Algorithm::LeastRequests, _) => Algorithm::LeastRequests,
            (raw::Algorithm::RoundRobin, _) => Algorithm::RoundRobin,
            (raw::Algorithm::Hash, Some(key)) => Algorithm::Hash(key),
            (raw::Algorithm::Hash, None) => {
                if raw.hash.is_absent() {
                    let span = raw.algorithm.spot().map_or(0..0, |spot| spot.span.clone());
                    let problem =
                        Problem::error(&at("hash"), span, "`algorithm = \"hash\"` needs to know of what");
                    self.push(problem.help(
                        "add hash = { cookie = \"NAME\" }, { header = \"NAME\" } or { source = true }",
                    ));
                }
                Algorithm::LeastRequests
            }
        };
        if let Some(spot) = raw
            .hash
            .spot()
            .filter(|_| raw.algorithm.or(raw::Algorithm::LeastRequests) != raw::Algorithm::Hash)
        {
            let problem =
                Problem::error(&at("hash"), spot.span.clone(), "`hash` belongs to `algorithm = \"hash\"`");
            self.push(problem.help("write algorithm = \"hash\", or take `hash` out"));
        }
        Balance {
            algorithm,
            slow_start: or(&raw.slow_start, default::SLOW_START),
            requests_max: self.number(
                &at("requests_max"),
                &raw.requests_max,
                default::REQUESTS_MAX,
                0..=REQUESTS_MAX,
            ),
            queue_max: self.number(&at("queue_max"), &raw.queue_max, default::QUEUE_MAX, 0..=QUEUE_MAX),
            queue_timeout: self.duration(
                &at("queue_timeout"),
                &raw.queue_timeout,
                default::QUEUE_TIMEOUT,
                CHECK_MIN,
            ),
            panic_percent: self.whole_percent(&at("panic"), &raw.panic, default::PANIC),
        }
    }

    fn hash(&mut self, key: &str, given: &Given<raw::Hash>) -> Option<HashKey> {
        let spot = given.spot()?;
        let raw = &spot.value;
        let header = raw.header.spot();
        let cookie = raw.cookie.spot();
        let source = raw.source.spot().filter(|source| source.value);
        let given =
            usize::from(header.is_some()) + usize::from(cookie.is_some()) + usize::from(source.is_some());
        let is_wrong = matches!(raw.header, Given::Wrong)
            || matches!(raw.cookie, Given::Wrong)
            || matches!(raw.source, Given::Wrong);
        if given != 1 && !is_wrong {
            let message =
                if given == 0 { "`hash` names nothing" } else { "`hash` names more than one thing" };
            let problem = Problem::error(key, spot.span.clone(), message);
            self.push(problem.help("write one of header = \"NAME\", cookie = \"NAME\", source = true"));
            return None;
        }
        if let Some(header) = header {
            return self.token(&format!("{key}.header"), header).map(HashKey::Header);
        }
        if let Some(cookie) = cookie {
            return self.token(&format!("{key}.cookie"), cookie).map(HashKey::Cookie);
        }
        source.map(|_| HashKey::Source)
    }

    fn outlier(&mut self, key: &str, raw: Option<&raw::Outlier>) -> Option<Outlier> {
        let absent = raw::Outlier::default();
        let raw = raw.unwrap_or(&absent);
        let at = |name: &str| format!("{key}.{name}");
        let usual = default::outlier();
        let base_ejection =
            self.duration(&at("base_ejection"), &raw.base_ejection, usual.base_ejection, EJECTION_MIN);
        let max_ejection = or(&raw.max_ejection, usual.max_ejection.max(base_ejection));
        if max_ejection < base_ejection {
            let span = raw.max_ejection.spot().map_or(0..0, |spot| spot.span.clone());
            let message =
                format!("`max_ejection` is below `base_ejection`, \"{}\"", show_duration(base_ejection));
            let problem = Problem::error(&at("max_ejection"), span, message);
            self.push(problem.help("ejections grow from `base_ejection` to `max_ejection`"));
        }
        let outlier = Outlier {
            consecutive_errors: self.number(
                &at("consecutive_errors"),
                &raw.consecutive_errors,
                usual.consecutive_errors,
                0..=ERRORS_MAX,
            ),
            interval: self.duration(&at("interval"), &raw.interval, usual.interval, EJECTION_MIN),
            base_ejection,
            max_ejection,
            max_ejected_percent: self.whole_percent(
                &at("max_ejected"),
                &raw.max_ejected,
                usual.max_ejected_percent * 100,
            ),
            success_rate_stdev_milli: self.stdev(&at("success_rate_stdev"), &raw.success_rate_stdev),
            success_rate_requests: self.number(
                &at("success_rate_requests"),
                &raw.success_rate_requests,
                usual.success_rate_requests,
                1..=REQUESTS_MAX,
            ),
            success_rate_endpoints: self.number(
                &at("success_rate_endpoints"),
                &raw.success_rate_endpoints,
                usual.success_rate_endpoints,
                2..=1000,
            ),
        };
        raw.enabled.or(default::OUTLIER_ENABLED).then_some(outlier)
    }

    fn stdev(&mut self, key: &str, given: &Given<String>) -> u32 {
        let usual = default::outlier().success_rate_stdev_milli;
        let Some(spot) = given.spot() else { return usual };
        let read = parse_decimal(&spot.value, 3).filter(|milli| *milli <= STDEV_MILLI_MAX);
        if read.is_none() {
            let message = format!("`{}` is no number from \"0\" to \"100\"", last(key));
            self.push(Problem::error(key, spot.span.clone(), message).help("write one such as \"1.9\""));
        }
        read.unwrap_or(usual)
    }

    fn paths(&mut self, key: &str, given: &Given<Vec<Spot<String>>>) -> Vec<String> {
        let mut paths: Vec<String> = Vec::new();
        let mut shapes: Vec<(String, std::ops::Range<usize>)> = Vec::new();
        for spot in given.get().into_iter().flatten() {
            if let Err(why) = check_template(&spot.value) {
                let message = format!("\"{}\" is no endpoint group: {why}", spot.value);
                let problem = Problem::error(key, spot.span.clone(), message);
                self.push(problem.help("write a path such as \"/api/order/{id}\""));
                continue;
            }
            let shape = shape(&spot.value);
            if let Some((_, first)) = shapes.iter().find(|(known, _)| *known == shape) {
                let message = format!("\"{}\" is for the same paths as another one", spot.value);
                let problem = Problem::error(key, spot.span.clone(), message);
                self.push(problem.and(first.clone(), "the first").help("keep one of them"));
                continue;
            }
            shapes.push((shape, spot.span.clone()));
            paths.push(spot.value.clone());
        }
        if let Some(spot) = given.spot().filter(|spot| spot.value.len() > TEMPLATES_MAX) {
            let message = format!("`paths` has {} entries; the most is {TEMPLATES_MAX}", spot.value.len());
            let problem = Problem::error(key, spot.span.clone(), message);
            self.push(
                problem.help("each is counted on its own: join some, or leave out what is rarely asked for"),
            );
        }
        paths
    }

    fn maintenance(&mut self, key: &str, given: &Given<raw::Maintenance>) -> Option<Maintenance> {
        let raw = given.get()?;
        let page = raw.page.spot().and_then(|spot| {
            let path = super::normal(&self.folder.join(&spot.value.0));
            let page = read_page(&path);
            if let Err(why) = &page {
                let problem = Problem::error(&format!("{key}.page"), spot.span.clone(), why.clone());
                self.push(problem.label("read when the manifest is"));
            }
            page.ok()
        });
        self.page_bytes += page.as_ref().map_or(0, String::len);
        if let Some(spot) = raw.page.spot().filter(|_| self.page_bytes > PAGES_BYTES_MAX) {
            let message = "all pages together have more than 1MiB";
            let problem = Problem::error(&format!("{key}.page"), spot.span.clone(), message);
            self.push(problem.help("write smaller ones: each proxy holds them all"));
        }
        let retry_after = self.duration(
            &format!("{key}.retry_after"),
            &raw.retry_after,
            default::MAINTENANCE_RETRY_AFTER,
            Duration::from_secs(1),
        );
        Some(Maintenance {
            on: raw.on.or(default::MAINTENANCE_ON),
            page,
            retry_after: whole_seconds(retry_after),
        })
    }

    pub(super) fn sticky(&mut self, key: &str, given: &Given<raw::Sticky>) -> Option<Sticky> {
        let spot = given.spot()?;
        let raw = &spot.value;
        match (raw.cookie.spot(), raw.header.spot()) {
            (Some(cookie), None) => {
                let max_age = self.duration(
                    &format!("{key}.max_age"),
                    &raw.max_age,
                    default::STICKY_MAX_AGE,
                    Duration::from_secs(1),
                );
                let name = self.token(&format!("{key}.cookie"), cookie)?;
                Some(Sticky::Cookie { name, max_age: whole_seconds(max_age) })
            }
            (None, Some(header)) => {
                if let Some(max_age) = raw.max_age.spot() {
                    let message = "`max_age` belongs to `cookie`";
                    let problem = Problem::error(&format!("{key}.max_age"), max_age.span.clone(), message);
                    self.push(problem.help("take it out: the client decides how long it sends the header"));
                }
                self.token(&format!("{key}.header"), header).map(|name| Sticky::Header { name })
            }
            (cookie, _) => {
                let is_wrong = matches!(raw.cookie, Given::Wrong) || matches!(raw.header, Given::Wrong);
                if !is_wrong {
                    let message =
                        if cookie.is_some() { "`sticky` names two things" } else { "`sticky` names nothing" };
                    let problem = Problem::error(key, spot.span.clone(), message);
                    self.push(
                        problem.help("write one of cookie = \"handover_release\" and header = \"NAME\""),
                    );
                }
                None
            }
        }
    }

    /// Tables that say something about requests.
    pub(super) fn worker_without(&mut self, key: &str, raw: &raw::Service) {
        let sticky = raw.rollout.get().and_then(|rollout| rollout.sticky.spot());
        let tables = [
            ("upstream", raw.upstream.spot().map(|spot| &spot.span)),
            ("retry", raw.retry.spot().map(|spot| &spot.span)),
            ("balance", raw.balance.spot().map(|spot| &spot.span)),
            ("outlier", raw.outlier.spot().map(|spot| &spot.span)),
            ("paths", raw.paths.spot().map(|spot| &spot.span)),
            ("maintenance", raw.maintenance.spot().map(|spot| &spot.span)),
            ("rollout.sticky", sticky.map(|spot| &spot.span)),
        ];
        for (name, span) in tables {
            if let Some(span) = span {
                let message = format!("`{}` has no meaning for a worker: it gets no requests", last(name));
                let problem = Problem::error(&format!("{key}.{name}"), span.clone(), message);
                self.push(problem.help("take it out, or `mode = \"worker\"`"));
            }
        }
    }

    /// A share that is counted in whole hundredths; `default` is in basis points.
    fn whole_percent(&mut self, key: &str, given: &Given<Percent>, default: u32) -> u32 {
        let Some(spot) = given.spot() else { return default / 100 };
        let Percent(basis_points) = spot.value;
        if !basis_points.is_multiple_of(100) {
            let message = format!("`{}` is counted in whole percent", last(key));
            let problem = Problem::error(key, spot.span.clone(), message);
            self.push(problem.help(format!("write \"{}%\"", basis_points.div_ceil(100))));
        }
        basis_points / 100
    }

    /// The name of a header field or a cookie.
    fn token(&mut self, key: &str, spot: &Spot<String>) -> Option<String> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let text = &spot.value;
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !text.bytes().all(is_token) {
            let message = format!("`{}` cannot be \"{text}\"", last(key));
            let problem = Problem::error(key, spot.span.clone(), message).label("no such name can be sent");
            self.push(problem.help(format!(
                "write 1 to {TOKEN_BYTES_MAX} letters, digits, `-` and `_`, such as \"X-User\" or \"session\""
            )));
            return None;
        }
        Some(text.clone())
    }
}

/// Headers and cookies count in seconds.
fn whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs() + u64::from(span.subsec_nanos() > 0))
}

/// The paths that a template is for, whatever its parameters are called.
fn shape(template: &str) -> String {
    let path = template.strip_suffix('/').unwrap_or(template);
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn read_page(path: &std::path::Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let size = metadata.len();
    if size > PAGE_BYTES_MAX {
        return Err(format!("{} has {size} bytes; a page has at most {PAGE_BYTES_MAX}", path.display()));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}
