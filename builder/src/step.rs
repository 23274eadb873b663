//! Steps as values: which commands make what a release has beside its source, from what. Pure;
//! [`crate::preset`] knows the usual ones, [`crate::plan`] puts them together, `key` says
//! when two of them make the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relstore_store::name::EntryPath;

use crate::exclude::{Excludes, PatternError};

/// One program with its arguments; nothing in it depends on a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Name, looked for in the search path, or a path from the application's folder.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
}

impl CommandLine {
    /// From program and arguments in one list.
    ///
    /// # Panics
    /// Never: an empty list gives an empty program, which no search path holds.
    #[must_use]
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut words = words.into_iter().map(str::to_owned);
        Self {
            program: words.next().unwrap_or_default(),
            args: words.collect(),
        }
    }

    /// As people would type it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = quoted(&self.program);
        for arg in &self.args {
            text.push(' ');
            text.push_str(&quoted(arg));
        }
        text
    }
}

/// The word in the form a shell takes it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A program whose identity says what an output depends on, see `tool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// PHP: version, extensions, the ini files it reads.
    Php,
    /// Composer: its file's content.
    Composer,
    /// Node.js: version.
    Node,
    /// npm: version.
    Npm,
    /// pnpm: version.
    Pnpm,
    /// Yarn: version.
    Yarn,
}

impl Tool {
    /// The program's name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Php => "php",
            Self::Composer => "composer",
            Self::Node => "node",
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
        }
    }
}

/// Text in a command's output that makes its result unusable although it ended with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What a line contains.
    pub needle: &'static str,
    /// What that means.
    pub reason: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

/// Which of the source's files a step sees. What the steps make that it needs comes beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Paths and patterns from the application's folder; `None`: all files.
    pub only: Option<Vec<String>>,
    /// Patterns of what it does not see all the same.
    pub without: Vec<String>,
    /// Folders and files of the source outside the application's folder (monorepos), from the top
    /// of the source.
    pub outside: Vec<String>,
}

impl Inputs {
    /// Every file of the application.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            only: None,
            without: Vec::new(),
            outside: Vec::new(),
        }
    }

    /// These paths and patterns.
    #[must_use]
    pub fn only<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let patterns = patterns.into_iter().map(str::to_owned);
        Self {
            only: Some(patterns.collect()),
            ..Self::all()
        }
    }

    /// Every file of the application but these.
    #[must_use]
    pub fn without<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            without: patterns.into_iter().map(str::to_owned).collect(),
            ..Self::all()
        }
    }

    /// Whether it is the whole application: such a step runs anew at every commit that changes
    /// something, so it may as well know the commit's time.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.only.is_none() && self.without.is_empty()
    }

    /// Makes the test for one path.
    ///
    /// # Errors
    /// [`PatternError`].
    pub(crate) fn matcher(&self) -> Result<Matcher, PatternError> {
        Ok(Matcher {
            only: self.only.as_deref().map(Excludes::of).transpose()?,
            without: Excludes::of(&self.without)?,
            outside: Excludes::of(&self.outside)?,
        })
    }
}

/// [`Inputs`], ready to be asked.
#[derive(Debug)]
pub(crate) struct Matcher {
    only: Option<Excludes>,
    without: Excludes,
    outside: Excludes,
}

impl Matcher {
    /// Whether a step sees this path of the source. `root` is the application's folder from the
    /// source's top, empty when they are the same.
    pub(crate) fn takes(&self, path: &[u8], root: &[u8]) -> bool {
        match below(path, root) {
            Some(inner) => {
                let wanted = self.only.as_ref().is_none_or(|only| only.covers(inner));
                wanted && !self.without.covers(inner)
            }
            None => self.outside.covers(path),
        }
    }
}

/// The path from `root`, when it lies below it.
pub(crate) fn below<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    if root.is_empty() {
        return Some(path);
    }
    path.strip_prefix(root)?.strip_prefix(b"/")
}

/// A path that a step makes, from the application's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// File or folder; all below belongs to it.
    pub path: EntryPath,
    /// Whether the step may leave it out.
    pub optional: bool,
    /// Whether copies of it in the source are not used: the step makes all of it.
    pub fresh: bool,
}

/// A part of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Run one after another in the application's folder.
    pub commands: Vec<CommandLine>,
    /// Programs that the output depends on.
    pub tools: BTreeSet<Tool>,
    /// Steps whose outputs it sees, those of their needs as well.
    pub needs: Vec<String>,
    /// Steps that it comes after without seeing what they made.
    pub after: Vec<String>,
    /// What it sees of the source.
    pub inputs: Inputs,
    /// Files that it gets beside its inputs: path from the application's folder, and content.
    pub provided: Vec<(&'static str, &'static str)>,
    /// Files of the source without which it cannot run.
    pub files: Vec<&'static str>,
    /// npm packages without which it cannot run.
    pub packages: Vec<&'static str>,
    /// What it makes. Nothing else that it writes is kept.
    pub outputs: Vec<Output>,
    /// Patterns of paths where it may write without anybody caring.
    pub scratch: Vec<String>,
    /// Its environment, beside what every step has.
    pub env: BTreeMap<String, String>,
    /// Whether it may use the network; such steps get the build's secrets.
    pub network: bool,
    /// Whether a sandbox is wanted, where there is one.
    pub sandbox: bool,
    /// Longest time one command may take.
    pub time_limit: Duration,
    /// What its output must not say.
    pub alarms: &'static [Alarm],
    /// Whether its outputs are part of the release.
    pub released: bool,
}

/// The argument that stands for a hash over all that a step sees, see [`crate::preset::composer`].
pub(crate) const INPUTS_PLACEHOLDER: &str = "{inputs}";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn command_lines_can_be_pasted_into_a_shell() {
        let line = CommandLine::new(["php", "artisan", "x:y", "it's a b", ""]);
        assert_eq!(line.text(), "php artisan x:y 'it'\\''s a b' ''");
    }

    #[test]
    fn inputs_choose_below_the_root_and_name_what_lies_outside() {
        let mut inputs = Inputs::only(["composer.json", "patches"]);
        inputs.outside = vec!["packages/greeting".to_owned()];
        let matcher = inputs.matcher().unwrap();
        for (path, seen) in [
            ("apps/api/composer.json", true),
            ("apps/api/patches/a.patch", true),
            ("apps/api/app/A.php", false),
            ("apps/apical/composer.json", false),
            ("composer.json", false),
            ("packages/greeting/src/A.php", true),
            ("packages/other/A.php", false),
        ] {
            assert_eq!(matcher.takes(path.as_bytes(), b"apps/api"), seen, "{path}");
        }
        let all = Inputs::without(["resources/js"]).matcher().unwrap();
        assert!(all.takes(b"a/b", b""));
        assert!(!all.takes(b"resources/js/app.js", b""));
    }
}
