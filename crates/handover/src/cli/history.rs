//! `handover history`: rollouts and operations that have ended, and what one of them cost.

use std::process::ExitCode;

use admin::api::{ENTRIES_MAX, EventReport, HistoryPage, HistoryReport, Phase, RolloutKind, RolloutReport};

use super::client::{self, Client};
use super::deploy::{known, print_json, receipt};
use super::render::{self, Cell, Style, Table};
use super::{Failure, Global, when};
use crate::exit_code::Code;

/// Entries shown unless another number is asked for.
const LIMIT_DEFAULT: usize = 30;

/// Widest sentence in the table.
const TEXT_COLUMNS_MAX: usize = 60;

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  handover history             what was done, newest last
  handover history web         of one service
  handover history show 12     what rollout 12 cost, and what happened meanwhile"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only this service
    service: Option<String>,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: usize,
    /// Print JSON with stable field names
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// One rollout: how it ended, what it cost, what happened meanwhile
    Show {
        /// Its number, from `handover history`
        #[arg(value_name = "N")]
        rollout: u64,
        /// Print JSON with stable field names
        #[arg(long)]
        json: bool,
    },
}

/// Runs `handover history`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    let colour = global.colour_out();
    client::block_on(async {
        if let Some(Command::Show { rollout, json }) = args.command {
            let report: HistoryReport = client.get(&format!("/v1/history/{rollout}")).await?;
            if json {
                print_json(&report);
            } else {
                render::print(&one(&report, colour));
            }
            return Ok(Code::Done.into());
        }
        let mut path = format!("/v1/history?limit={}", args.limit.min(ENTRIES_MAX));
        if let Some(service) = &args.service {
            known(&client.status().await?, service, &client)?;
            path.push_str(&format!("&service={service}"));
        }
        let page: HistoryPage = client.get(&path).await?;
        if args.json {
            print_json(&page);
        } else {
            render::print(&list(&page, &client.option(), colour));
        }
        Ok(Code::Done.into())
    })
}

fn list(page: &HistoryPage, option: &str, colour: bool) -> String {
    if page.entries.is_empty() {
        return "nothing was done yet\n".to_owned();
    }
    let mut table = Table::new(&["N", "ENDED (UTC)", "SERVICE", "WHAT", "RESULT", "TOOK", "BY"]);
    for entry in &page.entries {
        table.row(row(entry));
    }
    let mut text = table.render(colour);
    if page.entries.iter().any(|entry| entry.rollout.is_some()) {
        let next = format!("what one of them cost: `handover history show N{option}`");
        text.push_str(&format!("\n{}\n", render::styled(&next, Style::Dim, colour)));
    }
    text
}

fn row(entry: &EventReport) -> [Cell; 7] {
    let service = entry.service.as_deref().unwrap_or("-");
    let Some(rollout) = &entry.rollout else {
        let outcome = entry.outcome.as_deref().unwrap_or_default();
        let style = if outcome.starts_with("failed") { Style::Red } else { Style::Green };
        return [
            "-".into(),
            when::second(entry.at_ms).into(),
            service.into(),
            render::cut(&entry.text, TEXT_COLUMNS_MAX).into(),
            Cell::new(render::cut(outcome, TEXT_COLUMNS_MAX), style),
            "".into(),
            entry.actor.as_str().into(),
        ];
    };
    let (result, style) = result(rollout);
    [
        rollout.id.to_string().into(),
        when::second(entry.at_ms).into(),
        service.into(),
        what(rollout).into(),
        Cell::new(result, style),
        took(rollout).into(),
        rollout.actor.as_str().into(),
    ]
}

fn what(rollout: &RolloutReport) -> String {
    let version = &rollout.version;
    match (rollout.kind, &rollout.from) {
        (RolloutKind::First, _) => format!("first release {version}"),
        (RolloutKind::Rollback, _) => format!("rollback to {version}"),
        (_, Some(from)) => format!("deploy {from} -> {version}"),
        (_, None) => format!("deploy {version}"),
    }
}

