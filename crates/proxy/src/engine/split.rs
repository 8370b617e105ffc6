//! A route's requests between the services that share it: smooth weighted turns, on each thread its own.

use std::cell::RefCell;

use model::balance::WeightedTurns;
use wire::routes::Split;

use crate::engine::table::Way;

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct SplitTurns {
    ways: Vec<Way>,
    shares: Vec<Split>,
    turns: RefCell<WeightedTurns>,
}

impl SplitTurns {
    /// Turns between those of `shares` that `find` knows.
    pub(crate) fn new(shares: &[Split], find: impl Fn(&str) -> Option<Way>) -> Self {
        let known = shares.iter().filter_map(|share| Some((find(&share.service)?, share.clone())));
        let (ways, shares): (Vec<_>, Vec<_>) = known.unzip();
        let turns = WeightedTurns::new(shares.iter().map(|share: &Split| share.weight));
        Self { ways, shares, turns: RefCell::new(turns) }
    }

    /// Shares that stay as they were go on where they were.
    pub(crate) fn go_on_from(&self, former: &Self) {
        if self.shares == former.shares {
            self.turns.replace(former.turns.borrow().clone());
        }
    }

    /// The way to the service whose turn it is; `None` when nobody has any weight.
    pub(crate) fn take(&self) -> Option<&Way> {
        let at = self.turns.borrow_mut().take()?;
        self.ways.get(at)
    }
}
