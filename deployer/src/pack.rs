//! Encodes a [`Transfer`] as protocol messages. Blobs come from the store, compressing runs on
//! rayon, both ahead of the connection by a bounded number of packs, so memory stays flat.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use relstore_store::id::BlobId;
use relstore_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::failure::StepError;
use crate::protocol::{MAX_PART, Manifest, Message, Pack, PackEnd, PackPart};
use crate::transfer::{Patch, Transfer};

/// Raw bytes of one pack of whole blobs; a larger blob is a pack of its own.
const PACK_BYTES: usize = 1 << 20;
/// Blobs in one pack: keeps the list in the pack's first message small.
const PACK_BLOBS: usize = 4096;
/// Raw bytes of changed files whose old and new contents are in memory at a time.
const PATCH_BATCH_BYTES: u64 = 32 << 20;
/// Above this much raw data, compressing harder takes longer than sending more.
const LARGE_TRANSFER: u64 = 32 << 20;
/// How far back in a reference the match finder of [`PATCH_LEVEL`] looks, in bytes.
const MATCHER_REACH: usize = 1 << 20;
/// zstd levels: with a reference, without one, without one in a large transfer.
const PATCH_LEVEL: i32 = 9;
const PACK_LEVEL: i32 = 6;
const LARGE_LEVEL: i32 = 3;

/// Messages that belong together, and how much of the release they carry.
pub(crate) struct Encoded {
    pub(crate) messages: Vec<Message>,
    pub(crate) raw_bytes: u64,
}

/// The manifest's message.
pub(crate) async fn manifest(transfer: &Transfer) -> Result<Message, StepError> {
    let text = Arc::clone(&transfer.manifest);
    let (base, base_text) = match &transfer.base {
        Some((release, text)) => (Some(*release), Arc::clone(text)),
        None => (None, Arc::default()),
    };
    let (release, length) = (transfer.release, text.len() as u64);
    let frame = on_rayon(move || compress(&[&text], &base_text, PATCH_LEVEL)).await??;
    Ok(Manifest {
        release,
        base,
        length,
        frame,
    }
    .into())
}

/// The blobs' messages. Nothing follows an error.
pub(crate) fn packs<'a>(
    store: &'a Store,
    transfer: &'a Transfer,
) -> impl Stream<Item = Result<Encoded, StepError>> + Send + 'a {
    let level = if transfer.raw_bytes() > LARGE_TRANSFER {
        LARGE_LEVEL
    } else {
        PACK_LEVEL
    };
    patches(store, &transfer.patches).chain(whole(store, &transfer.whole, level))
}

/// Blobs in packs without reference.
pub(crate) fn whole<'a>(
    store: &'a Store,
    blobs: &'a [(BlobId, u64)],
    level: i32,
) -> impl Stream<Item = Result<Encoded, StepError>> + Send + 'a {
    groups(store, blobs)
        .map_ok(move |group| async move {
            let list = group
                .iter()
                .map(|(blob, bytes)| (*blob, bytes.len() as u64))
                .collect();
            let frame = on_rayon(move || {
                let contents: Vec<&[u8]> = group.iter().map(|(_, bytes)| bytes.as_ref()).collect();
                compress(&contents, &[], level)
            });
            Ok(pack(list, None, frame.await??))
        })
        .try_buffered(ahead())
}

/// Groups blobs in the order in which the store delivers them. The store keeps similar files
/// together (by extension, then path), so a group is as solid as one of any other order, and each
/// of the store's frames is read once.
fn groups<'a>(
    store: &'a Store,
    blobs: &'a [(BlobId, u64)],
) -> impl Stream<Item = Result<Vec<(BlobId, Bytes)>, StepError>> + Send + 'a {
    type Source = mpsc::Receiver<Result<(BlobId, Bytes), StoreError>>;
    struct Cutter {
        source: Option<Source>,
        held: Option<(BlobId, Bytes)>,
        left: usize,
    }
    let start = Cutter {
        source: None,
        held: None,
        left: blobs.len(),
    };
    futures::stream::try_unfold(start, move |mut cutter| async move {
        if cutter.left == 0 && cutter.held.is_none() {
            return Ok(None);
        }
        if cutter.source.is_none() {
            let ids: Vec<BlobId> = blobs.iter().map(|(blob, _)| *blob).collect();
            cutter.source = Some(store.read_blobs(&ids).await?);
        }
        let (mut group, mut size) = (Vec::new(), 0);
        while group.len() < PACK_BLOBS && size < PACK_BYTES {
            let next = match (cutter.held.take(), &mut cutter.source) {
                (Some(held), _) => Some(held),
                (None, Some(source)) if cutter.left > 0 => {
                    cutter.left -= 1;
                    Some(source.recv().await.ok_or(StepError::Interrupted)??)
                }
                _ => None,
            };
            let Some((blob, bytes)) = next else { break };
            if !group.is_empty() && size + bytes.len() > PACK_BYTES {
                cutter.held = Some((blob, bytes));
                break;
            }
            size += bytes.len();
            group.push((blob, bytes));
        }
        Ok(Some((group, cutter)))
    })
}

