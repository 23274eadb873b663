//! What a host lacks of a release, and how it is to be sent. Pure; [`crate::pack`] encodes it.
//!
//! The host says which releases it has complete, the store has their manifests: so what is
//! missing is known without asking. A changed file is sent with the old content of the same path
//! as reference, all else in packs of similar files.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use relstore_store::Store;
use relstore_store::StoreError;
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::manifest::{Entry, Manifest};
use relstore_store::name::EntryPath;

use crate::protocol::{BaseState, Current};

/// Largest content that is used as reference, and largest one that is sent with one, in bytes.
/// Both together stay within the 128 MiB that every zstd decoder accepts as window.
const MAX_REFERENCE: u64 = 64 << 20;
/// Complete releases beside the active and the previous one that may be the base.
const OTHER_BASES: usize = 3;

/// A release's manifest in the forms that are needed.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) release: ReleaseId,
    pub(crate) manifest: Arc<Manifest>,
}

/// A file to be sent with its old content as reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) blob: BlobId,
    pub(crate) size: u64,
    pub(crate) old: BlobId,
    pub(crate) old_size: u64,
}

/// What is to be sent to one host.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    /// The release.
    pub(crate) release: ReleaseId,
    /// Its manifest's text.
    pub(crate) manifest: Arc<Vec<u8>>,
    /// A complete release of the host and its manifest's text.
    pub(crate) base: Option<(ReleaseId, Arc<Vec<u8>>)>,
    /// Changed files, by extension and path: as they lie in the store.
    pub(crate) patches: Vec<Patch>,
    /// All else, with sizes.
    pub(crate) whole: Vec<(BlobId, u64)>,
}

impl Transfer {
    /// Raw bytes of all that is sent.
    pub(crate) fn raw_bytes(&self) -> u64 {
        let patches = self.patches.iter().map(|patch| patch.size);
        patches
            .chain(self.whole.iter().map(|(_, size)| *size))
            .sum()
    }

    /// Number of blobs.
    pub(crate) fn blobs(&self) -> usize {
        self.patches.len() + self.whole.len()
    }
}

/// Plans what to send: `complete` are the releases the host has and the store knows, in the order
/// of preference as base; `in_store` tells which old contents can serve as reference here.
pub(crate) fn plan(
    new: &Known,
    complete: &[Known],
    in_store: impl Fn(&BlobId) -> bool,
) -> Transfer {
    // Hosts keep plain and executable files apart: one inode has one mode.
    let present: BTreeSet<(BlobId, bool)> = complete
        .iter()
        .flat_map(|known| known.manifest.entries())
        .filter_map(variant)
        .collect();
    let mut missing: BTreeSet<BlobId> = new
        .manifest
        .entries()
        .iter()
        .filter_map(variant)
        .filter(|variant| !present.contains(variant))
        .map(|(blob, _)| blob)
        .collect();

    let wanted = new.manifest.blobs();
    let lacking = |known: &&Known| -> u64 {
        let has = known.manifest.blobs();
        wanted
            .iter()
            .filter(|(blob, _)| !has.contains_key(*blob))
            .map(|(_, size)| *size)
            .sum()
    };
    // `min_by_key` takes the first of equal ones, so the active release wins a tie.
    let base = complete.iter().take(2 + OTHER_BASES).min_by_key(lacking);

    let old: HashMap<&EntryPath, (BlobId, u64)> = base
        .iter()
        .flat_map(|base| base.manifest.entries())
        .filter_map(|entry| Some((&entry.path, entry.kind.content()?)))
        .collect();
    let mut order: Vec<(&EntryPath, BlobId, u64)> = Vec::new();
    for entry in new.manifest.entries() {
        if let Some((blob, size)) = entry.kind.content()
            && missing.remove(&blob)
        {
            order.push((&entry.path, blob, size));
        }
    }
    order.sort_by_key(|(path, ..)| (path.extension(), *path));
    let (mut patches, mut whole) = (Vec::new(), Vec::new());
    for (path, blob, size) in order {
        // Content that the host has with the other mode is its own best reference.
        let same = [false, true].map(|executable| (blob, executable));
        let old = match same.iter().any(|variant| present.contains(variant)) {
            true => Some((blob, size)),
            false => old.get(path).copied(),
        };
        match old {
            Some((old, old_size))
                if (1..=MAX_REFERENCE).contains(&old_size)
                    && size <= MAX_REFERENCE
                    && in_store(&old) =>
            {
                patches.push(Patch {
                    blob,
                    size,
                    old,
                    old_size,
                });
            }
            _ => whole.push((blob, size)),
        }
    }
    Transfer {
        release: new.release,
        manifest: Arc::new(new.manifest.to_text()),
        base: base.map(|base| (base.release, Arc::new(base.manifest.to_text()))),
        patches,
        whole,
    }
}

/// A file's content and whether it is executable.
fn variant(entry: &Entry) -> Option<(BlobId, bool)> {
    let (blob, _) = entry.kind.content()?;
    Some((blob, entry.kind.is_executable()))
}

/// Reads the manifests of the releases that are complete on a host, those that are likely bases
/// first: the active one, the previous one, the others from the end of the host's list.
/// Releases the store does not know are left out.
pub(crate) async fn complete_releases(
    store: &Store,
    state: &BaseState,
) -> Result<Vec<Known>, StoreError> {
    let active = match &state.current {
        Current::Release(release) => Some(*release),
        _ => None,
    };
    let mut order: Vec<ReleaseId> = Vec::new();
    for release in active
        .into_iter()
        .chain(state.previous)
        .chain(state.complete.iter().rev().copied())
    {
        if state.complete.contains(&release) && !order.contains(&release) {
            order.push(release);
        }
    }
    let mut known = Vec::new();
    for release in order {
        match store.manifest(&release).await {
            Ok(manifest) => known.push(Known {
                release,
                manifest: Arc::new(manifest),
            }),
            Err(StoreError::NoRelease { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
