//! What a writer relies on, and how it makes sure that garbage collection leaves it alone.
//!
//! A writer that publishes a release relies on objects: some it wrote, some were there. After each
//! publication it reads the tombstones, and whatever it relies on that has one, or is gone, is
//! stored again under the next generation; until nothing has to be. See [`crate::tombstone`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::backend::Content;
use crate::error::StoreError;
use crate::generation::Named;
use crate::id::{BlobId, ReleaseId};
use crate::index::Index;
use crate::release::{manifest_name, marker_name};
use crate::store::Store;
use crate::tombstone::Tombstones;

/// How often objects are stored again before it is clear that something else is wrong. Each time
/// needs a collection that began meanwhile and waited out its grace period.
const ATTEMPTS: usize = 8;

/// All that was relied on through one opened store.
#[derive(Debug, Default)]
pub(crate) struct Relied(Mutex<Things>);

#[derive(Debug, Default)]
struct Things {
    objects: BTreeMap<Named, Bytes>,
    trees: BTreeSet<ReleaseId>,
    /// Bundles that an index named: something may have been left out because it is in them.
    bundles: BTreeSet<String>,
}

impl Relied {
    fn things(&self) -> MutexGuard<'_, Things> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The object in the first generation that is there, with its name.
    pub(crate) async fn get_named(
        &self,
        named: &Named,
    ) -> Result<Option<(String, Bytes)>, StoreError> {
        let first = named.generation(0);
        if let Some(bytes) = self.backend.get(&first).await? {
            return Ok(Some((first, bytes)));
        }
        for object in self.backend.list(named.folder()).await? {
            if named.is(&object.name)
                && let Some(bytes) = self.backend.get(&object.name).await?
            {
                return Ok(Some((object.name, bytes)));
            }
        }
        Ok(None)
    }

    /// Stores an object whose name says what it is, and remembers that it is relied on.
    pub(crate) async fn put_named(&self, named: Named, bytes: Bytes) -> Result<(), StoreError> {
        let tombstones = self.tombstones().await?;
        let name = named.first(|name| tombstones.has(name));
        self.rely_on(named, bytes.clone());
        self.backend.put(&name, Content::Bytes(bytes)).await
    }

