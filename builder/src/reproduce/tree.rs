//! A tree that was built, and what has to be known about how.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::conditions::{Condition, Conditions};

/// An assembled tree of one build.
pub struct BuiltTree {
    /// The tree; nobody writes to it.
    pub tree: PathBuf,
    /// How it was built.
    pub circumstances: Circumstances,
    _keep: Box<dyn Any + Send + Sync>,
}

impl BuiltTree {
    /// Makes one; `keep` is dropped with it, such as what removes the folder.
    #[must_use]
    pub fn new(tree: PathBuf, circumstances: Circumstances, keep: impl Any + Send + Sync) -> Self {
        Self {
            tree,
            circumstances,
            _keep: Box::new(keep),
        }
    }
}

impl fmt::Debug for BuiltTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltTree")
            .field("tree", &self.tree)
            .finish_non_exhaustive()
    }
}

/// What steps could have seen of the world around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// What was asked for.
    pub conditions: Conditions,
    /// What could not be done on this machine, and why: "`faketime` is not installed".
    pub unvaried: BTreeMap<Condition, String>,
    /// The absolute path of the folder in which the steps ran, as they saw it.
    pub folder: String,
    /// The absolute path of `HOME`, as they saw it.
    pub home: String,
    /// Declared variables.
    pub env: BTreeMap<String, String>,
    /// When the build began.
    pub started: SystemTime,
    /// When the tree was complete.
    pub finished: SystemTime,
}

impl Circumstances {
    /// The time of the build in seconds since 1970, by the clock that the steps saw.
    pub(super) fn clock(&self) -> RangeInclusive<i64> {
        let offset = match self.unvaried.contains_key(&Condition::Clock) {
            true => 0,
            false => self.conditions.clock_offset,
        };
        let seconds = |time: SystemTime| {
            let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            time.as_second() + offset
        };
        seconds(self.started)..=seconds(self.finished)
    }

    /// Whether the other build ran under another condition of this kind. Where it lay is compared
    /// as it was: without a sandbox each build lies elsewhere, asked or not.
    pub(super) fn differs(&self, other: &Self, condition: Condition) -> bool {
        let value = |side: &Self| match condition {
            Condition::Place => Some(side.folder.clone()),
            Condition::Home => Some(side.home.clone()),
            _ if side.unvaried.contains_key(&condition) => None,
            _ => side.conditions.values().remove(&condition),
        };
        match (value(self), value(other)) {
            (Some(one), Some(two)) => one != two,
            _ => false,
        }
    }
}
