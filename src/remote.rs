//! Stores elsewhere: which one is meant, and the way to it.

use std::path::PathBuf;
use std::sync::Arc;

use relstore_deployer::store_backend::SshBackend;
use relstore_deployer::transport::{Endpoint, SshTarget};
use relstore_store::Store;
use relstore_store::backend::Backend;
use relstore_store::backend::cached::CachedBackend;
use relstore_store::backend::http::{Bearer, HttpBackend, HttpSettings, Limits, Proxies};
use relstore_store::backend::local::LocalBackend;
use relstore_store::backend::s3::{S3Backend, S3Settings};
use relstore_store::place::Place;

use crate::config::Config;
use crate::config::problem::nearest;
use crate::config::remote::Remote;
use crate::config::value::HostAddress;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::hosts;

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
        Place::Folder(path) => Place::Folder(context.path(&path)),
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
    Ok(match &remote.place {
        Place::Folder(path) => Arc::new(LocalBackend::new(path.clone())),
        Place::S3 { bucket, prefix } => {
            let settings = S3Settings {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: remote.endpoint.clone(),
                region: remote.region.clone(),
                path_style: remote.path_style,
                variables: &|name| context.variables.get(name).map(str::to_owned),
            };
            Arc::new(S3Backend::open(&settings, spool(context, remote)?)?)
        }
        Place::Http(url) => {
            let settings = HttpSettings {
                url: url.clone(),
                bearer: bearer(context, remote)?,
                proxies: proxies(context),
                ca: context.variables.get("SSL_CERT_FILE").map(PathBuf::from),
                limits: Limits::default(),
            };
            Arc::new(HttpBackend::open(settings, spool(context, remote)?)?)
        }
        Place::Ssh { host, path } => {
            let address = HostAddress::parse(host).map_err(|message| {
                CommandError::bad_input(format!("the host of {} {message}", remote.place))
            })?;
            let endpoint = Endpoint::Ssh(SshTarget {
                user: address.user,
                host: address.host,
                port: address.port,
                identity_file: remote.identity_file.clone(),
                known_hosts: remote.known_hosts.clone(),
            });
            let helper = hosts::helper()?;
            let spool = spool(context, remote)?;
            let open = SshBackend::open(endpoint, path, helper, hosts::caller(context), spool);
            Arc::new(open.await?)
        }
    })
}

/// The token that a web server wants.
fn bearer(context: &Context, remote: &Remote) -> Result<Option<Bearer>> {
    let Some(reference) = &remote.token else {
        return Ok(None);
    };
    let token = context.secret(reference)?;
    let refused = |error| {
        let message = format!("the token of {} cannot be sent", remote.name);
        CommandError::bad_input(message).caused_by(&error)
    };
    Bearer::new(token.reveal()).map(Some).map_err(refused)
}

/// The proxies that the environment names, in either spelling.
fn proxies(context: &Context) -> Proxies {
    let variable = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let said = context
            .variables
            .get(name)
            .or(context.variables.get(&lower));
        said.map(str::to_owned)
    };
    let all = variable("ALL_PROXY");
    Proxies {
        https: variable("HTTPS_PROXY").or(all.clone()),
        http: variable("HTTP_PROXY").or(all),
        none_for: variable("NO_PROXY"),
    }
}

/// What this machine keeps for a remote.
fn folder(context: &Context, remote: &Remote) -> Result<PathBuf> {
    context.cache_of("remotes", &remote.place.to_string())
}

/// Where what comes from or goes to a remote lies for a moment.
fn spool(context: &Context, remote: &Remote) -> Result<PathBuf> {
    let spool = folder(context, remote)?.join("spool");
    relstore_store::fs::create_dirs(&spool)?;
    Ok(spool)
}
