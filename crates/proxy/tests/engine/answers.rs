//! What Handover answers by itself: redirects, maintenance, refusals with an id to quote.

use wire::routes::{EndpointState, Hold, Maintenance};

use crate::harness::{Instance, Rig, release, table};

#[test]
fn a_listener_sends_everybody_to_https_and_keeps_the_connection() {
    let instance = Instance::named("a");
    let mut table = table(&[instance.address]);
    table.listeners.get_mut("main").unwrap().redirect_https_port = Some(443);
    let mut rig = Rig::with(table, None);
    let mut client = rig.client();
    for (request, location) in [
        ("GET /a/b?c=d HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n", "https://shop.example/a/b?c=d"),
        ("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nab", "https://shop/"),
        ("GET http://other/x HTTP/1.1\r\nHost: shop\r\n\r\n", "https://other/x"),
        ("OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "https://[::1]/"),
        (
            "GET //evil.example/%0d%0aX:y HTTP/1.1\r\nHost: shop\r\n\r\n",
            "https://shop//evil.example/%0d%0aX:y",
        ),
    ] {
        client.send(request);
        let response = client.response();
        assert_eq!((response.status(), response.field("Location")), (308, Some(location)));
        assert!(response.field("X-Request-Id").is_some() && response.field("Connection").is_none());
    }
    client.send("HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert!(client.head().unwrap().contains("\r\nLocation: https://shop/\r\n"));
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().status(), 400, "nobody knows where to");
    rig.swap(|table| table.listeners.get_mut("main").unwrap().redirect_https_port = Some(8443));
    let response = rig.ask("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(response.field("Location"), Some("https://shop:8443/"));
    assert_eq!(instance.connections(), 0);
}

#[test]
fn a_service_in_maintenance_shows_its_page_and_when_to_come_again() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    let mut set = |page: Option<&str>, on| {
        rig.swap(|table| {
            let page = page.map(str::to_owned);
            table.services.get_mut("web").unwrap().maintenance =
                Some(Maintenance { on, retry_after_s: 120, page });
        });
        rig.client()
    };
    let mut client = set(Some("<h1>soon</h1>"), true);
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status(), response.text()), (503, "<h1>soon</h1>"));
        assert_eq!(response.field("Retry-After"), Some("120"));
        assert_eq!(response.field("Content-Type"), Some("text/html; charset=utf-8"));
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nContent-Length: 13\r\n"));
    }
    client = set(None, true);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "503: the service is in maintenance\n");
    assert_eq!(instance.connections(), 0);
    client = set(Some("<h1>soon</h1>"), false);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "a 0");
}

#[test]
fn the_page_is_also_shown_when_no_instance_is_ready() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    let address = instance.address;
    for hold in [None, Some(Hold { timeout_ms: 50, requests_max: 10 })] {
        rig.swap(|table| {
            let service = table.services.get_mut("web").unwrap();
            service.releases = vec![release("1", 10_000, &[("web@1/0", address, EndpointState::Candidate)])];
            service.maintenance =
                Some(Maintenance { on: false, retry_after_s: 7, page: Some("soon".into()) });
            service.hold = hold;
        });
        let response = rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((response.status(), response.text()), (503, "soon"));
        assert_eq!(response.field("Retry-After"), Some("7"));
    }
}

#[test]
fn errors_of_ours_have_an_id_to_quote_and_answers_of_instances_have_their_own() {
    let instance = Instance::answering(|request| {
        let id = request.field("X-Request-Id").unwrap();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Seen: {id}\r\n\r\n")
    });
    let mut table = table(&[instance.address]);
    table.routes[0].path = "/shop".into();
    let rig = Rig::with(table, None);
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-1\r\n\r\n");
    assert_eq!(client.response().field("X-Request-Id"), Some("mine-1"));
    client.send("GET /shop HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-2\r\n\r\n");
    let response = client.response();
    assert_eq!((response.field("X-Seen"), response.field("X-Request-Id")), (Some("mine-2"), None));
    client.send("GET /shop HTTP/1.1\r\nHost: a\r\nX-Request-Id: a\"b\r\n\r\n");
    assert_eq!(client.response().field("X-Seen").unwrap().len(), 32);
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.response().field("X-Request-Id").unwrap().len(), 32);
}
