//! Reads bundles: the table from the end, blobs from the frames they lie in. All bounds come from
//! the checked table, so no input makes it allocate more than it announced.

use std::ops::Range;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::toc::{Frame, Slot, Toc};
use super::{FOOTER, FOOTER_MAGIC, SKIPPABLE_MAGIC};
use crate::backend::Backend;
use crate::blocking::blocking;
use crate::error::StoreError;
use crate::id::BlobId;

/// How many frames of a long blob are read ahead.
const PARTS_AHEAD: usize = 4;

/// Reads the table of contents from a bundle's end, given the bundle's length in bytes.
///
/// # Errors
/// [`StoreError::Damaged`] and those of the backend.
pub async fn read_toc(backend: &dyn Backend, name: &str, size: u64) -> Result<Toc, StoreError> {
    let damaged = |what: &str| StoreError::Damaged {
        name: name.to_owned(),
        what: what.to_owned(),
    };
    let gone = || damaged("it is gone");
    let footer_at = size
        .checked_sub(FOOTER as u64)
        .ok_or_else(|| damaged("too short for a bundle"))?;
    let footer = backend
        .get_range(name, footer_at, FOOTER as u64)
        .await?
        .ok_or_else(gone)?;
    let length = footer
        .split_first_chunk::<4>()
        .filter(|(_, magic)| *magic == FOOTER_MAGIC)
        .map(|(length, _)| u32::from_le_bytes(*length))
        .ok_or_else(|| damaged("it has no footer"))?;
    // What a skippable frame cannot hold is refused before so much is read.
    let frame = length
        .checked_add(FOOTER as u32)
        .ok_or_else(|| damaged("its footer announces too long a table"))?;
    let start = footer_at
        .checked_sub(u64::from(length) + 8)
        .ok_or_else(|| damaged("its footer points outside"))?;
    let tail = backend
        .get_range(name, start, u64::from(length) + 8)
        .await?
        .ok_or_else(gone)?;
    let expected = [SKIPPABLE_MAGIC.to_le_bytes(), frame.to_le_bytes()].concat();
    let table = tail
        .strip_prefix(expected.as_slice())
        .ok_or_else(|| damaged("its last frame is not a table"))?;
    let toc = Toc::parse(table).map_err(|error| damaged(&error.to_string()))?;
    let end = toc
        .frames()
        .last()
        .map_or(0, |frame| frame.offset + u64::from(frame.stored));
    if end == start {
        Ok(toc)
    } else {
        Err(damaged("its frames do not reach its table"))
    }
}

/// Reads some blobs that lie in consecutive frames and checks each against its id.
///
/// # Errors
/// [`StoreError::Damaged`] naming bundle and blob, and those of the backend.
pub async fn read_slots(
    backend: &dyn Backend,
    name: &str,
    toc: &Toc,
    frames: Range<usize>,
    slots: &[Slot],
) -> Result<Vec<(BlobId, Bytes)>, StoreError> {
    let damaged = |what: String| StoreError::Damaged {
        name: name.to_owned(),
        what,
    };
    let first_index = frames.start as u64;
    let frames = toc.frames().get(frames).unwrap_or_default().to_vec();
    let (Some(first), Some(last)) = (frames.first().copied(), frames.last().copied()) else {
        return Err(damaged("a blob lies in no frame".into()));
    };
    let length = last.offset + u64::from(last.stored) - first.offset;
    let stored = backend.get_range(name, first.offset, length).await?;
    let stored = stored.ok_or_else(|| damaged("it is gone".into()))?;
    let slots = slots.to_vec();
    let owned = name.to_owned();
    let work = move || cut(&owned, &stored, &frames, first_index, &slots);
    blocking(work).await?
}

/// Reads a blob that runs through many frames, one frame after the other; a few are read ahead.
/// The parts are not checked against the blob's id.
pub(crate) fn read_parts<'a>(
    backend: &'a dyn Backend,
    name: &'a str,
    toc: &'a Toc,
    slot: Slot,
) -> impl Stream<Item = Result<Bytes, StoreError>> + 'a {
    let mut from = slot.offset as usize;
    let mut left = slot.length;
    let parts = toc.frames_of(&slot).map(move |at| {
        let frame = toc.frames()[at];
        let length = left.min((frame.raw as usize).saturating_sub(from) as u64);
        let range = from..from + length as usize;
        (from, left) = (0, left - length);
        read_part(backend, name, frame, range)
    });
    futures::stream::iter(parts).buffered(PARTS_AHEAD)
}

async fn read_part(
    backend: &dyn Backend,
    name: &str,
    frame: Frame,
    range: Range<usize>,
) -> Result<Bytes, StoreError> {
    let stored = backend
        .get_range(name, frame.offset, u64::from(frame.stored))
        .await?;
    let owned = name.to_owned();
    let work = move || decode(&owned, &stored.unwrap_or_default(), &frame);
    let raw = blocking(work).await??;
    Ok(Bytes::from(raw).slice(range))
}

/// The raw bytes of a frame, as many as the table says.
pub(crate) fn decode(name: &str, stored: &[u8], frame: &Frame) -> Result<Vec<u8>, StoreError> {
    let damaged = |what: String| StoreError::Damaged {
        name: name.to_owned(),
        what: format!("the frame at {} {what}", frame.offset),
    };
    let decoded = zstd::bulk::decompress(stored, frame.raw as usize)
        .map_err(|error| damaged(format!("does not decode: {error}")))?;
    if decoded.len() == frame.raw as usize {
        Ok(decoded)
    } else {
        Err(damaged("has another length than its table says".into()))
    }
}

fn cut(
    name: &str,
    stored: &[u8],
    frames: &[Frame],
    first_index: u64,
    slots: &[Slot],
) -> Result<Vec<(BlobId, Bytes)>, StoreError> {
    let damaged = |what: String| StoreError::Damaged {
        name: name.to_owned(),
        what,
    };
    // Grows with what really decodes: a table may announce more than there is memory.
    let mut raw = Vec::new();
    let mut starts = Vec::with_capacity(frames.len());
    let base = frames.first().map_or(0, |frame| frame.offset);
    for frame in frames {
        starts.push(raw.len());
        let from = usize::try_from(frame.offset - base).unwrap_or(usize::MAX);
        let bytes = stored.get(from..from.saturating_add(frame.stored as usize));
        let bytes = bytes
            .ok_or_else(|| damaged(format!("it ends within the frame at {}", frame.offset)))?;
        let decoded = decode(name, bytes, frame)?;
        raw.extend_from_slice(&decoded);
    }
    let raw = Bytes::from(raw);
    slots
        .iter()
        .map(|slot| {
            let start = starts
                .get((u64::from(slot.frame) - first_index) as usize)
                .copied()
                .unwrap_or(usize::MAX);
            let from = start.saturating_add(slot.offset as usize);
            let to = from.saturating_add(usize::try_from(slot.length).unwrap_or(usize::MAX));
            if to > raw.len() {
                return Err(damaged(format!(
                    "blob {} lies outside its frames",
                    slot.blob
                )));
            }
            let content = raw.slice(from..to);
            if BlobId::of(&content) != slot.blob {
                return Err(damaged(format!("blob {} does not match its id", slot.blob)));
            }
            Ok((slot.blob, content))
        })
        .collect()
}
