//! What [`crate::fs`] did, in order: from it a test makes the states that a crash may leave.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One effect on the disk, done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A folder was made.
    Made(PathBuf),
    /// The bytes of what is going to have this name are durable.
    Synced(PathBuf),
    /// A file has this name.
    Named(PathBuf),
    /// The names in this folder are durable.
    SyncedFolder(PathBuf),
}

static EFFECTS: Mutex<Vec<Effect>> = Mutex::new(Vec::new());

/// All effects since the last call, of the whole process.
pub fn take() -> Vec<Effect> {
    std::mem::take(&mut *EFFECTS.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn add(effect: fn(PathBuf) -> Effect, path: &Path) {
    let mut effects = EFFECTS.lock().unwrap_or_else(PoisonError::into_inner);
    effects.push(effect(path.to_owned()));
}
