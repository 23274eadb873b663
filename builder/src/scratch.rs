//! Private folders: one per build, removed with it; caches and logs that stay.
//!
//! ```text
//! <scratch>/builds/<random>/build      the source, where the steps run
//! <scratch>/builds/<random>/tree       the release's tree
//! <scratch>/builds/<random>/home, tmp  HOME and TMPDIR of the steps
//! <scratch>/cache/composer, npm        downloads, shared by all builds
//! <scratch>/logs/<time>-<step>.log     the last 20
//! ```
//! A build holds a lock on its folder. Folders without a lock were left by a build that was
//! killed and are removed by the next one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::{BuildError, IoContext};

const LOGS_KEPT: usize = 20;
/// COMPOSER_HOME/config.json: see [`crate::step`].
const COMPOSER_CONFIG: &str = "{\"config\":{\"autoloader-suffix\":\"relstore\"}}\n";

/// The folders of one build; its private folder is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    private: PathBuf,
    cache: PathBuf,
    logs: PathBuf,
    time: String,
    /// Locked as long as the build lives; released after the folder is gone.
    _lock: File,
}

impl Scratch {
    /// Makes the folders of a build below `root`; `time` names its logs.
    pub(crate) fn create(root: &Path, time: String) -> Result<Self, BuildError> {
        let root = std::path::absolute(root).at("find", root)?;
        let (builds, cache, logs) = (root.join("builds"), root.join("cache"), root.join("logs"));
        for folder in [&builds, &cache, &logs] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .at("create", folder)?;
        }
        remove_left_over(&builds);
        let (private, lock) = private_folder(&builds)?;
        let scratch = Self {
            private,
            cache,
            logs,
            time,
            _lock: lock,
        };
        let composer = scratch.composer_home();
        for folder in [
            scratch.build(),
            scratch.tree(),
            scratch.home(),
            scratch.temp(),
        ] {
            std::fs::create_dir(&folder).at("create", &folder)?;
        }
        std::fs::create_dir(&composer).at("create", &composer)?;
        let config = composer.join("config.json");
        std::fs::write(&config, COMPOSER_CONFIG).at("write", &config)?;
        for cache in [scratch.composer_cache(), scratch.npm_cache()] {
            std::fs::create_dir_all(&cache).at("create", &cache)?;
        }
        Ok(scratch)
    }

    pub(crate) fn private(&self) -> &Path {
        &self.private
    }

    pub(crate) fn build(&self) -> PathBuf {
        self.private.join("build")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.private.join("tree")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.private.join("home")
    }

    pub(crate) fn temp(&self) -> PathBuf {
        self.private.join("tmp")
    }

    pub(crate) fn composer_home(&self) -> PathBuf {
        self.private.join("home/composer")
    }

    pub(crate) fn composer_cache(&self) -> PathBuf {
        self.cache.join("composer")
    }

    pub(crate) fn npm_cache(&self) -> PathBuf {
        self.cache.join("npm")
    }

    /// A new log for a step; the oldest ones go.
    pub(crate) fn log(&self, step: &str) -> Result<(PathBuf, File), BuildError> {
        let mut name = format!("{}-{step}.log", self.time);
        for number in 2.. {
            let path = self.logs.join(&name);
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    name = format!("{}-{step}-{number}.log", self.time);
                }
                made => {
                    let file = made.at("write", &path)?;
                    self.forget_old_logs();
                    return Ok((path, file));
                }
            }
        }
        Err(BuildError::Interrupted)
    }

    /// Names begin with the time, so their order is their age. That an old log stays is no
    /// reason to fail.
    fn forget_old_logs(&self) {
        let Ok(entries) = std::fs::read_dir(&self.logs) else {
            return;
        };
        let mut logs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        logs.sort();
        let surplus = logs.len().saturating_sub(LOGS_KEPT);
        for log in &logs[..surplus] {
            let _ = std::fs::remove_file(log);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build, or reported by nobody: the
        // build's own result counts.
        let _ = std::fs::remove_dir_all(&self.private);
    }
}

/// Makes and locks a folder. Between the two another build may take it for a left over and remove
/// it; then another one is made.
fn private_folder(builds: &Path) -> Result<(PathBuf, File), BuildError> {
    loop {
        let folder = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(10)
            .tempdir_in(builds)
            .at("create a folder in", builds)?
            .keep();
        let lock = match File::open(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.at("open", &folder)?,
        };
        let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        let there = lock.metadata().is_ok_and(|locked| {
            std::fs::metadata(&folder)
                .is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()))
        });
        if locked.is_ok() && there {
            return Ok((folder, lock));
        }
    }
}

fn remove_left_over(builds: &Path) {
    for entry in std::fs::read_dir(builds).into_iter().flatten().flatten() {
        let Ok(folder) = File::open(entry.path()) else {
            continue;
        };
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn left_over_folders_go_and_running_builds_stay() {
        let root = tempfile::tempdir().unwrap();
        let builds = root.path().join("builds");
        std::fs::create_dir_all(builds.join("killed/build/app")).unwrap();
        let one = Scratch::create(root.path(), "t".to_owned()).unwrap();
        let two = Scratch::create(root.path(), "t".to_owned()).unwrap();
        assert_eq!(names(&builds), 2);
        assert!(one.build().is_dir() && two.build().is_dir());
        drop((one, two));
        assert_eq!(names(&builds), 0);
    }

    #[test]
    fn twenty_logs_stay_and_none_is_overwritten() {
        let root = tempfile::tempdir().unwrap();
        for time in 100..125 {
            let scratch = Scratch::create(root.path(), time.to_string()).unwrap();
            scratch.log("vite").unwrap();
        }
        let scratch = Scratch::create(root.path(), "200".to_owned()).unwrap();
        let (one, _file) = scratch.log("vite").unwrap();
        let (two, _file) = scratch.log("vite").unwrap();
        assert_ne!(one, two);
        assert!(one.is_file() && two.is_file());
        assert_eq!(names(&root.path().join("logs")), LOGS_KEPT);
    }
}
