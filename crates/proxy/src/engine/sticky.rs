//! What keeps a visitor on the release it got first, while that has any weight.
//!
//! ```text
//!  no mark, or of a release without weight ──a release by turns──► answered with the mark of that release
//!  the mark of a release with weight ──that release──► answered as it is
//!  the same, but nobody serves it now ──another release──► answered as it is: the visitor is still that one's
//! ```
//! There is none while one release has all the weight: nobody is marked and no mark is looked for. Whoever was marked
//! before finds the mark good again once there are two. Marked visitors take no turns from the others.

use model::balance::{Mark, place_of};
use model::chunked::is_token;
use wire::routes::{ServiceTraffic, Sticky};

use crate::engine::release::Release;
use crate::engine::visitor::Visitor;

/// How visitors of a service are kept.
#[derive(Debug)]
pub(crate) struct Stickiness {
    /// Every release that has weight, by name, so that each keeps its place on the line.
    shares: Vec<Share>,
    /// `Set-Cookie` for each release that gets requests, without and with TLS; none where a header decides.
    cookies: Vec<[String; 2]>,
}

#[derive(Debug)]
struct Share {
    mark: Mark,
    weight: u16,
    /// Where it is among those that get requests, if it does.
    release: Option<usize>,
}

impl Stickiness {
    /// As the table says; `None` where there is nothing to choose between.
    pub(crate) fn new(name: &str, service: &ServiceTraffic, releases: &[Release]) -> Option<Self> {
        let sticky = service.sticky.as_ref()?;
        let mut weighty: Vec<_> = service.releases.iter().filter(|release| release.weight > 0).collect();
        if weighty.len() < 2 {
            return None;
        }
        weighty.sort_by(|a, b| a.release.cmp(&b.release));
        let share = |release: &&wire::routes::ReleaseTraffic| Share {
            mark: Mark::of(name, &release.release),
            weight: release.weight,
            release: releases.iter().position(|one| one.name == release.release),
        };
        let cookies = match sticky {
            Sticky::Cookie { name: cookie, .. } if cookie.is_empty() || !cookie.bytes().all(is_token) => {
                tracing::error!(service = name, "the name of its cookie is none: its visitors are not kept");
                return None;
            }
            Sticky::Cookie { name: cookie, max_age_s } => releases
                .iter()
                .map(|release| cookie_lines(cookie, Mark::of(name, &release.name), *max_age_s))
                .collect(),
            Sticky::Header { .. } => Vec::new(),
        };
        Some(Self { shares: weighty.iter().map(share).collect(), cookies })
    }

    /// The release that visitor belongs to; `None` when it belongs to none, or nobody serves it now.
    pub(crate) fn release_of(&self, visitor: &Visitor) -> Option<usize> {
        let share = match (visitor.mark, visitor.value) {
            (Some(mark), _) => self.shares.iter().find(|share| share.mark == mark)?,
            (None, Some(value)) => {
                self.shares.get(place_of(value, self.shares.iter().map(|share| share.weight))?)?
            }
            (None, None) => return None,
        };
        share.release
    }

    /// The whole field that marks that visitor for that release; `None` when it has a mark that is good.
    pub(crate) fn cookie(&self, visitor: &Visitor, release: usize) -> Option<&str> {
        let is_marked = visitor.mark.is_some_and(|mark| self.shares.iter().any(|share| share.mark == mark));
        let [plain, secure] = self.cookies.get(release).filter(|_| !is_marked)?;
        Some(if visitor.is_secure { secure } else { plain })
    }
}

fn cookie_lines(name: &str, mark: Mark, max_age_s: u64) -> [String; 2] {
    ["", "; Secure"].map(|secure| {
        format!("Set-Cookie: {name}={mark}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}\r\n")
    })
}
