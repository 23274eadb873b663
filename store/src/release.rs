//! Releases of a store: their markers and manifests.
//!
//! ```text
//! manifests/<release>[-<n>]      the manifest's text as one zstd frame
//! releases/<release>[-<n>]       marker, written last: this release is complete here
//! ```

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use crate::backend::Content;
use crate::blocking::blocking;
use crate::error::StoreError;
use crate::generation::{Named, split};
use crate::id::{IdPrefix, ReleaseId};
use crate::manifest::{MAX_MANIFEST, Manifest};
use crate::shape::Shape;
use crate::store::Store;

/// What a marker holds.
pub(crate) const MARKER: &[u8] = b"relstore-release 1\n";
/// Level of stored manifests: their bytes are mostly digits of digests, which no level makes smaller
/// than the fastest one, while level 9 takes 14 times as long and gives more bytes.
const MANIFEST_LEVEL: i32 = 1;

/// The object that holds a manifest.
pub(crate) fn manifest_name(release: &ReleaseId) -> Named {
    Named::new(format!("manifests/{release}"), "")
}

/// The object that says that a release is complete.
pub(crate) fn marker_name(release: &ReleaseId) -> Named {
    Named::new(format!("releases/{release}"), "")
}

impl Store {
    /// Whether the release is complete here.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn has_release(&self, release: &ReleaseId) -> Result<bool, StoreError> {
        Ok(self.get_named(&marker_name(release)).await?.is_some())
    }

    /// All complete releases, by id.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn releases(&self) -> Result<Vec<ReleaseId>, StoreError> {
        Ok(self.release_times().await?.into_keys().collect())
    }

    /// All complete releases with the time when the store got the newest marker of each.
    pub(crate) async fn release_times(
        &self,
    ) -> Result<BTreeMap<ReleaseId, SystemTime>, StoreError> {
        let mut times = BTreeMap::new();
        for object in self.backend.list("releases/").await? {
            let Shape::Marker(release) = Shape::of(&object.name) else {
                continue;
            };
            let time = times.entry(release).or_insert(object.modified);
            *time = object.modified.max(*time);
        }
        Ok(times)
    }

    /// Complete releases whose id begins so.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn find(&self, prefix: &IdPrefix) -> Result<Vec<ReleaseId>, StoreError> {
        let releases = self.releases().await?.into_iter();
        Ok(releases.filter(|id| prefix.matches(id)).collect())
    }

    /// The manifest, checked against its id.
    ///
    /// # Errors
    /// [`StoreError::NoRelease`], [`StoreError::Damaged`], [`StoreError::Manifest`].
    pub async fn manifest(&self, release: &ReleaseId) -> Result<Manifest, StoreError> {
        let (name, stored) = self.stored_manifest(release).await?;
        let release = *release;
        // Milliseconds of work: off the workers, and on all cores when many are read.
        let parse = move || {
            let text = decode(&stored, &release);
            let text = text.map_err(|what| StoreError::Damaged { name, what })?;
            Manifest::parse(&text).map_err(|source| StoreError::Manifest { release, source })
        };
        blocking(parse).await?
    }

    /// The manifest's canonical text: its BLAKE3 is the release id.
    ///
    /// # Errors
    /// As [`Store::manifest`].
    pub async fn manifest_text(&self, release: &ReleaseId) -> Result<Vec<u8>, StoreError> {
        let (name, stored) = self.stored_manifest(release).await?;
        decode(&stored, release).map_err(|what| StoreError::Damaged { name, what })
    }

    /// The object that holds a manifest: its name and bytes, not checked.
    async fn stored_manifest(&self, release: &ReleaseId) -> Result<(String, Bytes), StoreError> {
        self.get_named(&manifest_name(release))
            .await?
            .ok_or(StoreError::NoRelease { release: *release })
    }

    /// Stores a manifest, which is that of a release or of what a step made.
    pub(crate) async fn put_manifest(
        &self,
        release: &ReleaseId,
        text: &[u8],
    ) -> Result<(), StoreError> {
        let name = manifest_name(release);
        let stored =
            zstd::bulk::compress(text, MANIFEST_LEVEL).map_err(|source| StoreError::Io {
                what: "compress",
                path: name.to_string().into(),
                source,
            })?;
        self.rely_on_tree(*release);
        match self.put_named(name, stored.into()).await {
            // Another version of zstd writes other bytes for the same text. What counts is that
            // the text is there, verified.
            Err(StoreError::Conflict { .. }) => self.manifest_text(release).await.map(drop),
            put => put,
        }
    }

    /// Says that a release is complete, to be called when its blobs, manifest and records are in;
    /// and makes sure that all of it stays: what is being collected as garbage meanwhile is stored
    /// again.
    ///
    /// # Errors
    /// Those of the backend; [`StoreError::NoBlob`] when content was collected while this program
    /// stood still for longer than the grace period. To be begun again then.
    pub async fn publish(&self, release: &ReleaseId) -> Result<(), StoreError> {
        // Before as well: whoever stood still for longer than the grace period must not make a
        // release visible that has lost something meanwhile.
        self.secure().await?;
        self.put_marker(release).await?;
        self.secure().await?;
        self.settled(release);
        Ok(())
    }

    /// Writes a marker of a generation that was never there: its time says that the release is
    /// wanted now, which nothing else says of one that was stored before.
    async fn put_marker(&self, release: &ReleaseId) -> Result<(), StoreError> {
        let named = marker_name(release);
        let tombstones = self.tombstones().await?;
        let listed = self.backend.list(named.folder()).await?;
        let there = listed.iter().filter(|object| named.is(&object.name));
        let last = there.map(|object| split(&object.name).1).max();
        let from = last.map_or(0, |n| n.saturating_add(1));
        let names = (from..=u32::MAX).map(|n| named.generation(n));
        let name = names.into_iter().find(|name| !tombstones.has(name));
        let name = name.unwrap_or_else(|| named.generation(0));
        let marker = Bytes::from_static(MARKER);
        self.rely_on(named, marker.clone());
        self.backend.put(&name, Content::Bytes(marker)).await
    }
}

/// The text of a stored manifest.
pub(crate) fn decode(stored: &[u8], release: &ReleaseId) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let decoder = zstd::stream::Decoder::new(stored).map_err(|error| error.to_string())?;
    std::io::Read::read_to_end(
        &mut std::io::Read::take(decoder, MAX_MANIFEST + 1),
        &mut text,
    )
    .map_err(|error| error.to_string())?;
    match ReleaseId::of(&text) == *release {
        true => Ok(text),
        false => Err("it does not match its id".into()),
    }
}
