//! `handover events`: every change, with its time, its cause and who asked for it.

use std::process::ExitCode;
use std::time::Duration;

use admin::api::{ENTRIES_MAX, EventPage, EventReport, PROGRESS_WAIT_MS_MAX};

use super::client::{self, Client};
use super::deploy::known;
use super::render::{self, Style};
use super::{Failure, Global, when};
use crate::exit_code::Code;

/// Events shown unless another number is asked for.
const LIMIT_DEFAULT: usize = 30;

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Times are UTC. With --json each event is one line.

Examples:
  handover events              what happened last
  handover events web -f       what happens to web from here on
  handover events --json -n 500 | jq .text")]
pub(crate) struct Args {
    /// Only this service
    service: Option<String>,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
    /// Print JSON with stable field names
    #[arg(long)]
    json: bool,
}

/// Runs `handover events`.
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
    let mut only = String::new();
    if let Some(service) = &args.service {
        known(&client.status().await?, service, client)?;
        only = format!("&service={service}");
    }
    let limit = args.limit.min(ENTRIES_MAX);
    let page: EventPage = client.get(&format!("/v1/events?limit={limit}{only}")).await?;
    if page.events.is_empty() && !args.follow && !args.json {
        render::print("nothing has happened yet\n");
    }
    print(&page, args.json, colour);
    let mut after = page.events.last().map_or(0, |event| event.sequence);
    if !args.follow {
        return Ok(());
    }
    loop {
        let path =
            format!("/v1/events?after={after}&limit={ENTRIES_MAX}&wait_ms={PROGRESS_WAIT_MS_MAX}{only}");
        let page: EventPage = client.get_waiting(&path, Duration::from_millis(PROGRESS_WAIT_MS_MAX)).await?;
        print(&page, args.json, colour);
        after = page.events.last().map_or(after, |event| event.sequence);
    }
}

fn print(page: &EventPage, json: bool, colour: bool) {
    let mut text = String::new();
    for event in &page.events {
        if json {
            text.push_str(&serde_json::to_string(event).expect("invariant: bodies of the API are JSON"));
            text.push('\n');
        } else {
            text.push_str(&line(event, colour));
        }
    }
    render::print(&text);
}

fn line(event: &EventReport, colour: bool) -> String {
    let dim = |text: &str| render::styled(text, Style::Dim, colour);
    let service = format!("{:<12}", event.service.as_deref().unwrap_or("-"));
    let asked_by = format!(", asked by {}", event.actor);
    let text = event.text.strip_suffix(&asked_by).unwrap_or(&event.text);
    format!(
        "{}  {}  {:<10}  {}  {}\n",
        dim(&when::second(event.at_ms)),
        render::styled(&service, Style::Bold, colour),
        event.subject,
        render::clean(text),
        dim(&format!("(by {})", event.actor)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_time_service_cause_and_actor() {
        let event = EventReport {
            sequence: 4,
            at_ms: 1_764_000_000_000,
            service: Some("web".into()),
            subject: "instance".into(),
            text: "web@1/0 exited with code 1".into(),
            actor: "supervision".into(),
            ..EventReport::default()
        };
        assert_eq!(
            line(&event, false),
            "2025-11-24 16:00:00  web           instance    web@1/0 exited with code 1  (by supervision)\n"
        );
    }
}
