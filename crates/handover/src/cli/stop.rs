//! `handover stop`: drains and stops one service; it stays stopped until it is started.

use std::process::ExitCode;

use admin::api::OperateBody;

use super::operate::{self, Asked, Target};
use super::{Failure, Global, client};

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It stays stopped, also over a restart of the machine, until `handover start`. Other services go on.

Examples:
  handover stop web            finish its requests, then stop every instance
  handover start web           and back
  handover down                stop everything")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs `handover stop`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let body = OperateBody { actor: Some(client::actor()), operation: Some(host::random::token()) };
    operate::run(&args.target, &Asked { verb: "stop", body, done: "is stopped".to_owned() }, global)
}
