//! Manifests: each decodes to the text of its name, and all its blobs are in bundles.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use super::objects;
use super::{Fault, PARALLEL, Remark, Survey, read};
use crate::error::StoreError;
use crate::id::{BlobId, ReleaseId};
use crate::manifest::Manifest;
use crate::release::manifest_name;
use crate::shape::Shape;

impl Survey {
    /// Judges all manifests, and what has none.
    pub(super) async fn look_at_manifests(&mut self) -> Result<(), StoreError> {
        let mut lacking: Vec<(String, ReleaseId, Vec<BlobId>)> = Vec::new();
        let mut faults = Vec::new();
        let mut sound = BTreeSet::new();
        let known: BTreeSet<BlobId> = self.tables.unreadable().into_values().flatten().collect();
        let mut read = std::pin::pin!(self.read_manifests(self.manifest_names()));
        while let Some((name, release, manifest)) = read.try_next().await? {
            match manifest {
                Ok(manifest) => {
                    sound.insert(release);
                    let blobs = manifest.blobs().into_iter();
                    // The bundle that should have it is told already.
                    let lacks = blobs
                        .filter(|(blob, size)| self.tables.index.length(blob) != Some(*size))
                        .map(|(blob, _)| blob)
                        .filter(|blob| !known.contains(blob));
                    lacking.push((name, release, lacks.collect()));
                }
                Err(fault) => faults.push((name, fault)),
            }
        }
        self.manifests = sound;
        for (name, fault) in faults {
            self.problem(&name, fault);
        }
        for (name, release, lacks) in lacking {
            if self.complete.contains(&release) || self.trees.contains_key(&release) {
                if !lacks.is_empty() {
                    self.problem(&name, Fault::Lacks(lacks));
                }
            } else if !self.tombstones.has(&name) {
                self.note(&name, Remark::Unreferenced);
            }
        }
        self.find_missing();
        Ok(())
    }

    /// Releases and trees whose manifest is not there at all.
    fn find_missing(&mut self) {
        let there: BTreeSet<ReleaseId> = self
            .manifest_names()
            .into_iter()
            .map(|(_, id)| id)
            .collect();
        let needed = self.complete.iter().chain(self.trees.keys());
        let missing: BTreeSet<ReleaseId> =
            needed.filter(|id| !there.contains(id)).copied().collect();
        for id in missing {
            self.problem(&manifest_name(&id).to_string(), Fault::Missing);
        }
    }

    pub(super) fn manifest_names(&self) -> Vec<(String, ReleaseId)> {
        self.shaped(|shape| match shape {
            Shape::Manifest(release) => Some(release),
            _ => None,
        })
    }

    /// Reads manifests, a few at a time, in order.
    pub(super) fn read_manifests(
        &self,
        names: Vec<(String, ReleaseId)>,
    ) -> impl futures::Stream<
        Item = Result<(String, ReleaseId, Result<Manifest, Fault>), StoreError>,
    > + use<> {
        let backend = std::sync::Arc::clone(&self.backend);
        let one = move |(name, release): (String, ReleaseId)| {
            let backend = std::sync::Arc::clone(&backend);
            async move {
                let manifest = match read(backend.as_ref(), &name).await? {
                    Some(Ok(stored)) => objects::manifest(stored, release).await?,
                    Some(Err(fault)) => Err(fault),
                    None => Err(Fault::Missing),
                };
                Ok((name, release, manifest))
            }
        };
        futures::stream::iter(names).map(one).buffered(PARALLEL)
    }
}
