//! Blobs of damaged and lost bundles: what is intact, what other stores have, what may go then.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;

use super::{Action, Mended};
use crate::backend::Backend;
use crate::bundle::reader::read_toc;
use crate::bundle::toc::Toc;
use crate::error::StoreError;
use crate::event::{Event, Listener};
use crate::fsck::Survey;
use crate::fsck::frames::{self, Sampled};
use crate::id::{BlobId, ReleaseId};
use crate::index::{Index, bundle_name, index_name};
use crate::shape::Shape;
use crate::store::Store;

/// A damaged bundle, or a lost one of which the index is left.
#[derive(Debug)]
struct Bad {
    /// In the order in which they are deleted.
    objects: Vec<String>,
    /// The bundle, or the index that is left.
    name: String,
    /// What it should hold, when that is known.
    toc: Option<Toc>,
    intact: BTreeSet<BlobId>,
}

/// What is to be done about blobs.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    bad: Vec<Bad>,
    /// Intact blobs that lie in damaged bundles alone.
    salvage: Vec<BlobId>,
    /// Blobs that other stores have, by their numbers.
    fetch: BTreeMap<usize, Vec<BlobId>>,
    /// Blobs that something needs and nobody has.
    pub(super) remaining: HashSet<BlobId>,
    /// Whether what everything needs is known.
    all_manifests: bool,
    /// Manifests whose blobs are all there, or will be.
    whole: BTreeSet<ReleaseId>,
    tables: BTreeSet<String>,
    commits: BTreeMap<ReleaseId, Vec<String>>,
}

impl Rescue {
    /// Looks at these bundles closely, and at what all manifests need.
    pub(super) async fn find(
        backend: &Arc<dyn Backend>,
        suspects: &BTreeSet<String>,
        sources: &[Store],
        events: Listener<'_>,
    ) -> Result<Self, StoreError> {
        let mut survey = Survey::begin(backend).await?;
        survey.look_at_objects().await?;
        let mut rescue = Self::default();
        rescue.find_bad(&survey, suspects, events).await?;
        let good = Good::of(&survey, &rescue.bad);
        let mut saved: HashSet<BlobId> = HashSet::new();
        for bad in &rescue.bad {
            let intact = bad.intact.iter().filter(|blob| !good.has(blob));
            saved.extend(intact.copied());
        }
        rescue.salvage = saved.iter().copied().collect();
        rescue.salvage.sort_unstable();
        let mut lost: BTreeMap<BlobId, u64> = BTreeMap::new();
        let mut sound = BTreeSet::new();
        let mut read = std::pin::pin!(survey.read_manifests(survey.manifest_names()));
        while let Some((_, tree, manifest)) = read.try_next().await? {
            let Ok(manifest) = manifest else { continue };
            sound.insert(tree);
            let blobs = manifest.blobs();
            let absent = |(blob, _): &(BlobId, u64)| !good.has(blob) && !saved.contains(blob);
            let absent: Vec<(BlobId, u64)> = blobs.into_iter().filter(absent).collect();
            if absent.is_empty() {
                rescue.whole.insert(tree);
            }
            lost.extend(absent);
        }
        let named = survey.manifest_names().into_iter().map(|(_, tree)| tree);
        let mut needed = named
            .chain(survey.complete.iter().copied())
            .chain(survey.trees.keys().copied());
        rescue.all_manifests = needed.all(|tree| sound.contains(&tree));
        rescue.ask(sources, lost).await?;
        rescue.tables = survey
            .tables
            .packs
            .iter()
            .map(|pack| pack.name.clone())
            .collect();
        for (_, (commit, release)) in survey.shaped(|shape| match shape {
            Shape::Commit(commit, release) => Some((commit.to_owned(), release)),
            _ => None,
        }) {
            rescue.commits.entry(release).or_default().push(commit);
        }
        Ok(rescue)
    }

