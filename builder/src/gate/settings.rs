//! What a project says about its gates. Pure.

use super::answer::Finding;
use super::{CONTENT, Gate, Question, State, ids};
use crate::exclude::{Excludes, PatternError};

/// Which gates are asked, and what follows from what they find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Ids of gates that are not asked.
    pub off: Vec<String>,
    /// Ids of gates that only warn; none of the structure gates, which hosts insist on.
    pub warn: Vec<String>,
    /// Ids of gates that refuse although they only warn by default.
    pub refuse: Vec<String>,
    /// Findings that are right.
    pub allow: Vec<Allow>,
    /// The project's own gates.
    pub commands: Vec<CommandGate>,
}

/// Findings of one gate that are right, by their path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// The gate.
    pub gate: String,
    /// Pattern of paths, as in [`crate::exclude`].
    pub path: String,
    /// Why; recorded.
    pub reason: String,
    pattern: Excludes,
}

/// A command that has to end with 0 in the release's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandGate {
    /// Id of the gate.
    pub name: String,
    /// Program and arguments; no shell runs it. A program with a `/` in it lies in the tree.
    pub words: Vec<String>,
}

impl Settings {
    /// The first id in these settings that means nothing there, if any: an unknown gate, a structure
    /// gate that cannot warn, a gate whose findings have no path, a name that is taken.
    #[must_use]
    pub fn unknown(&self) -> Option<&str> {
        let off = self.off.iter().filter(|id| !self.knows(id));
        let level = self.warn.iter().chain(&self.refuse);
        let level = level.filter(|id| !self.can_change(id));
        let allow = self.allow.iter().map(|allow| &allow.gate);
        let allow = allow.filter(|id| !has_paths(id));
        let names = self.commands.iter().map(|command| &command.name);
        let names = names.filter(|name| ids().contains(&name.as_str()));
        let mut wrong = off.chain(level).chain(allow).chain(names);
        wrong.next().map(String::as_str)
    }

    fn knows(&self, id: &str) -> bool {
        ids().contains(&id) || self.is_command(id)
    }

    /// Whether a gate can either warn or refuse.
    fn can_change(&self, id: &str) -> bool {
        has_paths(id) || self.is_command(id)
    }

    fn is_command(&self, id: &str) -> bool {
        self.commands.iter().any(|command| command.name == id)
    }

    /// What a gate does under these settings.
    pub(crate) fn state(&self, id: &str, default: State) -> State {
        let has = |list: &[String]| list.iter().any(|one| one == id);
        if has(&self.off) {
            State::Off
        } else if has(&self.warn) {
            State::Warns
        } else if has(&self.refuse) {
            State::On
        } else {
            default
        }
    }
}

/// Whether the findings of a gate have paths, so that some of them can be allowed.
#[must_use]
pub fn has_paths(id: &str) -> bool {
    CONTENT.iter().any(|row| row.id == id)
}

impl Allow {
    /// Allows what a gate finds at these paths.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(gate: &str, path: &str, reason: &str) -> Result<Self, PatternError> {
        Ok(Self {
            gate: gate.to_owned(),
            path: path.to_owned(),
            reason: reason.to_owned(),
            pattern: Excludes::of(&[path.to_owned()])?,
        })
    }

    pub(crate) fn covers(&self, gate: &str, finding: &Finding) -> bool {
        let path = finding.path.as_deref();
        self.gate == gate && path.is_some_and(|path| self.pattern.covers(path))
    }
}

impl CommandGate {
    pub(crate) fn gate(&self) -> Gate {
        Gate {
            id: self.name.clone(),
            purpose: format!("`{}` ends with 0", self.words.join(" ")),
            // Its own output says more.
            cause: String::new(),
            state: State::On,
            question: Question::Command(self.words.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    fn command(name: &str) -> CommandGate {
        CommandGate {
            name: name.to_owned(),
            words: texts(&["true"]),
        }
    }

    #[test]
    fn ids_that_mean_nothing_are_found() {
        let base = Settings {
            commands: vec![command("style")],
            ..Settings::default()
        };
        let right = Settings {
            off: texts(&["app", "secrets", "style"]),
            warn: texts(&["assets", "style"]),
            refuse: texts(&["env-outside-config"]),
            allow: vec![Allow::new("secrets", "a", "b").unwrap()],
            ..base.clone()
        };
        assert_eq!(right.unknown(), None);
        for (wrong, id) in [
            (
                Settings {
                    off: texts(&["vite"]),
                    ..base.clone()
                },
                "vite",
            ),
            (
                Settings {
                    warn: texts(&["artisan"]),
                    ..base.clone()
                },
                "artisan",
            ),
            (
                Settings {
                    allow: vec![Allow::new("style", "a", "b").unwrap()],
                    ..base.clone()
                },
                "style",
            ),
            (
                Settings {
                    commands: vec![command("secrets")],
                    ..base.clone()
                },
                "secrets",
            ),
        ] {
            assert_eq!(wrong.unknown(), Some(id));
        }
    }

    #[test]
    fn off_wins_and_the_rest_changes_the_default() {
        let settings = Settings {
            off: texts(&["a"]),
            warn: texts(&["a", "b"]),
            refuse: texts(&["c"]),
            ..Settings::default()
        };
        for (id, default, state) in [
            ("a", State::On, State::Off),
            ("b", State::On, State::Warns),
            ("c", State::Warns, State::On),
            ("d", State::Warns, State::Warns),
        ] {
            assert_eq!(settings.state(id, default), state, "{id}");
        }
    }
}
