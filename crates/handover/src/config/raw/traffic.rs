//! Tables and values of the manifest that are about requests: access log, certificates, splits, endpoints, retries,
//! balance, ejection, maintenance, stickiness.

use schemars::json_schema;
use toml::Spanned;
use toml::de::DeValue;

use super::super::defaults as default;
use super::super::read::{Given, Problems, Read, Spot, choice, not_a, table};
use super::super::units::{show_duration, show_percent};
use super::super::values::{PathText, Percent, Span};

/// `access_log`: whether there is one, or how it looks.
#[derive(Debug)]
pub(in crate::config) struct AccessLog {
    /// It is written.
    pub(in crate::config) on: bool,
    /// How; empty where only that was said.
    pub(in crate::config) table: AccessLogTable,
}

impl Read for AccessLog {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if let Some(on) = value.get_ref().as_bool() {
            return Some(Self { on, table: AccessLogTable::default() });
        }
        if !value.get_ref().is_table() {
            let problem = not_a(value, key, "true, false or a table");
            problems.push(problem.help("write access_log = true, or access_log = { format = \"combined\" }"));
            return None;
        }
        Some(Self { on: true, table: AccessLogTable::read(value, key, problems)? })
    }
}

impl schemars::JsonSchema for AccessLog {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AccessLog".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let table = generator.subschema_for::<AccessLogTable>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, table] })
    }
}

table! {
    /// How logs/access.log of the state directory looks.
    struct AccessLogTable {
        /// `json`: one object a line; `combined`: as Apache and nginx write it.
        format: AccessLogFormat = "json",
        /// Share of the requests that have a line; answers of 500 and above always have one.
        sample: Percent = show_percent(default::ACCESS_LOG_SAMPLE),
        /// Query strings are in the lines; they often hold secrets.
        query: bool = default::ACCESS_LOG_QUERY,
    }
    later {
    }
}

choice! {
    /// How a line of the access log looks.
    enum AccessLogFormat { Json = "json", Combined = "combined", }
    later {}
}

/// `tls`: one certificate, or several by the name that the client asks for.
#[derive(Debug)]
pub(in crate::config) struct Certificates(pub(in crate::config) Vec<Spot<Certificate>>);

impl Read for Certificates {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if value.get_ref().is_table() {
            let value_read = Certificate::read(value, key, problems)?;
            return Some(Self(vec![Spot { value: value_read, span: value.span() }]));
        }
        if !value.get_ref().is_array() {
            let problem = not_a(value, key, "a table or a list of tables");
            problems.push(problem.help("write tls = { certificate = \"cert.pem\", key = \"key.pem\" }"));
            return None;
        }
        Vec::read(value, key, problems).map(Self)
    }
}

impl schemars::JsonSchema for Certificates {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Certificates".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let table = generator.subschema_for::<Certificate>();
        json_schema!({ "anyOf": [table, { "type": "array", "items": table }] })
    }
}

table! {
    /// A certificate and its key, both PEM files; read again when they change.
    struct Certificate {
        /// The chain, the server's own certificate first.
        certificate: PathText,
        /// Its private key.
        key: PathText,
    }
    later {
    }
}

table! {
    /// One service of a route that several share.
    struct Split {
        /// Its name.
        service: String,
        /// Its share beside the others, 1 to 10000.
        weight: u64 = default::WEIGHT,
    }
    later {
    }
}

table! {
    /// What is answered instead of a service, with 503 and Retry-After: while it is on, and when nothing is ready.
    struct Maintenance {
        /// It is answered whatever the instances do.
        on: bool = default::MAINTENANCE_ON,
        /// A file with the page, as HTML. Default: one sentence.
        page: PathText,
        /// For Retry-After, in whole seconds.
        retry_after: Span = show_duration(default::MAINTENANCE_RETRY_AFTER),
    }
    later {
    }
}

table! {
    /// Connections to instances.
    struct Upstream {
        /// For a connection to be made.
        connect_timeout: Span = show_duration(default::CONNECT_TIMEOUT),
        /// From a request's last byte to its response's first, and between any two bytes of that.
        response_timeout: Span = show_duration(default::RESPONSE_TIMEOUT),
        /// A connection that was idle for longer is not used again.
        idle_reuse: Span = show_duration(default::IDLE_REUSE),
        /// For a whole request, from its head to the last byte of its answer; "0s": no such limit. Not for tunnels.
        request_timeout: Span = show_duration(default::REQUEST_TIMEOUT),
        /// A tunnel (WebSocket) in which nothing moved for this long is closed.
        tunnel_idle_timeout: Span = show_duration(default::TUNNEL_IDLE_TIMEOUT),
    }
    later {
    }
}

