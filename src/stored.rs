//! The store of the project, and the way from a name to one of its releases.

use std::future::Future;
use std::time::{Duration, Instant};

use relstore_store::Store;
use relstore_store::id::ReleaseId;
use relstore_store::place::Place;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::exit_code::ExitCode;
use crate::git;
use crate::hosts;
use crate::progress::seconds;
use crate::release_name::{NameError, ReleaseName, by_prefix, of_commit, parse};
use crate::remote;

/// How long work in the background may take to end after the command has.
const LAST_WORK: Duration = Duration::from_secs(5);
/// Between two looks for a release that is waited for.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Runs the asynchronous part of a command. When a signal asks the program to end, the future is
/// dropped: running commands are killed, and hosts undo what was not confirmed.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime()?;
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

/// The threads that asynchronous work runs on.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)
}

fn failed(error: std::io::Error) -> CommandError {
    CommandError::new(ExitCode::Failure, "cannot start the threads of the program")
        .caused_by(&error)
}

fn interrupted() -> CommandError {
    CommandError::new(ExitCode::Interrupted, "interrupted by a signal")
}

/// The store that is there, with the configuration when there is one.
pub(crate) async fn open(context: &Context) -> Result<(Option<Config>, Store)> {
    let config = context.optional_config()?;
    let store = match context.store_place(config.as_ref())? {
        Place::Folder(folder) => Store::open(&folder).await?,
        place => remote::open(context, &remote::at(context, config.as_ref(), place)).await?,
    };
    Ok((config, store))
}

/// Brings the store's `listing.zst` up to date, when it has one. What was stored is there without
/// it, so failing is no failure.
pub(crate) async fn refresh_listing(context: &Context, store: &Store) {
    if let Err(error) = store.refresh_listing().await {
        let error = CommandError::from(error).to_string();
        let text = error.trim_start_matches("error: ");
        context
            .output
            .warning(&format!("listing.zst is old: {text}"));
    }
}

/// The release that a name means. See [`crate::release_name`] for the order.
pub(crate) async fn resolve(
    context: &Context,
    config: Option<&Config>,
    store: &Store,
    text: &str,
) -> Result<ReleaseId> {
    Ok(find(context, config, store, text).await??)
}

/// As [`resolve`], but a release that is not there yet is waited for.
pub(crate) async fn resolve_waiting(
    context: &Context,
    config: Option<&Config>,
    store: &Store,
    text: &str,
    wait: Option<Duration>,
) -> Result<ReleaseId> {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let absent = match find(context, config, store, text).await? {
            Ok(release) => return Ok(release),
            Err(absent) => absent,
        };
        let left = wait.and_then(|wait| wait.checked_sub(began.elapsed()));
        let Some(left) = left.filter(|_| absent.may_come()) else {
            return Err(CommandError::from(absent).waited(store, wait, began));
        };
        if pause == FIRST_PAUSE {
            let place = store.place();
            context
                .output
                .note(&format!("waiting for a release of `{text}` in {place}"));
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// The release that a name means, or why the store has none.
pub(crate) async fn find(
    context: &Context,
    config: Option<&Config>,
    store: &Store,
    text: &str,
) -> Result<std::result::Result<ReleaseId, NameError>> {
    Ok(match parse(text)? {
        ReleaseName::Latest => store.latest().await?.ok_or(NameError::Empty),
        ReleaseName::Release(release) => stored(store, release).await?,
        ReleaseName::Environment { name, previous } => {
            let release = hosts::release_of(context, config, &name, previous).await?;
            stored(store, release).await?
        }
        ReleaseName::Prefix(prefix, text) => {
            match by_prefix(&prefix, &text, store.find(&prefix).await?) {
                Ok(Some(release)) => Ok(release),
                Ok(None) => built_from(context, config, store, &text).await?,
                Err(ambiguous) => Err(ambiguous),
            }
        }
        ReleaseName::Commit(name) => built_from(context, config, store, &name).await?,
    })
}

async fn stored(
    store: &Store,
    release: ReleaseId,
) -> Result<std::result::Result<ReleaseId, NameError>> {
    Ok(match store.has_release(&release).await? {
        true => Ok(release),
        false => Err(NameError::NotStored { release }),
    })
}

/// The release that was built from what git (or the store) knows by this name.
async fn built_from(
    context: &Context,
    config: Option<&Config>,
    store: &Store,
    name: &str,
) -> Result<std::result::Result<ReleaseId, NameError>> {
    let project = config.map_or(context.folder.as_path(), Config::project);
    let unknown = || NameError::Unknown {
        name: name.to_owned(),
    };
    // Without git, or when it refuses, a commit written out can still be found.
    let commit = match (git::commit_of(project, name), full_commit(name)) {
        (Ok(Some(commit)), _) | (_, Some(commit)) => commit,
        (Ok(None), None) => return Ok(Err(unknown())),
        (Err(silent), None) => return Err(NameError::unanswered(name, silent)),
    };
    let built = store.releases_of_commit(&commit).await?;
    if built.is_empty() && commit == name {
        return Ok(Err(unknown()));
    }
    let mut complete = Vec::new();
    for release in built {
        if store.has_release(&release).await? {
            complete.push(release);
        }
    }
    Ok(of_commit(name, &commit, complete))
}

impl CommandError {
    /// Says how long a release was waited for, and where.
    fn waited(self, store: &Store, wait: Option<Duration>, began: Instant) -> Self {
        let place = store.place();
        match wait {
            Some(_) => self.state(format!(
                "{place} was looked at for {}",
                seconds(began.elapsed())
            )),
            None => self.state(format!("{place} was looked at")),
        }
    }
}

/// A commit written out, for machines without a checkout.
fn full_commit(name: &str) -> Option<String> {
    let hex = name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    (hex && name.len() == 40).then(|| name.to_owned())
}
