//! A folder becomes a manifest and blobs. Reading, hashing and compressing use all cores; the
//! async side only sees the finished bundle.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::backend::Content;
use crate::bundle::writer::{self, Source};
use crate::error::{IoContext, StoreError, TreeError};
use crate::event::{Event, Listener};
use crate::id::{BlobId, ReleaseId};
use crate::index::Index;
use crate::manifest::{Entry, Kind, Manifest};
use crate::name::{EntryPath, LinkTarget};
use crate::store::Store;

/// What a host lays out beside the files: paths that are shared between releases or written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Files that live in the host's shared folder, such as `.env`.
    pub shared_files: Vec<EntryPath>,
    /// Folders that live there, such as `storage`; what the tree has below is initial content.
    pub shared_dirs: Vec<EntryPath>,
    /// Folders of the release that are written on the host; empty in the tree.
    pub writable_dirs: Vec<EntryPath>,
}

/// A folder that shall become a release.
#[derive(Debug, Clone)]
pub struct ReleaseTree {
    /// The folder; nobody else may write to it meanwhile.
    pub root: PathBuf,
    /// What the host lays out.
    pub layout: Layout,
}

/// What an import did.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The release.
    pub release: ReleaseId,
    /// Its manifest.
    pub manifest: Manifest,
    /// Blobs the store did not have.
    pub new_blobs: u64,
    /// Their raw bytes.
    pub new_bytes: u64,
    /// Bytes the store grew by for them.
    pub stored_bytes: u64,
}

impl Store {
    /// Puts a tree's blobs and manifest into the store, durably, and returns the release's id.
    /// Nobody can find the release before [`Store::publish`].
    ///
    /// # Errors
    /// [`StoreError::Tree`] when the tree cannot be a release, else those of the backend. The
    /// store then holds at most blobs that nothing refers to.
    pub async fn import(
        &self,
        tree: &ReleaseTree,
        events: Listener<'_>,
    ) -> Result<Imported, StoreError> {
        let index = self.index().await?;
        let spool = self.backend.spool();
        crate::fs::create_dirs(&spool)?;
        let (tree, events) = (tree.clone(), events);
        // `block_in_place` would need a multi-threaded runtime; a scoped channel of events lets
        // the CPU work own its data and still report to a borrowed listener.
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let work = tokio::task::spawn_blocking(move || {
            prepare(&tree, &index, &spool, &|event| {
                let _ = sender.send(event);
            })
        });
        while let Some(event) = receiver.recv().await {
            events(event);
        }
        let prepared = work.await.map_err(|_| StoreError::Interrupted)??;
        let mut stored_bytes = 0;
        if let Some(written) = prepared.bundle {
            stored_bytes = written.stored_bytes;
            let stem = format!("{}-0", written.hash);
            let bundle = format!("bundles/{stem}.tar.zst");
            self.backend
                .put(&bundle, Content::File(written.file))
                .await?;
            self.backend
                .put(
                    &format!("index/{stem}"),
                    Content::Bytes(written.toc.to_bytes().into()),
                )
                .await?;
            // Loaded anew at the next use: other builds may have added bundles meanwhile.
            *self.index.write().await = None;
        }
        // Blobs that were there already count once their bundle's name is durable, too.
        self.backend.settle("bundles").await?;
        let text = prepared.manifest.to_text();
        let release = ReleaseId::of(&text);
        self.put_manifest(&release, &text).await?;
        Ok(Imported {
            release,
            manifest: prepared.manifest,
            new_blobs: prepared.new_blobs,
            new_bytes: prepared.new_bytes,
            stored_bytes,
        })
    }
}

struct Prepared {
    manifest: Manifest,
    bundle: Option<writer::Written>,
    new_blobs: u64,
    new_bytes: u64,
}

