//! Releases made by hand, and what is sent to bring them.

use std::collections::BTreeMap;
use std::io::Write;

use relstore_deployer::protocol::{self, Message, Pack, PackEnd, PackPart};
use relstore_store::id::{BlobId, ReleaseId};
use relstore_store::manifest::{Entry, Kind, Manifest};
use relstore_store::name::{EntryPath, LinkTarget};

/// A release with its contents.
#[derive(Clone)]
pub(crate) struct Tree {
    entries: Vec<Entry>,
    contents: BTreeMap<BlobId, Vec<u8>>,
}

impl Tree {
    /// Something of every kind; `text` is in `index.php`.
    pub(crate) fn site(text: &str) -> Self {
        let mut tree = Self {
            entries: Vec::new(),
            contents: BTreeMap::new(),
        };
        let target = LinkTarget::new("index.php", &path("start.php")).unwrap();
        let view = format!("{}{text}", "<p>a long page</p>\n".repeat(200));
        tree.file("index.php", text.as_bytes())
            .file("views/page.php", view.as_bytes())
            .file("empty.lock", b"")
            .executable("bin/run", b"#!/bin/sh\necho ran\n")
            .file("copy-of-run", b"#!/bin/sh\necho ran\n")
            .entry("start.php", Kind::Link { target })
            .entry("spool", Kind::EmptyDir)
            .entry(".env", Kind::SharedFile)
            .entry("storage", Kind::SharedDir)
            .file("storage/app/first.txt", b"initial")
            .entry("bootstrap/cache", Kind::WritableDir);
        tree
    }

    pub(crate) fn entry(&mut self, at: &str, kind: Kind) -> &mut Self {
        self.entries.push(Entry {
            path: path(at),
            kind,
        });
        self
    }

    pub(crate) fn file(&mut self, at: &str, content: &[u8]) -> &mut Self {
        let blob = BlobId::of(content);
        self.contents.insert(blob, content.to_vec());
        let size = content.len() as u64;
        self.entry(at, Kind::File { size, blob })
    }

    pub(crate) fn executable(&mut self, at: &str, content: &[u8]) -> &mut Self {
        let blob = BlobId::of(content);
        self.contents.insert(blob, content.to_vec());
        let size = content.len() as u64;
        self.entry(at, Kind::Executable { size, blob })
    }

    pub(crate) fn manifest(&self) -> Manifest {
        Manifest::from_entries(self.entries.clone()).unwrap()
    }

    pub(crate) fn id(&self) -> ReleaseId {
        self.manifest().id()
    }

    /// The blob of the file at this path.
    pub(crate) fn blob(&self, at: &str) -> BlobId {
        self.manifest()
            .get(&path(at))
            .unwrap()
            .kind
            .content()
            .unwrap()
            .0
    }

    pub(crate) fn blobs(&self) -> Vec<BlobId> {
        self.contents.keys().copied().collect()
    }

    /// The manifest's message, as a difference to another release's when there is one.
    pub(crate) fn manifest_message(&self, base: Option<&Self>) -> Message {
        let text = self.manifest().to_text();
        let reference = base
            .map(|base| base.manifest().to_text())
            .unwrap_or_default();
        protocol::Manifest {
            release: self.id(),
            base: base.map(Self::id),
            length: text.len() as u64,
            frame: compress(&text, &reference),
        }
        .into()
    }

    /// These blobs whole, in one pack.
    pub(crate) fn pack(&self, blobs: &[BlobId]) -> Vec<Message> {
        let list: Vec<(BlobId, u64)> = blobs
            .iter()
            .map(|blob| (*blob, self.contents[blob].len() as u64))
            .collect();
        let raw: Vec<u8> = blobs
            .iter()
            .flat_map(|blob| self.contents[blob].clone())
            .collect();
        frames(list, None, &compress(&raw, b""))
    }

    /// The blob at a path as a difference to that of another release.
    pub(crate) fn patch(&self, at: &str, old: &Self) -> Vec<Message> {
        let (blob, reference) = (self.blob(at), old.blob(at));
        let content = &self.contents[&blob];
        let list = vec![(blob, content.len() as u64)];
        frames(
            list,
            Some(reference),
            &compress(content, &old.contents[&reference]),
        )
    }
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

/// The messages of one pack around any frame.
pub(crate) fn frames(
    blobs: Vec<(BlobId, u64)>,
    prefix: Option<BlobId>,
    frame: &[u8],
) -> Vec<Message> {
    let mut messages = vec![Message::from(Pack { blobs, prefix })];
    messages.extend(frame.chunks(protocol::MAX_PART).map(|part| {
        Message::from(PackPart {
            bytes: part.to_vec(),
        })
    }));
    messages.push(PackEnd {}.into());
    messages
}

pub(crate) fn compress(content: &[u8], reference: &[u8]) -> Vec<u8> {
    let mut encoder = if reference.is_empty() {
        zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap()
    } else {
        zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 3, reference).unwrap()
    };
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