    async fn find_bad(
        &mut self,
        survey: &Survey,
        suspects: &BTreeSet<String>,
        events: Listener<'_>,
    ) -> Result<(), StoreError> {
        let tables = &survey.tables;
        let faulty: BTreeSet<String> = tables.faults().into_iter().map(|(name, _)| name).collect();
        let indexes: HashSet<&str> = survey
            .objects
            .iter()
            .map(|object| object.name.as_str())
            .collect();
        for pack in &tables.packs {
            if !suspects.contains(&pack.name) && !faulty.contains(&pack.name) {
                continue;
            }
            let mut bad = Bad {
                objects: vec![pack.name.clone()],
                name: pack.name.clone(),
                toc: tables.toc(pack).cloned(),
                intact: BTreeSet::new(),
            };
            if let Some(toc) = &bad.toc {
                let backend = survey.backend.as_ref();
                let look = frames::look(backend, &pack.name, pack.size, toc, Sampled::All, events);
                let verdict = look.await?;
                if frames::faults(&pack.name, &verdict).is_empty() && !faulty.contains(&pack.name) {
                    continue;
                }
                let blobs = toc.slots().iter().map(|slot| slot.blob);
                bad.intact = blobs.filter(|blob| !verdict.bad.contains(blob)).collect();
            }
            if let Shape::Bundle(stem) = Shape::of(&pack.name) {
                let index = index_name(stem);
                // The index last, as in garbage collection: a bundle without one gets it again.
                if indexes.contains(index.as_str()) {
                    bad.objects.push(index);
                }
            }
            self.bad.push(bad);
        }
        for (name, toc) in &tables.orphans {
            self.bad.push(Bad {
                objects: vec![name.clone()],
                name: name.clone(),
                toc: toc.clone(),
                intact: BTreeSet::new(),
            });
        }
        Ok(())
    }

    /// Which store has what is lost here.
    async fn ask(
        &mut self,
        sources: &[Store],
        lost: BTreeMap<BlobId, u64>,
    ) -> Result<(), StoreError> {
        self.remaining = lost.keys().copied().collect();
        for (number, source) in sources.iter().enumerate() {
            if self.remaining.is_empty() {
                break;
            }
            let index = source.index().await?;
            let has = |blob: &BlobId| index.length(blob) == lost.get(blob).copied();
            let mut found: Vec<BlobId> = self
                .remaining
                .iter()
                .filter(|blob| has(blob))
                .copied()
                .collect();
            found.sort_unstable();
            if !found.is_empty() {
                for blob in &found {
                    self.remaining.remove(blob);
                }
                self.fetch.insert(number, found);
            }
        }
        Ok(())
    }

    /// What will be done, for people.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.salvage.is_empty() {
            actions.push(Action::Salvage {
                blobs: self.salvage.len(),
            });
        }
        for (source, blobs) in &self.fetch {
            actions.push(Action::Fetch {
                blobs: blobs.len(),
                source: *source,
            });
        }
        let removed = self.bad.iter().filter(|bad| self.may_go(bad));
        let objects = removed.flat_map(|bad| bad.objects.clone());
        actions.extend(objects.map(|object| Action::Remove { object }));
        actions
    }

    /// Whether nothing needs what this bundle alone should hold.
    fn may_go(&self, bad: &Bad) -> bool {
        let Some(toc) = &bad.toc else {
            return self.all_manifests && self.remaining.is_empty();
        };
        let mut blobs = toc.slots().iter().map(|slot| slot.blob);
        // A manifest that cannot be read may need what is damaged here: somebody may still want the bytes.
        let unneeded = self.all_manifests || bad.intact.len() == toc.slots().len();
        unneeded && blobs.all(|blob| !self.remaining.contains(&blob))
    }

    /// Whether an object goes.
    pub(super) fn removes(&self, object: &str) -> bool {
        let bad = self
            .bad
            .iter()
            .find(|bad| bad.objects.iter().any(|name| name == object));
        bad.is_some_and(|bad| self.may_go(bad))
    }

    /// Whether a bundle is damaged.
    pub(super) fn is_bad(&self, bundle: &str) -> bool {
        self.bad.iter().any(|bad| bad.name == bundle)
    }

    /// Whether there is such a bundle.
    pub(super) fn has_table(&self, bundle: &str) -> bool {
        self.tables.contains(bundle)
    }

    /// Whether a manifest is there with all its blobs.
    pub(super) fn is_whole(&self, release: &ReleaseId) -> bool {
        self.whole.contains(release)
    }

    /// Commits that were built into these releases.
    pub(super) fn commits_of(&self, releases: &[ReleaseId]) -> Vec<String> {
        let commits = releases
            .iter()
            .filter_map(|release| self.commits.get(release));
        let commits: BTreeSet<String> = commits.flatten().cloned().collect();
        commits.into_iter().collect()
    }

    /// Stores blobs again and removes what nothing needs then.
    pub(super) async fn run(
        mut self,
        backend: &Arc<dyn Backend>,
        sources: &[Store],
        mended: &mut Mended,
        events: Listener<'_>,
    ) -> Result<(), StoreError> {
        let store = Store::over(Arc::clone(backend));
        let mut written: HashSet<String> = HashSet::new();
        if !self.salvage.is_empty() {
            let index = Arc::new(self.salvage_index());
            let bundle = move_blobs(&store, &store, &index, &self.salvage, events).await?;
            mended.blobs += self.salvage.len();
            written.insert(bundle);
        }
        for (number, blobs) in std::mem::take(&mut self.fetch) {
            let source = &sources[number];
            let index = source.index().await?;
            let mut found = blobs.clone();
            let mut moved = move_blobs(source, &store, &index, &found, events).await;
            if matches!(moved, Err(StoreError::Damaged { .. })) {
                // The other store is damaged, too: what is left of it.
                found = readable(source, &index, &blobs, backend).await?;
                let some: HashSet<&BlobId> = found.iter().collect();
                let not = blobs.iter().filter(|blob| !some.contains(blob));
                self.remaining.extend(not.copied());
                if found.is_empty() {
                    continue;
                }
                moved = move_blobs(source, &store, &index, &found, events).await;
            }
            written.insert(moved?);
            mended.blobs += found.len();
        }
        for bad in self.bad.iter().filter(|bad| self.may_go(bad)) {
            // A lost bundle that was just written again has taken its index back.
            if written.contains(&bad.bundle()) {
                continue;
            }
            for object in &bad.objects {
                backend.delete(object).await?;
                mended.removed += 1;
            }
        }
        Ok(())
    }

    /// What can be read from the damaged bundles.
    fn salvage_index(&self) -> Index {
        let mut index = Index::default();
        for bad in self.bad.iter().filter(|bad| !bad.intact.is_empty()) {
            if let Some(toc) = &bad.toc {
                index.add(bad.name.clone(), toc.clone(), false);
            }
        }
        index
    }
}

