//! Writing objects: small ones at once, large ones in parts read from disk.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, MultipartId, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
};

use super::{Content, DIGEST, S3Backend};
use crate::blocking::blocking;
use crate::error::{IoContext, StoreError};

/// Servers take parts of 5 MiB and more; all but the last must be of one size for some.
const PART: u64 = 8 << 20;
/// Servers take 10,000 parts.
const MAX_PARTS: u64 = 9_000;
/// Parts on their way at a time: with their size, the memory that an upload takes.
const PARALLEL: usize = 4;

/// Bytes to store, their number and digest.
pub(super) struct Offered {
    source: Source,
    pub(super) size: u64,
    /// BLAKE3 in hex.
    pub(super) digest: String,
}

enum Source {
    Bytes(Bytes),
    File(Arc<Spooled>),
}

/// A file that is gone when the upload is over.
struct Spooled {
    file: File,
    path: PathBuf,
    _temp: tempfile::NamedTempFile,
}

impl Offered {
    /// Takes the content and hashes it.
    pub(super) async fn of(content: Content) -> Result<Self, StoreError> {
        blocking(move || match content {
            Content::Bytes(bytes) => Ok(Self {
                size: bytes.len() as u64,
                digest: blake3::hash(&bytes).to_hex().to_string(),
                source: Source::Bytes(bytes),
            }),
            Content::File(temp) => {
                let path = temp.path().to_owned();
                let (file, size, digest) = hash(&temp).at("read", &path)?;
                Ok(Self {
                    source: Source::File(Arc::new(Spooled {
                        file,
                        path,
                        _temp: temp,
                    })),
                    size,
                    digest,
                })
            }
        })
        .await?
    }

    fn attributes(&self) -> Attributes {
        Attributes::from_iter([(Attribute::Metadata(DIGEST.into()), self.digest.clone())])
    }
}

fn hash(temp: &tempfile::NamedTempFile) -> std::io::Result<(File, u64, String)> {
    let mut file = temp.reopen()?;
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        };
    }
    Ok((file, hasher.count(), hasher.finalize().to_hex().to_string()))
}

impl Spooled {
    async fn read(self: &Arc<Self>, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        let spooled = Arc::clone(self);
        blocking(move || {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            spooled
                .file
                .read_exact_at(&mut bytes, offset)
                .at("read", &spooled.path)?;
            Ok(bytes.into())
        })
        .await?
    }
}

impl S3Backend {
    /// Writes an object that is not there.
    pub(super) async fn upload(
        &self,
        key: &Key,
        name: &str,
        offered: &Offered,
    ) -> Result<(), StoreError> {
        let bytes = match &offered.source {
            Source::Bytes(bytes) => bytes.clone(),
            Source::File(file) if offered.size <= PART => file.read(0, offered.size).await?,
            Source::File(file) => return self.upload_parts(key, name, offered, file).await,
        };
        let options = PutOptions::from(offered.attributes());
        let put = self.objects.put_opts(key, bytes.into(), options).await;
        put.map(drop)
            .map_err(|error| self.place.failed("write", name, &error))
    }

    async fn upload_parts(
        &self,
        key: &Key,
        name: &str,
        offered: &Offered,
        file: &Arc<Spooled>,
    ) -> Result<(), StoreError> {
        let options = PutMultipartOptions::from(offered.attributes());
        let begun = self.objects.create_multipart_opts(key, options).await;
        let upload = begun.map_err(|error| self.place.failed("write", name, &error))?;
        let written = match self.parts(key, name, &upload, offered.size, file).await {
            Ok(parts) => self
                .objects
                .complete_multipart(key, &upload, parts)
                .await
                .map(drop)
                .map_err(|error| self.place.failed("write", name, &error)),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            // Parts of an upload that nobody ends are stored, and paid for, until then. What went
            // wrong first is what is told.
            let _ = self.objects.abort_multipart(key, &upload).await;
            return Err(error);
        }
        // One look, cheap beside the upload: parts are put together by the server.
        match self.look(key, name).await? {
            Some(present) if present.size == offered.size => Ok(()),
            _ => Err(StoreError::Damaged {
                name: name.to_owned(),
                what: "the server did not keep every part of it".into(),
            }),
        }
    }

    async fn parts(
        &self,
        key: &Key,
        name: &str,
        upload: &MultipartId,
        size: u64,
        file: &Arc<Spooled>,
    ) -> Result<Vec<PartId>, StoreError> {
        let part = part_size(size);
        let offsets = (0..size.div_ceil(part)).map(|index| index * part);
        futures::stream::iter(offsets.enumerate())
            .map(|(index, offset)| async move {
                let bytes = file.read(offset, part.min(size - offset)).await?;
                let payload = PutPayload::from(bytes);
                let put = self.objects.put_part(key, upload, index, payload).await;
                put.map_err(|error| self.place.failed("write", name, &error))
            })
            .buffered(PARALLEL)
            .try_collect()
            .await
    }
}

/// The size of all parts but the last.
fn part_size(size: u64) -> u64 {
    size.div_ceil(MAX_PARTS).max(PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_enough_for_any_size() {
        for size in [PART + 1, 100 << 20, 5 << 40] {
            let part = part_size(size);
            assert!(size.div_ceil(part) <= MAX_PARTS && part >= PART, "{size}");
        }
    }
}
