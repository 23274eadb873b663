//! Bundles: immutable packs of blobs that are valid `.tar.zst` files.
//!
//! ```text
//! zstd frame | zstd frame | ... | skippable frame
//! \___ together one tar archive ___/   \_ table of contents
//! ```
//! Each zstd frame (RFC 8878) holds about 1 MiB of the archive; members are named by blob id, so
//! `zstd -dc x | tar -x` and `b3sum` recover everything without relstore. The table lies at the
//! end, in a skippable frame (section 3.1.2 of the RFC), because GNU tar refuses a file that
//! begins with one. One blob costs the frames it lies in to read. Ids never depend on compression.

pub mod layout;
pub mod reader;
pub mod toc;
pub(crate) mod writer;

/// Magic number of the skippable frame that holds the table.
pub const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
/// Last bytes of every bundle.
pub const FOOTER_MAGIC: &[u8; 8] = b"RSBUNDL1";
/// Length of the footer: u32 length of the table, then [`FOOTER_MAGIC`].
pub const FOOTER: usize = 12;
/// Raw bytes a frame aims at.
pub const FRAME_TARGET: u32 = 1 << 20;
/// Raw bytes a frame may have: a decoder never allocates more for one.
pub const FRAME_MAX: u32 = 4 << 20;
