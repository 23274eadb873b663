//! Which bundle has which blob: all tables of contents of a store, in memory.
//!
//! Of a blob that lies in several bundles every copy is known, and read in turn until one is sound.
//! A bundle without a readable table is left out, and named when a blob is missed.

use std::collections::{BTreeMap, HashMap};

use std::ops::Range;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::backend::{Backend, Content, Object};
use crate::bundle::reader;
use crate::bundle::toc::{Slot, Toc};
use crate::error::StoreError;
use crate::id::BlobId;
use crate::tombstone::Tombstones;

/// How many frames a blob may lie in to be kept in memory.
pub(crate) const WHOLE_FRAMES: usize = 4;
/// Tables that are read at once.
const TABLES: usize = 16;

/// Name of a bundle object, without folder and ending: `<hash>-<generation>`.
pub(crate) fn bundle_stem(name: &str) -> Option<&str> {
    stem(name, "bundles/", ".tar.zst")
}

/// The same of the object that holds a bundle's table.
pub(crate) fn index_stem(name: &str) -> Option<&str> {
    stem(name, "index/", "")
}

/// The object with the bundle of this stem.
pub(crate) fn bundle_name(stem: &str) -> String {
    format!("bundles/{stem}.tar.zst")
}

/// The object with its table.
pub(crate) fn index_name(stem: &str) -> String {
    format!("index/{stem}")
}

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

/// A bundle that nothing can be read from.
#[derive(Debug)]
struct Broken {
    name: String,
    what: String,
}

/// All blobs of a store.
#[derive(Debug, Default)]
pub struct Index {
    bundles: Vec<Bundle>,
    blobs: HashMap<BlobId, (u32, Slot)>,
    /// Further copies. Most blobs have one only, so they stand apart.
    others: HashMap<BlobId, Vec<(u32, Slot)>>,
    broken: Vec<Broken>,
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
            .filter_map(|object| Some((index_stem(&object.name)?.to_owned(), object)))
            .collect();
        let mut index = Self::default();
        let read = |bundle: Object| {
            let stem = bundle_stem(&bundle.name).map(str::to_owned);
            let indexes = &indexes;
            async move {
                let stem = stem?;
                let toc = table(backend, &bundle, &stem, indexes.get(&stem)).await;
                Some((bundle, toc))
            }
        };
        let mut found = futures::stream::iter(bundles).map(read).buffered(TABLES);
        while let Some(found) = found.next().await {
            let Some((bundle, toc)) = found else {
                continue;
            };
            let toc = match toc {
                // One bundle that cannot be read must not hide the others.
                Err(StoreError::Damaged { name, what }) => {
                    index.broken.push(Broken { name, what });
                    continue;
                }
                read => read?,
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
            let new = (number, *slot);
            let Some(first) = self.blobs.get_mut(&slot.blob) else {
                self.blobs.insert(slot.blob, new);
                continue;
            };
            let old = self.bundles.get(first.0 as usize);
            let other = match !going && old.is_some_and(|old| old.going) {
                true => std::mem::replace(first, new),
                false => new,
            };
            self.others.entry(slot.blob).or_default().push(other);
        }
        self.bundles.push(Bundle { name, toc, going });
    }

    /// Whether a bundle of the store has this blob and is not about to be deleted.
    #[must_use]
    pub fn contains(&self, blob: &BlobId) -> bool {
        let place = self.blobs.get(blob);
        place.is_some_and(|(bundle, _)| !self.bundles[*bundle as usize].going)
    }

    /// The length of a blob, whichever copy is read.
    pub(crate) fn length(&self, blob: &BlobId) -> Option<u64> {
        self.blobs.get(blob).map(|(_, slot)| slot.length)
    }

