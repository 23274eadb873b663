//! Objects as files below a folder, blocking: what [`super::local::LocalBackend`] does on this
//! machine and the host helper on another.
//!
//! ```text
//! <root>/<name of an object>          0444; `.tmp-*` beside them: not yet objects
//! <root>/.relstore/                   not objects: the host helper, and what it receives
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::Object;
use crate::error::{IoContext, StoreError};
use crate::fs;

/// Name of the folder in a root that holds no objects: what the host helper keeps.
pub const PRIVATE: &str = ".relstore";

/// A folder that holds objects.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    confined: bool,
}

impl Folder {
    /// Takes a folder; nothing is made before the first put.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            confined: false,
        }
    }

    /// Takes a folder that no name leads out of, not even by links that lie in it: names come
    /// from another machine. (A link that is put there between the look and the act is followed;
    /// whoever can do that has the rights of this process anyway.)
    #[must_use]
    pub fn confined(root: PathBuf) -> Self {
        Self {
            root,
            confined: true,
        }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a temp file is cheapest to put.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// The file of an object, opened, or `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a name no object can have, [`StoreError::Io`].
    pub fn open(&self, name: &str) -> Result<Option<File>, StoreError> {
        open(&self.place(name)?)
    }

    /// The whole object.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_range(name, 0, u64::MAX)
    }

    /// `length` bytes from `offset`; fewer only where the object ends.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.place(name)?;
        let Some(mut file) = open(&path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).at("read", &path)?;
        }
        file.take(length)
            .read_to_end(&mut bytes)
            .at("read", &path)?;
        Ok(Some(bytes))
    }

    /// Stores a new object from memory, durably.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name has other bytes, and as [`Folder::open`].
    pub fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.place(name)?;
        if !fs::write_new(&path, bytes)? {
            same(open(&path)?, bytes, &path, name)?;
        }
        self.settle_above(&path)
    }

    /// Stores a new object from a file, durably. The file is moved where that is possible.
    ///
    /// # Errors
    /// As [`Folder::put_bytes`].
    pub fn put_file(&self, name: &str, temp: tempfile::NamedTempFile) -> Result<(), StoreError> {
        let path = self.place(name)?;
        let temp = near(temp, &path)?;
        let again = temp.reopen().at("read", temp.path())?;
        if !fs::publish(temp, &path)? {
            same(open(&path)?, again, &path, name)?;
        }
        self.settle_above(&path)
    }

    /// Stores an advisory object, whatever lies there.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn put_advisory(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        fs::replace(&self.place(name)?, bytes)
    }

    /// Stores an advisory object from a file, whatever lies there.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn put_advisory_file(
        &self,
        name: &str,
        temp: tempfile::NamedTempFile,
    ) -> Result<(), StoreError> {
        let path = self.place(name)?;
        fs::replace_with(near(temp, &path)?, &path)
    }

    /// All objects whose names begin with `prefix`, which ends in `/` or is empty, by name.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let mut found = Vec::new();
        self.list_each(prefix, &mut |object| {
            found.push(object);
            Ok(())
        })?;
        Ok(found)
    }

    /// Files that were never finished and that [`Folder::list`] does not show.
    ///
    /// # Errors
    /// As [`Folder::list`].
    pub fn left_over(&self) -> Result<Vec<Object>, StoreError> {
        let private = self.root.join(PRIVATE);
        let ours = |entry: &DirEntry| entry.path() != private;
        let mut found = Vec::new();
        for entry in sorted(&self.root).into_iter().filter_entry(ours) {
            found.extend(self.file(entry, &self.root, true)?);
        }
        Ok(found)
    }

    /// As [`Folder::list`], one by one, so that a long list is never whole in memory.
    ///
    /// # Errors
    /// As [`Folder::open`], and those of `each`.
    pub fn list_each<E: From<StoreError>>(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(Object) -> Result<(), E>,
    ) -> Result<(), E> {
        let folder = match prefix.strip_suffix('/').unwrap_or(prefix) {
            "" => self.root.clone(),
            name => self.place(name)?,
        };
        let private = self.root.join(PRIVATE);
        let ours = |entry: &DirEntry| entry.path() != private;
        for entry in sorted(&folder).into_iter().filter_entry(ours) {
            if let Some(object) = self.file(entry, &folder, false)? {
                each(object)?;
            }
        }
        Ok(())
    }

    /// The object a walk came to, or what is left of one; `None` for anything else.
    fn file(
        &self,
        entry: Result<DirEntry, walkdir::Error>,
        folder: &Path,
        left_over: bool,
    ) -> Result<Option<Object>, StoreError> {
        let missing = |error: &walkdir::Error| {
            error
                .io_error()
                .is_some_and(|io| io.kind() == io::ErrorKind::NotFound)
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if missing(&error) => return Ok(None), // never made, or deleted meanwhile
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                return Err(io::Error::from(error)).at("list", &path);
            }
        };
        let name = entry.file_name().as_encoded_bytes();
        let unfinished = name.starts_with(fs::TEMP_PREFIX.as_bytes());
        if unfinished != left_over || !entry.file_type().is_file() {
            return Ok(None);
        }
        let meta = match entry.metadata() {
            Err(error) if missing(&error) => return Ok(None),
            meta => meta.map_err(io::Error::from).at("look at", entry.path())?,
        };
        let modified = meta.modified().at("look at", entry.path())?;
        let name = entry.path().strip_prefix(&self.root).ok();
        let Some(name) = name.and_then(Path::to_str) else {
            return Ok(None); // relstore writes ASCII names only: not ours
        };
        Ok(Some(Object {
            name: name.to_owned(),
            size: meta.len(),
            modified,
        }))
    }

    /// Removes an object.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.place(name)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.at("delete", &path),
        }
    }

    /// Makes the names directly below `folder` durable; of a folder that is not there, nothing.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn settle(&self, folder: &str) -> Result<(), StoreError> {
        let path = self.place(folder)?;
        if !path.exists() {
            return Ok(());
        }
        fs::sync_dir(&path)?;
        fs::sync_dir(&self.root)
    }

    /// The place of a name. Parts of names come from other machines; none may lead out of the
    /// root, or to what lies there and is no object.
    fn place(&self, name: &str) -> Result<PathBuf, StoreError> {
        let refuse = |what: &str| {
            Err(StoreError::Damaged {
                name: crate::name::escape(name.as_bytes()),
                what: what.to_owned(),
            })
        };
        let unfinished = |part: &str| self.confined && part.starts_with(fs::TEMP_PREFIX);
        let plain = |part: &str| {
            !matches!(part, "" | "." | "..") && !part.contains('\0') && !unfinished(part)
        };
        if !name.split('/').all(plain) || name.split('/').next() == Some(PRIVATE) {
            return refuse("no object can have this name");
        }
        let path = self.root.join(name);
        if self.confined && !self.holds(&path)? {
            return refuse("a link leads out of the store");
        }
        Ok(path)
    }

    /// Whether a path, as far as it exists, lies in the root after all links are followed.
    fn holds(&self, path: &Path) -> Result<bool, StoreError> {
        let root = match self.root.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            root => root.at("look at", &self.root)?,
        };
        for part in path.ancestors() {
            // A link that leads nowhere is there and has no target.
            match part.canonicalize() {
                Ok(real) => return Ok(real.starts_with(&root)),
                Err(error) if part.is_symlink() => return Err(error).at("look at", part),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(error).at("look at", part),
            }
        }
        Ok(false)
    }

    /// Makes the folders between an object's own and the root durable: another writer that made
    /// one of them may have been killed before it could.
    fn settle_above(&self, path: &Path) -> Result<(), StoreError> {
        let folders = path.ancestors().skip(2);
        for folder in folders.take_while(|folder| folder.starts_with(&self.root)) {
            fs::sync_dir(folder)?;
        }
        Ok(())
    }
}

