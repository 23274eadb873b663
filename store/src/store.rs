//! Typed put and get over a [`Backend`]; every read is verified.
//!
//! ```text
//! format.json                              version and feature flags
//! bundles/<hash>-<generation>.tar.zst      blobs, see `bundle`
//! index/<hash>-<generation>                a bundle's table of contents
//! manifests/<release>                      the manifest's text as one zstd frame
//! releases/<release>                       marker, written last: this release is complete here
//! records/<release>/<record>.json          what is said about a release
//! records/<release>/<record>.<key>.sig     who said it: a signature over the record, see `signature`
//! refs/commits/<sha>/<release>             which releases were built from a commit
//! environments/<env>/ledger/<host>/<n>-<hash>.json   copy of a host's ledger
//! ```
//! A name is published only after all it refers to is durable: bundle, index, manifest, records,
//! marker, refs. A crash leaves at most objects that nothing refers to.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, mpsc};

use crate::backend::{Backend, Content, local::LocalBackend};
use crate::error::{IoContext, StoreError};
use crate::id::{BlobId, IdPrefix, RecordId, ReleaseId};
use crate::index::Index;
use crate::manifest::{MAX_MANIFEST, Manifest};
use crate::signature::Signature;

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

const FORMAT: &str = "format.json";
const MARKER: &[u8] = b"relstore-release 1\n";
/// Level of stored manifests: their bytes are mostly digits of digests, which no level makes smaller
/// than the fastest one, while level 9 takes 14 times as long and gives more bytes.
const MANIFEST_LEVEL: i32 = 1;
/// How many reads of a bundle run ahead of who wants the blobs.
const READ_AHEAD: usize = 4;

/// A store.
#[derive(Debug)]
pub struct Store {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) index: RwLock<Option<Arc<Index>>>,
}

/// A record with its id.
#[derive(Debug, Clone)]
pub struct Record {
    /// BLAKE3 of `json`.
    pub id: RecordId,
    /// The exact bytes.
    pub json: Bytes,
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
                folders.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
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
        let format = Format {
            version: 1,
            compatible: vec![],
            read_only_compatible: vec![],
            incompatible: vec![],
        };
        let mut json = serde_json::to_vec(&format).expect("plain strings and numbers are JSON");
        json.push(b'\n');
        backend.put(FORMAT, Content::Bytes(json.into())).await?;
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
        let format: Format =
            serde_json::from_slice(&json).map_err(|error| StoreError::Damaged {
                name: FORMAT.into(),
                what: error.to_string(),
            })?;
        let unknown = format
            .incompatible
            .first()
            .or(format.read_only_compatible.first());
        if format.version != 1 {
            return Err(StoreError::Format {
                place,
                what: format!("version {}", format.version),
            });
        }
        if let Some(feature) = unknown {
            return Err(StoreError::Format {
                place,
                what: format!("feature `{feature}`"),
            });
        }
        Ok(Self {
            backend,
            index: RwLock::new(None),
        })
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
        let index = Arc::new(Index::load(self.backend.as_ref()).await?);
        *slot = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Whether the release is complete here.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn has_release(&self, release: &ReleaseId) -> Result<bool, StoreError> {
        Ok(self
            .backend
            .get(&format!("releases/{release}"))
            .await?
            .is_some())
    }

