//! What the command line says and how it ends.

use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;

#[test]
fn check_prints_the_defaults_that_hold() {
    let sandbox = Sandbox::new(Setup { readiness: String::new(), stop: String::new(), ..Setup::default() });
    sandbox.run(&["check"]).expect_code(0).expect_says(&["drain_timeout", "30s", "keep_warm", "blue-green"]);
}

#[test]
fn a_mistyped_key_is_shown_with_its_line_and_the_nearest_one() {
    let sandbox = Sandbox::new(Setup { service: "instancs = 2\n".to_owned(), ..Setup::default() });
    let ran = sandbox.run(&["check"]).expect_code(2);
    ran.expect_says(&["instancs", "handover.toml", "instances"]);
}

#[test]
fn a_key_that_is_not_served_yet_is_refused_by_name() {
    let sandbox = Sandbox::new(Setup { service: "mode = \"socket\"\n".to_owned(), ..Setup::default() });
    sandbox.run(&["check"]).expect_code(2).expect_says(&["socket"]);
    sandbox.run(&["up"]).expect_code(2);
}

#[test]
fn a_windows_path_in_double_quotes_is_explained() {
    let sandbox = Sandbox::new(Setup::default());
    sandbox.write_manifest("state_dir = \"C:\\users\\handover\"\n");
    sandbox.run(&["check"]).expect_code(2).expect_says(&["single quotes"]);
}

#[test]
fn a_missing_manifest_is_a_usage_error_with_its_path() {
    let sandbox = Sandbox::new(Setup::default());
    std::fs::remove_file(sandbox.manifest()).unwrap();
    sandbox.run(&["check"]).expect_code(2).expect_says(&["handover.toml"]);
}

#[test]
fn nobody_there_is_exit_code_4() {
    let sandbox = Sandbox::new(Setup::default());
    sandbox.run(&["status"]).expect_code(4).expect_says(&["handover up"]);
}

#[test]
fn an_unknown_service_is_exit_code_7_with_the_nearest_name() {
    let sandbox = Sandbox::started(Setup::default());
    let release = sandbox.release("next", &[]);
    let release = release.to_string_lossy();
    let ran = sandbox.run(&["deploy", "shp", "--release", &release, "--version", "2"]);
    ran.expect_code(7).expect_says(&["shp", "shop"]);
    sandbox.run(&["rollback", "shp"]).expect_code(7).expect_says(&["shop"]);
}

#[test]
fn a_release_that_is_not_there_is_named() {
    let sandbox = Sandbox::started(Setup::default());
    let ran = sandbox.run(&["deploy", "shop", "--release", "no/such/folder", "--version", "2"]);
    assert!(matches!(ran.code, Some(1 | 7)), "{:?} {}", ran.code, ran.text());
    ran.expect_says(&["no/such/folder"]);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let sandbox = Sandbox::new(Setup::default());
    sandbox.run(&["deploy"]).expect_code(2);
    sandbox.run(&["dance"]).expect_code(2);
}

#[test]
fn status_for_people_names_what_matters_and_no_terminal_codes_in_a_pipe() {
    let sandbox = Sandbox::started(Setup::default());
    let ran = sandbox.run(&["status"]).expect_code(0).expect_says(&["shop", "ready", "1"]);
    assert!(!ran.text().contains('\u{1b}'), "{}", ran.text());
}
