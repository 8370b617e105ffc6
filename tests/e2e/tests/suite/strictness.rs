//! Origins of other people's making behind Handover see the requests that Handover saw, and no others.

use e2e::strict::{self, Options};

/// The full count is `cargo xtask strict`'s.
const REQUESTS: u64 = 10_000;

#[test]
fn no_origin_sees_a_request_that_handover_did_not_see() {
    let options = Options { requests: REQUESTS, seed: 20_261_127, case: None };
    let report = strict::run(&options, &mut |line| println!("{line}")).unwrap();
    println!("{}", report.markdown());
    assert_eq!(report.violations, [""; 0]);
    assert!(
        report.seen.values().all(|seen| *seen > REQUESTS / 10),
        "each origin took part: {:?}",
        report.seen
    );
}
