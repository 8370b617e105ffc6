//! What `up` says: what listens where, and what to type next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use admin::api::StatusReport;
use model::manifest::{Listener, Manifest};

use super::Before;
use crate::cli::Global;
use crate::cli::render::{Style, styled};
use crate::config::Loaded;

/// Before everything starts, in the foreground.
pub(super) fn starting(loaded: &Loaded, before: Before, global: &Global) -> String {
    let colour = global.colour_out();
    let mut text = format!("{} {}\n\n", styled("handover", Style::Bold, colour), loaded.path.display());
    for (name, listener) in &loaded.manifest.listeners {
        text.push_str(&line(
            name.as_str(),
            &url_or_any(listener.bind),
            &routes(&loaded.manifest, name.as_str()),
        ));
    }
    let admin = loaded.manifest.admin.bind;
    text.push_str(&line(
        "admin",
        &url_or_any(admin),
        "API; its token is in the state directory, admin.token",
    ));
    text.push_str(&line("state", &loaded.manifest.state_dir.display().to_string(), ""));
    for (name, service) in &loaded.manifest.services {
        let release = if before != Before::Nothing {
            "goes on with what it ran last".to_owned()
        } else {
            format!("release {}", service.version)
        };
        let instances =
            crate::config::error::count(usize::try_from(service.instances).unwrap_or(1), "instance");
        text.push_str(&line(name.as_str(), &instances, &release));
    }
    for (name, front) in &loaded.manifest.fronted {
        let places: Vec<String> = front.endpoints.iter().map(|place| place.address.to_string()).collect();
        let what = crate::config::error::count(places.len(), "endpoint");
        text.push_str(&line(name.as_str(), &what, &places.join(", ")));
    }
    text.push_str(&edited(before, &loaded.path, colour));
    text.push_str(&next(loaded, |listener| Some(listener.bind), colour));
    text.push_str("  Ctrl-C  drains and stops everything\n\n");
    text
}

/// When everything is ready, in the background.
pub(super) fn ready(loaded: &Loaded, before: Before, status: &StatusReport, global: &Global) -> String {
    let colour = global.colour_out();
    let address = |name: &str| status.listeners.get(name).and_then(|listener| listener.address.clone());
    let mut text = String::new();
    for (name, service) in &status.services {
        if service.stopped {
            let (word, option) = (styled("stopped", Style::Yellow, colour), option(&loaded.path));
            text.push_str(&format!("{word} {name}, by an operator: `{} start {name}{option}`\n", program()));
            continue;
        }
        let stable = service.stable.clone().unwrap_or_default();
        text.push_str(&format!("{} {name} {stable}\n", styled("ready", Style::Green, colour)));
    }
    text.push('\n');
    for name in loaded.manifest.listeners.keys() {
        let url = address(name.as_str()).map_or_else(String::new, |address| format!("http://{address}"));
        text.push_str(&line(name.as_str(), &url, &routes(&loaded.manifest, name.as_str())));
    }
    if let Some(admin) = address("admin") {
        text.push_str(&line("admin", &format!("http://{admin}"), ""));
    }
    text.push_str(&edited(before, &loaded.path, colour));
    let bound = |listener: &Listener| {
        let name = loaded.manifest.listeners.iter().find(|(_, other)| *other == listener)?.0;
        address(name.as_str())?.parse().ok()
    };
    text.push_str(&next(loaded, bound, colour));
    text.push_str(&format!("  {} down{}\n", program(), option(&loaded.path)));
    text
}

/// What becomes of a file that is not the one that ran before.
fn edited(before: Before, path: &Path, colour: bool) -> String {
    if before != Before::Edited {
        return String::new();
    }
    let head = styled("the manifest was edited since it ran last:", Style::Yellow, colour);
    format!(
        "\n{head} what differs is applied now, as by `handover apply --yes`;\n\
         see what came of it with `{} events{}`\n",
        program(),
        option(path)
    )
}

fn line(name: &str, what: &str, more: &str) -> String {
    format!("{}\n", format!("  {name:<10} {what:<28} {more}").trim_end())
}

/// `-> shop, blog`: what a listener leads to.
fn routes(manifest: &Manifest, listener: &str) -> String {
    let mut services: Vec<&str> = manifest
        .routes
        .iter()
        .filter(|route| route.listener.as_str() == listener)
        .flat_map(|route| route.to.iter().map(|share| share.service.as_str()))
        .collect();
    services.sort_unstable();
    services.dedup();
    if services.is_empty() { String::new() } else { format!("-> {}", services.join(", ")) }
}

