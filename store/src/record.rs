//! What is said about a release, and by whom.
//!
//! ```text
//! records/<release>/<record>[-<n>].json          exact bytes, named by their BLAKE3
//! records/<release>/<record>.<key>[-<n>].sig     a signature over the record, see `signature`
//! ```

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use crate::error::StoreError;
use crate::generation::{Named, split};
use crate::id::{RecordId, ReleaseId};
use crate::signature::{Namespace, Signature};
use crate::store::Store;

/// What a damaged object in a folder means for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// An error: leaving it out could hide what was said.
    Refuse,
    /// As if it were not there: what it says can be found out anew.
    Skip,
}

/// A record with its id.
#[derive(Debug, Clone)]
pub struct Record {
    /// BLAKE3 of `json`.
    pub id: RecordId,
    /// The exact bytes.
    pub json: Bytes,
}

impl Store {
    /// Adds a record: JSON that says something about a release. Its exact bytes are kept.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put_record(
        &self,
        release: &ReleaseId,
        json: &[u8],
    ) -> Result<RecordId, StoreError> {
        let id = RecordId::of(json);
        let name = Named::new(format!("records/{release}/{id}"), ".json");
        self.put_digested(name, json).await?;
        Ok(id)
    }

    /// Stores an object whose name is the digest of its bytes: others that lie there are damaged.
    pub(crate) async fn put_digested(&self, named: Named, json: &[u8]) -> Result<(), StoreError> {
        let bytes = Bytes::copy_from_slice(json);
        match self.put_named(named.clone(), bytes.clone()).await {
            Err(StoreError::Conflict { .. }) => self.put_beside(&named, bytes, |_| false).await,
            put => put,
        }
    }

    /// All records about a release, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one does not hash to its name.
    pub async fn records(&self, release: &ReleaseId) -> Result<Vec<Record>, StoreError> {
        let folder = format!("records/{release}/");
        let mut found = self.records_in(&folder, OnDamage::Refuse).await?;
        found.sort_by(|(a, a_time), (b, b_time)| (a_time, a.id).cmp(&(b_time, b.id)));
        Ok(found.into_iter().map(|(record, _)| record).collect())
    }

    /// One record about a release; `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it does not hash to its name.
    pub async fn record(
        &self,
        release: &ReleaseId,
        id: &RecordId,
    ) -> Result<Option<Record>, StoreError> {
        let name = Named::new(format!("records/{release}/{id}"), ".json");
        match self.get_named(&name).await? {
            Some((_, json)) if RecordId::of(&json) == *id => Ok(Some(Record { id: *id, json })),
            Some((name, _)) => Err(StoreError::Damaged {
                name,
                what: "it does not match its id".into(),
            }),
            None => Ok(None),
        }
    }

    /// All records in a folder, whose name ends in `/`, with the time when the store got them.
    pub(crate) async fn records_in(
        &self,
        prefix: &str,
        on_damage: OnDamage,
    ) -> Result<Vec<(Record, SystemTime)>, StoreError> {
        let mut records: BTreeMap<RecordId, (Record, SystemTime)> = BTreeMap::new();
        for object in self.backend.list(prefix).await? {
            let stem = object
                .name
                .strip_prefix(prefix)
                .and_then(|name| name.strip_suffix(".json"));
            let Some(id) = stem.and_then(|stem| split(stem).0.parse::<RecordId>().ok()) else {
                continue;
            };
            if let Some((_, time)) = records.get_mut(&id) {
                *time = object.modified.min(*time);
                continue;
            }
            let Some(json) = self.backend.get(&object.name).await? else {
                continue;
            };
            if RecordId::of(&json) != id {
                if on_damage == OnDamage::Skip {
                    continue;
                }
                return Err(StoreError::Damaged {
                    name: object.name,
                    what: "it does not match its id".into(),
                });
            }
            records.insert(id, (Record { id, json }, object.modified));
        }
        Ok(records.into_values().collect())
    }

    /// Adds a signature over a record; the record need not be there yet. A second signature by the
    /// same key says nothing new (ECDSA never gives the same twice), so the first one stays; but
    /// one that does not fit the record, which anybody can write, keeps no right one out.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put_signature(
        &self,
        release: &ReleaseId,
        record: &RecordId,
        signature: &Signature,
    ) -> Result<(), StoreError> {
        let name = format!("records/{release}/{record}");
        self.put_signature_beside(&name, Namespace::Record, signature)
            .await
    }

    /// Adds a signature over the object `<name>.json`.
    pub(crate) async fn put_signature_beside(
        &self,
        name: &str,
        purpose: Namespace,
        signature: &Signature,
    ) -> Result<(), StoreError> {
        let key = signature.fingerprint().hex();
        let signed = Named::new(format!("{name}.{key}"), ".sig");
        let text = Bytes::copy_from_slice(signature.text().as_bytes());
        match self.put_named(signed.clone(), text.clone()).await {
            Err(StoreError::Conflict { .. }) => {}
            put => return put,
        }
        let record = self
            .get_named(&Named::new(name.to_owned(), ".json"))
            .await?;
        // Of a record that is not there nobody can say which signature fits.
        let serves = |present: &[u8]| {
            record.as_ref().is_none_or(|(_, json)| {
                Signature::parse(present).is_ok_and(|present| present.matches(purpose, json))
            })
        };
        self.put_beside(&signed, text, serves).await
    }

    /// All signatures over records of a release, sorted by record, then key. They are as found:
    /// whether they are right and by whom is told by
    /// [`AllowedSigners`](crate::allowed_signers::AllowedSigners).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one cannot be read or is not by the key of its name.
    pub async fn signatures(
        &self,
        release: &ReleaseId,
    ) -> Result<Vec<(RecordId, Signature)>, StoreError> {
        let folder = format!("records/{release}/");
        self.signatures_in(&folder, OnDamage::Refuse).await
    }

    /// All signatures in a folder of records, whose name ends in `/`.
    pub(crate) async fn signatures_in(
        &self,
        prefix: &str,
        on_damage: OnDamage,
    ) -> Result<Vec<(RecordId, Signature)>, StoreError> {
        let mut found: BTreeMap<(RecordId, String), Vec<Signature>> = BTreeMap::new();
        for object in self.backend.list(prefix).await? {
            let stem = object
                .name
                .strip_prefix(prefix)
                .and_then(|name| name.strip_suffix(".sig"));
            let Some((record, key)) = stem.and_then(|stem| split(stem).0.split_once('.')) else {
                continue;
            };
            let (Ok(record), key) = (record.parse::<RecordId>(), key.to_owned()) else {
                continue;
            };
            if let Some(text) = self.backend.get(&object.name).await? {
                let signature = match parse_signature(object.name, &text, &key) {
                    Err(_) if on_damage == OnDamage::Skip => continue,
                    parsed => parsed?,
                };
                let of_key = found.entry((record, key)).or_default();
                if of_key.iter().all(|other| other.text() != signature.text()) {
                    of_key.push(signature);
                }
            }
        }
        let of_key = |((record, _), signatures): ((RecordId, String), Vec<Signature>)| {
            signatures
                .into_iter()
                .map(move |signature| (record, signature))
        };
        Ok(found.into_iter().flat_map(of_key).collect())
    }
}

pub(crate) fn parse_signature(
    name: String,
    text: &[u8],
    key: &str,
) -> Result<Signature, StoreError> {
    let damaged = |what: String| StoreError::Damaged {
        name: name.clone(),
        what,
    };
    let signature = Signature::parse(text).map_err(|error| damaged(error.to_string()))?;
    match signature.fingerprint().hex() == key {
        true => Ok(signature),
        false => Err(damaged("it is not by the key in its name".into())),
    }
}
