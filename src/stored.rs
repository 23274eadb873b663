//! The store of the project, and the way from a name to one of its releases.

use std::future::Future;
use std::time::Duration;

use relstore_store::Store;
use relstore_store::id::ReleaseId;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::git;
use crate::hosts;
use crate::release_name::{NameError, ReleaseName, by_prefix, of_commit, parse};

/// How long work in the background may take to end after the command has.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Runs the asynchronous part of a command. When a signal asks the program to end, the future is
/// dropped: running commands are killed, and hosts undo what was not confirmed.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let failed = |error: std::io::Error| {
        CommandError::new(ExitCode::Failure, "cannot start the threads of the program")
            .caused_by(&error)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        tokio::select! {
            outcome = future => outcome,
            _ = interrupt.recv() => Err(interrupted()),
            _ = terminate.recv() => Err(interrupted()),
            _ = hangup.recv() => Err(interrupted()),
        }
    });
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

fn interrupted() -> CommandError {
    CommandError::new(ExitCode::Interrupted, "interrupted by a signal")
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
    // Without git, or when it refuses, a commit written out can still be found.
    let commit = match (git::commit_of(project, name), full_commit(name)) {
        (Ok(Some(commit)), _) | (_, Some(commit)) => commit,
        (Ok(None), None) => return Err(unknown().into()),
        (Err(silent), None) => return Err(NameError::unanswered(name, silent)),
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