/// A walk in the order of whole names: a folder stands where its name with the `/` behind it does.
fn sorted(folder: &Path) -> WalkDir {
    let key = |entry: &DirEntry| {
        let mut name = entry.file_name().as_encoded_bytes().to_vec();
        if entry.file_type().is_dir() {
            name.push(b'/');
        }
        name
    };
    WalkDir::new(folder).sort_by(move |a, b| key(a).cmp(&key(b)))
}

/// An opened file, or `None` when there is none.
fn open(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        opened => {
            let file = opened.at("read", path)?;
            // A folder can be opened as well, and is no object.
            let is_file = file.metadata().at("look at", path)?.is_file();
            Ok(is_file.then_some(file))
        }
    }
}

/// A temp file that can be renamed to `path`: one of another file system is copied beside it.
fn near(temp: tempfile::NamedTempFile, path: &Path) -> Result<tempfile::NamedTempFile, StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dirs(folder)?;
    if temp.path().parent().map(device) == Some(device(folder)) {
        return Ok(temp);
    }
    let mut near = fs::temp_in(folder)?;
    let mut far = temp.reopen().at("read", temp.path())?;
    io::copy(&mut far, &mut near).at("write", path)?;
    Ok(near)
}

/// The device number of a folder; `None` when it cannot be told.
fn device(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder)
        .ok()
        .map(|meta| std::os::unix::fs::MetadataExt::dev(&meta))
}

