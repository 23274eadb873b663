//! Compares a release's folder with its manifest: every byte, mode and link, and nothing more.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::manifest::{Entry, Kind, Manifest};
use relstore_store::name::escape;

use super::base::Base;
use super::error::{HostError, Result};
use super::{blobs, shared, warm};
use crate::protocol::{Drift, DriftKind, Reason, Verified};

/// Mode of folders of a release.
pub(crate) const FOLDER_MODE: u32 = 0o755;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) drift: Vec<Drift>,
    /// Blobs whose files do not have their content.
    pub(crate) damaged: Vec<(BlobId, bool)>,
}

fn drift(path: &str, kind: DriftKind, detail: impl Into<String>) -> Drift {
    Drift {
        path: path.to_owned(),
        kind,
        detail: detail.into(),
    }
}

/// Compares `root` with `manifest`. `dotenv` is where shared files point.
pub(crate) fn compare(base: &Base, root: &Path, manifest: &Manifest, dotenv: &str) -> Found {
    let (laid_out, _) = manifest.split_initial();
    let compared: Vec<(u64, Option<Drift>)> = laid_out
        .par_iter()
        .map(|entry| entry_drift(base, root, entry, dotenv))
        .collect();
    let mut found = Found::default();
    for (entry, (bytes, wrong)) in laid_out.iter().zip(compared) {
        if let Some((blob, _)) = entry.kind.content() {
            found.files += 1;
            found.bytes += bytes;
            if wrong
                .as_ref()
                .is_some_and(|drift| drift.kind == DriftKind::Changed)
            {
                found.damaged.push((blob, entry.kind.is_executable()));
            }
        }
        found.drift.extend(wrong);
    }
    found.drift.extend(additional(root, &laid_out));
    found.drift.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Bytes read for an entry, and how it differs.
fn entry_drift(base: &Base, root: &Path, entry: &Entry, dotenv: &str) -> (u64, Option<Drift>) {
    let path = root.join(entry.path.as_path());
    let name = entry.path.to_string();
    let tell = |kind, detail: String| Some(drift(&name, kind, detail));
    let meta = match fs::symlink_metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return (0, tell(DriftKind::Missing, "is not there".into()));
        }
        Err(error) => {
            return (
                0,
                tell(DriftKind::Missing, format!("cannot be looked at: {error}")),
            );
        }
    };
    let points_to = |wanted: &Path| match fs::read_link(&path) {
        Ok(target) if target == wanted => None,
        Ok(target) => tell(
            DriftKind::Kind,
            format!(
                "points to {} instead of {}",
                target.display(),
                wanted.display()
            ),
        ),
        Err(_) => tell(DriftKind::Kind, "is not a link".into()),
    };
    match &entry.kind {
        Kind::Link { target } => (0, points_to(target.as_path())),
        Kind::SharedFile => (
            0,
            points_to(&shared::file_target(base, &entry.path, dotenv)),
        ),
        Kind::SharedDir => (0, points_to(&shared::dir_target(&entry.path))),
        Kind::EmptyDir | Kind::WritableDir => (
            0,
            if meta.is_dir() {
                None
            } else {
                tell(DriftKind::Kind, "is not a folder".into())
            },
        ),
        Kind::File { size, blob } | Kind::Executable { size, blob } => {
            if !meta.is_file() {
                return (0, tell(DriftKind::Kind, "is not a regular file".into()));
            }
            let (bytes, digest) = match hash(&path) {
                Ok(hashed) => hashed,
                Err(error) => {
                    return (
                        0,
                        tell(DriftKind::Changed, format!("cannot be read: {error}")),
                    );
                }
            };
            if digest != *blob {
                return (
                    bytes,
                    tell(
                        DriftKind::Changed,
                        format!("has {bytes} bytes with another digest, expected {size}"),
                    ),
                );
            }
            let (wanted, mode) = (
                blobs::mode(entry.kind.is_executable()),
                meta.permissions().mode() & 0o7777,
            );
            let wrong = (mode != wanted).then(|| {
                drift(
                    &name,
                    DriftKind::Mode,
                    format!("has mode {mode:04o}, expected {wanted:04o}"),
                )
            });
            (bytes, wrong)
        }
    }
}

/// Length and digest of a file.
pub(crate) fn hash(path: &Path) -> std::io::Result<(u64, BlobId)> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0; 64 << 10];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, hasher.finalize().into())),
            count => {
                hasher.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
}

/// What lies there that no entry explains. Writable folders are not looked into.
fn additional(root: &Path, laid_out: &[&Entry]) -> Vec<Drift> {
    let mut known: HashSet<&[u8]> = HashSet::new();
    let mut folders: BTreeSet<&[u8]> = BTreeSet::new();
    let mut writable: HashSet<&[u8]> = HashSet::new();
    for entry in laid_out {
        let path = entry.path.as_bytes();
        known.insert(path);
        if entry.kind == Kind::WritableDir {
            writable.insert(path);
        }
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            folders.insert(&path[..at]);
        }
    }
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let raw = path.as_os_str().as_bytes();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if writable.contains(raw) {
                continue;
            }
            if is_dir && folders.contains(raw) {
                let mode = entry
                    .metadata()
                    .map_or(FOLDER_MODE, |meta| meta.permissions().mode() & 0o7777);
                if mode != FOLDER_MODE {
                    let detail = format!("has mode {mode:04o}, expected {FOLDER_MODE:04o}");
                    found.push(drift(&escape(raw), DriftKind::Mode, detail));
                }
                open.push(path);
            } else if !known.contains(raw) {
                let what = if is_dir {
                    "a folder that the release does not have"
                } else {
                    "the release has no such file"
                };
                found.push(drift(&escape(raw), DriftKind::Additional, what));
            } else if is_dir {
                open.push(path); // an empty folder of the release: whatever is in it is too much
            }
        }
    }
    found
}

/// Compares a release as it lies on the host, its caches included.
pub(crate) fn release(base: &Base, id: &ReleaseId) -> Result<Verified> {
    let unknown = || {
        HostError::new(
            Reason::Base,
            format!("release {} is not complete on this host", id.short()),
        )
        .hint("`relstore status` shows what is active; deploy the release to bring it here")
    };
    let complete = base.complete(id)?.ok_or_else(unknown)?;
    let (manifest, _) = base.manifest(id)?.ok_or_else(|| {
        HostError::new(
            Reason::Corrupt,
            format!(
                "the manifest of {} on the host is missing or damaged",
                id.short()
            ),
        )
        .hint("deploy the release again: its manifest is sent anew")
    })?;
    let mut found = compare(base, &base.release(id), &manifest, &complete.dotenv);
    found.drift.extend(warm::drift(base, id)?);
    found.drift.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Verified {
        release: *id,
        files: found.files,
        bytes: found.bytes,
        drift: found.drift,
    })
}
