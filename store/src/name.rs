//! Paths and link targets inside a release: checked once, when made, so that everything after
//! may rely on them. Both are raw bytes (Linux file names are not text) with one printable ASCII
//! spelling, used in manifests and for people alike.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest path and longest link target, in bytes.
pub const MAX_PATH: usize = 1024;
/// Longest single name, in bytes (`NAME_MAX` of every file system in use).
pub const MAX_NAME: usize = 255;

/// Why bytes are not a path or a link target of a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all, or an empty name between two slashes (also a leading or trailing slash).
    #[error("`{path}` has an empty name in it")]
    Empty {
        /// The path, escaped.
        path: String,
    },
    /// `.` or `..` where a name belongs: would leave the release, or spell one file in two ways.
    #[error("`{path}` has `.` or `..` in it")]
    Dots {
        /// The path, escaped.
        path: String,
    },
    /// A NUL byte, which no file system can store.
    #[error("`{path}` has a NUL byte in it")]
    Nul {
        /// The path, escaped.
        path: String,
    },
    /// Over [`MAX_NAME`] or [`MAX_PATH`].
    #[error("`{path}` is too long (a name may have 255 bytes, a path 1024)")]
    TooLong {
        /// The path, escaped.
        path: String,
    },
    /// An absolute link target, or one with more `../` than folders above the link.
    #[error("link target `{target}` leaves the release")]
    Leaves {
        /// The target, escaped.
        target: String,
    },
    /// Text that the escaping rule would not have written.
    #[error("`{text}` is not written in the canonical way")]
    NotCanonical {
        /// The text as it stands.
        text: String,
    },
}

