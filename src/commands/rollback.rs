//! `relstore rollback`: an earlier release goes the way of a deploy.

use relstore_deployer::plan::Action;
use relstore_deployer::rollback_target;
use relstore_store::Store;

use super::deploy::Bringing;
use crate::cli::EnvironmentArg;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::hosts;
use crate::progress::Progress;
use crate::stored::{block_on, resolve};

/// Return an environment to an earlier release
///
/// The same way as a deploy, with the release that the hosts served before, or any other.
/// Migrations are never run, and never undone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore rollback --env prod
  relstore rollback --env prod --to 9be07711")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) environment: EnvironmentArg,
    /// The release to return to [default: the one that the hosts served before]
    #[arg(long, value_name = "RELEASE")]
    pub(crate) to: Option<String>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let config = context.config()?;
    let configured = hosts::chosen(context, &config, &args.environment)?;
    let folder = context.store_folder(Some(&config))?;
    let work = async {
        // In an emergency the store may be elsewhere: hosts keep what they served, and need
        // nothing of it. An empty one takes the copy of the ledger.
        let store = Store::open_or_create(&folder).await?;
        let bringing = Bringing::new(context, &config, configured, Action::Rollback)?;
        let release = match &args.to {
            Some(text) => match text.parse() {
                Ok(release) => release,
                Err(_) => resolve(context, Some(&config), &store, text).await?,
            },
            None => {
                let progress = Progress::new(context);
                let listener = |event| hosts::show(&progress, bringing.several(), event);
                rollback_target(&bringing.environment, &bringing.connector, &listener).await?
            }
        };
        bringing.run(context, &store, release).await
    };
    block_on(work).map_err(|error| error.interrupted_hint(&configured.name))
}
