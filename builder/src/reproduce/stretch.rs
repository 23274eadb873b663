//! The part of two files that is looked at: all of small ones, else what lies around the first
//! byte in which they differ. So memory stays flat however large the files are.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{BuildError, IoContext};

/// Files up to this size are read whole, in bytes.
const WHOLE: u64 = 1 << 20;
/// Of larger ones so many bytes before and after the first different byte.
const AROUND: u64 = 32 << 10;
const CHUNK: usize = 64 << 10;

/// The same stretch of two files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Offset of its first byte in both files.
    pub(super) start: u64,
    /// Offset of the first byte in which the files differ, or of the shorter one's end.
    pub(super) differs_at: u64,
    pub(super) first: Vec<u8>,
    pub(super) second: Vec<u8>,
}

impl Stretch {
    /// Reads two files; one that is not given is empty.
    pub(super) fn read(first: Option<&Path>, second: Option<&Path>) -> Result<Self, BuildError> {
        let differs_at = match (first, second) {
            (Some(first), Some(second)) => first_difference(first, second)?,
            _ => 0,
        };
        let size = |path: Option<&Path>| -> Result<u64, BuildError> {
            match path {
                Some(path) => Ok(std::fs::metadata(path).at("look at", path)?.len()),
                None => Ok(0),
            }
        };
        let (start, length) = if size(first)?.max(size(second)?) <= WHOLE {
            (0, WHOLE)
        } else {
            (differs_at.saturating_sub(AROUND), 2 * AROUND)
        };
        Ok(Self {
            start,
            differs_at,
            first: part(first, start, length)?,
            second: part(second, start, length)?,
        })
    }

    /// Index of the first different byte in the stretch.
    pub(super) fn index(&self) -> usize {
        usize::try_from(self.differs_at - self.start).unwrap_or(usize::MAX)
    }

    /// Both sides as text, when both are.
    pub(super) fn texts(&self) -> Option<(&str, &str)> {
        Some((
            text(&self.first, self.start)?,
            text(&self.second, self.start)?,
        ))
    }
}

/// A stretch of a text may begin or end inside a character; a NUL is in no text.
fn text(bytes: &[u8], start: u64) -> Option<&str> {
    let skipped = match start {
        0 => 0,
        _ => bytes
            .iter()
            .take(3)
            .take_while(|byte| **byte & 0xc0 == 0x80)
            .count(),
    };
    let bytes = &bytes[skipped..];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    (!text.contains('\0')).then_some(text)
}

fn part(path: Option<&Path>, start: u64, length: u64) -> Result<Vec<u8>, BuildError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let mut file = File::open(path).at("read", path)?;
    file.seek(SeekFrom::Start(start)).at("read", path)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).at("read", path)?;
    Ok(bytes)
}

fn first_difference(first: &Path, second: &Path) -> Result<u64, BuildError> {
    let mut files = (
        File::open(first).at("read", first)?,
        File::open(second).at("read", second)?,
    );
    let mut offset = 0;
    loop {
        let one = chunk(&mut files.0).at("read", first)?;
        let two = chunk(&mut files.1).at("read", second)?;
        let same = one
            .iter()
            .zip(&two)
            .take_while(|(one, two)| one == two)
            .count();
        offset += same as u64;
        if same < one.len() || same < two.len() || one.is_empty() {
            return Ok(offset);
        }
    }
}

/// The next bytes of a file: fewer than [`CHUNK`] at its end alone.
fn chunk(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(first: &[u8], second: &[u8]) -> Stretch {
        let root = tempfile::tempdir().unwrap();
        let paths = (root.path().join("1"), root.path().join("2"));
        std::fs::write(&paths.0, first).unwrap();
        std::fs::write(&paths.1, second).unwrap();
        Stretch::read(Some(&paths.0), Some(&paths.1)).unwrap()
    }

    #[test]
    fn small_files_are_read_whole() {
        let stretch = read(b"abc", b"abd!");
        assert_eq!(
            (stretch.start, stretch.differs_at, stretch.index()),
            (0, 2, 2)
        );
        assert_eq!(stretch.texts(), Some(("abc", "abd!")));
        assert_eq!(read(b"ab", b"abc").differs_at, 2);
        assert_eq!(read(b"", b"").differs_at, 0);
        assert_eq!(read(b"\0", b"a").texts(), None);
        assert_eq!(read(b"\xff", b"a").texts(), None);
    }

    #[test]
    fn large_files_are_read_around_the_first_difference() {
        // Three bytes each, so that the stretch begins and ends inside a character.
        let mut first = "\u{20ac}".repeat(1 << 20);
        let at = 3 * (700 << 10);
        let mut second = first.clone();
        first.replace_range(at..=at + 2, "one");
        second.replace_range(at..=at + 2, "two");
        let stretch = read(first.as_bytes(), second.as_bytes());
        assert_eq!(stretch.differs_at, at as u64);
        assert_eq!(stretch.first.len() as u64, 2 * AROUND);
        assert_eq!(&stretch.first[stretch.index()..][..3], b"one");
        let (one, two) = stretch.texts().unwrap();
        assert!(one.contains("one") && two.contains("two"));
    }

    #[test]
    fn absent_file_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("1");
        std::fs::write(&path, "x").unwrap();
        let stretch = Stretch::read(None, Some(&path)).unwrap();
        assert_eq!(stretch.texts(), Some(("", "x")));
    }
}