fn result(rollout: &RolloutReport) -> (&'static str, Style) {
    match rollout.phase {
        Phase::Done => ("promoted", Style::Green),
        Phase::Baking => ("promoted, bakes", Style::Green),
        Phase::RolledBack => ("rolled back", Style::Yellow),
        Phase::Failed => ("failed", Style::Red),
        other => (other.as_str(), Style::Plain),
    }
}

fn took(rollout: &RolloutReport) -> String {
    let took = rollout.decided_at_ms.map(|decided| decided.saturating_sub(rollout.started_at_ms));
    took.map_or_else(|| "-".to_owned(), render::millis)
}

fn one(report: &HistoryReport, colour: bool) -> String {
    let rollout = &report.rollout;
    let (result, style) = result(rollout);
    let head = format!("rollout {} of {}: {}", rollout.id, report.service, what(rollout));
    let mut text = format!(
        "{}, {}\n",
        render::styled(&head, Style::Bold, colour),
        render::styled(result, style, colour)
    );
    text.push_str(&format!(
        "  began         {} UTC, by {}\n  decided       after {}\n",
        when::second(rollout.started_at_ms),
        rollout.actor,
        took(rollout)
    ));
    if let Some(verdict) = &rollout.verdict {
        text.push_str(&format!("  verdict       {verdict}\n"));
    }
    if let Some(reason) = &rollout.reason {
        text.push_str(&format!("  reason        {reason}\n"));
    }
    text.push_str(&receipt(rollout, None));
    text.push_str(&render::quoted(&rollout.output));
    if !report.lines.is_empty() {
        text.push('\n');
    }
    for line in &report.lines {
        text.push_str(&format!("  {}  {:<9}  {}\n", when::time(line.at_ms), line.subject, line.text));
    }
    text
}

#[cfg(test)]
mod tests {
    use admin::api::Receipt;

    use super::*;

    fn rollout() -> RolloutReport {
        RolloutReport {
            id: 12,
            version: "2".into(),
            from: Some("1".into()),
            phase: Phase::RolledBack,
            actor: "ann".into(),
            reason: Some("web@2/0 exited with code 1".into()),
            started_at_ms: 1_764_000_000_000,
            decided_at_ms: Some(1_764_000_002_500),
            receipt: Receipt { requests: 10, ..Receipt::default() },
            ..RolloutReport::default()
        }
    }

    fn event(text: &str) -> EventReport {
        EventReport {
            at_ms: 1_764_000_003_000,
            service: Some("web".into()),
            subject: "rollout".into(),
            text: text.into(),
            actor: "ann".into(),
            ..EventReport::default()
        }
    }

    #[test]
    fn the_list_says_what_was_done_how_it_ended_and_by_whom() {
        let rolled_back = EventReport { rollout: Some(rollout()), ..event("") };
        let restarted = EventReport { outcome: Some("done".into()), ..event("restarting web") };
        let page = HistoryPage { entries: vec![restarted, rolled_back] };
        assert_eq!(
            list(&page, "", false),
            "\
N   ENDED (UTC)          SERVICE  WHAT            RESULT       TOOK   BY
-   2025-11-24 16:00:03  web      restarting web  done                ann
12  2025-11-24 16:00:03  web      deploy 1 -> 2   rolled back  2.5 s  ann

what one of them cost: `handover history show N`
"
        );
    }

    #[test]
    fn one_rollout_is_told_with_its_receipt_and_what_happened_meanwhile() {
        let report = HistoryReport {
            service: "web".into(),
            rollout: rollout(),
            lines: vec![event("web@2/0 is ready")],
        };
        let text = one(&report, false);
        assert!(text.starts_with("rollout 12 of web: deploy 1 -> 2, rolled back\n"), "{text}");
        assert!(text.contains("  reason        web@2/0 exited with code 1\n"), "{text}");
        assert!(text.contains("  while it ran  10 requests"), "{text}");
        assert!(text.ends_with("\n  16:00:03.000  rollout    web@2/0 is ready\n"), "{text}");
    }
}
