//! A folder that only one run works in: locked while it is used, removed with it. What a killed
//! run left is removed by the next one.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::{BuildError, IoContext};

/// A locked folder; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PrivateFolder {
    path: PathBuf,
    /// Released after the folder is gone.
    _lock: File,
}

impl PrivateFolder {
    /// Makes a folder in `folders`, from which those that nobody locks are removed.
    pub(crate) fn create(folders: &Path) -> Result<Self, BuildError> {
        remove_left_over(folders);
        // Between making and locking it another run may take it for a left over and remove it;
        // then another one is made.
        loop {
            let path = tempfile::Builder::new()
                .prefix("")
                .rand_bytes(10)
                .tempdir_in(folders)
                .at("create a folder in", folders)?
                .keep();
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.at("open", &path)?,
            };
            let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
            let there = lock.metadata().is_ok_and(|locked| {
                std::fs::metadata(&path)
                    .is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()))
            });
            if locked.is_ok() && there {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run, or reported by nobody: the
        // result counts.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn remove_left_over(folders: &Path) {
    for entry in std::fs::read_dir(folders).into_iter().flatten().flatten() {
        let Ok(folder) = File::open(entry.path()) else {
            continue;
        };
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
