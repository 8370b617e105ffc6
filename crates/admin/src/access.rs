//! Who may do what over TCP: Host, Origin and token, decided on a request's head alone.
//!
//! Host is checked because a web page can point a name of its own at 127.0.0.1 and then read answers as if
//! they were its own; Origin, because a page can send requests without reading the answers.

use std::fmt;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method};

/// What requests over TCP are measured by.
#[derive(Clone)]
pub struct TcpAccess {
    /// The bearer token; an empty one never matches.
    pub token: String,
    /// Names and addresses that `Host` may have beside the loopback ones, without port.
    pub names: Vec<String>,
}

impl fmt::Debug for TcpAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpAccess").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Came over the local socket: everything.
    Local,
    /// Came over TCP with the token: everything but what names a path on this machine.
    Token,
    /// Came over TCP without: health, metrics, a status without private parts.
    Public,
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// `Host` is missing or names something else.
    Host,
    /// It comes from a page of another site.
    Origin,
    /// A token is needed, or the one that came is wrong.
    Token,
}

impl TcpAccess {
    pub(crate) fn rights(&self, head: &Parts) -> Result<Rights, Denied> {
        let authority = authority(head).ok_or(Denied::Host)?;
        if !self.knows_host(authority.host()) {
            return Err(Denied::Host);
        }
        if head.headers.contains_key(ORIGIN) && !is_same_origin(&head.headers, &authority) {
            return Err(Denied::Origin);
        }
        if head.headers.contains_key(AUTHORIZATION) {
            return if self.has_token(&head.headers) { Ok(Rights::Token) } else { Err(Denied::Token) };
        }
        if is_public(&head.method, head.uri.path()) { Ok(Rights::Public) } else { Err(Denied::Token) }
    }

    fn knows_host(&self, host: &str) -> bool {
        is_loopback(host) || self.names.iter().any(|name| same_host(name, host))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ")
            && !self.token.is_empty()
            && equal(token, self.token.as_bytes())
    }
}

/// The one authority a request names: from its target where that is absolute, else from its one Host.
fn authority(head: &Parts) -> Option<Authority> {
    if let Some(authority) = head.uri.authority() {
        return Some(authority.clone());
    }
    let mut values = head.headers.get_all(HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else { return None };
    let authority: Authority = host.to_str().ok()?.parse().ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match unbracketed(host).parse() {
        Ok(IpAddr::V4(address)) => Ipv4Addr::is_loopback(&address),
        Ok(IpAddr::V6(address)) => Ipv6Addr::is_loopback(&address),
        Err(_) => false,
    }
}

fn same_host(a: &str, b: &str) -> bool {
    unbracketed(a).eq_ignore_ascii_case(unbracketed(b))
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_same_origin(headers: &HeaderMap, authority: &Authority) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| {
        let Ok(origin) = origin.to_str() else { return false };
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(authority.as_str()))
    })
}

fn is_public(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && matches!(path, "/healthz" | "/metrics" | "/v1/status")
}

/// Compares in a time that depends on the lengths only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn access() -> TcpAccess {
        TcpAccess { token: "secret".into(), names: vec!["ops.example.com".into(), "10.0.0.5".into()] }
    }

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_loopback_literals_localhost_and_configured_names_are_hosts() {
        for host in [
            "127.0.0.1",
            "127.9.9.9:7979",
            "[::1]:7979",
            "localhost:1",
            "LOCALHOST",
            "ops.example.com:80",
            "10.0.0.5",
        ] {
            assert_eq!(access().rights(&head("/healthz", &[("host", host)])), Ok(Rights::Public), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.6",
            "a@localhost",
            "",
            "[::2]",
        ] {
            assert_eq!(access().rights(&head("/healthz", &[("host", host)])), Err(Denied::Host), "{host}");
        }
        assert_eq!(access().rights(&head("/healthz", &[])), Err(Denied::Host));
        assert_eq!(
            access().rights(&head("/healthz", &[("host", "localhost"), ("host", "evil.example")])),
            Err(Denied::Host)
        );
        assert_eq!(
            access().rights(&head("http://evil.example/healthz", &[("host", "localhost")])),
            Err(Denied::Host)
        );
    }

    #[test]
    fn an_origin_is_foreign_unless_it_is_the_host_itself() {
        let rights =
            |origin| access().rights(&head("/healthz", &[("host", "localhost:7979"), ("origin", origin)]));
        assert_eq!(rights("http://localhost:7979"), Ok(Rights::Public));
        for origin in
            ["http://localhost", "http://localhost:79790", "https://evil.example", "null", "localhost:7979"]
        {
            assert_eq!(rights(origin), Err(Denied::Origin), "{origin}");
        }
    }

    #[test]
    fn a_token_must_be_the_whole_token() {
        let rights = |value| {
            access()
                .rights(&head("/v1/services/x/deploy", &[("host", "localhost"), ("authorization", value)]))
        };
        assert_eq!(rights("Bearer secret"), Ok(Rights::Token));
        assert_eq!(rights("bearer secret"), Ok(Rights::Token));
        for value in
            ["Bearer secre", "Bearer secrets", "Bearer ", "Bearer", "Basic secret", "secret", "Bearer xecret"]
        {
            assert_eq!(rights(value), Err(Denied::Token), "{value}");
        }
        let empty = TcpAccess { token: String::new(), names: vec![] };
        assert_eq!(
            empty.rights(&head("/v1/status", &[("host", "localhost"), ("authorization", "Bearer ")])),
            Err(Denied::Token)
        );
    }
}
