//! What differs between two trees that should be the same. A file whose name holds a hash of its
//! content (`app-r37Ue4QT.css`) and that changed is one difference, not a file that went and
//! another one that came.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use relstore_store::diff::{Change, diff};
use relstore_store::import::{Layout, ReleaseTree, manifest_of};
use relstore_store::manifest::{Entry, Kind, Manifest};
use relstore_store::name::EntryPath;

use crate::error::BuildError;

/// Length of the hash that Vite puts into a name.
const VITE_HASH: usize = 8;
/// A name that is a hash and nothing else has at least so many hex digits.
const WHOLE_HASH: usize = 32;

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Missing,
    /// A file with another content.
    Content,
    /// A file under another name, its content mostly another one, too.
    Name,
    /// The same content, executable or not.
    Mode,
    /// A link to somewhere else.
    Link,
    /// A file here, a link or a folder there.
    Type,
}

impl DifferenceKind {
    /// Its name in reports and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Missing => "missing",
            Self::Content => "content",
            Self::Name => "name",
            Self::Mode => "mode",
            Self::Link => "link",
            Self::Type => "type",
        }
    }
}

/// One difference; at least one side is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How it differs.
    pub kind: DifferenceKind,
    /// What the first tree has.
    pub first: Option<Entry>,
    /// What the second tree has.
    pub second: Option<Entry>,
    path: EntryPath,
}

impl Difference {
    pub(super) fn new(
        kind: DifferenceKind,
        first: Option<&Entry>,
        second: Option<&Entry>,
    ) -> Option<Self> {
        let path = first.or(second)?.path.clone();
        let (first, second) = (first.cloned(), second.cloned());
        Some(Self {
            kind,
            first,
            second,
            path,
        })
    }

    /// Returns its path in the first tree, or in the second when only that one has it.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// Returns its path in the second tree when that is another one.
    #[must_use]
    pub fn other_path(&self) -> Option<&EntryPath> {
        let other = &self.second.as_ref()?.path;
        (other != self.path()).then_some(other)
    }

    /// Returns what it has in common with the same file of a third build, whatever hash its name
    /// has there.
    pub(super) fn family(&self) -> Vec<u8> {
        family(self.path().as_bytes())
    }
}

/// Returns the differences between two trees, sorted by path.
///
/// # Errors
/// [`BuildError::Store`] when one of them cannot be a release.
pub fn compare(one: &Path, two: &Path) -> Result<Vec<Difference>, BuildError> {
    Ok(differences(&manifest(one)?, &manifest(two)?))
}

/// Hashes a tree. What hosts lay out besides is the same for each build and left out.
pub(super) fn manifest(root: &Path) -> Result<Manifest, BuildError> {
    let tree = ReleaseTree {
        root: root.to_owned(),
        layout: Layout::default(),
    };
    Ok(manifest_of(&tree, &|_| {})?)
}

/// Compares two manifests.
pub(super) fn differences(one: &Manifest, two: &Manifest) -> Vec<Difference> {
    let changes = diff(one, two);
    let mut gone: BTreeMap<Vec<u8>, VecDeque<&Entry>> = BTreeMap::new();
    for change in &changes {
        if let Change::Removed(entry) = change
            && entry.kind.content().is_some()
        {
            gone.entry(family(entry.path.as_bytes()))
                .or_default()
                .push_back(entry);
        }
    }
    let mut found = Vec::new();
    for change in &changes {
        let (first, second) = change.sides();
        let (kind, first) = match change {
            // Those that found no other name are added below.
            Change::Removed(entry) if entry.kind.content().is_some() => continue,
            Change::Removed(_) => (DifferenceKind::Missing, first),
            Change::Added(entry) => match partner(&mut gone, entry) {
                Some(before) => (DifferenceKind::Name, Some(before)),
                None => (DifferenceKind::Added, None),
            },
            Change::Renamed { .. } => (DifferenceKind::Name, first),
            Change::Mode { .. } => (DifferenceKind::Mode, first),
            Change::Changed { from, to } => (changed(&from.kind, &to.kind), first),
        };
        found.extend(Difference::new(kind, first, second));
    }
    let left = gone.into_values().flatten();
    found.extend(
        left.filter_map(|entry| Difference::new(DifferenceKind::Missing, Some(entry), None)),
    );
    found.sort_by(|one, two| one.path().cmp(two.path()));
    found
}

fn partner<'a>(
    gone: &mut BTreeMap<Vec<u8>, VecDeque<&'a Entry>>,
    entry: &Entry,
) -> Option<&'a Entry> {
    entry.kind.content()?;
    gone.get_mut(&family(entry.path.as_bytes()))?.pop_front()
}

