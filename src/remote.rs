//! Stores elsewhere: which one is meant, and the way to it.

use std::path::PathBuf;
use std::sync::Arc;

use relstore_store::Store;
use relstore_store::backend::Backend;
use relstore_store::backend::cached::CachedBackend;
use relstore_store::backend::local::LocalBackend;
use relstore_store::place::Place;

use crate::config::Config;
use crate::config::problem::nearest;
use crate::config::remote::Remote;
use crate::context::Context;
use crate::error::{CommandError, Result};

/// The remote that is meant: by its name or URL, else the one the configuration names.
pub(crate) fn chosen(
    context: &Context,
    config: Option<&Config>,
    said: Option<&str>,
) -> Result<Remote> {
    let remotes = config.map_or(&[][..], |config| &config.store.remotes);
    let names: Vec<&str> = remotes.iter().map(|remote| remote.name.as_str()).collect();
    let Some(said) = said else {
        let default = config.is_some_and(|config| config.store.has_default);
        return match remotes {
            [first, ..] if default || remotes.len() == 1 => Ok(first.clone()),
            [] => Err(CommandError::bad_input("no remote store is known")
                .hint("write `remote = \"s3://bucket/app\"` below [store], or name a URL")),
            _ => Err(CommandError::bad_input("which remote store is meant?")
                .hint(format!("name one of: {}", names.join(", ")))),
        };
    };
    if let Some(remote) = remotes.iter().find(|remote| remote.name == said) {
        return Ok(remote.clone());
    }
    if !said.contains(['/', ':', '.']) {
        let error = CommandError::bad_input(format!("there is no remote `{said}`"));
        return Err(match nearest(said, names.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if names.is_empty() => {
                error.hint("a [store.remotes.NAME] describes one; a path begins with `./` or `/`")
            }
            None => error.hint(format!("the remotes are: {}", names.join(", "))),
        });
    }
    let place = Place::parse(said).map_err(|error| {
        CommandError::bad_input("the store that is named cannot be used").caused_by(&error)
    })?;
    Ok(at(context, config, place))
}

/// What is known about a place: the settings of the remote that has it.
pub(crate) fn at(context: &Context, config: Option<&Config>, place: Place) -> Remote {
    let place = match place {
        Place::Folder(path) => Place::Folder(context.folder.join(path)),
        place => place,
    };
    let known = config.and_then(|config| {
        config
            .store
            .remotes
            .iter()
            .find(|remote| remote.place == place)
    });
    known.cloned().unwrap_or_else(|| Remote::at(place))
}

/// Opens the store of a remote.
pub(crate) async fn open(context: &Context, remote: &Remote) -> Result<Store> {
    let far = backend(context, remote).await?;
    let backend = match remote.place {
        Place::Folder(_) => far,
        _ => Arc::new(CachedBackend::new(
            far,
            folder(context, remote)?.join("copies"),
        )),
    };
    match Store::open_backend(backend).await {
        Err(error @ relstore_store::StoreError::NoStore { .. }) => {
            Err(CommandError::bad_input(error.to_string())
                .hint(format!("`relstore store init {}` makes one", remote.place)))
        }
        opened => Ok(opened?),
    }
}

/// The objects of a remote, without copies of any.
pub(crate) async fn backend(context: &Context, remote: &Remote) -> Result<Arc<dyn Backend>> {
    match &remote.place {
        Place::Folder(path) => Ok(Arc::new(LocalBackend::new(path.clone()))),
        place => {
            let _ = spool(context, remote)?;
            Err(CommandError::bad_input(format!("{place} cannot be used")))
        }
    }
}

/// What this machine keeps for a remote.
fn folder(context: &Context, remote: &Remote) -> Result<PathBuf> {
    let name = blake3::hash(remote.place.to_string().as_bytes()).to_hex();
    Ok(context
        .cache_folder()?
        .join("remotes")
        .join(&name.as_str()[..32]))
}

/// Where what comes from or goes to a remote lies for a moment.
fn spool(context: &Context, remote: &Remote) -> Result<PathBuf> {
    let spool = folder(context, remote)?.join("spool");
    relstore_store::fs::create_dirs(&spool)?;
    Ok(spool)
}
