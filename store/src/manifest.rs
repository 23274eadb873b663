//! The manifest: canonical text of a release's content and layout. Its BLAKE3 is the release id.
//!
//! ```text
//! relstore-manifest 1
//! f<TAB>220<TAB><64 hex digits><TAB>public/index.php
//! l<TAB>-<TAB>../storage/app/public<TAB>public/storage
//! S<TAB>-<TAB>-<TAB>storage
//! ```
//! One line per entry: kind, size, blob id or link target, path; `-` where a field does not apply;
//! lines strictly increasing by raw path bytes; paths and targets in the escaped spelling of
//! [`crate::name`]. [`Manifest::parse`] accepts exactly what [`Manifest::to_text`] writes, so one
//! release has one id. A manifest holds no time, owner, host or commit.

use crate::id::{BlobId, ReleaseId};
use crate::name::{EntryPath, LinkTarget, NameError};

/// First line of every manifest.
pub const MAGIC: &str = "relstore-manifest 1";
/// Largest manifest that is read, in bytes: about two million entries.
pub const MAX_MANIFEST: u64 = 256 << 20;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `f`: a regular file (0444 on hosts). Size in bytes.
    File {
        /// Length of the content in bytes.
        size: u64,
        /// Digest of the content.
        blob: BlobId,
    },
    /// `x`: an executable file (0555 on hosts).
    Executable {
        /// Length of the content in bytes.
        size: u64,
        /// Digest of the content.
        blob: BlobId,
    },
    /// `l`: a symbolic link that stays inside the release.
    Link {
        /// Where it points.
        target: LinkTarget,
    },
    /// `d`: a folder with nothing in it.
    EmptyDir,
    /// `s`: a file that lives in the host's shared folder, such as `.env`.
    SharedFile,
    /// `S`: a folder that lives in the host's shared folder, such as `storage`.
    SharedDir,
    /// `w`: a folder of the release that is written on the host, such as `bootstrap/cache`.
    WritableDir,
}

impl Kind {
    /// The letter that names the kind in a manifest.
    #[must_use]
    pub const fn letter(&self) -> char {
        match self {
            Self::File { .. } => 'f',
            Self::Executable { .. } => 'x',
            Self::Link { .. } => 'l',
            Self::EmptyDir => 'd',
            Self::SharedFile => 's',
            Self::SharedDir => 'S',
            Self::WritableDir => 'w',
        }
    }

    /// Size in bytes and digest of a file's content; `None` for all that is no file.
    #[must_use]
    pub const fn content(&self) -> Option<(BlobId, u64)> {
        match self {
            Self::File { size, blob } | Self::Executable { size, blob } => Some((*blob, *size)),
            _ => None,
        }
    }

    /// Whether the entry is a file that may be run.
    #[must_use]
    pub const fn is_executable(&self) -> bool {
        matches!(self, Self::Executable { .. })
    }
}

/// One line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies, relative to the release.
    pub path: EntryPath,
    /// What it is.
    pub kind: Kind,
}

/// Why bytes or entries are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The first line is another one: not a manifest, or one of a newer format.
    #[error("the first line is not `{MAGIC}`")]
    Magic,
    /// A line that the writer would not have written.
    #[error("line {line}: {what}")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A path or link target that is refused.
    #[error("line {line}")]
    Name {
        /// Line number, from 1.
        line: usize,
        /// The reason.
        source: NameError,
    },
    /// Two entries with one path; materialising it could let either win.
    #[error("`{path}` appears twice")]
    Duplicate {
        /// The path.
        path: EntryPath,
    },
    /// Lines out of order: one release would have several spellings.
    #[error("`{path}` is not in order")]
    Order {
        /// The first path that is too small.
        path: EntryPath,
    },
    /// An entry below something that can hold no such entry.
    #[error("`{path}` may not lie below `{ancestor}` (kind {kind})")]
    Below {
        /// The inner path.
        path: EntryPath,
        /// The outer path.
        ancestor: EntryPath,
        /// Kind letter of the outer entry.
        kind: char,
    },
    /// One blob id with two sizes: one of them lies.
    #[error("blob {blob} has two sizes")]
    TwoSizes {
        /// The blob.
        blob: BlobId,
    },
    /// Larger than [`MAX_MANIFEST`].
    #[error("larger than {MAX_MANIFEST} bytes")]
    TooLarge,
}

