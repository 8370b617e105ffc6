//! What keeps visitors on a release while weights change.

use std::collections::BTreeMap;

use wire::routes::{EndpointState, RouteTable, ServiceTraffic, Sticky};

use crate::harness::{Instance, Message, Rig, release, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn web(table: &mut RouteTable) -> &mut ServiceTraffic {
    table.services.get_mut("web").unwrap()
}

struct Shop {
    old: Instance,
    new: Instance,
    rig: Rig,
}

impl Shop {
    fn start(sticky: Sticky, new: u16) -> Self {
        let (old_instance, new_instance) = (Instance::named("old"), Instance::named("new"));
        let mut table = table(&[]);
        table.threads = 1;
        web(&mut table).sticky = Some(sticky);
        let mut shop = Self { old: old_instance, new: new_instance, rig: Rig::with(table, None) };
        shop.weigh(new);
        shop
    }

    fn weigh(&mut self, new: u16) {
        self.set(new, EndpointState::Serving);
    }

    fn set(&mut self, new: u16, state_of_new: EndpointState) {
        let (old_address, new_address) = (self.old.address, self.new.address);
        self.rig.swap(|table| {
            web(table).releases = vec![
                release("1", 10_000 - new, &[("web@1/0", old_address, EndpointState::Serving)]),
                release("2", new, &[("web@2/0", new_address, state_of_new)]),
            ];
        });
    }

    fn ask(&self, field: &str) -> Message {
        self.rig.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"))
    }
}

fn cookie() -> Sticky {
    Sticky::Cookie { name: "handover_release".into(), max_age_s: 86_400 }
}

/// The cookie that came with an answer, as a client sends it back.
fn mark(response: &Message) -> Option<String> {
    let field = response.field("Set-Cookie")?;
    Some(format!("Cookie: a=b; {}", field.split(';').next().unwrap()))
}

#[test]
fn a_visitor_stays_on_its_release_at_every_step_while_that_has_any_weight() {
    let mut shop = Shop::start(cookie(), 3_000);
    let visitors: Vec<(String, String)> = (0..20)
        .map(|_| {
            let first = shop.rig.ask(GET);
            (mark(&first).unwrap(), first.text().to_owned())
        })
        .collect();
    assert_eq!(visitors.iter().filter(|(_, release)| release == "new 0").count(), 6);
    for new in [5_000, 9_999, 1, 3_000] {
        shop.weigh(new);
        for (mark, release) in &visitors {
            let response = shop.ask(mark);
            assert_eq!((response.text(), response.field("Set-Cookie")), (&**release, None), "at {new}");
        }
    }
    // One release alone: no mark is given, and a former one keeps nobody away from it.
    shop.weigh(10_000);
    for (mark, _) in &visitors {
        let response = shop.ask(mark);
        assert_eq!((response.text(), response.field("Set-Cookie")), ("new 0", None));
    }
    assert_eq!(mark(&shop.rig.ask(GET)), None);
}

#[test]
fn the_mark_is_a_short_token_for_this_site_and_garbage_is_none() {
    let shop = Shop::start(cookie(), 5_000);
    let response = shop.rig.ask(GET);
    let field = response.field("Set-Cookie").unwrap();
    let token = field.strip_prefix("handover_release=").unwrap().split(';').next().unwrap();
    assert!(token.len() == 16 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{field}");
    assert!(field.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"), "{field}");
    for garbage in ["handover_release=", "handover_release=2", "handover_release=0000000000000000", "x=y"] {
        assert!(mark(&shop.ask(&format!("Cookie: {garbage}"))).is_some(), "{garbage}");
    }
    let known = shop.ask(&format!("Cookie: handover_release=2; handover_release={token}"));
    assert_eq!(known.field("Set-Cookie"), None);
    // Answers to HEAD and without a body carry it as well.
    let mut client = shop.rig.client();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().unwrap().contains("\r\nSet-Cookie: handover_release="));
}

#[test]
fn marked_visitors_take_no_turns_from_the_others() {
    let shop = Shop::start(cookie(), 1_000);
    let marked = loop {
        let first = shop.rig.ask(GET);
        if first.text() == "new 0" {
            break mark(&first).unwrap();
        }
    };
    let mut client = shop.rig.client();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..200 {
        client.send(GET);
        *seen.entry(client.response().text().to_owned()).or_default() += 1;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{marked}\r\n\r\n"));
        assert_eq!(client.response().text(), "new 0");
    }
    assert!((19..=21).contains(&seen["new 0"]), "{seen:?}");
}

#[test]
fn while_nobody_serves_a_release_its_visitors_are_answered_by_the_other_and_stay_its_own() {
    let mut shop = Shop::start(cookie(), 9_999);
    let marked = mark(&shop.rig.ask(GET)).unwrap();
    assert_eq!(shop.ask(&marked).text(), "new 0");
    shop.set(9_999, EndpointState::Candidate);
    let response = shop.ask(&marked);
    assert_eq!((response.text(), response.field("Set-Cookie")), ("old 0", None));
    shop.weigh(100);
    assert_eq!(shop.ask(&marked).text(), "new 0");
}

#[test]
fn a_value_decides_and_a_growing_release_loses_nobody() {
    let mut shop = Shop::start(Sticky::Header { name: "X-User".into() }, 500);
    let ask = |shop: &Shop| -> Vec<bool> {
        let one = |user: u32| {
            let response = shop.ask(&format!("X-User: user-{user}"));
            assert_eq!(response.field("Set-Cookie"), None);
            response.text() == "new 0"
        };
        (0..100).map(one).collect()
    };
    let mut before = ask(&shop);
    for new in [1_000, 3_000, 6_000, 9_500] {
        shop.weigh(new);
        let now = ask(&shop);
        assert_eq!(ask(&shop), now);
        assert!(before.iter().zip(&now).all(|(before, now)| before <= now));
        let share = now.iter().filter(|is_new| **is_new).count();
        assert!(share.abs_diff(usize::from(new) / 100) <= 15, "{share} at {new}");
        before = now;
    }
    // Without the field it is turns.
    shop.weigh(5_000);
    let mut client = shop.rig.client();
    let is_new = |_| {
        client.send(GET);
        client.response().text() == "new 0"
    };
    assert_eq!((0..20).map(is_new).filter(|is_new| *is_new).count(), 10);
}
