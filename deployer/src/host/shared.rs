//! What all releases of a base share: `shared/`, made for the deploy user and the web server's
//! group alike (setgid, default ACL), filled with initial content once.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use relstore_store::manifest::{Entry, Kind, Manifest};
use relstore_store::name::EntryPath;
use rustix::fs::{Gid, XattrFlags};

use super::base::Base;
use super::error::{At, HostError, Result};
use super::{accounts, blobs, disk};
use crate::protocol::Reason;

const FOLDER_MODE: u32 = 0o2770;
const FILE_MODE: u32 = 0o660;
/// What Laravel wants below `storage`, also when the repository has no skeleton of it.
const LARAVEL_STORAGE: [&str; 6] = [
    "app/public",
    "framework/cache/data",
    "framework/sessions",
    "framework/views",
    "framework/testing",
    "logs",
];

/// The group of the web server.
#[derive(Debug, Clone)]
pub(crate) struct WebGroup {
    name: String,
    gid: Gid,
}

impl WebGroup {
    /// Looks the group up.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let gid = accounts::group(name).ok_or_else(|| {
            HostError::new(
                Reason::Base,
                format!("there is no group `{name}` on the host"),
            )
            .hint("set `web_group` to the group that PHP-FPM and nginx run as")
        })?;
        Ok(Self {
            name: name.to_owned(),
            gid,
        })
    }

    /// Gives a path to the group.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        if fs::symlink_metadata(path).at("look at", path)?.gid() == self.gid.as_raw() {
            return Ok(());
        }
        match rustix::fs::chown(path, None, Some(self.gid)) {
            Err(rustix::io::Errno::PERM) => {
                let user = accounts::user_name(rustix::process::getuid().as_raw());
                Err(HostError::new(
                    Reason::Base,
                    format!(
                        "cannot give {} to the group `{}`",
                        path.display(),
                        self.name
                    ),
                )
                .cause(format!("the user `{user}` is not in that group"))
                .hint(format!(
                    "on the host, as root: usermod -aG {} {user}",
                    self.name
                )))
            }
            given => given.at("change the group of", path),
        }
    }
}

/// A POSIX default ACL that gives new files to owner and group alike, whatever the umask of who
/// makes them: u::rwx, g::rwx, o::---. Format: `linux/posix_acl_xattr.h`, version 2, entries of
/// u16 tag, u16 permissions, u32 id, little endian.
fn default_acl() -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions) in [(0x01u16, 7u16), (0x04, 7), (0x20, 0)] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    }
    bytes
}

/// Makes a shared folder when it is absent.
fn make_folder(folder: &Path, group: Option<&WebGroup>) -> Result<()> {
    if !disk::make_dir(folder, FOLDER_MODE)? {
        return Ok(());
    }
    if let Some(group) = group {
        group.give(folder)?;
        // A change of group clears the setgid bit.
        fs::set_permissions(folder, PermissionsExt::from_mode(FOLDER_MODE))
            .at("set the mode of", folder)?;
        match rustix::fs::setxattr(
            folder,
            "system.posix_acl_default",
            &default_acl(),
            XattrFlags::empty(),
        ) {
            // Without ACLs the web server's umask decides, as it does everywhere else.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error).at("set the default ACL of", folder),
        }
    }
    Ok(())
}

fn make_folders(root: &Path, below: &Path, group: Option<&WebGroup>) -> Result<PathBuf> {
    let mut path = root.to_owned();
    for name in below {
        path.push(name);
        // The web server may write here: a link could lead this user's writing anywhere.
        if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_dir()) {
            return Err(HostError::new(
                Reason::Base,
                format!("{} is not a real folder", path.display()),
            )
            .hint("move it away; to keep it on another disk, mount that disk there"));
        }
        make_folder(&path, group)?;
    }
    Ok(path)
}

/// Makes `shared/` itself.
pub(crate) fn make(base: &Base, group: Option<&WebGroup>) -> Result<()> {
    make_folder(&base.shared(), group)
}

/// Makes the shared folders of a release and copies initial content that is absent.
pub(crate) fn prepare(base: &Base, manifest: &Manifest, group: Option<&WebGroup>) -> Result<()> {
    let root = base.shared();
    make_folder(&root, group)?;
    let (laid_out, initial) = manifest.split_initial();
    for entry in &laid_out {
        if entry.kind == Kind::SharedDir {
            make_folders(&root, entry.path.as_path(), group)?;
        }
    }
    let storage = EntryPath::new("storage").expect("a plain name is a path");
    let artisan = EntryPath::new("artisan").expect("a plain name is a path");
    if manifest.get(&artisan).is_some()
        && manifest
            .get(&storage)
            .is_some_and(|entry| entry.kind == Kind::SharedDir)
    {
        for folder in LARAVEL_STORAGE {
            make_folders(&root, &storage.as_path().join(folder), group)?;
        }
    }
    for entry in initial {
        copy_initial(base, &root, entry, group)?;
    }
    Ok(())
}

