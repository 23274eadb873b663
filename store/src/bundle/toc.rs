//! The table of contents: which frames there are, and in which of them each blob lies.
//!
//! ```text
//! "relstore-toc 1\n"
//! u32 frames, then per frame: u64 offset in the bundle, u32 compressed length, u32 raw length
//! u32 blobs,  then per blob:  32 bytes id, u32 first frame, u32 offset in its raw bytes, u64 length
//! 32 bytes BLAKE3 of all before
//! ```
//! Little endian. Frames follow one another from offset 0; blobs increase by id. The same bytes
//! are the bundle's last frame and the object `index/<bundle>`, so a lost index is copied back
//! from its bundle.

use std::ops::Range;

use super::{FOOTER, FRAME_MAX};
use crate::id::BlobId;

const MAGIC: &[u8] = b"relstore-toc 1\n";

/// One zstd frame of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// First byte in the bundle.
    pub offset: u64,
    /// Length in the bundle.
    pub stored: u32,
    /// Length after decompression.
    pub raw: u32,
}

/// Where a blob's content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The blob.
    pub blob: BlobId,
    /// Frame in which the content begins.
    pub frame: u32,
    /// First byte within that frame's raw bytes.
    pub offset: u32,
    /// Length in bytes; may run on through the following frames.
    pub length: u64,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toc {
    frames: Vec<Frame>,
    slots: Vec<Slot>,
}

/// Why bytes are not a table of contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TocError {
    /// Another kind of file, or a newer format.
    #[error("not a table of contents of version 1")]
    Magic,
    /// Too short for what it announces, or longer.
    #[error("the table's length does not fit what it announces")]
    Length,
    /// The digest at the end does not match.
    #[error("the table does not match its digest")]
    Digest,
    /// Frames with gaps, overlaps or impossible lengths.
    #[error("frame {0} is out of place")]
    Frame(usize),
    /// Blobs out of order, twice, or outside the frames.
    #[error("blob {0} is out of place")]
    Blob(BlobId),
}

impl Toc {
    /// Checks frames and slots (in any order) and makes a table of them.
    ///
    /// # Errors
    /// [`TocError::Frame`], [`TocError::Blob`].
    pub fn new(frames: Vec<Frame>, mut slots: Vec<Slot>) -> Result<Self, TocError> {
        slots.sort_by_key(|slot| slot.blob);
        let toc = Self { frames, slots };
        toc.check()?;
        Ok(toc)
    }

    fn check(&self) -> Result<(), TocError> {
        let mut offset = 0;
        let mut raw_starts = Vec::with_capacity(self.frames.len() + 1);
        let mut raw_total = 0u64;
        for (at, frame) in self.frames.iter().enumerate() {
            if frame.offset != offset
                || frame.stored == 0
                || frame.raw == 0
                || frame.raw > FRAME_MAX
            {
                return Err(TocError::Frame(at));
            }
            raw_starts.push(raw_total);
            raw_total += u64::from(frame.raw);
            offset += u64::from(frame.stored);
        }
        for pair in self.slots.windows(2) {
            if pair[0].blob >= pair[1].blob {
                return Err(TocError::Blob(pair[1].blob));
            }
        }
        for slot in &self.slots {
            let wrong = TocError::Blob(slot.blob);
            let start = raw_starts.get(slot.frame as usize).ok_or(wrong.clone())?;
            let inside = slot.offset <= self.frames[slot.frame as usize].raw;
            let end = start
                .checked_add(u64::from(slot.offset))
                .and_then(|at| at.checked_add(slot.length));
            if !inside || end.is_none_or(|end| end > raw_total) {
                return Err(wrong);
            }
        }
        Ok(())
    }

