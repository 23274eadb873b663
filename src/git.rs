//! The few questions the program itself asks git about a project. Reading sources is the builder's.

use std::path::Path;
use std::process::{Command, Stdio};

/// The full commit that a name (branch, tag, `HEAD~2`, abbreviated hash) means in this project;
/// `None` when git is not there, the folder is no repository or the name means nothing in it.
pub(crate) fn commit_of(project: &Path, name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with('-') {
        return None;
    }
    let output = git(
        project,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{name}^{{commit}}"),
        ],
    )?;
    let commit = output.trim();
    let hex = commit
        .bytes()
        .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    (hex && matches!(commit.len(), 40 | 64)).then(|| commit.to_owned())
}

/// The first line of a commit's message; `None` when the commit is not in this project.
pub(crate) fn subject(project: &Path, commit: &str) -> Option<String> {
    let output = git(
        project,
        &[
            "log",
            "-1",
            "--no-show-signature",
            "--format=%s",
            "--end-of-options",
            commit,
        ],
    )?;
    Some(output.trim().to_owned()).filter(|subject| !subject.is_empty())
}

fn git(project: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(project)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).ok())
        .flatten()
}