/// All entries of a release, sorted by raw path bytes and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// Sorts and checks entries in any order.
    ///
    /// # Errors
    /// [`ManifestError::Duplicate`], [`ManifestError::Below`], [`ManifestError::TwoSizes`].
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(ManifestError::Duplicate {
                path: pair[0].path.clone(),
            });
        }
        check_nesting(&entries)?;
        check_sizes(&entries)?;
        Ok(Self { entries })
    }

    /// Reads the canonical text.
    ///
    /// # Errors
    /// A [`ManifestError`] for whatever [`Manifest::to_text`] would not have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLarge);
        }
        let body = bytes
            .strip_prefix(MAGIC.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"\n"))
            .ok_or(ManifestError::Magic)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut rest = body;
        let mut line = 1;
        while !rest.is_empty() {
            line += 1;
            let end = rest
                .iter()
                .position(|&b| b == b'\n')
                .ok_or(ManifestError::Line {
                    line,
                    what: "the last line has no line feed",
                })?;
            let entry = parse_line(&rest[..end], line)?;
            if let Some(last) = entries.last() {
                match last.path.cmp(&entry.path) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => {
                        return Err(ManifestError::Duplicate { path: entry.path });
                    }
                    std::cmp::Ordering::Greater => {
                        return Err(ManifestError::Order { path: entry.path });
                    }
                }
            }
            entries.push(entry);
            rest = &rest[end + 1..];
        }
        check_nesting(&entries)?;
        check_sizes(&entries)?;
        Ok(Self { entries })
    }

    /// The canonical text.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = String::with_capacity(32 + self.entries.len() * 128);
        text.push_str(MAGIC);
        text.push('\n');
        for entry in &self.entries {
            let kind = entry.kind.letter();
            let line = match &entry.kind {
                Kind::File { size, blob } | Kind::Executable { size, blob } => {
                    format!("{kind}\t{size}\t{blob}\t{}\n", entry.path)
                }
                Kind::Link { target } => format!("{kind}\t-\t{target}\t{}\n", entry.path),
                _ => format!("{kind}\t-\t-\t{}\n", entry.path),
            };
            text.push_str(&line);
        }
        text.into_bytes()
    }

    /// The release id: BLAKE3 of the canonical text.
    #[must_use]
    pub fn id(&self) -> ReleaseId {
        ReleaseId::of(&self.to_text())
    }

    /// All entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at exactly this path.
    #[must_use]
    pub fn get(&self, path: &EntryPath) -> Option<&Entry> {
        self.entries
            .binary_search_by(|entry| entry.path.cmp(path))
            .ok()
            .map(|at| &self.entries[at])
    }

    /// Every distinct blob with its size in bytes.
    #[must_use]
    pub fn blobs(&self) -> std::collections::BTreeMap<BlobId, u64> {
        self.entries
            .iter()
            .filter_map(|entry| entry.kind.content())
            .collect()
    }

    /// Sum of the sizes of all files in bytes, equal ones counted each time.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.entries
            .iter()
            .filter_map(|entry| entry.kind.content())
            .map(|(_, size)| size)
            .fold(0, u64::saturating_add)
    }

    /// Number of files (kinds `f` and `x`).
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.kind.content().is_some())
            .count()
    }

    /// Splits the entries: what is laid out and verified on a host, and what is only the first
    /// content of a shared folder (all that lies below an `S`).
    #[must_use]
    pub fn split_initial(&self) -> (Vec<&Entry>, Vec<&Entry>) {
        let mut laid_out = Vec::with_capacity(self.entries.len());
        let mut initial = Vec::new();
        let mut shared: Vec<&EntryPath> = Vec::new();
        for entry in &self.entries {
            if shared.iter().any(|folder| entry.path.is_below(folder)) {
                initial.push(entry);
                continue;
            }
            if entry.kind == Kind::SharedDir {
                shared.push(&entry.path);
            }
            laid_out.push(entry);
        }
        (laid_out, initial)
    }
}

