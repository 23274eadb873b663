//! Makes `releases/<id>` from blobs: in staging, verified byte for byte, durable, then renamed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::manifest::{Entry, Kind, Manifest};
use relstore_store::name::EntryPath;

use super::base::{Base, Complete};
use super::error::{At, HostError, Result};
use super::shared::{self, WebGroup};
use super::verify::{self, FOLDER_MODE, Found};
use super::{blobs, disk};
use crate::protocol::{Materialised, Reason};

/// Mode of writable folders: the web server reads what the deploy user puts there.
const WRITABLE_MODE: u32 = 0o2750;

/// The reply, or the blobs that turned out missing or damaged.
pub(crate) type Outcome = std::result::Result<Materialised, Vec<BlobId>>;

/// What a release is made with.
pub(crate) struct Work<'a> {
    pub(crate) base: &'a Base,
    pub(crate) staging: &'a Path,
    pub(crate) group: Option<&'a WebGroup>,
    pub(crate) dotenv: &'a str,
}

impl Work<'_> {
    /// Makes the release, or finds it whole.
    pub(crate) fn materialise(&self, id: &ReleaseId) -> Result<Outcome> {
        let base = self.base;
        let (manifest, _) = base.manifest(id)?.ok_or_else(|| {
            HostError::new(
                Reason::Corrupt,
                format!(
                    "the manifest of {} on the host is missing or damaged",
                    id.short()
                ),
            )
            .hint(format!(
                "on the host, remove {}, then deploy again: it is sent anew",
                base.complete_file(id).display()
            ))
        })?;
        shared::check_dotenv(base, &manifest, self.dotenv)?;
        if let Some(complete) = base.complete(id)? {
            self.follow_dotenv(id, &manifest, &complete.dotenv)?;
            let found = verify::compare(base, &base.release(id), &manifest, self.dotenv);
            if found.drift.is_empty() {
                shared::prepare(base, &manifest, self.group)?;
                if complete.dotenv != self.dotenv {
                    self.note_complete(id)?;
                }
                return Ok(Ok(Materialised {
                    files: found.files,
                    bytes: found.bytes,
                    linked: 0,
                    reused: true,
                }));
            }
            if base.active()? == Some(*id) {
                return Err(drifted(id, &found));
            }
            // Not served by anybody: made anew, so that what is activated is what was built.
            disk::remove(&base.complete_file(id))?;
            remove_damaged(base, &found)?;
        }
        self.make(id, &manifest)
    }

    /// Lets a release that is here follow when the environment names another `.env`.
    fn follow_dotenv(&self, id: &ReleaseId, manifest: &Manifest, old: &str) -> Result<()> {
        let path = EntryPath::new(".env").expect("a plain name is a path");
        let shared = manifest
            .get(&path)
            .is_some_and(|entry| entry.kind == Kind::SharedFile);
        let link = self.base.release(id).join(path.as_path());
        let was = shared::file_target(self.base, &path, old);
        if shared && old != self.dotenv && fs::read_link(&link).is_ok_and(|found| found == was) {
            let target = shared::file_target(self.base, &path, self.dotenv);
            disk::replace_link(&link, &target)?;
        }
        Ok(())
    }

    fn make(&self, id: &ReleaseId, manifest: &Manifest) -> Result<Outcome> {
        let base = self.base;
        let (laid_out, initial) = manifest.split_initial();
        let missing: BTreeSet<BlobId> = laid_out
            .iter()
            .chain(&initial)
            .filter_map(|entry| {
                let (blob, length) = entry.kind.content()?;
                (!blobs::has(base, &blob, length, entry.kind.is_executable())).then_some(blob)
            })
            .collect();
        if !missing.is_empty() {
            return Ok(Err(missing.into_iter().collect()));
        }
        let tree = self.staging.join("tree");
        let left = disk::remove_tree(&tree);
        if let Some(problem) = left.first() {
            return Err(
                HostError::new(Reason::Io, "cannot remove what an earlier attempt left")
                    .cause(problem),
            );
        }
        let linked = self.lay_out(&tree, &laid_out)?;
        let found = verify::compare(base, &tree, manifest, self.dotenv);
        if !found.damaged.is_empty() {
            let damaged: BTreeSet<BlobId> = found.damaged.iter().map(|(blob, _)| *blob).collect();
            remove_damaged(base, &found)?;
            return Ok(Err(damaged.into_iter().collect()));
        }
        if !found.drift.is_empty() {
            return Err(drifted(id, &found));
        }
        shared::prepare(base, manifest, self.group)?;
        disk::sync_all(base.root())?;
        let place = base.release(id);
        if !disk::rename_new(&tree, &place)? {
            // A folder without its note: what a crash left, or somebody made by hand. Not ours to
            // trust, not ours to destroy before the new one is ready.
            let trash = base
                .private("trash")
                .join(format!("{}-{}", id.short(), disk::now_ms()));
            fs::rename(&place, &trash).at("move away", &place)?;
            disk::rename_new(&tree, &place)?;
        }
        disk::sync_dir(&base.root().join("releases"))?;
        self.note_complete(id)?;
        Ok(Ok(Materialised {
            files: found.files,
            bytes: found.bytes,
            linked,
            reused: false,
        }))
    }

    /// Says durably that the release is whole: the last thing that is written of it.
    fn note_complete(&self, id: &ReleaseId) -> Result<()> {
        let note = Complete {
            at_ms: disk::now_ms(),
            dotenv: self.dotenv.to_owned(),
        };
        let json = serde_json::to_vec(&note).expect("strings and numbers are JSON");
        disk::write(&self.base.complete_file(id), &json, 0o600)
    }

    /// Makes folders, links and files below `tree`; returns how many files are hard links.
    fn lay_out(&self, tree: &Path, entries: &[&Entry]) -> Result<u64> {
        let mut folders: BTreeSet<&Path> = BTreeSet::new();
        for entry in entries {
            folders.extend(
                entry
                    .path
                    .as_path()
                    .ancestors()
                    .skip(1)
                    .filter(|path| !path.as_os_str().is_empty()),
            );
        }
        disk::make_dirs(tree, FOLDER_MODE)?;
        fs::set_permissions(tree, PermissionsExt::from_mode(FOLDER_MODE))
            .at("set the mode of", tree)?;
        let writable: BTreeSet<&Path> = entries
            .iter()
            .filter(|entry| entry.kind == Kind::WritableDir)
            .map(|entry| entry.path.as_path())
            .collect();
        for folder in folders.iter().filter(|folder| !writable.contains(*folder)) {
            disk::make_dir(&tree.join(folder), FOLDER_MODE)?;
        }
        let mut files = Vec::new();
        for entry in entries {
            let path = tree.join(entry.path.as_path());
            match &entry.kind {
                Kind::File { .. } | Kind::Executable { .. } => files.push((path, *entry)),
                Kind::EmptyDir => drop(disk::make_dir(&path, FOLDER_MODE)?),
                Kind::WritableDir => {
                    disk::make_dir(&path, WRITABLE_MODE)?;
                    if let Some(group) = self.group {
                        group.give(&path)?;
                        fs::set_permissions(&path, PermissionsExt::from_mode(WRITABLE_MODE))
                            .at("set the mode of", &path)?;
                    }
                }
                Kind::Link { target } => link(target.as_path(), &path)?,
                Kind::SharedFile => link(
                    &shared::file_target(self.base, &entry.path, self.dotenv),
                    &path,
                )?,
                Kind::SharedDir => link(&shared::dir_target(&entry.path), &path)?,
            }
        }
        let linked = AtomicU64::new(0);
        files.par_iter().try_for_each(|(path, entry)| {
            if place_file(self.base, path, entry)? {
                linked.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), HostError>(())
        })?;
        Ok(linked.into_inner())
    }
}

