//! Where the next request goes: turns between weighted releases, an algorithm between the endpoints of one, ejection
//! of those that fail, and a budget for retries.
//!
//! Each proxy thread has its own of all of these, so nothing is locked: loads are requests in flight on that thread,
//! and each thread ejects on the evidence of its own traffic. The one exception is [`SlotQueue`], the exact maximum of
//! requests per endpoint, which threads share where it is asked for. What it does not do: hold endpoints, or know
//! their addresses.

mod choice;
mod ejection;
mod hash;
mod outlier;
mod retry;
mod slot_queue;
mod slow_start;
mod sticky;
mod turns;

pub use choice::{choose_of_two, choose_of_two_weighted};
pub use ejection::{EJECTION_FIRST, EJECTION_MAX, Ejection};
pub use hash::{Candidate, hash_bytes, hash_pair, highest_rank};
pub use outlier::{Failing, OutlierRules, Record, Tally, low_success_rates, may_eject};
pub use retry::RetryBudget;
pub use slot_queue::{QueueFull, SlotId, SlotQueue, Ticket};
pub use slow_start::{WHOLE_SHARE, share_at};
pub use sticky::{Mark, place_of};
pub use turns::{Turns, WeightedTurns};
