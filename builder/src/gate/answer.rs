//! What a gate found. Pure.

use relstore_store::name::escape;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Where, raw bytes relative to the tree; `None` when it concerns no single path.
    pub(crate) path: Option<Vec<u8>>,
    /// Line in that file, from 1.
    pub(crate) line: Option<usize>,
    /// The end of the sentence "PATH ...", or the whole one when there is no path.
    pub(crate) what: String,
}

impl Finding {
    /// Something about a path as a whole.
    pub(crate) fn at(path: &[u8], what: impl Into<String>) -> Self {
        Self {
            path: Some(path.to_vec()),
            line: None,
            what: what.into(),
        }
    }

    /// Something about a line of a file.
    pub(crate) fn on_line(path: &[u8], line: usize, what: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::at(path, what)
        }
    }

    /// Something about the tree.
    pub(crate) fn general(what: impl Into<String>) -> Self {
        Self {
            path: None,
            line: None,
            what: what.into(),
        }
    }

    /// The sentence: `` `config/app.php:3` holds ... ``.
    pub(crate) fn text(&self) -> String {
        let what = &self.what;
        match (&self.path, self.line) {
            (Some(path), Some(line)) => format!("`{}:{line}` {what}", escape(path)),
            (Some(path), None) => format!("`{}` {what}", escape(path)),
            (None, _) => what.clone(),
        }
    }
}

/// All a gate says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) findings: Vec<Finding>,
    /// What was looked at, or the output of a command.
    pub(crate) notes: Vec<String>,
    /// Why it could not be asked here.
    pub(crate) skipped: Option<String>,
}

impl Answer {
    /// The answer that consists of these findings.
    pub(crate) fn of(findings: Vec<Finding>) -> Self {
        Self {
            findings,
            ..Self::default()
        }
    }

    /// Adds what was looked at.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The answer of a gate that could not be asked.
    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        Self {
            skipped: Some(why.into()),
            ..Self::default()
        }
    }
}

/// A count with its noun: `1 file`, `3 files`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
