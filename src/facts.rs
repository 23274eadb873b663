//! What tables show of releases, remembered from one run to the next: reading a thousand manifests and
//! records takes seconds, and what a hash names never changes.
//!
//! ```text
//! <cache>/facts/<hash of the store's place>      "relstore-facts 1\n", JSON, 32 bytes BLAKE3 of both
//! ```
//! Only what the store lists is shown, whatever the file says; one that is damaged, of another version
//! or lost is made again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use relstore_store::Store;
use relstore_store::catalog::Catalog;
use relstore_store::id::{RecordId, ReleaseId};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Result;
use crate::said::{BuildSaid, RecordKind, Said};

const MAGIC: &[u8] = b"relstore-facts 1\n";
/// Releases that are read at once.
const PARALLEL: usize = 16;

/// Sums of a release's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// As much of a build as tables show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Build {
    finished: Option<String>,
    commit: Option<String>,
    dirty: bool,
}

/// Facts by what they are about.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    sums: HashMap<ReleaseId, Sums>,
    /// `None` for a record that is about no build.
    builds: HashMap<RecordId, Option<Build>>,
}

impl Facts {
    /// The facts about all releases of a store: remembered ones, and what has to be read.
    pub(crate) async fn of(context: &Context, store: &Store, catalog: &Catalog) -> Result<Self> {
        let place = place(context, store);
        let mut facts = place.as_deref().and_then(load).unwrap_or_default();
        let known = facts.sums.len() + facts.builds.len();
        facts.keep(catalog);
        let kept = facts.sums.len() + facts.builds.len();
        let added = facts.read(store, catalog).await?;
        if let Some(place) = place.filter(|_| added || kept < known) {
            // Without a file all of it is read again next time.
            let _ = relstore_store::fs::replace(&place, &facts.to_bytes());
        }
        Ok(facts)
    }

    /// The sums of a release of the catalog.
    pub(crate) fn sums(&self, release: &ReleaseId) -> Sums {
        let none = Sums { files: 0, bytes: 0 };
        self.sums.get(release).copied().unwrap_or(none)
    }

    /// The builds that records of the catalog tell of.
    pub(crate) fn said(&self, records: &[RecordId]) -> Said {
        let known = records
            .iter()
            .filter_map(|id| self.builds.get(id)?.as_ref());
        let builds = known.map(|build| BuildSaid {
            finished: build.finished.clone(),
            commit: build.commit.clone(),
            dirty: build.dirty,
            ..BuildSaid::default()
        });
        Said {
            builds: builds.collect(),
            ..Said::default()
        }
    }

    /// Forgets what the store has no more.
    fn keep(&mut self, catalog: &Catalog) {
        let records: std::collections::HashSet<&RecordId> =
            catalog.releases.values().flatten().collect();
        self.sums.retain(|id, _| catalog.releases.contains_key(id));
        self.builds.retain(|id, _| records.contains(id));
    }

    /// Reads what is not known; whether that was anything.
    async fn read(&mut self, store: &Store, catalog: &Catalog) -> Result<bool> {
        let mut wanted = Vec::new();
        for (release, records) in &catalog.releases {
            let unknown = |id: &&RecordId| !self.builds.contains_key(id);
            let records: Vec<RecordId> = records.iter().filter(unknown).copied().collect();
            let sums = !self.sums.contains_key(release);
            if sums || !records.is_empty() {
                wanted.push((*release, sums, records));
            }
        }
        let any = !wanted.is_empty();
        let one = |(release, sums, records)| read_one(store, release, sums, records);
        let mut found = futures::stream::iter(wanted)
            .map(one)
            .buffer_unordered(PARALLEL);
        while let Some((sums, builds)) = found.try_next().await? {
            self.sums.extend(sums);
            self.builds.extend(builds);
        }
        Ok(any)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        serde_json::to_writer(&mut bytes, self).expect("ids, texts and numbers are JSON");
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, digest) = bytes.split_last_chunk::<32>()?;
        let sound = blake3::hash(body).as_bytes() == digest;
        let body = body.strip_prefix(MAGIC).filter(|_| sound)?;
        serde_json::from_slice(body).ok()
    }
}

type Read = (Option<(ReleaseId, Sums)>, Vec<(RecordId, Option<Build>)>);

async fn read_one(
    store: &Store,
    release: ReleaseId,
    sums: bool,
    records: Vec<RecordId>,
) -> Result<Read> {
    let mut builds = Vec::new();
    for id in records {
        let Some(record) = store.record(&release, &id).await? else {
            continue;
        };
        let build = match RecordKind::of(&record) {
            RecordKind::Provenance => Said::of(&[record]).builds.pop(),
            _ => None,
        };
        let build = build.map(|build| Build {
            finished: build.finished,
            commit: build.commit,
            dirty: build.dirty,
        });
        builds.push((id, build));
    }
    if !sums {
        return Ok((None, builds));
    }
    let manifest = store.manifest(&release).await?;
    let sums = Sums {
        files: manifest.file_count() as u64,
        bytes: manifest.content_bytes(),
    };
    Ok((Some((release, sums)), builds))
}

fn place(context: &Context, store: &Store) -> Option<PathBuf> {
    context.cache_of("facts", &store.place()).ok()
}

fn load(path: &Path) -> Option<Facts> {
    Facts::parse(&std::fs::read(path).ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts() -> Facts {
        let build = Build {
            finished: Some("2026-11-20T14:02:59Z".to_owned()),
            commit: None,
            dirty: true,
        };
        Facts {
            sums: [(
                ReleaseId::of(b"a"),
                Sums {
                    files: 3,
                    bytes: 44,
                },
            )]
            .into(),
            builds: [
                (RecordId::of(b"1"), Some(build)),
                (RecordId::of(b"2"), None),
            ]
            .into(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_not_believed() {
        let bytes = facts().to_bytes();
        assert_eq!(Facts::parse(&bytes), Some(facts()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Facts::parse(&damaged), None, "byte {at}");
            assert_eq!(Facts::parse(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn what_the_store_has_no_more_is_forgotten() {
        let mut known = facts();
        let (release, record) = (ReleaseId::of(b"a"), RecordId::of(b"1"));
        let catalog = Catalog {
            releases: [(release, vec![record])].into(),
            latest: None,
        };
        known.keep(&catalog);
        assert_eq!((known.sums.len(), known.builds.len()), (1, 1));
        assert!(known.said(&[record]).builds[0].dirty);
        known.keep(&Catalog::default());
        assert_eq!(known, Facts::default());
    }
}
