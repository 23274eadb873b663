//! The few questions the program itself asks git about a project. Reading sources is the builder's.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use relstore_builder::BuildError;

use crate::output::printable;

/// Commits that are named to git at once.
const MAX_ARGUMENTS: usize = 5_000;

/// Why git does not say what a name means: what it said, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoAnswer {
    pub(crate) why: String,
    pub(crate) hint: Option<String>,
}

impl NoAnswer {
    /// The words of a build that fails for the same reason.
    fn of(error: &BuildError) -> Self {
        Self {
            why: error.to_string(),
            hint: error.hint(),
        }
    }

    fn start(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::of(&BuildError::NoProgram {
                program: "git".to_owned(),
                user: "the name of a commit".to_owned(),
            }),
            _ => Self {
                why: format!("`git` cannot be started: {error}"),
                hint: None,
            },
        }
    }

    /// From what git wrote on stderr; `None` when it only knows no such commit.
    fn said(project: &Path, stderr: &str) -> Option<Self> {
        if stderr.contains("dubious ownership") {
            let folder = project.to_owned();
            return Some(Self::of(&BuildError::Ownership { folder }));
        }
        if stderr.contains("not a git repository") {
            return Some(Self {
                why: format!("{} is not in a git repository", project.display()),
                hint: None,
            });
        }
        let line = stderr
            .lines()
            .find(|line| line.starts_with("error:") || line.starts_with("fatal:"))?;
        let unknown = line.ends_with("Needed a single revision");
        (!unknown).then(|| Self {
            why: format!("git: {}", printable(line)),
            hint: None,
        })
    }
}

/// The full commit that a name (branch, tag, `HEAD~2`, abbreviated hash) means in this project;
/// `None` when it means none there.
pub(crate) fn commit_of(project: &Path, name: &str) -> Result<Option<String>, NoAnswer> {
    if name.is_empty() || name.starts_with('-') {
        return Ok(None);
    }
    let revision = format!("{name}^{{commit}}");
    let arguments = [
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &revision,
    ];
    let output = git(project, &arguments).map_err(|error| NoAnswer::start(&error))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return NoAnswer::said(project, &stderr).map_or(Ok(None), Err);
    }
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let hex = commit
        .bytes()
        .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    Ok((hex && matches!(commit.len(), 40 | 64)).then_some(commit))
}

/// The first line of a commit's message; `None` when git does not tell it.
pub(crate) fn subject(project: &Path, commit: &str) -> Option<String> {
    let arguments = [
        "log",
        "-1",
        "--no-show-signature",
        "--format=%s",
        "--end-of-options",
        commit,
    ];
    let output = git(project, &arguments).ok()?;
    let text = output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).ok())??;
    Some(text.trim().to_owned()).filter(|subject| !subject.is_empty())
}

/// The first lines of the messages of commits, by commit written out; without those that git does
/// not tell.
pub(crate) fn subjects(project: &Path, commits: &[&str]) -> HashMap<String, String> {
    let hex = |commit: &&&str| {
        let digit = |c| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        matches!(commit.len(), 40 | 64) && commit.bytes().all(digit)
    };
    let commits: Vec<&str> = commits.iter().filter(hex).copied().collect();
    let mut subjects = HashMap::new();
    // One process for all of them, as far as a command line is long.
    for commits in commits.chunks(MAX_ARGUMENTS) {
        let mut arguments = vec![
            "log",
            "--no-walk=unsorted",
            "--no-show-signature",
            "--ignore-missing",
            "--format=%H %s",
            "--end-of-options",
        ];
        arguments.extend(commits);
        let Ok(output) = git(project, &arguments) else {
            break;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        subjects
            .extend(lines.map(|(commit, subject)| (commit.to_owned(), subject.trim().to_owned())));
    }
    subjects
}

fn git(project: &Path, arguments: &[&str]) -> io::Result<Output> {
    Command::new("git")
        .arg("-C")
        .arg(project)
        .args(arguments)
        // What git says is told apart by its words.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
}
