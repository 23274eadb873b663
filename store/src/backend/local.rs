//! Objects as files below a folder of this machine.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;

use super::folder::Folder;
use super::{Backend, Content, Object};
use crate::blocking::blocking;
use crate::error::StoreError;

/// A folder on this machine.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    folder: Folder,
}

impl LocalBackend {
    /// Takes a folder; nothing is made before the first `put`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            folder: Folder::new(root),
        }
    }

    /// Runs file system calls off the async workers.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = self.folder.clone();
        blocking(move || work(&folder)).await?
    }
}

#[async_trait]
impl Backend for LocalBackend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.blocking(move |folder| Ok(folder.get(&name)?.map(Bytes::from)))
            .await
    }

    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.blocking(move |folder| Ok(folder.get_range(&name, offset, length)?.map(Bytes::from)))
            .await
    }

    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.blocking(move |folder| match content {
            Content::File(temp) => folder.put_file(&name, temp),
            Content::Bytes(bytes) => folder.put_bytes(&name, &bytes),
        })
        .await
    }

    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.blocking(move |folder| folder.put_advisory(&name, &bytes))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |folder| folder.list(&prefix)).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.blocking(move |folder| folder.delete(&name)).await
    }

    async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        let below = folder.to_owned();
        self.blocking(move |folder| folder.settle(&below)).await
    }

    async fn left_over(&self) -> Result<Vec<Object>, StoreError> {
        self.blocking(Folder::left_over).await
    }

    fn spool(&self) -> PathBuf {
        self.folder.spool()
    }

    fn place(&self) -> String {
        self.folder.root().display().to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fs;

    #[tokio::test]
    async fn passes_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let backend = LocalBackend::new(root.path().join("store"));
        fs::create_dirs(&backend.spool()).unwrap();
        super::super::contract::passes(&backend).await;
    }

    #[tokio::test]
    async fn files_still_being_written_are_not_listed() {
        let root = tempfile::tempdir().unwrap();
        let backend = LocalBackend::new(root.path().to_owned());
        backend
            .put("a/one", Content::Bytes(Bytes::from_static(b"1")))
            .await
            .unwrap();
        std::fs::write(root.path().join("a/.tmp-x"), "half").unwrap();
        assert_eq!(backend.list("").await.unwrap().len(), 1);
        assert_eq!(backend.left_over().await.unwrap()[0].name, "a/.tmp-x");
    }
}
