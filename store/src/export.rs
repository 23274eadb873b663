//! A release becomes one file: an archive with the release's own paths, that needs no relstore to
//! be unpacked. The same release and version of relstore give the same bytes, whatever the store.
//!
//! ```text
//! blobs in the order of the store -> unnamed file -> members in the order of paths -> compressed
//! ```
//! Blobs lie by extension in a store, members by path in an archive; in between they lie raw in a
//! file without a name, so memory does not grow with the release. Each is compared with its id
//! when it comes and when it goes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::archive::{Format, Label, MAX_EXTENSION};
use crate::blocking::blocking;
use crate::error::{IoContext, StoreError};
use crate::id::{BlobId, ReleaseId};
use crate::index::{Index, Read as BlobRead};
use crate::manifest::{Kind, Manifest};
use crate::name::LinkTarget;
use crate::stop::Stop;
use crate::store::Store;

/// Time of every member, in seconds since 1970. A release has no time of its own, and one hash may
/// come from several commits; of 0 older versions of GNU tar warn.
const TIME: u64 = 1;
/// Of zstd and of gzip: fixed, since the bytes depend on them.
const ZSTD_LEVEL: i32 = 9;
const GZIP_LEVEL: u32 = 6;
/// How many frames a blob may lie in to be read as a whole.
const WHOLE_FRAMES: usize = 4;

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What a member of an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A file.
    File {
        /// Its content.
        blob: BlobId,
        /// Length in bytes.
        size: u64,
        /// 0755 instead of 0644.
        executable: bool,
    },
    /// A symbolic link.
    Link(LinkTarget),
    /// A folder.
    Folder,
}

/// The members of a release's archive by path, folders before what lies in them. Shared and
/// writable folders are folders with what the release has in them; shared files are left out, they
/// are no content.
#[must_use]
pub fn members(manifest: &Manifest) -> BTreeMap<Vec<u8>, Body> {
    let mut members = BTreeMap::new();
    for entry in manifest.entries() {
        let executable = entry.kind.is_executable();
        let body = match &entry.kind {
            Kind::File { size, blob } | Kind::Executable { size, blob } => Body::File {
                blob: *blob,
                size: *size,
                executable,
            },
            Kind::Link { target } => Body::Link(target.clone()),
            Kind::EmptyDir | Kind::SharedDir | Kind::WritableDir => Body::Folder,
            Kind::SharedFile => continue,
        };
        let path = entry.path.as_bytes();
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            members.entry(path[..at].to_vec()).or_insert(Body::Folder);
        }
        members.insert(path.to_vec(), body);
    }
    members
}

impl Store {
    /// Writes a release's archive into `out`. `room` is a folder on a disk that has room for all
    /// files of the release; nothing of it is ever seen there. Not durable.
    ///
    /// # Errors
    /// [`StoreError`]; `out` then holds a part.
    pub async fn export(
        &self,
        release: &ReleaseId,
        format: Format,
        room: &Path,
        out: File,
    ) -> Result<Exported, StoreError> {
        let manifest = self.manifest(release).await?;
        let raw = Arc::new(Raw::of(&manifest, room)?);
        let index = self.index().await?;
        let wanted: Vec<BlobId> = raw.places.keys().copied().collect();
        let keep = |read| self.keep(&index, &raw, read);
        futures::stream::iter(index.plan_reads(&wanted)?)
            .map(keep)
            .buffer_unordered(2 * rayon::current_num_threads())
            .try_collect::<()>()
            .await?;
        // Held until the archive is there.
        let (stop, _waiting) = Stop::new();
        let work = move || {
            Archive {
                manifest,
                raw,
                stop,
            }
            .write(format, out)
        };
        blocking(work).await?
    }

