//! What a step sees, laid out in a folder of its own, and what it did there.
//!
//! Files are hard links to the source and to what other steps made: nothing is copied that is only
//! read. Where a step may write in place (its outputs, its notes) it gets copies. Whether it wrote
//! elsewhere is seen by comparing the folder with how it was laid out; then the build fails, so a
//! link that was written through changes nothing that is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use relstore_store::name::EntryPath;
use walkdir::WalkDir;

use crate::conditions;
use crate::error::{BuildError, IoContext};
use crate::exclude::{Excludes, shown};
use crate::source_tree::{Content, SourceEntry, SourceTree};
use crate::step::below;

/// What other steps made: a tree with paths from the application's folder, and which of its paths
/// take the place of what was there before.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) tree: PathBuf,
    pub(crate) paths: Vec<EntryPath>,
}

/// How files come into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// As links where they are only read.
    Linked,
    /// As copies: whoever runs there may write anywhere.
    Copied,
    /// Out of where they lay: nobody else needs them any more.
    Moved,
}

/// A layout to be made.
pub(crate) struct LayOut<'a> {
    pub(crate) source: &'a SourceTree,
    pub(crate) entries: &'a [&'a SourceEntry],
    pub(crate) layers: &'a [Layer],
    /// Paths from the application's folder that may be written: copies.
    pub(crate) writable: &'a Excludes,
    pub(crate) files: Files,
}

