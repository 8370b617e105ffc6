//! What this hop tells the instance about the client: who it is, and how and under which name it came.
//!
//! From a client nothing of that is believed, and the lines are ready when its connection begins. Only a peer in
//! `trusted_proxies` is believed: what it says is kept and added to, and the client is the first address, from the
//! right, that is not of such a proxy. `Forwarded` is written only for who sent one.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use httparse::Header;
use model::networks::Networks;

use crate::h1::fields;

/// What is known of a connection's client.
#[derive(Debug)]
pub(crate) struct Via {
    /// The lines of an untrusted client, up to the value of `X-Forwarded-Host`.
    lines: Vec<u8>,
    /// Stands in for the host a 1.0 client did not name.
    fallback_host: String,
    client: String,
    scheme: &'static str,
    trusted: Option<Trusted>,
}

/// The peer is a proxy that is believed.
#[derive(Debug)]
struct Trusted {
    peer: IpAddr,
    networks: Rc<Networks>,
}

impl Via {
    /// For a client at `client` that came by `scheme` to a listener with the address `fallback_host`.
    pub(crate) fn new(client: &str, scheme: &'static str, fallback_host: &str) -> Self {
        let lines = format!(
            "X-Forwarded-For: {client}\r\nX-Real-IP: {client}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: "
        );
        Self {
            lines: lines.into_bytes(),
            fallback_host: fallback_host.to_owned(),
            client: client.to_owned(),
            scheme,
            trusted: None,
        }
    }

    /// Believes the client if its address `peer` is in `networks`.
    pub(crate) fn trusting(mut self, networks: &Rc<Networks>, peer: IpAddr) -> Self {
        self.trusted = networks
            .contains(peer)
            .then(|| Trusted { peer: peer.to_canonical(), networks: networks.clone() });
        self
    }

    /// The host of requests that name none.
    pub(crate) fn fallback_host(&self) -> &[u8] {
        self.fallback_host.as_bytes()
    }

    /// Whether the client speaks TLS to us.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Appends the lines about the client of a request for `host` with the fields `headers`, the last one with its
    /// end. The client, where a proxy says that it is another than the peer.
    pub(crate) fn write(&self, headers: &[Header<'_>], host: &[u8], out: &mut Vec<u8>) -> Option<IpAddr> {
        if let Some(trusted) = &self.trusted {
            return self.write_added(trusted, headers, host, out);
        }
        out.extend_from_slice(&self.lines);
        out.extend_from_slice(host);
        out.extend_from_slice(b"\r\n");
        None
    }

    #[cold]
    fn write_added(
        &self,
        trusted: &Trusted,
        headers: &[Header<'_>],
        host: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<IpAddr> {
        // Not looked at here whether `Connection` names them: who can do that would choose what is believed.
        let values = |name: &'static str| {
            headers.iter().filter(move |one| one.name.eq_ignore_ascii_case(name)).map(|one| one.value)
        };
        out.extend_from_slice(b"X-Forwarded-For: ");
        write_list(values("X-Forwarded-For"), out);
        out.extend_from_slice(self.client.as_bytes());
        let client = client(trusted, values("X-Forwarded-For"));
        let real = client.map_or_else(|| self.client.clone(), |client| client.to_string());
        out.extend_from_slice(format!("\r\nX-Real-IP: {real}\r\nX-Forwarded-Proto: ").as_bytes());
        let is_scheme =
            |value: &&[u8]| [&b"http"[..], b"https"].iter().any(|it| value.eq_ignore_ascii_case(it));
        out.extend_from_slice(
            only(values("X-Forwarded-Proto")).filter(is_scheme).unwrap_or(self.scheme.as_bytes()),
        );
        out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
        let is_host = |value: &&[u8]| fields::authority(value).is_some();
        out.extend_from_slice(only(values("X-Forwarded-Host")).filter(is_host).unwrap_or(host));
        out.extend_from_slice(b"\r\n");
        if values("Forwarded").next().is_some() {
            out.extend_from_slice(b"Forwarded: ");
            write_list(values("Forwarded"), out);
            let node = match trusted.peer {
                IpAddr::V4(peer) => peer.to_string(),
                IpAddr::V6(peer) => format!("\"[{peer}]\""),
            };
            out.extend_from_slice(format!("for={node};proto={};host=\"", self.scheme).as_bytes());
            out.extend_from_slice(host);
            out.extend_from_slice(b"\"\r\n");
        }
        client
    }
}

/// The only value there is: of several nobody knows which one counts.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Appends the values as one list that goes on.
fn write_list<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for value in values.filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// The first address from the right that is not of a proxy that is believed; where there is none, the leftmost of
/// them. Nothing left of what is no address counts. `None`: it is the peer.
fn client<'a>(trusted: &Trusted, values: impl Iterator<Item = &'a [u8]>) -> Option<IpAddr> {
    let values: Vec<&[u8]> = values.collect();
    let mut client = None;
    for element in values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let Some(address) = address(element.trim_ascii()) else { break };
        client = Some(address);
        if !trusted.networks.contains(address) {
            break;
        }
    }
    client
}

