//! A backend that is far away, with a copy of its small objects that never change: tables of
//! contents and manifests, which every push, pull and look-up needs.
//!
//! ```text
//! <folder>/index/<hash>-<n>, <folder>/manifests/<id>      32 bytes BLAKE3 of the rest, the object
//! ```
//! Whatever is wrong with a copy, the object itself is read. Whether an object is still there is
//! always asked of the other side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, Content, Object};
use crate::error::StoreError;
use crate::fs;

/// Folders of the objects that are copied.
const COPIED: [&str; 2] = ["index/", "manifests/"];
const DIGEST: usize = 32;

/// See the module.
#[derive(Debug)]
pub struct CachedBackend {
    inner: Arc<dyn Backend>,
    folder: PathBuf,
}

impl CachedBackend {
    /// Keeps copies in `folder`, which belongs to this backend's place alone.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, folder: PathBuf) -> Self {
        Self { inner, folder }
    }

    fn place_of(&self, name: &str) -> Option<PathBuf> {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        let copied = COPIED.iter().any(|folder| name.starts_with(folder));
        (copied && name.split('/').all(plain)).then(|| self.folder.join(name))
    }
}

fn read(path: &Path) -> Option<Bytes> {
    let bytes = Bytes::from(std::fs::read(path).ok()?);
    let digest = bytes.get(..DIGEST)?;
    let rest = bytes.slice(DIGEST..);
    (blake3::hash(&rest).as_bytes() == digest).then_some(rest)
}

fn keep(path: &Path, bytes: &Bytes) {
    let mut copy = blake3::hash(bytes).as_bytes().to_vec();
    copy.extend_from_slice(bytes);
    // A copy that cannot be kept is made again next time.
    let _ = fs::replace(path, &copy);
}

#[async_trait]
impl Backend for CachedBackend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let Some(path) = self.place_of(name) else {
            return self.inner.get(name).await;
        };
        let place = path.clone();
        let found = tokio::task::spawn_blocking(move || read(&place)).await;
        if let Ok(Some(bytes)) = found {
            return Ok(Some(bytes));
        }
        let bytes = self.inner.get(name).await?;
        if let Some(bytes) = bytes.clone() {
            let _ = tokio::task::spawn_blocking(move || keep(&path, &bytes)).await;
        }
        Ok(bytes)
    }

    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        self.inner.get_range(name, offset, length).await
    }

    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        self.inner.put(name, content).await
    }

    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put_advisory(name, bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        if let Some(path) = self.place_of(name) {
            let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
        }
        self.inner.delete(name).await
    }

    async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        self.inner.settle(folder).await
    }

    async fn refuses_to_replace(&self, name: &str) -> Result<Option<bool>, StoreError> {
        self.inner.refuses_to_replace(name).await
    }

    async fn left_over(&self) -> Result<Vec<Object>, StoreError> {
        self.inner.left_over().await
    }

    fn spool(&self) -> PathBuf {
        self.inner.spool()
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::memory::MemoryBackend;

    fn bytes(text: &'static str) -> Content {
        Content::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn passes_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let inner = Arc::new(MemoryBackend::default());
        let cached = CachedBackend::new(inner, folder.path().to_owned());
        super::super::contract::passes(&cached).await;
    }

    #[tokio::test]
    async fn a_copy_serves_until_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let inner = Arc::new(MemoryBackend::default());
        let cached = CachedBackend::new(Arc::clone(&inner) as _, folder.path().to_owned());
        cached.put("index/one", bytes("table")).await.unwrap();
        cached.put("releases/one", bytes("marker")).await.unwrap();
        for name in ["index/one", "releases/one"] {
            cached.get(name).await.unwrap().unwrap();
            inner.damage(name, Bytes::from_static(b"changed"));
        }
        assert_eq!(cached.get("index/one").await.unwrap().unwrap(), "table");
        assert_eq!(
            cached.get("releases/one").await.unwrap().unwrap(),
            "changed"
        );
        std::fs::write(folder.path().join("index/one"), "rubbish").unwrap();
        assert_eq!(cached.get("index/one").await.unwrap().unwrap(), "changed");
        cached.delete("index/one").await.unwrap();
        assert!(cached.get("index/one").await.unwrap().is_none());
    }
}
