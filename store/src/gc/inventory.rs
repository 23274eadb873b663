//! All that is in a store, as far as it decides what stays.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;

use super::roots;
use super::{PARALLEL, Retention};
use crate::backend::{Backend, Content, Object};
use crate::error::StoreError;
use crate::id::{BlobId, RecordId, ReleaseId};
use crate::shape::Shape;
use crate::store::Store;
use crate::tombstone::Tombstones;

/// A bundle with its table.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    /// Object name.
    pub(super) name: String,
    /// Length in bytes.
    pub(super) size: u64,
    /// When the store got it.
    pub(super) modified: SystemTime,
    /// Its blobs and their raw lengths.
    pub(super) blobs: Vec<(BlobId, u64)>,
}

/// The facts.
#[derive(Debug)]
pub(super) struct Inventory {
    /// The time of the store.
    pub(super) now: SystemTime,
    /// Every object, by name.
    pub(super) objects: Vec<Object>,
    /// Every tombstone.
    pub(super) tombstones: Tombstones,
    /// Releases that something keeps.
    pub(super) live: BTreeSet<ReleaseId>,
    /// Trees that build steps made and that are kept.
    pub(super) trees: BTreeSet<ReleaseId>,
    /// Blobs of both.
    pub(super) blobs: HashSet<BlobId>,
    /// Bundles whose tables can be read; others are left alone.
    pub(super) bundles: Vec<Bundle>,
}

impl Store {
    /// Collects the facts. Tombstones are looked at first and everything else after them: what was
    /// published before a tombstone is then seen by whoever acts on it.
    pub(super) async fn inventory(&self, retention: &Retention) -> Result<Inventory, StoreError> {
        let now = self.now().await?;
        *self.index.write().await = None;
        *self.tombstones.write().await = None;
        let tombstones = Tombstones::clone(self.tombstones().await?.as_ref());
        let objects = self.backend.list("").await?;
        let index = self.index().await?;
        let since = |age| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let served = roots::served(self.backend.as_ref(), &objects, since(retention.keep_for));
        let live = roots::live(&objects, &served.await?, retention, now)?;
        let trees = self
            .trees(&objects, since(retention.keep_derivations))
            .await?;
        let blobs = self.blobs_of(live.union(&trees).copied().collect()).await?;
        let sizes: BTreeMap<&str, &Object> = objects.iter().map(|o| (o.name.as_str(), o)).collect();
        let bundles = index.tables().filter_map(|(name, toc)| {
            let object = sizes.get(name)?;
            Some(Bundle {
                name: name.to_owned(),
                size: object.size,
                modified: object.modified,
                blobs: toc
                    .slots()
                    .iter()
                    .map(|slot| (slot.blob, slot.length))
                    .collect(),
            })
        });
        let bundles = bundles.collect();
        drop(sizes);
        Ok(Inventory {
            now,
            objects,
            tombstones,
            live,
            trees,
            blobs,
            bundles,
        })
    }

    /// Trees that derivations name which the store got since then.
    async fn trees(
        &self,
        objects: &[Object],
        since: SystemTime,
    ) -> Result<BTreeSet<ReleaseId>, StoreError> {
        #[derive(Deserialize)]
        struct Made {
            tree: ReleaseId,
        }
        let derivation = |object: &Object| match Shape::of(&object.name) {
            Shape::Derivation(_, id) => Some((object.name.clone(), id)),
            _ => None,
        };
        let young = objects.iter().filter(|object| object.modified >= since);
        let kept: Vec<_> = young.filter_map(derivation).collect();
        let tree = |(name, id): (String, RecordId)| async move {
            let Some(json) = self.backend.get(&name).await? else {
                return Ok(None);
            };
            // One that is damaged is never used, so it keeps nothing.
            let sound = RecordId::of(&json) == id;
            let made = serde_json::from_slice::<Made>(&json).ok().filter(|_| sound);
            Ok::<_, StoreError>(made.map(|made| made.tree))
        };
        let trees: Vec<Option<ReleaseId>> = futures::stream::iter(kept)
            .map(tree)
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        let mut there = BTreeSet::new();
        for object in objects {
            if let Shape::Manifest(tree) = Shape::of(&object.name) {
                there.insert(tree);
            }
        }
        // A derivation whose tree is gone is not used either.
        Ok(trees
            .into_iter()
            .flatten()
            .filter(|tree| there.contains(tree))
            .collect())
    }

    /// The blobs of all these manifests.
    async fn blobs_of(&self, trees: Vec<ReleaseId>) -> Result<HashSet<BlobId>, StoreError> {
        let read = |tree: ReleaseId| async move {
            let manifest = self.manifest(&tree).await?;
            Ok::<_, StoreError>(manifest.blobs().into_keys().collect::<Vec<BlobId>>())
        };
        let mut blobs = HashSet::new();
        let mut found = futures::stream::iter(trees)
            .map(read)
            .buffer_unordered(PARALLEL);
        while let Some(more) = found.next().await {
            blobs.extend(more?);
        }
        Ok(blobs)
    }
}

/// The time of a store: that of an object which was just written, and is removed again.
pub(super) async fn now(backend: &dyn Backend) -> Result<SystemTime, StoreError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = blake3::Hasher::new();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    hasher.update(format!("{} {count} {:?}", std::process::id(), SystemTime::now()).as_bytes());
    let name = format!("probes/{}", hasher.finalize().to_hex());
    backend.put(&name, Content::Bytes(Bytes::new())).await?;
    let listed = backend.list("probes/").await?;
    backend.delete(&name).await?;
    let probe = listed.into_iter().find(|object| object.name == name);
    probe
        .map(|object| object.modified)
        .ok_or_else(|| StoreError::Damaged {
            name,
            what: "it is not listed although it was just written".into(),
        })
}
