//! What a check found. Values only.

use crate::id::{BlobId, DerivationKey, ReleaseId};

/// How far a check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Structure: every small object, and the tables of bundles. Contents are not read.
    Quick,
    /// Every byte.
    Full,
    /// Structure, and some frames of the bundles.
    Sample {
        /// So many of a hundred frames, about.
        percent: u8,
        /// Decides which.
        seed: u64,
    },
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the object.
    pub object: String,
    /// What is wrong with it.
    pub fault: Fault,
    /// What cannot be used because of it.
    pub affects: Affected,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Something refers to it and it is not there.
    #[error("it is missing")]
    Missing,
    /// It cannot be read or decoded.
    #[error("{0}")]
    Unreadable(String),
    /// Its bytes are not those its name stands for.
    #[error("it does not match its name")]
    Digest,
    /// It decodes and is not what it should be.
    #[error("{0}")]
    Content(String),
    /// A bundle without a table of its own.
    #[error("its table cannot be read: {0}")]
    Table(String),
    /// A bundle that is longer or shorter than its table says.
    #[error("it is {found} bytes long instead of {expected}")]
    Length {
        /// As listed.
        found: u64,
        /// By its table.
        expected: u64,
    },
    /// An index that is not the table of its bundle.
    #[error("it is not the table of its bundle")]
    OtherTable,
    /// An index without a bundle.
    #[error("its bundle is missing")]
    NoBundle,
    /// A bundle without an index; reading mends it.
    #[error("its index is missing")]
    NoIndex,
    /// Blobs that are not in the bundle as its table says.
    #[error("{} cannot be read or do not match their ids, {} first", blobs(.0.len()), first(.0))]
    Blobs(Vec<BlobId>),
    /// Blobs of a manifest that no bundle has, or with another length.
    #[error("{} of it are in no bundle, {} first", blobs(.0.len()), first(.0))]
    Lacks(Vec<BlobId>),
    /// A bundle that other programs cannot unpack.
    #[error("its contents are no tar archive of the blobs in its table: {0}")]
    Archive(String),
    /// A name that leads to a release which is not complete.
    #[error("it leads to a release that is not complete here")]
    LeadsNowhere,
    /// A ledger entry that does not continue the one before it.
    #[error("it does not follow the entry before it")]
    Chain,
    /// Two ledger entries with one number.
    #[error("another entry has the same number")]
    Fork,
    /// A name that its folder does not allow.
    #[error("no object can have this name")]
    Name,
}

impl Fault {
    /// One word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable(_) => "unreadable",
            Self::Digest => "digest",
            Self::Content(_) => "content",
            Self::Table(_) => "table",
            Self::Length { .. } => "length",
            Self::OtherTable => "other-table",
            Self::NoBundle => "no-bundle",
            Self::NoIndex => "no-index",
            Self::Blobs(_) => "blobs",
            Self::Lacks(_) => "lacks",
            Self::Archive(_) => "archive",
            Self::LeadsNowhere => "leads-nowhere",
            Self::Chain => "chain",
            Self::Fork => "fork",
            Self::Name => "name",
        }
    }
}

fn blobs(count: usize) -> String {
    match count {
        1 => "1 blob".to_owned(),
        count => format!("{count} blobs"),
    }
}

fn first(blobs: &[BlobId]) -> String {
    blobs.first().map(BlobId::short).unwrap_or_default()
}

/// What cannot be used because of a problem. Nothing, when other objects serve as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// Releases.
    pub releases: Vec<ReleaseId>,
    /// Outputs of build steps: these steps run again.
    pub outputs: Vec<DerivationKey>,
}

impl Affected {
    /// Whether everything can be used all the same.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.releases.is_empty() && self.outputs.is_empty()
    }
}

/// Something that is worth knowing and not wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Name of the object, or of a folder.
    pub object: String,
    /// What there is to know.
    pub remark: Remark,
}

/// What there is to know about an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// No object of a store has such a name.
    #[error("it is not part of a store")]
    Foreign,
    /// A writer was ended before it was whole.
    #[error("it was never finished and can be removed")]
    Unfinished,
    /// Nothing leads to it; garbage collection removes it.
    #[error("nothing refers to it")]
    Unreferenced,
    /// A build that is not reproducible, or other tools or settings.
    #[error("this commit was built into {0} different releases")]
    SeveralReleases(usize),
    /// Entries of a ledger that were written through another store, or are lost.
    #[error("entries {first} to {last} are not here")]
    Gap {
        /// Number of the first.
        first: u64,
        /// Number of the last.
        last: u64,
    },
    /// A listing that cannot be read; the next writer makes it anew.
    #[error("it cannot be read; it only repeats what other objects say")]
    Listing,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How far it went.
    pub depth: Depth,
    /// What is wrong, by object.
    pub problems: Vec<Problem>,
    /// What is worth knowing.
    pub notes: Vec<Note>,
    /// How many objects there are.
    pub objects: usize,
    /// How many complete releases.
    pub releases: usize,
    /// How many bundles.
    pub bundles: usize,
    /// Bytes of bundles that were read.
    pub checked_bytes: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}
