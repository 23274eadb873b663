//! What packages of a package manager were when they were first seen: a lock names a version, not
//! its bytes, and some archives are made anew at each download.
//!
//! ```text
//! packages/<ecosystem>/<record>.json     {"<name> <version> <reference>": "<manifest id of its folder>", ...}
//! ```
//! Each build that sees new packages, or other files of one that somebody accepted, adds one record
//! of them; none is replaced. All together are the knowledge.

use std::collections::BTreeMap;

use crate::backend::Content;
use crate::error::StoreError;
use crate::id::{RecordId, ReleaseId};
use crate::store::Store;

/// Trees by package, as text that names version and reference.
pub type PackageTrees = BTreeMap<String, ReleaseId>;

impl Store {
    /// The trees of all packages of an ecosystem (`composer`) that were ever seen. Of a package
    /// with several trees the last record's counts: it was accepted in place of the others.
    ///
    /// # Errors
    /// Those of the backend, [`StoreError::Damaged`].
    pub async fn package_trees(&self, ecosystem: &str) -> Result<PackageTrees, StoreError> {
        let mut objects = self.backend.list(&format!("packages/{ecosystem}/")).await?;
        objects.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        let mut trees = PackageTrees::new();
        for object in objects {
            let Some(json) = self.backend.get(&object.name).await? else {
                continue;
            };
            let seen: PackageTrees =
                serde_json::from_slice(&json).map_err(|error| StoreError::Damaged {
                    name: object.name.clone(),
                    what: error.to_string(),
                })?;
            trees.extend(seen);
        }
        Ok(trees)
    }

    /// Remembers trees of packages.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put_package_trees(
        &self,
        ecosystem: &str,
        trees: &PackageTrees,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_vec(trees).expect("texts and ids are JSON");
        let name = format!("packages/{ecosystem}/{}.json", RecordId::of(&json));
        self.backend.put(&name, Content::Bytes(json.into())).await
    }
}
