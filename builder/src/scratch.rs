//! Private folders: one per build, removed with it; caches and notes that stay.
//!
//! ```text
//! <scratch>/builds/<random>/source          the exported source
//! <scratch>/builds/<random>/steps/<step>/   where a step runs: build, HOME, COMPOSER_HOME, TMPDIR
//! <scratch>/builds/<random>/made/<step>     what a step made
//! <scratch>/builds/<random>/checked         source, outputs and development packages, for checks
//! <scratch>/builds/<random>/release, tree   source and outputs together; the release's tree
//! <scratch>/cache/composer, npm, ...        downloads, shared by all builds
//! <scratch>/keys/00..ff                     locks: two builds of one key at once run it once
//! <scratch>/last/<project>/<step>           what the key was made of at the last build
//! <scratch>/logs/<time>-<step>.log          the last 20
//! ```
//! A build holds a lock on its folder. Folders without a lock were left by a build that was
//! killed and are removed by the next one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use relstore_store::id::DerivationKey;

use crate::conditions::Conditions;
use crate::error::{BuildError, IoContext};
use crate::private_folder::PrivateFolder;
use crate::secret::Secrets;
use crate::step::Step;

const LOGS_KEPT: usize = 20;
/// COMPOSER_HOME/config.json: see [`crate::step`].
const COMPOSER_CONFIG: &str = "{\"config\":{\"autoloader-suffix\":\"relstore\"}}\n";

/// Where one step runs.
#[derive(Debug)]
pub(crate) struct StepFolders {
    /// Above all others.
    pub(crate) top: PathBuf,
    pub(crate) build: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) composer_home: PathBuf,
    pub(crate) temp: PathBuf,
    /// The memory file system that `build` lies on, when its order is shuffled.
    _memory: Option<tempfile::TempDir>,
}

/// The folders of one build; its private folder is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    private: PathBuf,
    root: PathBuf,
    cache: PathBuf,
    accounts: PathBuf,
    known_hosts: Option<PathBuf>,
    logs: PathBuf,
    time: String,
    _folder: PrivateFolder,
}

