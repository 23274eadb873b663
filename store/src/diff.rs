//! What differs between two manifests. Pure: no content is read.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::id::BlobId;
use crate::manifest::{Entry, Kind, Manifest};
use crate::name::EntryPath;

/// How one path changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the new release has it.
    Added(Entry),
    /// Only the old release has it.
    Removed(Entry),
    /// The same content under another path.
    Renamed {
        /// Before.
        from: Entry,
        /// After.
        to: Entry,
    },
    /// Another content, link target or kind at the same path.
    Changed {
        /// Before.
        from: Entry,
        /// After.
        to: Entry,
    },
    /// The same content, executable or no longer.
    Mode {
        /// Before.
        from: Entry,
        /// After.
        to: Entry,
    },
}

impl Change {
    /// The path people look for it under: the new one, or the old one when it is gone.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        match self {
            Self::Added(entry) | Self::Removed(entry) => &entry.path,
            Self::Renamed { to, .. } | Self::Changed { to, .. } | Self::Mode { to, .. } => &to.path,
        }
    }

    /// The entries before and after.
    #[must_use]
    pub fn sides(&self) -> (Option<&Entry>, Option<&Entry>) {
        match self {
            Self::Added(entry) => (None, Some(entry)),
            Self::Removed(entry) => (Some(entry), None),
            Self::Renamed { from, to } | Self::Changed { from, to } | Self::Mode { from, to } => {
                (Some(from), Some(to))
            }
        }
    }

    /// `added`, `removed`, `renamed`, `changed` or `mode`.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::Removed(_) => "removed",
            Self::Renamed { .. } => "renamed",
            Self::Changed { .. } => "changed",
            Self::Mode { .. } => "mode",
        }
    }
}

/// Number of changes of each kind and bytes before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Paths only the new release has.
    pub added: u64,
    /// Paths only the old release has.
    pub removed: u64,
    /// Paths with another content, target or kind.
    pub changed: u64,
    /// Contents that moved.
    pub renamed: u64,
    /// Files that became executable or ceased to be.
    pub mode: u64,
    /// Bytes of all files before.
    pub old_bytes: u64,
    /// Bytes of all files after.
    pub new_bytes: u64,
}

/// All changes from `old` to `new`, by path.
#[must_use]
pub fn diff(old: &Manifest, new: &Manifest) -> Vec<Change> {
    let before: BTreeMap<&EntryPath, &Entry> = old
        .entries()
        .iter()
        .map(|entry| (&entry.path, entry))
        .collect();
    let after: BTreeMap<&EntryPath, &Entry> = new
        .entries()
        .iter()
        .map(|entry| (&entry.path, entry))
        .collect();
    let mut changes = Vec::new();
    let mut removed: Vec<&Entry> = Vec::new();
    for (path, from) in &before {
        match after.get(path) {
            None => removed.push(from),
            Some(to) if to.kind == from.kind => {}
            Some(to) => {
                let same_content =
                    from.kind.content().is_some() && from.kind.content() == to.kind.content();
                let (from, to) = ((*from).clone(), (*to).clone());
                changes.push(if same_content {
                    Change::Mode { from, to }
                } else {
                    Change::Changed { from, to }
                });
            }
        }
    }
    // A rename is a content that went away under one path and came under another. Empty files
    // say nothing about where they came from.
    let mut gone: HashMap<BlobId, Vec<&Entry>> = HashMap::new();
    for entry in removed.iter().rev() {
        if let Some((blob, 1..)) = entry.kind.content() {
            gone.entry(blob).or_default().push(entry);
        }
    }
    let mut moved: Vec<&EntryPath> = Vec::new();
    for to in after
        .iter()
        .filter(|(path, _)| !before.contains_key(*path))
        .map(|(_, entry)| *entry)
    {
        let from = to
            .kind
            .content()
            .and_then(|(blob, _)| gone.get_mut(&blob)?.pop());
        match from {
            Some(from) => {
                moved.push(&from.path);
                changes.push(Change::Renamed {
                    from: from.clone(),
                    to: to.clone(),
                });
            }
            None => changes.push(Change::Added(to.clone())),
        }
    }
    moved.sort();
    let left = removed
        .into_iter()
        .filter(|entry| moved.binary_search(&&entry.path).is_err());
    changes.extend(left.cloned().map(Change::Removed));
    changes.sort_by(|a, b| a.path().cmp(b.path()));
    changes
}

