//! Records on their way into a store: signed first, all of them, then kept one by one. A key that
//! refuses leaves none.

use std::sync::Arc;

use relstore_store::Store;
use relstore_store::id::{RecordId, ReleaseId};
use relstore_store::signature::{Namespace, Signature, Signer};

use crate::error::BuildError;

/// Records with their signatures, where there is a key.
pub(crate) struct Signed(Vec<(Vec<u8>, Option<Signature>)>);

impl Signed {
    /// Signs records.
    pub(crate) async fn all(
        signer: Option<&Arc<dyn Signer>>,
        records: Vec<Vec<u8>>,
    ) -> Result<Self, BuildError> {
        let mut signed = Vec::with_capacity(records.len());
        for record in records {
            let signature = match signer {
                Some(signer) => Some(signer.sign(Namespace::Record, &record).await?),
                None => None,
            };
            signed.push((record, signature));
        }
        Ok(Self(signed))
    }

    /// Keeps them; to be called before the release is published.
    pub(crate) async fn put(
        self,
        store: &Store,
        release: &ReleaseId,
    ) -> Result<Vec<RecordId>, BuildError> {
        let mut ids = Vec::with_capacity(self.0.len());
        for (record, signature) in self.0 {
            let id = store.put_record(release, &record).await?;
            if let Some(signature) = signature {
                store.put_signature(release, &id, &signature).await?;
            }
            ids.push(id);
        }
        Ok(ids)
    }
}
