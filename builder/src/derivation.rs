//! What is known of a key: records of derivations, written and believed. Pure but for the store.
//!
//! ```json
//! {"version":1,"key":"<key>","step":"composer","tree":"<manifest id>","sandboxed":true,
//!  "tools":{"php":"8.2.1"},"started":"...","finished":"...","relstore":"0.1.0"}
//! ```
//! Failed steps leave none.

use std::collections::BTreeMap;
use std::time::SystemTime;

use relstore_store::Store;
use relstore_store::allowed_signers::AllowedSigners;
use relstore_store::id::{DerivationKey, RecordId, ReleaseId};
use relstore_store::signature::Namespace;
use serde::{Deserialize, Serialize};

use crate::error::BuildError;

/// What a step made, as its builder says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// Of this format: 1.
    pub version: u32,
    /// All that it depends on.
    pub key: DerivationKey,
    /// The step's name.
    pub step: String,
    /// The manifest of what it made, paths from the application's folder.
    pub tree: ReleaseId,
    /// Whether it ran in a sandbox.
    pub sandboxed: bool,
    /// Tools by name, for people.
    pub tools: BTreeMap<String, String>,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
    /// Version of relstore.
    pub relstore: String,
    /// RFC 3339: when it was used and found to be old, so that it is not forgotten; absent in the first word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<String>,
}

/// A derivation that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its record.
    pub record: RecordId,
    /// What it says.
    pub derivation: Derivation,
    /// The key of the trusted builder who signed it, where one is asked for.
    pub signer: Option<String>,
    /// When the store got it.
    pub stored: SystemTime,
}

impl Derivation {
    /// The record's bytes: one JSON document with a line end.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("texts and numbers are JSON");
        json.push(b'\n');
        json
    }

    /// Reads a record of this key. `None` when it is not one, or of a later version: then the step
    /// just runs.
    #[must_use]
    pub fn parse(json: &[u8], key: &DerivationKey) -> Option<Self> {
        let derivation: Self = serde_json::from_slice(json).ok()?;
        (derivation.version == 1 && derivation.key == *key).then_some(derivation)
    }
}

/// Looks a key up: the newest derivation whose tree is there. `trust`: only those that one of these
/// signed count, at this time. A tree could be any code, so whose word it is matters wherever others
/// may write into the store.
pub(crate) async fn find(
    store: &Store,
    key: &DerivationKey,
    trust: Option<(&AllowedSigners, SystemTime)>,
) -> Result<Option<Known>, BuildError> {
    for found in store.derivations(key).await? {
        let Some(derivation) = Derivation::parse(&found.record.json, key) else {
            continue;
        };
        let mut signer = None;
        if let Some((allowed, now)) = trust {
            let signatures = store.derivation_signatures(key, &found.record.id).await?;
            let mut verified = signatures.iter().filter_map(|signature| {
                let json = &found.record.json;
                allowed
                    .verify(Namespace::Derivation, json, signature, now)
                    .ok()
            });
            let Some(identity) = verified.next() else {
                continue;
            };
            signer = Some(identity.fingerprint.to_string());
        }
        if store.manifest(&derivation.tree).await.is_ok() {
            return Ok(Some(Known {
                record: found.record.id,
                derivation,
                signer,
                stored: found.stored,
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn derivation() -> Derivation {
        Derivation {
            version: 1,
            key: DerivationKey::of(b"key"),
            step: "composer".to_owned(),
            tree: ReleaseId::of(b"tree"),
            sandboxed: true,
            tools: BTreeMap::new(),
            started: "2024-01-01T00:00:00Z".to_owned(),
            finished: "2024-01-01T00:00:01Z".to_owned(),
            relstore: "0.1.0".to_owned(),
            renewed: None,
        }
    }

    #[test]
    fn a_record_is_believed_for_its_own_key_and_version_only() {
        let mine = derivation();
        let json = mine.to_json();
        assert_eq!(Derivation::parse(&json, &mine.key), Some(mine.clone()));
        assert_eq!(Derivation::parse(&json, &DerivationKey::of(b"other")), None);
        let later = Derivation {
            version: 2,
            ..mine.clone()
        };
        assert_eq!(Derivation::parse(&later.to_json(), &mine.key), None);
        assert_eq!(Derivation::parse(b"{", &mine.key), None);
    }
}
