//! `Upgrade`: which protocols a client may offer an instance, and whether the instance took one of those.
//!
//! Other versions of HTTP, and TLS, are never offered: inside such a tunnel requests would pass that nobody has read.
//! What is said in the tunnel is not its business.

use crate::h1::fields;

/// Longest value of `Upgrade` that is looked at.
const VALUE_BYTES_MAX: usize = 128;
/// Most protocols in it.
const PROTOCOLS_MAX: usize = 4;

/// The protocols of `value` that may be offered to an instance, as the value of its `Upgrade`; `None` when there is
/// none, or `value` is not a list of protocols.
pub(crate) fn offered(value: &[u8]) -> Option<Box<[u8]>> {
    if value.len() > VALUE_BYTES_MAX
        || fields::list(value).count() > PROTOCOLS_MAX
        || !fields::list(value).all(is_protocol)
    {
        return None;
    }
    let offered: Vec<&[u8]> = fields::list(value).filter(|protocol| !is_never_offered(protocol)).collect();
    if offered.is_empty() { None } else { Some(offered.join(&b", "[..]).into_boxed_slice()) }
}

/// Whether `answered`, the value of an instance's `Upgrade`, is one protocol of those that were `offered`.
pub(crate) fn is_taken(offered: &[u8], answered: &[u8]) -> bool {
    fields::list(offered).any(|protocol| protocol.eq_ignore_ascii_case(answered))
}

fn is_protocol(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |byte| *byte == b'/');
    parts.all(|part| !part.is_empty() && part.iter().all(|byte| model::chunked::is_token(*byte)))
}

fn is_never_offered(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    is("h2c") || is("h2") || is("h3") || is("http") || is("tls")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(value: &str) -> Option<String> {
        offered(value.as_bytes()).map(|offered| String::from_utf8(offered.into_vec()).unwrap())
    }

    #[test]
    fn protocols_are_offered_but_for_other_versions_of_http() {
        assert_eq!(offer("websocket").unwrap(), "websocket");
        assert_eq!(offer(" WebSocket ,, irc/6.9").unwrap(), "WebSocket, irc/6.9");
        assert_eq!(offer("h2c, websocket,HTTP/2.0 , TLS/1.0").unwrap(), "websocket");
        for bad in
            ["", ",", "h2c", "H2C", "h2c/1", "HTTP/3", "a b", "a/b/c", "/a", "a/", "a;b", "ä", "a,b,c,d,e"]
        {
            assert_eq!(offer(bad), None, "{bad}");
        }
        assert_eq!(offer(&"x".repeat(129)), None);
    }

    #[test]
    fn only_one_of_those_offered_can_be_taken() {
        assert!(is_taken(b"websocket, irc", b"WebSocket") && is_taken(b"websocket, irc", b"irc"));
        for other in ["", "web", "websocket, irc", "websocket,irc", "websocket/13", "h2c"] {
            assert!(!is_taken(b"websocket, irc", other.as_bytes()), "{other}");
        }
    }
}
