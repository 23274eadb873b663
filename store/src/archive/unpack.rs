//! An archive becomes a folder: private, empty before, and nothing outside is ever touched. Names
//! come checked from the reader; nothing lies below a link, so none is written through.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::reader::{Body, Member, Reader};
use super::{ArchiveError, Label, Source};
use crate::stop::Stop;

/// Of the free bytes of a disk an archive may take all but a tenth.
const FREE_SHARE: (u64, u64) = (9, 10);

/// What came out of an archive.
#[derive(Debug)]
pub struct Unpacked {
    /// The folder that holds the tree: the given one, or the one in it that everything lies in.
    pub root: PathBuf,
    /// What an archive of ours says about itself.
    pub label: Option<Label>,
    /// SHA-256 of the archive, in hex.
    pub sha256: String,
}

/// Unpacks all of an archive into an empty folder that nobody else can write to. Files are as the
/// archive has them; of modes only the owner's right to run a file is kept.
///
/// # Errors
/// An [`ArchiveError`]; the folder may then hold a part.
pub fn unpack(archive: impl Read, folder: &Path, stop: &Stop) -> Result<Unpacked, ArchiveError> {
    let mut reader = Reader::new(Source::new(archive, room(folder)?)?);
    let mut buffer = vec![0; 256 << 10];
    while let Some(member) = reader.next_member()? {
        if stop.is_over() {
            return Err(ArchiveError::Interrupted);
        }
        lay(&mut reader, &member, folder, &mut buffer, stop)?;
    }
    let label = reader.label().cloned();
    let root = match label {
        // Its paths are those of the release.
        Some(_) => folder.to_owned(),
        None => only_folder(folder)?.unwrap_or_else(|| folder.to_owned()),
    };
    let sha256 = reader.sha256();
    Ok(Unpacked {
        root,
        label,
        sha256,
    })
}

fn lay(
    reader: &mut Reader<'_>,
    member: &Member,
    folder: &Path,
    buffer: &mut [u8],
    stop: &Stop,
) -> Result<(), ArchiveError> {
    let path = folder.join(member.path.as_path());
    match &member.body {
        Body::Folder => return make_folder(&path),
        Body::File { executable, .. } => {
            let mut file = create(&path, *executable)?;
            loop {
                let count = reader.content(buffer)?;
                if count == 0 {
                    return Ok(());
                }
                if stop.is_over() {
                    return Err(ArchiveError::Interrupted);
                }
                file.write_all(&buffer[..count])
                    .map_err(|error| failed("write", &path, error))?;
            }
        }
        Body::Link { target } => {
            make_parent(&path)?;
            symlink(Path::new(std::ffi::OsStr::from_bytes(target)), &path)
        }
        Body::HardLink { to } => {
            make_parent(&path)?;
            std::fs::hard_link(folder.join(to.as_path()), &path)
        }
    }
    .map_err(|error| failed("link", &path, error))
}

/// How many bytes may come out of an archive.
fn room(folder: &Path) -> Result<u64, ArchiveError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| failed("look at the disk of", folder, error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(free / FREE_SHARE.1 * FREE_SHARE.0)
}

/// The one thing in a folder, when that is a folder.
fn only_folder(folder: &Path) -> Result<Option<PathBuf>, ArchiveError> {
    let list = |error| failed("list", folder, error);
    let mut entries = std::fs::read_dir(folder).map_err(list)?;
    let first = entries.next().transpose().map_err(list)?;
    let (Some(first), None) = (first, entries.next()) else {
        return Ok(None);
    };
    let is_folder = first.file_type().map_err(list)?.is_dir();
    Ok(is_folder.then(|| first.path()))
}

fn make_folder(path: &Path) -> Result<(), ArchiveError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed("create folder", path, error))
}

fn make_parent(path: &Path) -> Result<(), ArchiveError> {
    path.parent().map_or(Ok(()), make_folder)
}

fn create(path: &Path, executable: bool) -> Result<File, ArchiveError> {
    make_parent(path)?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if executable { 0o700 } else { 0o600 })
        .open(path);
    made.map_err(|error| failed("write", path, error))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Write {
        what,
        path: path.to_owned(),
        source,
    }
}
