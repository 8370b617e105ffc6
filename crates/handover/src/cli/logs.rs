//! `handover logs`: what services printed, from the files of the agent's machine.

use std::process::ExitCode;
use std::time::Duration;

use admin::api::{LINES_MAX, LogLine, LogPage, LogsQuery, PROGRESS_WAIT_MS_MAX, StatusReport};

use super::client::{self, Client};
use super::deploy::known;
use super::render;
use super::{Failure, Global, when};
use crate::config::nearest::nearest;
use crate::config::units::parse_duration;
use crate::exit_code::Code;

/// Lines shown unless another number is asked for.
const LINES_DEFAULT: usize = 100;
/// Colours of instances, for prefixes.
const COLOURS: [&str; 6] = ["36", "35", "34", "32", "33", "96"];

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Times are UTC, of when a line was read. With --json each line is one object.

Examples:
  handover logs                          the last lines of all services
  handover logs web -f                   what web prints, from here on too
  handover logs web@1.5.0/0 -n 500       of one instance
  handover logs web --since 10m --grep 'timeout|refused'")]
pub(crate) struct Args {
    /// Only this service, or only this instance (NAME@VERSION/NUMBER)
    #[arg(value_name = "SERVICE|INSTANCE")]
    of: Option<String>,
    /// Go on with what is printed from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only lines of the last 10m, 2h, …
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// At most so many, the newest [default: 100; with --since all]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Print JSON with stable field names
    #[arg(long)]
    json: bool,
}

/// Runs `handover logs`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    let colour = global.colour_out();
    client::block_on(async {
        tokio::select! {
            biased;
            () = client::interrupted() => Ok(Code::Done.into()),
            shown = show(&client, args, colour) => shown.map(|()| Code::Done.into()),
        }
    })
}

async fn show(client: &Client, args: &Args, colour: bool) -> Result<(), Failure> {
    let status = match client.status().await {
        Err(failure) if failure.code == Code::Unreachable => {
            return from_files(client, args, colour, failure);
        }
        status => status?,
    };
    let only = only(&status, args.of.as_deref(), client)?;
    let grep = args.grep.as_ref().map_or_else(String::new, |grep| format!("&grep={}", encoded(grep)));
    let lines = args.lines.unwrap_or(if args.since.is_some() { LINES_MAX } else { LINES_DEFAULT });
    let mut path = format!("/v1/logs?lines={}{only}{grep}", lines.min(LINES_MAX));
    if let Some(since) = args.since {
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        path.push_str(&format!("&since_ms={}", host::clock::wall_ms().saturating_sub(since)));
    }
    let mut page: LogPage = client.get(&path).await?;
    let is_nothing = page.lines.is_empty();
    if page.truncated && args.since.is_some() && !args.json {
        super::say("older lines are left out: there are too many for one look\n");
    }
    print(&page, args.json, colour);
    if is_nothing && !args.follow {
        return nothing(&status, args, client);
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        let after = encoded(&page.cursor);
        let path =
            format!("/v1/logs?lines={LINES_MAX}{only}{grep}&after={after}&wait_ms={PROGRESS_WAIT_MS_MAX}");
        page = client.get_waiting(&path, Duration::from_millis(PROGRESS_WAIT_MS_MAX)).await?;
        print(&page, args.json, colour);
    }
}

/// What services printed before everything was stopped; nobody answers, so nobody is asked.
fn from_files(client: &Client, args: &Args, colour: bool, failure: Failure) -> Result<(), Failure> {
    let Some(layout) = client.layout().filter(|layout| !args.follow && layout.logs().is_dir()) else {
        return Err(failure);
    };
    let of = args.of.as_deref();
    let instance = of.filter(|of| of.contains('@')).map(str::to_owned);
    let since = args.since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let query = LogsQuery {
        service: of.map(|of| of.split_once('@').map_or(of, |(service, _)| service).to_owned()),
        instance,
        lines: Some(args.lines.unwrap_or(LINES_DEFAULT).min(LINES_MAX)),
        since_ms: since.map(|since| host::clock::wall_ms().saturating_sub(since)),
        grep: args.grep.clone(),
        ..LogsQuery::default()
    };
    let page = crate::wiring::stored_logs(&layout.logs(), query)
        .map_err(|refused| Failure::new(Code::Failed, refused.message))?;
    if page.lines.is_empty() {
        return Err(failure);
    }
    if !args.json {
        super::say("nothing runs; these are lines of before\n");
    }
    print(&page, args.json, colour);
    Ok(())
}

