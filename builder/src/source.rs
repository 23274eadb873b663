//! The source: a commit or a work tree is copied into the private folder, where steps may write.
//!
//! Both ways write plain files (0644 or 0755 by the executable bit) and links, the links last: so
//! no link can redirect a file that is written after it. What a release never has (`.env`, `.git`,
//! see [`crate::exclude`]) is not even copied: a step cannot bake it in.

pub(crate) mod commit;
mod submodule;
pub(crate) mod work_tree;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use relstore_store::name::EntryPath;

use crate::error::{BuildError, IoContext, Refusal};
use crate::exclude::{Excludes, shown};
use crate::git::Git;
use crate::step::below;

/// What to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A commit, by any name git knows; its files are read from git's objects.
    Commit(String),
    /// The files of the project's folder as they are: tracked ones and those git does not ignore.
    /// Without git all files, but nothing below shared folders other than `.gitignore` files.
    WorkTree,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Full commit; of a work tree the one it is based on, if any.
    pub commit: Option<String>,
    /// Whether the files may differ from the commit.
    pub dirty: bool,
    /// The commit's time in seconds since 1970, for SOURCE_DATE_EPOCH.
    pub epoch: u64,
    /// The project's folder in its repository, escaped; empty at the top.
    pub prefix: String,
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// SOURCE_DATE_EPOCH where no commit says when: 1980-01-01, the first time that zip files know.
const NO_COMMIT_EPOCH: u64 = 315_532_800;

/// What both ways need.
pub(crate) struct Export<'a> {
    pub(crate) project: &'a Path,
    pub(crate) target: &'a Path,
    /// The application's folder from the project's; only what lies in there is released.
    pub(crate) root: &'a str,
    /// What is not copied.
    pub(crate) source_excludes: &'a Excludes,
    /// What will not be released: nothing in there is refused.
    pub(crate) release_excludes: &'a Excludes,
    pub(crate) shared_dirs: &'a [EntryPath],
    pub(crate) search_path: &'a str,
    pub(crate) home: Option<&'a Path>,
    /// Set when nobody waits for the result any more.
    pub(crate) cancelled: &'a AtomicBool,
}

impl Export<'_> {
    /// Copies the source.
    pub(crate) fn run(&self, spec: &SourceSpec) -> Result<Source, BuildError> {
        match spec {
            SourceSpec::Commit(revision) => commit::export(self, revision),
            SourceSpec::WorkTree => work_tree::export(self),
        }
    }

    /// Whether a path may become part of the release: what is wrong with others does no harm.
    fn releases(&self, path: &[u8]) -> bool {
        match below(path, self.root.as_bytes()) {
            Some(inner) => !self.release_excludes.covers(inner),
            None => false,
        }
    }

    /// Whether a path of the application is left out of the release; what lies beside it may be a
    /// package for it.
    fn leaves_out(&self, path: &[u8]) -> bool {
        let inner = below(path, self.root.as_bytes());
        inner.is_some_and(|inner| self.release_excludes.covers(inner))
    }

    fn git(&self) -> Result<Git, BuildError> {
        Git::find(self.project, self.search_path, self.home)
    }

    fn check_cancelled(&self) -> Result<(), BuildError> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(BuildError::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Collects what is refused, so that all of it is reported together.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Vec<Refusal>);

impl Refusals {
    pub(crate) fn add(&mut self, path: &[u8], reason: impl Into<String>) {
        self.0.push(Refusal {
            path: shown(path),
            reason: reason.into(),
        });
    }

    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = Refusal>) {
        self.0.extend(more);
    }

    pub(crate) fn finish(mut self) -> Result<(), BuildError> {
        self.0.sort();
        self.0.dedup();
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(BuildError::Refused { refusals: self.0 })
        }
    }
}

const LFS_POINTER: &str =
    "is a pointer of Git LFS, not the file itself; `git lfs pull` and build with `--dirty`";

/// Longest pointer file: its specification says less than 1024 bytes.
const LFS_MAX: u64 = 1024;

/// Whether a file of this size is a pointer of Git LFS.
pub(crate) fn is_lfs_file(place: &Path, size: u64) -> std::io::Result<bool> {
    Ok(size < LFS_MAX && is_lfs_pointer(&std::fs::read(place)?))
}

/// Whether the beginning of a file says that the content is elsewhere.
fn is_lfs_pointer(head: &[u8]) -> bool {
    head.starts_with(b"version https://git-lfs.github.com/spec/v1\n")
}

/// Writes into a fresh folder. Folders on the way are made once each.
struct Writer<'a> {
    target: &'a Path,
    folders: HashSet<PathBuf>,
    links: Vec<(EntryPath, Vec<u8>)>,
}

impl<'a> Writer<'a> {
    fn new(target: &'a Path) -> Self {
        Self {
            target,
            folders: HashSet::new(),
            links: Vec::new(),
        }
    }

    /// The place of an entry; its folder is there afterwards.
    fn place(&mut self, path: &EntryPath) -> Result<PathBuf, BuildError> {
        let place = self.target.join(path.as_path());
        if let Some(folder) = place.parent()
            && !self.folders.contains(folder)
        {
            std::fs::create_dir_all(folder).at("create", folder)?;
            self.folders.insert(folder.to_owned());
        }
        Ok(place)
    }

    fn file(&mut self, path: &EntryPath, executable: bool) -> Result<(PathBuf, File), BuildError> {
        let place = self.place(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&place)
            .at("write", &place)?;
        // Not at the opening, where the umask would take bits away.
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(PermissionsExt::from_mode(mode))
            .at("set the mode of", &place)?;
        Ok((place, file))
    }

    fn link(&mut self, path: EntryPath, target: Vec<u8>) {
        self.links.push((path, target));
    }

    /// Writes the links. One below another, which only a broken tree of git can have, is refused:
    /// it would be written where the outer one leads.
    fn finish(mut self, refusals: &mut Refusals) -> Result<(), BuildError> {
        let links = std::mem::take(&mut self.links);
        let outer: HashSet<PathBuf> = links
            .iter()
            .map(|(path, _)| path.as_path().to_owned())
            .collect();
        for (path, target) in links {
            let mut above = path.as_path().ancestors().skip(1);
            if above.any(|folder| outer.contains(folder)) {
                refusals.add(path.as_bytes(), "lies below a link");
                continue;
            }
            let place = self.place(&path)?;
            let target = std::ffi::OsString::from_vec(target);
            std::os::unix::fs::symlink(target, &place).at("write the link", &place)?;
        }
        Ok(())
    }
}
