//! An archive that somebody made becomes a private folder, from which [`crate::imported`] makes a
//! release. When a list of sums lies beside it, the archive must be the one that it names.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use relstore_store::archive::{Label, unpack};
use relstore_store::stop::Stop;

use crate::error::{BuildError, IoContext};
use crate::private_folder::PrivateFolder;

/// Longest list of sums that is read.
const MAX_SUMS: u64 = 1 << 20;

/// An archive that lies unpacked in a private folder, which is removed when this is dropped.
#[derive(Debug)]
pub struct UnpackedArchive {
    folder: PathBuf,
    label: Option<Label>,
    name: String,
    sha256: String,
    _private: PrivateFolder,
}

impl UnpackedArchive {
    /// Unpacks a file below `scratch`, the folder for caches and private folders.
    ///
    /// # Errors
    /// [`BuildError::Archive`], [`BuildError::Sum`], [`BuildError::Io`].
    pub async fn of(file: &Path, scratch: &Path) -> Result<Self, BuildError> {
        let (file, builds) = (file.to_owned(), scratch.join("builds"));
        // Held until it is unpacked.
        let (stop, _waiting) = Stop::new();
        let work = move || {
            let mut maker = DirBuilder::new();
            let made = maker.recursive(true).mode(0o700).create(&builds);
            made.at("create", &builds)?;
            Self::unpack(&file, PrivateFolder::create(&builds)?, &stop)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| BuildError::Interrupted)?
    }

    fn unpack(file: &Path, private: PrivateFolder, stop: &Stop) -> Result<Self, BuildError> {
        let announced = announced_sum(file)?;
        let archive = File::open(file).at("read", file)?;
        let unpacked =
            unpack(archive, private.path(), stop).map_err(|source| BuildError::Archive {
                path: file.to_owned(),
                source,
            })?;
        match announced {
            Some(announced) if announced != unpacked.sha256 => Err(BuildError::Sum {
                path: file.to_owned(),
                announced,
                found: unpacked.sha256,
            }),
            _ => Ok(Self {
                folder: unpacked.root,
                label: unpacked.label,
                name: relstore_store::name::escape(name(file).as_bytes()),
                sha256: unpacked.sha256,
                _private: private,
            }),
        }
    }

    /// The folder with the tree.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What an archive that relstore exported says about itself.
    #[must_use]
    pub fn label(&self) -> Option<&Label> {
        self.label.as_ref()
    }

    /// The file's name, escaped.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the file, in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

fn name(file: &Path) -> &OsStr {
    file.file_name().unwrap_or_default()
}

/// What `<file>.sha256` says of the file, as sha256sum and `openssl` users write it: one line with
/// the name, or a digest alone.
fn announced_sum(file: &Path) -> Result<Option<String>, BuildError> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".sha256");
    let beside = PathBuf::from(beside);
    let mut text = String::new();
    let opened = match File::open(&beside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.at("read", &beside)?,
    };
    let read = opened.take(MAX_SUMS).read_to_string(&mut text);
    read.at("read", &beside)?;
    let named = name(file).to_string_lossy();
    match sum_of(&text, &named) {
        Some(sum) => Ok(Some(sum)),
        // A list that says nothing about the file is a mistake, not an approval.
        None => Err(BuildError::NoSum {
            list: beside,
            name: named.into_owned(),
        }),
    }
}

/// The digest that a list has for a name; of a folder before the name nothing is expected.
fn sum_of(text: &str, name: &str) -> Option<String> {
    let is_sum = |text: &str| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
    let lines = || {
        text.lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
    };
    if let (Some(only), 1) = (lines().next(), lines().count())
        && is_sum(only)
    {
        return Some(only.to_ascii_lowercase());
    }
    let mut found = lines().filter_map(|line| {
        let (escaped, line) = match line.strip_prefix('\\') {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (sum, rest) = line.split_at_checked(64)?;
        let path = rest
            .strip_prefix("  ")
            .or_else(|| rest.strip_prefix(" *"))?;
        let path = match escaped {
            true => path.replace("\\n", "\n").replace("\\\\", "\\"),
            false => path.to_owned(),
        };
        let last = Path::new(&path).file_name()?.to_str()?;
        (is_sum(sum) && last == name).then(|| sum.to_ascii_lowercase())
    });
    let sum = found.next()?;
    // Two digests of one name: one of them is of something else.
    found.all(|other| other == sum).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_is_found_as_sha256sum_writes_it() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        for (text, expected) in [
            (format!("{a}  x.tar.gz\n"), Some(&a)),
            (format!("{a} *x.tar.gz\r\n"), Some(&a)),
            (format!("{b}  y.tar.gz\n{a}  dist/x.tar.gz\n"), Some(&a)),
            (format!("{}\n", a.to_uppercase()), Some(&a)),
            (format!("{a}  x.tar.gz\n{b}  x.tar.gz\n"), None),
            (format!("{a}  y.tar.gz\n"), None),
            (format!("{a}x.tar.gz\n"), None),
            (format!("{a}\n{b}\n"), None),
            ("\u{e4}\n".repeat(40), None),
            (String::new(), None),
        ] {
            assert_eq!(sum_of(&text, "x.tar.gz").as_ref(), expected, "{text}");
        }
        let escaped = format!("\\{a}  a\\\\b\n");
        assert_eq!(sum_of(&escaped, "a\\b").as_ref(), Some(&a));
    }
}
