//! Names that lead to releases: commits, pins, and what hosts served.
//!
//! ```text
//! refs/commits/<sha>/<release>[-<n>]                    which releases were built from a commit
//! pins/<release>/<name, escaped>                        keeps the release from garbage collection
//! environments/<env>/ledger/<host>/<n>-<hash>.json      copy of a host's ledger
//! ```

use bytes::Bytes;

use crate::backend::Content;
use crate::error::StoreError;
use crate::generation::{Named, segment, split, unsegment};
use crate::id::ReleaseId;
use crate::store::Store;

/// Folder of the pins.
pub(crate) const PINS: &str = "pins/";

impl Store {
    /// Remembers that a commit (40 or 64 hex digits) was built into a release. Several releases
    /// for one commit are kept side by side: they show that the build is not reproducible.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn add_commit(&self, commit: &str, release: &ReleaseId) -> Result<(), StoreError> {
        let name = Named::new(format!("refs/commits/{commit}/{release}"), "");
        self.put_named(name, Bytes::new()).await?;
        self.secure().await?;
        self.settled(release);
        Ok(())
    }

    /// The releases built from a commit.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn releases_of_commit(&self, commit: &str) -> Result<Vec<ReleaseId>, StoreError> {
        let prefix = format!("refs/commits/{commit}/");
        let objects = self.backend.list(&prefix).await?;
        let release = |name: &str| split(name.strip_prefix(&prefix)?).0.parse().ok();
        let mut releases: Vec<_> = objects.iter().filter_map(|o| release(&o.name)).collect();
        releases.dedup();
        Ok(releases)
    }

    /// All (commit, release) pairs.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn commits(&self) -> Result<Vec<(String, ReleaseId)>, StoreError> {
        let objects = self.backend.list("refs/commits/").await?;
        let mut pairs: Vec<_> = objects.iter().filter_map(|o| commit(&o.name)).collect();
        pairs.dedup();
        Ok(pairs)
    }

    /// Keeps a release from garbage collection until the pin of this name is removed. What is
    /// being collected meanwhile is stored again.
    ///
    /// # Errors
    /// [`StoreError::NoRelease`], those of the backend.
    pub async fn pin(&self, release: &ReleaseId, name: &str) -> Result<(), StoreError> {
        let pin = format!("{PINS}{release}/{}", segment(name));
        self.backend.put(&pin, Content::Bytes(Bytes::new())).await?;
        match self.rely_on_release(release).await {
            Ok(()) => {
                self.secure().await?;
                self.settled(release);
                Ok(())
            }
            Err(error) => {
                self.backend.delete(&pin).await?;
                Err(error)
            }
        }
    }

    /// Removes a pin; `false` when there was none of this name.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn unpin(&self, release: &ReleaseId, name: &str) -> Result<bool, StoreError> {
        let pin = format!("{PINS}{release}/{}", segment(name));
        let there = self.backend.get(&pin).await?.is_some();
        self.backend.delete(&pin).await?;
        Ok(there)
    }

    /// All pins: release and name.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn pins(&self) -> Result<Vec<(ReleaseId, String)>, StoreError> {
        let objects = self.backend.list(PINS).await?;
        Ok(objects.iter().filter_map(|o| pin(&o.name)).collect())
    }

    /// Keeps a copy of one line of a host's ledger. `environment` and `host` are escaped into
    /// one name each.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put_ledger(
        &self,
        environment: &str,
        host: &str,
        number: u64,
        hash: &str,
        line: &str,
    ) -> Result<(), StoreError> {
        let (environment, host) = (segment(environment), segment(host));
        // The hash is what the host says: a word of another machine.
        let name = format!(
            "environments/{environment}/ledger/{host}/{number:08}-{}.json",
            segment(hash)
        );
        self.backend
            .put(&name, Content::Bytes(Bytes::from(format!("{line}\n"))))
            .await
    }
}

/// Commit and release of an object's name.
pub(crate) fn commit(name: &str) -> Option<(String, ReleaseId)> {
    let (commit, release) = name.strip_prefix("refs/commits/")?.split_once('/')?;
    Some((commit.to_owned(), split(release).0.parse().ok()?))
}

/// Release and name of a pin's name.
pub(crate) fn pin(name: &str) -> Option<(ReleaseId, String)> {
    let (release, name) = name.strip_prefix(PINS)?.split_once('/')?;
    Some((release.parse().ok()?, unsegment(name)?))
}
