//! What a request says about who sent it, read from its head only where its service asks.
//!
//! A service that neither hashes nor keeps visitors costs one look at a flag. Values are taken as they came: nothing
//! but where a request goes depends on them.

use model::balance::{Mark, hash_bytes};
use wire::routes::{Algorithm, HashKey, Sticky};

/// Who sent a request, as far as its service asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// What its endpoint is chosen by.
    pub(crate) key: Option<u64>,
    /// The release it was given before.
    pub(crate) mark: Option<Mark>,
    /// What decides its release.
    pub(crate) value: Option<u64>,
    /// It came over TLS.
    pub(crate) is_secure: bool,
}

/// What a service asks.
#[derive(Debug)]
pub(crate) struct Asks {
    hash: Option<HashKey>,
    sticky: Option<Sticky>,
    /// Whether it asks anything.
    anything: bool,
}

impl Asks {
    /// What those settings need.
    pub(crate) fn new(algorithm: &Algorithm, sticky: Option<&Sticky>) -> Self {
        let hash = match algorithm {
            Algorithm::Hash(key) => Some(key.clone()),
            Algorithm::LeastRequests | Algorithm::RoundRobin => None,
        };
        Self { anything: hash.is_some() || sticky.is_some(), hash, sticky: sticky.cloned() }
    }

    /// Who sent the request with the whole head `head`; `client` is the sender's address.
    pub(crate) fn read(&self, head: &[u8], client: &str, is_secure: bool) -> Visitor {
        if !self.anything {
            return Visitor::default();
        }
        let hashed = |value: &[u8]| (!value.is_empty()).then(|| hash_bytes(value));
        let mut visitor = Visitor { is_secure, ..Visitor::default() };
        visitor.key = match &self.hash {
            None => None,
            Some(HashKey::Source) => hashed(client.as_bytes()),
            Some(HashKey::Header(name)) => fields(head, name).next().and_then(hashed),
            Some(HashKey::Cookie(name)) => cookies(head, name).next().and_then(hashed),
        };
        match &self.sticky {
            None => {}
            // Other programs may set cookies of that name for other paths: the first that is a mark counts.
            Some(Sticky::Cookie { name, .. }) => visitor.mark = cookies(head, name).find_map(Mark::read),
            Some(Sticky::Header { name }) => visitor.value = fields(head, name).next().and_then(hashed),
        }
        visitor
    }
}

/// The values of the fields called `name` in a head that was found to be in order.
fn fields<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).filter_map(move |line| {
        let (before, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        before.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The values of the cookies called `name`.
fn cookies<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields(head, "cookie").flat_map(|value| value.split(|byte| *byte == b';')).filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET /x-user:no HTTP/1.1\r\nHost: a\r\nX-USER:  anna \r\nX-User: second\r\n\
        Cookie: a=1; session=blue\r\nEmpty:\r\ncookie: release=garbage; release=00000000000000ff\r\n\r\n";

    fn hashed_by(key: HashKey) -> Option<u64> {
        Asks::new(&Algorithm::Hash(key), None).read(HEAD, "10.0.0.1", false).key
    }

    #[test]
    fn keys_are_found_in_fields_cookies_and_addresses() {
        assert_eq!(hashed_by(HashKey::Header("x-user".into())), Some(hash_bytes(b"anna")));
        assert_eq!(hashed_by(HashKey::Cookie("session".into())), Some(hash_bytes(b"blue")));
        assert_eq!(hashed_by(HashKey::Source), Some(hash_bytes(b"10.0.0.1")));
        for absent in ["x-use", "x-users", "empty", "GET /x-user"] {
            assert_eq!(hashed_by(HashKey::Header(absent.into())), None, "{absent}");
        }
        for absent in ["sess", "ession", "b", "Session"] {
            assert_eq!(hashed_by(HashKey::Cookie(absent.into())), None, "{absent}");
        }
    }

    #[test]
    fn the_first_cookie_that_is_a_mark_counts() {
        let ask = |sticky: Sticky| Asks::new(&Algorithm::LeastRequests, Some(&sticky)).read(HEAD, "", true);
        let visitor = ask(Sticky::Cookie { name: "release".into(), max_age_s: 1 });
        assert_eq!((visitor.mark, visitor.is_secure), (Mark::read(b"00000000000000ff"), true));
        assert!(visitor.mark.is_some());
        assert_eq!(ask(Sticky::Cookie { name: "session".into(), max_age_s: 1 }).mark, None);
        assert_eq!(ask(Sticky::Header { name: "X-User".into() }).value, Some(hash_bytes(b"anna")));
    }

    #[test]
    fn who_asks_nothing_reads_nothing() {
        let nothing = Asks::new(&Algorithm::RoundRobin, None);
        assert_eq!(nothing.read(HEAD, "10.0.0.1", true), Visitor::default());
    }
}
