//! Where everything of a bundle will lie, decided before a byte is read. Pure.
//!
//! The archive is one tar stream: per blob a 512-byte header, the content, zeros up to a multiple
//! of 512; two blocks of zeros at the end. A frame is closed once it has [`FRAME_TARGET`] raw
//! bytes, between two members or within a big one.

use super::FRAME_TARGET;
use super::toc::Slot;
use crate::id::BlobId;

const BLOCK: u64 = 512;

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
        /// Index into the given blobs.
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

/// The frames of a bundle.
#[derive(Debug, Default)]
pub struct Layout {
    /// Segments of each frame.
    pub frames: Vec<Vec<Segment>>,
    /// Where each blob's content begins.
    pub slots: Vec<Slot>,
}

/// Lays out blobs in the given order.
#[must_use]
pub fn lay_out(blobs: &[(BlobId, u64)]) -> Layout {
    let mut layout = Layout::default();
    let mut frame = Vec::new();
    let mut raw = 0u32;
    for (index, &(blob, length)) in blobs.iter().enumerate() {
        if raw >= FRAME_TARGET {
            layout.frames.push(std::mem::take(&mut frame));
            raw = 0;
        }
        frame.push(Segment::Header { blob, length });
        raw += BLOCK as u32;
        layout.slots.push(Slot {
            blob,
            frame: layout.frames.len() as u32,
            offset: raw,
            length,
        });
        let mut offset = 0;
        while offset < length {
            if raw >= FRAME_TARGET {
                layout.frames.push(std::mem::take(&mut frame));
                raw = 0;
            }
            // A blob that fits into what is left and half a frame more is not cut.
            let room = u64::from(FRAME_TARGET - raw);
            let rest = length - offset;
            let part = if rest <= room + u64::from(FRAME_TARGET / 2) {
                rest
            } else {
                room
            };
            let last = part == rest;
            frame.push(Segment::Content {
                index,
                offset,
                length: part as u32,
                last,
            });
            raw += part as u32;
            offset += part;
        }
        let padding = length.next_multiple_of(BLOCK) - length;
        if padding > 0 {
            frame.push(Segment::Zeros(padding as u32));
            raw += padding as u32;
        }
    }
    frame.push(Segment::Zeros(2 * BLOCK as u32));
    layout.frames.push(frame);
    layout
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
            let layout = lay_out(&blobs);
            let mut next = vec![0u64; blobs.len()];
            for frame in &layout.frames {
                prop_assert!(raw_length(frame) <= u64::from(FRAME_MAX));
                for segment in frame {
                    if let Segment::Content { index, offset, length, last } = *segment {
                        prop_assert_eq!(next[index], offset);
                        next[index] += u64::from(length);
                        prop_assert_eq!(last, next[index] == blobs[index].1);
                    }
                }
            }
            prop_assert_eq!(next, lengths);
            let total: u64 = layout.frames.iter().map(|frame| raw_length(frame)).sum();
            prop_assert_eq!(total % BLOCK, 0);
        }
    }
}
