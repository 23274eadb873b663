//! Blobs on a host: loose, raw, read-only files named by their digest. Releases are hard links to
//! them, and one inode has one mode, so the executable bit is part of the name.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use relstore_store::id::BlobId;

use super::base::Base;
use super::disk;
use super::error::{At, Result};

/// Mode of a blob's file and of its links.
pub(crate) fn mode(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

/// Where a blob lies.
pub(crate) fn path(base: &Base, blob: &BlobId, executable: bool) -> PathBuf {
    let hex = blob.to_string();
    let suffix = if executable { ".x" } else { "" };
    base.private("blobs")
        .join(&hex[..2])
        .join(format!("{}{suffix}", &hex[2..]))
}

/// The blob a path below `blobs/` is named for; `None` for foreign names.
pub(crate) fn named(folder: &str, name: &str) -> Option<(BlobId, bool)> {
    let (rest, executable) = name
        .strip_suffix(".x")
        .map_or((name, false), |rest| (rest, true));
    format!("{folder}{rest}")
        .parse()
        .ok()
        .map(|blob| (blob, executable))
}

/// Whether the blob's file is here with this length. Its content is verified when a release is
/// made of it.
pub(crate) fn has(base: &Base, blob: &BlobId, length: u64, executable: bool) -> bool {
    fs::symlink_metadata(path(base, blob, executable))
        .is_ok_and(|meta| meta.is_file() && meta.len() == length)
}

/// The time of a blob's file. Laravel compiles a view anew when its template is not older than the
/// compiled file, in whole seconds, so it has to be older than anything made from now on; and it
/// differs between contents, for caches that look at time and size only.
fn time(blob: &BlobId, now: SystemTime) -> SystemTime {
    let bytes = blob.as_bytes();
    let spread = u64::from(u16::from_be_bytes([bytes[0], bytes[1]])) % 3600;
    now.checked_sub(Duration::from_secs(1 + spread))
        .unwrap_or(now)
}

/// Gives a written and checked file its place. Not durable before the next sync.
pub(crate) fn place(base: &Base, temp: &Path, blob: &BlobId, executable: bool) -> Result<()> {
    let to = path(base, blob, executable);
    disk::make_dir(to.parent().unwrap_or(base.root()), 0o700)?;
    let file = File::open(temp).at("open", temp)?;
    let when = time(blob, SystemTime::now());
    file.set_times(FileTimes::new().set_modified(when).set_accessed(when))
        .at("set the time of", temp)?;
    file.set_permissions(Permissions::from_mode(mode(executable)))
        .at("set the mode of", temp)?;
    // Replaces what has that name: this content was checked, that one may be what a crash left.
    fs::rename(temp, &to).at("rename to", &to)
}
