//! Where objects lie: a few operations, the same layout of names on every backend.
//!
//! Names are relative, `/`-separated and chosen by [`crate::store`]; see `docs/format.md`.

pub mod cached;
pub mod folder;
#[cfg(feature = "http")]
pub mod http;
pub mod incoming;
pub mod local;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
#[cfg(feature = "s3")]
pub mod s3;

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;

/// Bytes to store.
#[derive(Debug)]
pub enum Content {
    /// From memory.
    Bytes(Bytes),
    /// From a file, which the backend may move away: the caller gives it up.
    File(tempfile::NamedTempFile),
}

/// A listed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Full name.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was put, by the clock of the backend; only compared with others of one backend.
    pub modified: SystemTime,
}

/// A place for objects.
///
/// Duties of an implementer, checked by one contract suite: an absent object is `None`, not an
/// error; `put` returns only when the object is durable and visible to `get` and `list`; a name is
/// never replaced by other bytes ([`StoreError::Conflict`]), putting the same bytes again is
/// success; an object half written is never visible; `delete` of an absent object is success;
/// `list` is sorted by name.
#[async_trait]
pub trait Backend: Send + Sync + Debug {
    /// The whole object.
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError>;
    /// `length` bytes from `offset`; fewer only where the object ends.
    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError>;
    /// Stores a new object.
    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError>;
    /// All objects whose names begin with `prefix`, which ends in `/` or is empty.
    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError>;
    /// Removes an object.
    async fn delete(&self, name: &str) -> Result<(), StoreError>;
    /// Stores an advisory object, whatever lies there: one that may be lost, or old, or come from
    /// another writer at any time, because it only repeats what other objects say.
    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError>;
    /// Makes durable what `list` shows directly below `folder`: its writer may have been killed
    /// between naming an object and syncing the name. Nothing to do where a name is durable as
    /// soon as it is seen.
    async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        let _ = folder;
        Ok(())
    }
    /// Whether the place itself refuses to replace an object, tried on `name`, which the caller
    /// deletes afterwards; `None` where `put` has no use for it.
    async fn refuses_to_replace(&self, name: &str) -> Result<Option<bool>, StoreError> {
        let _ = name;
        Ok(None)
    }
    /// Objects that were never finished and that `list` does not show: what ended writers left.
    async fn left_over(&self) -> Result<Vec<Object>, StoreError> {
        Ok(Vec::new())
    }
    /// A folder for a large file that is to be [`Content::File`]: where `put` is cheapest.
    fn spool(&self) -> PathBuf;
    /// Path or URL, for people.
    fn place(&self) -> String;
}

/// Whether a name is one that relstore gives: parts of printable ASCII without blanks, none of them
/// empty or beginning with `.`, at most 1024 bytes. Such a name leads nowhere but below the store.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_graphic())
    };
    name.len() <= 1024 && name.split('/').all(plain) && !name.contains('\\')
}

#[cfg(any(test, feature = "testing"))]
pub mod contract {
    //! The scenarios every backend has to pass.
    #![allow(clippy::unwrap_used, reason = "a suite of tests")]
    use super::*;
    use std::io::Write;

    fn bytes(text: &'static str) -> Content {
        Content::Bytes(Bytes::from_static(text.as_bytes()))
    }

    /// Runs them all on an empty backend.
    ///
    /// # Panics
    /// With the first that fails.
    pub async fn passes(backend: &dyn Backend) {
        assert!(backend.list("a/").await.unwrap().is_empty());
        backend.delete("a/none").await.unwrap();
        prepare(backend).await;
        assert!(backend.get("a").await.unwrap().is_none(), "a folder");
        reads(backend).await;
        writes(backend).await;
    }

    /// Puts what [`reads`] expects.
    ///
    /// # Panics
    /// When that fails.
    pub async fn prepare(backend: &dyn Backend) {
        backend.put("a/two", bytes("22")).await.unwrap();
        backend.put("a/one", bytes("0123456789")).await.unwrap();
        backend.put("a/empty", bytes("")).await.unwrap();
        backend.put("ab/other%2f%", bytes("x")).await.unwrap();
    }