    /// Puts the blobs of one read into the raw file.
    async fn keep(&self, index: &Index, raw: &Arc<Raw>, read: BlobRead) -> Result<(), StoreError> {
        if read.frames() <= WHOLE_FRAMES {
            for (blob, bytes) in index.read(self.backend.as_ref(), &read).await? {
                raw.put(&blob, 0, bytes).await?;
            }
            return Ok(());
        }
        let mut first = None;
        for copy in index.copies_of_long(&read) {
            match self.keep_copy(index, raw, &copy).await {
                Ok(()) => return Ok(()),
                // What a damaged copy left is written over by the next.
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(StoreError::Interrupted))
    }

    /// Puts a long blob into the raw file part by part.
    async fn keep_copy(
        &self,
        index: &Index,
        raw: &Arc<Raw>,
        read: &BlobRead,
    ) -> Result<(), StoreError> {
        let (blob, parts) = index.read_parts(self.backend.as_ref(), read);
        let (mut parts, mut offset) = (std::pin::pin!(parts), 0);
        let mut digest = blake3::Hasher::new();
        while let Some(part) = parts.next().await {
            let part = part?;
            let length = part.len() as u64;
            let hashed = part.clone();
            let work = move || {
                digest.update(&hashed);
                digest
            };
            let hash = tokio::task::spawn_blocking(work);
            raw.put(&blob, offset, part).await?;
            digest = hash.await.map_err(|_| StoreError::Interrupted)?;
            offset += length;
        }
        match BlobId::from(digest.finalize()) == blob {
            true => Ok(()),
            false => Err(index.damaged(read, &blob)),
        }
    }
}

/// The raw bytes of all blobs, each once, in a file without a name.
#[derive(Debug)]
struct Raw {
    file: File,
    /// Offset and length of each.
    places: HashMap<BlobId, (u64, u64)>,
    room: std::path::PathBuf,
}

impl Raw {
    fn of(manifest: &Manifest, room: &Path) -> Result<Self, StoreError> {
        let mut offset = 0;
        let mut places = HashMap::new();
        for (blob, size) in manifest.blobs() {
            places.insert(blob, (offset, size));
            offset += size;
        }
        Ok(Self {
            file: tempfile::tempfile_in(room).at("create a file in", room)?,
            places,
            room: room.to_owned(),
        })
    }

    /// Keeps a part of a blob. More than the blob may have is an error: it would lie over others.
    async fn put(self: &Arc<Self>, blob: &BlobId, at: u64, part: Bytes) -> Result<(), StoreError> {
        let place = self.places.get(blob).copied();
        let fits = place.filter(|(_, size)| at + part.len() as u64 <= *size);
        let (offset, _) = fits.ok_or_else(|| damaged(blob))?;
        let raw = Arc::clone(self);
        let write = move || {
            raw.file
                .write_all_at(&part, offset + at)
                .at("write", &raw.room)
        };
        blocking(write).await?
    }
}

fn damaged(blob: &BlobId) -> StoreError {
    StoreError::Damaged {
        name: format!("blob {blob}"),
        what: "it does not match its id and size".into(),
    }
}

/// One archive to write.
struct Archive {
    manifest: Manifest,
    raw: Arc<Raw>,
    stop: Stop,
}

impl Archive {
    fn write(&self, format: Format, out: File) -> Result<Exported, StoreError> {
        let sink = Sink {
            out: BufWriter::with_capacity(256 << 10, out),
            digest: Sha256::new(),
            bytes: 0,
        };
        let sink = match format {
            Format::TarZst => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(sink, ZSTD_LEVEL).at("write", archive())?;
                encoder.include_checksum(true).at("write", archive())?;
                self.tar(&mut encoder)?;
                encoder.finish().at("write", archive())?
            }
            // Neither a name nor a time: their places hold zeros.
            Format::TarGz => {
                let mut encoder = GzBuilder::new().write(sink, Compression::new(GZIP_LEVEL));
                self.tar(&mut encoder)?;
                encoder.finish().at("write", archive())?
            }
            Format::Tar => {
                let mut sink = sink;
                self.tar(&mut sink)?;
                sink
            }
        };
        let digest = sink.digest.finalize();
        let mut out = sink.out;
        out.flush().at("write", archive())?;
        Ok(Exported {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            bytes: sink.bytes,
        })
    }

    fn tar(&self, out: &mut impl Write) -> Result<(), StoreError> {
        let mut tar = Builder::new(out);
        let comment = comment(&Label::of(&self.manifest).to_text());
        // Longer than anybody reads: then an import has to be told the layout.
        if comment.len() as u64 <= MAX_EXTENSION {
            let header = header(EntryType::XGlobalHeader, 0o644, comment.len() as u64);
            append(
                &mut tar,
                header,
                b"pax_global_header",
                b"",
                comment.as_bytes(),
            )
            .at("write", archive())?;
        }
        for (path, body) in members(&self.manifest) {
            if self.stop.is_over() {
                return Err(StoreError::Interrupted);
            }
            self.member(&mut tar, path, &body)?;
        }
        tar.finish().at("write", archive())
    }

