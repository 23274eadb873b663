//! Typed put and get over a [`Backend`]; every read is verified.
//!
//! ```text
//! format.json                              version and feature flags
//! bundles/<hash>-<n>.tar.zst      blobs, see `bundle`
//! index/<hash>-<n>                a bundle's table of contents
//! manifests/, releases/           see `release`
//! records/                        see `record`
//! derivations/, packages/         see `derivation`, `package`
//! refs/, pins/, environments/     see `refs`
//! tombstones/, probes/            see `tombstone`, `gc`
//! ```
//! `<n>` is a generation, see `generation`: 0 at first, and only written in names of bundles and
//! indexes then.
//! A name is published only after all it refers to is durable: bundle, index, manifest, records,
//! marker, refs. A crash leaves at most objects that nothing refers to.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, mpsc};

use crate::backend::{Backend, Content, folder::PRIVATE, local::LocalBackend};
use crate::error::{IoContext, StoreError};
use crate::id::BlobId;
use crate::index::Index;
use crate::relied::Relied;
use crate::tombstone::Tombstones;

/// Content of `format.json`. Flags as ext4 has them: a program that does not know a `compatible`
/// one may go on, a `read_only_compatible` one may read, an `incompatible` one must stop.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Format {
    version: u32,
    compatible: Vec<String>,
    read_only_compatible: Vec<String>,
    incompatible: Vec<String>,
}

/// Name of the object that says what kind of store this is.
pub(crate) const FORMAT: &str = "format.json";
/// How many reads of a bundle run ahead of who wants the blobs.
const READ_AHEAD: usize = 4;

/// A store.
#[derive(Debug)]
pub struct Store {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) index: RwLock<Option<Arc<Index>>>,
    pub(crate) tombstones: RwLock<Option<Arc<Tombstones>>>,
    pub(crate) relied: Relied,
}

