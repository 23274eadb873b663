//! The store of a build, opened when there is something to look up and made when there is
//! something to keep: a build that fails before leaves no trace of one.

use std::path::PathBuf;

use relstore_store::{Store, StoreError};
use tokio::sync::OnceCell;

use crate::error::BuildError;

/// A folder with a store, or for one.
#[derive(Debug)]
pub struct StorePlace {
    folder: PathBuf,
    store: OnceCell<Store>,
}

impl StorePlace {
    /// Takes the folder; nothing is looked at yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            store: OnceCell::new(),
        }
    }

    /// The store, when there is one.
    ///
    /// # Errors
    /// [`BuildError::Store`].
    pub async fn existing(&self) -> Result<Option<&Store>, BuildError> {
        let opened = self.store.get_or_try_init(|| Store::open(&self.folder));
        match opened.await {
            Ok(store) => Ok(Some(store)),
            Err(StoreError::NoStore { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The store, made where there is none.
    ///
    /// # Errors
    /// [`BuildError::Store`].
    pub async fn make(&self) -> Result<&Store, BuildError> {
        let made = self
            .store
            .get_or_try_init(|| Store::open_or_create(&self.folder));
        Ok(made.await?)
    }
}
