//! Where the agent is: by the manifest's state directory, or by URL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use host::paths::Layout;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, Uri};

use super::RETRY_FOR;
use crate::cli::{Failure, Global, render};
use crate::config;
use crate::config::error::ConfigError;
use crate::exit_code::Code;

/// Environment variable with the token for `--admin`.
const TOKEN_VARIABLE: &str = "HANDOVER_TOKEN";

/// How much of the end of the log is looked at for why an agent ended.
const LOG_BYTES: usize = 64 << 10;
/// The same in lines: what was said before may be about another time.
const LOG_LINES: usize = 20;

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// The owner-only local socket.
    Socket(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// A way to one agent.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
    token: Option<HeaderValue>,
    /// The manifest and the directories it leads to, where the agent was looked for by it.
    manifest: Option<PathBuf>,
    layout: Option<Layout>,
    retry_for: Duration,
}

impl Client {
    /// The agent that the options name.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        match &global.admin {
            Some(url) => Self::by_url(url, global),
            None => {
                let (manifest, layout) = layout(global)?;
                Ok(Self {
                    place: Place::Socket(layout.admin_socket()),
                    token: None,
                    manifest: Some(manifest),
                    layout: Some(layout),
                    retry_for: RETRY_FOR,
                })
            }
        }
    }

    /// The agent of these directories, without a manifest.
    pub(crate) fn at(layout: Layout) -> Self {
        Self {
            place: Place::Socket(layout.admin_socket()),
            token: None,
            manifest: None,
            layout: Some(layout),
            retry_for: RETRY_FOR,
        }
    }

    fn by_url(url: &str, global: &Global) -> Result<Self, Failure> {
        let authority = parse_url(url)?;
        let token = match std::env::var(TOKEN_VARIABLE) {
            Ok(token) => Some(token),
            // A manifest is no condition for a URL: without one, only what is public can be asked.
            Err(_) => {
                layout(global).ok().and_then(|(_, layout)| std::fs::read_to_string(layout.admin_token()).ok())
            }
        };
        let token = token.map(|token| format!("Bearer {}", token.trim())).filter(|token| token != "Bearer ");
        let token = token.map(|token| HeaderValue::from_str(&token)).transpose().map_err(|_invalid| {
            let message = format!("the token in {TOKEN_VARIABLE} has characters that no token has");
            Failure::new(Code::Usage, message)
        })?;
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        Ok(Self { place: Place::Tcp(authority), token, manifest: None, layout: None, retry_for: RETRY_FOR })
    }

    /// A client of what listens on a layout's socket, or would.
    #[cfg(test)]
    pub(super) fn of(layout: Layout, retry_for: Duration) -> Self {
        Self {
            place: Place::Socket(layout.admin_socket()),
            token: None,
            manifest: None,
            layout: Some(layout),
            retry_for,
        }
    }

    pub(super) fn retry_for(&self) -> Duration {
        self.retry_for
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.token.clone()
    }

    /// Process of the holder as its file says, if it lives; only where the agent is on this machine.
    pub(crate) fn holder(&self) -> Option<u32> {
        let layout = self.layout.as_ref()?;
        let text = std::fs::read_to_string(layout.pid_file()).ok()?;
        let pid = text.trim().parse().ok()?;
        (host::process::is_alive(pid) && is_holder(pid, layout)).then_some(pid)
    }

    /// The directories, where the agent is on this machine.
    pub(crate) fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }

    /// Whether the processes of that machine are this one's.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.place, Place::Socket(_))
    }

    /// Whether something that is not there now may be in a moment.
    pub(super) fn may_come_back(&self) -> bool {
        self.holder().is_some()
    }

    /// The place, for people.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::Socket(path) => format!("the agent at {}", path.display()),
            Place::Tcp(authority) => format!("the agent at http://{authority}"),
        }
    }

    /// `-c FILE` as it has to be typed to reach the same agent.
    pub(crate) fn option(&self) -> String {
        match (&self.place, &self.manifest) {
            (Place::Tcp(authority), _) => format!(" --admin http://{authority}"),
            (_, Some(path)) if path != Path::new("handover.toml") => format!(" -c {}", path.display()),
            _ => String::new(),
        }
    }

    pub(super) fn unreachable(&self, why: &str) -> Failure {
        let failure = Failure::new(Code::Unreachable, format_args!("cannot reach {}: {why}", self.name()));
        match (self.is_local(), self.holder()) {
            (false, _) => failure.with_hint("is it running there, and is this its `admin` address?"),
            (true, Some(pid)) => match &self.layout {
                Some(layout) => failure.with_hint(does_not_answer(pid, &layout.own_log())),
                None => failure,
            },
            (true, None) => {
                failure.with_hint(format_args!("is it running? start it with `handover up{}`", self.option()))
            }
        }
    }

    /// The failure of a follower whose agent is gone: a stop of everything is told as what it is.
    pub(super) fn stopped_meanwhile(&self, failure: Failure, what: &str) -> Failure {
        let is_gone = failure.code == Code::Unreachable && self.is_local() && self.holder().is_none();
        if !is_gone {
            return failure;
        }
        let message =
            format!("everything was stopped while {what} was under way; it goes on with the next start");
        Failure::new(Code::Unreachable, message)
            .with_hint(format_args!("start everything again with `handover up{}`", self.option()))
    }

    pub(super) fn not_permitted(&self, why: &str) -> Failure {
        Failure::new(Code::NotPermitted, format_args!("this user may not talk to {}: {why}", self.name()))
            .with_hint("run the command as the user that started `handover up`, for example with `sudo -u USER handover …`")
    }
}

