//! Whom the instance is told that the client is.

use crate::harness::{Instance, Rig, ok, table};

const CLAIMS: &str = "X-Forwarded-For: 1.2.3.4, 127.0.0.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n\
                      X-Real-IP: 6.6.6.6\r\nForwarded: for=1.2.3.4\r\nHandover-Release: 2\r\n";

fn ask(trusted: &[&str], log: Option<std::path::PathBuf>) -> crate::harness::Message {
    let instance = Instance::answering(|_| ok("a"));
    let mut table = table(&[instance.address]);
    table.listeners.get_mut("main").unwrap().trusted_proxies =
        trusted.iter().map(|text| (*text).to_owned()).collect();
    let mut rig = Rig::with(table, log);
    rig.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n{CLAIMS}\r\n"));
    rig.stop();
    instance.seen().pop().unwrap()
}

#[test]
fn what_a_client_says_about_itself_is_not_believed() {
    let seen = ask(&["10.0.0.0/8"], None);
    assert_eq!(seen.field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(seen.field("X-Real-IP"), Some("127.0.0.1"));
    assert_eq!(seen.field("X-Forwarded-Proto"), Some("http"));
    assert_eq!(seen.field("X-Forwarded-Host"), Some("a"));
    assert_eq!((seen.field("Forwarded"), seen.field("Handover-Release")), (None, None));
    assert!(!seen.head.contains("1.2.3.4") && !seen.head.contains("6.6.6.6"));
}

#[test]
fn what_a_trusted_proxy_says_is_added_to_and_names_the_client_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let seen = ask(&["127.0.0.0/8"], Some(path.clone()));
    assert_eq!(seen.field("X-Forwarded-For"), Some("1.2.3.4, 127.0.0.9, 127.0.0.1"));
    assert_eq!(seen.field("X-Real-IP"), Some("1.2.3.4"));
    assert_eq!(seen.field("X-Forwarded-Proto"), Some("https"));
    assert_eq!(seen.field("X-Forwarded-Host"), Some("shop"));
    assert_eq!(seen.field("Forwarded"), Some("for=1.2.3.4, for=127.0.0.1;proto=http;host=\"a\""));
    assert_eq!(seen.field("Handover-Release"), None);
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(r#""client":"1.2.3.4""#), "{text}");
}
