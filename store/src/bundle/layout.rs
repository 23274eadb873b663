//! Where everything of a bundle will lie, decided from the lengths alone. Pure.
//!
//! The archive is one tar stream: per blob a 512-byte header, the content, zeros up to a multiple
//! of 512; two blocks of zeros at the end. A frame is closed once it has [`FRAME_TARGET`] raw
//! bytes, between two members or within a big one.

use super::FRAME_TARGET;
use super::toc::Slot;
use crate::id::BlobId;

const BLOCK: u64 = 512;
/// A blob that is not longer always lies in one frame as a whole.
pub const UNCUT: u64 = FRAME_TARGET as u64 / 2;

/// A run of raw bytes within a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// The tar header of a blob with this length.
    Header {
        /// The blob.
        blob: BlobId,
        /// Its length in bytes.
        length: u64,
    },
    /// `length` bytes of a blob's content from `offset`; `last` when they complete it.
    Content {
        /// Which blob, counted from 0 in the order of [`Layout::push`].
        index: usize,
        /// First byte.
        offset: u64,
        /// How many.
        length: u32,
        /// Whether the blob ends here.
        last: bool,
    },
    /// That many zeros.
    Zeros(u32),
}

/// The frames of a bundle, one blob after the other. Each frame is handed out as soon as it is
/// closed.
#[derive(Debug, Default)]
pub struct Layout {
    frame: Vec<Segment>,
    raw: u32,
    closed: u32,
    slots: Vec<Slot>,
}

impl Layout {
    /// How many blobs are laid out: the number of the next one.
    #[must_use]
    pub fn blobs(&self) -> usize {
        self.slots.len()
    }

    /// Lays out the next blob; `close` gets every frame that is complete now.
    pub fn push(&mut self, blob: BlobId, length: u64, close: &mut dyn FnMut(Vec<Segment>)) {
        let index = self.slots.len();
        self.close_when_full(close);
        self.add(Segment::Header { blob, length }, BLOCK as u32);
        self.slots.push(Slot {
            blob,
            frame: self.closed,
            offset: self.raw,
            length,
        });
        let mut offset = 0;
        while offset < length {
            self.close_when_full(close);
            // A blob that fits into what is left and half a frame more is not cut.
            let room = u64::from(FRAME_TARGET - self.raw);
            let rest = length - offset;
            let part = if rest <= room + UNCUT { rest } else { room };
            let content = Segment::Content {
                index,
                offset,
                length: part as u32,
                last: part == rest,
            };
            self.add(content, part as u32);
            offset += part;
        }
        let padding = (length.next_multiple_of(BLOCK) - length) as u32;
        if padding > 0 {
            self.add(Segment::Zeros(padding), padding);
        }
    }

    /// The last frame, and where each blob's content begins.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Segment>, Vec<Slot>) {
        let end = 2 * BLOCK as u32;
        self.add(Segment::Zeros(end), end);
        (self.frame, self.slots)
    }

    fn add(&mut self, segment: Segment, length: u32) {
        self.frame.push(segment);
        self.raw += length;
    }

    fn close_when_full(&mut self, close: &mut dyn FnMut(Vec<Segment>)) {
        if self.raw >= FRAME_TARGET {
            close(std::mem::take(&mut self.frame));
            self.raw = 0;
            self.closed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::FRAME_MAX;
    use proptest::prelude::*;

    fn raw_length(frame: &[Segment]) -> u64 {
        frame
            .iter()
            .map(|segment| match segment {
                Segment::Header { .. } => BLOCK,
                Segment::Content { length, .. } | Segment::Zeros(length) => u64::from(*length),
            })
            .sum()
    }

    proptest! {
        #[test]
        fn every_byte_of_every_blob_has_one_place(lengths in proptest::collection::vec(0u64..4_000_000, 0..12)) {
            let blobs: Vec<_> = lengths.iter().enumerate()
                .map(|(at, &length)| (BlobId::of(&at.to_le_bytes()), length)).collect();
            let (mut layout, mut frames) = (Layout::default(), Vec::new());
            for (blob, length) in &blobs {
                layout.push(*blob, *length, &mut |frame| frames.push(frame));
            }
            let (last, slots) = layout.finish();
            frames.push(last);
            prop_assert_eq!(slots.len(), blobs.len());
            let mut next = vec![0u64; blobs.len()];
            for frame in &frames {
                prop_assert!(raw_length(frame) <= u64::from(FRAME_MAX));
                for segment in frame {
                    if let Segment::Content { index, offset, length, last } = *segment {
                        prop_assert_eq!(next[index], offset);
                        prop_assert!(blobs[index].1 > UNCUT || (offset == 0 && last));
                        next[index] += u64::from(length);
                        prop_assert_eq!(last, next[index] == blobs[index].1);
                    }
                }
            }
            prop_assert_eq!(next, lengths);
            let total: u64 = frames.iter().map(|frame| raw_length(frame)).sum();
            prop_assert_eq!(total % BLOCK, 0);
        }
    }
}
