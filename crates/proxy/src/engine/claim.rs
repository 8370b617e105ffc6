//! Choosing an endpoint and claiming its slot, in one step that nothing can come between.
//!
//! A claim counts as a request in flight until it is dropped, also by a panic; the last one to leave an
//! endpoint that takes no more requests makes the thread say so. First the release: that of a marked visitor, else
//! whose turn it is; then the endpoint inside it. The other releases are asked only when that one has none left that
//! was not tried; one whose endpoints are all full has some, and is waited for.

use std::rc::Rc;

use model::balance::SlotId;

use crate::engine::endpoint::Endpoint;
use crate::engine::queue::HeldSlot;
use crate::engine::release::{Asked, Chosen, Release};
use crate::engine::table::Service;
use crate::engine::visitor::Visitor;
use crate::engine::worker::Worker;

/// A request in flight on an endpoint.
#[derive(Debug)]
pub(crate) struct Claim {
    endpoint: Rc<Endpoint>,
    /// Where its release is in the service it was claimed from.
    release: usize,
    worker: Rc<Worker>,
    /// Goes after the request was counted out.
    _slot: Option<HeldSlot>,
}

impl Claim {
    fn new(worker: &Rc<Worker>, endpoint: Rc<Endpoint>, release: usize, slot: Option<HeldSlot>) -> Self {
        endpoint.enter();
        Self { endpoint, release, worker: worker.clone(), _slot: slot }
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    /// Where its release is in the service it was claimed from.
    pub(crate) fn release(&self) -> usize {
        self.release
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.endpoint.leave() {
            self.worker.tell_if_quiet(&self.endpoint.instance);
        }
    }
}

/// Where the attempts of one request have been.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    release: Option<usize>,
    endpoints: Vec<Rc<Endpoint>>,
}

impl Tried {
    /// There is a newer table: the release stays the same, or it is to be seen anew whose turn it is.
    pub(crate) fn follow(&mut self, before: &Service, now: &Service) {
        let name = self.release.and_then(|at| before.releases.get(at)).map(|release| &release.name);
        self.release = name.and_then(|name| now.releases.iter().position(|release| release.name == *name));
    }

    /// That endpoint is not to be tried again for this request.
    pub(crate) fn add(&mut self, endpoint: Rc<Endpoint>) {
        self.endpoints.push(endpoint);
    }

    /// Whether nothing was tried.
    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Whether it was tried.
    pub(crate) fn has(&self, endpoint: &Rc<Endpoint>) -> bool {
        self.endpoints.iter().any(|tried| Rc::ptr_eq(tried, endpoint))
    }

    /// The release to be asked first.
    fn release(&mut self, service: &Service, visitor: &Visitor) -> Option<usize> {
        if self.release.is_none() {
            let sticky = service.balance.sticky.as_ref();
            let marked = sticky.and_then(|sticky| sticky.release_of(visitor));
            self.release = marked.or_else(|| service.turns.borrow_mut().take());
        }
        self.release
    }
}

/// What came of asking for an endpoint.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// A claim.
    Claim(Claim),
    /// Every endpoint has as many requests as it may have.
    Full,
    /// There is none that was not tried yet.
    Nobody,
}

/// Claims the best endpoint of `service` that was not tried yet.
pub(crate) fn claim(worker: &Rc<Worker>, service: &Service, visitor: &Visitor, tried: &mut Tried) -> Claimed {
    let Some(turn) = tried.release(service, visitor) else { return Claimed::Nobody };
    for (at, release) in in_turn(&service.releases, turn) {
        let (chosen, slot) = choose(worker, service, release, visitor, tried);
        match chosen {
            Chosen::Endpoint(endpoint) => return Claimed::Claim(Claim::new(worker, endpoint, at, slot)),
            Chosen::Full => return Claimed::Full,
            Chosen::Nobody => {}
        }
    }
    Claimed::Nobody
}

/// The releases, the one at `turn` first.
fn in_turn(releases: &[Release], turn: usize) -> impl Iterator<Item = (usize, &Release)> {
    let others = releases.iter().enumerate().filter(move |(at, _)| *at != turn);
    releases.get(turn).map(|release| (turn, release)).into_iter().chain(others)
}

fn choose(
    worker: &Worker,
    service: &Service,
    release: &Release,
    visitor: &Visitor,
    tried: &Tried,
) -> (Chosen, Option<HeldSlot>) {
    let asked = Asked { now: worker.clock.now(), balance: &service.balance, key: visitor.key, tried };
    let mut random = worker.random.borrow_mut();
    let Some(waiting) = &service.balance.gate else {
        return (release.choose(&asked, &mut random, |_| true), None);
    };
    waiting.gate.try_take(|is_free| {
        match release.choose(&asked, &mut random, |endpoint| is_free(slot_of(endpoint))) {
            Chosen::Endpoint(endpoint) => {
                let slot = slot_of(&endpoint);
                Ok((Chosen::Endpoint(endpoint), slot))
            }
            none => Err(none),
        }
    })
}

fn slot_of(endpoint: &Endpoint) -> SlotId {
    SlotId(endpoint.slot())
}

/// The slots that a request may wait for, as `claim` would choose; `None` when there is nothing to wait for.
pub(crate) fn wanted(
    worker: &Worker,
    service: &Service,
    visitor: &Visitor,
    tried: &mut Tried,
) -> Option<Vec<SlotId>> {
    service.balance.gate.as_ref()?;
    let turn = tried.release(service, visitor)?;
    let asked = Asked { now: worker.clock.now(), balance: &service.balance, key: visitor.key, tried };
    in_turn(&service.releases, turn)
        .map(|(_, release)| release.wanted(&asked).map(|endpoint| slot_of(endpoint)).collect::<Vec<_>>())
        .find(|slots| !slots.is_empty())
}

/// Claims the endpoint whose slot was given to a request that waited; `None` when it takes no more requests.
pub(crate) fn claim_slot(
    worker: &Rc<Worker>,
    service: &Service,
    tried: &Tried,
    slot: HeldSlot,
) -> Option<Claim> {
    let (at, endpoint) = service.releases.iter().enumerate().find_map(|(at, release)| {
        let is_it = |one: &&Rc<Endpoint>| slot_of(one) == slot.id() && one.is_serving() && !tried.has(one);
        release.endpoints.iter().find(is_it).map(|endpoint| (at, endpoint.clone()))
    })?;
    Some(Claim::new(worker, endpoint, at, Some(slot)))
}

/// Whether somebody else could be asked after `endpoint`.
pub(crate) fn has_other(service: &Service, tried: &Tried, endpoint: &Rc<Endpoint>) -> bool {
    let all = service.releases.iter().flat_map(|release| &release.endpoints);
    all.into_iter().any(|one| !Rc::ptr_eq(one, endpoint) && one.is_serving() && !tried.has(one))
}