/// Compares what has the name with what was offered. (Nothing has it any more when it was deleted
/// meanwhile.)
fn same(
    present: Option<File>,
    offered: impl Read,
    path: &Path,
    name: &str,
) -> Result<(), StoreError> {
    let equal = match present {
        Some(present) => fs::same_bytes(present, offered).at("read", path)?,
        None => false,
    };
    if equal {
        Ok(())
    } else {
        Err(StoreError::Conflict {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::confined(root.path().join("store"));
        (root, folder)
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_by_every_operation() {
        let (root, folder) = folder();
        std::fs::write(root.path().join("secret"), "hunter2").unwrap();
        folder.put_bytes("a/one", b"1").unwrap();
        for name in [
            "../secret",
            "a/../../secret",
            "/etc/hostname",
            "a//one",
            "./a/one",
            "a/",
            "",
            "a/o\0ne",
            ".relstore/helper/x",
            ".relstore",
            "a/.tmp-x",
        ] {
            let damaged = |result: Result<(), StoreError>| {
                assert!(
                    matches!(result, Err(StoreError::Damaged { .. })),
                    "{name:?}: {result:?}"
                );
            };
            damaged(folder.get(name).map(drop));
            damaged(folder.get_range(name, 0, 1).map(drop));
            damaged(folder.put_bytes(name, b"x"));
            damaged(folder.put_advisory(name, b"x"));
            damaged(folder.delete(name));
            damaged(folder.settle(name));
            if !matches!(name, "" | "a/") {
                damaged(folder.list(name).map(drop));
            }
        }
        assert_eq!(folder.list("").unwrap().len(), 1);
    }

    #[test]
    fn links_that_lead_out_are_followed_by_nobody_and_others_are() {
        let (root, folder) = folder();
        std::fs::create_dir(root.path().join("elsewhere")).unwrap();
        std::fs::write(root.path().join("elsewhere/file"), "hunter2").unwrap();
        folder.put_bytes("a/one", b"1").unwrap();
        let store = folder.root().to_owned();
        symlink(root.path().join("elsewhere"), store.join("out")).unwrap();
        symlink(root.path().join("elsewhere/file"), store.join("a/file")).unwrap();
        symlink(root.path().join("elsewhere/new"), store.join("a/new")).unwrap();
        symlink("a", store.join("in")).unwrap();
        for name in ["out/file", "out/x/y", "a/file"] {
            for result in [
                folder.get(name).map(drop),
                folder.put_bytes(name, b"hunter2"),
                folder.put_advisory(name, b"x"),
                folder.delete(name),
            ] {
                assert!(
                    matches!(result, Err(StoreError::Damaged { .. })),
                    "{name}: {result:?}"
                );
            }
        }
        folder.put_bytes("a/new", b"x").unwrap_err();
        assert_eq!(folder.get("in/one").unwrap().unwrap(), b"1");
        let left = std::fs::read_dir(root.path().join("elsewhere")).unwrap();
        assert_eq!(left.count(), 1, "nothing was written outside");
        let content = std::fs::read(root.path().join("elsewhere/file")).unwrap();
        assert_eq!(content, b"hunter2");
    }

    #[test]
    fn lists_are_in_the_order_of_whole_names_and_leave_out_what_is_no_object() {
        let (_root, folder) = folder();
        for name in ["a/b/c", "a/b-c", "a/b.c", "a.x/y", "a/b0", "z"] {
            folder.put_bytes(name, b"1").unwrap();
        }
        std::fs::create_dir_all(folder.root().join(".relstore/helper")).unwrap();
        std::fs::write(folder.root().join(".relstore/helper/x"), "1").unwrap();
        std::fs::write(folder.root().join("a/.tmp-x"), "half").unwrap();
        let names = |prefix: &str| -> Vec<String> {
            let listed = folder.list(prefix).unwrap();
            listed.into_iter().map(|object| object.name).collect()
        };
        let all = names("");
        let mut again = all.clone();
        again.sort();
        assert_eq!((all.len(), &all), (6, &again));
        assert_eq!(names("a/"), ["a/b-c", "a/b.c", "a/b/c", "a/b0"]);
        assert_eq!(names("a/b/"), ["a/b/c"]);
        assert!(names("none/").is_empty());
    }
}
