//! `handover start`: starts a service that was stopped, and tries one again that gave up.

use std::process::ExitCode;

use admin::api::OperateBody;

use super::operate::{self, Asked, Target};
use super::{Failure, Global, client};

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  handover start web           undo `handover stop web`; returns when it is ready")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs `handover start`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let body = OperateBody { actor: Some(client::actor()), operation: Some(host::random::token()) };
    operate::run(&args.target, &Asked { verb: "start", body, done: "runs".to_owned() }, global)
}