    fn member(
        &self,
        tar: &mut Builder<impl Write>,
        mut path: Vec<u8>,
        body: &Body,
    ) -> Result<(), StoreError> {
        if *body == Body::Folder {
            path.push(b'/');
        }
        match body {
            Body::Folder => {
                let header = header(EntryType::Directory, 0o755, 0);
                append(tar, header, &path, b"", io::empty())
            }
            Body::Link(target) => {
                let header = header(EntryType::Symlink, 0o777, 0);
                append(tar, header, &path, target.as_bytes(), io::empty())
            }
            Body::File {
                blob,
                size,
                executable,
            } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                let header = header(EntryType::Regular, mode, *size);
                let mut content = Content {
                    raw: &self.raw,
                    at: self.raw.places.get(blob).map_or(0, |(offset, _)| *offset),
                    left: *size,
                    digest: blake3::Hasher::new(),
                };
                let written = append(tar, header, &path, b"", &mut content);
                if written.is_ok() && BlobId::from(content.digest.finalize()) != *blob {
                    return Err(damaged(blob));
                }
                written
            }
        }
        .at("write", archive())
    }
}

/// Adds a member. What is too long for its field comes in a member of GNU's before it. The crate
/// would do that for names that are text only.
fn append(
    tar: &mut Builder<impl Write>,
    mut header: Header,
    path: &[u8],
    target: &[u8],
    content: impl Read,
) -> io::Result<()> {
    for (kind, text) in [
        (EntryType::GNULongLink, target),
        (EntryType::GNULongName, path),
    ] {
        let old = header.as_old_mut();
        let field = match kind {
            EntryType::GNULongName => &mut old.name,
            _ => &mut old.linkname,
        };
        let fits = text.len().min(field.len());
        field[..fits].copy_from_slice(&text[..fits]);
        if fits < text.len() {
            let mut long = self::header(kind, 0o644, text.len() as u64 + 1);
            let name = b"././@LongLink";
            long.as_old_mut().name[..name.len()].copy_from_slice(name);
            long.set_cksum();
            tar.append(&long, text.chain(io::repeat(0).take(1)))?;
        }
    }
    header.set_cksum();
    tar.append(&header, content)
}

/// A header without owner, group and names of them.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_size(size);
    header
}

/// The file has no name here.
fn archive() -> &'static Path {
    Path::new("the archive")
}

/// A pax record, which begins with its own length.
fn comment(text: &str) -> String {
    let rest = format!(" comment={text}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

/// Counts and hashes what is written.
struct Sink {
    out: BufWriter<File>,
    digest: Sha256,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The content of one member, hashed while it is read.
struct Content<'a> {
    raw: &'a Raw,
    at: u64,
    left: u64,
    digest: blake3::Hasher,
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        self.raw.file.read_exact_at(&mut into[..wanted], self.at)?;
        self.digest.update(&into[..wanted]);
        self.at += wanted as u64;
        self.left -= wanted as u64;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manifest::Entry;
    use crate::name::EntryPath;

    #[test]
    fn members_have_their_folders_before_them_and_no_shared_file() {
        let entry = |path: &str, kind| Entry {
            path: EntryPath::new(path).unwrap(),
            kind,
        };
        let file = || Kind::File {
            size: 1,
            blob: BlobId::of(b"x"),
        };
        let manifest = Manifest::from_entries(vec![
            entry("a-b", file()),
            entry("a/b/c", file()),
            entry("config/.env", Kind::SharedFile),
            entry("storage", Kind::SharedDir),
            entry("storage/logs", Kind::EmptyDir),
        ])
        .unwrap();
        let members = members(&manifest);
        let paths: Vec<_> = members
            .keys()
            .map(|path| String::from_utf8_lossy(path))
            .collect();
        assert_eq!(
            paths,
            ["a", "a-b", "a/b", "a/b/c", "storage", "storage/logs"]
        );
        assert_eq!(members[b"a/b".as_slice()], Body::Folder);
    }

    #[test]
    fn pax_record_counts_its_own_digits() {
        for length in [0, 80, 86, 87, 88, 985, 986, 987] {
            let record = comment(&"x".repeat(length));
            let (digits, _) = record.split_once(' ').unwrap();
            assert_eq!(digits.parse::<usize>().unwrap(), record.len());
        }
    }
}
