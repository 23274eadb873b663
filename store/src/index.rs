//! Which bundle has which blob: all tables of contents of a store, in memory.

use std::collections::{BTreeMap, HashMap};

use std::ops::Range;

use bytes::Bytes;
use futures::Stream;

use crate::backend::{Backend, Content, Object};
use crate::bundle::reader;
use crate::bundle::toc::{Slot, Toc};
use crate::error::StoreError;
use crate::id::BlobId;
use crate::tombstone::Tombstones;

/// Name of a bundle object, without folder and ending: `<hash>-<generation>`.
fn stem<'a>(name: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    let stem = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let (hash, generation) = stem.split_once('-')?;
    let digits = !generation.is_empty() && generation.bytes().all(|b| b.is_ascii_digit());
    (hash.len() == 64 && digits).then_some(stem)
}

#[derive(Debug)]
struct Bundle {
    name: String,
    toc: Toc,
    /// It has a tombstone: to be read, not to be relied on.
    going: bool,
}

/// All blobs of a store.
#[derive(Debug, Default)]
pub struct Index {
    bundles: Vec<Bundle>,
    blobs: HashMap<BlobId, (u32, Slot)>,
}

impl Index {
    /// Loads every index; rebuilds those that are lost or damaged from their bundle.
    pub(crate) async fn load(
        backend: &dyn Backend,
        tombstones: &Tombstones,
    ) -> Result<Self, StoreError> {
        let bundles = backend.list("bundles/").await?;
        let indexes: BTreeMap<String, Object> = backend
            .list("index/")
            .await?
            .into_iter()
            .filter_map(|object| Some((stem(&object.name, "index/", "")?.to_owned(), object)))
            .collect();
        let mut index = Self::default();
        for bundle in bundles {
            let Some(stem) = stem(&bundle.name, "bundles/", ".tar.zst").map(str::to_owned) else {
                continue;
            };
            let toc = match indexes.get(&stem) {
                Some(object) => {
                    let bytes = backend.get(&object.name).await?.unwrap_or_default();
                    match Toc::parse(&bytes) {
                        // A cut bundle, or the index of another one, is not believed.
                        Ok(toc) if toc.bundle_length() == Some(bundle.size) => toc,
                        _ => reader::read_toc(backend, &bundle.name, bundle.size).await?,
                    }
                }
                None => {
                    // Lost, or a crash came between bundle and index: the bundle's own copy.
                    let toc = reader::read_toc(backend, &bundle.name, bundle.size).await?;
                    // Where it cannot be written (another user's store) it is read each time.
                    let bytes = Content::Bytes(toc.to_bytes().into());
                    let _ = backend.put(&format!("index/{stem}"), bytes).await;
                    toc
                }
            };
            let going = tombstones.has(&bundle.name);
            index.add(bundle.name, toc, going);
        }
        Ok(index)
    }

    /// Adds a bundle's table; a blob that is there already keeps its place, unless that is about
    /// to go.
    pub(crate) fn add(&mut self, name: String, toc: Toc, going: bool) {
        let number = self.bundles.len() as u32;
        for slot in toc.slots() {
            let place = self.blobs.entry(slot.blob).or_insert((number, *slot));
            if !going
                && self
                    .bundles
                    .get(place.0 as usize)
                    .is_some_and(|old| old.going)
            {
                *place = (number, *slot);
            }
        }
        self.bundles.push(Bundle { name, toc, going });
    }

    /// Whether a bundle of the store has this blob and is not about to be deleted.
    #[must_use]
    pub fn contains(&self, blob: &BlobId) -> bool {
        let place = self.blobs.get(blob);
        place.is_some_and(|(bundle, _)| !self.bundles[*bundle as usize].going)
    }

    /// The names of all bundles.
    pub(crate) fn bundles(&self) -> impl Iterator<Item = &str> {
        self.bundles.iter().map(|bundle| bundle.name.as_str())
    }

    /// Name and table of a bundle, by the number that a [`Read`] names.
    pub(crate) fn table(&self, bundle: u32) -> (&str, &Toc) {
        let bundle = &self.bundles[bundle as usize];
        (&bundle.name, &bundle.toc)
    }

    /// All bundles with their tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&str, &Toc)> {
        self.bundles
            .iter()
            .map(|bundle| (bundle.name.as_str(), &bundle.toc))
    }

    /// Groups blobs by the runs of frames they lie in, so that a frame is read
    /// once for all that lies in it alone.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`] for the first blob that no bundle has.
    pub(crate) fn plan_reads(&self, blobs: &[BlobId]) -> Result<Vec<Read>, StoreError> {
        let mut places = Vec::with_capacity(blobs.len());
        for blob in blobs {
            places.push(
                *self
                    .blobs
                    .get(blob)
                    .ok_or(StoreError::NoBlob { blob: *blob })?,
            );
        }
        places.sort_by_key(|(bundle, slot)| (*bundle, slot.frame, slot.offset));
        places.dedup();
        let mut reads: Vec<Read> = Vec::new();
        for (bundle, slot) in places {
            let frames = self.bundles[bundle as usize].toc.frames_of(&slot);
            match reads.last_mut() {
                Some(read) if read.bundle == bundle && read.frames == frames => {
                    read.slots.push(slot);
                }
                _ => reads.push(Read {
                    bundle,
                    frames,
                    slots: vec![slot],
                }),
            }
        }
        Ok(reads)
    }

    /// Carries out one read; every blob is checked against its id.
    pub(crate) async fn read(
        &self,
        backend: &dyn Backend,
        read: &Read,
    ) -> Result<Vec<(BlobId, Bytes)>, StoreError> {
        let Bundle { name, toc, .. } = &self.bundles[read.bundle as usize];
        reader::read_slots(backend, name, toc, read.frames.clone(), &read.slots).await
    }

    /// The only blob of a read, part by part in order. Nothing but the frames is checked: whoever
    /// has all parts compares their digest.
    pub(crate) fn read_parts<'a>(
        &'a self,
        backend: &'a dyn Backend,
        read: &Read,
    ) -> (BlobId, impl Stream<Item = Result<Bytes, StoreError>> + 'a) {
        let Bundle { name, toc, .. } = &self.bundles[read.bundle as usize];
        let slot = read.slots[0];
        (slot.blob, reader::read_parts(backend, name, toc, slot))
    }

    /// The error for a blob that does not match its id.
    pub(crate) fn damaged(&self, read: &Read, blob: &BlobId) -> StoreError {
        StoreError::Damaged {
            name: self.bundles[read.bundle as usize].name.clone(),
            what: format!("blob {blob} does not match its id"),
        }
    }
}

/// One read: the blobs wanted that lie in the same frames of a bundle. Never without a blob.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) bundle: u32,
    frames: Range<usize>,
    pub(crate) slots: Vec<Slot>,
}

impl Read {
    /// How many frames have to be read.
    pub(crate) fn frames(&self) -> usize {
        self.frames.len()
    }
}
