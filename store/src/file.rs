//! The content of a file that was seen in a walk: read once, hashed while it is read, and of one
//! moment: what changes meanwhile is an error, not a mixture.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::bundle::layout::UNCUT;
use crate::error::{IoContext, StoreError, TreeError};
use crate::id::BlobId;
use crate::name::EntryPath;
use crate::scan::{Found, Stamp};

/// Buffer for a long file: all cores hash it at once.
const LONG_BUFFER: usize = 4 << 20;
/// How often a file is read anew of which nothing changed but a time that its readers and new
/// hard links change, too.
const ATTEMPTS: usize = 3;

/// A file after its reading.
#[derive(Debug)]
pub(crate) struct ReadFile {
    pub(crate) path: EntryPath,
    pub(crate) blob: BlobId,
    pub(crate) size: u64,
    pub(crate) executable: bool,
    pub(crate) bytes: Bytes,
}

/// Where the bytes of a file are after its reading.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// Here; never more than [`UNCUT`].
    Held(Vec<u8>),
    /// Still in the file.
    Long(LongFile),
}

/// A file that is too long to be kept in memory.
#[derive(Debug, Clone)]
pub(crate) struct LongFile {
    root: PathBuf,
    path: EntryPath,
}

impl LongFile {
    /// A file of our own, which nobody changes.
    pub(crate) fn of_temp(path: &Path) -> Result<Self, StoreError> {
        let (root, name) = (path.parent(), path.file_name());
        let name = name.map(std::os::unix::ffi::OsStrExt::as_bytes);
        let path_in = EntryPath::new(name.unwrap_or_default());
        match (root, path_in) {
            (Some(root), Ok(path)) => Ok(Self {
                root: root.to_owned(),
                path,
            }),
            _ => Err(io::Error::from(io::ErrorKind::InvalidFilename)).at("read", path),
        }
    }

    /// Fills the buffer with the bytes from `offset`.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), StoreError> {
        let read = open(&self.root.join(self.path.as_path()))
            .and_then(|file| file.read_exact_at(buffer, offset));
        read.map_err(|error| refuse(&self.root, failure(&self.path, error)))
    }

    /// The error for bytes that are not those that were hashed.
    pub(crate) fn changed(&self) -> StoreError {
        refuse(&self.root, changed(&self.path))
    }
}

/// Reads and hashes a file.
pub(crate) fn read(root: &Path, found: &Found) -> Result<ReadFile, StoreError> {
    let place = root.join(found.path.as_path());
    let mut before = found.stamp;
    for _ in 0..ATTEMPTS {
        let read = attempt(&place, before.size);
        let (blob, held, after) =
            read.map_err(|error| refuse(root, failure(&found.path, error)))?;
        if after == before {
            let long = || LongFile {
                root: root.to_owned(),
                path: found.path.clone(),
            };
            return Ok(ReadFile {
                path: found.path.clone(),
                blob,
                size: after.size,
                executable: after.executable,
                bytes: held.map_or_else(|| Bytes::Long(long()), Bytes::Held),
            });
        }
        if !after.is_touched(&before) {
            break;
        }
        before = after;
    }
    Err(refuse(root, changed(&found.path)))
}

/// One reading of as many bytes as were announced: their id, the bytes themselves when they are
/// few, and what the file system says of the file afterwards.
fn attempt(place: &Path, size: u64) -> io::Result<(BlobId, Option<Vec<u8>>, Stamp)> {
    let mut file = open(place)?;
    let (blob, held) = if size <= UNCUT {
        let mut bytes = vec![0; size as usize];
        file.read_exact(&mut bytes)?;
        (BlobId::of(&bytes), Some(bytes))
    } else {
        (hash_long(&mut file, size)?, None)
    };
    Ok((blob, held, Stamp::of(&file.metadata()?)))
}

fn hash_long(file: &mut File, size: u64) -> io::Result<BlobId> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; LONG_BUFFER];
    let mut left = size;
    while left > 0 {
        let part = left.min(LONG_BUFFER as u64) as usize;
        file.read_exact(&mut buffer[..part])?;
        hasher.update_rayon(&buffer[..part]);
        left -= part as u64;
    }
    Ok(hasher.finalize().into())
}

/// Opens what was a file when it was seen. A link or a pipe that took its place is neither
/// followed nor waited for.
fn open(place: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(place)
}

/// What an error in reading means: a file that is gone, shorter, or something else now.
fn failure(path: &EntryPath, error: io::Error) -> TreeError {
    let replaced = rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP);
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => changed(path),
        _ if replaced => changed(path),
        _ => TreeError::Read {
            what: "read",
            path: path.to_string(),
            source: error,
        },
    }
}

fn changed(path: &EntryPath) -> TreeError {
    TreeError::Changed { path: path.clone() }
}

fn refuse(root: &Path, source: TreeError) -> StoreError {
    StoreError::Tree {
        path: root.to_owned(),
        source,
    }
}
