//! Archives of releases, `.tar.zst`, `.tar.gz` and `.tar`: written by [`crate::export`], read here,
//! also those that other programs made. What is read is hostile until proved otherwise.
//!
//! ```text
//! source    bytes of the file -> decoded bytes, within bounds
//! reader    decoded bytes -> members with checked names, in order
//! names     which names there are, so that none is written twice or through a link
//! unpack    members -> a private folder
//! ```
//! An archive of ours begins with a [`Label`]: the release that it is, and what of it is laid out
//! by hosts, which no tar archive could say otherwise. So it comes back as the same release.

mod error;
mod label;
mod names;
mod reader;
mod source;
mod unpack;

pub use error::ArchiveError;
pub use label::Label;
pub use reader::{Body, Member, Reader};
pub use source::Source;
pub use unpack::{Unpacked, unpack};

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// zstd.
    TarZst,
    /// gzip.
    TarGz,
    /// Not at all.
    Tar,
}

impl Format {
    /// The end of a file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::TarZst => "tar.zst",
            Self::TarGz => "tar.gz",
            Self::Tar => "tar",
        }
    }
}

/// Longest extension header (long names, pax records) that is read, in bytes.
pub const MAX_EXTENSION: u64 = 1 << 20;
/// Most bytes that an archive may decode to.
pub const MAX_DECODED: u64 = 64 << 30;
/// Most bytes that one byte of an archive may decode to, beyond [`FREE_DECODED`]: real releases
/// have about 5.
pub const MAX_RATIO: u64 = 200;
/// Decoded bytes that count for no ratio.
pub const FREE_DECODED: u64 = 64 << 20;
/// Most memory for names, in bytes; each name counts 64 more. As many as a manifest can have.
pub const MAX_NAMES: u64 = crate::manifest::MAX_MANIFEST;

const BLOCK: usize = 512;