/// Changed files, each as a frame of its own with its old content as reference.
fn patches<'a>(
    store: &'a Store,
    patches: &'a [Patch],
) -> impl Stream<Item = Result<Encoded, StepError>> + Send + 'a {
    futures::stream::iter(batches(patches))
        .then(move |batch| async move {
            let contents = Arc::new(contents(store, batch).await?);
            let encoded = batch.iter().cloned().map(move |patch| {
                let contents = Arc::clone(&contents);
                Ok::<_, StepError>(async move {
                    let list = vec![(patch.blob, patch.size)];
                    let old = patch.old;
                    let frame = on_rayon(move || {
                        let (Some(new), Some(old)) =
                            (contents.get(&patch.blob), contents.get(&patch.old))
                        else {
                            return Err(StepError::Interrupted);
                        };
                        compress(&[new], old, PATCH_LEVEL)
                    });
                    Ok(pack(list, Some(old), frame.await??))
                })
            });
            Ok::<_, StepError>(futures::stream::iter(encoded))
        })
        .try_flatten()
        .try_buffered(ahead())
}

/// Cuts changed files into runs whose old and new contents fit into memory.
fn batches(patches: &[Patch]) -> Vec<&[Patch]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, patch) in patches.iter().enumerate() {
        bytes += patch.size + patch.old_size;
        if bytes > PATCH_BATCH_BYTES && at > start {
            batches.push(&patches[start..at]);
            (start, bytes) = (at, patch.size + patch.old_size);
        }
    }
    if start < patches.len() {
        batches.push(&patches[start..]);
    }
    batches
}

async fn contents(store: &Store, batch: &[Patch]) -> Result<HashMap<BlobId, Bytes>, StepError> {
    let mut ids: Vec<BlobId> = batch
        .iter()
        .flat_map(|patch| [patch.blob, patch.old])
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let mut source = store.read_blobs(&ids).await?;
    let mut contents = HashMap::new();
    while let Some(read) = source.recv().await {
        let (blob, bytes) = read?;
        contents.insert(blob, bytes);
    }
    Ok(contents)
}

fn pack(blobs: Vec<(BlobId, u64)>, prefix: Option<BlobId>, frame: Vec<u8>) -> Encoded {
    let raw_bytes = blobs.iter().map(|(_, size)| size).sum();
    let parts = frame.chunks(MAX_PART).map(|part| {
        PackPart {
            bytes: part.to_vec(),
        }
        .into()
    });
    let mut messages = vec![Pack { blobs, prefix }.into()];
    messages.extend(parts);
    messages.push(PackEnd {}.into());
    Encoded {
        messages,
        raw_bytes,
    }
}

/// One zstd frame over `contents`, one after the other; `reference` may be empty.
fn compress(contents: &[&[u8]], reference: &[u8], level: i32) -> Result<Vec<u8>, StepError> {
    let length: usize = contents.iter().map(|content| content.len()).sum();
    let run = || -> std::io::Result<Vec<u8>> {
        let mut encoder = if reference.is_empty() {
            zstd::stream::write::Encoder::new(Vec::new(), level)?
        } else {
            let mut encoder =
                zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), level, reference)?;
            // The window has to reach from the end of the new content to the reference's start.
            let reach = length + reference.len();
            encoder.window_log(window_log(reach))?;
            // The ordinary match finder forgets what lies further back than this.
            encoder.long_distance_matching(reach > MATCHER_REACH)?;
            encoder
        };
        encoder.set_pledged_src_size(Some(length as u64))?;
        encoder.include_contentsize(true)?;
        for content in contents {
            std::io::Write::write_all(&mut encoder, content)?;
        }
        encoder.finish()
    };
    run().map_err(StepError::Compress)
}

/// The smallest window that zstd allows for this many bytes: 1 KiB to 128 MiB.
fn window_log(bytes: usize) -> u32 {
    bytes.next_power_of_two().trailing_zeros().clamp(10, 27)
}

/// Packs that are made ahead of the connection: enough for every core, and one to send.
fn ahead() -> usize {
    rayon::current_num_threads() + 1
}

/// Runs CPU work on rayon's threads; starts at once.
fn on_rayon<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, StepError>> + Send {
    let (sender, receiver) = oneshot::channel();
    rayon::spawn(move || {
        // Nobody waits for the result of a cancelled transfer.
        let _ = sender.send(work());
    });
    async move { receiver.await.map_err(|_| StepError::Interrupted) }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