/// An address as proxies write it: alone, in brackets, with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address: Option<IpAddr> = bare.parse().ok();
    address.or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip())).map(|it| it.to_canonical())
}

#[cfg(test)]
mod tests {
    use model::networks::Network;

    use super::*;

    fn networks() -> Rc<Networks> {
        let some = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse::<Network>().unwrap());
        Rc::new(some.into_iter().collect())
    }

    fn write(peer: &str, fields: &[(&str, &str)]) -> (Option<IpAddr>, String) {
        let via = Via::new(peer, "http", "fallback").trusting(&networks(), peer.parse().unwrap());
        let headers: Vec<Header<'_>> =
            fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        let mut out = Vec::new();
        let client = via.write(&headers, b"shop:8080", &mut out);
        (client, String::from_utf8(out).unwrap())
    }

    const CLAIMS: &[(&str, &str)] = &[
        ("x-forwarded-for", "1.2.3.4, 10.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example.com"),
        ("Forwarded", "for=1.2.3.4"),
        ("X-Real-IP", "6.6.6.6"),
    ];

    #[test]
    fn of_an_untrusted_client_nothing_is_believed() {
        let lines = "X-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-Proto: http\r\n\
                     X-Forwarded-Host: shop:8080\r\n";
        assert_eq!(write("9.9.9.9", CLAIMS), (None, lines.into()));
        assert_eq!(write("9.9.9.9", &[]), (None, lines.into()));
    }

    #[test]
    fn to_what_a_trusted_proxy_says_is_added() {
        let (client, lines) = write("10.0.0.2", CLAIMS);
        assert_eq!(client, Some("1.2.3.4".parse().unwrap()));
        assert_eq!(
            lines,
            "X-Forwarded-For: 1.2.3.4, 10.0.0.1, 10.0.0.2\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: shop.example.com\r\n\
             Forwarded: for=1.2.3.4, for=10.0.0.2;proto=http;host=\"shop:8080\"\r\n"
        );
        let (client, lines) = write("fd00::1", &[("Forwarded", "for=a")]);
        assert_eq!(client, None);
        assert_eq!(
            lines,
            "X-Forwarded-For: fd00::1\r\nX-Real-IP: fd00::1\r\nX-Forwarded-Proto: http\r\n\
             X-Forwarded-Host: shop:8080\r\nForwarded: for=a, for=\"[fd00::1]\";proto=http;host=\"shop:8080\"\r\n"
        );
    }

    #[test]
    fn claims_that_are_unclear_are_replaced() {
        let (_, lines) = write(
            "10.0.0.2",
            &[
                ("X-Forwarded-Proto", "gopher"),
                ("X-Forwarded-Host", "a"),
                ("X-Forwarded-Host", "b"),
                ("X_Forwarded_For", "1.1.1.1"),
            ],
        );
        assert!(lines.starts_with("X-Forwarded-For: 10.0.0.2\r\n"), "{lines}");
        assert!(lines.ends_with("X-Forwarded-Proto: http\r\nX-Forwarded-Host: shop:8080\r\n"), "{lines}");
    }

    #[test]
    fn the_client_is_the_first_address_from_the_right_that_is_not_trusted() {
        for (values, client) in [
            (&["1.1.1.1"][..], Some("1.1.1.1")),
            (&["6.6.6.6, 1.1.1.1"], Some("1.1.1.1")),
            (&["6.6.6.6", "1.1.1.1, 10.0.0.9"], Some("1.1.1.1")),
            (&["10.0.0.8,10.0.0.9"], Some("10.0.0.8")),
            (&["1.1.1.1:4711,10.0.0.9"], Some("1.1.1.1")),
            (&["[2001:db8::1]:80"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["::ffff:1.1.1.1"], Some("1.1.1.1")),
            (&["1.1.1.1, unknown, 10.0.0.9"], Some("10.0.0.9")),
            (&["1.1.1.1, unknown"], None),
            (&["1.1.1.1,"], None),
            (&[""], None),
        ] {
            let fields: Vec<(&str, &str)> = values.iter().map(|value| ("X-Forwarded-For", *value)).collect();
            assert_eq!(write("10.0.0.2", &fields).0, client.map(|it| it.parse().unwrap()), "{values:?}");
        }
    }
}