    /// All complete releases, by id.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn releases(&self) -> Result<Vec<ReleaseId>, StoreError> {
        let objects = self.backend.list("releases/").await?;
        Ok(objects
            .iter()
            .filter_map(|object| object.name.strip_prefix("releases/")?.parse().ok())
            .collect())
    }

    /// Complete releases whose id begins so.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn find(&self, prefix: &IdPrefix) -> Result<Vec<ReleaseId>, StoreError> {
        Ok(self
            .releases()
            .await?
            .into_iter()
            .filter(|id| prefix.matches(id))
            .collect())
    }

    /// The release something was said about last: every build adds a record, so this is the one
    /// that was built last, even when its content is older.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn latest(&self) -> Result<Option<ReleaseId>, StoreError> {
        let mut records = self.backend.list("records/").await?;
        records.sort_by_key(|object| object.modified);
        let named = |name: &str| {
            name.strip_prefix("records/")?
                .split('/')
                .next()?
                .parse()
                .ok()
        };
        for object in records.iter().rev() {
            if let Some(release) = named(&object.name)
                && self.has_release(&release).await?
            {
                return Ok(Some(release));
            }
        }
        Ok(None)
    }

    /// The manifest, checked against its id.
    ///
    /// # Errors
    /// [`StoreError::NoRelease`], [`StoreError::Damaged`], [`StoreError::Manifest`].
    pub async fn manifest(&self, release: &ReleaseId) -> Result<Manifest, StoreError> {
        let text = self.manifest_text(release).await?;
        Manifest::parse(&text).map_err(|source| StoreError::Manifest {
            release: *release,
            source,
        })
    }

    /// The manifest's canonical text: its BLAKE3 is the release id.
    ///
    /// # Errors
    /// As [`Store::manifest`].
    pub async fn manifest_text(&self, release: &ReleaseId) -> Result<Vec<u8>, StoreError> {
        let name = format!("manifests/{release}");
        let stored = self
            .backend
            .get(&name)
            .await?
            .ok_or(StoreError::NoRelease { release: *release })?;
        let damaged = |what: String| StoreError::Damaged {
            name: name.clone(),
            what,
        };
        let mut text = Vec::new();
        let decoder = zstd::stream::Decoder::new(stored.as_ref())
            .map_err(|error| damaged(error.to_string()))?;
        std::io::Read::read_to_end(
            &mut std::io::Read::take(decoder, MAX_MANIFEST + 1),
            &mut text,
        )
        .map_err(|error| damaged(error.to_string()))?;
        if ReleaseId::of(&text) == *release {
            Ok(text)
        } else {
            Err(damaged("it does not match its id".into()))
        }
    }

    pub(crate) async fn put_manifest(
        &self,
        release: &ReleaseId,
        text: &[u8],
    ) -> Result<(), StoreError> {
        let name = format!("manifests/{release}");
        let stored =
            zstd::bulk::compress(text, MANIFEST_LEVEL).map_err(|source| StoreError::Io {
                what: "compress",
                path: (&name).into(),
                source,
            })?;
        match self.backend.put(&name, Content::Bytes(stored.into())).await {
            // Another version of zstd writes other bytes for the same text. What counts is that
            // the text is there, verified.
            Err(StoreError::Conflict { .. }) => self.manifest_text(release).await.map(drop),
            put => put,
        }
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

    /// Says that a release is complete; to be called when its blobs, manifest and records are in.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn publish(&self, release: &ReleaseId) -> Result<(), StoreError> {
        self.backend
            .put(
                &format!("releases/{release}"),
                Content::Bytes(Bytes::from_static(MARKER)),
            )
            .await
    }

    /// Adds a record: JSON that says something about a release. Its exact bytes are kept.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put_record(
        &self,
        release: &ReleaseId,
        json: &[u8],
    ) -> Result<RecordId, StoreError> {
        let id = RecordId::of(json);
        let name = format!("records/{release}/{id}.json");
        self.backend
            .put(&name, Content::Bytes(Bytes::copy_from_slice(json)))
            .await?;
        Ok(id)
    }

    /// All records about a release, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one does not hash to its name.
    pub async fn records(&self, release: &ReleaseId) -> Result<Vec<Record>, StoreError> {
        let mut found = self.records_in(&format!("records/{release}/")).await?;
        found.sort_by(|(a, a_time), (b, b_time)| (a_time, a.id).cmp(&(b_time, b.id)));
        Ok(found.into_iter().map(|(record, _)| record).collect())
    }

    /// All records in a folder, whose name ends in `/`, with the time when the store got them.
    pub(crate) async fn records_in(
        &self,
        prefix: &str,
    ) -> Result<Vec<(Record, SystemTime)>, StoreError> {
        let mut records = Vec::new();
        for object in self.backend.list(prefix).await? {
            let stem = object
                .name
                .strip_prefix(prefix)
                .and_then(|name| name.strip_suffix(".json"));
            let Some(id) = stem.and_then(|stem| stem.parse::<RecordId>().ok()) else {
                continue;
            };
            let Some(json) = self.backend.get(&object.name).await? else {
                continue;
            };
            if RecordId::of(&json) != id {
                return Err(StoreError::Damaged {
                    name: object.name,
                    what: "it does not match its id".into(),
                });
            }
            records.push((Record { id, json }, object.modified));
        }
        Ok(records)
    }

    /// Adds a signature over a record; the record need not be there yet. A second signature by the
    /// same key says nothing new (ECDSA never gives the same twice), so the first one stays.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put_signature(
        &self,
        release: &ReleaseId,
        record: &RecordId,
        signature: &Signature,
    ) -> Result<(), StoreError> {
        self.put_signature_beside(&format!("records/{release}/{record}"), signature)
            .await
    }

    /// Adds a signature over the object `<name>.json`.
    pub(crate) async fn put_signature_beside(
        &self,
        name: &str,
        signature: &Signature,
    ) -> Result<(), StoreError> {
        let key = signature.fingerprint().hex();
        let name = format!("{name}.{key}.sig");
        let text = Bytes::copy_from_slice(signature.text().as_bytes());
        match self.backend.put(&name, Content::Bytes(text)).await {
            Err(StoreError::Conflict { .. }) => self.signature(&name, &key).await.map(drop),
            put => put,
        }
    }

    /// All signatures over records of a release, sorted by record, then key. They are as found:
    /// whether they are right and by whom is told by
    /// [`AllowedSigners`](crate::allowed_signers::AllowedSigners).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one cannot be read or is not by the key of its name.
    pub async fn signatures(
        &self,
        release: &ReleaseId,
    ) -> Result<Vec<(RecordId, Signature)>, StoreError> {
        self.signatures_in(&format!("records/{release}/")).await
    }

    /// All signatures in a folder of records, whose name ends in `/`.
    pub(crate) async fn signatures_in(
        &self,
        prefix: &str,
    ) -> Result<Vec<(RecordId, Signature)>, StoreError> {
        let mut found = Vec::new();
        for object in self.backend.list(prefix).await? {
            let stem = object
                .name
                .strip_prefix(prefix)
                .and_then(|name| name.strip_suffix(".sig"));
            let Some((record, key)) = stem.and_then(|stem| stem.split_once('.')) else {
                continue;
            };
            let Ok(record) = record.parse::<RecordId>() else {
                continue;
            };
            if let Some(signature) = self.signature(&object.name, key).await? {
                found.push((record, key.to_owned(), signature));
            }
        }
        found.sort_by(|(a, a_key, _), (b, b_key, _)| (a, a_key).cmp(&(b, b_key)));
        let plain = |(record, _, signature)| (record, signature);
        Ok(found.into_iter().map(plain).collect())
    }

    async fn signature(&self, name: &str, key: &str) -> Result<Option<Signature>, StoreError> {
        let Some(text) = self.backend.get(name).await? else {
            return Ok(None);
        };
        let damaged = |what: String| StoreError::Damaged {
            name: name.to_owned(),
            what,
        };
        let signature = Signature::parse(&text).map_err(|error| damaged(error.to_string()))?;
        if signature.fingerprint().hex() != key {
            return Err(damaged("it is not by the key in its name".into()));
        }
        Ok(Some(signature))
    }

    /// Remembers that a commit (40 or 64 hex digits) was built into a release. Several releases
    /// for one commit are kept side by side: they show that the build is not reproducible.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn add_commit(&self, commit: &str, release: &ReleaseId) -> Result<(), StoreError> {
        self.backend
            .put(
                &format!("refs/commits/{commit}/{release}"),
                Content::Bytes(Bytes::new()),
            )
            .await
    }

    /// The releases built from a commit.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn releases_of_commit(&self, commit: &str) -> Result<Vec<ReleaseId>, StoreError> {
        let prefix = format!("refs/commits/{commit}/");
        let objects = self.backend.list(&prefix).await?;
        Ok(objects
            .iter()
            .filter_map(|object| object.name.strip_prefix(&prefix)?.parse().ok())
            .collect())
    }

    /// All (commit, release) pairs.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn commits(&self) -> Result<Vec<(String, ReleaseId)>, StoreError> {
        let objects = self.backend.list("refs/commits/").await?;
        let pair = |name: &str| {
            let (commit, release) = name.strip_prefix("refs/commits/")?.split_once('/')?;
            Some((commit.to_owned(), release.parse().ok()?))
        };
        Ok(objects
            .iter()
            .filter_map(|object| pair(&object.name))
            .collect())
    }

    /// Keeps a copy of one line of a host's ledger. `environment` and `host` are escaped into
    /// one name each.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put_ledger(
        &self,
        environment: &str,
        host: &str,
        number: u64,
        hash: &str,
        line: &str,
    ) -> Result<(), StoreError> {
        let (environment, host) = (segment(environment), segment(host));
        // The hash is what the host says: a word of another machine.
        let name = format!(
            "environments/{environment}/ledger/{host}/{number:08}-{}.json",
            segment(hash)
        );
        self.backend
            .put(&name, Content::Bytes(Bytes::from(format!("{line}\n"))))
            .await
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
                && !name
                    .as_encoded_bytes()
                    .starts_with(crate::fs::TEMP_PREFIX.as_bytes())
        })
    };
    foreign(folder, "bundles") || foreign(&folder.join("bundles"), "")
}

/// Any text as one name: letters, digits, `-`, `_`, `.` (not first) as they are, others `%hh`.
fn segment(text: &str) -> String {
    let mut out = String::new();
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_is_one_segment() {
        assert_eq!(segment("app1.example.com"), "app1.example.com");
        assert_eq!(segment("../x"), "%2e.%2fx");
        assert_eq!(segment("[::1]:22"), "%5b%3a%3a1%5d%3a22");
    }
}
