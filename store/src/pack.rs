//! Blobs of one store become a new bundle: for what is about to be deleted, for bundles that are
//! mostly garbage, for another store that lacks only some of a bundle.
//!
//! Every blob is checked against its id on its way. A few frames are in memory at a time; a blob
//! that runs through many is laid down in a file meanwhile.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;

use crate::backend::{Backend, Content};
use crate::bundle::writer::{Writer, Written};
use crate::error::{IoContext, StoreError};
use crate::event::Event;
use crate::file::{Bytes, LongFile};
use crate::fs;
use crate::id::{BlobId, BundleHash};
use crate::index::{Index, Read, WHOLE_FRAMES, bundle_name, index_name};
use crate::spool::{self, PART};
use crate::store::Store;

/// Reads that run ahead of the packing.
const READ_AHEAD: usize = 4;

/// A blob on its way.
enum Piece {
    Held(BlobId, bytes::Bytes),
    Long(BlobId, u64, tempfile::NamedTempFile),
}

impl Store {
    /// Packs blobs of this store into a bundle that has no name yet, in the order in which they
    /// lie. `moved` hears of the bytes that were read.
    pub(crate) async fn pack(
        &self,
        index: &Arc<Index>,
        blobs: &[BlobId],
        spool: &Path,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Written, StoreError> {
        fs::create_dirs(spool)?;
        let reads = index.plan_reads(blobs)?;
        let (sender, receiver) = mpsc::channel(4 * READ_AHEAD);
        let folder = spool.to_owned();
        let work = tokio::task::spawn_blocking(move || write(&folder, receiver));
        let backend: &dyn Backend = self.backend.as_ref();
        let read = |read| pieces(backend, index, read, spool);
        let mut found = futures::stream::iter(reads).map(read).buffered(READ_AHEAD);
        while let Some(pieces) = found.next().await {
            for piece in pieces? {
                moved(match &piece {
                    Piece::Held(_, bytes) => bytes.len() as u64,
                    Piece::Long(_, length, _) => *length,
                });
                // Refused when the writing has failed: the reason comes below.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
        }
        drop(sender);
        work.await.map_err(|_| StoreError::Interrupted)?
    }

    /// Gives a bundle its name, which is returned, and its table one.
    pub(crate) async fn put_bundle(&self, written: Written) -> Result<String, StoreError> {
        let tombstones = self.tombstones().await?;
        let stem = |n| format!("{}-{n}", written.hash);
        let bundle = |n| bundle_name(&stem(n));
        let index = |n| index_name(&stem(n));
        let table = written.toc.to_bytes();
        let mut n = 0;
        // Damaged bytes keep their name until a repair removes them.
        while tombstones.has(&bundle(n))
            || tombstones.has(&index(n))
            || self.is_other_bundle(&bundle(n), &written).await?
            || self.is_other(&index(n), &table).await?
        {
            n += 1;
        }
        let (bundle, index) = (bundle(n), index(n));
        let table = Content::Bytes(table.into());
        self.rely_on_bundles([bundle.as_str()]);
        self.backend
            .put(&bundle, Content::File(written.file))
            .await?;
        self.backend.put(&index, table).await?;
        // Loaded anew at the next use: other builds may have added bundles meanwhile.
        *self.index.write().await = None;
        Ok(bundle)
    }

    /// Whether a name holds other bytes.
    async fn is_other(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let present = self.backend.get(name).await?;
        Ok(present.is_some_and(|present| present != bytes))
    }

    /// Whether the name of a bundle holds other bytes.
    async fn is_other_bundle(&self, name: &str, written: &Written) -> Result<bool, StoreError> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        loop {
            let Some(part) = self.backend.get_range(name, at, PART).await? else {
                return Ok(false);
            };
            hasher.update(&part);
            at += part.len() as u64;
            if (part.len() as u64) < PART {
                return Ok(BundleHash::from(hasher.finalize()) != written.hash);
            }
        }
    }
}

/// Carries out one read.
async fn pieces(
    backend: &dyn Backend,
    index: &Index,
    read: Read,
    spool: &Path,
) -> Result<Vec<Piece>, StoreError> {
    if read.frames() > WHOLE_FRAMES {
        return Ok(vec![long(backend, index, &read, spool).await?]);
    }
    let found = index.read(backend, &read).await?;
    Ok(found
        .into_iter()
        .map(|(blob, bytes)| Piece::Held(blob, bytes))
        .collect())
}

/// Lays the one blob of a read down in a file.
async fn long(
    backend: &dyn Backend,
    index: &Index,
    read: &Read,
    spool: &Path,
) -> Result<Piece, StoreError> {
    let mut first = None;
    for copy in index.copies_of_long(read) {
        let (blob, parts) = index.read_parts(backend, &copy);
        let error = match spool::spool(parts, spool).await {
            Ok(spooled) if BlobId::from(spooled.hash) == blob => {
                return Ok(Piece::Long(blob, spooled.length, spooled.file));
            }
            Ok(_) => index.damaged(&copy, &blob),
            Err(error) => error,
        };
        first = first.or(Some(error));
    }
    Err(first.unwrap_or(StoreError::Interrupted))
}

/// The CPU's part.
fn write(spool: &Path, mut pieces: mpsc::Receiver<Piece>) -> Result<Written, StoreError> {
    let listen = |_: Event| true;
    rayon::in_place_scope(|scope| {
        let mut writer = Writer::create(spool, &listen)?;
        let mut held: Vec<tempfile::NamedTempFile> = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                // As in an import: what is laid out in parts is read again when its turn comes.
                Piece::Held(blob, bytes) if bytes.len() as u64 > crate::bundle::layout::UNCUT => {
                    let mut temp = fs::temp_in(spool)?;
                    temp.write_all(&bytes).at("write", temp.path())?;
                    writer.add(scope, blob, bytes.len() as u64, long_file(&temp)?)?;
                    held.push(temp);
                }
                Piece::Held(blob, bytes) => {
                    writer.add(scope, blob, bytes.len() as u64, Bytes::Held(bytes.into()))?;
                }
                Piece::Long(blob, length, temp) => {
                    writer.add(scope, blob, length, long_file(&temp)?)?;
                    held.push(temp);
                }
            }
        }
        writer.finish(scope)
    })
}

fn long_file(temp: &tempfile::NamedTempFile) -> Result<Bytes, StoreError> {
    LongFile::of_temp(temp.path()).map(Bytes::Long)
}
