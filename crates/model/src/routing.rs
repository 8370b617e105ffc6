//! Which route a request takes: exact host before wildcard before any, then the longest path prefix.
//!
//! A router is built once per route table and only read afterwards. A host whose routes do not cover the
//! path falls through to the next less specific host, so a route for any host still catches it.
//! It does not decode or normalise paths: what the client sent is what is compared and forwarded.

use crate::manifest::HostPattern;

/// Longest host name that is looked up, in bytes (RFC 1035 ends at 253).
pub const HOST_BYTES_MAX: usize = 255;

/// Routes of one listener, ready for lookups; `T` is where a route leads.
#[derive(Debug, Clone)]
pub struct Router<T> {
    exact: Vec<(String, Paths<T>)>,
    suffixes: Vec<(String, Paths<T>)>,
    any: Paths<T>,
}

#[derive(Debug, Clone)]
struct Paths<T>(Vec<(String, T)>);

impl<T> Paths<T> {
    /// Keeps the longest prefix first; of two equal ones the first added stays.
    fn add(&mut self, prefix: String, target: T) {
        if self.0.iter().any(|(known, _)| *known == prefix) {
            return;
        }
        let at = self.0.partition_point(|(known, _)| known.len() >= prefix.len());
        self.0.insert(at, (prefix, target));
    }

    fn find(&self, path: &[u8]) -> Option<&T> {
        self.0.iter().find(|(prefix, _)| covers(prefix.as_bytes(), path)).map(|(_, target)| target)
    }
}

/// Whether `prefix` covers `path` on segment boundaries: `/api` covers `/api` and `/api/x`, not `/apix`.
fn covers(prefix: &[u8], path: &[u8]) -> bool {
    path.starts_with(prefix)
        && (prefix.ends_with(b"/") || path.len() == prefix.len() || path[prefix.len()] == b'/')
}

/// The pattern a route table's text stands for: nothing is any, `*.x` a suffix, all else exact.
pub fn host_pattern(text: Option<&str>) -> HostPattern {
    match text {
        None => HostPattern::Any,
        Some(text) => match text.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.to_ascii_lowercase()),
            None => HostPattern::Exact(text.to_ascii_lowercase()),
        },
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { exact: Vec::new(), suffixes: Vec::new(), any: Paths(Vec::new()) }
    }
}

impl<T> Router<T> {
    /// A router over `routes`: host, path prefix, target. Of two routes for the same, the first counts.
    pub fn new(routes: impl IntoIterator<Item = (HostPattern, String, T)>) -> Self {
        let mut router = Self::default();
        for (host, path, target) in routes {
            match host {
                HostPattern::Any => router.any.add(path, target),
                HostPattern::Exact(host) => paths_of(&mut router.exact, host).add(path, target),
                HostPattern::Suffix(suffix) => paths_of(&mut router.suffixes, suffix).add(path, target),
            }
        }
        router.exact.sort_by(|a, b| a.0.cmp(&b.0));
        router.suffixes.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        router
    }

    /// The target for `host` (lower case, no port, no trailing dot) and `path` (no query).
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<&T> {
        if let Ok(at) = self.exact.binary_search_by(|(name, _)| name.as_bytes().cmp(host))
            && let Some(target) = self.exact[at].1.find(path)
        {
            return Some(target);
        }
        self.suffixes
            .iter()
            .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_bytes()))
            .find_map(|(_, paths)| paths.find(path))
            .or_else(|| self.any.find(path))
    }
}

fn paths_of<T>(hosts: &mut Vec<(String, Paths<T>)>, host: String) -> &mut Paths<T> {
    let at = hosts.iter().position(|(known, _)| *known == host).unwrap_or_else(|| {
        hosts.push((host, Paths(Vec::new())));
        hosts.len() - 1
    });
    &mut hosts[at].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router<&'static str> {
        Router::new(
            [
                (None, "/", "any"),
                (None, "/api", "any-api"),
                (Some("shop.example.com"), "/cart", "cart"),
                (Some("shop.example.com"), "/cart/pay", "pay"),
                (Some("*.example.com"), "/", "wild"),
                (Some("*.eu.example.com"), "/", "wild-eu"),
                (Some("*.example.com"), "/", "second of the same"),
            ]
            .map(|(host, path, target)| (host_pattern(host), path.to_owned(), target)),
        )
    }

    fn find(host: &str, path: &str) -> &'static str {
        router().find(host.as_bytes(), path.as_bytes()).copied().unwrap_or("none")
    }

    #[test]
    fn the_most_specific_host_wins_and_then_the_longest_path() {
        assert_eq!(find("shop.example.com", "/cart"), "cart");
        assert_eq!(find("shop.example.com", "/cart/pay/now"), "pay");
        assert_eq!(find("x.example.com", "/cart"), "wild");
        assert_eq!(find("x.eu.example.com", "/cart"), "wild-eu");
        assert_eq!(find("other.org", "/api/v1"), "any-api");
        assert_eq!(find("", "/"), "any");
    }

    #[test]
    fn a_host_without_the_path_falls_through_to_a_less_specific_one() {
        assert_eq!(find("shop.example.com", "/"), "wild");
        assert_eq!(find("example.com", "/"), "any");
    }

    #[test]
    fn prefixes_end_at_segment_boundaries() {
        assert_eq!(find("other.org", "/apix"), "any");
        assert_eq!(find("other.org", "/api"), "any-api");
        let strict = Router::new([(HostPattern::Any, "/a/".to_owned(), ())]);
        assert!(strict.find(b"", b"/a/b").is_some());
        assert!(strict.find(b"", b"/a").is_none());
    }

    #[test]
    fn a_wildcard_needs_a_label_in_front() {
        assert_eq!(find(".example.com", "/"), "any");
        assert_eq!(find("notexample.com", "/"), "any");
    }
}
