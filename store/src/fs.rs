//! The only disk writes of the store, one function per guarantee.
//!
//! Order, always: temp file in the target's folder, write, fsync, rename without replacing, fsync
//! of the folder. After a crash a name either has all its bytes or does not exist; left over
//! `.tmp-*` files hold nothing anybody refers to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::{IoContext, StoreError};

/// Beginning of the names of files that are still being written; never listed.
pub const TEMP_PREFIX: &str = ".tmp-";

/// Tells tests what is done to the disk.
macro_rules! done {
    ($effect:ident, $path:expr) => {{
        #[cfg(feature = "testing")]
        crate::testing::traced::add(crate::testing::traced::Effect::$effect, $path);
    }};
}

/// Makes a folder and those above it, each one durable in its parent before the next is made.
///
/// # Errors
/// [`StoreError::Io`].
pub fn create_dirs(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        create_dirs(parent)?;
    }
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {
            return Ok(());
        }
        made => made.at("create folder", folder)?,
    }
    done!(Made, folder);
    sync_dir(folder.parent().unwrap_or(folder))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// [`StoreError::Io`].
pub fn sync_dir(folder: &Path) -> Result<(), StoreError> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)
        .and_then(|file| file.sync_all())
        .at("sync folder", folder)?;
    done!(SyncedFolder, folder);
    Ok(())
}

/// An unnamed-to-others file in `folder`, removed when dropped; see [`publish`].
///
/// # Errors
/// [`StoreError::Io`].
pub fn temp_in(folder: &Path) -> Result<tempfile::NamedTempFile, StoreError> {
    tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .tempfile_in(folder)
        .at("create a file in", folder)
}

/// Gives a written temp file of the same file system its final name, durably. Returns `false`
/// (and drops the temp file) when the name exists, durably: it is never replaced.
///
/// # Errors
/// [`StoreError::Io`]; the final name may then exist, with all its bytes.
pub fn publish(temp: tempfile::NamedTempFile, name: &Path) -> Result<bool, StoreError> {
    publish_as(temp, name, 0o444)
}

/// As [`publish`], with another mode than that of objects.
///
/// # Errors
/// As [`publish`].
pub fn publish_as(
    temp: tempfile::NamedTempFile,
    name: &Path,
    mode: u32,
) -> Result<bool, StoreError> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    temp.as_file()
        .set_permissions(mode)
        .at("set the mode of", name)?;
    temp.as_file().sync_all().at("sync", name)?;
    done!(Synced, name);
    match temp.persist_noclobber(name) {
        Ok(_) => done!(Named, name),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            // Its writer may be about to sync the folder, or was killed before it could.
            sync_dir(name.parent().unwrap_or(Path::new(".")))?;
            return Ok(false);
        }
        Err(error) => return Err(error.error).at("write", name),
    }
    sync_dir(name.parent().unwrap_or(Path::new(".")))?;
    Ok(true)
}

/// Writes a new file durably. Returns `false` when the name exists.
///
/// # Errors
/// [`StoreError::Io`].
pub fn write_new(name: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
    let folder = name.parent().unwrap_or(Path::new("."));
    create_dirs(folder)?;
    let mut temp = temp_in(folder)?;
    temp.write_all(bytes).at("write", name)?;
    publish(temp, name)
}

/// Writes a file durably, in place of what has its name: readers see the old bytes or the new.
///
/// # Errors
/// [`StoreError::Io`].
pub fn replace(name: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = name.parent().unwrap_or(Path::new("."));
    create_dirs(folder)?;
    let mut temp = temp_in(folder)?;
    temp.write_all(bytes).at("write", name)?;
    replace_with(temp, name)
}

/// Gives a written temp file of the same file system a name durably, in place of what has it.
///
/// # Errors
/// [`StoreError::Io`].
pub fn replace_with(temp: tempfile::NamedTempFile, name: &Path) -> Result<(), StoreError> {
    temp.as_file().sync_all().at("sync", name)?;
    temp.persist(name).at("write", name)?;
    sync_dir(name.parent().unwrap_or(Path::new(".")))
}

/// Whether two readers give the same bytes.
///
/// # Errors
/// Those of the readers.
pub fn same_bytes(mut one: impl Read, mut two: impl Read) -> io::Result<bool> {
    let mut left = vec![0; 64 << 10];
    let mut right = vec![0; 64 << 10];
    loop {
        let count = one.read(&mut left)?;
        if count == 0 {
            return Ok(two.read(&mut right[..1])? == 0);
        }
        match two.read_exact(&mut right[..count]) {
            Ok(()) if left[..count] == right[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_never_replaced_and_no_temp_file_stays() {
        let root = tempfile::tempdir().unwrap();
        let name = root.path().join("a/b/object");
        assert!(write_new(&name, b"one").unwrap());
        assert!(!write_new(&name, b"two").unwrap());
        assert_eq!(std::fs::read(&name).unwrap(), b"one");
        assert_eq!(
            std::fs::read_dir(name.parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn same_bytes_sees_length_and_content() {
        assert!(same_bytes(&b"abc"[..], &b"abc"[..]).unwrap());
        assert!(!same_bytes(&b"abc"[..], &b"abd"[..]).unwrap());
        assert!(!same_bytes(&b"abc"[..], &b"ab"[..]).unwrap());
        assert!(!same_bytes(&b"ab"[..], &b"abc"[..]).unwrap());
        assert!(same_bytes(&b""[..], &b""[..]).unwrap());
    }
}
