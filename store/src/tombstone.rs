//! Which objects are about to be deleted, or were.
//!
//! ```text
//! tombstones/<name of the object, escaped into one segment>     "relstore-tombstone 1\n"
//! ```
//! Garbage collection writes a tombstone, waits, looks again, and only then deletes; the tombstone
//! outlives the object. Whoever writes looks at the tombstones after publishing, and stores what
//! has one under another name ([`crate::generation`]). Either the collector's second look sees
//! what was published, or the writer sees the tombstone: Dekker's rule, without a lock.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use crate::backend::{Backend, Content};
use crate::error::StoreError;
use crate::generation::{segment, unsegment};

/// Folder of the tombstones.
pub(crate) const FOLDER: &str = "tombstones/";
/// What a tombstone holds.
pub(crate) const CONTENT: &[u8] = b"relstore-tombstone 1\n";

/// The tombstones of a store at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tombstones {
    /// Object name, and when its tombstone was written.
    names: BTreeMap<String, SystemTime>,
}

impl Tombstones {
    /// Lists them.
    pub(crate) async fn load(backend: &dyn Backend) -> Result<Self, StoreError> {
        let listed = backend.list(FOLDER).await?;
        let named = |name: &str| unsegment(name.strip_prefix(FOLDER)?);
        let names = listed
            .into_iter()
            .filter_map(|object| Some((named(&object.name)?, object.modified)));
        Ok(Self {
            names: names.collect(),
        })
    }

    /// Whether the object has one.
    pub(crate) fn has(&self, object: &str) -> bool {
        self.names.contains_key(object)
    }

    /// When the object's was written.
    pub(crate) fn since(&self, object: &str) -> Option<SystemTime> {
        self.names.get(object).copied()
    }

    /// All, by object name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, SystemTime)> {
        self.names
            .iter()
            .map(|(name, since)| (name.as_str(), *since))
    }
}

/// Writes the tombstone of an object.
pub(crate) async fn bury(backend: &dyn Backend, object: &str) -> Result<(), StoreError> {
    let content = Content::Bytes(Bytes::from_static(CONTENT));
    backend.put(&name(object), content).await
}

/// Removes the tombstone of an object.
pub(crate) async fn forget(backend: &dyn Backend, object: &str) -> Result<(), StoreError> {
    backend.delete(&name(object)).await
}

/// The name of an object's tombstone.
pub(crate) fn name(object: &str) -> String {
    format!("{FOLDER}{}", segment(object))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::memory::MemoryBackend;

    #[tokio::test]
    async fn a_tombstone_names_one_object() {
        let backend = MemoryBackend::default();
        bury(&backend, "manifests/ab-1").await.unwrap();
        bury(&backend, "manifests/ab-1").await.unwrap();
        let tombstones = Tombstones::load(&backend).await.unwrap();
        assert!(tombstones.has("manifests/ab-1") && !tombstones.has("manifests/ab"));
        assert!(tombstones.since("manifests/ab-1").is_some());
        assert_eq!(tombstones.iter().count(), 1);
        forget(&backend, "manifests/ab-1").await.unwrap();
        assert_eq!(Tombstones::load(&backend).await.unwrap().iter().count(), 0);
    }
}
