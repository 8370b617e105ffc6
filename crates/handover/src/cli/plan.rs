//! `handover plan`: what `apply` or a deploy would do, without doing it.

use std::path::PathBuf;
use std::process::ExitCode;

use admin::api::{ApplyPlan, DeployBody, DeployPlan};
use model::id::Version;

use super::client::{self, Client, Posted};
use super::deploy::{absolute, known, print_json, version_of};
use super::render::{self, Style};
use super::{Failure, Global, changes};
use crate::exit_code::Code;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is changed. Values of the manifest are not shown: some are secrets.

Examples:
  handover plan                                   what `handover apply` would do
  handover plan web --release dist/web-1.5.0      what that deploy would do, step by step")]
pub(crate) struct Args {
    /// The service, for the plan of a deploy
    #[arg(requires = "release")]
    service: Option<String>,
    /// The new release: a directory, an archive or an executable
    #[arg(long, value_name = "PATH", requires = "service")]
    release: Option<PathBuf>,
    /// Its version; without it the release's name and the beginning of its content's hash
    #[arg(long, value_name = "VERSION", requires = "release")]
    version: Option<Version>,
    /// Print JSON with stable field names
    #[arg(long)]
    json: bool,
}

/// Runs `handover plan`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let colour = global.colour_out();
    let text = match (args.service, args.release) {
        (Some(service), Some(release)) => {
            let client = Client::find(global)?;
            let source = absolute(&release)?;
            let version = args.version.map_or_else(|| version_of(&release), Ok)?;
            let plan = client::block_on(of_deploy(&client, &service, source, &version))?;
            if args.json {
                print_json(&plan);
                return Ok(Code::Done.into());
            }
            steps(&service, &plan, colour)
        }
        _ => {
            let loaded = super::load_manifest(global)?;
            if !args.json {
                super::count_warnings(&loaded);
            }
            let client = Client::find(global)?;
            let plan = client::block_on(of_apply(&client, &changes::body(&loaded)))?;
            if args.json {
                print_json(&plan);
                return Ok(Code::Done.into());
            }
            differences(&plan, &client.option(), colour)
        }
    };
    render::print(&text);
    Ok(Code::Done.into())
}

/// What applying a manifest would do.
pub(super) async fn of_apply(client: &Client, body: &admin::api::ManifestBody) -> Result<ApplyPlan, Failure> {
    ask(client, "/v1/plan", body).await
}

async fn of_deploy(
    client: &Client,
    service: &str,
    source: String,
    version: &Version,
) -> Result<DeployPlan, Failure> {
    known(&client.status().await?, service, client)?;
    let body = DeployBody { source, version: Some(version.to_string()), ..DeployBody::default() };
    ask(client, &format!("/v1/services/{service}/plan"), &body).await
}

/// Asks again while the agent restarts: nothing is changed by it.
async fn ask<B, T>(client: &Client, path: &str, body: &B) -> Result<T, Failure>
where
    B: serde::Serialize,
    T: serde::de::DeserializeOwned,
{
    let deadline = client.deadline();
    loop {
        match client.post(path, body).await? {
            Posted::Answered(answer) => return Ok(answer),
            Posted::Unknown(why) => client.pause_until_retry(deadline, &why).await?,
        }
    }
}

fn differences(plan: &ApplyPlan, option: &str, colour: bool) -> String {
    if plan.changes.is_empty() {
        return "the manifest says what was applied last: nothing to do\n".to_owned();
    }
    let next = format!("make it true with `handover apply{option}`");
    format!("{}\n{}\n", changes::table(&plan.changes, colour), render::styled(&next, Style::Dim, colour))
}

fn steps(service: &str, plan: &DeployPlan, colour: bool) -> String {
    let version = plan.version.as_deref().unwrap_or("the release");
    let head = format!("deploying {version} to {service} would:");
    let mut text = format!("{}\n", render::styled(&head, Style::Bold, colour));
    for (number, step) in (1..).zip(&plan.steps) {
        text.push_str(&format!("{number:>3}. {step}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use admin::api::ChangeReport;

    use super::*;

    #[test]
    fn a_plan_says_what_to_type_to_make_it_true_and_that_nothing_is_nothing() {
        assert!(differences(&ApplyPlan::default(), "", false).contains("nothing to do"));
        let change = ChangeReport { key: "service.web.stop".into(), ..ChangeReport::default() };
        let text = differences(&ApplyPlan { changes: vec![change] }, " -c shop.toml", false);
        assert!(text.ends_with("\nmake it true with `handover apply -c shop.toml`\n"), "{text}");
    }

    #[test]
    fn the_steps_of_a_deploy_are_numbered() {
        let plan = DeployPlan { version: Some("2".into()), steps: vec!["copy".into(), "start".into()] };
        assert_eq!(steps("web", &plan, false), "deploying 2 to web would:\n  1. copy\n  2. start\n");
    }
}
