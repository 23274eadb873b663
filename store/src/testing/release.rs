//! Small releases, and what must hold of a store whatever happened to it.
#![allow(clippy::unwrap_used, reason = "support of tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::error::StoreError;
use crate::fsck::{Depth, check};
use crate::gc::Retention;
use crate::id::ReleaseId;
use crate::import::{Layout, ReleaseTree};
use crate::store::Store;

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);
/// The commit that every release of [`import`] was built from.
pub const COMMIT: &str = "5555555555555555555555555555555555555555";

/// A retention that keeps nothing but what is young or pinned.
#[must_use]
pub fn strict() -> Retention {
    Retention {
        keep_last: 0,
        keep_for: 30 * DAY,
        keep_derivations: 7 * DAY,
        grace: DAY,
        repack: true,
    }
}

/// A folder with a file for each of these words, which it is named after and made of.
///
/// # Panics
/// When there is no room for it.
#[must_use]
pub fn tree(words: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for word in words {
        std::fs::write(folder.path().join(word), word.repeat(50)).unwrap();
    }
    folder
}

/// Stores and publishes a folder, with a record and a commit that are always the same.
///
/// # Errors
/// Those of the store.
pub async fn import(store: &Store, root: &Path) -> Result<ReleaseId, StoreError> {
    let tree = ReleaseTree {
        root: root.to_owned(),
        layout: Layout::default(),
    };
    let release = store.import(&tree, &|_| ()).await?.release;
    store.put_record(&release, b"{\"said\":1}").await?;
    store.publish(&release).await?;
    store.add_commit(COMMIT, &release).await?;
    Ok(release)
}

/// Every visible release is whole, these are visible, and a full check finds nothing.
///
/// # Panics
/// With `case`, when it is not so.
pub async fn is_sound(backend: &Arc<dyn Backend>, reported: &[ReleaseId], case: &str) {
    let store = Store::open_backend(Arc::clone(backend)).await.unwrap();
    let visible = store.releases().await.unwrap();
    for release in &visible {
        let out = tempfile::tempdir().unwrap();
        let whole = store.checkout(release, out.path()).await;
        whole.unwrap_or_else(|error| panic!("{case}: {release}: {error}"));
    }
    for release in reported {
        assert!(visible.contains(release), "{case}: {release} is lost");
    }
    let report = check(backend, Depth::Full, &|_| ()).await.unwrap();
    assert!(report.is_clean(), "{case}: {:?}", report.problems);
}