    /// In how many bundles a blob lies.
    pub(crate) fn copies(&self, blob: &BlobId) -> usize {
        let others = self.others.get(blob).map_or(0, Vec::len);
        usize::from(self.blobs.contains_key(blob)) + others
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
    /// [`StoreError::NoBlob`] for the first blob that no bundle has; [`StoreError::Damaged`] when a
    /// bundle that cannot be read may have it.
    pub(crate) fn plan_reads(&self, blobs: &[BlobId]) -> Result<Vec<Read>, StoreError> {
        let mut places = Vec::with_capacity(blobs.len());
        for blob in blobs {
            places.push(*self.blobs.get(blob).ok_or_else(|| self.absent(blob))?);
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

    fn absent(&self, blob: &BlobId) -> StoreError {
        let Some(Broken { name, what }) = self.broken.first() else {
            return StoreError::NoBlob { blob: *blob };
        };
        let more = match self.broken.len() - 1 {
            0 => String::new(),
            more => format!(" (as {more} more bundles)"),
        };
        StoreError::Damaged {
            name: name.clone(),
            what: format!("{what}{more}; blob {blob} is in no other bundle"),
        }
    }

    /// Carries out one read; every blob is checked against its id. What is damaged or gone is read
    /// from other bundles that have it.
    pub(crate) async fn read(
        &self,
        backend: &dyn Backend,
        read: &Read,
    ) -> Result<Vec<(BlobId, Bytes)>, StoreError> {
        let error = match self.read_copy(backend, read).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let spare = |slot: &Slot| self.others.contains_key(&slot.blob);
        if !read.slots.iter().any(spare) {
            return Err(error);
        }
        let mut found = Vec::with_capacity(read.slots.len());
        for slot in &read.slots {
            found.extend(self.read_any_copy(backend, read.bundle, slot).await?);
        }
        Ok(found)
    }

    async fn read_copy(
        &self,
        backend: &dyn Backend,
        read: &Read,
    ) -> Result<Vec<(BlobId, Bytes)>, StoreError> {
        let Bundle { name, toc, .. } = &self.bundles[read.bundle as usize];
        reader::read_slots(backend, name, toc, read.frames.clone(), &read.slots).await
    }

    /// Reads what is to be read, from this bundle and no other copy, and compares it with the ids.
    pub(crate) async fn check(&self, backend: &dyn Backend, read: &Read) -> Result<(), StoreError> {
        if read.frames() <= WHOLE_FRAMES {
            return self.read_copy(backend, read).await.map(drop);
        }
        let (blob, parts) = self.read_parts(backend, read);
        let mut parts = std::pin::pin!(parts);
        let mut hasher = blake3::Hasher::new();
        while let Some(part) = parts.next().await {
            hasher.update(&part?);
        }
        match BlobId::from(hasher.finalize()) == blob {
            true => Ok(()),
            false => Err(self.damaged(read, &blob)),
        }
    }

    /// One blob from the first bundle that has it whole; the error is that of the first.
    async fn read_any_copy(
        &self,
        backend: &dyn Backend,
        bundle: u32,
        slot: &Slot,
    ) -> Result<Vec<(BlobId, Bytes)>, StoreError> {
        let mut first = None;
        for copy in self.copies_of(bundle, *slot) {
            match self.read_copy(backend, &copy).await {
                Ok(found) => return Ok(found),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(StoreError::NoBlob { blob: slot.blob }))
    }

    /// One read for each bundle that has the only blob of this read, beginning with its own.
    pub(crate) fn copies_of_long(&self, read: &Read) -> Vec<Read> {
        read.slots
            .first()
            .map_or_else(Vec::new, |slot| self.copies_of(read.bundle, *slot))
    }

    fn copies_of(&self, bundle: u32, slot: Slot) -> Vec<Read> {
        let first = self.blobs.get(&slot.blob);
        let others = self.others.get(&slot.blob).into_iter().flatten();
        let mut places = vec![(bundle, slot)];
        places.extend(
            first
                .into_iter()
                .chain(others)
                .filter(|place| place.0 != bundle),
        );
        let read = |(bundle, slot): (u32, Slot)| Read {
            bundle,
            frames: self.bundles[bundle as usize].toc.frames_of(&slot),
            slots: vec![slot],
        };
        places.into_iter().map(read).collect()
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

/// A bundle's table: from its index, else from the bundle itself.
async fn table(
    backend: &dyn Backend,
    bundle: &Object,
    stem: &str,
    index: Option<&Object>,
) -> Result<Toc, StoreError> {
    if let Some(object) = index {
        let bytes = backend.get(&object.name).await?.unwrap_or_default();
        return match Toc::parse(&bytes) {
            // A cut bundle, or the index of another one, is not believed.
            Ok(toc) if toc.bundle_length() == Some(bundle.size) => Ok(toc),
            _ => reader::read_toc(backend, &bundle.name, bundle.size).await,
        };
    }
    // Lost, or a crash came between bundle and index: the bundle's own copy.
    let toc = reader::read_toc(backend, &bundle.name, bundle.size).await?;
    // Where it cannot be written (another user's store) it is read each time.
    let bytes = Content::Bytes(toc.to_bytes().into());
    let _ = backend.put(&index_name(stem), bytes).await;
    Ok(toc)
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