table! {
    /// When a request is tried again on another instance. Never once a byte of an answer came.
    struct Retry {
        /// Most attempts for one request, the first included, 1 to 10; 1: never again.
        attempts: u64 = default::RETRY_ATTEMPTS,
        /// Most retries, as a share of the requests.
        budget: Percent = show_percent(default::RETRY_BUDGET),
        /// Answers with these statuses, 400 to 599, are tried again too, for idempotent methods.
        statuses: Vec<Spot<u64>>,
        /// POST and PATCH may be sent twice.
        non_idempotent: bool = default::RETRY_NON_IDEMPOTENT,
    }
    later {
    }
}

table! {
    /// Which instance gets a request.
    struct Balance {
        /// `least-requests`: of two chosen at random, the one with fewer requests in flight. `round-robin`: in turn.
        /// `hash`: the same key to the same instance.
        algorithm: Algorithm = "least-requests",
        /// The key, with and only with `hash`.
        hash: Hash,
        /// An instance that begins to serve gets its whole share only after this long; "0s": at once.
        slow_start: Span = show_duration(default::SLOW_START),
        /// Most requests in flight on one instance, up to 1000000; 0: no limit.
        requests_max: u64 = default::REQUESTS_MAX,
        /// Most requests that wait for an instance below `requests_max`; more are answered 503.
        queue_max: u64 = default::QUEUE_MAX,
        /// Longest wait there; then 503.
        queue_timeout: Span = show_duration(default::QUEUE_TIMEOUT),
        /// With fewer of the instances in service than this, ejections count for nothing.
        panic: Percent = show_percent(default::PANIC),
    }
    later {
    }
}

choice! {
    /// Which instance gets a request.
    enum Algorithm { LeastRequests = "least-requests", RoundRobin = "round-robin", Hash = "hash", }
    later {}
}

table! {
    /// What is hashed: one of `header`, `cookie`, `source`. Requests without it go to any instance.
    struct Hash {
        /// The value of that header field.
        header: String,
        /// The value of that cookie.
        cookie: String,
        /// The client's address.
        source: bool,
    }
    later {
    }
}

table! {
    /// When an instance gets no requests for a while, for what it answered.
    struct Outlier {
        /// Whether any is.
        enabled: bool = default::OUTLIER_ENABLED,
        /// Failures in a row (5xx, reset, timeout, refused connection); 0: these do not count.
        consecutive_errors: u64 = default::outlier().consecutive_errors,
        /// Between two looks at success rates.
        interval: Span = show_duration(default::outlier().interval),
        /// First ejection; each further one lasts that much longer.
        base_ejection: Span = show_duration(default::outlier().base_ejection),
        /// The longest.
        max_ejection: Span = show_duration(default::outlier().max_ejection),
        /// Most instances of a release that are out at once, but always one of several.
        max_ejected: Percent = show_percent(default::outlier().max_ejected_percent * 100),
        /// Ejected when its success rate is that many standard deviations below the mean; "0": never.
        success_rate_stdev: String = "1.9",
        /// Requests in an interval without which a success rate says nothing.
        success_rate_requests: u64 = default::outlier().success_rate_requests,
        /// Instances with that many requests without which there is no mean.
        success_rate_endpoints: u64 = default::outlier().success_rate_endpoints,
    }
    later {
    }
}

table! {
    /// What keeps a visitor on the release it got first, while that has any weight: one of `cookie`, `header`.
    struct Sticky {
        /// Name of a cookie that Handover sets.
        cookie: String,
        /// How long that is kept. Only with `cookie`.
        max_age: Span = show_duration(default::STICKY_MAX_AGE),
        /// Name of a header field that the client sends.
        header: String,
    }
    later {
    }
}
/// An entry of `endpoints`: an address, or a table that says more.
#[derive(Debug)]
pub(in crate::config) struct Endpoint {
    /// Where, unless that is missing.
    pub(in crate::config) address: Given<String>,
    /// Its share.
    pub(in crate::config) weight: Given<u64>,
}

impl Read for Endpoint {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if value.get_ref().is_table() {
            let EndpointTable { address, weight } = EndpointTable::read(value, key, problems)?;
            return Some(Self { address, weight });
        }
        if !value.get_ref().is_str() {
            let problem = not_a(value, key, "a list of addresses and tables");
            let example = "write [\"10.0.0.5:9000\"], or [{ address = \"10.0.0.5:9000\", weight = 5 }]";
            problems.push(problem.help(example));
            return None;
        }
        Some(Self { address: String::read_given(value, key, problems), weight: Given::Absent })
    }
}

impl schemars::JsonSchema for Endpoint {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let table = generator.subschema_for::<EndpointTable>();
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

table! {
    /// Where a service is that is not started here.
    struct EndpointTable {
        /// `10.0.0.5:9000`, `backend.internal:8080`, `unix:/run/app.sock`.
        address: String,
        /// Its share beside the others, 1 to 10000.
        weight: u64 = default::WEIGHT,
    }
    later {
    }
}
