//! The contents of bundles: every frame decodes, every blob hashes to its id, headers and padding
//! are those of a tar archive of the blobs in the table, and the bytes hash to the bundle's name.
//!
//! A bundle is read in order in large ranges, a few ahead; each range is hashed and its frames are
//! decoded on all cores. Only of a blob that runs through several frames the parts are hashed one after the
//! other. In memory are a few ranges, whatever the length of bundles and blobs.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use rayon::prelude::*;

use super::{Depth, Fault, Survey};
use crate::backend::Backend;
use crate::bundle::reader::decode;
use crate::bundle::toc::{Frame, Slot, Toc};
use crate::bundle::writer::header;
use crate::error::StoreError;
use crate::event::{Event, Listener};
use crate::id::{BlobId, BundleHash};

/// Stored bytes that are read at once.
const RANGE: u64 = 4 << 20;
const READ_AHEAD: usize = 2;
/// Bundles that are checked at once: small ones do not fill all cores alone.
const BUNDLES: usize = 4;
const BLOCK: u64 = 512;

/// Which frames are checked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sampled {
    All,
    Some { percent: u8, seed: u64 },
}

impl Sampled {
    /// `None` when contents are not looked at.
    pub(super) fn of(depth: Depth) -> Option<Self> {
        match depth {
            Depth::Quick => None,
            Depth::Full => Some(Self::All),
            Depth::Sample { percent, seed } => Some(Self::Some { percent, seed }),
        }
    }

    fn takes(self, bundle: &str, frame: usize) -> bool {
        let Self::Some { percent, seed } = self else {
            return true;
        };
        let hash = blake3::hash(format!("{seed} {bundle} {frame}").as_bytes());
        let number = u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]);
        u32::from(number) * 100 < u32::from(percent) << 16
    }
}

/// What a bundle holds in truth.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Blobs that cannot be read or do not match.
    pub(super) bad: BTreeSet<BlobId>,
    /// Why other programs cannot unpack it.
    pub(super) archive: Option<String>,
    /// What its bytes hash to; not known of a sample.
    pub(super) hash: Option<BundleHash>,
}

/// Where blobs lie in the raw bytes.
struct Map {
    name: String,
    toc: Toc,
    /// First raw byte of each frame, and the end.
    starts: Vec<u64>,
    /// Blobs by position.
    slots: Vec<(u64, Slot)>,
    /// Which of them lie in each frame, with header and padding.
    of_frame: Vec<Vec<u32>>,
    /// Whether header, content and padding follow one another as in an archive.
    is_archive: bool,
}

impl Map {
    fn of(name: &str, toc: &Toc) -> Self {
        let mut starts = vec![0];
        for frame in toc.frames() {
            starts.push(starts.last().copied().unwrap_or(0) + u64::from(frame.raw));
        }
        let place = |slot: &Slot| (starts[slot.frame as usize] + u64::from(slot.offset), *slot);
        let mut slots: Vec<(u64, Slot)> = toc.slots().iter().map(place).collect();
        slots.sort_by_key(|(at, slot)| (*at, slot.blob));
        let end = starts.last().copied().unwrap_or(0);
        let mut next = 0;
        let mut is_archive = true;
        let mut of_frame = vec![Vec::new(); toc.frames().len()];
        for (number, (at, slot)) in slots.iter().enumerate() {
            is_archive &= *at == next + BLOCK;
            next = (at + slot.length).next_multiple_of(BLOCK);
            let first = starts.partition_point(|start| *start <= at.saturating_sub(BLOCK)) - 1;
            let mut frame = first;
            while frame < of_frame.len() && (starts[frame] < next || frame == first) {
                of_frame[frame].push(number as u32);
                frame += 1;
            }
        }
        is_archive &= end == next + 2 * BLOCK;
        Self {
            name: name.to_owned(),
            toc: toc.clone(),
            starts,
            slots,
            of_frame,
            is_archive,
        }
    }

    fn frame(&self, number: usize) -> Frame {
        self.toc.frames()[number]
    }
}

/// A frame, looked at by itself.
struct Looked {
    bad: Vec<BlobId>,
    /// Parts of blobs that run on, by their number in the map.
    parts: Vec<(u32, Bytes)>,
    archive: Option<String>,
}

