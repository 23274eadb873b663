//! Takes a transfer: a manifest, then packs. Every blob is bounded by the length the manifest
//! gives it and checked against its id; whatever fails is simply still missing at the end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::manifest::{MAX_MANIFEST, Manifest};

use super::base::Base;
use super::error::{At, HostError, Result};
use super::{blobs, disk};
use crate::protocol::{self, Reason};

/// Parts of a pack that may wait for the decoder: keeps memory flat.
const WAITING: usize = 8;
/// Largest window a frame may ask for, as a power of two: 128 MiB.
const WINDOW_LOG: u32 = 27;

/// Length of a blob, and as what its files are used.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    length: u64,
    plain: bool,
    executable: bool,
}

/// A transfer under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    base: Base,
    staging: PathBuf,
    pub(crate) release: ReleaseId,
    pub(crate) manifest: Manifest,
    text: Vec<u8>,
    uses: Arc<HashMap<BlobId, Use>>,
    pack: Option<Decoding>,
    packs: u64,
    stored_blobs: u64,
    stored_bytes: u64,
}

#[derive(Debug)]
struct Decoding {
    parts: SyncSender<Vec<u8>>,
    worker: JoinHandle<Result<(u64, u64)>>,
}

impl Transfer {
    /// Decodes and checks the manifest, and that there is room for what it lacks.
    pub(crate) fn begin(
        base: &Base,
        staging: PathBuf,
        message: &protocol::Manifest,
    ) -> Result<Self> {
        let release = message.release;
        let corrupt = |what: String| {
            HostError::new(
                Reason::Corrupt,
                format!("the manifest of {} did not arrive whole", release.short()),
            )
            .cause(what)
            .hint("deploy again; if it happens again, look at both machines' memory and disks")
        };
        if message.length > MAX_MANIFEST {
            return Err(corrupt(format!(
                "{} bytes are more than a manifest may have",
                message.length
            )));
        }
        let prefix = match &message.base {
            Some(id) => base.manifest(id)?.map(|(_, text)| text).ok_or_else(|| {
                corrupt(format!(
                    "the manifest of its base {} is not on the host",
                    id.short()
                ))
            })?,
            None => Vec::new(),
        };
        let mut text = Vec::new();
        decoder(message.frame.as_slice(), &prefix)
            .and_then(|decoder| decoder.take(message.length + 1).read_to_end(&mut text))
            .map_err(|error| corrupt(error.to_string()))?;
        if text.len() as u64 != message.length || ReleaseId::of(&text) != release {
            return Err(corrupt("it does not match its id".into()));
        }
        let manifest = Manifest::parse(&text).map_err(|error| corrupt(error.to_string()))?;
        let transfer = Self::of(base, staging, release, manifest, text);
        transfer.check_room()?;
        Ok(transfer)
    }

    /// Goes on with a release whose manifest is here already: blobs of it turned out damaged.
    pub(crate) fn again(base: &Base, staging: PathBuf, release: ReleaseId) -> Result<Self> {
        let (manifest, text) = base.manifest(&release)?.ok_or_else(|| {
            HostError::new(
                Reason::Protocol,
                format!("no manifest of {} came before its blobs", release.short()),
            )
        })?;
        Ok(Self::of(base, staging, release, manifest, text))
    }

    fn of(
        base: &Base,
        staging: PathBuf,
        release: ReleaseId,
        manifest: Manifest,
        text: Vec<u8>,
    ) -> Self {
        let mut uses: HashMap<BlobId, Use> = HashMap::new();
        for entry in manifest.entries() {
            if let Some((blob, length)) = entry.kind.content() {
                let one = uses.entry(blob).or_default();
                one.length = length;
                one.plain |= !entry.kind.is_executable();
                one.executable |= entry.kind.is_executable();
            }
        }
        Self {
            base: base.clone(),
            staging,
            release,
            manifest,
            text,
            uses: Arc::new(uses),
            pack: None,
            packs: 0,
            stored_blobs: 0,
            stored_bytes: 0,
        }
    }

    /// Number of entries of the manifest.
    pub(crate) fn entries(&self) -> u64 {
        self.manifest.entries().len() as u64
    }

    fn missing(&self) -> Vec<BlobId> {
        let lacks = |blob: &BlobId, one: &Use| {
            (one.plain && !blobs::has(&self.base, blob, one.length, false))
                || (one.executable && !blobs::has(&self.base, blob, one.length, true))
        };
        let mut missing: Vec<BlobId> = self
            .uses
            .iter()
            .filter(|(blob, one)| lacks(blob, one))
            .map(|(blob, _)| *blob)
            .collect();
        missing.sort();
        missing
    }

    /// Refuses before the first byte what cannot fit: bytes in whole blocks, and an inode for each
    /// blob and folder.
    fn check_room(&self) -> Result<()> {
        const BLOCK: u64 = 4096;
        let missing = self.missing();
        let bytes: u64 = missing
            .iter()
            .filter_map(|blob| self.uses.get(blob))
            .map(|one| {
                one.length.next_multiple_of(BLOCK)
                    * (u64::from(one.plain) + u64::from(one.executable))
            })
            .sum();
        let folders = self
            .manifest
            .entries()
            .iter()
            .map(|entry| entry.path.depth() as u64)
            .max()
            .unwrap_or(0);
        let inodes = missing.len() as u64 + folders + 64;
        let room = rustix::fs::statvfs(self.base.root()).at("look at", self.base.root())?;
        let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
        let free_inodes = if room.f_files == 0 {
            u64::MAX
        } else {
            room.f_favail
        };
        if free_bytes >= bytes && free_inodes >= inodes {
            return Ok(());
        }
        let needs = if free_bytes < bytes {
            format!("it needs {bytes} bytes, {free_bytes} are free")
        } else {
            format!("it needs {inodes} inodes, {free_inodes} are free")
        };
        Err(HostError::new(Reason::DiskFull, format!("there is no room for release {} on the host", self.release.short()))
            .cause(needs)
            .hint(format!("make room on the file system of {} (a smaller `keep` removes old releases), then deploy again", self.base.root().display())))
    }

