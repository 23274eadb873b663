//! A folder becomes a manifest and blobs. Walking, reading, hashing and compressing use all cores
//! and overlap; the async side only sees the finished bundle.
//!
//! ```text
//! scan -> sort -> read and hash -> new? -> frame -> compress -> write
//!                 \_ all cores _/           \___ all cores ___/
//! ```
//! Each file is opened and read once, in the order in which it would lie in a bundle; only one that
//! is longer than [`UNCUT`](crate::bundle::layout::UNCUT) is read a second time. What is read and not yet written is
//! bounded, so memory depends on the number of files, not on their bytes.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::prelude::*;

use crate::blocking::blocking;
use crate::bundle::writer::{Writer, Written};
use crate::error::{StoreError, TreeError};
use crate::event::{Event, Listener};
use crate::file::{self, Bytes, ReadFile};
use crate::id::{BlobId, ReleaseId};
use crate::index::Index;
use crate::link_loop;
use crate::manifest::{Entry, Kind, MAX_MANIFEST, Manifest, ManifestError};
use crate::name::EntryPath;
use crate::scan::Found;
pub use crate::scan::{Scan, scan};
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
        let walked = tree.clone();
        let scan = blocking(move || scan(&walked, &|_, _| true)).await??;
        self.import_scan(tree, scan, events).await
    }

    /// As [`Store::import`], of a folder that was walked before with [`scan`](scan()) and the same
    /// tree. A file that changed since is an error.
    ///
    /// # Errors
    /// As [`Store::import`].
    pub async fn import_scan(
        &self,
        tree: &ReleaseTree,
        scan: Scan,
        events: Listener<'_>,
    ) -> Result<Imported, StoreError> {
        let index = self.index().await?;
        let spool = self.backend.spool();
        crate::fs::create_dirs(&spool)?;
        let tree = tree.clone();
        // `block_in_place` would need a multi-threaded runtime; a scoped channel of events lets
        // the CPU work own its data and still report to a borrowed listener. It is closed when
        // nobody waits for the import any more.
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let work = tokio::task::spawn_blocking(move || {
            prepare(&tree, scan, &index, &spool, &|event| {
                sender.send(event).is_ok()
            })
        });
        while let Some(event) = receiver.recv().await {
            events(event);
        }
        let prepared = work.await.map_err(|_| StoreError::Interrupted)??;
        let mut stored_bytes = 0;
        if let Some(written) = prepared.bundle {
            stored_bytes = written.stored_bytes;
            self.put_bundle(written).await?;
        }
        // Blobs that were there already count once their bundle's name is durable, too.
        self.backend.settle("bundles").await?;
        let release = ReleaseId::of(&prepared.text);
        self.put_manifest(&release, &prepared.text).await?;
        Ok(Imported {
            release,
            manifest: prepared.manifest,
            new_blobs: prepared.new_blobs,
            new_bytes: prepared.new_bytes,
            stored_bytes,
        })
    }
}

/// What the CPU's part of an import leaves to be stored.
struct Prepared {
    manifest: Manifest,
    text: Vec<u8>,
    bundle: Option<Written>,
    new_blobs: u64,
    new_bytes: u64,
}

/// Files whose reading is one piece of work: about this many bytes or files.
const CHUNK_BYTES: u64 = 1 << 20;
const CHUNK_FILES: usize = 128;

/// Gets news; answers whether anybody still waits for the result.
type Told<'a> = &'a dyn Fn(Event) -> bool;

fn prepare(
    tree: &ReleaseTree,
    mut scan: Scan,
    index: &Index,
    spool: &Path,
    told: Told<'_>,
) -> Result<Prepared, StoreError> {
    refuse_loops(tree, &scan)?;
    told(Event::Scanned {
        files: scan.files.len() as u64,
        bytes: scan.bytes(),
    });
    let files = std::mem::take(&mut scan.files);
    let mut packing = Packing {
        index,
        spool,
        told,
        writer: None,
        seen: HashSet::new(),
        entries: Vec::with_capacity(files.len() + scan.entries.len()),
        new_bytes: 0,
    };
    let bundle = rayon::in_place_scope(|scope| packing.run(scope, &tree.root, files))?;
    scan.entries.append(&mut packing.entries);
    let manifest = complete(tree, scan.entries)?;
    let text = manifest.to_text();
    if text.len() as u64 > MAX_MANIFEST {
        return Err(refuse(tree, TreeError::Entries(ManifestError::TooLarge)));
    }
    Ok(Prepared {
        manifest,
        text,
        bundle,
        new_blobs: packing.seen.len() as u64,
        new_bytes: packing.new_bytes,
    })
}

