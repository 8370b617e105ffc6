//! Choosing an endpoint and claiming its slot, in one step that nothing can come between.
//!
//! A claim counts as a request in flight until it is dropped, also by a panic; the last one to leave an
//! endpoint that takes no more requests makes the thread say so.

use std::rc::Rc;

use model::balance::choose_of_two;

use crate::engine::endpoint::Endpoint;
use crate::engine::table::{Release, Service};
use crate::engine::worker::Worker;

/// A request in flight on an endpoint.
#[derive(Debug)]
pub(crate) struct Claim {
    endpoint: Rc<Endpoint>,
    worker: Rc<Worker>,
}

impl Claim {
    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
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
    /// There is a newer table: whose turn it is is to be seen anew.
    pub(crate) fn forget_release(&mut self) {
        self.release = None;
    }

    /// That endpoint is not to be tried again for this request.
    pub(crate) fn add(&mut self, endpoint: Rc<Endpoint>) {
        self.endpoints.push(endpoint);
    }

    fn has(&self, endpoint: &Rc<Endpoint>) -> bool {
        self.endpoints.iter().any(|tried| Rc::ptr_eq(tried, endpoint))
    }
}

/// Claims the best endpoint of `service` that was not tried yet: in the release whose turn it is, and in the
/// others only when that one has none left.
pub(crate) fn claim(worker: &Rc<Worker>, service: &Service, tried: &mut Tried) -> Option<Claim> {
    let turn = match tried.release {
        Some(release) => release,
        None => *tried.release.insert(service.turns.borrow_mut().take()?),
    };
    let endpoint = choose(worker, &service.releases[turn], tried).or_else(|| {
        let others = service.releases.iter().enumerate().filter(|(at, _)| *at != turn);
        others.map(|(_, release)| release).find_map(|release| choose(worker, release, tried))
    })?;
    endpoint.enter();
    Some(Claim { endpoint, worker: worker.clone() })
}

fn choose(worker: &Worker, release: &Release, tried: &Tried) -> Option<Rc<Endpoint>> {
    let now = worker.clock.now();
    let all = &release.endpoints;
    let mut random = worker.random.borrow_mut();
    let load = |at: usize| all[at].in_flight();
    // It serves in the table that `release` is of; a newer one may say something else.
    let untried = |at: usize| all[at].is_serving() && !tried.has(&all[at]);
    // With everyone ejected, ejection says nothing any more.
    let at = choose_of_two(&mut random, all.len(), |at| untried(at) && !all[at].is_ejected(now), load)
        .or_else(|| choose_of_two(&mut random, all.len(), untried, load))?;
    Some(all[at].clone())
}