fn prepare(
    tree: &ReleaseTree,
    index: &Arc<Index>,
    spool: &Path,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Prepared, StoreError> {
    let manifest = manifest_of(tree, events)?;
    let mut seen = HashSet::new();
    let mut sources: Vec<Source> = manifest
        .entries()
        .iter()
        .filter_map(|entry| {
            let (blob, length) = entry.kind.content()?;
            let new = !index.contains(&blob) && seen.insert(blob);
            new.then(|| Source {
                blob,
                length,
                path: entry.path.clone(),
            })
        })
        .collect();
    writer::sort_for_compression(&mut sources);
    let new_blobs = sources.len() as u64;
    let new_bytes = sources.iter().map(|source| source.length).sum();
    events(Event::Packing {
        blobs: new_blobs,
        bytes: new_bytes,
    });
    let bundle = if sources.is_empty() {
        None
    } else {
        Some(writer::write(&tree.root, &sources, spool, &|bytes| {
            events(Event::Packed(bytes));
        })?)
    };
    Ok(Prepared {
        manifest,
        bundle,
        new_blobs,
        new_bytes,
    })
}

/// Walks and hashes a tree.
///
/// # Errors
/// [`StoreError::Tree`] and [`StoreError::Io`].
pub fn manifest_of(
    tree: &ReleaseTree,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Manifest, StoreError> {
    let refuse = |source| StoreError::Tree {
        path: tree.root.clone(),
        source,
    };
    let (mut entries, files) = walk(tree)?;
    events(Event::Scanned {
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.size).sum(),
    });
    let hashed: Vec<Entry> = files
        .into_par_iter()
        .map(|file| hash(tree, file, events))
        .collect::<Result<_, _>>()?;
    entries.extend(hashed);
    let layout = &tree.layout;
    for (paths, kind) in [
        (&layout.shared_files, Kind::SharedFile),
        (&layout.shared_dirs, Kind::SharedDir),
        (&layout.writable_dirs, Kind::WritableDir),
    ] {
        entries.extend(paths.iter().map(|path| Entry {
            path: path.clone(),
            kind: kind.clone(),
        }));
    }
    Manifest::from_entries(entries).map_err(|error| refuse(TreeError::Entries(error)))
}

struct Found {
    path: EntryPath,
    size: u64,
    executable: bool,
}

/// Lists links, empty folders and files; folders of the layout are left to the layout.
fn walk(tree: &ReleaseTree) -> Result<(Vec<Entry>, Vec<Found>), StoreError> {
    let refuse = |source| StoreError::Tree {
        path: tree.root.clone(),
        source,
    };
    let laid_out: HashSet<&EntryPath> = tree
        .layout
        .shared_dirs
        .iter()
        .chain(&tree.layout.writable_dirs)
        .collect();
    let mut entries = Vec::new();
    let mut files = Vec::new();
    for found in walkdir::WalkDir::new(&tree.root)
        .min_depth(1)
        .sort_by_file_name()
    {
        let found = found.map_err(|error| {
            let path = error.path().unwrap_or(&tree.root).to_owned();
            StoreError::Io {
                what: "read",
                path,
                source: error.into(),
            }
        })?;
        let relative = found
            .path()
            .strip_prefix(&tree.root)
            .expect("the walk stays below its root");
        let raw = relative.as_os_str().as_bytes();
        let path = EntryPath::new(raw).map_err(|source| {
            refuse(TreeError::Name {
                path: crate::name::escape(raw),
                source,
            })
        })?;
        let kind = found.file_type();
        let writable = tree
            .layout
            .writable_dirs
            .iter()
            .find(|folder| path.is_below(folder));
        if let Some(folder) = writable
            && !laid_out.contains(&path)
        {
            // Folders on the way to a shared path inside are fine, anything else would be lost.
            if kind.is_dir() && laid_out.iter().any(|inner| inner.is_below(&path)) {
                continue;
            }
            return Err(refuse(TreeError::InWritable {
                path,
                folder: folder.clone(),
            }));
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(found.path()).at("read link", found.path())?;
            let target =
                LinkTarget::new(target.as_os_str().as_bytes(), &path).map_err(|source| {
                    refuse(TreeError::Name {
                        path: path.to_string(),
                        source,
                    })
                })?;
            entries.push(Entry {
                path,
                kind: Kind::Link { target },
            });
        } else if kind.is_dir() {
            let empty = std::fs::read_dir(found.path())
                .at("list", found.path())?
                .next()
                .is_none();
            let inner = laid_out
                .iter()
                .chain(tree.layout.shared_files.iter().collect::<Vec<_>>().iter())
                .any(|inner| inner.is_below(&path));
            if empty && !inner && !laid_out.contains(&path) {
                entries.push(Entry {
                    path,
                    kind: Kind::EmptyDir,
                });
            }
        } else if kind.is_file() {
            let meta = found
                .metadata()
                .map_err(std::io::Error::from)
                .at("look at", found.path())?;
            let executable = meta.permissions().mode() & 0o100 != 0;
            files.push(Found {
                path,
                size: meta.len(),
                executable,
            });
        } else {
            return Err(refuse(TreeError::Special {
                path: path.to_string(),
            }));
        }
    }
    Ok((entries, files))
}

fn hash(
    tree: &ReleaseTree,
    found: Found,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Entry, StoreError> {
    let path = tree.root.join(found.path.as_path());
    let mut file = File::open(&path).at("read", &path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0; 64 << 10];
    let mut size = 0u64;
    loop {
        let count = file.read(&mut buffer).at("read", &path)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
    if size != found.size {
        let source = TreeError::Changed { path: found.path };
        return Err(StoreError::Tree {
            path: tree.root.clone(),
            source,
        });
    }
    events(Event::Hashed(size));
    let blob = BlobId::from(hasher.finalize());
    let kind = if found.executable {
        Kind::Executable { size, blob }
    } else {
        Kind::File { size, blob }
    };
    Ok(Entry {
        path: found.path,
        kind,
    })
}
