//! The release's tree: source minus excludes plus what the steps made, with modes and links in the
//! one form that a release has. What cannot be part of a release is refused, all of it together.
//!
//! Files are moved, not copied; what stays behind goes with the private folder. Executable are, of
//! the application's own files, those that git or the work tree says, and below `vendor` those
//! that a package declares as `bin`: other bits there depend on the program that unpacked the
//! packages (`unzip` keeps them, PHP's own code does not).

use std::collections::HashSet;
use std::fs::FileType;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use relstore_store::import::Layout;
use relstore_store::name::{EntryPath, LinkTarget};
use serde_json::Value;

use crate::error::{BuildError, IoContext};
use crate::exclude::Excludes;
use crate::source::Refusals;

/// What `artisan storage:link` makes, but relative: public files of a shared `storage`.
pub(crate) const STORAGE_LINK: (&str, &str) = ("public/storage", "../storage/app/public");

/// How large the tree is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Assembled {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Moves what belongs to the release from `build` into the empty folder `tree`.
/// `packages`: whether a step made `vendor`.
pub(crate) fn assemble(
    build: &Path,
    tree: &Path,
    excludes: &Excludes,
    layout: &Layout,
    packages: bool,
) -> Result<Assembled, BuildError> {
    let mut assembly = Assembly {
        build,
        tree,
        excludes,
        layout,
        binaries: packages.then(|| declared_binaries(build)),
        assembled: Assembled::default(),
        refusals: Refusals::default(),
    };
    assembly.folder(b"")?;
    assembly.refusals.finish()?;
    add_storage_link(tree, excludes, layout)?;
    Ok(assembly.assembled)
}

struct Assembly<'a> {
    build: &'a Path,
    tree: &'a Path,
    excludes: &'a Excludes,
    layout: &'a Layout,
    /// Executable paths below `vendor`; `None` when the source itself holds `vendor`.
    binaries: Option<HashSet<Vec<u8>>>,
    assembled: Assembled,
    refusals: Refusals,
}

