//! The exit codes of the program. `docs/cli.md` holds the same table, compared by a test.

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// Done, or nothing was to be done.
    Ok = 0,
    /// Failed for a reason that has no code of its own.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What the command was given is wrong: configuration, project, release name.
    BadInput = 3,
    /// A gate refused the build; nothing was stored.
    GateFailed = 4,
    /// A deploy was refused or failed before the switch: every host serves what it served.
    NothingChanged = 5,
    /// A deploy failed after the switch and every host is back on its earlier release.
    RolledBack = 6,
    /// What at least one host serves now is not known, or the hosts serve different releases.
    StateUnknown = 7,
    /// A host differs from what it should hold.
    Drift = 8,
    /// Another deploy holds the lock; nothing was changed.
    Busy = 9,
    /// A signal ended it. A deploy leaves the hosts to undo what was not confirmed.
    Interrupted = 10,
    /// A build gave another tree when it ran again; nothing was stored.
    NotReproducible = 11,
    /// A required check failed; nothing was stored.
    CheckFailed = 12,
    /// Something in the store is damaged and was not mended.
    Damaged = 13,
}

impl ExitCode {
    /// Every code with its name in JSON and its meaning, as documented.
    pub(crate) const ALL: &[(Self, &str, &str)] = &[
        (Self::Ok, "ok", "done, or nothing was to be done"),
        (
            Self::Failure,
            "failure",
            "failed for a reason that has no code of its own",
        ),
        (Self::Usage, "usage", "the command line is wrong"),
        (
            Self::BadInput,
            "bad-input",
            "configuration, project or release name is wrong",
        ),
        (
            Self::GateFailed,
            "gate-failed",
            "a gate refused the tree; nothing was stored",
        ),
        (
            Self::NothingChanged,
            "nothing-changed",
            "deploy refused or failed before the switch; every host serves what it served",
        ),
        (
            Self::RolledBack,
            "rolled-back",
            "deploy failed after the switch; every host is back on its earlier release",
        ),
        (
            Self::StateUnknown,
            "state-unknown",
            "what a host serves is not known, or hosts serve different releases",
        ),
        (
            Self::Drift,
            "drift",
            "a host differs from what it should hold",
        ),
        (
            Self::Busy,
            "busy",
            "another deploy holds the lock; nothing was changed",
        ),
        (
            Self::Interrupted,
            "interrupted",
            "a signal ended it; a deploy leaves hosts to undo what was not confirmed",
        ),
        (
            Self::NotReproducible,
            "not-reproducible",
            "a build gave another tree when it ran again; nothing was stored",
        ),
        (
            Self::CheckFailed,
            "check-failed",
            "a required check failed; nothing was stored",
        ),
        (
            Self::Damaged,
            "damaged",
            "something in the store is damaged and was not mended",
        ),
    ];

    /// The name that `--json` prints.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(code, ..)| *code == self)
            .map_or("failure", |(_, name, _)| name)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_lists_exactly_these_codes() {
        let documented: Vec<_> = include_str!("../docs/cli.md")
            .lines()
            .filter(|line| {
                line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit)
            })
            .collect();
        let expected: Vec<_> = ExitCode::ALL
            .iter()
            .map(|(code, name, meaning)| format!("| {} | `{name}` | {meaning} |", *code as u8))
            .collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn codes_and_names_are_distinct() {
        for (index, (code, name, _)) in ExitCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index);
            assert_eq!(code.name(), *name);
        }
    }
}