fn copy_initial(base: &Base, root: &Path, entry: &Entry, group: Option<&WebGroup>) -> Result<()> {
    let path = root.join(entry.path.as_path());
    if fs::symlink_metadata(&path).is_ok() {
        return Ok(());
    }
    if let Some(parent) = entry.path.as_path().parent() {
        make_folders(root, parent, group)?;
    }
    match &entry.kind {
        Kind::EmptyDir => make_folder(&path, group),
        Kind::Link { target } => {
            std::os::unix::fs::symlink(target.as_path(), &path).at("make the link", &path)
        }
        Kind::File { blob, .. } | Kind::Executable { blob, .. } => {
            let executable = entry.kind.is_executable();
            let bytes = fs::read(blobs::path(base, blob, executable))
                .at("read", &blobs::path(base, blob, executable))?;
            disk::write(&path, &bytes, FILE_MODE)?;
            fs::set_permissions(&path, PermissionsExt::from_mode(FILE_MODE))
                .at("set the mode of", &path)
        }
        _ => Ok(()),
    }
}

/// Link target of a shared folder, from its place in a release.
pub(crate) fn dir_target(path: &EntryPath) -> PathBuf {
    up(path).join("shared").join(path.as_path())
}

/// Link target of a shared file: `.env` is where the environment says, others lie in `shared/`.
pub(crate) fn file_target(base: &Base, path: &EntryPath, dotenv: &str) -> PathBuf {
    if path.as_bytes() != b".env" {
        return dir_target(path);
    }
    let dotenv = Path::new(dotenv);
    match dotenv.strip_prefix(base.root()) {
        Ok(inside) => up(path).join(inside),
        Err(_) if dotenv.is_absolute() => dotenv.to_owned(),
        Err(_) => up(path).join(dotenv),
    }
}

/// From the folder of an entry in `releases/<id>/` to the base.
fn up(path: &EntryPath) -> PathBuf {
    std::iter::repeat_n("..", path.depth() + 2).collect()
}

/// The environment's `.env`, which has to be there before a release is laid out.
pub(crate) fn check_dotenv(base: &Base, manifest: &Manifest, dotenv: &str) -> Result<()> {
    let path = EntryPath::new(".env").expect("a plain name is a path");
    if manifest
        .get(&path)
        .is_none_or(|entry| entry.kind != Kind::SharedFile)
    {
        return Ok(());
    }
    let file = base.root().join(dotenv);
    match fs::metadata(&file) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(HostError::new(Reason::Base, format!("{} is not a file", file.display()))
            .hint("it has to be the application's .env; `dotenv` in relstore.toml says where it is")),
        Err(error) => Err(HostError::new(Reason::Base, format!("the application's .env is not at {}", file.display()))
            .cause(error.to_string())
            .hint("put it there, owned by the deploy user with mode 0640; `dotenv` in relstore.toml says where it is")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_into_shared_have_the_depth_of_their_place() {
        let base = Base::new("/srv/app".into());
        let path = |text: &str| EntryPath::new(text).unwrap();
        assert_eq!(
            dir_target(&path("storage")),
            Path::new("../../shared/storage")
        );
        assert_eq!(
            dir_target(&path("public/uploads")),
            Path::new("../../../shared/public/uploads")
        );
        assert_eq!(
            file_target(&base, &path(".env"), "shared/.env"),
            Path::new("../../shared/.env")
        );
        assert_eq!(
            file_target(&base, &path(".env"), "/srv/app/shared/env"),
            Path::new("../../shared/env")
        );
        assert_eq!(
            file_target(&base, &path(".env"), "/etc/app.env"),
            Path::new("/etc/app.env")
        );
        assert_eq!(
            file_target(&base, &path("key"), "shared/.env"),
            Path::new("../../shared/key")
        );
    }

    #[test]
    fn acl_bytes_are_those_of_setfacl() {
        let expected = [
            2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0,
            0, 255, 255, 255, 255,
        ];
        assert_eq!(default_acl(), expected);
    }
}