const fn changed(from: &Kind, to: &Kind) -> DifferenceKind {
    match (from, to) {
        (Kind::Link { .. }, Kind::Link { .. }) => DifferenceKind::Link,
        (from, to) if from.content().is_some() && to.content().is_some() => DifferenceKind::Content,
        _ => DifferenceKind::Type,
    }
}

/// Returns the path with the hash in its name replaced by `*`.
fn family(path: &[u8]) -> Vec<u8> {
    let name_start = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(name_start);
    let stem_end = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .unwrap_or(name.len());
    let (stem, extension) = name.split_at(stem_end);
    let kept = stem_without_hash(stem);
    if kept.len() == stem.len() {
        return path.to_owned();
    }
    [folder, kept, b"*", extension].concat()
}

/// Cuts off `-XXXXXXXX` as Vite writes it, `.` and hex digits as webpack does, or all when it is a hash.
fn stem_without_hash(stem: &[u8]) -> &[u8] {
    let is_hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    if stem.len() >= WHOLE_HASH && is_hex(stem) {
        return b"";
    }
    if let Some(split) = stem.len().checked_sub(VITE_HASH + 1)
        && matches!(stem[split], b'-' | b'.')
        && stem[split + 1..].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        // A word is no hash.
        && !stem[split + 1..].iter().all(u8::is_ascii_lowercase)
    {
        return &stem[..split];
    }
    match stem
        .iter()
        .rposition(|byte| matches!(byte, b'-' | b'.' | b'_'))
    {
        Some(split) if stem.len() - split > VITE_HASH && is_hex(&stem[split + 1..]) => {
            &stem[..split]
        }
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => std::fs::write(path, content).unwrap(),
            }
        }
        root
    }

    fn found(one: &tempfile::TempDir, two: &tempfile::TempDir) -> Vec<(&'static str, String)> {
        let differences = compare(one.path(), two.path()).unwrap();
        differences
            .iter()
            .map(|found| (found.kind.name(), found.path().to_string()))
            .collect()
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let one = tree(&[
            ("a", "1"),
            ("b", "1"),
            ("l", "-> a"),
            ("m", "1"),
            ("same", "1"),
            ("t", "1"),
        ]);
        let two = tree(&[
            ("b", "2"),
            ("l", "-> b"),
            ("m", "1"),
            ("n", "x"),
            ("same", "1"),
            ("t", "-> a"),
        ]);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(two.path().join("m"), mode).unwrap();
        let expected = [
            ("missing", "a"),
            ("content", "b"),
            ("link", "l"),
            ("mode", "m"),
            ("added", "n"),
            ("type", "t"),
        ];
        assert_eq!(
            found(&one, &two),
            expected.map(|(kind, path)| (kind, path.to_owned()))
        );
        assert_eq!(found(&one, &one), []);
    }

    #[test]
    fn file_with_another_hash_in_its_name_is_one_difference() {
        let one = tree(&[
            ("build/app-r37Ue4QT.css", "1"),
            ("build/app-_edgaf5Y.js", "1"),
            ("build/app-old", "1"),
        ]);
        let two = tree(&[
            ("build/app-COLz0-Ks.css", "2"),
            ("build/app-a0b1c2d3.js", "2"),
            ("build/app-new", "2"),
        ]);
        let expected = [
            ("name", "build/app-_edgaf5Y.js"),
            ("added", "build/app-new"),
            ("missing", "build/app-old"),
            ("name", "build/app-r37Ue4QT.css"),
        ];
        assert_eq!(
            found(&one, &two),
            expected.map(|(kind, path)| (kind, path.to_owned()))
        );
        let other = compare(one.path(), two.path()).unwrap()[0]
            .other_path()
            .unwrap()
            .to_string();
        assert_eq!(other, "build/app-a0b1c2d3.js");
    }

    #[test]
    fn same_content_under_another_name_is_a_difference() {
        let (one, two) = (tree(&[("dump-1", "x")]), tree(&[("dump-2", "x")]));
        let differences = compare(one.path(), two.path()).unwrap();
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].kind, DifferenceKind::Name);
        let paths = (differences[0].path(), differences[0].other_path().unwrap());
        assert_eq!(
            (paths.0.to_string(), paths.1.to_string()),
            ("dump-1".to_owned(), "dump-2".to_owned())
        );
    }

    #[test]
    fn hash_in_a_name_is_told_from_a_word() {
        for (path, expected) in [
            ("build/assets/app-r37Ue4QT.css", "build/assets/app*.css"),
            ("js/app.0123456789abcdef.js", "js/app*.js"),
            (
                "views/da39a3ee5e6b4b0d3255bfef95601890afd80709.php",
                "views/*.php",
            ),
            ("app/user-settings.php", "app/user-settings.php"),
            ("app/x.php", "app/x.php"),
            ("noname", "noname"),
            ("", ""),
        ] {
            assert_eq!(family(path.as_bytes()), expected.as_bytes());
        }
    }
}
