//! How requests reach a service, whether its processes are ours or not: connections, retries, balance, ejection,
//! endpoint groups, maintenance; and services of which only the endpoints are known.
//!
//! All of it holds at once when a manifest is applied; nothing here needs another process.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What holds for the requests of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Connections to its endpoints.
    pub upstream: Upstream,
    /// When a request is tried again.
    pub retry: Retry,
    /// Which endpoint gets a request.
    pub balance: Balance,
    /// When an endpoint is ejected for what it answers; `None`: never.
    pub outlier: Option<Outlier>,
    /// Endpoint groups: `/api/order/{id}`.
    pub paths: Vec<String>,
    /// What is answered instead of the service.
    pub maintenance: Option<Maintenance>,
}

/// `[service.NAME.upstream]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// For a connection to an instance.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's first, and between any two bytes of it.
    pub response_timeout: Duration,
    /// A connection idle for longer is not used again.
    pub idle_reuse: Duration,
    /// For a whole request, from its head to the last byte of its answer; zero: no such limit.
    pub request_timeout: Duration,
    /// A tunnel in which nothing moved for this long is closed.
    pub tunnel_idle_timeout: Duration,
}

/// `[service.NAME.retry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Most attempts for one request, the first included; at least 1.
    pub attempts: u32,
    /// Retries in a hundred requests.
    pub budget_percent: u32,
    /// Answers that are tried again, for idempotent methods.
    pub statuses: Vec<u16>,
    /// POST and PATCH may be sent twice.
    pub non_idempotent: bool,
}

/// `[service.NAME.balance]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// How an endpoint is chosen.
    pub algorithm: Algorithm,
    /// From its first request to its whole share; zero: at once.
    pub slow_start: Duration,
    /// Most requests in flight on one instance; 0: no limit.
    pub requests_max: u32,
    /// Most requests that wait for an instance below that.
    pub queue_max: u32,
    /// Longest wait there.
    pub queue_timeout: Duration,
    /// With fewer endpoints in service than this, in percent, ejections count for nothing.
    pub panic_percent: u32,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Algorithm {
    /// Of two random ones that with fewer requests in flight.
    LeastRequests,
    /// Exact turns.
    RoundRobin,
    /// The same key goes to the same endpoint.
    Hash(HashKey),
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The value of that header field.
    Header(String),
    /// The value of that cookie.
    Cookie(String),
    /// The client's address.
    Source,
}

/// `[service.NAME.outlier]`, with `enabled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    /// Failures in a row; 0: these do not count.
    pub consecutive_errors: u32,
    /// Between two looks at success rates.
    pub interval: Duration,
    /// First ejection; each further one lasts that much longer.
    pub base_ejection: Duration,
    /// The longest.
    pub max_ejection: Duration,
    /// Most endpoints of a release that are out at once, but always one of several.
    pub max_ejected_percent: u32,
    /// Thousandths of a standard deviation below the mean; 0: never for its success rate.
    pub success_rate_stdev_milli: u32,
    /// Requests in an interval without which a success rate says nothing.
    pub success_rate_requests: u32,
    /// Endpoints with that many requests without which there is no mean.
    pub success_rate_endpoints: u32,
}

impl Default for Outlier {
    /// Envoy's.
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejected_percent: 10,
            success_rate_stdev_milli: 1_900,
            success_rate_requests: 100,
            success_rate_endpoints: 5,
        }
    }
}

/// `service.NAME.maintenance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// It is answered whatever the instances do.
    pub on: bool,
    /// The page itself; `None`: one sentence.
    pub page: Option<String>,
    /// For Retry-After.
    pub retry_after: Duration,
}

/// `rollout.sticky`: what keeps a visitor on a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// A cookie that we set.
    Cookie {
        /// Its name.
        name: String,
        /// How long it is kept.
        max_age: Duration,
    },
    /// A header field that the client sends.
    Header {
        /// Its name.
        name: String,
    },
}

/// One service's share of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteShare {
    /// Which.
    pub service: crate::id::ServiceName,
    /// Beside the others' weights; at least 1.
    pub weight: u32,
}

/// `proxy.access_log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// How a line looks.
    pub format: AccessLogFormat,
    /// Share of requests that have a line, in basis points.
    pub sample: u16,
    /// Query strings are in the lines.
    pub query: bool,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object.
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// An entry of `listener.NAME.tls`: PEM files, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub certificate: std::path::PathBuf,
    /// Its private key.
    pub key: std::path::PathBuf,
}

/// Addresses that begin alike: `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its bits beyond `bits` are zero.
    pub address: IpAddr,
    /// How many bits are alike: at most 32 or 128.
    pub bits: u8,
}

/// The text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor one with `/BITS`.
    #[error("it is neither an IP address nor a network such as 10.0.0.0/8")]
    Shape,
    /// More bits than the address has.
    #[error("an IPv4 address has 32 bits, an IPv6 address 128")]
    Bits,
    /// Bits of one member: most likely a mistake in one of the two numbers.
    #[error("it has bits set beyond the {0} that count: write {1}/{0}")]
    Member(u8, IpAddr),
}

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok().ok_or(NetworkError::Shape)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) && !bits.is_empty() => {
                bits.parse::<u8>().ok().filter(|bits| *bits <= most).ok_or(NetworkError::Bits)?
            }
            Some(_) => return Err(NetworkError::Shape),
        };
        let network = first_of(address, bits);
        if network != address {
            return Err(NetworkError::Member(bits, network));
        }
        Ok(Self { address, bits })
    }
}

/// The address with everything beyond `bits` zero.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// A service of which only the endpoints are known: nothing of it is started, stopped or deployed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fronted {
    /// Where it is; at least one, no two alike.
    pub endpoints: Vec<Place>,
    /// How its endpoints are probed; `None`: they count as ready.
    pub probe: Option<Probe>,
    /// What holds for its requests.
    pub traffic: Traffic,
}

/// One entry of `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub address: PlaceAddress,
    /// Its share beside the others; of a name, that of each of its addresses.
    pub weight: u32,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaceAddress {
    /// IP address and port.
    Tcp(SocketAddr),
    /// Absolute path of a Unix socket.
    Unix(String),
    /// A name that is looked up, again and again; in lower case.
    Name(String, u16),
}

impl std::fmt::Display for PlaceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// How endpoints that are not ours are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// GET of that path answers 200 to 399; `None`: a connection is accepted.
    pub http_path: Option<String>,
    /// Between two probes.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Successes in a row that make it ready.
    pub rise: u32,
    /// Failures in a row that make it unready.
    pub fall: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_reads_back_what_it_shows() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.168.1.7/32", "::/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("127.0.0.1".parse::<Network>().unwrap().to_string(), "127.0.0.1/32");
    }

    #[test]
    fn a_network_that_is_none_says_why() {
        for text in ["", "10", "10.0.0.0/", "10.0.0.0/+8", "a/8", "10.0.0.0/8/8"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Shape), "{text}");
        }
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Bits));
        let member = "10.1.0.0/8".parse::<Network>().unwrap_err();
        assert_eq!(member.to_string(), "it has bits set beyond the 8 that count: write 10.0.0.0/8");
    }
}
