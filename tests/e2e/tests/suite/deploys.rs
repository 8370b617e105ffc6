//! `deploy` and `rollback`, seen by clients that never retry.

use std::time::Instant;

use e2e::load::{Kind, Load, Plan, Tally};
use e2e::manifest::Setup;
use e2e::sandbox::{Sandbox, finish};
use e2e::torture::Mix;

fn everyone() -> Vec<Kind> {
    Mix::all().pop().expect("the last mix is all together").clients
}

#[track_caller]
fn assert_nothing_lost(tally: &Tally) {
    assert!(tally.ok > 0);
    assert_eq!(tally.failures_by_name(), "none");
}

#[test]
fn a_deploy_under_load_loses_nothing() {
    let sandbox =
        Sandbox::started(Setup { listener: "idle_timeout = \"2s\"\n".to_owned(), ..Setup::default() });
    let next = sandbox.release("next", &[]);
    let load = Load::start(&sandbox.plan(), &everyone());
    load.wait_for_answers(100);
    let ran = sandbox.deploy("2", &next).expect_code(0);
    load.wait_for_answers(100);
    let status = sandbox.status();
    assert_nothing_lost(&load.finish());
    assert_eq!(status.stable("shop").as_deref(), Some("2"));
    assert_eq!(sandbox.get("/").unwrap().text(), "2", "{}", ran.text());
}

#[test]
fn deploy_returns_when_no_request_goes_to_the_old_release() {
    let sandbox = Sandbox::started(Setup::with_flags(&["--ready-after", "100"]));
    let next = sandbox.release("next", &["--ready-after", "100"]);
    let load = Load::of(&sandbox.plan(), Kind::Think0, 4);
    load.wait_for_answers(50);
    sandbox.deploy("2", &next).expect_code(0);
    let returned = Instant::now();
    load.wait_for_answers(200);
    let tally = load.finish();
    assert_nothing_lost(&tally);
    assert!(
        tally.last_sent_to["1"] <= returned,
        "a request went to the old release after the deploy had ended"
    );
}

#[test]
fn a_request_longer_than_the_deploy_gets_its_answer_from_the_old_release() {
    let sandbox = Sandbox::started(Setup { rollout: "keep_warm = \"0s\"\n".to_owned(), ..Setup::default() });
    let next = sandbox.release("next", &[]);
    let address = sandbox.address();
    let long =
        std::thread::spawn(move || e2e::http::once(address, &e2e::http::Request::get("/slow?ms=3000")));
    sandbox.wait_status("the request to be on its way", |_| Some(()));
    sandbox.deploy("2", &next).expect_code(0);
    let answer = long.join().unwrap().unwrap();
    assert_eq!((answer.status, answer.header("version")), (200, Some("1")));
    sandbox.wait_status("the end of the old instance", |status| {
        status.instances("shop").iter().all(|instance| instance.version == "2").then_some(())
    });
}

#[test]
fn the_old_release_stays_warm_and_rollback_is_instant() {
    let sandbox = Sandbox::started(Setup::default());
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    let status = sandbox.status();
    assert_eq!(status.in_state("shop", "warm").len(), 1);
    assert_eq!(status.phase("shop").as_deref(), Some("baking"));
    let warm = status.in_state("shop", "warm")[0].pid;
    let load = Load::start(&sandbox.plan(), &[Kind::Think0, Kind::Think2ms, Kind::Fresh, Kind::Long]);
    load.wait_for_answers(100);
    sandbox.run(&["rollback", "shop"]).expect_code(0);
    let returned = Instant::now();
    load.wait_for_answers(100);
    let tally = load.finish();
    assert_nothing_lost(&tally);
    assert!(tally.last_sent_to["2"] <= returned);
    let status = sandbox.status();
    assert_eq!(status.stable("shop").as_deref(), Some("1"));
    let serving = status.instances("shop").into_iter().find(|instance| instance.version == "1").unwrap();
    assert_eq!(serving.pid, warm, "the warm process serves again, no new one was started");
}

#[test]
fn rollback_starts_the_way_back_where_it_is_no_longer_warm() {
    let sandbox = Sandbox::started(Setup { rollout: "keep_warm = \"0s\"\n".to_owned(), ..Setup::default() });
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    sandbox.wait_status("the end of the old instance", |status| {
        status.instances("shop").iter().all(|instance| instance.version == "2").then_some(())
    });
    let load = Load::of(&sandbox.plan(), Kind::Think0, 4);
    load.wait_for_answers(50);
    sandbox.run(&["rollback", "shop"]).expect_code(0);
    load.wait_for_answers(50);
    assert_nothing_lost(&load.finish());
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}

#[test]
fn rollback_with_nowhere_to_go_is_refused() {
    let sandbox = Sandbox::started(Setup::default());
    sandbox.run(&["rollback", "shop"]).expect_code(1);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}