fn url_or_any(address: SocketAddr) -> String {
    match address.port() {
        0 => format!("a free port of {}", address.ip()),
        _ => format!("http://{address}"),
    }
}

/// An address that can be typed: every interface is this machine, too.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What to type next, as it works from here.
fn next(loaded: &Loaded, bound: impl Fn(&Listener) -> Option<SocketAddr>, colour: bool) -> String {
    let mut text = format!("\n{}\n", styled("what to type next, in another terminal:", Style::Dim, colour));
    let first = loaded.manifest.routes.first();
    let address = first
        .and_then(|route| loaded.manifest.listeners.get(&route.listener))
        .and_then(bound)
        .filter(|address| address.port() != 0);
    if let (Some(route), Some(address)) = (first, address) {
        text.push_str(&format!("  curl http://{}{}\n", reachable(address), route.path));
    }
    let option = option(&loaded.path);
    let mut routed = first.into_iter().flat_map(|route| &route.to);
    let routed = routed.find_map(|share| loaded.manifest.services.get_key_value(&share.service));
    if let Some((name, service)) = routed.or_else(|| loaded.manifest.services.iter().next()) {
        let release = next_release(&service.release).map_or_else(|| "PATH".to_owned(), |path| shown(&path));
        text.push_str(&format!("  {} deploy {name} --release {release}{option}\n", program()));
    }
    text.push_str(&format!("  {} status{option}\n", program()));
    text
}

/// This program as it was typed, if that works from here again.
fn program() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    if typed.contains(['/', '\\']) { shown(Path::new(&typed)) } else { "handover".to_owned() }
}

/// `-c FILE` as it has to be typed for this manifest.
pub(super) fn option(path: &Path) -> String {
    match shown(path) {
        shown if shown == "handover.toml" => String::new(),
        shown => format!(" -c {shown}"),
    }
}

/// The path from here, if it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path).display().to_string();
    if path.contains(char::is_whitespace) { format!("'{path}'") } else { path }
}

/// The directory after a release's, if one lies beside it: `v2` beside `v1`.
fn next_release(release: &Path) -> Option<PathBuf> {
    // What comes before the number: other programs may lie there, too.
    let stem = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        name.find(|c: char| c.is_ascii_digit()).map(|digits| name[..digits].to_owned())
    };
    let own = stem(release)?;
    let mut beside: Vec<PathBuf> = std::fs::read_dir(release.parent()?)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir() && path.as_path() > release && stem(path).as_ref() == Some(&own))
        .collect();
    beside.sort();
    beside.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    #[test]
    fn the_start_says_what_listens_where_and_what_to_type_next() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = testing::hello(folder.path(), "");
        let at = folder.path().display();
        let text = starting(&loaded, Before::Nothing, &Global::default());
        assert!(text.contains("  web        http://0.0.0.0:8080          -> hello\n"), "{text}");
        assert!(text.contains("  hello      2 instances                  release v1-"), "{text}");
        assert!(text.contains("  curl http://127.0.0.1:8080/\n"), "{text}");
        let deploy = format!(" deploy hello --release {at}/releases/v2 -c {at}/handover.toml\n");
        assert!(text.contains(&deploy), "{text}");
        assert!(text.contains("Ctrl-C"), "{text}");
    }

    #[test]
    fn on_an_existing_state_no_release_is_promised() {
        let folder = tempfile::tempdir().unwrap();
        let text = |before| starting(&testing::hello(folder.path(), ""), before, &Global::default());
        assert!(text(Before::Same).contains("goes on with what it ran last"));
        assert!(!text(Before::Same).contains("edited"));
        assert!(text(Before::Edited).contains("what differs is applied now"));
    }

    #[test]
    fn when_ready_the_addresses_are_those_that_were_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = StatusReport::default();
        let listener =
            |address: &str| admin::api::ListenerReport { address: Some(address.into()), error: None };
        status.listeners.insert("web".into(), listener("0.0.0.0:41234"));
        status.listeners.insert("admin".into(), listener("127.0.0.1:41235"));
        let text = ready(&testing::hello(folder.path(), ""), Before::Same, &status, &Global::default());
        assert!(text.contains("  web        http://0.0.0.0:41234         -> hello\n"), "{text}");
        assert!(text.contains("  admin      http://127.0.0.1:41235\n"), "{text}");
        assert!(text.contains("  curl http://127.0.0.1:41234/\n"), "{text}");
        assert!(text.contains(" down -c "), "{text}");
    }
}