fn link(target: &Path, path: &PathBuf) -> Result<()> {
    symlink(target, path).at("make the link", path)
}

/// Links a file to its blob, or copies it where it cannot be linked. Returns whether it is a link.
fn place_file(base: &Base, path: &Path, entry: &Entry) -> Result<bool> {
    let Some((blob, length)) = entry.kind.content() else {
        return Ok(false);
    };
    let executable = entry.kind.is_executable();
    let from = blobs::path(base, &blob, executable);
    // Empty files are never shared: programs use them as lock files, which would then collide.
    if length > 0 {
        match fs::hard_link(&from, path) {
            Ok(()) => return Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::TooManyLinks
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::CrossesDevices
                        | io::ErrorKind::Unsupported
                ) => {}
            Err(error) => return Err(error).at("link", path),
        }
    }
    // `copy` shares the extents where the file system can.
    fs::copy(&from, path).at("copy to", path)?;
    let meta = fs::metadata(&from).at("look at", &from)?;
    let times = fs::FileTimes::new().set_modified(meta.modified().at("look at", &from)?);
    // The copy is writable only for the moment between these calls.
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).at("set the mode of", path)?;
    fs::File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_times(times))
        .at("set the time of", path)?;
    fs::set_permissions(path, PermissionsExt::from_mode(blobs::mode(executable)))
        .at("set the mode of", path)?;
    Ok(false)
}

fn remove_damaged(base: &Base, found: &Found) -> Result<()> {
    for (blob, executable) in &found.damaged {
        let path = blobs::path(base, blob, *executable);
        // The release's file may differ while the blob is fine (somebody replaced the link).
        if verify::hash(&path).is_ok_and(|(_, digest)| digest == *blob) {
            continue;
        }
        disk::remove(&path)?;
    }
    Ok(())
}

fn drifted(id: &ReleaseId, found: &Found) -> HostError {
    let error = HostError::new(
        Reason::Corrupt,
        format!(
            "release {} on the host is not what was deployed ({} differences)",
            id.short(),
            found.drift.len()
        ),
    );
    let told = found
        .drift
        .iter()
        .take(5)
        .map(|drift| format!("{} {}", drift.path, drift.detail));
    told.fold(error, HostError::cause)
        .hint("`relstore verify` lists all of it; deploying another release leaves this one")
}