#[test]
fn deploying_what_is_stable_is_nothing_to_do() {
    let sandbox = Sandbox::started(Setup::default());
    let pids =
        |sandbox: &Sandbox| sandbox.status().instances("shop").into_iter().map(|i| i.pid).collect::<Vec<_>>();
    let before = pids(&sandbox);
    let release = sandbox.folder().join("source/1");
    sandbox.deploy("1", &release).expect_code(0);
    assert_eq!(pids(&sandbox), before);
}

#[test]
fn the_same_version_with_other_content_is_refused() {
    let sandbox = Sandbox::started(Setup::default());
    let other = sandbox.release("other", &["--ready-after", "1"]);
    sandbox.deploy("1", &other).expect_code(1).expect_says(&["1", "content"]);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}

#[test]
fn a_deploy_during_a_rollout_is_refused_with_what_runs() {
    let sandbox = Sandbox::started(Setup::default());
    let slow = sandbox.release("slow", &["--ready-after", "3000"]);
    let next = sandbox.release("next", &[]);
    let words = ["deploy", "shop", "--release", &slow.to_string_lossy(), "--version", "2"];
    let began = Instant::now();
    let first = sandbox.begin(&words);
    sandbox.wait_status("the rollout to start instances", |status| {
        (status.rollout("shop")?["phase"] == "starting").then_some(())
    });
    sandbox.deploy("3", &next).expect_code(1).expect_says(&["2", "starting", "--replace"]);
    finish(first, began, &words).expect_code(0);
    assert_eq!(sandbox.get("/").unwrap().text(), "2");
}

#[test]
fn replace_ends_the_running_rollout_first() {
    let sandbox = Sandbox::started(Setup::default());
    let never = sandbox.release("never", &["--never-ready"]);
    let next = sandbox.release("next", &[]);
    let words = ["deploy", "shop", "--release", &never.to_string_lossy(), "--version", "2"];
    let began = Instant::now();
    let first = sandbox.begin(&words);
    sandbox.wait_status("the rollout to start instances", |status| {
        (status.rollout("shop")?["phase"] == "starting").then_some(())
    });
    let release = next.to_string_lossy();
    sandbox.run(&["deploy", "shop", "--release", &release, "--version", "3", "--replace"]).expect_code(0);
    finish(first, began, &words).expect_code(3);
    assert_eq!(sandbox.get("/").unwrap().text(), "3");
}

#[test]
fn no_wait_returns_at_once_and_the_rollout_goes_on() {
    let sandbox = Sandbox::started(Setup::default());
    let slow = sandbox.release("slow", &["--ready-after", "1500"]);
    let release = slow.to_string_lossy();
    let ran =
        sandbox.run(&["deploy", "shop", "--release", &release, "--version", "2", "--no-wait"]).expect_code(0);
    assert!(ran.took.as_millis() < 1500, "{:?}", ran.took);
    sandbox.wait_status("promotion", |status| (status.stable("shop")? == "2").then_some(()));
}

#[test]
fn a_failed_release_is_not_deployed_again_without_force() {
    let sandbox = Sandbox::started(Setup::default());
    let bad = sandbox.release("bad", &["--exit-at-once", "7"]);
    sandbox.deploy("2", &bad).expect_code(3);
    sandbox.deploy("2", &bad).expect_code(1).expect_says(&["--force"]);
    let release = bad.to_string_lossy();
    sandbox.run(&["deploy", "shop", "--release", &release, "--version", "2", "--force"]).expect_code(3);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}

#[test]
fn a_receipt_says_what_the_rollout_cost() {
    let sandbox = Sandbox::started(Setup::default());
    let next = sandbox.release("next", &[]);
    let load = Load::of(&sandbox.plan(), Kind::Think2ms, 4);
    load.wait_for_answers(50);
    sandbox.deploy("2", &next).expect_code(0).expect_says(&["requests", "failed"]);
    load.wait_for_answers(50);
    assert_nothing_lost(&load.finish());
    let status = sandbox.status();
    let receipt = &status.rollout("shop").expect("it bakes")["receipt"];
    assert_eq!(receipt["failed"], 0, "{receipt}");
    assert!(receipt["switched_after_ms"].as_u64().is_some_and(|ms| ms < 10_000), "{receipt}");
}

#[test]
fn several_deploys_in_a_row_end_with_the_last_and_two_releases_at_most() {
    let sandbox = Sandbox::started(Setup { instances: 2, ..Setup::default() });
    let next = sandbox.release("next", &[]);
    let plan: Plan = sandbox.plan();
    let load = Load::start(&plan, &[Kind::Think0, Kind::Think2ms, Kind::Fresh]);
    for version in ["2", "3", "4"] {
        sandbox.deploy(version, &next).expect_code(0);
    }
    load.wait_for_answers(50);
    assert_nothing_lost(&load.finish());
    sandbox.wait_status("only the stable and the warm release", |status| {
        let instances = status.instances("shop");
        let known = instances.iter().all(|instance| instance.version == "4" || instance.version == "3");
        (known && instances.len() == 4).then_some(())
    });
}
