//! Releases go from one store to another: push and pull are the same, the other way round.
//!
//! Both sides have tables of what they hold, so only what the other side lacks is moved: bundles of
//! which it lacks most as they are, without compressing anew, all other blobs in one new bundle.
//! What arrived before a cut is not moved again. Everything is verified on its way; the release
//! is published last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures::{StreamExt, TryStreamExt};

use crate::backend::local::LocalBackend;
use crate::bundle::reader::read_toc;
use crate::bundle::writer::Written;
use crate::error::StoreError;
use crate::event::{Event, Listener};
use crate::fs;
use crate::id::{BlobId, BundleHash, ReleaseId};
use crate::index::{Index, bundle_stem};
use crate::record::Record;
use crate::spool::{PART, spool};
use crate::store::Store;

/// A bundle is moved as it is when at least one in so many of its bytes is lacking.
const WORTH: u64 = 2;
/// Bundles that are moved at once.
const BUNDLES: usize = 4;
/// Records that are moved at once.
const RECORDS: usize = 8;
/// Requests for parts of a bundle that run ahead.
const PARTS_AHEAD: usize = 4;

/// A bundle that is moved as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Object name.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
}

/// What has to be moved so that a store holds some releases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The releases.
    pub releases: Vec<ReleaseId>,
    /// Bundles that are moved as they are.
    pub bundles: Vec<Whole>,
    /// Blobs that are put together in a new bundle.
    pub blobs: Vec<BlobId>,
    /// Their raw bytes.
    pub blob_bytes: u64,
}

impl Plan {
    /// Bytes that are read, roughly those that are moved.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bundles.iter().map(|whole| whole.size).sum::<u64>() + self.blob_bytes
    }
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bundles, new ones among them.
    pub bundles: usize,
    /// Their bytes.
    pub bundle_bytes: u64,
    /// Records and signatures of the releases.
    pub records: usize,
}

/// Says what `to` lacks of these releases, which are complete in `from`.
///
/// # Errors
/// [`StoreError::NoRelease`], [`StoreError::NoBlob`] when `from` is not complete, those of the
/// backends.
pub async fn plan(from: &Store, to: &Store, releases: &[ReleaseId]) -> Result<Plan, StoreError> {
    let (here, there) = (from.index().await?, to.index().await?);
    let mut lacking = BTreeSet::new();
    for release in releases {
        if !from.has_release(release).await? {
            return Err(StoreError::NoRelease { release: *release });
        }
        let blobs = from.manifest(release).await?.blobs();
        lacking.extend(blobs.into_keys().filter(|blob| !there.contains(blob)));
    }
    let lacking: Vec<BlobId> = lacking.into_iter().collect();
    let mut plan = choose(&here, &lacking)?;
    plan.releases = releases.to_vec();
    Ok(plan)
}

/// Which bundles go as they are, and which blobs in a new one. Pure.
fn choose(index: &Index, lacking: &[BlobId]) -> Result<Plan, StoreError> {
    let mut bundles: BTreeMap<u32, (u64, Vec<BlobId>)> = BTreeMap::new();
    for read in index.plan_reads(lacking)? {
        let (bytes, blobs) = bundles.entry(read.bundle).or_default();
        for slot in &read.slots {
            *bytes += slot.length;
            blobs.push(slot.blob);
        }
    }
    let mut plan = Plan::default();
    for (bundle, (bytes, blobs)) in bundles {
        let (name, toc) = index.table(bundle);
        let all: u64 = toc.slots().iter().map(|slot| slot.length).sum();
        match toc.bundle_length() {
            Some(size) if bytes.saturating_mul(WORTH) >= all => plan.bundles.push(Whole {
                name: name.to_owned(),
                size,
            }),
            _ => {
                plan.blob_bytes += bytes;
                plan.blobs.extend(blobs);
            }
        }
    }
    Ok(plan)
}

