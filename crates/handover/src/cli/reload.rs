//! `handover reload`: every instance reads its configuration again, as its manifest says how.

use std::process::ExitCode;

use admin::api::OperateBody;

use super::operate::{self, Asked, Target};
use super::{Failure, Global, client};

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
How is said in the manifest, as reload = { signal = \"SIGHUP\" } or reload = { command = [\"./reload\"] }.

Examples:
  handover reload web          tell every instance of web, one after another
  handover restart web         what works for every program")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs `handover reload`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let body = OperateBody { actor: Some(client::actor()), operation: Some(host::random::token()) };
    operate::run(&args.target, &Asked { verb: "reload", body, done: "has reloaded".to_owned() }, global)
}
