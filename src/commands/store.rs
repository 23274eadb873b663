//! `relstore store`: what concerns a store as a whole.

mod init;
mod stats;

use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;

/// Make a store, find out what its place can be relied on for, and what a store holds
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore store init s3://acme-releases/notes
  relstore store stats")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(init::Args),
    Stats(stats::Args),
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Init(args) => init::run(context, args),
        Command::Stats(args) => stats::run(context, args),
    }
}
