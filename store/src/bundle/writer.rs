//! Writes a bundle: reads, hashes and compresses frames on all cores, writes them in order.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::layout::{Segment, lay_out};
use super::toc::{Frame, Toc};
use super::{FOOTER_MAGIC, SKIPPABLE_MAGIC};
use crate::error::{IoContext, StoreError, TreeError};
use crate::fs;
use crate::id::{BlobId, BundleHash};
use crate::name::EntryPath;

/// Level of the frames: the fastest one that groups small files well; see `docs/format.md`.
const LEVEL: i32 = 3;

/// A blob to pack and the file that has its bytes.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its id, already computed.
    pub blob: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// The file, relative to the tree.
    pub path: EntryPath,
}

/// A bundle that is written but has no name yet.
#[derive(Debug)]
pub struct Written {
    /// The bytes.
    pub file: tempfile::NamedTempFile,
    /// BLAKE3 of the bytes.
    pub hash: BundleHash,
    /// The table of contents, also the object `index/...`.
    pub toc: Toc,
    /// Length in bytes.
    pub stored_bytes: u64,
}

/// Similar files side by side compress best: by extension, then path.
pub fn sort_for_compression(sources: &mut [Source]) {
    sources.sort_by(|a, b| (a.path.extension(), &a.path).cmp(&(b.path.extension(), &b.path)));
}

/// A frame's compressed bytes, and the content parts of blobs that run through several frames
/// (index, bytes, last): their digest can only be checked in order.
struct Packed {
    stored: Vec<u8>,
    raw: u32,
    parts: Vec<(usize, Vec<u8>, bool)>,
}

/// Packs the sources, in the given order, into a temp file in `spool`. Every byte is hashed
/// again as it is read, so a file that changed since it was hashed is found.
///
/// # Errors
/// [`StoreError::Io`]; [`StoreError::Tree`] when a file changed.
pub fn write(
    root: &Path,
    sources: &[Source],
    spool: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Written, StoreError> {
    let blobs: Vec<_> = sources
        .iter()
        .map(|source| (source.blob, source.length))
        .collect();
    let layout = lay_out(&blobs);
    let mut file = fs::temp_in(spool)?;
    let name: PathBuf = file.path().to_owned();
    let mut hasher = blake3::Hasher::new();
    let mut frames = Vec::with_capacity(layout.frames.len());
    let mut offset = 0u64;
    let mut spanning: Option<(usize, blake3::Hasher)> = None;
    // As many frames at once as keep all cores busy: memory stays flat however large the tree is.
    for batch in layout.frames.chunks(2 * rayon::current_num_threads()) {
        let packed: Vec<Packed> = batch
            .par_iter()
            .map(|segments| pack(root, sources, segments))
            .collect::<Result<_, _>>()?;
        for frame in packed {
            for (index, bytes, last) in frame.parts {
                let (at, mut digest) = spanning
                    .take()
                    .unwrap_or_else(|| (index, blake3::Hasher::new()));
                digest.update(&bytes);
                if !last {
                    spanning = Some((at, digest));
                } else if BlobId::from(digest.finalize()) != sources[index].blob {
                    return Err(changed(root, &sources[index]));
                }
            }
            let stored = u32::try_from(frame.stored.len())
                .expect("a compressed frame is about as long as its raw bytes");
            frames.push(Frame {
                offset,
                stored,
                raw: frame.raw,
            });
            offset += u64::from(stored);
            hasher.update(&frame.stored);
            file.write_all(&frame.stored).at("write", &name)?;
            progress(u64::from(frame.raw));
        }
    }
    let toc = Toc::new(frames, layout.slots).expect("the layout puts every blob inside its frames");
    let tail = skippable(&toc);
    hasher.update(&tail);
    file.write_all(&tail).at("write", &name)?;
    let stored_bytes = offset + tail.len() as u64;
    Ok(Written {
        file,
        hash: hasher.finalize().into(),
        toc,
        stored_bytes,
    })
}

fn changed(root: &Path, source: &Source) -> StoreError {
    StoreError::Tree {
        path: root.to_owned(),
        source: TreeError::Changed {
            path: source.path.clone(),
        },
    }
}

/// The table of contents as a skippable frame, with the footer that finds it.
fn skippable(toc: &Toc) -> Vec<u8> {
    let table = toc.to_bytes();
    let length = u32::try_from(table.len()).expect("a table of contents is smaller than 4 GiB");
    let mut tail = Vec::with_capacity(table.len() + 20);
    tail.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    tail.extend_from_slice(&(length + super::FOOTER as u32).to_le_bytes());
    tail.extend_from_slice(&table);
    tail.extend_from_slice(&length.to_le_bytes());
    tail.extend_from_slice(FOOTER_MAGIC);
    tail
}

fn pack(root: &Path, sources: &[Source], segments: &[Segment]) -> Result<Packed, StoreError> {
    let mut raw = Vec::new();
    let mut parts = Vec::new();
    for segment in segments {
        match *segment {
            Segment::Header { blob, length } => {
                raw.extend_from_slice(header(&blob, length).as_bytes());
            }
            Segment::Zeros(count) => raw.resize(raw.len() + count as usize, 0),
            Segment::Content {
                index,
                offset,
                length,
                last,
            } => {
                let source = &sources[index];
                let path = root.join(source.path.as_path());
                let start = raw.len();
                raw.resize(start + length as usize, 0);
                let read = File::open(&path)
                    .and_then(|file| file.read_exact_at(&mut raw[start..], offset));
                match read {
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        return Err(changed(root, source));
                    }
                    read => read.at("read", &path)?,
                }
                if u64::from(length) != source.length {
                    parts.push((index, raw[start..].to_vec(), last));
                } else if BlobId::of(&raw[start..]) != source.blob {
                    return Err(changed(root, source));
                }
            }
        }
    }
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).at("compress below", root)?;
    let parameters = [
        zstd::zstd_safe::CParameter::ChecksumFlag(true),
        zstd::zstd_safe::CParameter::ContentSizeFlag(true),
    ];
    for parameter in parameters {
        compressor
            .set_parameter(parameter)
            .at("compress below", root)?;
    }
    let stored = compressor.compress(&raw).at("compress below", root)?;
    let raw = u32::try_from(raw.len()).expect("the layout bounds a frame");
    Ok(Packed { stored, raw, parts })
}

/// A tar header (POSIX ustar with GNU's large numbers) without time, owner or real name.
fn header(blob: &BlobId, length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header
        .set_path(blob.to_string())
        .expect("64 hex digits fit a tar name");
    header.set_size(length);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}
