//! A backend that stops being one at a chosen operation: what a full disk, a lost connection or the
//! end of the process does to whoever uses it.

use std::cmp::Ordering::{Equal, Greater};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::watched::{Fate, Operation, Verb, Watch, WatchedBackend};
use crate::backend::{Backend, Content};
use crate::error::StoreError;
use crate::fs::TEMP_PREFIX;

/// What happens at the chosen operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing was done.
    Before,
    /// It is done, and fails all the same: its answer is lost.
    After,
    /// It fails for want of room; only what writes can.
    Full,
    /// It and all later ones fail, and nothing is done: the process has ended.
    Killed,
    /// Half of what is to be put stays as a file without a name in this folder of a
    /// [`crate::backend::local::LocalBackend`], and all later operations fail.
    Torn(PathBuf),
}

/// A backend whose n-th operation of any kind meets a [`Fault`].
pub type FaultyBackend = WatchedBackend<Faults>;

/// Counts operations and lets one of them meet its fault.
#[derive(Debug)]
pub struct Faults {
    fault: Fault,
    at: usize,
    /// Operations that only read are not counted.
    only_writes: bool,
    begun: AtomicUsize,
}

impl FaultyBackend {
    /// Wraps `inner`; `at` counts operations from 1.
    #[must_use]
    pub fn faulty(inner: Arc<dyn Backend>, fault: Fault, at: usize) -> Self {
        Self::new(inner, Faults::new(fault, at, false))
    }

    /// The same, but `at` counts those alone that change objects.
    #[must_use]
    pub fn faulty_write(inner: Arc<dyn Backend>, fault: Fault, at: usize) -> Self {
        Self::new(inner, Faults::new(fault, at, true))
    }

    /// Whether the fault was met.
    #[must_use]
    pub fn was_met(&self) -> bool {
        self.watch.begun.load(Ordering::SeqCst) >= self.watch.at
    }
}

impl Faults {
    fn new(fault: Fault, at: usize, only_writes: bool) -> Self {
        Self {
            fault,
            at,
            only_writes,
            begun: AtomicUsize::new(0),
        }
    }

    fn error(&self, name: &str) -> StoreError {
        match self.fault {
            Fault::Full => StoreError::Io {
                what: "write",
                path: name.into(),
                source: std::io::ErrorKind::StorageFull.into(),
            },
            _ => StoreError::Interrupted,
        }
    }

    /// Leaves what a writer leaves that is stopped half-way.
    fn tear(&self, name: &str, content: &Content) {
        let Fault::Torn(root) = &self.fault else {
            return;
        };
        let bytes = match content {
            Content::Bytes(bytes) => bytes.to_vec(),
            Content::File(file) => std::fs::read(file.path()).unwrap_or_default(),
        };
        let path = root.join(name);
        let folder = path.parent().unwrap_or(root);
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        // A folder that cannot be made holds nothing torn, either.
        let _ = std::fs::create_dir_all(folder);
        let _ = std::fs::write(folder.join(format!("{TEMP_PREFIX}torn")), half);
    }
}

#[async_trait]
impl Watch for Faults {
    async fn fate(&self, operation: Operation<'_>) -> Fate {
        let Operation {
            verb,
            name,
            content,
        } = operation;
        if self.only_writes && !verb.writes() {
            return Fate::Done;
        }
        let now = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if now == self.at
            && let Some(content) = content
        {
            self.tear(name, content);
        }
        // A folder that is synced needs room as well.
        let needs_room = verb.writes() || verb == Verb::Settle;
        match (now.cmp(&self.at), &self.fault) {
            (Equal, Fault::Full) if !needs_room => Fate::Done,
            (Equal, Fault::After) => Fate::Lost(self.error(name)),
            (Equal, _) | (Greater, Fault::Killed | Fault::Torn(_)) => {
                Fate::Refused(self.error(name))
            }
            _ => Fate::Done,
        }
    }
}
