//! Why a file is no archive that becomes a release.

use std::io;
use std::path::PathBuf;

use super::{MAX_DECODED, MAX_RATIO};
use crate::name::NameError;

/// A refusal. Paths are escaped as in a manifest. Whatever is refused leaves no trace.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Neither zstd, gzip nor tar.
    #[error("it is no tar archive, plain or compressed with zstd or gzip")]
    Unknown,
    /// The file cannot be read, or its compressed bytes make no sense.
    #[error("it cannot be read to its end")]
    Decode(#[source] io::Error),
    /// It ends before the two blocks that end every archive: half of a release is none.
    #[error("it is cut off")]
    Truncated,
    /// Bytes behind its end: two programs could see two different archives.
    #[error("something follows after its end")]
    Trailing,
    /// A header that no program writes.
    #[error("the header at byte {at} {what}")]
    Header {
        /// Where in the decoded archive.
        at: u64,
        /// What is wrong with it, the end of the sentence.
        what: &'static str,
    },
    /// A name that no release may have: absolute, with `..`, too long.
    #[error("a name is refused")]
    Name(#[from] NameError),
    /// Devices, pipes and what tar knows beside files, folders and links.
    #[error("`{path}` is {what}")]
    Kind {
        /// Its path.
        path: String,
        /// What it is, with its article.
        what: &'static str,
    },
    /// One path, two contents: which one wins depends on who unpacks.
    #[error("`{path}` is in it twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// Something below a link or a file: unpacking it could write anywhere.
    #[error("`{path}` lies below `{outer}`, which is no folder")]
    Below {
        /// The inner path.
        path: String,
        /// The outer path.
        outer: String,
    },
    /// A hard link to something that is not in the archive before it.
    #[error("`{path}` is a hard link to `{target}`, which is no file before it")]
    HardLink {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// More than is decoded of any archive, or than the disk has room for.
    #[error("it has more than {limit} bytes inside")]
    TooLarge {
        /// The limit: [`MAX_DECODED`], or less when the disk is smaller.
        limit: u64,
    },
    /// A few bytes that decode to very many: made to fill a disk.
    #[error("its content is more than {MAX_RATIO} times as large as the file")]
    Ratio,
    /// More names than a release can have.
    #[error("it has more files than a release can have")]
    Names,
    /// What it says about itself in our own words cannot be understood.
    #[error("what it says about its release cannot be understood")]
    Label,
    /// The private folder cannot be written.
    #[error("cannot {what} {}", path.display())]
    Write {
        /// The attempt.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody waits any more.
    #[error("the work was interrupted")]
    Interrupted,
}

impl ArchiveError {
    /// What to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Truncated | Self::Decode(_) => "copy the archive again",
            Self::TooLarge { limit } if *limit < MAX_DECODED => "make room on this disk",
            Self::Ratio | Self::TooLarge { .. } | Self::HardLink { .. } => {
                "if the archive is yours, unpack it and import the folder"
            }
            Self::Unknown => "`relstore import` takes folders, .tar.zst, .tar.gz and .tar",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Decoders say in many ways that their input ended too early.
impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Decode(error),
        }
    }
}