fn parse_line(line_bytes: &[u8], line: usize) -> Result<Entry, ManifestError> {
    let fail = |what| ManifestError::Line { line, what };
    let mut fields = line_bytes.split(|&b| b == b'\t');
    let mut next = || fields.next().ok_or(fail("fewer than four fields"));
    let (kind, size, middle, path) = (next()?, next()?, next()?, next()?);
    if fields.next().is_some() {
        return Err(fail("more than four fields"));
    }
    let name = |source| ManifestError::Name { line, source };
    let path = EntryPath::from_escaped(path).map_err(name)?;
    let without_size = || {
        if size == b"-" {
            Ok(())
        } else {
            Err(fail("a size where none belongs"))
        }
    };
    let bare = |kind| {
        without_size()?;
        if middle == b"-" {
            Ok(kind)
        } else {
            Err(fail("a blob id or target where none belongs"))
        }
    };
    let content = || {
        let digits = std::str::from_utf8(size).map_err(|_| fail("the size is not a number"))?;
        let canonical = digits == "0"
            || (!digits.starts_with('0')
                && !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit()));
        let size = digits
            .parse::<u64>()
            .ok()
            .filter(|_| canonical)
            .ok_or(fail("the size is not a number"))?;
        let blob = std::str::from_utf8(middle)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(fail("the blob id is not 64 hex digits"))?;
        Ok::<_, ManifestError>((size, blob))
    };
    let kind = match kind {
        b"f" => content().map(|(size, blob)| Kind::File { size, blob })?,
        b"x" => content().map(|(size, blob)| Kind::Executable { size, blob })?,
        b"l" => {
            without_size()?;
            let raw = crate::name::unescape(middle).map_err(name)?;
            Kind::Link {
                target: LinkTarget::new(raw, &path).map_err(name)?,
            }
        }
        b"d" => bare(Kind::EmptyDir)?,
        b"s" => bare(Kind::SharedFile)?,
        b"S" => bare(Kind::SharedDir)?,
        b"w" => bare(Kind::WritableDir)?,
        _ => return Err(fail("unknown kind")),
    };
    Ok(Entry { path, kind })
}

/// Refuses entries below what cannot hold them. Sorted order alone does not put a folder beside
/// its content (`a`, `a-b`, `a/b`), hence a stack of all entries whose bytes begin the path.
fn check_nesting(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut stack: Vec<&Entry> = Vec::new();
    for entry in entries {
        while stack
            .last()
            .is_some_and(|top| !entry.path.as_bytes().starts_with(top.path.as_bytes()))
        {
            stack.pop();
        }
        for outer in stack
            .iter()
            .filter(|outer| entry.path.is_below(&outer.path))
        {
            let allowed = match outer.kind {
                Kind::WritableDir => matches!(
                    entry.kind,
                    Kind::SharedFile | Kind::SharedDir | Kind::WritableDir
                ),
                Kind::SharedDir => {
                    matches!(
                        entry.kind,
                        Kind::File { .. }
                            | Kind::Executable { .. }
                            | Kind::Link { .. }
                            | Kind::EmptyDir
                    )
                }
                _ => false,
            };
            if !allowed {
                return Err(ManifestError::Below {
                    path: entry.path.clone(),
                    ancestor: outer.path.clone(),
                    kind: outer.kind.letter(),
                });
            }
        }
        stack.push(entry);
    }
    Ok(())
}