impl Bad {
    /// The bundle's name, also of a lost one.
    fn bundle(&self) -> String {
        match Shape::of(&self.name) {
            Shape::Index(stem) => bundle_name(stem),
            _ => self.name.clone(),
        }
    }
}

/// Which blobs a bundle that is not damaged has, and that is not about to go.
struct Good<'a> {
    survey: &'a Survey,
    /// Copies that do not count.
    bad: HashMap<BlobId, usize>,
}

impl<'a> Good<'a> {
    fn of(survey: &'a Survey, bad: &[Bad]) -> Self {
        let damaged: HashSet<&str> = bad.iter().map(|bad| bad.name.as_str()).collect();
        let mut count: HashMap<BlobId, usize> = HashMap::new();
        for (name, toc) in survey.tables.index.tables() {
            if damaged.contains(name) || survey.tombstones.has(name) {
                for slot in toc.slots() {
                    *count.entry(slot.blob).or_default() += 1;
                }
            }
        }
        Self { survey, bad: count }
    }

    fn has(&self, blob: &BlobId) -> bool {
        let bad = self.bad.get(blob).copied().unwrap_or_default();
        self.survey.tables.index.copies(blob) > bad
    }
}

/// Packs blobs into a new bundle and reads it back; returns its name.
async fn move_blobs(
    from: &Store,
    to: &Store,
    index: &Arc<Index>,
    blobs: &[BlobId],
    events: Listener<'_>,
) -> Result<String, StoreError> {
    let moved = |bytes| events(Event::Moved(bytes));
    let packed = from.pack(index, blobs, &to.backend.spool(), &moved).await?;
    let size = packed.stored_bytes;
    let name = to.put_bundle(packed).await?;
    let backend = to.backend.as_ref();
    let toc = read_toc(backend, &name, size).await?;
    let verdict = frames::look(backend, &name, size, &toc, Sampled::All, &|_| ()).await?;
    match frames::faults(&name, &verdict).into_iter().next() {
        Some(fault) => Err(StoreError::Damaged {
            name,
            what: fault.to_string(),
        }),
        None => Ok(name),
    }
}

/// Those of the blobs that can be read, each by itself.
async fn readable(
    source: &Store,
    index: &Arc<Index>,
    blobs: &[BlobId],
    backend: &Arc<dyn Backend>,
) -> Result<Vec<BlobId>, StoreError> {
    let mut readable = Vec::new();
    for blob in blobs {
        match source
            .pack(index, &[*blob], &backend.spool(), &|_| ())
            .await
        {
            Ok(_) => readable.push(*blob),
            Err(StoreError::Damaged { .. } | StoreError::NoBlob { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(readable)
}
