//! One release of a service as one thread uses it: its serving endpoints, and which of them is next.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use model::balance::{
    Candidate, Turns, WHOLE_SHARE, choose_of_two, choose_of_two_weighted, highest_rank, share_at,
};
use model::random::Random;
use model::time::Instant;

use crate::engine::balance::{Balance, Choice};
use crate::engine::claim::Tried;
use crate::engine::endpoint::Endpoint;

/// A release that gets requests now.
#[derive(Debug)]
pub(crate) struct Release {
    /// Its serving endpoints, at least one.
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
    /// Its id.
    pub(crate) name: String,
    /// Its share beside the others of its service.
    pub(crate) weight: u16,
    /// Its endpoints as the hash sees them, with their weights.
    candidates: Vec<Candidate>,
    /// All weights are the same.
    is_uniform: bool,
    /// From then on every endpoint has its whole share.
    warm_at: Instant,
    /// Whether too few admitted endpoints let all of them be asked.
    may_panic: bool,
    turns: RefCell<Turns>,
}

/// What came of a choice.
#[derive(Debug)]
pub(crate) enum Chosen {
    /// That endpoint.
    Endpoint(Rc<Endpoint>),
    /// There are some, and none has a slot.
    Full,
    /// There is none that was not tried.
    Nobody,
}

/// What a choice depends on beside the release.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The time.
    pub(crate) now: Instant,
    /// How it is made.
    pub(crate) balance: &'a Balance,
    /// By what, where it is by something.
    pub(crate) key: Option<u64>,
    /// Where the request has been.
    pub(crate) tried: &'a Tried,
}

impl Release {
    /// A release with these endpoints and their weights.
    pub(crate) fn new(
        name: &str,
        weight: u16,
        endpoints: Vec<(Rc<Endpoint>, u32)>,
        slow_start: Duration,
    ) -> Self {
        let candidate = |(endpoint, weight): &(Rc<Endpoint>, u32)| Candidate {
            identity: endpoint.identity(),
            weight: *weight,
        };
        let candidates: Vec<Candidate> = endpoints.iter().map(candidate).collect();
        let warm_at = endpoints.iter().filter_map(|(endpoint, _)| endpoint.serving_since()).max();
        Self {
            is_uniform: candidates.windows(2).all(|two| two[0].weight == two[1].weight),
            warm_at: warm_at.map_or(Instant::START, |since| since + slow_start),
            turns: RefCell::new(Turns::new(endpoints.len())),
            endpoints: endpoints.into_iter().map(|(endpoint, _)| endpoint).collect(),
            name: name.to_owned(),
            weight,
            candidates,
            may_panic: false,
        }
    }

    /// Only the release with most of the weight panics, the first of several: beside it another one is being tried
    /// out, and where that fails its requests are not to be given back to it.
    pub(crate) fn let_largest_panic(releases: &mut [Self]) {
        let largest = releases.iter().map(|release| release.weight).max();
        if let Some(release) = releases.iter_mut().find(|release| Some(release.weight) == largest) {
            release.may_panic = true;
        }
    }

    /// Turns go on where they were, for the endpoints that stay.
    pub(crate) fn go_on_from(&self, former: &Self) {
        let place = |at: usize| former.endpoints.iter().position(|one| Rc::ptr_eq(one, &self.endpoints[at]));
        let turns = Turns::following(&former.turns.borrow(), self.endpoints.len(), place);
        self.turns.replace(turns);
    }

    /// The endpoint for a request; `is_free` says of one whether it has a slot.
    pub(crate) fn choose(
        &self,
        asked: &Asked<'_>,
        random: &mut Random,
        is_free: impl Fn(&Endpoint) -> bool,
    ) -> Chosen {
        let all = &self.endpoints;
        let open = all.iter().filter(|one| one.is_open(asked.now)).count();
        let picked = if open == all.len() && asked.tried.is_empty() {
            self.pick(asked, random, |at| is_free(&all[at]))
        } else {
            let may_have = self.may_have(asked, open);
            if !(0..all.len()).any(&may_have) {
                return Chosen::Nobody;
            }
            self.pick(asked, random, |at| may_have(at) && is_free(&all[at]))
        };
        picked.map_or(Chosen::Full, |at| Chosen::Endpoint(all[at].clone()))
    }

    /// Whether a request may go to an endpoint as far as ejections and former attempts are concerned, where so many
    /// are open.
    fn may_have(&self, asked: &Asked<'_>, open: usize) -> impl Fn(usize) -> bool {
        let all = &self.endpoints;
        let (now, tried) = (asked.now, asked.tried);
        // It serves in the table that this is of; a newer one may say something else.
        let untried = move |at: usize| all[at].is_serving() && !tried.has(&all[at]);
        let is_panic = self.may_panic && open * 100 < all.len() * asked.balance.panic_percent;
        // With everyone ejected, ejection says nothing any more.
        let any = is_panic || !(0..all.len()).any(|at| untried(at) && all[at].is_open(now));
        move |at| untried(at) && (any || all[at].is_open(now))
    }

    /// Every endpoint that a request may have, and may wait for.
    pub(crate) fn wanted(&self, asked: &Asked<'_>) -> impl Iterator<Item = &Rc<Endpoint>> {
        let open = self.endpoints.iter().filter(|one| one.is_open(asked.now)).count();
        let may_have = self.may_have(asked, open);
        self.endpoints.iter().enumerate().filter(move |(at, _)| may_have(*at)).map(|(_, endpoint)| endpoint)
    }

    fn pick(
        &self,
        asked: &Asked<'_>,
        random: &mut Random,
        eligible: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let all = &self.endpoints;
        let weight = |at: usize| {
            if eligible(at) { self.weight_now(at, asked) } else { 0 }
        };
        let load = |at: usize| all[at].in_flight();
        match (asked.balance.algorithm, asked.key) {
            (Choice::RoundRobin, _) => self.turns.borrow_mut().take(weight),
            (Choice::Hash, Some(key)) => highest_rank(key, &self.candidates, eligible),
            (Choice::LeastRequests, _) | (Choice::Hash, None) => {
                if self.is_uniform && asked.now >= self.warm_at {
                    choose_of_two(random, all.len(), eligible, load)
                } else {
                    choose_of_two_weighted(random, all.len(), weight, load)
                }
            }
        }
    }

    fn weight_now(&self, at: usize, asked: &Asked<'_>) -> u64 {
        let share = match self.endpoints[at].serving_since() {
            Some(since) if asked.now < self.warm_at => share_at(asked.now, since, asked.balance.slow_start),
            _ => WHOLE_SHARE,
        };
        u64::from(self.candidates[at].weight) * share
    }
}