impl Map {
    fn look(&self, number: usize, stored: &[u8]) -> Looked {
        let mut looked = Looked {
            bad: Vec::new(),
            parts: Vec::new(),
            archive: None,
        };
        let here = &self.of_frame[number];
        let (start, end) = (self.starts[number], self.starts[number + 1]);
        let raw = match decode(&self.name, stored, &self.frame(number)) {
            Ok(raw) => Bytes::from(raw),
            Err(error) => {
                for index in here {
                    let (_, slot) = &self.slots[*index as usize];
                    if self.toc.frames_of(slot).contains(&number) {
                        looked.bad.push(slot.blob);
                    }
                }
                if let StoreError::Damaged { what, .. } = error {
                    looked.archive = Some(what);
                }
                return looked;
            }
        };
        let cut = |from: u64, to: u64| {
            let (from, to) = (from.clamp(start, end), to.clamp(start, end));
            raw.slice((from - start) as usize..(to - start) as usize)
        };
        for index in here {
            let (at, slot) = &self.slots[*index as usize];
            let until = at + slot.length;
            if *at >= start && until <= end {
                if BlobId::of(&cut(*at, until)) != slot.blob {
                    looked.bad.push(slot.blob);
                }
            } else if *at < end && until > start {
                looked.parts.push((*index, cut(*at, until)));
            }
            if !self.is_archive {
                continue;
            }
            let expected = header(&slot.blob, slot.length);
            let first = at - BLOCK;
            let part = cut(first, *at);
            let from = (start.max(first) - first).min(BLOCK) as usize;
            let padding = cut(until, until.next_multiple_of(BLOCK));
            if expected.as_bytes().get(from..from + part.len()) != Some(&part[..])
                || padding.iter().any(|byte| *byte != 0)
            {
                looked.archive = Some(format!("blob {} has another header", slot.blob.short()));
            }
        }
        let contents = self.slots.last().map_or(0, |(at, slot)| at + slot.length);
        if self.is_archive && cut(contents, end).iter().any(|byte| *byte != 0) {
            looked.archive = Some("it does not end in zeros".into());
        }
        looked
    }
}

/// What is known after some ranges.
struct State {
    map: Arc<Map>,
    hasher: blake3::Hasher,
    verdict: Verdict,
    /// The blob that runs on, with its digest and length so far.
    open: Option<(u32, blake3::Hasher, u64)>,
}

impl State {
    /// Takes the next range of stored bytes with the frames that lie in it.
    fn take(mut self, frames: Range<usize>, stored: &Bytes) -> Self {
        let map = Arc::clone(&self.map);
        let base = frames
            .clone()
            .next()
            .map_or(0, |first| map.frame(first).offset);
        let hasher = &mut self.hasher;
        let look = |number: usize| {
            let frame = map.frame(number);
            let from = (frame.offset - base) as usize;
            let bytes = stored.get(from..from.saturating_add(frame.stored as usize));
            map.look(number, bytes.unwrap_or_default())
        };
        let (_, looked) = rayon::join(
            || hasher.update_rayon(stored).count(),
            || frames.into_par_iter().map(look).collect::<Vec<_>>(),
        );
        for one in looked {
            self.verdict.bad.extend(one.bad);
            self.verdict.archive = self.verdict.archive.take().or(one.archive);
            for (number, part) in one.parts {
                self.take_part(number, &part);
            }
        }
        self
    }

    fn take_part(&mut self, number: u32, part: &Bytes) {
        let (_, slot) = &self.map.slots[number as usize];
        let mut open = self.open.take().filter(|(open, ..)| *open == number);
        let (_, hasher, length) = open.get_or_insert_with(|| (number, blake3::Hasher::new(), 0));
        hasher.update_rayon(part);
        *length += part.len() as u64;
        // Of a blob of which a part is missing the rest says nothing.
        if *length < slot.length {
            self.open = open;
        } else if BlobId::from(hasher.finalize()) != slot.blob {
            self.verdict.bad.insert(slot.blob);
        }
    }
}

/// Reads a bundle and compares it with this table.
pub(super) async fn look(
    backend: &dyn Backend,
    name: &str,
    size: u64,
    toc: &Toc,
    sampled: Sampled,
    events: Listener<'_>,
) -> Result<Verdict, StoreError> {
    let map = Arc::new(Map::of(name, toc));
    let mut state = State {
        map: Arc::clone(&map),
        hasher: blake3::Hasher::new(),
        verdict: Verdict::default(),
        open: None,
    };
    if !map.is_archive {
        state.verdict.archive = Some("its blobs do not lie one after the other".into());
    }
    for slot in toc
        .slots()
        .iter()
        .filter(|slot| toc.frames_of(slot).is_empty())
    {
        state.verdict.bad.insert(slot.blob);
    }
    let ranges = ranges(toc, size, &|frame| sampled.takes(name, frame), sampled);
    let read = |(frames, at, length): (Range<usize>, u64, u64)| {
        let map = Arc::clone(&map);
        async move {
            Ok::<_, StoreError>((
                frames.clone(),
                read(backend, &map, frames, at, length).await?,
            ))
        }
    };
    let mut found = futures::stream::iter(ranges).map(read).buffered(READ_AHEAD);
    while let Some(next) = found.next().await {
        let (frames, stored) = next?;
        events(Event::Checked(stored.len() as u64));
        let work = tokio::task::spawn_blocking(move || state.take(frames, &stored));
        state = work.await.map_err(|_| StoreError::Interrupted)?;
    }
    let hash = state.hasher.finalize();
    if matches!(sampled, Sampled::All) {
        state.verdict.hash = Some(hash.into());
    }
    Ok(state.verdict)
}

