//! What lies in a folder: links, empty folders and files with what the file system says of them.
//! Nothing is read but names. All cores walk, one folder each; the result does not depend on the
//! order in which folders are met.

use std::fs::{DirEntry, FileType, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{StoreError, TreeError};
use crate::import::ReleaseTree;
use crate::manifest::{Entry, Kind};
use crate::name::{EntryPath, LinkTarget, escape};

/// Decides whether a path belongs to the release; what lies below one that does not is not even
/// looked at. Called from all cores, in any order. Nobody sees sockets, devices and pipes before
/// it: the release must not have one, but may leave it out.
pub type Choice<'a> = &'a (dyn Fn(&EntryPath, FileType) -> bool + Sync);

/// Everything of a folder that a release can have.
#[derive(Debug, Default)]
pub struct Scan {
    /// Links and empty folders, complete.
    pub(crate) entries: Vec<Entry>,
    /// Files, not read yet, in no order.
    pub(crate) files: Vec<Found>,
}

/// A file that was seen.
#[derive(Debug, Clone)]
pub struct Found {
    /// Relative to the folder.
    pub path: EntryPath,
    pub(crate) stamp: Stamp,
}

impl Found {
    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stamp.size
    }
}

impl Scan {
    /// All files.
    #[must_use]
    pub fn files(&self) -> &[Found] {
        &self.files
    }

    /// Adds a link that the choice left out, with another target than it has.
    pub fn add_link(&mut self, path: EntryPath, target: LinkTarget) {
        self.entries.push(Entry {
            path,
            kind: Kind::Link { target },
        });
    }

    /// Sum of their sizes in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(Found::size).sum()
    }
}

/// What tells that a file is still the one that was seen. Neither device nor inode: an overlay
/// file system may give other ones for the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) executable: bool,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            executable: meta.mode() & 0o100 != 0,
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether nothing but the time of the last change of the inode differs: a new hard link to
    /// the file does that, and so does a writer who sets back the time.
    pub(crate) fn is_touched(&self, before: &Self) -> bool {
        self.changed != before.changed
            && Self {
                changed: before.changed,
                ..*self
            } == *before
    }
}

/// Walks a folder. Folders of the layout are left to the layout; a folder of which everything
/// was left out is no part of the release, one that was empty is.
///
/// # Errors
/// [`StoreError::Tree`], of all problems the one with the smallest path.
pub fn scan(tree: &ReleaseTree, choose: Choice<'_>) -> Result<Scan, StoreError> {
    let walk = Walk {
        tree,
        choose,
        found: Mutex::default(),
        problem: Mutex::default(),
    };
    rayon::scope(|scope| walk.folder(scope, Vec::new()));
    let found = walk.found.into_inner();
    let problem = walk.problem.into_inner();
    if let Some((_, source)) = problem.unwrap_or_else(PoisonError::into_inner) {
        return Err(StoreError::Tree {
            path: tree.root.clone(),
            source,
        });
    }
    Ok(found.unwrap_or_else(PoisonError::into_inner))
}

struct Walk<'a> {
    tree: &'a ReleaseTree,
    choose: Choice<'a>,
    found: Mutex<Scan>,
    problem: Mutex<Option<(Vec<u8>, TreeError)>>,
}

/// What one folder holds.
#[derive(Default)]
struct Listed {
    scan: Scan,
    folders: Vec<Vec<u8>>,
}

impl<'a> Walk<'a> {
    /// Lists a folder and hands on those in it as work of their own: recursion would need a stack
    /// as deep as the tree.
    fn folder<'s>(&'s self, scope: &rayon::Scope<'s>, path: Vec<u8>)
    where
        'a: 's,
    {
        match self.list(&path) {
            Ok(mut listed) => {
                let mut found = lock(&self.found);
                found.entries.append(&mut listed.scan.entries);
                found.files.append(&mut listed.scan.files);
                drop(found);
                for inner in listed.folders {
                    scope.spawn(|scope| self.folder(scope, inner));
                }
            }
            Err((path, error)) => {
                let mut problem = lock(&self.problem);
                if problem.as_ref().is_none_or(|(first, _)| path < *first) {
                    *problem = Some((path, error));
                }
            }
        }
    }