fn check_sizes(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut sizes = std::collections::HashMap::new();
    for (blob, size) in entries.iter().filter_map(|entry| entry.kind.content()) {
        if *sizes.entry(blob).or_insert(size) != size {
            return Err(ManifestError::TwoSizes { blob });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn file(at: &str, content: &[u8]) -> Entry {
        Entry {
            path: path(at),
            kind: Kind::File {
                size: content.len() as u64,
                blob: BlobId::of(content),
            },
        }
    }

    fn entry(at: &str, kind: Kind) -> Entry {
        Entry {
            path: path(at),
            kind,
        }
    }

    #[test]
    fn text_is_canonical_and_parses_back() {
        let manifest = Manifest::from_entries(vec![
            entry("storage", Kind::SharedDir),
            file("storage/logs/.gitignore", b"*\n"),
            file("public/index.php", b"<?php\n"),
            entry(".env", Kind::SharedFile),
            entry("bootstrap/cache", Kind::WritableDir),
            entry(
                "public/storage",
                Kind::Link {
                    target: LinkTarget::new("../storage/app/public", &path("public/storage"))
                        .unwrap(),
                },
            ),
            entry("a\u{e4}", Kind::EmptyDir),
        ])
        .unwrap();
        let text = manifest.to_text();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest);
        assert_eq!(ReleaseId::of(&text), manifest.id());
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with("relstore-manifest 1\ns\t-\t-\t.env\nd\t-\t-\ta\\xc3\\xa4\n"),
            "{text}"
        );
        let (laid_out, initial) = manifest.split_initial();
        assert_eq!((laid_out.len(), initial.len()), (6, 1));
    }

    #[test]
    fn nothing_lies_below_a_file_even_with_a_sibling_between() {
        let wrong =
            Manifest::from_entries(vec![file("a", b""), file("a-b", b""), file("a/b", b"")]);
        assert!(
            matches!(wrong, Err(ManifestError::Below { .. })),
            "{wrong:?}"
        );
        for (outer, inner, fine) in [
            (Kind::EmptyDir, Kind::EmptyDir, false),
            (Kind::SharedFile, Kind::EmptyDir, false),
            (Kind::WritableDir, Kind::EmptyDir, false),
            (Kind::WritableDir, Kind::SharedDir, true),
            (Kind::WritableDir, Kind::WritableDir, true),
            (Kind::SharedDir, Kind::EmptyDir, true),
            (Kind::SharedDir, Kind::SharedDir, false),
            (Kind::SharedDir, Kind::WritableDir, false),
        ] {
            let made = Manifest::from_entries(vec![
                entry("o", outer.clone()),
                entry("o/p/i", inner.clone()),
            ]);
            assert_eq!(made.is_ok(), fine, "{outer:?} over {inner:?}");
        }
    }

    #[test]
    fn what_the_writer_would_not_write_is_refused() {
        let id = BlobId::of(b"");
        for wrong in [
            String::new(),
            "relstore-manifest 1".into(),
            "relstore-manifest 2\n".into(),
            format!("relstore-manifest 1\nf\t00\t{id}\ta\n"),
            format!("relstore-manifest 1\nf\t+1\t{id}\ta\n"),
            format!("relstore-manifest 1\nf\t\t{id}\ta\n"),
            format!("relstore-manifest 1\nf\t18446744073709551616\t{id}\ta\n"),
            format!("relstore-manifest 1\nf\t0\t{id}\ta"),
            format!("relstore-manifest 1\nf\t0\t{id}\ta\tb\n"),
            format!("relstore-manifest 1\nf\t0\t{id}\tb\nf\t0\t{id}\ta\n"),
            format!("relstore-manifest 1\nf\t0\t{id}\ta\nf\t0\t{id}\ta\n"),
            format!("relstore-manifest 1\nf\t0\t{id}\ta\nf\t1\t{id}\tb\n"),
            format!("relstore-manifest 1\nf\t0\t{id}\t../a\n"),
            format!("relstore-manifest 1\nf\t0\t{id}\t\\x41\n"),
            "relstore-manifest 1\nl\t-\t/etc\ta\n".into(),
            "relstore-manifest 1\nl\t0\tb\ta\n".into(),
            "relstore-manifest 1\nd\t-\tx\ta\n".into(),
            "relstore-manifest 1\nq\t-\t-\ta\n".into(),
            "relstore-manifest 1\n\n".into(),
        ] {
            assert!(Manifest::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(
            Manifest::parse(b"relstore-manifest 1\n")
                .unwrap()
                .entries()
                .is_empty()
        );
    }

    #[test]
    fn sizes_that_nobody_can_have_are_added_without_overflow() {
        let file = |path: &str| Entry {
            path: EntryPath::new(path).unwrap(),
            kind: Kind::File {
                size: u64::MAX,
                blob: BlobId::of(path.as_bytes()),
            },
        };
        let manifest = Manifest::from_entries(vec![file("a"), file("b")]).unwrap();
        assert_eq!(manifest.content_bytes(), u64::MAX);
    }

    proptest! {
        #[test]
        fn parse_accepts_only_what_it_writes(body in "[fxldsSw\t0-9a-f/.\n-]{0,200}") {
            let text = format!("{MAGIC}\n{body}");
            if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
                prop_assert_eq!(manifest.to_text(), text.into_bytes());
            }
        }

        #[test]
        fn order_of_entries_does_not_change_the_id(names in proptest::collection::btree_set("[a-z]{1,3}(-[a-z]{1,2})?", 0..12), seed: u64) {
            let entries: Vec<_> = names.iter().map(|name| file(name, name.as_bytes())).collect();
            let mut shuffled = entries.clone();
            let count = shuffled.len().max(1) as u64;
            for at in 0..shuffled.len() {
                let other = (seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(at as u64) % count) as usize;
                shuffled.swap(at, other);
            }
            let one = Manifest::from_entries(entries).unwrap();
            prop_assert_eq!(one.id(), Manifest::from_entries(shuffled).unwrap().id());
            prop_assert_eq!(Manifest::parse(&one.to_text()).unwrap(), one);
        }
    }
}