impl LayOut<'_> {
    /// Lays everything out in an empty folder, in the order of paths.
    pub(crate) fn run(&self, target: &Path) -> Result<(), BuildError> {
        let root = self.source.root.as_bytes();
        let mut folders = Folders::new();
        for entry in self.entries {
            let place = target.join(std::ffi::OsStr::from_bytes(&entry.path));
            folders.make(place.parent().unwrap_or(target))?;
            match &entry.content {
                Content::EmptyDir => folders.make(&place)?,
                Content::Link(link) => {
                    let link = std::ffi::OsString::from_vec(link.clone());
                    symlink(link, &place).at("write the link", &place)?;
                }
                Content::File { .. } => {
                    let from = self
                        .source
                        .folder
                        .join(std::ffi::OsStr::from_bytes(&entry.path));
                    let inner = below(&entry.path, root).unwrap_or_default();
                    self.file(&from, &place, inner)?;
                }
            }
        }
        let application = target.join(&self.source.root);
        folders.make(&application)?;
        for layer in self.layers {
            let outer = |path: &&EntryPath| !layer.paths.iter().any(|other| path.is_below(other));
            for path in layer.paths.iter().filter(outer) {
                self.layer(layer, path, &application)?;
            }
        }
        Ok(())
    }

    fn file(&self, from: &Path, to: &Path, inner: &[u8]) -> Result<(), BuildError> {
        if self.files == Files::Moved {
            return std::fs::rename(from, to).at("move", from);
        }
        if self.files == Files::Copied || self.writable.covers(inner) {
            return std::fs::copy(from, to).map(drop).at("write", to);
        }
        match std::fs::hard_link(from, to) {
            // Too many links, or a file system without.
            Err(_) => std::fs::copy(from, to).map(drop).at("write", to),
            Ok(()) => Ok(()),
        }
    }

    /// Puts what a step made at a path in place of what is there.
    fn layer(&self, layer: &Layer, path: &EntryPath, target: &Path) -> Result<(), BuildError> {
        let (from, to) = (layer.tree.join(path.as_path()), target.join(path.as_path()));
        if from.symlink_metadata().is_err() {
            return Ok(()); // optional, and not made
        }
        remove(&to)?;
        let parent = to.parent().unwrap_or(target);
        std::fs::create_dir_all(parent).at("create", parent)?;
        if self.files == Files::Moved {
            return std::fs::rename(&from, &to).at("move", &from);
        }
        for entry in WalkDir::new(&from).sort_by_file_name() {
            let entry = entry.at("read", &from)?;
            let inner = entry
                .path()
                .strip_prefix(&layer.tree)
                .unwrap_or(entry.path());
            let place = target.join(inner);
            let kind = entry.file_type();
            if kind.is_dir() {
                std::fs::create_dir(&place).at("create", &place)?;
            } else if kind.is_symlink() {
                let link = std::fs::read_link(entry.path()).at("read link", entry.path())?;
                symlink(link, &place).at("write the link", &place)?;
            } else {
                self.file(entry.path(), &place, inner.as_os_str().as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Folders that are made once each.
struct Folders(BTreeSet<PathBuf>);

impl Folders {
    fn new() -> Self {
        Self(BTreeSet::new())
    }

    fn make(&mut self, folder: &Path) -> Result<(), BuildError> {
        if !self.0.contains(folder) {
            std::fs::create_dir_all(folder).at("create", folder)?;
            self.0.insert(folder.to_owned());
        }
        Ok(())
    }
}

/// Removes a file, link or folder with all below; nothing there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), BuildError> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.at("remove", path)
}

/// Copies a layout in another order of creation, see [`conditions::copy_in_order`].
pub(crate) fn reorder(from: &Path, to: &Path, order: u64) -> Result<(), BuildError> {
    conditions::copy_in_order(from, to, Some(order))
}

/// How the files of a folder were.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Seen {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.size(),
            // Not ctime: a new link or another mode changes no content.
            changed: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// The files and links of a folder, to compare with later.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, Seen>);

/// What a step did to a path that it should have left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trespass {
    /// From the application's folder, escaped.
    pub path: String,
    /// `wrote`, `changed`, `removed`.
    pub what: &'static str,
}

impl Snapshot {
    /// Looks at all files below the application's folder but those that may be written.
    pub(crate) fn take(application: &Path, writable: &Excludes) -> Result<Self, BuildError> {
        let mut seen = BTreeMap::new();
        let walk = WalkDir::new(application).min_depth(1).into_iter();
        let kept = walk.filter_entry(|entry| {
            let inner = entry.path().strip_prefix(application);
            !inner.is_ok_and(|inner| writable.matches(inner.as_os_str().as_bytes()))
        });
        for entry in kept {
            let entry = entry.at("read", application)?;
            if entry.file_type().is_dir() {
                continue;
            }
            let meta = entry
                .path()
                .symlink_metadata()
                .at("look at", entry.path())?;
            let inner = entry
                .path()
                .strip_prefix(application)
                .unwrap_or(entry.path());
            seen.insert(inner.to_owned(), Seen::of(&meta));
        }
        Ok(Self(seen))
    }

    /// What differs from an earlier look.
    pub(crate) fn trespasses(&self, before: &Self) -> Vec<Trespass> {
        let said = |path: &Path, what| Trespass {
            path: shown(path.as_os_str().as_bytes()),
            what,
        };
        let mut found: Vec<Trespass> = Vec::new();
        for (path, seen) in &self.0 {
            match before.0.get(path) {
                None => found.push(said(path, "wrote")),
                Some(known) if known != seen => found.push(said(path, "changed")),
                Some(_) => {}
            }
        }
        let gone = before.0.keys().filter(|path| !self.0.contains_key(*path));
        found.extend(gone.map(|path| said(path, "removed")));
        found
    }
}

/// Brings files and folders of a tree into the modes that a checkout gives them, and links into
/// their plain form: who uses it must not see whether it was made just now or comes from a store.
pub(crate) fn normalise(tree: &Path) -> Result<(), BuildError> {
    for entry in WalkDir::new(tree).min_depth(1) {
        let entry = entry.at("read", tree)?;
        let place = entry.path();
        let kind = entry.file_type();
        if kind.is_symlink() {
            let link = std::fs::read_link(place).at("read link", place)?;
            let plain = crate::assemble::plain_target(link.as_os_str().as_bytes());
            if plain != link.as_os_str().as_bytes() {
                std::fs::remove_file(place).at("remove", place)?;
                symlink(std::ffi::OsString::from_vec(plain), place).at("write the link", place)?;
            }
            continue;
        }
        if !kind.is_file() && !kind.is_dir() {
            continue; // refused when its digest is wanted
        }
        let mode = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", place)?
            .permissions()
            .mode()
            & 0o7777;
        let wanted = if kind.is_dir() || mode & 0o100 != 0 {
            0o755
        } else {
            0o644
        };
        if mode != wanted {
            std::fs::set_permissions(place, PermissionsExt::from_mode(wanted))
                .at("set the mode of", place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    #[test]
    fn layers_replace_whole_paths_and_writes_elsewhere_are_seen() {
        let root = tempfile::tempdir().unwrap();
        let (source, made, target) = (
            root.path().join("source"),
            root.path().join("made"),
            root.path().join("target"),
        );
        for path in ["app/A.php", "vendor/old.php", "public/index.php", "notes/x"] {
            write(&source, path, path);
        }
        std::fs::create_dir_all(source.join("empty")).unwrap();
        symlink("A.php", source.join("app/link")).unwrap();
        write(&made, "vendor/autoload.php", "new");
        std::fs::create_dir(&target).unwrap();

        let tree = SourceTree::read(&source, "").unwrap();
        let entries: Vec<&SourceEntry> = tree.entries.iter().collect();
        let writable = Excludes::of(&["public".to_owned(), "notes".to_owned()]).unwrap();
        LayOut {
            source: &tree,
            entries: &entries,
            layers: &[Layer {
                tree: made,
                paths: vec![
                    EntryPath::new("vendor").unwrap(),
                    EntryPath::new("none").unwrap(),
                ],
            }],
            writable: &writable,
            files: Files::Linked,
        }
        .run(&target)
        .unwrap();
        let inode = |path: &Path| path.metadata().unwrap().ino();
        assert_eq!(
            inode(&target.join("app/A.php")),
            inode(&source.join("app/A.php"))
        );
        assert_ne!(
            inode(&target.join("public/index.php")),
            inode(&source.join("public/index.php"))
        );
        assert!(!target.join("vendor/old.php").exists() && target.join("empty").is_dir());

        let before = Snapshot::take(&target, &writable).unwrap();
        write(&target, "public/build/x", "x");
        write(&target, "notes/x", "other");
        assert!(
            Snapshot::take(&target, &writable)
                .unwrap()
                .trespasses(&before)
                .is_empty()
        );
        write(&target, "app/B.php", "x");
        write(&target, "app/A.php", "longer than before");
        std::fs::remove_file(target.join("vendor/autoload.php")).unwrap();
        let found = Snapshot::take(&target, &writable)
            .unwrap()
            .trespasses(&before);
        let found: Vec<_> = found
            .iter()
            .map(|trespass| (trespass.what, trespass.path.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("changed", "app/A.php"),
                ("wrote", "app/B.php"),
                ("removed", "vendor/autoload.php")
            ]
        );
    }

    #[test]
    fn moved_files_are_gone_where_they_lay_and_outputs_in_outputs_come_along() {
        let root = tempfile::tempdir().unwrap();
        let [source, made, target] =
            ["source", "made", "target"].map(|name| root.path().join(name));
        write(&source, "app/A.php", "a");
        write(&source, "public/old.js", "old");
        write(&made, "public/build/app.js", "new");
        std::fs::create_dir(&target).unwrap();
        let tree = SourceTree::read(&source, "").unwrap();
        let entries: Vec<&SourceEntry> = tree.entries.iter().collect();
        let paths = ["public/build", "public"];
        LayOut {
            source: &tree,
            entries: &entries,
            layers: &[Layer {
                tree: made.clone(),
                paths: paths.map(|path| EntryPath::new(path).unwrap()).to_vec(),
            }],
            writable: &Excludes::of(&[]).unwrap(),
            files: Files::Moved,
        }
        .run(&target)
        .unwrap();
        let read = |path: &str| std::fs::read_to_string(target.join(path)).ok();
        assert_eq!(read("app/A.php").as_deref(), Some("a"));
        assert_eq!(read("public/build/app.js").as_deref(), Some("new"));
        assert_eq!(read("public/old.js"), None);
        assert!(!source.join("app/A.php").exists() && !made.join("public").exists());
    }

    #[test]
    fn modes_and_links_become_those_of_a_checkout() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "d/f", "x");
        write(root.path(), "d/x", "x");
        symlink("./f", root.path().join("d/l")).unwrap();
        for (path, mode) in [("d/f", 0o600), ("d/x", 0o700), ("d", 0o700)] {
            let mode = PermissionsExt::from_mode(mode);
            std::fs::set_permissions(root.path().join(path), mode).unwrap();
        }
        normalise(root.path()).unwrap();
        let mode = |path: &str| {
            root.path()
                .join(path)
                .metadata()
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!((mode("d"), mode("d/f"), mode("d/x")), (0o755, 0o644, 0o755));
        assert_eq!(
            std::fs::read_link(root.path().join("d/l")).unwrap(),
            Path::new("f")
        );
    }
}
