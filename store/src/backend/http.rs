//! Objects behind a web server: `relstore serve`, or any server of static files over the folder of a
//! store. Read only.
//!
//! A web server cannot be asked what there is, so `list` answers from the advisory `listing.zst` that
//! push and gc write, as old as that is; `get` finds an object whether it is listed or not. Every read
//! is bounded, resumed where it was cut, and tried again where another try can help. Whether bytes are
//! the right ones is told by their hashes, which [`Store`](crate::Store) checks as everywhere.

mod client;
mod failure;
mod pause;
mod range;
mod read;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

pub use client::{Bearer, BearerError, Proxies};

use super::{Backend, Content, Object, is_object_name};
use crate::blocking::blocking;
use crate::error::StoreError;
use crate::listing::{LISTING, Listing};
use failure::{Failure, HttpError};
use read::{Answer, Wanted};

/// A listing is not asked for again within this time: one command lists many folders.
const FRESH: Duration = Duration::from_secs(1);

/// What is needed to read a store behind a web server.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `https://host/path/` or `http://host/path/`, as [`Place::Http`](crate::place::Place::Http).
    pub url: String,
    /// Token for the server; sent nowhere else, and never unencrypted over a network.
    pub bearer: Option<Bearer>,
    /// How the server is reached.
    pub proxies: Proxies,
    /// File of certificates (PEM) that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Bounds of every read.
    pub limits: Limits,
}

/// Bounds of every read.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest time until a connection is there.
    pub connect: Duration,
    /// Longest time in which less than 16 KiB arrive, the wait for an answer included.
    pub idle: Duration,
    /// How often a read is tried without progress.
    pub tries: u32,
    /// The pause before the second try; it doubles with each, up to ten seconds.
    pub pause: Duration,
    /// The most bytes that one read may bring into memory.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            tries: 5,
            pause: Duration::from_millis(250),
            bytes: 512 << 20,
        }
    }
}

/// A store behind a web server.
#[derive(Debug)]
pub struct HttpBackend {
    client: reqwest::Client,
    base: Url,
    bearer: Option<Bearer>,
    limits: Limits,
    spool: PathBuf,
    listed: Mutex<Option<Listed>>,
}

/// The listing as it was read last.
#[derive(Debug)]
struct Listed {
    listing: Arc<Listing>,
    etag: Option<HeaderValue>,
    seen: Instant,
}

impl HttpBackend {
    /// Takes a place; nothing is asked before the first read. `spool` is for the trait's sake.
    ///
    /// # Errors
    /// [`StoreError::Remote`] when the settings cannot work: not an URL of a web server, a token
    /// that would cross a network in the clear, certificates or a proxy that cannot be used.
    pub fn open(settings: HttpSettings, spool: PathBuf) -> Result<Self, StoreError> {
        let base = client::base(&settings.url).and_then(|base| {
            client::guard(&base, settings.bearer.as_ref())?;
            Ok(base)
        });
        let made = base.and_then(|base| Ok((client::build(&base, &settings)?, base)));
        let (client, base) = made.map_err(|failure| {
            failure.at("connect to", String::new(), client::shown(&settings.url))
        })?;
        Ok(Self {
            client,
            base,
            bearer: settings.bearer,
            limits: settings.limits,
            spool,
            listed: Mutex::new(None),
        })
    }

    /// Where an object is; `None` when no object can have this name.
    fn url_of(&self, name: &str) -> Option<Url> {
        let mut url = is_object_name(name).then(|| self.base.clone())?;
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .extend(name.split('/'));
        Some(url)
    }

    async fn object(&self, name: &str, wanted: Wanted) -> Result<Option<Bytes>, StoreError> {
        match self.read(name, wanted, None).await? {
            Answer::Body { bytes, .. } => Ok(Some(bytes)),
            Answer::Absent | Answer::NotModified => Ok(None),
        }
    }

    async fn listing(&self) -> Result<Arc<Listing>, StoreError> {
        let mut listed = self.listed.lock().await;
        let known = match listed.as_ref() {
            Some(listed) if listed.seen.elapsed() < FRESH => return Ok(listed.listing.clone()),
            Some(listed) => listed.etag.clone(),
            None => None,
        };
        let failed = |error| Failure::last(error).at("list", LISTING.into(), self.place());
        match (self.read(LISTING, Wanted::ALL, known).await?, &mut *listed) {
            (Answer::NotModified, Some(listed)) => {
                listed.seen = Instant::now();
                Ok(listed.listing.clone())
            }
            (Answer::Body { bytes, etag }, _) => {
                let listing = blocking(move || Listing::decode(&bytes)).await?;
                let listing = Arc::new(listing.map_err(|error| failed(error.into()))?);
                *listed = Some(Listed {
                    listing: Arc::clone(&listing),
                    etag,
                    seen: Instant::now(),
                });
                Ok(listing)
            }
            (Answer::Absent | Answer::NotModified, _) => Err(failed(HttpError::NoListing)),
        }
    }

    fn read_only<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::ReadOnly {
            place: self.place(),
        })
    }
}

#[async_trait]
impl Backend for HttpBackend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.object(name, Wanted::ALL).await
    }

    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let wanted = Wanted {
            offset,
            length: Some(length),
        };
        self.object(name, wanted).await
    }

    async fn put(&self, _: &str, _: Content) -> Result<(), StoreError> {
        self.read_only()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        Ok(self.listing().await?.below(prefix).to_vec())
    }

    async fn delete(&self, _: &str) -> Result<(), StoreError> {
        self.read_only()
    }

    async fn put_advisory(&self, _: &str, _: Bytes) -> Result<(), StoreError> {
        self.read_only()
    }

    fn spool(&self) -> PathBuf {
        self.spool.clone()
    }

    fn place(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

#[cfg(test)]
mod tests;
