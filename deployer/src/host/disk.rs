//! The system calls that other modules build on, one function per guarantee.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::{At, Result};

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .at("sync folder", folder)
}

/// Makes everything on the file system of `folder` durable in one call. (Linux 5.8 and later
/// report write errors here; earlier ones only to the file's own sync.)
pub(crate) fn sync_all(folder: &Path) -> Result<()> {
    let open = File::open(folder).at("open", folder)?;
    rustix::fs::syncfs(&open).at("sync the file system of", folder)
}

/// Makes a folder with this mode; an existing one is left as it is. Returns whether it was made.
pub(crate) fn make_dir(folder: &Path, mode: u32) -> Result<bool> {
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Ok(()) => {
            // The umask is the caller's; the mode is ours.
            fs::set_permissions(folder, PermissionsExt::from_mode(mode))
                .at("set the mode of", folder)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(false),
        Err(error) => Err(error).at("create folder", folder),
    }
}

/// Makes a folder and those above it.
pub(crate) fn make_dirs(folder: &Path, mode: u32) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_dirs(parent, mode)?;
    }
    make_dir(folder, mode).map(drop)
}

/// Writes a file durably under its final name, replacing what is there in one step.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temp = beside(path);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temp)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    if let Err(error) = written.and_then(|()| fs::rename(&temp, path)) {
        let _ = fs::remove_file(&temp);
        return Err(error).at("write", path);
    }
    sync_dir(path.parent().unwrap_or(path))
}

/// A temporary name in the same folder. One writer holds the base's lock, so one name is enough,
/// and what a killed writer left is replaced by the next.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Free bytes and inodes for an unprivileged user on the file system of a folder, or of the
/// nearest one above it that exists; `u64::MAX` inodes where they are not counted.
pub(crate) fn room(folder: &Path) -> (u64, u64) {
    let existing = folder
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    rustix::fs::statvfs(existing).map_or((0, 0), |room| {
        let inodes = if room.f_files == 0 {
            u64::MAX
        } else {
            room.f_favail
        };
        (room.f_bavail.saturating_mul(room.f_frsize), inodes)
    })
}

/// Reads a file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.at("read", path).map(Some),
    }
}

/// Removes a file durably; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.at("remove", path)?,
    }
    sync_dir(path.parent().unwrap_or(path))
}

/// Gives `from` the name `to` unless that exists; says whether it did.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error).at("rename to", to),
    }
}

/// Replaces a symbolic link in one step.
pub(crate) fn replace_link(link: &Path, target: &Path) -> Result<()> {
    let temp = beside(link);
    let _ = fs::remove_file(&temp);
    std::os::unix::fs::symlink(target, &temp).at("make the link", &temp)?;
    fs::rename(&temp, link).at("replace the link", link)?;
    sync_dir(link.parent().unwrap_or(link))
}

/// Removes a tree, also where folders are not writable; never follows a link. What cannot be
/// removed is returned, with the reason.
pub(crate) fn remove_tree(path: &Path) -> Vec<String> {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Vec::new();
    };
    if !meta.is_dir() {
        return fs::remove_file(path)
            .err()
            .map(|error| format!("{}: {error}", path.display()))
            .into_iter()
            .collect();
    }
    if meta.permissions().mode() & 0o700 != 0o700 {
        let _ = fs::set_permissions(path, PermissionsExt::from_mode(0o700));
    }
    let mut problems = Vec::new();
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries.flatten() {
                problems.extend(remove_tree(&entry.path()));
            }
        }
        Err(error) => problems.push(format!("{}: {error}", path.display())),
    }
    if problems.is_empty()
        && let Err(error) = fs::remove_dir(path)
    {
        problems.push(format!("{}: {error}", path.display()));
    }
    problems
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| {
        i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
    })
}
