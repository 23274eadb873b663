//! Who builds a key: a kernel lock on a file, free as soon as its holder ends, however it ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::error::{BuildError, IoContext};

/// How often it is asked whether the lock is free.
const INTERVAL: Duration = Duration::from_millis(30);

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct KeyLock(#[expect(dead_code, reason = "closing it is what frees the lock")] File);

impl KeyLock {
    /// Takes the lock; `waits` is called when somebody else holds it.
    pub(crate) async fn take(path: &Path, waits: impl FnOnce()) -> Result<Self, BuildError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .at("open", path)?;
        let mut waits = Some(waits);
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    if let Some(waits) = waits.take() {
                        waits();
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(error) => return Err(error).at("lock", path),
            }
        }
    }
}
