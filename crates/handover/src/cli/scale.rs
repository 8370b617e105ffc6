//! `handover scale`: another number of instances of a service.

use std::process::ExitCode;

use admin::api::ScaleBody;

use super::operate::{self, Asked, Target};
use super::{Failure, Global, client, render};
use crate::exit_code::Code;

/// Arguments of `scale`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The number holds until the next `scale`, or until `instances` of the manifest is edited and applied.

Examples:
  handover scale web 4         four instances; returns when they are ready
  handover stop web            what to type for none")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// How many instances there shall be
    #[arg(value_name = "N")]
    instances: u32,
}

/// Runs `handover scale`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    if args.instances == 0 {
        return Err(Failure::new(
            Code::Usage,
            "a service that is to have no instance is stopped, not scaled",
        )
        .with_hint(format_args!("`handover stop {}`", args.target.service)));
    }
    let (actor, operation) = (Some(client::actor()), Some(host::random::token()));
    let body = ScaleBody { instances: args.instances, actor, operation };
    let done = format!("has {}", render::counted(u64::from(args.instances), "instance"));
    operate::run(&args.target, &Asked { verb: "scale", body, done }, global)
}