    /// Begins a pack.
    pub(crate) fn pack(&mut self, pack: protocol::Pack) -> Result<()> {
        self.end_pack()?;
        let (parts, incoming) = sync_channel(WAITING);
        let job = Unpack {
            base: self.base.clone(),
            uses: Arc::clone(&self.uses),
            blobs: pack.blobs,
            prefix: pack.prefix,
            temp: self.staging.join(format!("in-{}", self.packs)),
        };
        self.packs += 1;
        let worker = std::thread::spawn(move || job.run(incoming));
        self.pack = Some(Decoding { parts, worker });
        Ok(())
    }

    /// Bytes of the current pack; ignored when it has failed already.
    pub(crate) fn part(&mut self, bytes: Vec<u8>) {
        if let Some(pack) = &self.pack {
            // A decoder that gave up has dropped its end; its blobs are asked for again.
            let _ = pack.parts.send(bytes);
        }
    }

    /// Ends the current pack. A pack that is not what it says is no error here, a disk that is
    /// full is.
    pub(crate) fn end_pack(&mut self) -> Result<()> {
        let Some(Decoding { parts, worker }) = self.pack.take() else {
            return Ok(());
        };
        drop(parts);
        let panicked = |_| HostError::new(Reason::Io, "the decoder of a pack failed");
        let (blobs, bytes) = worker.join().map_err(panicked)??;
        self.stored_blobs += blobs;
        self.stored_bytes += bytes;
        Ok(())
    }

    /// All was sent: keeps the manifest, and says which blobs are missing or how much came.
    pub(crate) fn finish(
        &mut self,
    ) -> Result<std::result::Result<protocol::Received, Vec<BlobId>>> {
        self.end_pack()?;
        let missing = self.missing();
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        disk::write(&self.base.manifest_file(&self.release), &self.text, 0o444)?;
        Ok(Ok(protocol::Received {
            blobs: self.stored_blobs,
            bytes: self.stored_bytes,
        }))
    }
}

fn decoder<'a, R: Read>(
    from: R,
    prefix: &'a [u8],
) -> io::Result<zstd::stream::read::Decoder<'a, BufReader<R>>> {
    let from = BufReader::new(from);
    let mut decoder = if prefix.is_empty() {
        zstd::stream::read::Decoder::with_buffer(from)?
    } else {
        zstd::stream::read::Decoder::with_ref_prefix(from, prefix)?
    };
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder.single_frame())
}

/// The incoming parts as a stream.
struct Parts {
    incoming: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.incoming.recv() {
                Ok(part) => self.current = io::Cursor::new(part),
                Err(_) => return Ok(0),
            }
        }
    }
}

/// Decodes one pack on a thread of its own.
struct Unpack {
    base: Base,
    uses: Arc<HashMap<BlobId, Use>>,
    blobs: Vec<(BlobId, u64)>,
    prefix: Option<BlobId>,
    temp: PathBuf,
}

impl Unpack {
    fn run(self, incoming: Receiver<Vec<u8>>) -> Result<(u64, u64)> {
        let stored = self.unpack(incoming);
        // Also after a failure: on a full disk this makes room again.
        let _ = std::fs::remove_file(&self.temp);
        stored
    }

    fn unpack(&self, incoming: Receiver<Vec<u8>>) -> Result<(u64, u64)> {
        let mut stored = (0, 0);
        let Some(prefix) = self.prefix_bytes() else {
            return Ok(stored);
        };
        let parts = Parts {
            incoming,
            current: io::Cursor::default(),
        };
        let Ok(mut decoder) = decoder(parts, &prefix) else {
            return Ok(stored);
        };
        for (blob, length) in &self.blobs {
            // A blob nobody asked for, or of another length: the pack is not to be trusted.
            let Some(one) = self.uses.get(blob).filter(|one| one.length == *length) else {
                break;
            };
            if !self.store(&mut decoder, blob, one)? {
                break;
            }
            stored.0 += 1;
            stored.1 += *length;
        }
        Ok(stored)
    }

    /// The reference content, checked; `None` when it is not here or not what it should be.
    fn prefix_bytes(&self) -> Option<Vec<u8>> {
        let Some(blob) = self.prefix else {
            return Some(Vec::new());
        };
        let read = |executable| std::fs::read(blobs::path(&self.base, &blob, executable)).ok();
        read(false)
            .or_else(|| read(true))
            .filter(|bytes| BlobId::of(bytes) == blob)
    }

    /// Writes one blob; `false` when the stream does not hold it.
    fn store(&self, from: &mut impl Read, blob: &BlobId, one: &Use) -> Result<bool> {
        let mut file = File::create(&self.temp).at("write", &self.temp)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = one.length;
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let Ok(count @ 1..) = from.read(&mut buffer[..wanted]) else {
                return Ok(false);
            };
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).at("write", &self.temp)?;
            left -= count as u64;
        }
        drop(file);
        if BlobId::from(hasher.finalize()) != *blob {
            return Ok(false);
        }
        if one.plain && one.executable {
            let copy = self.temp.with_extension("x");
            std::fs::copy(&self.temp, &copy).at("write", &copy)?;
            blobs::place(&self.base, &copy, blob, true)?;
        }
        blobs::place(&self.base, &self.temp, blob, !one.plain)?;
        Ok(true)
    }
}
