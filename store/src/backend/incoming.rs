//! What arrives from another machine, piece by piece, before it is an object.
//!
//! ```text
//! <root>/.relstore/incoming/.tmp-*    locked by the process that writes it
//! ```
//! A writer that is killed leaves its file without a lock; [`sweep`] removes such files and no
//! others, so that several writers share the folder.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::folder::{Folder, PRIVATE};
use crate::error::{IoContext, StoreError};
use crate::fs;

/// An object that is still arriving; nobody sees it, and its end without
/// [`Incoming::put`] removes it.
#[derive(Debug)]
pub struct Incoming {
    temp: NamedTempFile,
    length: u64,
}

impl Incoming {
    /// Begins one for a folder.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn begin(folder: &Folder) -> Result<Self, StoreError> {
        let spool = spool(folder.root());
        fs::create_dirs(&spool)?;
        loop {
            let temp = fs::temp_in(&spool)?;
            flock(temp.as_file(), FlockOperation::NonBlockingLockExclusive)
                .map_err(io::Error::from)
                .at("lock", temp.path())?;
            let meta = temp.as_file().metadata().at("look at", temp.path())?;
            // Swept between its making and its lock: made again.
            if meta.nlink() > 0 {
                return Ok(Self { temp, length: 0 });
            }
        }
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.temp
            .as_file_mut()
            .write_all(bytes)
            .at("write", self.temp.path())?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Bytes that arrived.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Makes it an object: as [`Folder::put_file`], an advisory one as
    /// [`Folder::put_advisory_file`].
    ///
    /// # Errors
    /// Theirs.
    pub fn put(self, folder: &Folder, name: &str, advisory: bool) -> Result<(), StoreError> {
        if advisory {
            folder.put_advisory_file(name, self.temp)
        } else {
            folder.put_file(name, self.temp)
        }
    }
}

fn spool(root: &Path) -> PathBuf {
    root.join(PRIVATE).join("incoming")
}

/// Removes what killed writers left below a root. Best effort: what stays costs room only.
pub fn sweep(folder: &Folder) {
    let entries = std::fs::read_dir(spool(folder.root()));
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let left = std::fs::File::open(&path)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if left {
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_nobody_writes_any_more_is_swept_and_what_somebody_writes_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::confined(root.path().to_owned());
        let mut written = Incoming::begin(&folder).unwrap();
        written.write(b"half").unwrap();
        let left = spool(root.path()).join(".tmp-left");
        std::fs::write(&left, "half").unwrap();
        sweep(&folder);
        assert!(!left.exists());
        written.write(b" and half").unwrap();
        assert_eq!(written.length(), 13);
        written.put(&folder, "a/b", false).unwrap();
        assert_eq!(folder.get("a/b").unwrap().unwrap(), b"half and half");

        drop(Incoming::begin(&folder).unwrap());
        let left = std::fs::read_dir(spool(root.path())).unwrap().count();
        assert_eq!(left, 0, "one that was given up leaves nothing");
    }
}
