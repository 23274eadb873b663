//! Bytes that arrive part by part are laid down in a file and hashed on their way.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::blocking::blocking;
use crate::error::{IoContext, StoreError};
use crate::fs;

/// Bytes of an object that are asked for at once.
pub(crate) const PART: u64 = 4 << 20;

/// All that arrived.
pub(crate) struct Spooled {
    pub(crate) file: tempfile::NamedTempFile,
    /// BLAKE3 of the bytes.
    pub(crate) hash: blake3::Hash,
    pub(crate) length: u64,
}

/// Writes the parts to a file in `folder`.
pub(crate) async fn spool(
    parts: impl Stream<Item = Result<Bytes, StoreError>>,
    folder: &Path,
) -> Result<Spooled, StoreError> {
    let mut parts = std::pin::pin!(parts);
    let mut file = fs::temp_in(folder)?;
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    while let Some(part) = parts.next().await {
        let part = part?;
        length += part.len() as u64;
        let work = move || {
            hasher.update(&part);
            let written = file.write_all(&part).at("write", file.path());
            written.map(|()| (hasher, file))
        };
        (hasher, file) = blocking(work).await??;
    }
    Ok(Spooled {
        file,
        hash: hasher.finalize(),
        length,
    })
}
