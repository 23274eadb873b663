//! A backend that a test watches: before each operation it is asked what is to become of it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::{Backend, Content, Object};
use crate::error::StoreError;

/// An operation that is about to begin.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// Which one.
    pub verb: Verb,
    /// The object, or the beginning of the names that are listed.
    pub name: &'a str,
    /// What is to be put.
    pub content: Option<&'a Content>,
}

/// The operations of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the operation of that name")]
pub enum Verb {
    Get,
    GetRange,
    Put,
    PutAdvisory,
    List,
    Delete,
    Settle,
    LeftOver,
}

impl Verb {
    /// Whether objects change.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Put | Self::PutAdvisory | Self::Delete)
    }
}

/// What is to become of an operation.
#[derive(Debug)]
pub enum Fate {
    /// It is done.
    Done,
    /// It is done, and answered with this error all the same.
    Lost(StoreError),
    /// Nothing is done, and this is the answer.
    Refused(StoreError),
}

/// Decides. May wait.
#[async_trait]
pub trait Watch: Send + Sync + Debug {
    /// What is to become of an operation.
    async fn fate(&self, operation: Operation<'_>) -> Fate;
}

/// A backend with its watch.
#[derive(Debug)]
pub struct WatchedBackend<W> {
    inner: Arc<dyn Backend>,
    /// The watch.
    pub watch: W,
}

impl<W: Watch> WatchedBackend<W> {
    /// Puts a watch before a backend.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, watch: W) -> Self {
        Self { inner, watch }
    }

    async fn run<T: Send>(
        &self,
        operation: Operation<'_>,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.end(self.watch.fate(operation).await, work).await
    }

    async fn end<T: Send>(
        &self,
        fate: Fate,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match fate {
            Fate::Done => work.await,
            Fate::Lost(error) => work.await.and(Err(error)),
            Fate::Refused(error) => Err(error),
        }
    }
}

fn of(verb: Verb, name: &str) -> Operation<'_> {
    Operation {
        verb,
        name,
        content: None,
    }
}

#[async_trait]
impl<W: Watch> Backend for WatchedBackend<W> {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.run(of(Verb::Get, name), self.inner.get(name)).await
    }
    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let work = self.inner.get_range(name, offset, length);
        self.run(of(Verb::GetRange, name), work).await
    }
    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        let operation = Operation {
            content: Some(&content),
            ..of(Verb::Put, name)
        };
        let fate = self.watch.fate(operation).await;
        self.end(fate, self.inner.put(name, content)).await
    }
    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let work = self.inner.put_advisory(name, bytes);
        self.run(of(Verb::PutAdvisory, name), work).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        self.run(of(Verb::List, prefix), self.inner.list(prefix))
            .await
    }
    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.run(of(Verb::Delete, name), self.inner.delete(name))
            .await
    }
    async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        self.run(of(Verb::Settle, folder), self.inner.settle(folder))
            .await
    }
    async fn left_over(&self) -> Result<Vec<Object>, StoreError> {
        self.run(of(Verb::LeftOver, ""), self.inner.left_over())
            .await
    }
    async fn refuses_to_replace(&self, name: &str) -> Result<Option<bool>, StoreError> {
        self.inner.refuses_to_replace(name).await
    }
    fn spool(&self) -> PathBuf {
        self.inner.spool()
    }
    fn place(&self) -> String {
        self.inner.place()
    }
}