    /// Stores an object beside others of the same name: under the first generation that has no
    /// tombstone and is free. Nothing is to be done when one of the others `serves` as well.
    pub(crate) async fn put_beside(
        &self,
        named: &Named,
        bytes: Bytes,
        serves: impl Fn(&[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let tombstones = self.tombstones().await?;
        let names = (0..=u32::MAX).map(|n| named.generation(n));
        for name in names.filter(|name| !tombstones.has(name)) {
            match self.backend.put(&name, Content::Bytes(bytes.clone())).await {
                Err(StoreError::Conflict { .. }) => {}
                put => return put,
            }
            let present = self.backend.get(&name).await?;
            if present.is_some_and(|present| serves(&present)) {
                return Ok(());
            }
        }
        Err(StoreError::Conflict {
            name: named.to_string(),
        })
    }

    pub(crate) fn rely_on(&self, named: Named, bytes: Bytes) {
        self.relied.things().objects.insert(named, bytes);
    }

    /// Remembers that these bundles may be relied on: those that an index names, or one of the same
    /// bytes as ours, which may have been there already and be about to go.
    pub(crate) fn rely_on_bundles<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let names = names.into_iter().map(str::to_owned);
        self.relied.things().bundles.extend(names);
    }

    /// Remembers that every blob of this manifest is relied on.
    pub(crate) fn rely_on_tree(&self, tree: ReleaseId) {
        self.relied.things().trees.insert(tree);
    }

    /// Forgets what a release relies on: it is published and was looked after since, so that every
    /// later collection sees that it is kept.
    pub(crate) fn settled(&self, release: &ReleaseId) {
        let id = release.to_string();
        let mut things = self.relied.things();
        things.trees.remove(release);
        things.objects.retain(|named, _| !named.stem.contains(&id));
    }

    /// Remembers that a complete release is relied on, with all that is said about it.
    pub(crate) async fn rely_on_release(&self, release: &ReleaseId) -> Result<(), StoreError> {
        // Of now: an older index may not name the bundles of this release.
        *self.index.write().await = None;
        self.index().await?;
        let mut found = 0;
        for named in [marker_name(release), manifest_name(release)] {
            if let Some((_, bytes)) = self.get_named(&named).await? {
                self.rely_on(named, bytes);
                found += 1;
            }
        }
        if found < 2 {
            return Err(StoreError::NoRelease { release: *release });
        }
        self.rely_on_tree(*release);
        for record in self.records(release).await? {
            let named = Named::new(format!("records/{release}/{}", record.id), ".json");
            self.rely_on(named, record.json);
        }
        for (record, signature) in self.signatures(release).await? {
            let key = signature.fingerprint().hex();
            let named = Named::new(format!("records/{release}/{record}.{key}"), ".sig");
            self.rely_on(named, Bytes::copy_from_slice(signature.text().as_bytes()));
        }
        for (commit, of) in self.commits().await? {
            if of == *release {
                self.rely_on(
                    Named::new(format!("refs/commits/{commit}/{of}"), ""),
                    Bytes::new(),
                );
            }
        }
        Ok(())
    }

    /// The tombstones as they were when this store was opened, or looked at them last.
    pub(crate) async fn tombstones(&self) -> Result<Arc<Tombstones>, StoreError> {
        if let Some(tombstones) = self.tombstones.read().await.as_ref() {
            return Ok(Arc::clone(tombstones));
        }
        self.fresh_tombstones().await
    }

    async fn fresh_tombstones(&self) -> Result<Arc<Tombstones>, StoreError> {
        let tombstones = Arc::new(Tombstones::load(self.backend.as_ref()).await?);
        *self.tombstones.write().await = Some(Arc::clone(&tombstones));
        Ok(tombstones)
    }

    /// Stores again what is relied on and is gone or about to go, until nothing is.
    pub(crate) async fn secure(&self) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let tombstones = self.fresh_tombstones().await?;
            let blobs = self.secure_blobs(&tombstones).await?;
            let objects = self.secure_objects(&tombstones).await?;
            if !blobs && !objects {
                return Ok(());
            }
        }
        Err(StoreError::Restless {
            place: self.backend.place(),
        })
    }

    /// Whether an object had to be stored again.
    async fn secure_objects(&self, tombstones: &Tombstones) -> Result<bool, StoreError> {
        let relied = self.relied.things().objects.clone();
        let mut again = false;
        for (named, bytes) in relied {
            let name = named.first(|name| tombstones.has(name));
            if self.backend.get_range(&name, 0, 1).await?.is_none() {
                self.backend.put(&name, Content::Bytes(bytes)).await?;
                again = true;
            }
        }
        Ok(again)
    }

    /// Whether blobs had to be stored again.
    async fn secure_blobs(&self, tombstones: &Tombstones) -> Result<bool, StoreError> {
        let trees = self.relied.things().trees.clone();
        if trees.is_empty() {
            return Ok(false);
        }
        let listed = self.backend.list("bundles/").await?;
        let bundles: HashSet<&str> = listed.iter().map(|object| object.name.as_str()).collect();
        let gone = |name: &String| tombstones.has(name) || !bundles.contains(name.as_str());
        let gone = self.relied.things().bundles.iter().any(gone);
        if !gone {
            return Ok(false); // all that was relied on lies where it lay
        }
        *self.index.write().await = None;
        let index = self.index().await?;
        let mut going: Vec<BlobId> = Vec::new();
        for tree in trees {
            let manifest = match self.manifest(&tree).await {
                // Stored again a moment later, with the other objects.
                Err(StoreError::NoRelease { .. }) => self.relied_manifest(&tree)?,
                read => read?,
            };
            going.extend(
                manifest
                    .blobs()
                    .into_keys()
                    .filter(|blob| !index.contains(blob)),
            );
        }
        going.sort_unstable();
        going.dedup();
        self.copy_going(&index, &going).await
    }

    async fn copy_going(&self, index: &Arc<Index>, going: &[BlobId]) -> Result<bool, StoreError> {
        if going.is_empty() {
            return Ok(false);
        }
        // From bundles that have a tombstone: still there, or this is an error that says so.
        let packed = self
            .pack(index, going, &self.backend.spool(), &|_| ())
            .await?;
        self.put_bundle(packed).await?;
        Ok(true)
    }

    /// The manifest as it was put through this store.
    fn relied_manifest(&self, tree: &ReleaseId) -> Result<crate::manifest::Manifest, StoreError> {
        let absent = || StoreError::NoRelease { release: *tree };
        let stored = self
            .relied
            .things()
            .objects
            .get(&manifest_name(tree))
            .cloned();
        let stored = stored.ok_or_else(absent)?;
        let text = crate::release::decode(&stored, tree).map_err(|_| absent())?;
        crate::manifest::Manifest::parse(&text).map_err(|_| absent())
    }
}
