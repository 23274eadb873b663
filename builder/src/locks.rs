//! The lock files of a build: read before a step runs, their packages for the records.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{BuildError, IoContext};
use crate::lockfile::{self, LockError, Package};
use crate::plan::Plan;
use crate::provenance::sha256;

/// Contents of all lock files of an application, by name.
pub(crate) type LockFiles = BTreeMap<&'static str, Vec<u8>>;

/// What is recorded of them.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    /// SHA-256 in hex, by name.
    pub(crate) digests: BTreeMap<&'static str, String>,
    /// What they name.
    pub(crate) packages: Vec<Package>,
}

/// Reads what lies in the application's folder.
pub(crate) fn read(application: &Path) -> Result<LockFiles, BuildError> {
    let mut files = LockFiles::new();
    for name in lockfile::NAMES {
        let path = application.join(name);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => {
                files.insert(name, read.at("read", &path)?);
            }
        }
    }
    Ok(files)
}

impl Locks {
    /// Those that steps need: others may be left over from another package manager.
    pub(crate) fn of(files: &LockFiles, plan: &Plan) -> Result<Self, LockError> {
        let mut locks = Self::default();
        let needed = |name: &str| plan.steps.iter().any(|step| step.files.contains(&name));
        for (name, content) in files.iter().filter(|(name, _)| needed(name)) {
            locks.digests.insert(name, sha256(content));
            locks.packages.extend(lockfile::parse(name, content)?);
        }
        Ok(locks)
    }
}