    /// The scenarios for a backend that can only be read, over the objects of [`prepare`].
    ///
    /// # Panics
    /// With the first that fails.
    pub async fn reads(backend: &dyn Backend) {
        let get = async |name| backend.get(name).await.unwrap();
        let range = async |name, offset, length| {
            let read = backend.get_range(name, offset, length).await;
            read.unwrap()
        };
        assert!(get("a/none").await.is_none());
        assert!(get("none/at/all").await.is_none());
        assert!(range("a/none", 0, 1).await.is_none());
        assert!(range("a/none", 0, 0).await.is_none());
        assert_eq!(get("a/one").await.unwrap(), "0123456789");
        assert_eq!(get("a/empty").await.unwrap(), "");
        assert_eq!(get("ab/other%2f%").await.unwrap(), "x");
        assert_eq!(range("a/one", 0, 10).await.unwrap(), "0123456789");
        assert_eq!(range("a/one", 3, 4).await.unwrap(), "3456");
        assert_eq!(range("a/one", 8, 9).await.unwrap(), "89");
        for (offset, length) in [(10, 1), (99, 1), (99, u64::MAX), (3, 0), (99, 0)] {
            assert_eq!(range("a/one", offset, length).await.unwrap(), "");
        }
        assert_eq!(range("a/one", 9, u64::MAX).await.unwrap(), "9");
        assert_eq!(range("a/empty", 0, 1).await.unwrap(), "");
        for name in ["../a/one", "a/../a/one", "/a/one", "a//one", "a/./one"] {
            let outside = backend.get(name).await;
            assert!(!matches!(outside, Ok(Some(_))), "{name}: {outside:?}");
        }

        let listed = backend.list("a/").await.unwrap();
        let names = listed.iter().map(|found| (found.name.as_str(), found.size));
        let names: Vec<_> = names.collect();
        assert_eq!(names, [("a/empty", 0), ("a/one", 10), ("a/two", 2)]);
        assert_eq!(backend.list("").await.unwrap().len(), 4);
        assert!(backend.list("none/").await.unwrap().is_empty());
    }

    async fn writes(backend: &dyn Backend) {
        // The same bytes again are fine, others are refused and change nothing.
        backend.put("a/one", bytes("0123456789")).await.unwrap();
        let other = backend.put("a/one", bytes("9876543210")).await;
        assert!(
            matches!(other, Err(StoreError::Conflict { .. })),
            "{other:?}"
        );
        assert_eq!(backend.get("a/one").await.unwrap().unwrap(), "0123456789");

        let mut file = tempfile::NamedTempFile::new_in(backend.spool()).unwrap();
        file.write_all(b"from a file").unwrap();
        backend.put("a/file", Content::File(file)).await.unwrap();
        assert_eq!(backend.get("a/file").await.unwrap().unwrap(), "from a file");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from another file system, perhaps")
            .unwrap();
        backend.put("a/far", Content::File(file)).await.unwrap();
        let mut file = tempfile::NamedTempFile::new_in(backend.spool()).unwrap();
        file.write_all(b"other").unwrap();
        let other = backend.put("a/file", Content::File(file)).await;
        assert!(
            matches!(other, Err(StoreError::Conflict { .. })),
            "{other:?}"
        );

        let listed = backend.list("a/").await.unwrap();
        let names: Vec<_> = listed
            .iter()
            .map(|object| (object.name.as_str(), object.size))
            .collect();
        assert_eq!(
            names,
            [
                ("a/empty", 0),
                ("a/far", 33),
                ("a/file", 11),
                ("a/one", 10),
                ("a/two", 2)
            ]
        );
        assert_eq!(backend.list("").await.unwrap().len(), 6);

        let advisory = |text: &'static str| backend.put_advisory("advice", text.into());
        advisory("old").await.unwrap();
        advisory("newer").await.unwrap();
        assert_eq!(backend.get("advice").await.unwrap().unwrap(), "newer");
        backend.delete("advice").await.unwrap();

        backend.delete("a/one").await.unwrap();
        assert!(backend.get("a/one").await.unwrap().is_none());
        assert_eq!(backend.list("a/").await.unwrap().len(), 4);
    }
}