impl Scratch {
    /// Makes the folders of a build below `root`; `time` names its logs. `home` is the user's, whose
    /// known hosts steps may see.
    pub(crate) fn create(
        root: &Path,
        time: String,
        home: Option<&Path>,
    ) -> Result<Self, BuildError> {
        let root = std::path::absolute(root).at("find", root)?;
        let (builds, cache, logs) = (root.join("builds"), root.join("cache"), root.join("logs"));
        for folder in [
            &builds,
            &cache,
            &logs,
            &root.join("keys"),
            &root.join("last"),
        ] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .at("create", folder)?;
        }
        let folder = PrivateFolder::create(&builds)?;
        let private = folder.path().to_owned();
        let known_hosts = home.map(|home| home.join(".ssh/known_hosts"));
        let scratch = Self {
            accounts: private.join("accounts"),
            private,
            root,
            cache,
            known_hosts: known_hosts.filter(|file| file.is_file()),
            logs,
            time,
            _folder: folder,
        };
        for folder in [
            scratch.source(),
            scratch.tree(),
            scratch.release(),
            scratch.accounts.clone(),
            scratch.private.join("steps"),
            scratch.private.join("made"),
            scratch.private.join("empty"),
        ] {
            std::fs::create_dir(&folder).at("create", &folder)?;
        }
        for cache in ["composer", "npm", "pnpm", "yarn"] {
            let cache = scratch.cache.join(cache);
            std::fs::create_dir_all(&cache).at("create", &cache)?;
        }
        Ok(scratch)
    }

    /// The folder above all others of this build.
    pub(crate) fn private(&self) -> &Path {
        &self.private
    }

    /// The exported source.
    pub(crate) fn source(&self) -> PathBuf {
        self.private.join("source")
    }

    /// The release's tree.
    pub(crate) fn tree(&self) -> PathBuf {
        self.private.join("tree")
    }

    /// Source and outputs together.
    pub(crate) fn release(&self) -> PathBuf {
        self.private.join("release")
    }

    /// A folder with nothing in it.
    pub(crate) fn empty(&self) -> PathBuf {
        self.private.join("empty")
    }

    /// The tree that checks judge.
    pub(crate) fn checked(&self) -> PathBuf {
        self.private.join("checked")
    }

    /// Where a step's outputs go.
    pub(crate) fn made(&self, step: &str) -> PathBuf {
        self.private.join("made").join(step)
    }

    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The user's known hosts, when there are some.
    pub(crate) fn known_hosts(&self) -> Option<&Path> {
        self.known_hosts.as_deref()
    }

    /// The folder with the `passwd` and `group` that a sandbox shows.
    pub(crate) fn accounts(&self) -> &Path {
        &self.accounts
    }

    /// Writes the names of the user and its group, see [`Scratch::accounts`].
    pub(crate) fn write_accounts(&self, user: u32, home: &str) -> Result<(), BuildError> {
        let lines = [
            (
                "passwd",
                format!("relstore:x:{user}:{user}::/{home}:/bin/sh\n"),
            ),
            ("group", format!("relstore:x:{user}:\n")),
        ];
        for (name, line) in lines {
            let file = self.accounts.join(name);
            std::fs::write(&file, line).at("write", &file)?;
        }
        Ok(())
    }

    /// Makes the folders of a step, with the credentials for its home when it may have them.
    pub(crate) fn step(
        &self,
        step: &Step,
        conditions: &Conditions,
        secrets: &Secrets,
    ) -> Result<StepFolders, BuildError> {
        let top = self.private.join("steps").join(&step.name);
        let memory = conditions.order.map(|_| memory_folder()).transpose()?;
        let build = match &memory {
            Some(memory) => memory.path().join(&conditions.place),
            None => top.join(&conditions.place),
        };
        let folders = StepFolders {
            build,
            home: top.join(&conditions.home),
            composer_home: top.join("composer-home"),
            temp: top.join("tmp"),
            top,
            _memory: memory,
        };
        for folder in [
            &folders.build,
            &folders.home,
            &folders.composer_home,
            &folders.temp,
        ] {
            std::fs::create_dir_all(folder).at("create", folder)?;
        }
        let config = folders.composer_home.join("config.json");
        std::fs::write(&config, COMPOSER_CONFIG).at("write", &config)?;
        if step.network {
            for file in secrets.files() {
                let folder = match file.name.as_str() {
                    "auth.json" => &folders.composer_home,
                    _ => &folders.home,
                };
                write_private(&folder.join(&file.name), &file.content)?;
            }
        }
        Ok(folders)
    }

    /// The file that remembers what a step's key was made of at the last build of a project.
    pub(crate) fn last(&self, project: &str, step: &str) -> PathBuf {
        self.root.join("last").join(project).join(step)
    }

    /// The lock of a key: held by who runs the step. Few files for all keys: that two of them wait
    /// for each other without need happens rarely and costs time only.
    pub(crate) fn key_lock(&self, key: &DerivationKey) -> PathBuf {
        self.root.join("keys").join(&key.to_string()[..2])
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

/// A folder in memory, where the order of entries is that of their creation.
fn memory_folder() -> Result<tempfile::TempDir, BuildError> {
    let shm = Path::new("/dev/shm");
    tempfile::Builder::new()
        .prefix("relstore-")
        .tempdir_in(shm)
        .at("create a folder in", shm)
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), BuildError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .at("write", path)?;
    file.write_all(content).at("write", path)
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
        std::fs::create_dir_all(builds.join("killed/source/app")).unwrap();
        let one = Scratch::create(root.path(), "t".to_owned(), None).unwrap();
        let two = Scratch::create(root.path(), "t".to_owned(), None).unwrap();
        assert_eq!(names(&builds), 2);
        assert!(one.source().is_dir() && two.source().is_dir());
        drop((one, two));
        assert_eq!(names(&builds), 0);
    }

    #[test]
    fn twenty_logs_stay_and_none_is_overwritten() {
        let root = tempfile::tempdir().unwrap();
        for time in 100..125 {
            let scratch = Scratch::create(root.path(), time.to_string(), None).unwrap();
            scratch.log("vite").unwrap();
        }
        let scratch = Scratch::create(root.path(), "200".to_owned(), None).unwrap();
        let (one, _file) = scratch.log("vite").unwrap();
        let (two, _file) = scratch.log("vite").unwrap();
        assert_ne!(one, two);
        assert!(one.is_file() && two.is_file());
        assert_eq!(names(&root.path().join("logs")), LOGS_KEPT);
    }
}
