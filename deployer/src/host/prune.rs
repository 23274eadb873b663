//! Removes old releases, then blobs that no kept release names. Runs under the lock, after the
//! outcome is in the ledger.

use std::collections::{HashMap, HashSet};
use std::fs;

use relstore_store::id::{BlobId, ReleaseId};

use super::base::Base;
use super::error::{At, Result};
use super::{blobs, book, disk};
use crate::ledger::Entry;
use crate::protocol::Pruned;

/// Keeps `keep` releases: the active and the previous one always, then those that were live last;
/// one that never was live comes after all that were, so failed deploys push no good release out.
pub(crate) fn prune(base: &Base, keep: u32) -> Result<Pruned> {
    let mut pruned = Pruned {
        removed: Vec::new(),
        blobs: 0,
        bytes: 0,
        problems: Vec::new(),
    };
    let complete = base.complete_releases()?;
    let kept: HashSet<ReleaseId> = kept(base, &complete, keep as usize)?;
    for id in complete.iter().filter(|id| !kept.contains(id)) {
        // The note goes first: a folder without it is not trusted, whatever is left of it.
        disk::remove(&base.complete_file(id))?;
        let trash = base
            .private("trash")
            .join(format!("{}-{}", id.short(), disk::now_ms()));
        if fs::rename(base.release(id), &trash).is_ok() {
            pruned.problems.extend(disk::remove_tree(&trash));
        }
        disk::remove(&base.manifest_file(id))?;
        disk::remove(&base.private("warm").join(id.to_string()))?;
        pruned.removed.push(*id);
    }
    remove_blobs(base, &kept, &mut pruned)?;
    Ok(pruned)
}

fn kept(base: &Base, complete: &[ReleaseId], keep: usize) -> Result<HashSet<ReleaseId>> {
    let mut live: HashMap<ReleaseId, i64> = HashMap::new();
    for line in book::lines(base)? {
        if let Ok(entry) = serde_json::from_str::<Entry>(&line)
            && entry.outcome == "live"
        {
            live.insert(entry.release, entry.at_ms);
        }
    }
    let mut ranked = Vec::with_capacity(complete.len());
    for id in complete {
        let at_ms = base.complete(id)?.map_or(0, |complete| complete.at_ms);
        ranked.push((live.get(id).copied(), at_ms, *id));
    }
    ranked.sort_by(|a, b| b.cmp(a));
    let mut kept: HashSet<ReleaseId> = [base.active()?, base.previous_release()?]
        .into_iter()
        .flatten()
        .collect();
    for (_, _, id) in ranked {
        if kept.len() >= keep {
            break;
        }
        kept.insert(id);
    }
    Ok(kept)
}

/// Removes blobs that no kept manifest names. When one of those cannot be read, nothing is
/// removed: what it names is not known.
fn remove_blobs(base: &Base, kept: &HashSet<ReleaseId>, pruned: &mut Pruned) -> Result<()> {
    let mut named: HashSet<(BlobId, bool)> = HashSet::new();
    for id in kept {
        let Some((manifest, _)) = base.manifest(id)? else {
            pruned.problems.push(format!(
                "the manifest of {} is missing or damaged: no blobs were removed",
                id.short()
            ));
            return Ok(());
        };
        for entry in manifest.entries() {
            named.extend(
                entry
                    .kind
                    .content()
                    .map(|(blob, _)| (blob, entry.kind.is_executable())),
            );
        }
    }
    let root = base.private("blobs");
    for folder in fs::read_dir(&root).at("list", &root)?.flatten() {
        let prefix = folder.file_name().to_string_lossy().into_owned();
        for file in fs::read_dir(folder.path())
            .at("list", &folder.path())?
            .flatten()
        {
            let name = file.file_name().to_string_lossy().into_owned();
            let Some(blob) = blobs::named(&prefix, &name) else {
                continue;
            };
            if named.contains(&blob) {
                continue;
            }
            let bytes = file.metadata().map_or(0, |meta| meta.len());
            match fs::remove_file(file.path()) {
                Ok(()) => {
                    pruned.blobs += 1;
                    pruned.bytes += bytes;
                }
                Err(error) => pruned
                    .problems
                    .push(format!("{}: {error}", file.path().display())),
            }
        }
    }
    Ok(())
}