/// Moves what a plan says and publishes its releases in `to`. May be stopped anywhere and planned
/// and run again.
///
/// # Errors
/// Those of the backends, [`StoreError::Damaged`], and those of [`Store::publish`].
pub async fn run(
    from: &Store,
    to: &Store,
    plan: &Plan,
    events: Listener<'_>,
) -> Result<Moved, StoreError> {
    events(Event::ToMove(plan.bytes()));
    let folder = to.backend.spool();
    fs::create_dirs(&folder)?;
    let mut moved = Moved::default();
    let whole = |whole: Whole| {
        let folder = folder.clone();
        async move { move_bundle(from, to, &whole, &folder, events).await }
    };
    let mut bundles = futures::stream::iter(plan.bundles.clone())
        .map(whole)
        .buffer_unordered(BUNDLES);
    while let Some(bytes) = bundles.next().await {
        moved.bundles += 1;
        moved.bundle_bytes += bytes?;
    }
    if !plan.blobs.is_empty() {
        let index = from.index().await?;
        let told = |bytes| events(Event::Moved(bytes));
        let packed = from.pack(&index, &plan.blobs, &folder, &told).await?;
        moved.bundles += 1;
        moved.bundle_bytes += packed.stored_bytes;
        to.put_bundle(packed).await?;
    }
    // Bundles that were there already count once their names are durable, too.
    to.backend.settle("bundles").await?;
    let commits = from.commits().await?;
    for release in &plan.releases {
        moved.records += move_release(from, to, release, &commits).await?;
    }
    Ok(moved)
}

/// Moves a bundle as it is; its bytes are compared with its name.
async fn move_bundle(
    from: &Store,
    to: &Store,
    whole: &Whole,
    folder: &Path,
    events: Listener<'_>,
) -> Result<u64, StoreError> {
    let damaged = |what: &str| StoreError::Damaged {
        name: whole.name.clone(),
        what: format!("{what} at {}", from.place()),
    };
    let part = |at: u64| async move {
        let length = PART.min(whole.size - at);
        let bytes = from.backend.get_range(&whole.name, at, length).await?;
        let bytes = bytes.ok_or_else(|| damaged("it is gone"))?;
        events(Event::Moved(bytes.len() as u64));
        Ok(bytes)
    };
    let starts = (0..whole.size).step_by(PART as usize);
    let parts = futures::stream::iter(starts)
        .map(part)
        .buffered(PARTS_AHEAD);
    let spooled = spool(parts, folder).await?;
    let hash = BundleHash::from(spooled.hash);
    let named = bundle_stem(&whole.name).and_then(|stem| Some(stem.split_once('-')?.0));
    if named.and_then(|hash| hash.parse::<BundleHash>().ok()) != Some(hash) {
        return Err(damaged("it does not match its name"));
    }
    let name = spooled
        .file
        .path()
        .file_name()
        .and_then(|name| name.to_str());
    let near = LocalBackend::new(folder.to_owned());
    let toc = read_toc(&near, name.unwrap_or_default(), spooled.length).await?;
    let written = Written {
        file: spooled.file,
        hash,
        toc,
        stored_bytes: spooled.length,
    };
    to.put_bundle(written).await?;
    Ok(spooled.length)
}

/// Moves all that is not content: manifest, records, signatures, commits; and publishes.
async fn move_release(
    from: &Store,
    to: &Store,
    release: &ReleaseId,
    commits: &[(String, ReleaseId)],
) -> Result<usize, StoreError> {
    to.put_manifest(release, &from.manifest_text(release).await?)
        .await?;
    let records = from.records(release).await?;
    let signatures = from.signatures(release).await?;
    let count = records.len() + signatures.len();
    let put = |record: Record| async move { to.put_record(release, &record.json).await };
    futures::stream::iter(records)
        .map(put)
        .buffer_unordered(RECORDS)
        .try_collect::<Vec<_>>()
        .await?;
    let put =
        |(record, signature)| async move { to.put_signature(release, &record, &signature).await };
    futures::stream::iter(signatures)
        .map(put)
        .buffer_unordered(RECORDS)
        .try_collect::<Vec<()>>()
        .await?;
    to.publish(release).await?;
    for (commit, _) in commits.iter().filter(|(_, of)| of == release) {
        to.add_commit(commit, release).await?;
    }
    Ok(count)
}