impl Store {
    /// Opens the store in a folder.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::Format`].
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_backend(Arc::new(LocalBackend::new(folder.to_owned()))).await
    }

    /// Opens the store in a folder, which is made when it holds none. A folder that holds other
    /// things is refused: a store is never mixed with foreign files.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Occupied`].
    pub async fn open_or_create(folder: &Path) -> Result<Self, StoreError> {
        match Self::open(folder).await {
            Err(StoreError::NoStore { place }) => {
                if holds_other_files(folder) {
                    return match Self::open(folder).await {
                        // Somebody else made it meanwhile.
                        Ok(store) => Ok(store),
                        Err(_) => Err(StoreError::Occupied { place }),
                    };
                }
                let backend = LocalBackend::new(folder.to_owned());
                crate::fs::create_dirs(&backend.spool())?;
                Self::create_backend(Arc::new(backend)).await
            }
            opened => opened,
        }
    }

    /// Makes sure that [`Store::open_or_create`] will succeed and its store can be written, as far
    /// as that can be told without leaving a trace: for work that takes long before it stores.
    ///
    /// # Errors
    /// As [`Store::open_or_create`], and [`StoreError::Io`].
    pub async fn check_place(folder: &Path) -> Result<(), StoreError> {
        let folders = match Self::open(folder).await {
            Ok(_) => {
                let below = std::fs::read_dir(folder).at("list", folder)?.flatten();
                let mut folders = vec![folder.to_owned()];
                let ours = below.filter(|entry| entry.file_name() != PRIVATE);
                folders.extend(ours.map(|entry| entry.path()).filter(|path| path.is_dir()));
                folders
            }
            Err(StoreError::NoStore { place }) if holds_other_files(folder) => {
                return Err(StoreError::Occupied { place });
            }
            Err(StoreError::NoStore { .. }) => {
                let nearest = folder.ancestors().find(|path| path.exists());
                vec![nearest.unwrap_or(Path::new(".")).to_owned()]
            }
            Err(error) => return Err(error),
        };
        for folder in folders {
            // Never has a name where the file system allows that, else loses it at once.
            tempfile::tempfile_in(&folder).at("create a file in", &folder)?;
        }
        Ok(())
    }

    /// Makes a store on an empty backend.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn create_backend(backend: Arc<dyn Backend>) -> Result<Self, StoreError> {
        backend.put(FORMAT, Content::Bytes(format_json())).await?;
        Self::open_backend(backend).await
    }

    /// Opens the store on a backend.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::Format`].
    pub async fn open_backend(backend: Arc<dyn Backend>) -> Result<Self, StoreError> {
        let place = backend.place();
        let Some(json) = backend.get(FORMAT).await? else {
            return Err(StoreError::NoStore { place });
        };
        read_format(&json, &place)?;
        Ok(Self::over(backend))
    }

    /// A store whose format was not looked at.
    pub(crate) fn over(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            index: RwLock::new(None),
            tombstones: RwLock::new(None),
            relied: Relied::default(),
        }
    }

    /// The backend alone, for who serves its objects as they are.
    #[must_use]
    pub fn into_backend(self) -> Arc<dyn Backend> {
        self.backend
    }

    /// Path or URL, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.backend.place()
    }

    /// All blobs of the store; loaded at first use.
    ///
    /// # Errors
    /// Those of the backend, and [`StoreError::Damaged`].
    pub async fn index(&self) -> Result<Arc<Index>, StoreError> {
        if let Some(index) = self.index.read().await.as_ref() {
            return Ok(Arc::clone(index));
        }
        let mut slot = self.index.write().await;
        if let Some(index) = slot.as_ref() {
            return Ok(Arc::clone(index));
        }
        let tombstones = self.tombstones().await?;
        let index = Arc::new(Index::load(self.backend.as_ref(), &tombstones).await?);
        self.rely_on_bundles(index.bundles());
        *slot = Some(Arc::clone(&index));
        Ok(index)
    }

    /// One blob's bytes, checked against its id.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`], [`StoreError::Damaged`].
    pub async fn read_blob(&self, blob: &BlobId) -> Result<Bytes, StoreError> {
        let index = self.index().await?;
        let reads = index.plan_reads(&[*blob])?;
        let read = reads.first().ok_or(StoreError::NoBlob { blob: *blob })?;
        let found = index.read(self.backend.as_ref(), read).await?;
        found
            .into_iter()
            .next()
            .map(|(_, bytes)| bytes)
            .ok_or(StoreError::NoBlob { blob: *blob })
    }

    /// Streams blobs in the order in which they lie in the store, each checked against its id and
    /// each frame read once. The stream ends after the first error.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`] at once when one is missing.
    pub async fn read_blobs(
        &self,
        blobs: &[BlobId],
    ) -> Result<mpsc::Receiver<Result<(BlobId, Bytes), StoreError>>, StoreError> {
        let index = self.index().await?;
        let reads = index.plan_reads(blobs)?;
        let (sender, receiver) = mpsc::channel(64);
        let backend = Arc::clone(&self.backend);
        tokio::spawn(async move {
            use futures::StreamExt;
            let one = |read| {
                let (backend, index) = (Arc::clone(&backend), Arc::clone(&index));
                async move { index.read(backend.as_ref(), &read).await }
            };
            let mut found = futures::stream::iter(reads).map(one).buffered(READ_AHEAD);
            while let Some(result) = found.next().await {
                match result {
                    Ok(contents) => {
                        for content in contents {
                            if sender.send(Ok(content)).await.is_err() {
                                return; // nobody wants the rest
                            }
                        }
                    }
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
        });
        Ok(receiver)
    }
}

/// What `format.json` of version 1 holds.
pub(crate) fn format_json() -> Bytes {
    let format = Format {
        version: 1,
        compatible: vec![],
        read_only_compatible: vec![],
        incompatible: vec![],
    };
    let mut json = serde_json::to_vec(&format).expect("plain strings and numbers are JSON");
    json.push(b'\n');
    json.into()
}

/// Checks that this program may read and write a store with this `format.json`.
pub(crate) fn read_format(json: &[u8], place: &str) -> Result<(), StoreError> {
    let format: Format = serde_json::from_slice(json).map_err(|error| StoreError::Damaged {
        name: FORMAT.into(),
        what: error.to_string(),
    })?;
    let refuse = |what: String| StoreError::Format {
        place: place.to_owned(),
        what,
    };
    if format.version != 1 {
        return Err(refuse(format!("version {}", format.version)));
    }
    let unknown = format.incompatible.first();
    match unknown.or(format.read_only_compatible.first()) {
        Some(feature) => Err(refuse(format!("feature `{feature}`"))),
        None => Ok(()),
    }
}

/// Whether a folder without `format.json` holds more than the beginning of a store, which a crash
/// or a full disk leaves and another program may be making right now.
fn holds_other_files(folder: &Path) -> bool {
    let foreign = |folder: &Path, ours: &str| {
        let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.any(|entry| {
            let name = entry.file_name();
            name != ours
                && name != PRIVATE
                && !name
                    .as_encoded_bytes()
                    .starts_with(crate::fs::TEMP_PREFIX.as_bytes())
        })
    };
    foreign(folder, "bundles") || foreign(&folder.join("bundles"), "")
}