/// The part of the query that says whose lines.
fn only(status: &StatusReport, of: Option<&str>, client: &Client) -> Result<String, Failure> {
    let Some(of) = of else { return Ok(String::new()) };
    let Some((service, _)) = of.split_once('@') else {
        known(status, of, client)?;
        return Ok(format!("&service={of}"));
    };
    known(status, service, client)?;
    Ok(format!("&service={service}&instance={}", encoded(of)))
}

/// No line was found: an instance that is not there may be mistyped, everything else has just said nothing.
fn nothing(status: &StatusReport, args: &Args, client: &Client) -> Result<(), Failure> {
    let instances = || {
        status.services.values().flat_map(|service| &service.instances).map(|instance| instance.id.as_str())
    };
    if let Some(of) = args.of.as_deref().filter(|of| of.contains('@') && !instances().any(|id| id == *of)) {
        let failure = Failure::new(
            Code::NoSuch,
            format_args!("there is no instance `{of}`, and no line of a former one"),
        );
        return Err(match nearest(of, instances()) {
            Some(nearest) => failure.with_hint(format_args!("did you mean `{nearest}`?")),
            None => {
                failure.with_hint(format_args!("see which there are: `handover status{}`", client.option()))
            }
        });
    }
    if !args.json {
        super::say("nothing that fits was printed\n");
    }
    Ok(())
}

fn print(page: &LogPage, json: bool, colour: bool) {
    let mut text = String::new();
    for line in &page.lines {
        if json {
            text.push_str(&serde_json::to_string(line).expect("invariant: bodies of the API are JSON"));
            text.push('\n');
        } else {
            text.push_str(&shown(line, colour));
        }
    }
    render::print(&text);
}

fn shown(line: &LogLine, colour: bool) -> String {
    let (time, text) = (when::time(line.at_ms), render::clean(&line.text));
    let who = if line.instance.is_empty() { &line.service } else { &line.instance };
    if !colour {
        return format!("{time} {who} | {text}\n");
    }
    let sum = who.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let code = COLOURS[sum % COLOURS.len()];
    format!("\x1b[2m{time}\x1b[0m \x1b[{code}m{who} |\x1b[0m {text}\n")
}

/// `text` as a value in a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use admin::api::{InstanceReport, ServiceReport};

    use super::*;
    use crate::cli::client::tests::FakeAgent;

    fn args(of: &str) -> Args {
        Args { of: Some(of.into()), follow: false, since: None, grep: None, lines: None, json: false }
    }

    fn status() -> StatusReport {
        let mut status = StatusReport::default();
        let instance = InstanceReport { id: "web@1.5.0/0".into(), ..InstanceReport::default() };
        let service = ServiceReport { instances: vec![instance], ..ServiceReport::default() };
        status.services.insert("web".into(), service);
        status
    }

    #[test]
    fn a_service_or_one_of_its_instances_may_be_asked_for() {
        let agent = FakeAgent::absent();
        let client = &agent.client;
        assert_eq!(only(&status(), None, client).unwrap(), "");
        assert_eq!(only(&status(), Some("web"), client).unwrap(), "&service=web");
        assert_eq!(
            only(&status(), Some("web@1.5.0/0"), client).unwrap(),
            "&service=web&instance=web%401.5.0%2F0"
        );
        assert_eq!(only(&status(), Some("wbe@1.5.0/0"), client).unwrap_err().code, Code::NoSuch);
    }

    #[test]
    fn a_mistyped_instance_is_offered_the_nearest_and_a_silent_one_is_no_failure() {
        let agent = FakeAgent::absent();
        let client = &agent.client;
        nothing(&status(), &args("web@1.5.0/0"), client).unwrap();
        let failure = nothing(&status(), &args("web@1.5.0/O"), client).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean `web@1.5.0/0`?"));
    }

    #[test]
    fn a_line_cannot_steer_the_terminal_and_a_pattern_cannot_break_the_query() {
        let line = LogLine {
            at_ms: 1_764_000_000_123,
            service: "web".into(),
            instance: "web@1/0".into(),
            stream: "out".into(),
            text: "a\x1b[2Jb".into(),
        };
        assert_eq!(shown(&line, false), "16:00:00.123 web@1/0 | a[2Jb\n");
        assert_eq!(encoded("a+b&c d/é"), "a%2Bb%26c%20d%2F%C3%A9");
    }
}
