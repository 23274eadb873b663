//! Objects as files below a folder.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, Content, Object};
use crate::error::{IoContext, StoreError};
use crate::fs;

/// A folder on this machine.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    root: PathBuf,
}

impl LocalBackend {
    /// Takes a folder; nothing is made before the first `put`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Runs file system calls off the async workers.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || work(&root))
            .await
            .map_err(|_| StoreError::Interrupted)?
    }
}

/// The place of a name. Parts of names come from other machines; none may lead out of the root.
fn place(root: &Path, name: &str) -> Result<PathBuf, StoreError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if name.split('/').all(plain) {
        Ok(root.join(name))
    } else {
        Err(StoreError::Damaged {
            name: crate::name::escape(name.as_bytes()),
            what: "no object can have this name".into(),
        })
    }
}

/// Makes the folders between an object's own and the root durable: another writer that made one
/// of them may have been killed before it could.
fn settle_above(root: &Path, path: &Path) -> Result<(), StoreError> {
    let folders = path.ancestors().skip(2);
    for folder in folders.take_while(|folder| folder.starts_with(root)) {
        fs::sync_dir(folder)?;
    }
    Ok(())
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
        opened => opened.at("read", path).map(Some),
    }
}

fn put_file(temp: tempfile::NamedTempFile, path: &Path, name: &str) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dirs(folder)?;
    // A file of another file system cannot be renamed: copied beside the name first.
    let temp = if temp.path().parent().map(device) == Some(device(folder)) {
        temp
    } else {
        let mut near = fs::temp_in(folder)?;
        let mut far = temp.reopen().at("read", temp.path())?;
        io::copy(&mut far, &mut near).at("write", path)?;
        near
    };
    let again = temp.reopen().at("read", temp.path())?;
    if fs::publish(temp, path)? {
        return Ok(());
    }
    let present = open(path)?.ok_or_else(|| StoreError::Conflict {
        name: name.to_owned(),
    })?;
    same(present, again, path, name)
}

/// The device number of a folder; `None` when it cannot be told.
fn device(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder)
        .ok()
        .map(|meta| std::os::unix::fs::MetadataExt::dev(&meta))
}

fn same(present: impl Read, offered: impl Read, path: &Path, name: &str) -> Result<(), StoreError> {
    if fs::same_bytes(present, offered).at("read", path)? {
        Ok(())
    } else {
        Err(StoreError::Conflict {
            name: name.to_owned(),
        })
    }
}

/// Adds the files below a folder: those with a name that are whole, or those left over.
fn list_below(
    root: &Path,
    folder: &Path,
    left_over: bool,
    found: &mut Vec<Object>,
) -> Result<(), StoreError> {
    for entry in walkdir::WalkDir::new(folder) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let missing = error
                    .io_error()
                    .is_some_and(|io| io.kind() == io::ErrorKind::NotFound);
                if missing {
                    continue; // never made, or deleted while we looked
                }
                let path = error.path().unwrap_or(folder).to_owned();
                return Err(io::Error::from(error)).at("list", &path);
            }
        };
        let hidden = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(fs::TEMP_PREFIX.as_bytes());
        if hidden != left_over || !entry.file_type().is_file() {
            continue;
        }
        let meta = entry
            .metadata()
            .map_err(io::Error::from)
            .at("look at", entry.path())?;
        let modified = meta.modified().at("look at", entry.path())?;
        let Some(name) = entry.path().strip_prefix(root).ok().and_then(Path::to_str) else {
            continue; // relstore writes ASCII names only: not ours
        };
        found.push(Object {
            name: name.to_owned(),
            size: meta.len(),
            modified,
        });
    }
    Ok(())
}

#[async_trait]
impl Backend for LocalBackend {
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.blocking(move |root| {
            let path = place(root, &name)?;
            let Some(mut file) = open(&path)? else {
                return Ok(None);
            };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).at("read", &path)?;
            Ok(Some(bytes.into()))
        })
        .await
    }

    async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.blocking(move |root| {
            let path = place(root, &name)?;
            let Some(mut file) = open(&path)? else {
                return Ok(None);
            };
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(offset)).at("read", &path)?;
            file.take(length)
                .read_to_end(&mut bytes)
                .at("read", &path)?;
            Ok(Some(bytes.into()))
        })
        .await
    }

    async fn put(&self, name: &str, content: Content) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.blocking(move |root| {
            let path = place(root, &name)?;
            match content {
                Content::File(temp) => put_file(temp, &path, &name)?,
                Content::Bytes(bytes) => {
                    if !fs::write_new(&path, &bytes)? {
                        let present = open(&path)?
                            .ok_or_else(|| StoreError::Conflict { name: name.clone() })?;
                        same(present, bytes.as_ref(), &path, &name)?;
                    }
                }
            }
            settle_above(root, &path)
        })
        .await
    }

    async fn put_advisory(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.blocking(move |root| fs::replace(&place(root, &name)?, &bytes))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |root| {
            let mut found = Vec::new();
            list_below(root, &root.join(&prefix), false, &mut found)?;
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.blocking(move |root| {
            let path = place(root, &name)?;
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done.at("delete", &path),
            }
        })
        .await
    }

    async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        let folder = folder.to_owned();
        self.blocking(move |root| {
            let path = place(root, &folder)?;
            fs::sync_dir(&path)?;
            fs::sync_dir(root)
        })
        .await
    }

    async fn left_over(&self) -> Result<Vec<Object>, StoreError> {
        self.blocking(move |root| {
            let mut found = Vec::new();
            list_below(root, root, true, &mut found)?;
            Ok(found)
        })
        .await
    }

    fn spool(&self) -> PathBuf {
        self.root.join("bundles")
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn passes_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let backend = LocalBackend::new(root.path().join("store"));
        fs::create_dirs(&backend.spool()).unwrap();
        super::super::contract::passes(&backend).await;
    }

    #[tokio::test]
    async fn files_still_being_written_are_not_listed() {
        let root = tempfile::tempdir().unwrap();
        let backend = LocalBackend::new(root.path().to_owned());
        backend
            .put("a/one", Content::Bytes(Bytes::from_static(b"1")))
            .await
            .unwrap();
        std::fs::write(root.path().join("a/.tmp-x"), "half").unwrap();
        assert_eq!(backend.list("").await.unwrap().len(), 1);
        assert_eq!(backend.left_over().await.unwrap()[0].name, "a/.tmp-x");
    }
}
