//! A release becomes a folder again: for gates on a stored release and for looking at one.

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::error::{IoContext, StoreError};
use crate::id::{BlobId, ReleaseId};
use crate::manifest::{Entry, Kind};
use crate::store::Store;

impl Store {
    /// Lays a release out in an empty folder, as it was imported: shared and writable folders are
    /// folders, shared files are left out. Every byte is checked. Not durable.
    ///
    /// # Errors
    /// [`StoreError`]; the folder may then hold a part.
    pub async fn checkout(&self, release: &ReleaseId, folder: &Path) -> Result<(), StoreError> {
        let manifest = self.manifest(release).await?;
        let mut places: HashMap<BlobId, Vec<&Entry>> = HashMap::new();
        for entry in manifest.entries() {
            let path = folder.join(entry.path.as_path());
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).at("create folder", parent)?;
            match &entry.kind {
                Kind::File { blob, .. } | Kind::Executable { blob, .. } => {
                    places.entry(*blob).or_default().push(entry);
                }
                Kind::Link { target } => symlink(target.as_path(), &path).at("link", &path)?,
                Kind::EmptyDir | Kind::SharedDir | Kind::WritableDir => {
                    std::fs::create_dir_all(&path).at("create folder", &path)?;
                }
                Kind::SharedFile => {}
            }
        }
        let wanted: Vec<BlobId> = places.keys().copied().collect();
        let mut contents = self.read_blobs(&wanted).await?;
        while let Some(content) = contents.recv().await {
            let (blob, bytes) = content?;
            for entry in places.remove(&blob).unwrap_or_default() {
                let path = folder.join(entry.path.as_path());
                let mode = if entry.kind.is_executable() {
                    0o755
                } else {
                    0o644
                };
                std::fs::write(&path, &bytes).at("write", &path)?;
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))
                    .at("set the mode of", &path)?;
            }
        }
        match places.keys().next() {
            Some(blob) => Err(StoreError::NoBlob { blob: *blob }),
            None => Ok(()),
        }
    }
}
