//! `[store]`: where releases are kept, here and elsewhere, and for how long.

use std::path::PathBuf;

use relstore_store::gc::Retention;
use relstore_store::place::Place as StorePlace;

use super::SecretRef;
use super::problem::{Placed, nearest};
use super::raw::{RawRemote, RawSecret, RawStore};
use super::resolver::Resolver;
use super::value;

/// The name of the remote that `store.remote` gives a URL.
pub(crate) const DEFAULT: &str = "default";

/// `[store.remotes.NAME]`: a store elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// How people call it: its name, else its URL.
    pub(crate) name: String,
    pub(crate) place: StorePlace,
    /// Of S3: the server, when it is not Amazon's.
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) path_style: bool,
    /// Of HTTP: the bearer token.
    pub(crate) token: Option<SecretRef>,
    /// Of SSH: as in an environment.
    pub(crate) identity_file: Option<PathBuf>,
    pub(crate) known_hosts: Option<PathBuf>,
    /// Whether releases are taken only when an allowed signer signed them.
    pub(crate) require_signatures: bool,
}

impl Remote {
    /// A place that nothing more is said about.
    pub(crate) fn at(place: StorePlace) -> Self {
        Self {
            name: place.to_string(),
            place,
            endpoint: None,
            region: None,
            path_style: false,
            token: None,
            identity_file: None,
            known_hosts: None,
            require_signatures: false,
        }
    }
}

/// `[store]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoreSettings {
    /// The folder; `None` when neither the file nor a home folder says where.
    pub(crate) path: Option<PathBuf>,
    /// In the order of their names; what `store.remote` says comes first.
    pub(crate) remotes: Vec<Remote>,
    /// Whether the first remote is the one that is meant when none is named.
    pub(crate) has_default: bool,
    pub(crate) retention: Retention,
}

impl Resolver<'_> {
    /// The section.
    pub(super) fn store(&mut self, raw: &RawStore) -> StoreSettings {
        let mut remotes: Vec<Remote> = raw
            .remotes
            .iter()
            .filter_map(|(name, remote)| self.remote(name, remote))
            .collect();
        let mut has_default = false;
        if let Some(text) = self.text("store.remote", raw.remote.as_ref()) {
            if let Some(at) = remotes.iter().position(|remote| remote.name == text.value) {
                remotes[..=at].rotate_right(1);
                has_default = true;
            } else if text.value.contains(['/', ':']) {
                if let Some(place) = self.place("store.remote", raw.remote.as_ref()) {
                    let name = DEFAULT.to_owned();
                    remotes.insert(
                        0,
                        Remote {
                            name,
                            ..Remote::at(place)
                        },
                    );
                    has_default = true;
                }
            } else if !raw.remotes.contains_key(&text.value) {
                let near = nearest(&text.value, raw.remotes.keys().map(String::as_str));
                let message = match near {
                    Some(near) => format!("is no remote, did you mean `{near}`?"),
                    None => "is neither a URL nor the name of a [store.remotes.NAME]".to_owned(),
                };
                let message = format!("{:?} {message}", text.value);
                self.problem(Some(text.place), "store.remote", message);
            }
        }
        StoreSettings {
            path: self
                .text("store.path", raw.path.as_ref())
                .map(|path| self.path(&path.value)),
            remotes,
            has_default,
            retention: self.retention(raw),
        }
    }

    fn retention(&mut self, raw: &RawStore) -> Retention {
        let default = Retention::default();
        let mut time = |key: &str, raw, default| {
            self.checked(&format!("store.{key}"), raw, value::retention)
                .unwrap_or(default)
        };
        Retention {
            keep_for: time("keep_for", raw.keep_for.as_ref(), default.keep_for),
            keep_derivations: time(
                "keep_derivations",
                raw.keep_derivations.as_ref(),
                default.keep_derivations,
            ),
            grace: time("grace", raw.grace.as_ref(), default.grace),
            keep_last: self.number("store.keep_last", raw.keep_last.as_ref(), 10) as usize,
            repack: true,
        }
    }

    fn remote(&mut self, name: &str, raw: &RawRemote) -> Option<Remote> {
        let key = |key: &str| format!("store.remotes.{name}.{key}");
        if let Err(message) = value::name(name) {
            self.problem(raw.place, &format!("store.remotes.{name}"), message);
        }
        let place = self.place(&key("url"), raw.url.as_ref());
        let token = raw
            .token
            .as_ref()
            .and_then(|secret| self.secret(&key("token"), secret));
        let mut file = |name: &str, raw: Option<&Placed<String>>| {
            let text = self.text(&key(name), raw)?;
            Some(self.path(&text.value))
        };
        let identity_file = file("identity_file", raw.identity_file.as_ref());
        let known_hosts = file("known_hosts", raw.known_hosts.as_ref());
        let remote = Remote {
            name: name.to_owned(),
            identity_file,
            known_hosts,
            endpoint: self.checked(&key("endpoint"), raw.endpoint.as_ref(), value::url),
            region: self
                .text(&key("region"), raw.region.as_ref())
                .map(|text| text.value),
            path_style: raw.path_style.as_ref().is_some_and(|raw| raw.value),
            token,
            require_signatures: raw.require_signatures.as_ref().is_some_and(|raw| raw.value),
            place: place?,
        };
        let is_s3 = matches!(remote.place, StorePlace::S3 { .. });
        let is_http = matches!(remote.place, StorePlace::Http(_));
        let is_ssh = matches!(remote.place, StorePlace::Ssh { .. });
        for (present, fits, kind, what) in [
            (remote.endpoint.is_some(), is_s3, "s3", "endpoint"),
            (remote.region.is_some(), is_s3, "s3", "region"),
            (raw.path_style.is_some(), is_s3, "s3", "path_style"),
            (remote.token.is_some(), is_http, "https", "token"),
            (
                remote.identity_file.is_some(),
                is_ssh,
                "ssh",
                "identity_file",
            ),
            (remote.known_hosts.is_some(), is_ssh, "ssh", "known_hosts"),
        ] {
            if present && !fits {
                let message = format!("is for {kind}:// only");
                self.problem(raw.place, &key(what), message);
            }
        }
        Some(remote)
    }

    fn place(&mut self, key: &str, raw: Option<&Placed<String>>) -> Option<StorePlace> {
        let place =
            |text: &str| StorePlace::parse(text).map_err(|error| format!("is refused: {error}"));
        Some(match self.checked(key, raw, place)? {
            StorePlace::Folder(path) => StorePlace::Folder(self.path(&path.to_string_lossy())),
            place => place,
        })
    }

    /// Where a secret is read from.
    pub(super) fn secret(&mut self, key: &str, raw: &RawSecret) -> Option<SecretRef> {
        match raw {
            RawSecret::Variable(name) => {
                let check = |text: &str| match super::variables::is_name(text) {
                    true => Ok(text.to_owned()),
                    false => Err("is no name of an environment variable".to_owned()),
                };
                self.checked(&format!("{key}.env"), Some(name), check)
                    .map(SecretRef::Variable)
            }
            RawSecret::File(file) => {
                let text = self.text(&format!("{key}.file"), Some(file));
                text.map(|text| SecretRef::File(self.path(&text.value)))
            }
        }
    }
}