    /// The bytes described at the top of this module.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = |len: usize| {
            u32::try_from(len)
                .expect("a bundle has fewer than 2^32 members")
                .to_le_bytes()
        };
        let mut out = Vec::with_capacity(64 + self.frames.len() * 16 + self.slots.len() * 48);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&count(self.frames.len()));
        for frame in &self.frames {
            out.extend_from_slice(&frame.offset.to_le_bytes());
            out.extend_from_slice(&frame.stored.to_le_bytes());
            out.extend_from_slice(&frame.raw.to_le_bytes());
        }
        out.extend_from_slice(&count(self.slots.len()));
        for slot in &self.slots {
            out.extend_from_slice(slot.blob.as_bytes());
            out.extend_from_slice(&slot.frame.to_le_bytes());
            out.extend_from_slice(&slot.offset.to_le_bytes());
            out.extend_from_slice(&slot.length.to_le_bytes());
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }

    /// Reads exactly what [`Toc::to_bytes`] writes.
    ///
    /// # Errors
    /// [`TocError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TocError> {
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or(TocError::Length)?;
        let mut rest = body.strip_prefix(MAGIC).ok_or(TocError::Magic)?;
        if blake3::hash(body).as_bytes() != digest {
            return Err(TocError::Digest);
        }
        let mut frames = Vec::new();
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            frames.push(Frame {
                offset: u64::from_le_bytes(take(&mut rest)?),
                stored: u32::from_le_bytes(take(&mut rest)?),
                raw: u32::from_le_bytes(take(&mut rest)?),
            });
        }
        let mut slots = Vec::new();
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            slots.push(Slot {
                blob: BlobId::from_bytes(take(&mut rest)?),
                frame: u32::from_le_bytes(take(&mut rest)?),
                offset: u32::from_le_bytes(take(&mut rest)?),
                length: u64::from_le_bytes(take(&mut rest)?),
            });
        }
        if !rest.is_empty() {
            return Err(TocError::Length);
        }
        let toc = Self { frames, slots };
        toc.check()?;
        Ok(toc)
    }

    /// Length in bytes of a bundle with this table; `None` when no bundle is so long.
    #[must_use]
    pub fn bundle_length(&self) -> Option<u64> {
        let frames = self.frames.last();
        let frames = frames.map_or(0, |frame| frame.offset + u64::from(frame.stored));
        let table = MAGIC.len() + 4 + self.frames.len() * 16 + 4 + self.slots.len() * 48 + 32;
        frames.checked_add((table + 8 + FOOTER) as u64)
    }

    /// All frames, in order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// All blobs, by id.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The frames a blob lies in, as indexes into [`Toc::frames`].
    #[must_use]
    pub fn frames_of(&self, slot: &Slot) -> Range<usize> {
        let first = slot.frame as usize;
        let mut end = first;
        let mut covered = 0;
        let wanted = u64::from(slot.offset) + slot.length;
        while covered < wanted && end < self.frames.len() {
            covered += u64::from(self.frames[end].raw);
            end += 1;
        }
        first..end
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TocError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(TocError::Length)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn frame(offset: u64, stored: u32, raw: u32) -> Frame {
        Frame {
            offset,
            stored,
            raw,
        }
    }

    fn slot(text: &str, frame: u32, offset: u32, length: u64) -> Slot {
        Slot {
            blob: BlobId::of(text.as_bytes()),
            frame,
            offset,
            length,
        }
    }

    #[test]
    fn table_reads_back_and_finds_frames() {
        let toc = Toc::new(
            vec![frame(0, 10, 100), frame(10, 20, 100), frame(30, 5, 50)],
            vec![
                slot("a", 0, 10, 20),
                slot("b", 0, 90, 150),
                slot("c", 2, 50, 0),
            ],
        )
        .unwrap();
        assert_eq!(Toc::parse(&toc.to_bytes()).unwrap(), toc);
        let of = |text: &str| {
            let slot = toc
                .slots()
                .iter()
                .find(|slot| slot.blob == BlobId::of(text.as_bytes()))
                .unwrap();
            toc.frames_of(slot)
        };
        assert_eq!(of("a"), 0..1);
        assert_eq!(of("b"), 0..3);
        assert_eq!(of("c"), 2..3);
    }

    #[test]
    fn impossible_tables_are_refused() {
        let one = vec![frame(0, 10, 100)];
        for (frames, slots) in [
            (vec![frame(1, 10, 100)], vec![]),
            (vec![frame(0, 10, 100), frame(11, 1, 1)], vec![]),
            (vec![frame(0, 0, 100)], vec![]),
            (vec![frame(0, 10, FRAME_MAX + 1)], vec![]),
            (one.clone(), vec![slot("a", 1, 0, 1)]),
            (one.clone(), vec![slot("a", 0, 101, 0)]),
            (one.clone(), vec![slot("a", 0, 0, 101)]),
            (one.clone(), vec![slot("a", 0, 1, u64::MAX)]),
            (one, vec![slot("a", 0, 0, 1), slot("a", 0, 0, 1)]),
        ] {
            assert!(
                Toc::new(frames.clone(), slots.clone()).is_err(),
                "{frames:?} {slots:?}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = Toc::new(vec![frame(0, 10, 100)], vec![slot("a", 0, 10, 20)])
            .unwrap()
            .to_bytes();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(Toc::parse(&wrong).is_err(), "bit of byte {at}");
            assert!(Toc::parse(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Toc::parse(&longer).is_err());
    }

    proptest! {
        #[test]
        fn parsing_anything_never_panics(bytes: Vec<u8>, with_digest: bool) {
            let mut bytes = [MAGIC, &bytes].concat();
            if with_digest {
                let digest = blake3::hash(&bytes);
                bytes.extend_from_slice(digest.as_bytes());
            }
            if let Ok(toc) = Toc::parse(&bytes) {
                prop_assert_eq!(toc.to_bytes(), bytes);
            }
        }
    }
}
