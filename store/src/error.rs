//! What can go wrong in a store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::id::{BlobId, ReleaseId};
use crate::manifest::ManifestError;
use crate::name::{EntryPath, NameError};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The place holds no store.
    #[error("there is no store at {place}")]
    NoStore {
        /// Folder or URL.
        place: String,
    },
    /// The place holds other files: a store is never mixed with what is not its own.
    #[error("{place} holds other files and no store")]
    Occupied {
        /// Folder.
        place: String,
    },
    /// The store was written by a newer program in a way this one does not understand; guessing
    /// could misread or damage it.
    #[error("the store at {place} needs {what}, which this version does not know")]
    Format {
        /// Folder or URL.
        place: String,
        /// Version or feature.
        what: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The attempt: `read`, `write`, ...
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that is there already with other bytes. Nothing is ever overwritten: the present
    /// bytes may be what another release relies on.
    #[error("object {name} is already in the store with other bytes")]
    Conflict {
        /// Object name.
        name: String,
    },
    /// An object that does not hash to its name, or contradicts itself.
    #[error("object {name} is damaged: {what}")]
    Damaged {
        /// Object name.
        name: String,
        /// What was found.
        what: String,
    },
    /// A blob no bundle of the store has.
    #[error("blob {blob} is not in the store")]
    NoBlob {
        /// The blob.
        blob: BlobId,
    },
    /// A release the store does not have.
    #[error("release {release} is not in the store")]
    NoRelease {
        /// The release.
        release: ReleaseId,
    },
    /// A manifest in the store that is not one.
    #[error("the manifest of release {release} is not valid")]
    Manifest {
        /// The release.
        release: ReleaseId,
        /// Why.
        source: ManifestError,
    },
    /// A tree that cannot become a release.
    #[error("{} cannot become a release", path.display())]
    Tree {
        /// The tree's folder.
        path: PathBuf,
        /// Why.
        source: TreeError,
    },
    /// A remote place did not do what was asked, after all tries.
    #[error("cannot {what} {name} at {place}")]
    Remote {
        /// The attempt: `read`, `write`, `list`, `connect to`, ...
        what: &'static str,
        /// Object name; empty for the place as a whole.
        name: String,
        /// URL without credentials.
        place: Box<str>,
        /// What to do next, when that is known.
        hint: Option<Box<str>>,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A place that can only be read.
    #[error("{place} can only be read")]
    ReadOnly {
        /// URL.
        place: String,
    },
    /// What is relied on was collected as garbage again and again: a grace period that is shorter
    /// than the work of those who write.
    #[error("the store at {place} collects as garbage what is being stored")]
    Restless {
        /// Folder or URL.
        place: String,
    },
    /// A plan to delete that is too old: what was published since it was made is not known to it.
    #[error("the collection stood still for too long and was stopped")]
    PlanTooOld,
    /// A background task ended before it answered: the program is shutting down.
    #[error("the work was interrupted")]
    Interrupted,
}

/// Why a folder cannot become a release.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A socket, device or fifo.
    #[error("`{path}` is neither a file, a folder nor a link")]
    Special {
        /// Relative path, escaped.
        path: String,
    },
    /// A name or link target that a release may not have.
    #[error("`{path}` is refused")]
    Name {
        /// Relative path, escaped.
        path: String,
        /// Why.
        source: NameError,
    },
    /// A file below a writable folder: it would vanish on hosts, where the folder starts empty.
    #[error("`{path}` lies below the writable folder `{folder}`")]
    InWritable {
        /// The file.
        path: EntryPath,
        /// The folder.
        folder: EntryPath,
    },
    /// Entries that contradict each other.
    #[error("the entries contradict each other")]
    Entries(#[source] ManifestError),
    /// A link that leads to itself, or through more links than the system follows.
    #[error("`{path}` is a link that leads back to itself")]
    LinkLoop {
        /// The link.
        path: EntryPath,
    },
    /// A file or folder that could not be read.
    #[error("cannot {what} `{path}`")]
    Read {
        /// The attempt: `read`, `list`, ...
        what: &'static str,
        /// Relative path, escaped; empty for the folder itself.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file changed while it was read: a mixture of two states is no release.
    #[error("`{path}` changed while it was read")]
    Changed {
        /// The file.
        path: EntryPath,
    },
}

impl StoreError {
    /// What to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoStore { .. } => Some("`relstore build` makes the store; `--store` or `[store] path` says where".into()),
            Self::Occupied { .. } => Some("choose an empty folder with `--store` or `[store] path`".into()),
            Self::Format { .. } => Some("use the version of relstore that wrote the store".into()),
            Self::Damaged { .. } | Self::Conflict { .. } => Some(
                "`relstore fsck --repair` mends what can be mended; with `--from <remote>` from another copy of this store".into(),
            ),
            Self::NoBlob { .. } => Some("`relstore fsck --repair --from <remote>` fetches it; or build the release again: the same commit gives the same release".into()),
            Self::NoRelease { .. } => Some("`relstore list` shows what is there".into()),
            Self::Tree { source, .. } => source.hint(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on this disk; the store is as it was before".into())
            }
            Self::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Some("give it to the user that runs this, or choose another store with `--store` or `[store] path`".into())
            }
            Self::PlanTooOld => Some("nothing that is needed was deleted; run it again".into()),
            Self::Restless { .. } => Some("make `store.grace` longer, an hour at least".into()),
            Self::Remote { hint, .. } => hint.as_deref().map(str::to_owned),
            Self::ReadOnly { .. } => Some("write to the store behind it: a folder, `s3://...` or `ssh://...`".into()),
            _ => None,
        }
    }
}

impl TreeError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Changed { .. } => "nothing was stored; run it again when nobody writes there",
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "make it readable for the user that runs this, or leave it out"
            }
            Self::LinkLoop { .. } => "no program can open it; remove it or let it lead to a file",
            Self::Special { .. } => "a release has files, folders and links only; remove it",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Puts the attempt and the path into an I/O error.
pub(crate) trait IoContext<T> {
    /// Names what was attempted on which path.
    fn at(self, what: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Io {
            what,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