/// What is known of an agent that should be there: why it cannot go on, if its log says so.
fn does_not_answer(holder: u32, log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_BYTES)..]).into_owned();
    let mut lines = text.lines().rev().take(LOG_LINES);
    let why = lines.find_map(|line| line.split_once("the agent cannot go on").map(|(_, why)| why.to_owned()));
    let why = why.map_or_else(String::new, |why| {
        format!(":\n  {}", render::clean(why.trim_start_matches([':', ' ']).trim_start_matches("error=")))
    });
    format!("it runs (holder {holder}) but its agent does not answer; look at {}{why}", log.display())
}

/// Whether a process is one of ours, and not another one that has got the number of a dead holder. Where the system does
/// not say, the file is believed.
fn is_holder(pid: u32, layout: &Layout) -> bool {
    match host::process::executable(pid) {
        Ok(program) => {
            let bin = layout.bin_dir();
            program.starts_with(&bin) || bin.canonicalize().is_ok_and(|bin| program.starts_with(bin))
        }
        Err(_) => true,
    }
}

/// The manifest as it was named or found, and the directories that its state directory leads to.
fn layout(global: &Global) -> Result<(PathBuf, Layout), Failure> {
    let located = config::find(global.config.as_deref()).and_then(|path| {
        let state_dir = config::state_dir(&path)?;
        Ok((path, Layout::find(state_dir)))
    });
    located.map_err(|error| match error {
        ConfigError::Wrong(_) => {
            Failure::new(Code::Usage, error).with_hint("see what is wrong: `handover check`")
        }
        _ => Failure::new(Code::Usage, error)
            .with_hint("name the manifest that `handover up` was started with: `-c FILE`"),
    })
}

fn parse_url(url: &str) -> Result<String, Failure> {
    let bad = |why: &str| {
        Failure::new(Code::Usage, format_args!("`--admin {url}` {why}"))
            .with_hint("write it as http://HOST:PORT, such as http://127.0.0.1:7979")
    };
    let uri: Uri = url.parse().map_err(|_invalid| bad("is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(bad("must begin with http://"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("must end after the port"));
    }
    let authority: &Authority = uri.authority().ok_or_else(|| bad("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("must not contain a user"));
    }
    let port = authority.port_u16().unwrap_or(80);
    Ok(format!("{}:{port}", authority.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_is_scheme_host_and_port_only() {
        for (url, authority) in [
            ("http://127.0.0.1:7979", "127.0.0.1:7979"),
            ("http://[::1]:7979/", "[::1]:7979"),
            ("http://localhost", "localhost:80"),
        ] {
            assert_eq!(parse_url(url).unwrap(), authority);
        }
        for url in
            ["127.0.0.1:7979", "https://a:1", "http://a:1/v1", "http://a:1/?x", "http://u@a:1", "http://"]
        {
            assert_eq!(parse_url(url).unwrap_err().code, Code::Usage, "{url}");
        }
    }

    #[test]
    fn an_agent_that_cannot_go_on_is_told_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("handover.log");
        assert!(
            does_not_answer(7, &log)
                .starts_with("it runs (holder 7) but its agent does not answer; look at ")
        );
        std::fs::write(
            &log,
            "T ERROR agent-1[2]: the agent cannot go on error=the record file /a is damaged\nT more\n",
        )
        .unwrap();
        assert!(does_not_answer(7, &log).ends_with("handover.log:\n  the record file /a is damaged"));
    }

    #[test]
    fn a_process_that_got_the_number_of_a_dead_holder_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path().join("run"));
        layout.create().unwrap();
        // This test's own process lives, and runs no copy of that state directory.
        std::fs::write(layout.pid_file(), std::process::id().to_string()).unwrap();
        assert_eq!(Client::at(layout).holder(), None);
    }
}
