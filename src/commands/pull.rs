//! `relstore pull`: releases come from another store into the local one.

use std::time::Duration;

use relstore_store::Store;
use relstore_store::id::ReleaseId;

use super::push::{Done, carry, document, text};
use crate::config::Config;
use crate::config::remote::Remote;
use crate::config::value::duration;
use crate::context::Context;
use crate::error::Result;
use crate::exit_code::ExitCode;
use crate::remote;
use crate::signing;
use crate::stored::{block_on, refresh_listing, resolve_waiting};

/// Fetch releases from another store
///
/// Moves only what the local store lacks. What arrived before a cut is not fetched again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  relstore pull HEAD                         the release of this commit, from [store] remote
  relstore pull HEAD --wait 3m               while a build machine is still at it
  relstore pull latest --from https://releases.example.com/app")]
pub(crate) struct Args {
    /// The releases, by names that the other store knows
    #[arg(required = true)]
    pub(crate) releases: Vec<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// Where releases come from, and how long they are waited for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SourceArgs {
    /// Name of a remote, URL or folder [default: `[store] remote`]
    #[arg(long, value_name = "REMOTE")]
    pub(crate) from: Option<String>,
    /// Wait so long for a release that is not there yet, such as 3m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
}

/// Runs the command.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    block_on(async {
        let config = context.optional_config()?;
        let folder = context.store_folder(config.as_ref())?;
        let remote = remote::chosen(context, config.as_ref(), args.source.from.as_deref())?;
        Store::check_place(&folder).await?;
        let done = pull(
            context,
            config.as_ref(),
            &folder,
            &remote,
            &args.releases,
            args.source.wait,
        )
        .await?;
        context.output.result(&text(&done), || document(&done))?;
        Ok(ExitCode::Ok)
    })
}

/// Fetches releases into the store of a folder, which is made when it is absent.
pub(crate) async fn pull(
    context: &Context,
    config: Option<&Config>,
    folder: &std::path::Path,
    remote: &Remote,
    names: &[String],
    wait: Option<Duration>,
) -> Result<Done> {
    let from = remote::open(context, remote).await?;
    let mut releases: Vec<ReleaseId> = Vec::new();
    for name in names {
        let release = resolve_waiting(context, config, &from, name, wait).await?;
        if !releases.contains(&release) {
            signing::require(context, config, remote, &from, &release).await?;
            releases.push(release);
        }
    }
    let to = Store::open_or_create(folder).await?;
    let moved = carry(context, "pull", &from, &to, &releases).await?;
    refresh_listing(context, &to).await;
    Ok(Done {
        releases,
        place: from.place(),
        moved,
    })
}
