//! What the machine of a check can vary. Pure.

use std::collections::BTreeMap;

use crate::conditions::Condition;

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

#[cfg(test)]
mod tests {
    use super::*;

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
