//! `handover restart`: fresh instances of the same release in place of all, without losing a request.

use std::process::ExitCode;

use admin::api::OperateBody;

use super::operate::{self, Asked, Target};
use super::{Failure, Global, client};

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A replacement is started and ready before the old instance is drained and stopped, one by one. A service that cannot
run twice (a fixed port, strategy recreate) stops first; requests are held meanwhile. Waits between restarts of a
crash loop are cut short.

Examples:
  handover restart web         replace every instance of web by a fresh one
  handover restart web --json  the same for programs")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs `handover restart`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let body = OperateBody { actor: Some(client::actor()), operation: Some(host::random::token()) };
    operate::run(
        &args.target,
        &Asked { verb: "restart", body, done: "has fresh instances".to_owned() },
        global,
    )
}
