//! What differs between a manifest and the one last applied, as `plan` and `apply` show it.

use admin::api::{ChangeReport, Effect, ManifestBody};

use super::render::{Cell, Style, Table};
use super::{client, up};
use crate::config::Loaded;

/// A checked manifest, as the agent takes it.
pub(super) fn body(loaded: &Loaded) -> ManifestBody {
    let manifest = wire::manifest::Manifest::from(&loaded.manifest);
    ManifestBody {
        manifest: serde_json::to_value(manifest).expect("invariant: a manifest is JSON"),
        source: loaded.source.clone(),
        path: loaded.path.display().to_string(),
        environment: Some(up::inherited(&loaded.manifest, std::env::vars_os())),
        actor: Some(client::actor()),
        operation: Some(host::random::token()),
    }
}

/// The table of differences.
pub(super) fn table(changes: &[ChangeReport], colour: bool) -> String {
    let mut table = Table::new(&["KEY", "EFFECT"]);
    for change in changes {
        table.row([change.key.as_str().into(), Cell::new(effect(change), style(change))]);
    }
    table.render(colour)
}

/// What making it true does, for people.
fn effect(change: &ChangeReport) -> String {
    let note = change.note.as_deref().unwrap_or_default();
    match change.effect {
        Effect::Live => "holds at once".to_owned(),
        Effect::Rollout => {
            let service = change.service.as_deref().unwrap_or("the service");
            let to = change.release.as_ref().map_or_else(String::new, |release| format!(" to {release}"));
            let gap = change
                .gap
                .as_ref()
                .map_or_else(|| ", no request waits".to_owned(), |gap| format!("; with a gap: {gap}"));
            format!("rollout of {service}{to}{gap}")
        }
        Effect::Added => "new".to_owned(),
        Effect::Removed => "removed".to_owned(),
        Effect::Rebound => "listens on the new address".to_owned(),
        Effect::NextStart => format!("holds from the next start on: {note}"),
        Effect::Refused => format!("cannot be changed: {note}"),
        Effect::Other => "as a newer Handover does it".to_owned(),
    }
}

fn style(change: &ChangeReport) -> Style {
    match (change.effect, &change.gap) {
        (Effect::Refused, _) => Style::Red,
        (Effect::Removed | Effect::NextStart, _) | (Effect::Rollout, Some(_)) => Style::Yellow,
        (Effect::Added, _) => Style::Green,
        _ => Style::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_that_differs_is_shown_with_what_making_it_true_does() {
        let change = |key: &str, effect| ChangeReport { key: key.into(), effect, ..ChangeReport::default() };
        let rollout = |gap: Option<&str>| ChangeReport {
            service: Some("web".into()),
            release: Some("2".into()),
            gap: gap.map(str::to_owned),
            ..change("service.web.command", Effect::Rollout)
        };
        let noted = |key, effect, note: &str| ChangeReport { note: Some(note.into()), ..change(key, effect) };
        let changes = [
            change("service.web.stop.signal", Effect::Live),
            rollout(None),
            rollout(Some("it runs once, so requests are held")),
            change("service.db", Effect::Removed),
            noted("proxy.threads", Effect::NextStart, "`handover down`, then `handover up`"),
            noted("state_dir", Effect::Refused, "it is where the record lies"),
        ];
        assert_eq!(
            table(&changes, false),
            "\
KEY                      EFFECT
service.web.stop.signal  holds at once
service.web.command      rollout of web to 2, no request waits
service.web.command      rollout of web to 2; with a gap: it runs once, so requests are held
service.db               removed
proxy.threads            holds from the next start on: `handover down`, then `handover up`
state_dir                cannot be changed: it is where the record lies
"
        );
    }

    #[test]
    fn the_agent_reads_the_manifest_that_it_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = crate::config::testing::hello(folder.path(), "");
        let body = body(&loaded);
        let read: wire::manifest::Manifest = serde_json::from_value(body.manifest).unwrap();
        assert_eq!(read, (&loaded.manifest).into());
    }
}