struct Packing<'a> {
    index: &'a Index,
    spool: &'a Path,
    told: Told<'a>,
    /// Made for the first new blob.
    writer: Option<Writer<'a>>,
    /// New blobs.
    seen: HashSet<BlobId>,
    entries: Vec<Entry>,
    new_bytes: u64,
}

impl<'a> Packing<'a> {
    /// Reads the files and packs what is new. Not on a thread of the pool, which it waits for.
    fn run<'s>(
        &mut self,
        scope: &rayon::Scope<'s>,
        root: &'s Path,
        files: Vec<Found>,
    ) -> Result<Option<Written>, StoreError> {
        let mut chunks = chunks(files).into_iter();
        let mut reading: VecDeque<Receiver<Vec<Result<ReadFile, StoreError>>>> = VecDeque::new();
        loop {
            while reading.len() <= 2 * rayon::current_num_threads()
                && let Some(chunk) = chunks.next()
            {
                let (sender, receiver) = sync_channel(1);
                scope.spawn(move |_| {
                    let read = chunk.iter().map(|found| file::read(root, found));
                    // Nobody waits any more when the import has failed elsewhere.
                    let _ = sender.send(read.collect());
                });
                reading.push_back(receiver);
            }
            let Some(next) = reading.pop_front() else {
                break;
            };
            // The task is gone without an answer: its thread panicked.
            for read in next.recv().map_err(|_| StoreError::Interrupted)? {
                self.take(scope, read?)?;
            }
        }
        let writer = self.writer.take();
        writer.map(|writer| writer.finish(scope)).transpose()
    }

    fn take(&mut self, scope: &rayon::Scope<'_>, read: ReadFile) -> Result<(), StoreError> {
        let (blob, size) = (read.blob, read.size);
        self.entries
            .push(entry(read.path, read.executable, size, blob));
        if self.index.contains(&blob) || !self.seen.insert(blob) {
            return self.tell(size);
        }
        self.new_bytes += size;
        let is_long = matches!(read.bytes, Bytes::Long(_));
        let told = self.told;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::create(self.spool, told)?),
        };
        writer.add(scope, blob, size, read.bytes)?;
        // Of a long one the writer tells every part.
        if is_long { Ok(()) } else { self.tell(size) }
    }

    fn tell(&self, bytes: u64) -> Result<(), StoreError> {
        match (self.told)(Event::Imported(bytes)) {
            true => Ok(()),
            false => Err(StoreError::Interrupted),
        }
    }
}

/// Groups files that are read together, in the order in which their blobs lie in a bundle: similar
/// files side by side compress best, so by extension, then path.
fn chunks(mut files: Vec<Found>) -> Vec<Vec<Found>> {
    files.par_sort_unstable_by(|a, b| {
        (a.path.extension(), &a.path).cmp(&(b.path.extension(), &b.path))
    });
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for found in files {
        bytes += found.size();
        chunk.push(found);
        if bytes >= CHUNK_BYTES || chunk.len() >= CHUNK_FILES {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
    }
    chunks.push(chunk);
    chunks
}

/// Walks and hashes a tree.
///
/// # Errors
/// [`StoreError::Tree`].
pub fn manifest_of(
    tree: &ReleaseTree,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Manifest, StoreError> {
    let mut scan = scan(tree, &|_, _| true)?;
    refuse_loops(tree, &scan)?;
    events(Event::Scanned {
        files: scan.files.len() as u64,
        bytes: scan.bytes(),
    });
    let hash = |found: &Found| {
        let read = file::read(&tree.root, found)?;
        events(Event::Imported(read.size));
        Ok(entry(read.path, read.executable, read.size, read.blob))
    };
    let files: Vec<Entry> = scan.files.par_iter().map(hash).collect::<Result<_, _>>()?;
    scan.entries.extend(files);
    complete(tree, scan.entries)
}

fn entry(path: EntryPath, executable: bool, size: u64, blob: BlobId) -> Entry {
    let kind = if executable {
        Kind::Executable { size, blob }
    } else {
        Kind::File { size, blob }
    };
    Entry { path, kind }
}

/// Adds what hosts lay out.
fn complete(tree: &ReleaseTree, mut entries: Vec<Entry>) -> Result<Manifest, StoreError> {
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
    Manifest::from_entries(entries).map_err(|error| refuse(tree, TreeError::Entries(error)))
}

fn refuse_loops(tree: &ReleaseTree, scan: &Scan) -> Result<(), StoreError> {
    match link_loop::find(&scan.entries) {
        Some(path) => Err(refuse(tree, TreeError::LinkLoop { path: path.clone() })),
        None => Ok(()),
    }
}

fn refuse(tree: &ReleaseTree, source: TreeError) -> StoreError {
    StoreError::Tree {
        path: tree.root.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