/// Writes bytes as printable ASCII: every byte outside 0x20-0x7e, and `\`, becomes `\xhh`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if (0x20..=0x7e).contains(&byte) && byte != b'\\' {
            out.push(char::from(byte));
        } else {
            out.push_str("\\x");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Reverses [`escape`]; refuses every text that `escape` would not have written.
///
/// # Errors
/// [`NameError::NotCanonical`].
pub fn unescape(text: &[u8]) -> Result<Vec<u8>, NameError> {
    let wrong = || NameError::NotCanonical { text: escape(text) };
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        match first {
            b'\\' => {
                let [b'x', high, low, tail @ ..] = tail else {
                    return Err(wrong());
                };
                let byte = nibble(*high)
                    .zip(nibble(*low))
                    .map(|(h, l)| h << 4 | l)
                    .ok_or_else(wrong)?;
                if (0x20..=0x7e).contains(&byte) && byte != b'\\' {
                    return Err(wrong());
                }
                out.push(byte);
                rest = tail;
            }
            0x20..=0x7e => {
                out.push(first);
                rest = tail;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(out)
}

fn check_names(names: &[u8], whole: &[u8]) -> Result<(), NameError> {
    let path = || escape(whole);
    if whole.len() > MAX_PATH {
        return Err(NameError::TooLong { path: path() });
    }
    for name in names.split(|&b| b == b'/') {
        match name {
            b"" => return Err(NameError::Empty { path: path() }),
            b"." | b".." => return Err(NameError::Dots { path: path() }),
            _ if name.contains(&0) => return Err(NameError::Nul { path: path() }),
            _ if name.len() > MAX_NAME => return Err(NameError::TooLong { path: path() }),
            _ => {}
        }
    }
    Ok(())
}

/// A path inside a release: names joined by `/`, relative, without `.` and `..`.
/// Ordered by raw bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Checks and takes raw bytes.
    ///
    /// # Errors
    /// One [`NameError`] per reason.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check_names(&bytes, &bytes)?;
        Ok(Self(bytes))
    }

    /// Reads the escaped spelling.
    ///
    /// # Errors
    /// As [`EntryPath::new`], and [`NameError::NotCanonical`].
    pub fn from_escaped(text: &[u8]) -> Result<Self, NameError> {
        Self::new(unescape(text)?)
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for system calls, relative to the release's folder.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// How many folders lie above the entry (0 at the top).
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.iter().filter(|&&b| b == b'/').count()
    }

    /// The last name.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or(&self.0)
    }

    /// The part of the name after its last dot, empty when there is none.
    #[must_use]
    pub fn extension(&self) -> &[u8] {
        let name = self.file_name();
        match name.iter().rposition(|&b| b == b'.') {
            Some(dot) if dot > 0 => &name[dot + 1..],
            _ => b"",
        }
    }

    /// Whether this path lies below `folder`.
    #[must_use]
    pub fn is_below(&self, folder: &Self) -> bool {
        self.0
            .strip_prefix(folder.0.as_slice())
            .is_some_and(|rest| rest.first() == Some(&b'/'))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

impl serde::Serialize for EntryPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for EntryPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_escaped(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// Where a symbolic link points: some `../`, no more than folders above the link, then names.
/// So no link of a release can lead out of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkTarget(Vec<u8>);

impl LinkTarget {
    /// Checks a target for the link at `link`.
    ///
    /// # Errors
    /// [`NameError::Leaves`] for absolute targets and too many `../`, else as [`EntryPath::new`].
    pub fn new(target: impl Into<Vec<u8>>, link: &EntryPath) -> Result<Self, NameError> {
        let target = target.into();
        let leaves = || NameError::Leaves {
            target: escape(&target),
        };
        if target.first() == Some(&b'/') {
            return Err(leaves());
        }
        let mut names = target.as_slice();
        let mut up = 0;
        while let Some(rest) = names.strip_prefix(b"../") {
            names = rest;
            up += 1;
        }
        if up > link.depth() {
            return Err(leaves());
        }
        check_names(names, &target)?;
        Ok(Self(target))
    }

    /// The raw bytes, as `readlink` shows them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The target for system calls.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkTarget({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn paths_that_could_leave_or_alias_are_refused() {
        for wrong in ["", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "a\0b"] {
            assert!(EntryPath::new(wrong).is_err(), "{wrong:?}");
        }
        assert!(EntryPath::new("n".repeat(256)).is_err());
        assert!(EntryPath::new(vec!["n"; 600].join("/")).is_err());
        assert!(EntryPath::new("n".repeat(255)).is_ok());
    }

    #[test]
    fn link_targets_stay_inside() {
        for (link, target, fine) in [
            ("l", "a", true),
            ("l", "../a", false),
            ("d/l", "../a", true),
            ("d/l", "../../a", false),
            ("d/l", "/etc/passwd", false),
            ("d/l", "a/../b", false),
            ("d/l", "./a", false),
            ("d/l", "", false),
            ("d/l", "..", false),
            ("d/l", "../", false),
            ("d/l", "a/", false),
        ] {
            assert_eq!(
                LinkTarget::new(target, &path(link)).is_ok(),
                fine,
                "{link} -> {target}"
            );
        }
    }

    #[test]
    fn extension_and_depth() {
        assert_eq!(path("a/b.tar.gz").extension(), b"gz");
        assert_eq!(path("a/.env").extension(), b"");
        assert_eq!(path("a/b/c").depth(), 2);
        assert!(path("a/b").is_below(&path("a")));
        assert!(!path("a-b").is_below(&path("a")));
    }

    proptest! {
        #[test]
        fn escape_is_printable_ascii_and_reverses(bytes: Vec<u8>) {
            let text = escape(&bytes);
            prop_assert!(text.bytes().all(|b| (0x20..=0x7e).contains(&b)));
            prop_assert_eq!(unescape(text.as_bytes()).unwrap(), bytes);
        }

        #[test]
        fn what_unescapes_is_canonical(text: Vec<u8>) {
            if let Ok(bytes) = unescape(&text) {
                prop_assert_eq!(escape(&bytes).into_bytes(), text);
            }
        }
    }
}
