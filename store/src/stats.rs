//! What a store holds, and how much of it is saved: by keeping equal files once, and by compressing.
//!
//! Counted over tables and manifests; no content is read. What a blob takes in a bundle is its share
//! by length, for blobs are compressed together.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt};

use crate::backend::Object;
use crate::bundle::toc::Toc;
use crate::error::StoreError;
use crate::id::{BlobId, ReleaseId};
use crate::index::Index;
use crate::shape::Shape;
use crate::store::Store;

/// Manifests that are read at once.
const PARALLEL: usize = 16;

/// Numbers about a store. Bytes of content are raw unless they are called stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// What each release brought, oldest first.
    pub growth: Vec<Growth>,
    /// Bytes of all files of all releases, equal ones counted each time.
    pub logical_bytes: u64,
    /// Different blobs that releases name.
    pub blobs: usize,
    /// Their bytes.
    pub unique_bytes: u64,
    /// Bundles.
    pub bundles: usize,
    /// Blobs in bundles, copies counted each time.
    pub packed_blobs: usize,
    /// Their bytes.
    pub packed_bytes: u64,
    /// Bytes of the bundles as they are stored.
    pub stored_bytes: u64,
    /// The share of these that only outputs of build steps name.
    pub step_bytes: u64,
    /// The share of these that nothing names, or that are further copies.
    pub garbage_bytes: u64,
    /// Stored bytes of everything else: tables, manifests, records, names.
    pub other_bytes: u64,
}

/// What a release brought to the store that those before it had not.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// The release.
    pub release: ReleaseId,
    /// When the store got its newest marker.
    pub stored: SystemTime,
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that no older release names.
    pub new_blobs: usize,
    /// Their bytes.
    pub new_bytes: u64,
    /// What they take in bundles.
    pub new_stored_bytes: u64,
}

impl Stats {
    /// How many bytes of files one byte of different content stands for; `None` without content.
    #[must_use]
    pub fn dedup_ratio(&self) -> Option<f64> {
        ratio(self.logical_bytes, self.unique_bytes)
    }

    /// How many bytes of content one byte of a bundle stands for; `None` without bundles.
    #[must_use]
    pub fn compression_ratio(&self) -> Option<f64> {
        ratio(self.packed_bytes, self.stored_bytes)
    }

    /// The part of the bundles that is garbage, from 0 to 1; `None` without bundles.
    #[must_use]
    pub fn garbage_share(&self) -> Option<f64> {
        ratio(self.garbage_bytes, self.stored_bytes)
    }
}

fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}

/// A manifest's blobs with their lengths, and what is counted of its files.
#[derive(Debug, Default)]
struct Named {
    blobs: Vec<(BlobId, u64)>,
    files: usize,
    bytes: u64,
}

/// The sums while they are made. Pure.
#[derive(Debug, Default)]
struct Tally {
    stats: Stats,
    /// What one copy of each blob takes.
    shares: HashMap<BlobId, f64>,
    named: HashSet<BlobId>,
    /// Of what is named so far.
    named_share: f64,
}

impl Tally {
    /// Begins with all that lies in bundles.
    fn of(index: &Index, objects: &[Object]) -> Self {
        let mut tally = Self::default();
        for (_, toc) in index.tables() {
            tally.add_bundle(toc);
        }
        let all: u64 = objects.iter().map(|object| object.size).sum();
        tally.stats.other_bytes = all.saturating_sub(tally.stats.stored_bytes);
        tally
    }

    fn add_bundle(&mut self, toc: &Toc) {
        let stored = toc.bundle_length().unwrap_or(0);
        let raw: u64 = toc.slots().iter().map(|slot| slot.length).sum();
        let stats = &mut self.stats;
        stats.bundles += 1;
        stats.packed_blobs += toc.slots().len();
        stats.packed_bytes += raw;
        stats.stored_bytes += stored;
        for slot in toc.slots() {
            let share = slot.length as f64 * stored as f64 / raw.max(1) as f64;
            self.shares.entry(slot.blob).or_insert(share);
        }
    }

    /// The next younger release.
    fn add_release(&mut self, release: ReleaseId, stored: SystemTime, named: &Named) {
        let mut growth = Growth {
            release,
            stored,
            files: named.files,
            bytes: named.bytes,
            new_blobs: 0,
            new_bytes: 0,
            new_stored_bytes: 0,
        };
        let before = self.named_share;
        for (blob, length) in &named.blobs {
            if self.name(blob) {
                growth.new_blobs += 1;
                growth.new_bytes += length;
            }
        }
        growth.new_stored_bytes = (self.named_share - before).round() as u64;
        self.stats.logical_bytes += growth.bytes;
        self.stats.blobs += growth.new_blobs;
        self.stats.unique_bytes += growth.new_bytes;
        self.stats.growth.push(growth);
    }

    /// A tree that is no release, after all releases: the output of a build step.
    fn add_step(&mut self, named: &Named) {
        let before = self.named_share;
        for (blob, _) in &named.blobs {
            self.name(blob);
        }
        self.stats.step_bytes += (self.named_share - before).round() as u64;
    }

    /// Whether nothing named this blob before.
    fn name(&mut self, blob: &BlobId) -> bool {
        let new = self.named.insert(*blob);
        if new {
            self.named_share += self.shares.get(blob).copied().unwrap_or(0.0);
        }
        new
    }

    fn finish(mut self) -> Stats {
        let named = self.named_share.round() as u64;
        self.stats.garbage_bytes = self.stats.stored_bytes.saturating_sub(named);
        self.stats
    }
}