/// One range; where the disk cannot read it as a whole, frame by frame with holes.
async fn read(
    backend: &dyn Backend,
    map: &Map,
    frames: Range<usize>,
    at: u64,
    length: u64,
) -> Result<Bytes, StoreError> {
    match backend.get_range(&map.name, at, length).await {
        Err(StoreError::Io { .. }) => {}
        read => return Ok(read?.unwrap_or_default()),
    }
    let mut whole = vec![0; length as usize];
    for number in frames {
        let frame = map.frame(number);
        let stored = u64::from(frame.stored);
        let from = (frame.offset - at) as usize;
        if let Ok(Some(bytes)) = backend.get_range(&map.name, frame.offset, stored).await
            && let Some(place) = whole.get_mut(from..from + bytes.len())
        {
            place.copy_from_slice(&bytes);
        }
    }
    Ok(whole.into())
}

/// Frames that are read together, with their first byte and length; the last range of a whole
/// bundle is its table.
fn ranges(
    toc: &Toc,
    size: u64,
    takes: &dyn Fn(usize) -> bool,
    sampled: Sampled,
) -> Vec<(Range<usize>, u64, u64)> {
    let mut ranges: Vec<(Range<usize>, u64, u64)> = Vec::new();
    for (number, frame) in toc.frames().iter().enumerate() {
        if !takes(number) {
            continue;
        }
        let stored = u64::from(frame.stored);
        match ranges.last_mut() {
            Some((frames, _, length)) if frames.end == number && *length + stored <= RANGE => {
                frames.end = number + 1;
                *length += stored;
            }
            _ => ranges.push((number..number + 1, frame.offset, stored)),
        }
    }
    if matches!(sampled, Sampled::All) {
        let frames = toc.frames().len();
        let mut at = toc
            .frames()
            .last()
            .map_or(0, |frame| frame.offset + u64::from(frame.stored));
        while at < size {
            let length = RANGE.min(size - at);
            ranges.push((frames..frames, at, length));
            at += length;
        }
    }
    ranges
}

/// What a verdict means for the bundle of this name.
pub(super) fn faults(name: &str, verdict: &Verdict) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !verdict.bad.is_empty() {
        faults.push(Fault::Blobs(verdict.bad.iter().copied().collect()));
    }
    if let Some(what) = verdict.archive.as_ref().filter(|_| faults.is_empty()) {
        faults.push(Fault::Archive(what.clone()));
    }
    let named = name
        .strip_prefix("bundles/")
        .and_then(|name| name.get(..64));
    let named = named.and_then(|hash| hash.parse::<BundleHash>().ok());
    // Damaged blobs say it already.
    if faults.is_empty() && verdict.hash.is_some() && verdict.hash != named {
        faults.push(Fault::Digest);
    }
    faults
}

impl Survey {
    /// Bytes of bundles that will be read.
    pub(super) fn bundle_bytes(&self, sampled: &Sampled) -> u64 {
        let packs = self
            .tables
            .packs
            .iter()
            .filter(|pack| pack.number.is_some());
        match sampled {
            Sampled::All => packs.map(|pack| pack.size).sum(),
            Sampled::Some { .. } => packs
                .filter_map(|pack| Some((pack, self.tables.toc(pack)?)))
                .flat_map(|(pack, toc)| {
                    let takes = |frame| sampled.takes(&pack.name, frame);
                    ranges(toc, pack.size, &takes, *sampled)
                })
                .map(|(.., length)| length)
                .sum(),
        }
    }

    /// Checks the bundles that have a table; returns how many bytes were read.
    pub(super) async fn look_at_frames(
        &mut self,
        sampled: &Sampled,
        events: Listener<'_>,
    ) -> Result<u64, StoreError> {
        let bytes = self.bundle_bytes(sampled);
        let mut wrong = Vec::new();
        {
            let (tables, backend) = (&self.tables, self.backend.as_ref());
            let packs: Vec<_> = tables
                .packs
                .iter()
                .filter(|pack| pack.number.is_some())
                .collect();
            let one = |pack: &super::tables::Pack| {
                let (name, size) = (pack.name.clone(), pack.size);
                let toc = tables.toc(pack).cloned().unwrap_or_default();
                async move {
                    let verdict = look(backend, &name, size, &toc, *sampled, events).await?;
                    Ok::<_, StoreError>((name, verdict))
                }
            };
            let mut looked = futures::stream::iter(packs)
                .map(one)
                .buffer_unordered(BUNDLES);
            while let Some(one) = looked.next().await {
                let (name, verdict) = one?;
                for fault in faults(&name, &verdict) {
                    wrong.push((name.clone(), fault));
                }
            }
        }
        for (name, fault) in wrong {
            // A damaged table says less than what is damaged besides.
            let told =
                |problem: &super::Problem| problem.object == name && matches!(fault, Fault::Digest);
            if !self.problems.iter().any(told) {
                self.problem(&name, fault);
            }
        }
        Ok(bytes)
    }
}
