//! Who may do what over TCP: without the token almost nothing, and never for a page from elsewhere.

use std::net::SocketAddr;

use e2e::http::{Answer, Request, once};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;

fn started() -> (Sandbox, SocketAddr, String) {
    let sandbox = Sandbox::started(Setup::default());
    let address = sandbox.status().listener("admin").unwrap();
    let token = std::fs::read_to_string(sandbox.state_dir().join("admin.token")).unwrap();
    (sandbox, address, token.trim().to_owned())
}

fn ask(address: SocketAddr, mut request: Request, headers: &[(&str, &str)]) -> Answer {
    if request.host == "test" {
        request.host = address.to_string();
    }
    request.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    once(address, &request).unwrap()
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn health_and_a_restricted_status_need_no_token() {
    let (sandbox, address, _) = started();
    assert_eq!(ask(address, Request::get("/healthz"), &[]).text(), "ok\n");
    let answer = ask(address, Request::get("/v1/status"), &[]);
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert!(text.contains("\"stable\":\"1\""), "{text}");
    assert!(!text.contains(&*sandbox.folder().to_string_lossy()), "no path of ours: {text}");
}

#[test]
fn everything_else_needs_the_token() {
    let (sandbox, address, token) = started();
    let body = || b"{}".to_vec();
    let down = || Request::post("/v1/down", body());
    assert_eq!(ask(address, down(), &[JSON]).status, 401);
    assert_eq!(ask(address, down(), &[JSON, ("Authorization", "Bearer wrong")]).status, 401);
    let bearer = format!("Bearer {token}");
    let rollback = Request::post("/v1/services/shop/rollback", body());
    let answer = ask(address, rollback, &[JSON, ("Authorization", &bearer)]);
    assert_eq!(answer.status, 409, "there is no way back yet: {}", answer.text());
    assert!(answer.text().contains("\"error\""), "{}", answer.text());
    assert_eq!(sandbox.get("/").unwrap().status, 200);
}

#[test]
fn a_foreign_host_or_origin_is_refused_even_with_the_token() {
    let (_sandbox, address, token) = started();
    let bearer = format!("Bearer {token}");
    let authorised = ("Authorization", bearer.as_str());
    let foreign_host = Request { host: "evil.example".to_owned(), ..Request::get("/v1/status") };
    assert!(matches!(ask(address, foreign_host, &[authorised]).status, 403 | 421));
    let origin = ("Origin", "http://evil.example");
    assert_eq!(ask(address, Request::get("/v1/status"), &[authorised, origin]).status, 403);
    let local = Request { host: format!("localhost:{}", address.port()), ..Request::get("/v1/status") };
    let answer = ask(address, local, &[authorised]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn bodies_must_be_json_and_releases_by_path_are_for_the_local_socket() {
    let (sandbox, address, token) = started();
    let bearer = format!("Bearer {token}");
    let authorised = ("Authorization", bearer.as_str());
    let down = Request::post("/v1/down", b"level=kill".to_vec());
    assert_eq!(ask(address, down, &[authorised, ("Content-Type", "text/plain")]).status, 415);
    let release = sandbox.release("next", &[]);
    let body = format!("{{\"source\":\"{}\",\"version\":\"2\"}}", release.display());
    let deploy = Request::post("/v1/services/shop/deploy", body.into_bytes());
    assert_eq!(ask(address, deploy, &[authorised, JSON]).status, 403);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}
