//! What the proxies counted: series, listeners and releases, summed over proxies that live and that have ended.
//!
//! ```text
//!  counters: anew ──► [incoming] ──last part──► known of that proxy     (a half-told whole is never shown)
//!            changes ─────────────────────────► known of that proxy
//!  proxy gone ──► ended: kept as it was, for it may only have been out of reach ──► before: summed, names bounded
//! ```
//! A proxy counts from its start and says all of it to whoever listens anew, so what a proxy counted is lost with it
//! for the second since its last report only, and sums do not go down while this agent lives. A new agent hears all
//! that living proxies know; what ended ones had counted starts over with it, as counters of a new process do.
//!
//! It decides nothing and keeps nothing on disk.

use std::collections::BTreeMap;
use std::mem;

use model::series::{SeriesName, SeriesTotals};
use wire::traffic::{Counters, ListenerCounters, ReleaseCounters, SeriesCounters};

use crate::world::Event;

/// Ended proxies that may come back; more than ever drain at a time.
const ENDED_MAX: usize = 16;
/// Series that are listened to of one proxy: more than one makes.
const SERIES_MAX: usize = 16_384;
/// Names of ended proxies that are kept apart; with more, broader ones take them.
const NAMES_MAX: usize = 1_024;

type Series = BTreeMap<SeriesName, SeriesTotals>;

/// What one proxy said.
#[derive(Debug, Default)]
struct Proxy {
    series: Series,
    /// A whole that is not told to its end yet.
    incoming: Option<Series>,
    base: Base,
}

/// Counters without the series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    /// By listener.
    pub listeners: BTreeMap<String, ListenerCounters>,
    /// By service and release.
    pub releases: BTreeMap<(String, String), ReleaseCounters>,
    /// When certificates in use end, by listener and name, in milliseconds since 1970.
    pub certificates: BTreeMap<(String, String), u64>,
    /// Lines of the access log that were dropped.
    pub log_lines_dropped: u64,
}

/// What all proxies counted.
#[derive(Debug, Default)]
pub struct Measured {
    living: BTreeMap<u64, Proxy>,
    ended: BTreeMap<u64, Proxy>,
    before: Proxy,
}

impl Measured {
    /// Listens to what goes to the control plane.
    pub fn hear(&mut self, event: &Event) {
        if let Event::Counters { proxy, counters } = event {
            self.living.entry(*proxy).or_default().hear(counters);
        } else if let Event::ProxyGone { generation } = event {
            self.end(*generation);
        } else if let Event::ProxyUp { generation, .. } = event
            && let Some(back) = self.ended.remove(generation)
        {
            self.living.entry(*generation).or_insert(back);
        }
    }

