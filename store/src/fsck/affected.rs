//! What cannot be used because of what is wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::TryStreamExt;

use super::{Affected, Fault, Survey};
use crate::error::StoreError;
use crate::id::{BlobId, ReleaseId};
use crate::shape::{Shape, Signed};

impl Survey {
    /// Fills in what each problem affects. Manifests are read a second time, when blobs are lost:
    /// remembering the blobs of all of them would need memory for each.
    pub(super) async fn find_affected(&mut self) -> Result<(), StoreError> {
        let mut trees: Vec<BTreeSet<ReleaseId>> = vec![BTreeSet::new(); self.problems.len()];
        for (at, problem) in self.problems.iter().enumerate() {
            if let Shape::Manifest(tree) = Shape::of(&problem.object) {
                trees[at].insert(tree);
            }
        }
        let blame = self.blame();
        if !blame.is_empty() {
            let mut read = std::pin::pin!(self.read_manifests(self.manifest_names()));
            while let Some((_, tree, manifest)) = read.try_next().await? {
                let Ok(manifest) = manifest else { continue };
                for blob in manifest.blobs().keys() {
                    for at in blame.get(blob).into_iter().flatten() {
                        trees[*at].insert(tree);
                    }
                }
            }
        }
        let affected: Vec<Affected> = trees
            .iter()
            .zip(&self.problems)
            .map(|(trees, problem)| self.affected(trees, &problem.object))
            .collect();
        for (problem, affects) in self.problems.iter_mut().zip(affected) {
            problem.affects = affects;
        }
        Ok(())
    }

    /// Blobs that no bundle has whole, and the problems that are to blame.
    fn blame(&self) -> HashMap<BlobId, Vec<usize>> {
        let mut bad: HashMap<BlobId, usize> = HashMap::new();
        for problem in &self.problems {
            if let Fault::Blobs(blobs) = &problem.fault {
                for blob in blobs {
                    *bad.entry(*blob).or_default() += 1;
                }
            }
        }
        let unreadable = self.tables.unreadable();
        let mut blame: HashMap<BlobId, Vec<usize>> = HashMap::new();
        for (at, problem) in self.problems.iter().enumerate() {
            let lost: Vec<BlobId> = match &problem.fault {
                Fault::Blobs(blobs) => {
                    let everywhere = |blob: &&BlobId| bad[*blob] >= self.tables.index.copies(blob);
                    blobs.iter().filter(everywhere).copied().collect()
                }
                Fault::Lacks(blobs) => blobs.clone(),
                _ => {
                    let lost = unreadable.get(problem.object.as_str());
                    lost.into_iter().flatten().copied().collect()
                }
            };
            for blob in lost {
                blame.entry(blob).or_default().push(at);
            }
        }
        blame
    }

    fn affected(&self, trees: &BTreeSet<ReleaseId>, object: &str) -> Affected {
        let mut affected = Affected {
            releases: trees.intersection(&self.complete).copied().collect(),
            outputs: trees
                .iter()
                .filter_map(|tree| self.trees.get(tree))
                .flatten()
                .copied()
                .collect(),
        };
        match Shape::of(object) {
            Shape::Record(release, _)
            | Shape::Marker(release)
            | Shape::Commit(_, release)
            | Shape::Pin(release)
            | Shape::Signature {
                of: Signed::Record(release),
                ..
            } => affected.releases.push(release),
            Shape::Derivation(key, _)
            | Shape::Signature {
                of: Signed::Derivation(key),
                ..
            } => {
                affected.outputs.push(key);
            }
            Shape::Format => affected.releases.extend(self.complete.iter().copied()),
            _ => {}
        }
        affected
    }
}

/// Problems by release, for those who ask what they lose.
impl super::Report {
    /// Releases that cannot be used, with the objects that are to blame.
    #[must_use]
    pub fn by_release(&self) -> BTreeMap<ReleaseId, Vec<&str>> {
        let mut releases: BTreeMap<ReleaseId, Vec<&str>> = BTreeMap::new();
        for problem in &self.problems {
            for release in &problem.affects.releases {
                releases.entry(*release).or_default().push(&problem.object);
            }
        }
        releases
    }
}
