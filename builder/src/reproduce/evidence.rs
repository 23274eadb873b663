//! What the rules about causes look at: one difference, the bytes on both sides, and how both
//! sides were built. Pure.

use super::change::{Change, changes};
use super::difference::{Difference, DifferenceKind};
use super::stretch::Stretch;
use super::tree::Circumstances;

/// One difference with all that may explain it.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) difference: &'a Difference,
    pub(super) stretch: &'a Stretch,
    /// Of the content, of the link target, and of the name.
    pub(super) changes: Vec<Change>,
    pub(super) first: &'a Circumstances,
    pub(super) second: &'a Circumstances,
}

impl<'a> Evidence<'a> {
    pub(super) fn new(
        difference: &'a Difference,
        stretch: &'a Stretch,
        first: &'a Circumstances,
        second: &'a Circumstances,
    ) -> Self {
        let path = difference.path().to_string();
        let mut found = match difference.kind {
            DifferenceKind::Added => changes("", &path),
            DifferenceKind::Missing => changes(&path, ""),
            _ => stretch
                .texts()
                .map(|(old, new)| changes(old, new))
                .unwrap_or_default(),
        };
        if let Some(other) = difference.other_path() {
            found.extend(changes(&path, &other.to_string()));
        }
        Self {
            difference,
            stretch,
            changes: found,
            first,
            second,
        }
    }

    /// The path in the first tree, or in the second when only that one has it.
    pub(super) fn path(&self) -> String {
        self.difference.path().to_string()
    }

    /// Whether one change is such on both sides; a side that has nothing there does not count.
    pub(super) fn any(&self, old: impl Fn(&Change) -> bool, new: impl Fn(&Change) -> bool) -> bool {
        self.changes.iter().any(|change| {
            (change.old.is_empty() || old(change)) && (change.new.is_empty() || new(change))
        })
    }

    /// Whether there are changes, and each is such on both sides.
    pub(super) fn every(&self, holds: impl Fn(&str, &str) -> bool) -> bool {
        !self.changes.is_empty()
            && self
                .changes
                .iter()
                .all(|change| holds(&change.old, &change.new))
    }

    /// Whether what differs has one text on the first side and the other one on the second.
    pub(super) fn mentions(&self, old: &str, new: &str) -> bool {
        if old == new || old.is_empty() || new.is_empty() {
            return false;
        }
        if !self.changes.is_empty() {
            // JSON may write `\/`.
            let has = |around: &str, text: &str| around.replace("\\/", "/").contains(text);
            return self.any(
                |change| has(&change.old_around, old),
                |change| has(&change.new_around, new),
            );
        }
        contains(&self.stretch.first, old) && contains(&self.stretch.second, new)
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
