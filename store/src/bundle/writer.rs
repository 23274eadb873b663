//! Writes a bundle while its blobs arrive: frames are put together and compressed on all cores,
//! and written in order. A few frames are in memory at a time, however much there is to pack.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::layout::{Layout, Segment};
use super::toc::{Frame, Toc};
use super::{FOOTER_MAGIC, SKIPPABLE_MAGIC};
use crate::error::{IoContext, StoreError};
use crate::event::Event;
use crate::file::{Bytes, LongFile};
use crate::fs;
use crate::id::{BlobId, BundleHash};

/// Level of the frames: the fastest one that groups small files well; see `docs/format.md`.
const LEVEL: i32 = 3;

/// A bundle that is written but has no name yet.
#[derive(Debug)]
pub(crate) struct Written {
    /// The bytes.
    pub(crate) file: tempfile::NamedTempFile,
    /// BLAKE3 of the bytes.
    pub(crate) hash: BundleHash,
    /// The table of contents, also the object `index/...`.
    pub(crate) toc: Toc,
    /// Length in bytes.
    pub(crate) stored_bytes: u64,
}

/// The bundle so far.
pub(crate) struct Writer<'a> {
    told: &'a dyn Fn(Event) -> bool,
    file: tempfile::NamedTempFile,
    name: PathBuf,
    layout: Layout,
    /// Blobs of which something is not in a closed frame yet, by their number.
    open: HashMap<usize, (BlobId, Bytes)>,
    packing: VecDeque<Receiver<Result<Packed, StoreError>>>,
    compressors: Compressors,
    hasher: blake3::Hasher,
    frames: Vec<Frame>,
    offset: u64,
    /// Of the long blob whose parts come in now.
    digest: blake3::Hasher,
}

/// A run of raw bytes with what is needed to make them.
enum Piece {
    Header { blob: BlobId, length: u64 },
    Held(Vec<u8>),
    Part(Part),
    Zeros(u32),
}

/// A part of a long blob.
struct Part {
    blob: BlobId,
    file: LongFile,
    offset: u64,
    length: u32,
    last: bool,
}

/// A compressed frame. With parts of long blobs in it, the raw bytes as well, and where in them
/// each part lies: the digest of such a blob can only be computed in order.
struct Packed {
    stored: Vec<u8>,
    raw: Vec<u8>,
    raw_length: u32,
    parts: Vec<(Range<usize>, Part)>,
}

impl<'a> Writer<'a> {
    /// Begins a bundle in a temp file in `spool`. `told` hears of the bytes of long blobs that
    /// are written, and answers whether to go on.
    pub(crate) fn create(
        spool: &Path,
        told: &'a dyn Fn(Event) -> bool,
    ) -> Result<Self, StoreError> {
        let file = fs::temp_in(spool)?;
        Ok(Self {
            told,
            name: file.path().to_owned(),
            file,
            layout: Layout::default(),
            open: HashMap::new(),
            packing: VecDeque::new(),
            compressors: Compressors::default(),
            hasher: blake3::Hasher::new(),
            frames: Vec::new(),
            offset: 0,
            digest: blake3::Hasher::new(),
        })
    }

    /// Adds a blob of `length` bytes. A long one is read again, and its digest compared.
    pub(crate) fn add(
        &mut self,
        scope: &rayon::Scope<'_>,
        blob: BlobId,
        length: u64,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        self.open.insert(self.layout.blobs(), (blob, bytes));
        let mut closed = Vec::new();
        self.layout
            .push(blob, length, &mut |frame| closed.push(frame));
        for frame in closed {
            self.pack(scope, &frame)?;
        }
        Ok(())
    }

    /// Writes what is left, and the table.
    pub(crate) fn finish(mut self, scope: &rayon::Scope<'_>) -> Result<Written, StoreError> {
        let (last, slots) = std::mem::take(&mut self.layout).finish();
        self.pack(scope, &last)?;
        while let Some(next) = self.packing.pop_front() {
            self.write(&next)?;
        }
        let toc =
            Toc::new(self.frames, slots).expect("the layout puts every blob inside its frames");
        let tail = skippable(&toc);
        self.hasher.update(&tail);
        self.file.write_all(&tail).at("write", &self.name)?;
        Ok(Written {
            file: self.file,
            hash: self.hasher.finalize().into(),
            toc,
            stored_bytes: self.offset + tail.len() as u64,
        })
    }