    fn end(&mut self, generation: u64) {
        let Some(mut proxy) = self.living.remove(&generation) else { return };
        proxy.incoming = None;
        proxy.base.end();
        self.ended.insert(generation, proxy);
        if self.ended.len() > ENDED_MAX
            && let Some((_, oldest)) = self.ended.pop_first()
        {
            self.before.base.add(&oldest.base);
            self.before.base.fold();
            add(&mut self.before.series, &oldest.series);
            fold(&mut self.before.series);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Proxy> {
        [&self.before].into_iter().chain(self.ended.values()).chain(self.living.values())
    }

    /// The series of all proxies, in order of their names.
    pub fn series(&self) -> BTreeMap<SeriesName, SeriesTotals> {
        let mut sum = Series::new();
        self.all().for_each(|proxy| add(&mut sum, &proxy.series));
        sum
    }

    /// The rest of what they counted.
    pub fn base(&self) -> Base {
        let mut sum = Base::default();
        self.all().for_each(|proxy| sum.add(&proxy.base));
        sum
    }
}

impl Proxy {
    fn hear(&mut self, counters: &Counters) {
        let listeners = counters.listeners.iter().map(|one| (one.listener.clone(), one.clone()));
        let releases =
            counters.releases.iter().map(|one| ((one.service.clone(), one.release.clone()), one.clone()));
        let certificates = counters.certificates.iter();
        let certificates =
            certificates.map(|one| ((one.listener.clone(), one.name.clone()), one.not_after_ms));
        self.base = Base {
            certificates: certificates.collect(),
            listeners: listeners.collect(),
            releases: releases.collect(),
            log_lines_dropped: counters.log_lines_dropped,
        };
        if counters.series_anew {
            self.incoming = Some(Series::new());
        }
        let known = self.incoming.as_mut().unwrap_or(&mut self.series);
        counters.series.iter().for_each(|series| put(known, series));
        if !counters.series_more
            && let Some(whole) = self.incoming.take()
        {
            self.series = whole;
        }
    }
}

fn put(known: &mut Series, told: &SeriesCounters) {
    let name = SeriesName::from(told.of.clone());
    if known.len() < SERIES_MAX || known.contains_key(&name) {
        known.insert(name, told.totals());
    }
}

fn add(sum: &mut Series, more: &Series) {
    for (name, totals) in more {
        match sum.get_mut(name) {
            Some(known) => known.add(totals),
            None => drop(sum.insert(name.clone(), totals.clone())),
        }
    }
}

/// Lets broader names take all of the narrowest, until there are few enough.
fn fold(series: &mut Series) {
    while series.len() > NAMES_MAX && series.keys().any(|name| name.folded().is_some()) {
        for (name, totals) in mem::take(series) {
            let name = name.folded().unwrap_or(name);
            series.entry(name).or_default().add(&totals);
        }
    }
}

impl Base {
    /// Its process has ended: nothing is open or under way any more.
    fn end(&mut self) {
        self.certificates.clear();
        for listener in self.listeners.values_mut() {
            (listener.connections, listener.tunnels) = (0, 0);
        }
        for release in self.releases.values_mut() {
            (release.in_flight, release.wait_us_max, release.hold_us_max) = (0, 0, 0);
            (release.waiting, release.ejected_now) = (0, 0);
        }
    }

    /// Releases of proxies that ended long ago are not told apart.
    fn fold(&mut self) {
        for ((service, _), mut release) in mem::take(&mut self.releases) {
            release.release.clear();
            self.add_release((service, String::new()), &release);
        }
    }

    fn add(&mut self, more: &Self) {
        self.log_lines_dropped += more.log_lines_dropped;
        // The newest proxy is the last to be added: a draining one has the certificates it had.
        self.certificates.extend(more.certificates.iter().map(|(name, end)| (name.clone(), *end)));
        for (name, more) in &more.listeners {
            let one = self.listeners.entry(name.clone()).or_default();
            one.listener.clone_from(name);
            one.connections += more.connections;
            one.tunnels += more.tunnels;
            one.accepted += more.accepted;
            one.handshakes += more.handshakes;
            one.handshakes_resumed += more.handshakes_resumed;
            one.handshakes_failed += more.handshakes_failed;
            one.refused += more.refused;
        }
        for (name, more) in &more.releases {
            self.add_release(name.clone(), more);
        }
    }

    fn add_release(&mut self, name: (String, String), more: &ReleaseCounters) {
        let one = self.releases.entry(name).or_default();
        one.service.clone_from(&more.service);
        one.release.clone_from(&more.release);
        one.requests += more.requests;
        one.errors += more.errors;
        one.retried += more.retried;
        one.failed += more.failed;
        one.lost_on_reuse += more.lost_on_reuse;
        one.in_flight += more.in_flight;
        one.held += more.held;
        one.ejected += more.ejected;
        one.queued += more.queued;
        one.waiting += more.waiting;
        // Each proxy ejects for itself, mostly the same ones.
        one.ejected_now = one.ejected_now.max(more.ejected_now);
    }
}

#[cfg(test)]
mod tests {
    use wire::traffic::CertificateInUse;

    use super::*;

    fn name(instance: &str) -> SeriesName {
        SeriesName::Instance { service: "web".into(), release: "1".into(), instance: instance.into() }
    }

    fn told(instance: &str, answered: u64) -> SeriesCounters {
        let totals = SeriesTotals { answers: [0, 0, answered, 0, 0, 0], ..SeriesTotals::default() };
        SeriesCounters::new(&name(instance), &totals)
    }

    fn counters(proxy: u64, series: Vec<SeriesCounters>, series_anew: bool, series_more: bool) -> Event {
        let listener = ListenerCounters {
            listener: "web".into(),
            connections: 1,
            accepted: 5,
            ..ListenerCounters::default()
        };
        let listeners = vec![listener];
        Event::Counters {
            proxy,
            counters: Box::new(Counters {
                series,
                series_anew,
                series_more,
                listeners,
                ..Counters::default()
            }),
        }
    }

    fn answered(measured: &Measured) -> u64 {
        measured.series().values().map(|totals| totals.answers[2]).sum()
    }

    #[test]
    fn sums_never_go_down_however_many_proxies_end_and_their_names_are_few() {
        let mut measured = Measured::default();
        let mut sum = 0;
        for proxy in 0..40_u64 {
            let series = (0..100).map(|slot| told(&format!("{proxy}/{slot}"), 1)).collect();
            measured.hear(&counters(proxy, series, true, false));
            sum += 100;
            assert_eq!(answered(&measured), sum);
            measured.hear(&Event::ProxyGone { generation: proxy });
            assert_eq!(answered(&measured), sum);
        }
        assert!(measured.series().len() <= ENDED_MAX * 100 + NAMES_MAX + 1);
        let listener = &measured.base().listeners["web"];
        assert_eq!((listener.connections, listener.accepted), (0, 200));
    }

    #[test]
    fn what_is_now_goes_with_a_proxy_and_a_draining_one_does_not_hide_a_new_certificate() {
        let told = |proxy: u64, not_after_ms| Event::Counters {
            proxy,
            counters: Box::new(Counters {
                releases: vec![ReleaseCounters {
                    ejected: 2,
                    queued: 3,
                    waiting: 1,
                    ejected_now: 1,
                    ..ReleaseCounters::default()
                }],
                certificates: vec![CertificateInUse {
                    listener: "web".into(),
                    name: "shop.example".into(),
                    not_after_ms,
                }],
                ..Counters::default()
            }),
        };
        let all = |measured: &Measured| {
            let base = measured.base();
            let one = &base.releases[&(String::new(), String::new())];
            let ends: Vec<u64> = base.certificates.into_values().collect();
            (one.ejected, one.queued, one.waiting, one.ejected_now, ends)
        };
        let mut measured = Measured::default();
        measured.hear(&told(1, 100));
        measured.hear(&told(2, 900));
        assert_eq!(all(&measured), (4, 6, 2, 1, vec![900]));
        measured.hear(&Event::ProxyGone { generation: 1 });
        assert_eq!(all(&measured), (4, 6, 1, 1, vec![900]));
        measured.hear(&Event::ProxyGone { generation: 2 });
        assert_eq!(all(&measured), (4, 6, 0, 0, vec![]));
    }

    #[test]
    fn one_that_was_only_out_of_reach_is_not_counted_twice() {
        let mut measured = Measured::default();
        measured.hear(&counters(1, vec![told("a", 3)], true, false));
        measured.hear(&Event::ProxyGone { generation: 1 });
        measured.hear(&Event::ProxyUp { generation: 1, pid: 9 });
        measured.hear(&counters(1, vec![told("a", 4)], true, false));
        assert_eq!(answered(&measured), 4);
    }

    #[test]
    fn a_whole_in_parts_takes_the_place_of_the_former_one_when_it_is_complete() {
        let mut measured = Measured::default();
        measured.hear(&counters(1, vec![told("a", 1), told("b", 2)], true, false));
        measured.hear(&counters(1, vec![told("b", 5)], false, false));
        assert_eq!(answered(&measured), 6);
        measured.hear(&counters(1, vec![told("a", 7)], true, true));
        assert_eq!(answered(&measured), 6);
        measured.hear(&counters(1, vec![told("c", 8)], false, false));
        assert_eq!(answered(&measured), 15);
        assert!(!measured.series().contains_key(&name("b")));
    }
}