/// Counts changes.
#[must_use]
pub fn summary(old: &Manifest, new: &Manifest, changes: &[Change]) -> Summary {
    let mut sum = Summary {
        old_bytes: old.content_bytes(),
        new_bytes: new.content_bytes(),
        ..Summary::default()
    };
    for change in changes {
        match change {
            Change::Added(_) => sum.added += 1,
            Change::Removed(_) => sum.removed += 1,
            Change::Renamed { .. } => sum.renamed += 1,
            Change::Changed { .. } => sum.changed += 1,
            Change::Mode { .. } => sum.mode += 1,
        }
    }
    sum
}

/// Kind and target in words, for entries that are no files.
#[must_use]
pub fn describe(kind: &Kind) -> String {
    match kind {
        Kind::File { .. } => "file".into(),
        Kind::Executable { .. } => "executable file".into(),
        Kind::Link { target } => format!("link to {target}"),
        Kind::EmptyDir => "empty folder".into(),
        Kind::SharedFile => "shared file".into(),
        Kind::SharedDir => "shared folder".into(),
        Kind::WritableDir => "writable folder".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest(files: &[(&str, &str, bool)]) -> Manifest {
        let entry = |(path, content, executable): &(&str, &str, bool)| {
            let (size, blob) = (content.len() as u64, BlobId::of(content.as_bytes()));
            let kind = if *executable {
                Kind::Executable { size, blob }
            } else {
                Kind::File { size, blob }
            };
            Entry {
                path: EntryPath::new(*path).unwrap(),
                kind,
            }
        };
        Manifest::from_entries(files.iter().map(entry).collect()).unwrap()
    }

    fn told(old: &[(&str, &str, bool)], new: &[(&str, &str, bool)]) -> Vec<String> {
        diff(&manifest(old), &manifest(new))
            .iter()
            .map(|change| match change {
                Change::Renamed { from, to } => format!("renamed {} {}", from.path, to.path),
                other => format!("{} {}", other.verb(), other.path()),
            })
            .collect()
    }

    #[test]
    fn each_kind_of_change_is_told() {
        let old = [
            ("a", "1", false),
            ("b", "2", false),
            ("c", "3", false),
            ("e", "", false),
            ("m", "5", false),
        ];
        let new = [
            ("a", "1", false),
            ("b", "two", false),
            ("d", "3", false),
            ("f", "", false),
            ("m", "5", true),
        ];
        assert_eq!(
            told(&old, &new),
            ["changed b", "renamed c d", "removed e", "added f", "mode m"]
        );
        assert!(told(&old, &old).is_empty());
    }

    #[test]
    fn two_equal_files_are_renamed_one_to_one() {
        let old = [("a", "x", false), ("b", "x", false)];
        let new = [("c", "x", false), ("d", "x", false), ("e", "x", false)];
        assert_eq!(told(&old, &new), ["renamed a c", "renamed b d", "added e"]);
    }

    #[test]
    fn summary_counts() {
        let (old, new) = (
            manifest(&[("a", "1", false)]),
            manifest(&[("b", "22", false)]),
        );
        let changes = diff(&old, &new);
        let expected = Summary {
            added: 1,
            removed: 1,
            old_bytes: 1,
            new_bytes: 2,
            ..Summary::default()
        };
        assert_eq!(summary(&old, &new, &changes), expected);
    }
}