impl Store {
    /// Counts what the store holds.
    ///
    /// # Errors
    /// Those of the backend, and of [`Store::manifest`] for a release.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        let objects = self.backend.list("").await?;
        let mut tally = Tally::of(self.index().await?.as_ref(), &objects);
        let mut releases: Vec<_> = self.release_times().await?.into_iter().collect();
        releases.sort_by_key(|(release, time)| (*time, *release));
        let steps = step_trees(&objects, &releases);
        let read = |(release, time)| async move {
            Ok::<_, StoreError>((release, time, self.named(&release).await?))
        };
        let mut found = futures::stream::iter(releases).map(read).buffered(PARALLEL);
        while let Some((release, time, named)) = found.try_next().await? {
            tally.add_release(release, time, &named);
        }
        drop(found);
        let read = |tree| async move { self.named(&tree).await };
        let mut found = futures::stream::iter(steps).map(read).buffered(PARALLEL);
        while let Some(named) = found.next().await {
            match named {
                Ok(named) => tally.add_step(&named),
                // Collected meanwhile, or damaged: then it keeps nothing either.
                Err(StoreError::NoRelease { .. } | StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tally.finish())
    }

    async fn named(&self, tree: &ReleaseId) -> Result<Named, StoreError> {
        let manifest = self.manifest(tree).await?;
        Ok(Named {
            blobs: manifest.blobs().into_iter().collect(),
            files: manifest.file_count(),
            bytes: manifest.content_bytes(),
        })
    }
}

/// Manifests that are not those of releases, each once.
fn step_trees(objects: &[Object], releases: &[(ReleaseId, SystemTime)]) -> Vec<ReleaseId> {
    let releases: HashSet<ReleaseId> = releases.iter().map(|(release, _)| *release).collect();
    let mut trees: Vec<ReleaseId> = objects
        .iter()
        .filter_map(|object| match Shape::of(&object.name) {
            Shape::Manifest(tree) => Some(tree),
            _ => None,
        })
        .filter(|tree| !releases.contains(tree))
        .collect();
    trees.dedup();
    trees
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bundle::toc::{Frame, Slot};
    use std::time::UNIX_EPOCH;

    fn blob(number: u8) -> BlobId {
        BlobId::from_bytes([number; 32])
    }

    /// A bundle of blobs of these lengths, which take a tenth of it (and the table its own).
    fn bundle(blobs: &[(u8, u64)]) -> Toc {
        let raw: u64 = blobs.iter().map(|(_, length)| length).sum();
        let frame = Frame {
            offset: 0,
            stored: (raw / 10) as u32,
            raw: raw as u32,
        };
        let mut offset = 0;
        let mut slots = Vec::new();
        for (number, length) in blobs {
            slots.push(Slot {
                blob: blob(*number),
                frame: 0,
                offset,
                length: *length,
            });
            offset += *length as u32;
        }
        Toc::new(vec![frame], slots).unwrap()
    }

    fn named(blobs: &[(u8, u64)]) -> Named {
        let blobs: Vec<_> = blobs
            .iter()
            .map(|(n, length)| (blob(*n), *length))
            .collect();
        Named {
            files: blobs.len() + 1, // one of them twice
            bytes: blobs.iter().map(|(_, length)| length).sum::<u64>() + blobs[0].1,
            blobs,
        }
    }

    #[test]
    fn each_release_counts_what_no_older_one_has() {
        let mut tally = Tally::default();
        tally.add_bundle(&bundle(&[(1, 1000), (2, 3000), (9, 4000)]));
        tally.add_bundle(&bundle(&[(2, 3000), (3, 1000)]));
        let stored = tally.stats.stored_bytes;
        let (a, b) = (ReleaseId::of(b"a"), ReleaseId::of(b"b"));
        tally.add_release(a, UNIX_EPOCH, &named(&[(1, 1000), (2, 3000)]));
        tally.add_release(b, UNIX_EPOCH, &named(&[(2, 3000), (3, 1000)]));
        let stats = tally.finish();
        let new: Vec<_> = stats
            .growth
            .iter()
            .map(|one| (one.new_blobs, one.new_bytes))
            .collect();
        assert_eq!(new, [(2, 4000), (1, 1000)]);
        assert_eq!((stats.blobs, stats.unique_bytes), (3, 5000));
        assert_eq!(stats.logical_bytes, 5000 + 7000);
        assert_eq!((stats.bundles, stats.packed_blobs), (2, 5));
        assert_eq!(stats.packed_bytes, 12_000);
        assert_eq!(stats.dedup_ratio(), Some(2.4));
        let grown: u64 = stats.growth.iter().map(|one| one.new_stored_bytes).sum();
        let told = grown + stats.garbage_bytes;
        assert!(told.abs_diff(stored) <= 2, "{told} of {stored}, rounded");
        // Half of the first bundle, and the copy in the second one.
        assert!(
            (0.5..0.7).contains(&stats.garbage_share().unwrap()),
            "{stats:?}"
        );
    }

    #[test]
    fn what_steps_made_is_no_garbage() {
        let mut tally = Tally::default();
        tally.add_bundle(&bundle(&[(1, 1000), (2, 3000)]));
        tally.add_release(ReleaseId::of(b"a"), UNIX_EPOCH, &named(&[(1, 1000)]));
        tally.add_step(&named(&[(1, 1000), (2, 3000)]));
        let stats = tally.finish();
        assert_eq!(stats.garbage_bytes, 0);
        assert_eq!(stats.blobs, 1);
        assert!(stats.step_bytes > stats.stored_bytes / 2);
    }

    #[test]
    fn an_empty_store_has_no_ratios() {
        let stats = Tally::default().finish();
        assert_eq!(stats.dedup_ratio(), None);
        assert_eq!(stats.compression_ratio(), None);
        assert_eq!(stats.garbage_share(), None);
    }
}
