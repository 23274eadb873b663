//! A backend that stops being one at a chosen operation: what a full disk, a lost connection or the
//! end of the process does to whoever uses it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::{Backend, Content, Object};
use crate::error::StoreError;
use crate::fs::TEMP_PREFIX;

/// What happens at the chosen operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing was done.
    Before,
    /// It is done, and fails all the same: its answer is lost.
    After,
    /// It fails for want of room; only what writes can.
    Full,
    /// It and all later ones fail, and nothing is done: the process has ended.
    Killed,
    /// Half of what is to be put stays as a file without a name in this folder of a
    /// [`crate::backend::local::LocalBackend`], and all later operations fail.
    Torn(PathBuf),
}

/// Wraps a backend; its n-th operation of any kind meets a [`Fault`].
#[derive(Debug)]
pub struct FaultyBackend {
    inner: Arc<dyn Backend>,
    fault: Fault,
    at: usize,
    begun: AtomicUsize,
}

/// What is to be done with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Lost,
    Refused,
}

impl FaultyBackend {
    /// Wraps `inner`; `at` counts operations from 1.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, fault: Fault, at: usize) -> Self {
        Self {
            inner,
            fault,
            at,
            begun: AtomicUsize::new(0),
        }
    }

    /// Whether the fault was met.
    #[must_use]
    pub fn was_met(&self) -> bool {
        self.begun.load(Ordering::SeqCst) >= self.at
    }

    /// Whether the next operation is the chosen one, or comes after it.
    fn next(&self) -> (bool, bool) {
        let now = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        (now == self.at, now > self.at)
    }

    fn fate(&self, writes: bool) -> Fate {
        match (self.next(), &self.fault) {
            ((true, _), Fault::Full) if !writes => Fate::Done,
            ((true, _), Fault::After) => Fate::Lost,
            ((true, _), _) | ((_, true), Fault::Killed | Fault::Torn(_)) => Fate::Refused,
            _ => Fate::Done,
        }
    }

    fn error(&self, name: &str) -> StoreError {
        match self.fault {
            Fault::Full => StoreError::Io {
                what: "write",
                path: name.into(),
                source: std::io::ErrorKind::StorageFull.into(),
            },
            _ => StoreError::Interrupted,
        }
    }

    async fn run<T: Send>(
        &self,
        name: &str,
        writes: bool,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.fate(writes) {
            Fate::Done => work.await,
            Fate::Lost => {
                work.await?;
                Err(self.error(name))
            }
            Fate::Refused => Err(self.error(name)),
        }
    }

    /// Leaves what a writer leaves that is stopped half-way.
    fn tear(&self, name: &str, content: &Content) {
        let Fault::Torn(root) = &self.fault else {
            return;
        };
        if self.begun.load(Ordering::SeqCst) + 1 != self.at {
            return;
        }
        let bytes = match content {
            Content::Bytes(bytes) => bytes.to_vec(),
            Content::File(file) => std::fs::read(file.path()).unwrap_or_default(),
        };
        let path = root.join(name);
        let folder = path.parent().unwrap_or(root);
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        // A folder that cannot be made holds nothing torn, either.
        let _ = std::fs::create_dir_all(folder);
        let _ = std::fs::write(folder.join(format!("{TEMP_PREFIX}torn")), half);
    }
}

#[async_trait]
impl Backend for FaultyBackend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.run(name, false, self.inner.get(name)).await
    }
    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let work = self.inner.get_range(name, offset, length);
        self.run(name, false, work).await
    }
    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        self.tear(name, &content);
        self.run(name, true, self.inner.put(name, content)).await
    }
    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let work = self.inner.put_advisory(name, bytes);
        self.run(name, true, work).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        self.run(prefix, false, self.inner.list(prefix)).await
    }
    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.run(name, true, self.inner.delete(name)).await
    }
    async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        self.run(folder, true, self.inner.settle(folder)).await
    }
    async fn left_over(&self) -> Result<Vec<Object>, StoreError> {
        self.run("", false, self.inner.left_over()).await
    }
    fn spool(&self) -> PathBuf {
        self.inner.spool()
    }
    fn place(&self) -> String {
        self.inner.place()
    }
}
