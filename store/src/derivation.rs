//! What build steps made, by the key of all that they depend on.
//!
//! ```text
//! derivations/<key>/<record>.<fingerprint>.sig   an SSH signature over the record's bytes
//! derivations/<key>/<record>.json      who made which tree for this key; many values are possible
//! manifests/<tree>                     the tree, like that of a release
//! ```
//! A derivation is a record: exact bytes, named by their BLAKE3, never replaced. It is written
//! after the tree's blobs and manifest. Which one to believe is the builder's business.

use std::time::{Duration, SystemTime};

use crate::error::StoreError;
use crate::generation::Named;
use crate::id::{DerivationKey, RecordId};
use crate::record::{OnDamage, Record};
use crate::signature::{Namespace, Signature};
use crate::store::Store;

const PREFIX: &str = "derivations/";

/// A derivation's record and its age.
#[derive(Debug, Clone)]
pub struct Derivation {
    /// The record.
    pub record: Record,
    /// When the store got it, by the store's clock.
    pub stored: SystemTime,
}

impl Store {
    /// Adds what is said about a key, after the tree that it names is in.
    ///
    /// # Errors
    /// As [`Store::publish`].
    pub async fn put_derivation(
        &self,
        key: &DerivationKey,
        json: &[u8],
    ) -> Result<RecordId, StoreError> {
        let id = RecordId::of(json);
        let name = Named::new(format!("{PREFIX}{key}/{id}"), ".json");
        self.put_digested(name, json).await?;
        self.secure().await?;
        Ok(id)
    }

    /// All derivations of a key, newest first. A damaged one is as good as none: its step runs
    /// again.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn derivations(&self, key: &DerivationKey) -> Result<Vec<Derivation>, StoreError> {
        let mut found = self
            .records_in(&format!("{PREFIX}{key}/"), OnDamage::Skip)
            .await?;
        found.sort_by(|(a, a_time), (b, b_time)| (b_time, b.id).cmp(&(a_time, a.id)));
        let derivation = |(record, stored)| Derivation { record, stored };
        Ok(found.into_iter().map(derivation).collect())
    }

    /// Adds a signature over a derivation.
    ///
    /// # Errors
    /// Those of the backend, [`StoreError::Damaged`].
    pub async fn put_derivation_signature(
        &self,
        key: &DerivationKey,
        record: &RecordId,
        signature: &Signature,
    ) -> Result<(), StoreError> {
        let name = format!("{PREFIX}{key}/{record}");
        self.put_signature_beside(&name, Namespace::Derivation, signature)
            .await
    }

    /// All signatures over a derivation, as found: whose they are and whether they are right is
    /// told by [`AllowedSigners`](crate::allowed_signers::AllowedSigners). A damaged one is as good
    /// as none.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn derivation_signatures(
        &self,
        key: &DerivationKey,
        record: &RecordId,
    ) -> Result<Vec<Signature>, StoreError> {
        let folder = format!("{PREFIX}{key}/");
        let found = self.signatures_in(&folder, OnDamage::Skip).await?;
        let of_record = found.into_iter().filter(|(of, _)| of == record);
        Ok(of_record.map(|(_, signature)| signature).collect())
    }

    /// Forgets derivations older than `keep`, counted back from the newest one: times of the same
    /// store are compared with each other, never with a local clock. Returns how many went. Trees
    /// that nothing else refers to stay until garbage is collected.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn forget_derivations(&self, keep: Duration) -> Result<usize, StoreError> {
        let objects = self.backend.list(PREFIX).await?;
        let Some(newest) = objects.iter().map(|object| object.modified).max() else {
            return Ok(0);
        };
        let mut gone = 0;
        for object in objects {
            let age = newest.duration_since(object.modified).unwrap_or_default();
            if age > keep {
                self.backend.delete(&object.name).await?;
                gone += 1;
            }
        }
        Ok(gone)
    }
}
