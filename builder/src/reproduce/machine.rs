//! What the machine of a check can vary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::conditions::Condition;
use crate::process;

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Whether steps run in a sandbox.
    pub sandbox: bool,
    /// Whether the clock can be moved (`faketime`).
    pub clock: bool,
    /// Whether programs can be bound to processors (`taskset`).
    pub taskset: bool,
    /// Number of processors.
    pub processors: usize,
    /// Whether there is a tmpfs to build on.
    pub tmpfs: bool,
}

impl Machine {
    /// Looks at this machine; whether steps run in a sandbox is decided elsewhere.
    #[must_use]
    pub fn look(search_path: &str, sandbox: bool) -> Self {
        Self {
            sandbox,
            clock: fake_clock().is_some(),
            taskset: process::find(search_path, "taskset").is_some(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            tmpfs: Path::new("/dev/shm").is_dir(),
        }
    }

    /// Returns the conditions that cannot be varied here, and why.
    #[must_use]
    pub fn unvaried(&self) -> BTreeMap<Condition, String> {
        let one = self.processors <= 1;
        [
            (Condition::Clock, !self.clock, "`faketime` is not installed"),
            (
                Condition::Order,
                !self.tmpfs,
                "there is no tmpfs at /dev/shm",
            ),
            (
                Condition::Cpus,
                !one && !self.taskset,
                "`taskset` is not installed",
            ),
            (Condition::Cpus, one, "this machine has one"),
            (
                Condition::HostName,
                !self.sandbox,
                "steps do not run in a sandbox",
            ),
            (
                Condition::User,
                !self.sandbox,
                "steps do not run in a sandbox",
            ),
        ]
        .into_iter()
        .filter(|(_, lacking, _)| *lacking)
        .map(|(condition, _, why)| (condition, why.to_owned()))
        .collect()
    }
}

/// The library that shows programs another time, where it is installed.
pub(crate) fn fake_clock() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|library| library.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_of_the_tests_has_all_they_need() {
        let machine = Machine::look("/usr/local/bin:/usr/bin:/bin", true);
        let unvaried = machine.unvaried();
        assert!(
            unvaried
                .keys()
                .all(|condition| *condition == Condition::Cpus),
            "{unvaried:?}"
        );
        assert!(!Machine::look("", true).taskset);
    }

    #[test]
    fn what_is_lacking_is_told() {
        let all = Machine {
            sandbox: true,
            clock: true,
            taskset: true,
            processors: 8,
            tmpfs: true,
        };
        assert!(all.unvaried().is_empty());
        let none = Machine {
            sandbox: false,
            clock: false,
            taskset: false,
            processors: 1,
            tmpfs: false,
        };
        let unvaried = none.unvaried();
        assert_eq!(unvaried.len(), 5);
        assert_eq!(unvaried[&Condition::Cpus], "this machine has one");
        let bare = Machine {
            sandbox: false,
            ..all
        };
        let told: Vec<Condition> = bare.unvaried().into_keys().collect();
        assert_eq!(told, [Condition::HostName, Condition::User]);
    }
}
