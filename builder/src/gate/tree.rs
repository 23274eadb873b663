//! A tree, read once for all gates: every path, and the text files that are the application's own.
//!
//! Own is what the project's people write: not packages (`vendor`, `node_modules`), not what is
//! compiled from other files of the tree (`public/build`) or published from packages
//! (`public/vendor`).

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::LeftOut;
use super::answer::Finding;

/// Own files beyond this size are data, not code.
const MAX_OWN: u64 = 1 << 20;
/// A NUL byte up to here makes a file a binary one, as git sees it.
const HEAD: u64 = 8000;
/// Files that are never opened; names of kinds whose content is compressed or drawn.
const BINARY: [&str; 22] = [
    "avif", "bmp", "eot", "gif", "gz", "ico", "jpeg", "jpg", "mp3", "mp4", "otf", "pdf", "png",
    "sqlite", "tiff", "ttf", "wasm", "webm", "webp", "woff", "woff2", "zip",
];

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Folder,
    File,
    Other,
}

/// A text file of the application's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnFile {
    /// Raw bytes, relative to the tree.
    pub(crate) path: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

/// A tree as the gates see it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    /// Everything that would be released, sorted by raw bytes.
    pub(crate) paths: Vec<(Vec<u8>, Kind)>,
    /// Sorted by path.
    pub(crate) own: Vec<OwnFile>,
    /// What could not be read.
    pub(crate) unread: Vec<Finding>,
}

impl Tree {
    /// Reads the tree below `root`. What cannot be read is noted, not passed over.
    pub(crate) fn read(root: &Path, left_out: &LeftOut) -> Self {
        let mut tree = Self::listed(root, left_out);
        let own: Vec<&Vec<u8>> = tree
            .paths
            .iter()
            .filter(|(path, kind)| *kind == Kind::File && is_own_text(path))
            .map(|(path, _)| path)
            .collect();
        let read: Vec<_> = own
            .into_par_iter()
            .map(|path| (path, text_of(&tree.place(path))))
            .collect();
        for (path, text) in read {
            match text {
                Ok(Some(bytes)) => tree.own.push(OwnFile {
                    path: path.clone(),
                    bytes,
                }),
                Ok(None) => {}
                Err(error) => tree.unread.push(cannot_read(path, &error)),
            }
        }
        tree
    }

    /// The tree without the content of its files.
    pub(crate) fn listed(root: &Path, left_out: &LeftOut) -> Self {
        let below = |path: &Path| {
            let inner = path.strip_prefix(root).unwrap_or(path);
            inner.as_os_str().as_bytes().to_vec()
        };
        let walk = walkdir::WalkDir::new(root)
            .min_depth(1)
            .into_iter()
            .filter_entry(|entry| entry.depth() == 0 || !left_out.takes(&below(entry.path())));
        let (mut paths, mut unread) = (Vec::new(), Vec::new());
        for entry in walk {
            match entry {
                Ok(entry) => {
                    let kind = match entry.file_type() {
                        kind if kind.is_dir() => Kind::Folder,
                        kind if kind.is_file() => Kind::File,
                        _ => Kind::Other,
                    };
                    paths.push((below(entry.path()), kind));
                }
                Err(error) => {
                    let path = error.path().map(&below).unwrap_or_default();
                    unread.push(cannot_read(&path, &error.into()));
                }
            }
        }
        paths.sort_unstable();
        Self {
            root: root.to_owned(),
            paths,
            own: Vec::new(),
            unread,
        }
    }

    /// Where a path of the tree lies on this machine.
    pub(crate) fn place(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsString::from_vec(path.to_vec()))
    }

    /// Whether the tree has this very path as a regular file.
    pub(crate) fn has_file(&self, path: &[u8]) -> bool {
        let found = self
            .paths
            .binary_search_by(|(known, _)| known.as_slice().cmp(path));
        found.is_ok_and(|at| self.paths[at].1 == Kind::File)
    }

    /// The own files whose names end so.
    pub(crate) fn own_ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a OwnFile> {
        self.own
            .iter()
            .filter(move |file| file.path.ends_with(end.as_bytes()))
    }

    /// The own files of PHP code; Blade templates are not.
    pub(crate) fn own_php(&self) -> impl Iterator<Item = &OwnFile> {
        self.own_ending(".php")
            .filter(|file| !file.path.ends_with(b".blade.php"))
    }
}

fn cannot_read(path: &[u8], error: &std::io::Error) -> Finding {
    Finding::at(path, format!("cannot be read: {error}"))
}

fn is_own_text(path: &[u8]) -> bool {
    let mut names = path.split(|&byte| byte == b'/');
    let packages = path.starts_with(b"vendor/") || names.any(|name| name == b"node_modules");
    let made = path.starts_with(b"public/build/") || path.starts_with(b"public/vendor/");
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let extension = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    let binary = BINARY
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known.as_bytes()));
    !packages && !made && !binary
}

/// The bytes of a text file of reasonable size.
fn text_of(place: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = File::open(place)?;
    let mut bytes = Vec::new();
    (&mut file).take(HEAD).read_to_end(&mut bytes)?;
    if bytes.contains(&0) {
        return Ok(None);
    }
    // One byte more than is wanted tells whether there is more.
    let rest = MAX_OWN + 1 - bytes.len() as u64;
    file.take(rest).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_OWN).then_some(bytes))
}

/// The line, from 1, in which a byte lies.
pub(crate) fn line_at(bytes: &[u8], offset: usize) -> usize {
    let before = bytes.iter().take(offset);
    before.filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
pub(crate) mod testing {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A folder with these files.
    pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    /// What a gate finds in a tree of these files, each as its sentence.
    pub(crate) fn found(
        ask: impl Fn(&Tree) -> super::super::answer::Answer,
        files: &[(&str, &str)],
    ) -> Vec<String> {
        let root = folder(files);
        let answer = ask(&Tree::read(root.path(), &LeftOut::default()));
        answer.findings.iter().map(Finding::text).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::testing::folder;
    use super::*;

    #[test]
    fn own_files_are_texts_that_the_project_wrote() {
        let big = "x".repeat(MAX_OWN as usize);
        let root = folder(&[
            ("app/a.php", "a"),
            ("public/index.php", "b"),
            ("public/build/a.js", "c"),
            ("public/vendor/telescope/a.js", "c"),
            ("vendor/a/b.php", "c"),
            ("resources/node_modules/a.js", "c"),
            ("public/logo.PNG", "c"),
            ("app/binary", "c\0"),
            ("app/limit", &big),
            ("app/over", &format!("{big}x")),
        ]);
        std::os::unix::fs::symlink("a.php", root.path().join("app/link.php")).unwrap();
        let tree = Tree::read(root.path(), &LeftOut::default());
        let own: Vec<&[u8]> = tree.own.iter().map(|file| file.path.as_slice()).collect();
        let expected: [&[u8]; 3] = [b"app/a.php", b"app/limit", b"public/index.php"];
        assert_eq!(own, expected);
        assert_eq!(tree.own[1].bytes.len() as u64, MAX_OWN);
        assert!(tree.has_file(b"vendor/a/b.php") && !tree.has_file(b"vendor/a"));
        assert_eq!(tree.unread, []);
    }

    #[test]
    fn lines_are_counted_from_one() {
        assert_eq!(line_at(b"a\nb\nc", 0), 1);
        assert_eq!(line_at(b"a\nb\nc", 2), 2);
        assert_eq!(line_at(b"a", 99), 1);
    }
}