    fn list(&self, path: &[u8]) -> Result<Listed, (Vec<u8>, TreeError)> {
        let place = self.place(path);
        let unreadable = |source| (path.to_vec(), read_error("list", path, source));
        let mut listed = Listed::default();
        let mut empty = true;
        for entry in std::fs::read_dir(place).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            empty = false;
            let mut inner = Vec::with_capacity(path.len() + 1 + entry.file_name().len());
            inner.extend_from_slice(path);
            if !path.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(entry.file_name().as_bytes());
            self.entry(&entry, &inner, &mut listed)
                .map_err(|error| (inner, error))?;
        }
        if empty
            && let Ok(path) = EntryPath::new(path)
            && !self.is_laid_out(&path)
            && !self.leads_to_laid_out(&path)
        {
            listed.scan.entries.push(Entry {
                path,
                kind: Kind::EmptyDir,
            });
        }
        Ok(listed)
    }

    fn entry(&self, entry: &DirEntry, raw: &[u8], listed: &mut Listed) -> Result<(), TreeError> {
        let name = |source| TreeError::Name {
            path: escape(raw),
            source,
        };
        let path = EntryPath::new(raw).map_err(name)?;
        let kind = entry
            .file_type()
            .map_err(|error| read_error("look at", raw, error))?;
        if !(self.choose)(&path, kind) {
            return Ok(());
        }
        self.check_writable(&path, kind)?;
        if kind.is_dir() {
            listed.folders.push(raw.to_vec());
        } else if kind.is_symlink() {
            let target = std::fs::read_link(self.place(raw))
                .map_err(|error| read_error("read the link", raw, error))?;
            let target = LinkTarget::new(target.into_os_string().into_vec(), &path);
            let target = target.map_err(name)?;
            listed.scan.entries.push(Entry {
                path,
                kind: Kind::Link { target },
            });
        } else if kind.is_file() {
            // Relative to the open folder, like the listing: no look-up of the whole path.
            let meta = entry
                .metadata()
                .map_err(|error| read_error("look at", raw, error))?;
            listed.scan.files.push(Found {
                path,
                stamp: Stamp::of(&meta),
            });
        } else {
            return Err(TreeError::Special { path: escape(raw) });
        }
        Ok(())
    }

    /// Refuses what lies below a writable folder: it would vanish on hosts. Folders on the way to
    /// a shared path in there are fine.
    fn check_writable(&self, path: &EntryPath, kind: FileType) -> Result<(), TreeError> {
        let mut writable = self.tree.layout.writable_dirs.iter();
        let Some(folder) = writable.find(|folder| path.is_below(folder)) else {
            return Ok(());
        };
        if self.is_laid_out(path) || (kind.is_dir() && self.leads_to_laid_out(path)) {
            return Ok(());
        }
        Err(TreeError::InWritable {
            path: path.clone(),
            folder: folder.clone(),
        })
    }

    /// Whether hosts make a folder of this path in any case.
    fn is_laid_out(&self, path: &EntryPath) -> bool {
        let layout = &self.tree.layout;
        layout.shared_dirs.contains(path) || layout.writable_dirs.contains(path)
    }

    fn leads_to_laid_out(&self, path: &EntryPath) -> bool {
        let layout = &self.tree.layout;
        let mut inner = layout
            .shared_files
            .iter()
            .chain(&layout.shared_dirs)
            .chain(&layout.writable_dirs);
        inner.any(|inner| inner.is_below(path))
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            return self.tree.root.clone();
        }
        self.tree
            .root
            .join(Path::new(std::ffi::OsStr::from_bytes(path)))
    }
}

fn read_error(what: &'static str, path: &[u8], source: std::io::Error) -> TreeError {
    TreeError::Read {
        what,
        path: escape(path),
        source,
    }
}

/// A list is whole at any moment, even when a thread panicked while it held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
