//! A release becomes a folder again: for gates on a stored release and for looking at one. Frames
//! are read, decoded and laid out on all cores; a blob that is longer than a few frames is written
//! while it is read, so memory does not grow with it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::blocking::blocking;
use crate::error::{IoContext, StoreError};
use crate::id::{BlobId, ReleaseId};
use crate::index::{Index, Read, WHOLE_FRAMES};
use crate::manifest::{Kind, Manifest};
use crate::store::Store;

impl Store {
    /// Lays a release out in an empty folder, as it was imported: shared and writable folders are
    /// folders, shared files are left out. Every byte is checked. Not durable.
    ///
    /// # Errors
    /// [`StoreError`]; the folder may then hold a part.
    pub async fn checkout(&self, release: &ReleaseId, folder: &Path) -> Result<(), StoreError> {
        let manifest = self.manifest(release).await?;
        let index = self.index().await?;
        let plan = Arc::new(Plan::of(&manifest, folder));
        let wanted: Vec<BlobId> = plan.files.keys().copied().collect();
        let reads = index.plan_reads(&wanted)?;
        let laid_out = Arc::clone(&plan);
        blocking(move || laid_out.lay_out()).await??;
        let lay = |read| self.lay_blobs(&index, &plan, read);
        futures::stream::iter(reads)
            .map(lay)
            .buffer_unordered(2 * rayon::current_num_threads())
            .try_collect()
            .await
    }

    async fn lay_blobs(
        &self,
        index: &Index,
        plan: &Arc<Plan>,
        read: Read,
    ) -> Result<(), StoreError> {
        let plan = Arc::clone(plan);
        if read.frames() > WHOLE_FRAMES {
            return self.lay_long(index, &plan, &read).await;
        }
        let found = index.read(self.backend.as_ref(), &read).await?;
        blocking(move || {
            found
                .iter()
                .try_for_each(|(blob, bytes)| plan.write(blob, bytes))
        })
        .await?
    }

    /// Writes the one blob of the read part by part. Its other places get copies of it.
    async fn lay_long(
        &self,
        index: &Index,
        plan: &Arc<Plan>,
        read: &Read,
    ) -> Result<(), StoreError> {
        let places = read
            .slots
            .first()
            .and_then(|slot| plan.files.get(&slot.blob));
        let Some((place, others)) = places.and_then(|places| places.split_first()) else {
            return Ok(());
        };
        let mut file = place.create()?;
        let mut first = None;
        for copy in index.copies_of_long(read) {
            file = match self.lay_copy(index, file, place, &copy).await {
                Ok(()) if others.is_empty() => return Ok(()),
                Ok(()) => {
                    let (plan, blob) = (Arc::clone(plan), read.slots[0].blob);
                    return blocking(move || plan.copy(&blob)).await?;
                }
                Err(error) => {
                    first = first.or(Some(error));
                    // What a damaged copy left is written over.
                    OpenOptions::new()
                        .write(true)
                        .truncate(true)
                        .open(&place.path)
                        .at("write", &place.path)?
                }
            };
        }
        Err(first.unwrap_or(StoreError::Interrupted))
    }

    async fn lay_copy(
        &self,
        index: &Index,
        mut file: File,
        place: &Place,
        read: &Read,
    ) -> Result<(), StoreError> {
        let (blob, parts) = index.read_parts(self.backend.as_ref(), read);
        let mut hasher = blake3::Hasher::new();
        let mut parts = std::pin::pin!(parts);
        while let Some(part) = parts.next().await {
            let part: Bytes = part?;
            let path = place.path.clone();
            (file, hasher) = blocking(move || {
                hasher.update(&part);
                file.write_all(&part).at("write", &path)?;
                Ok((file, hasher))
            })
            .await??;
        }
        match BlobId::from(hasher.finalize()) == blob {
            true => Ok(()),
            false => Err(index.damaged(read, &blob)),
        }
    }
}

/// Where everything of a release will lie.
struct Plan {
    /// In an order in which each one's parent is there before it.
    folders: BTreeSet<PathBuf>,
    /// Link and target.
    links: Vec<(PathBuf, PathBuf)>,
    files: HashMap<BlobId, Vec<Place>>,
}

struct Place {
    path: PathBuf,
    mode: u32,
}

impl Plan {
    fn of(manifest: &Manifest, folder: &Path) -> Self {
        let mut plan = Self {
            folders: BTreeSet::new(),
            links: Vec::new(),
            files: HashMap::new(),
        };
        for entry in manifest.entries() {
            let path = folder.join(entry.path.as_path());
            plan.add_parents(folder, &path);
            let executable = entry.kind.is_executable();
            match &entry.kind {
                Kind::File { blob, .. } | Kind::Executable { blob, .. } => {
                    let mode = if executable { 0o755 } else { 0o644 };
                    plan.files
                        .entry(*blob)
                        .or_default()
                        .push(Place { path, mode });
                }
                Kind::Link { target } => plan.links.push((path, target.as_path().to_owned())),
                Kind::EmptyDir | Kind::SharedDir | Kind::WritableDir => {
                    plan.folders.insert(path);
                }
                Kind::SharedFile => {}
            }
        }
        plan
    }

    fn add_parents(&mut self, top: &Path, path: &Path) {
        let above = path.ancestors().skip(1);
        for folder in above.take_while(|folder| *folder != top) {
            if !self.folders.contains(folder) {
                self.folders.insert(folder.to_owned());
            } else {
                break;
            }
        }
    }

    /// Makes folders and links. Nothing lies below a link, so none is written through later.
    fn lay_out(&self) -> Result<(), StoreError> {
        for folder in &self.folders {
            match std::fs::create_dir(folder) {
                Err(_) if folder.is_dir() => {}
                made => made.at("create folder", folder)?,
            }
        }
        for (link, target) in &self.links {
            symlink(target, link).at("link", link)?;
        }
        Ok(())
    }

    fn write(&self, blob: &BlobId, bytes: &[u8]) -> Result<(), StoreError> {
        for place in self.files.get(blob).into_iter().flatten() {
            let mut file = place.create()?;
            file.write_all(bytes).at("write", &place.path)?;
        }
        Ok(())
    }

    /// Copies what lies at the first place of a blob to the others.
    fn copy(&self, blob: &BlobId) -> Result<(), StoreError> {
        let places = self.files.get(blob).map_or(&[][..], Vec::as_slice);
        for pair in places.windows(2) {
            std::fs::copy(&pair[0].path, &pair[1].path).at("write", &pair[1].path)?;
            pair[1].set_mode()?;
        }
        Ok(())
    }
}

impl Place {
    fn create(&self) -> Result<File, StoreError> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(self.mode)
            .open(&self.path);
        let file = made.at("write", &self.path)?;
        // The umask may have taken bits away.
        let meta = file.metadata().at("look at", &self.path)?;
        if meta.mode() & 0o7777 != self.mode {
            file.set_permissions(PermissionsExt::from_mode(self.mode))
                .at("set the mode of", &self.path)?;
        }
        Ok(file)
    }

    fn set_mode(&self) -> Result<(), StoreError> {
        std::fs::set_permissions(&self.path, PermissionsExt::from_mode(self.mode))
            .at("set the mode of", &self.path)
    }
}