    /// Hands a closed frame to the next free core. Waits when too many are under way.
    fn pack(&mut self, scope: &rayon::Scope<'_>, frame: &[Segment]) -> Result<(), StoreError> {
        let pieces: Vec<Piece> = frame.iter().map(|segment| self.piece(segment)).collect();
        let (sender, receiver) = sync_channel(1);
        let compressors = self.compressors.clone();
        scope.spawn(move |_| {
            // Nobody waits any more when the import has failed elsewhere.
            let _ = sender.send(packed(pieces, &compressors));
        });
        self.packing.push_back(receiver);
        if self.packing.len() > 2 * rayon::current_num_threads()
            && let Some(next) = self.packing.pop_front()
        {
            self.write(&next)?;
        }
        Ok(())
    }

    fn piece(&mut self, segment: &Segment) -> Piece {
        match *segment {
            Segment::Header { blob, length } => Piece::Header { blob, length },
            Segment::Zeros(count) => Piece::Zeros(count),
            Segment::Content {
                index,
                offset,
                length,
                last,
            } => {
                let (blob, bytes) = self
                    .open
                    .remove(&index)
                    .expect("a blob is open until its last part is laid out");
                match bytes {
                    Bytes::Held(bytes) => Piece::Held(bytes),
                    Bytes::Long(file) => {
                        if !last {
                            let again = (blob, Bytes::Long(file.clone()));
                            self.open.insert(index, again);
                        }
                        Piece::Part(Part {
                            blob,
                            file,
                            offset,
                            length,
                            last,
                        })
                    }
                }
            }
        }
    }

    fn write(&mut self, next: &Receiver<Result<Packed, StoreError>>) -> Result<(), StoreError> {
        // The task is gone without an answer: its thread panicked.
        let frame = next.recv().map_err(|_| StoreError::Interrupted)??;
        for (range, part) in frame.parts {
            self.digest.update(&frame.raw[range]);
            if !(self.told)(Event::Imported(u64::from(part.length))) {
                return Err(StoreError::Interrupted);
            }
            if part.last {
                let blob = BlobId::from(self.digest.finalize());
                self.digest.reset();
                if blob != part.blob {
                    return Err(part.file.changed());
                }
            }
        }
        let stored = u32::try_from(frame.stored.len())
            .expect("a compressed frame is about as long as its raw bytes");
        self.frames.push(Frame {
            offset: self.offset,
            stored,
            raw: frame.raw_length,
        });
        self.offset += u64::from(stored);
        self.hasher.update(&frame.stored);
        self.file.write_all(&frame.stored).at("write", &self.name)
    }
}

/// Contexts of zstd that wait for their next frame: making one costs more than a small frame.
#[derive(Clone, Default)]
struct Compressors(Arc<Mutex<Vec<Compressor<'static>>>>);

impl Compressors {
    fn compress(&self, raw: &[u8]) -> std::io::Result<Vec<u8>> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => {
                let mut compressor = Compressor::new(LEVEL)?;
                compressor.set_parameter(CParameter::ChecksumFlag(true))?;
                compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
                compressor
            }
        };
        let stored = compressor.compress(raw)?;
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(compressor);
        Ok(stored)
    }
}

fn packed(pieces: Vec<Piece>, compressors: &Compressors) -> Result<Packed, StoreError> {
    let mut raw = Vec::with_capacity(super::FRAME_TARGET as usize * 3 / 2);
    let mut parts = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Header { blob, length } => {
                raw.extend_from_slice(header(&blob, length).as_bytes());
            }
            Piece::Zeros(count) => raw.resize(raw.len() + count as usize, 0),
            Piece::Held(bytes) => raw.extend_from_slice(&bytes),
            Piece::Part(part) => {
                let start = raw.len();
                raw.resize(start + part.length as usize, 0);
                part.file.read_at(&mut raw[start..], part.offset)?;
                parts.push((start..raw.len(), part));
            }
        }
    }
    let stored = compressors
        .compress(&raw)
        .at("compress", Path::new("a frame"))?;
    let raw_length = u32::try_from(raw.len()).expect("the layout bounds a frame");
    if parts.is_empty() {
        raw = Vec::new();
    }
    Ok(Packed {
        stored,
        raw,
        raw_length,
        parts,
    })
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

/// A tar header (POSIX ustar with GNU's large numbers) without time, owner or real name.
pub(crate) fn header(blob: &BlobId, length: u64) -> tar::Header {
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
