//! The store of the project, and the way from a name to one of its releases.

use std::future::Future;

use relstore_store::Store;
use relstore_store::id::ReleaseId;

use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::git;
use crate::hosts;
use crate::release_name::{NameError, ReleaseName, by_prefix, of_commit, parse};

/// Runs the asynchronous part of a command.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            CommandError::new(ExitCode::Failure, "cannot start the threads of the program")
                .caused_by(&error)
        })?;
    runtime.block_on(future)
}

/// The store that is there, with the configuration when there is one.
pub(crate) async fn open(context: &Context) -> Result<(Option<Config>, Store)> {
    let config = context.optional_config()?;
    let store = Store::open(&context.store_folder(config.as_ref())?).await?;
    Ok((config, store))
}

/// The release that a name means. See [`crate::release_name`] for the order.
pub(crate) async fn resolve(
    context: &Context,
    config: Option<&Config>,
    store: &Store,
    text: &str,
) -> Result<ReleaseId> {
    match parse(text)? {
        ReleaseName::Latest => Ok(store.latest().await?.ok_or(NameError::Empty)?),
        ReleaseName::Release(release) => stored(store, release).await,
        ReleaseName::Environment { name, previous } => {
            let release = hosts::release_of(context, config, &name, previous).await?;
            stored(store, release).await
        }
        ReleaseName::Prefix(prefix, text) => {
            match by_prefix(&prefix, &text, store.find(&prefix).await?)? {
                Some(release) => Ok(release),
                None => built_from(context, config, store, &text).await,
            }
        }
        ReleaseName::Commit(name) => built_from(context, config, store, &name).await,
    }
}

async fn stored(store: &Store, release: ReleaseId) -> Result<ReleaseId> {
    match store.has_release(&release).await? {
        true => Ok(release),
        false => Err(NameError::NotStored { release }.into()),
    }
}

/// The release that was built from what git (or the store) knows by this name.
async fn built_from(
    context: &Context,
    config: Option<&Config>,
    store: &Store,
    name: &str,
) -> Result<ReleaseId> {
    let project = config.map_or(context.folder.as_path(), Config::project);
    let unknown = || NameError::Unknown {
        name: name.to_owned(),
    };
    let Some(commit) = git::commit_of(project, name).or_else(|| full_commit(name)) else {
        return Err(unknown().into());
    };
    let built = store.releases_of_commit(&commit).await?;
    if built.is_empty() && commit == name {
        return Err(unknown().into());
    }
    let mut complete = Vec::new();
    for release in built {
        if store.has_release(&release).await? {
            complete.push(release);
        }
    }
    Ok(of_commit(name, &commit, complete)?)
}

/// A commit written out, for machines without a checkout.
fn full_commit(name: &str) -> Option<String> {
    let hex = name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    (hex && name.len() == 40).then(|| name.to_owned())
}
