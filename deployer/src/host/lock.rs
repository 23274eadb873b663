//! The lock of a base: held by the kernel for an open file, inherited by every command, so it is
//! free only when the last command of a killed deploy has ended. Nobody ever unlocks it by hand.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

use super::base::Base;
use super::error::{At, Result};
use crate::protocol::Holder;

/// Whoever asks for the state looks whether the lock is free, which takes it for an instant.
const GLANCE: Duration = Duration::from_millis(300);

/// The lock, held until dropped *and* until every command that inherited it has ended: dropping
/// only closes our copy of the open file.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

fn open(base: &Base) -> Result<File> {
    let path = base.private("lock");
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .at("open", &path)
}

/// Takes the lock, or says that somebody else holds it.
pub(crate) fn acquire(base: &Base) -> Result<Option<Lock>> {
    let path = base.private("lock");
    let file = open(base)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error).at("lock", &path),
    }
    // Rust opens files so that commands do not inherit them; commands shall inherit this one.
    fcntl_setfd(&file, FdFlags::empty()).at("lock", &path)?;
    Ok(Some(Lock { file }))
}

/// Takes the lock like [`acquire`], but is not turned away by somebody who only looks.
pub(crate) fn acquire_past_glances(base: &Base) -> Result<Option<Lock>> {
    let began = Instant::now();
    loop {
        let lock = acquire(base)?;
        if lock.is_some() || began.elapsed() > GLANCE {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Lock {
    /// Gives the lock back at the end of a deploy, also when something that it started, such as a
    /// service, has inherited it and stays.
    pub(crate) fn release(self, base: &Base) -> Result<()> {
        let path = base.private("lock");
        self.file.set_len(0).at("write", &path)?;
        flock(&self.file, FlockOperation::Unlock).at("unlock", &path)
    }

    /// Writes who holds it, for those who find it taken.
    pub(crate) fn name(&mut self, base: &Base, holder: &Holder) -> Result<()> {
        let path = base.private("lock");
        let json = serde_json::to_vec(holder).expect("strings and numbers are JSON");
        let file = &mut self.file;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&json))
            .at("write", &path)
    }
}

/// Who holds the lock now; `None` when it is free. A lock without a readable name is between two
/// system calls of its holder, or its holder was killed and a command of it still runs.
pub(crate) fn holder(base: &Base) -> Result<Option<Holder>> {
    let path = base.private("lock");
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.at("open", &path)?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => return Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(error) => return Err(error).at("lock", &path),
    }
    let mut json = Vec::new();
    file.read_to_end(&mut json).at("read", &path)?;
    Ok(serde_json::from_slice(&json).ok())
}