impl Assembly<'_> {
    /// Moves a folder's content. Returns whether the folder belongs to the release: not when all
    /// that it held was left out.
    fn folder(&mut self, path: &[u8]) -> Result<bool, BuildError> {
        let place = self.build.join(std::ffi::OsStr::from_bytes(path));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&place).at("read", &place)? {
            let entry = entry.at("read", &place)?;
            let kind = entry.file_type().at("look at", &entry.path())?;
            names.push((entry.file_name().into_vec(), kind));
        }
        let target = self.tree.join(std::ffi::OsStr::from_bytes(path));
        if !path.is_empty() {
            std::fs::create_dir(&target).at("create", &target)?;
        }
        let mut kept = names.is_empty();
        for (name, kind) in names {
            let mut inner = path.to_vec();
            if !path.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(&name);
            kept |= self.entry(&inner, &name, kind)?;
        }
        if !kept && !path.is_empty() && !self.is_laid_out(path) {
            std::fs::remove_dir(&target).at("remove", &target)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether hosts make the folder in any case.
    fn is_laid_out(&self, path: &[u8]) -> bool {
        let (shared, writable) = (&self.layout.shared_dirs, &self.layout.writable_dirs);
        shared
            .iter()
            .chain(writable)
            .any(|folder| folder.as_bytes() == path)
    }

    fn entry(&mut self, raw: &[u8], name: &[u8], kind: FileType) -> Result<bool, BuildError> {
        // A package that Composer took from a repository brings the repository along; what git
        // keeps there differs from one clone to the next.
        if name == b".git" || self.excludes.matches(raw) {
            return Ok(false);
        }
        let in_writable = |folder: &EntryPath| {
            raw.strip_prefix(folder.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        if self.layout.writable_dirs.iter().any(in_writable) {
            return Ok(false);
        }
        let path = match EntryPath::new(raw) {
            Ok(path) => path,
            Err(error) => {
                let reason = format!("has a name that no release may have: {error}");
                self.refusals.add(raw, reason);
                return Ok(false);
            }
        };
        if let Some(reason) = self.refusal(&path, name, kind) {
            self.refusals.add(raw, reason);
            return Ok(false);
        }
        if kind.is_dir() {
            return self.folder(raw);
        }
        if kind.is_symlink() {
            return self.link(&path);
        }
        self.file(&path)?;
        Ok(true)
    }

    fn refusal(&self, path: &EntryPath, name: &[u8], kind: FileType) -> Option<&'static str> {
        let layout = self.layout;
        if name == b".env" {
            // In a package; the application's own are left out without a word.
            Some("holds the secrets of one environment; it lives on the hosts, in shared/.env")
        } else if layout.shared_files.contains(path) {
            Some("is shared between releases on the hosts, so this copy would never be used")
        } else if layout.shared_dirs.contains(path) && !kind.is_dir() {
            Some("is a shared folder on the hosts, but no folder here")
        } else if layout.writable_dirs.contains(path) && !kind.is_dir() {
            Some("is a writable folder on the hosts, but no folder here")
        } else if kind.is_socket() {
            Some("is a socket")
        } else if kind.is_fifo() {
            Some("is a named pipe")
        } else if kind.is_char_device() || kind.is_block_device() {
            Some("is a device")
        } else {
            None
        }
    }

    fn link(&mut self, path: &EntryPath) -> Result<bool, BuildError> {
        let place = self.build.join(path.as_path());
        let target = std::fs::read_link(&place).at("read link", &place)?;
        let target = target.as_os_str().as_bytes();
        // What artisan makes in a work tree names a folder of this machine; see STORAGE_LINK.
        if path.as_bytes() == STORAGE_LINK.0.as_bytes() && target.starts_with(b"/") {
            return Ok(false);
        }
        match LinkTarget::new(plain_target(target), path) {
            Ok(target) => {
                let link = self.tree.join(path.as_path());
                std::os::unix::fs::symlink(target.as_path(), &link).at("write the link", &link)?;
                Ok(true)
            }
            Err(error) => {
                let reason = format!("is a link that no release may have: {error}");
                self.refusals.add(path.as_bytes(), reason);
                Ok(false)
            }
        }
    }

    fn file(&mut self, path: &EntryPath) -> Result<(), BuildError> {
        let (from, to) = (
            self.build.join(path.as_path()),
            self.tree.join(path.as_path()),
        );
        std::fs::rename(&from, &to).at("move", &from)?;
        let meta = std::fs::symlink_metadata(&to).at("look at", &to)?;
        let mode = meta.permissions().mode() & 0o7777;
        let executable = match &self.binaries {
            Some(binaries) if path.as_bytes().starts_with(b"vendor/") => {
                path.as_bytes().starts_with(b"vendor/bin/") || binaries.contains(path.as_bytes())
            }
            _ => mode & 0o100 != 0,
        };
        let wanted = if executable { 0o755 } else { 0o644 };
        if mode != wanted {
            std::fs::set_permissions(&to, PermissionsExt::from_mode(wanted))
                .at("set the mode of", &to)?;
        }
        self.assembled.files += 1;
        self.assembled.bytes += meta.len();
        Ok(())
    }
}

/// The same target without `./`, doubled and closing slashes. `..` behind a name stays, and is
/// refused: where it leads depends on whether that name is a link.
pub(crate) fn plain_target(target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        return target.to_vec();
    }
    let names: Vec<&[u8]> = target
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect();
    names.join(&b'/')
}

/// What the installed packages declare as `bin`, as paths of the release.
fn declared_binaries(build: &Path) -> HashSet<Vec<u8>> {
    // Where the file is not as expected nothing is executable: the same on every machine.
    let json: Value = std::fs::read(build.join("vendor/composer/installed.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let mut binaries = HashSet::new();
    for package in json["packages"].as_array().into_iter().flatten() {
        let Some(folder) = package["install-path"].as_str() else {
            continue;
        };
        let names = match &package["bin"] {
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        for name in names {
            binaries.extend(resolved(&format!("vendor/composer/{folder}/{name}")));
        }
    }
    binaries
}

/// The path without `.` and `..`; `None` when it leaves the top.
fn resolved(path: &str) -> Option<Vec<u8>> {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names.join("/").into_bytes())
}

fn add_storage_link(tree: &Path, excludes: &Excludes, layout: &Layout) -> Result<(), BuildError> {
    let (path, target) = STORAGE_LINK;
    let shared = layout
        .shared_dirs
        .iter()
        .any(|folder| folder.as_bytes() == b"storage");
    let link = tree.join(path);
    let free = link.symlink_metadata().is_err() && tree.join("public").is_dir();
    // Whoever shares public/storage itself does not want a link there.
    let path = path.as_bytes();
    let elsewhere = layout
        .shared_dirs
        .iter()
        .chain(&layout.shared_files)
        .chain(&layout.writable_dirs);
    let taken = elsewhere.into_iter().any(|entry| entry.as_bytes() == path);
    if shared && free && !taken && !excludes.covers(path) {
        std::os::unix::fs::symlink(target, &link).at("write the link", &link)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
