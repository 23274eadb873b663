//! What can go wrong in a build, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relstore_store::StoreError;
use relstore_store::archive::ArchiveError;
use relstore_store::id::ReleaseId;
use relstore_store::name::EntryPath;
use relstore_store::signature::SignError;

use crate::check::{CheckOutcome, CheckResult};
use crate::gate::GateResult;
use crate::lay_out::Trespass;
use crate::lockfile::LockError;
use crate::plan::PlanError;
use crate::variable_use::VariableUse;

/// A failure of a build. Whatever it is, nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The request contradicts itself or asks for something that does not exist.
    #[error("the build cannot be planned")]
    Plan(#[from] PlanError),
    /// A file or folder could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The attempt: `read`, `write`, ...
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program is not in the search path.
    #[error("`{program}` is not installed, {user} needs it")]
    NoProgram {
        /// Its name.
        program: String,
        /// Who needs it, such as "step `composer`".
        user: String,
    },
    /// A program is there but could not be started.
    #[error("cannot run {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The project is no git repository, so it has no commits.
    #[error("{} is not in a git repository", folder.display())]
    NoRepository {
        /// The project.
        folder: PathBuf,
    },
    /// The repository belongs to somebody else. Reading it anyway would let its owner run
    /// programs through its configuration.
    #[error("git refuses the repository of {}, it belongs to another user", folder.display())]
    Ownership {
        /// The project.
        folder: PathBuf,
    },
    /// The name is no commit of the repository.
    #[error("`{revision}` is no commit of the repository of {}", folder.display())]
    NoCommit {
        /// As given.
        revision: String,
        /// The project.
        folder: PathBuf,
    },
    /// The commit has no such folder.
    #[error("commit {commit} has no folder `{prefix}`")]
    NoPrefix {
        /// The commit.
        commit: String,
        /// The project's folder in its repository, escaped.
        prefix: String,
    },
    /// The clone lacks a file of the commit (a partial clone).
    #[error("object {object} of `{path}` is not in the repository")]
    NoObject {
        /// Object name in git.
        object: String,
        /// The file, escaped.
        path: String,
    },
    /// A submodule whose commit is not on this machine. Leaving it out would give another release
    /// than where it is.
    #[error("commit {commit} of the submodule `{path}` is not in this clone")]
    NoSubmodule {
        /// The submodule, escaped.
        path: String,
        /// The commit that is wanted.
        commit: String,
    },
    /// A file changed while it was read: a mixture of two states is no source.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// git failed or said something that it should not.
    #[error("git could not {what}")]
    Git {
        /// The attempt.
        what: &'static str,
        /// What git wrote on stderr.
        said: Vec<String>,
    },
    /// Paths that no release may have. Leaving them out silently could break the application,
    /// taking them could publish a secret or let a release reach out of its folder.
    #[error("{} cannot be part of a release", count(refusals.len(), "path"))]
    Refused {
        /// All of them.
        refusals: Vec<Refusal>,
    },
    /// A folder of which nothing would be in the release: not the one that was meant.
    #[error("{} holds no file that a release would have", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// A file that cannot be unpacked: what is wrong with it may be the work of an attacker.
    #[error("cannot unpack {}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// A file that is not the one that was announced.
    #[error("{} is not the file that the list of sums beside it names", path.display())]
    Sum {
        /// The file.
        path: PathBuf,
        /// Its SHA-256 in the list.
        announced: String,
        /// Its SHA-256.
        found: String,
    },
    /// A list of sums that does not say what the file is.
    #[error("{} has no single SHA-256 of `{name}`", list.display())]
    NoSum {
        /// The list.
        list: PathBuf,
        /// The file's name.
        name: String,
    },
    /// An archive that says it is another release than its content makes.
    #[error("the archive says that it is release {announced}, but its content is {found}")]
    OtherRelease {
        /// What it says.
        announced: ReleaseId,
        /// What it is.
        found: ReleaseId,
    },
    /// A command of a step failed.
    #[error("step `{step}` failed: `{command}` ended with {status}")]
    Step {
        /// Name of the step.
        step: String,
        /// The command line.
        command: String,
        /// `exit status: 1`, `signal: 9`.
        status: String,
        /// The last lines of its output.
        output: Vec<String>,
        /// The whole output.
        log: PathBuf,
    },
    /// A command of a step took too long and was ended.
    #[error("step `{step}` was stopped: `{command}` did not end within {} s", limit.as_secs())]
    StepTime {
        /// Name of the step.
        step: String,
        /// The command line.
        command: String,
        /// How long it may take.
        limit: Duration,
        /// The last lines of its output.
        output: Vec<String>,
        /// The whole output.
        log: PathBuf,
    },
    /// A command ended well, but what it said means that the result cannot be relied on.
    #[error("step `{step}` is refused: {reason}")]
    StepRefused {
        /// Name of the step.
        step: String,
        /// Why.
        reason: &'static str,
        /// What to do about it.
        hint: &'static str,
        /// The lines that say so.
        said: Vec<String>,
    },
    /// A step wrote where nobody looks: what it made there would be lost without a word.
    #[error("step `{step}` wrote outside of its outputs")]
    WroteElsewhere {
        /// Name of the step.
        step: String,
        /// Every path.
        trespasses: Vec<Trespass>,
    },
    /// A step ended well, but an output is not there.
    #[error("step `{step}` ended well, but its output `{path}` {what}")]
    NoOutput {
        /// Name of the step.
        step: String,
        /// The output.
        path: EntryPath,
        /// `was not made`, `is empty`.
        what: &'static str,
    },
    /// What a step made cannot be kept.
    #[error("what step `{step}` made cannot be kept")]
    Output {
        /// Name of the step.
        step: String,
        /// Why.
        source: Box<StoreError>,
    },
    /// A package is not what it was: its archive was made anew, its tag was moved, or somebody
    /// changed it on the way.
    #[error("package {package} {version} has other files than when it was first installed")]
    PackageChanged {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// Manifest id of its folder then.
        before: ReleaseId,
        /// Manifest id of its folder now.
        now: ReleaseId,
    },
    /// Scripts use variables that nobody declared: what they are would depend on the machine.
    #[error("scripts use {} that `[build.env]` does not declare", count(uses.len(), "variable"))]
    Undeclared {
        /// Every use.
        uses: Vec<VariableUse>,
    },
    /// No sandbox can be had, and the configuration wants no build without.
    #[error("steps cannot run in a sandbox on this machine: {why}")]
    NoSandbox {
        /// What went wrong.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// The tree lacks what a Laravel release must have.
    #[error("{} of {} gates failed", failed(results), results.len())]
    Gates {
        /// Every gate that was asked.
        results: Vec<GateResult>,
        /// The step that failed, probably because of what is missing.
        source: Option<Box<BuildError>>,
    },
    /// A build that succeeded failed when it ran again to be compared.
    #[error("the build fails when it runs again with {varied}")]
    Rebuild {
        /// The conditions that were other ones, with their values.
        varied: String,
        /// How it failed.
        source: Box<BuildError>,
    },
    /// Required checks failed.
    #[error("{} of {asked} checks failed", failed.len())]
    Checks {
        /// What they said.
        failed: Vec<CheckResult>,
        /// How many were asked for.
        asked: usize,
    },
    /// A lock file cannot be read, so what the release is made of would not be known.
    #[error("the packages of the application are not known")]
    Lock(#[from] LockError),
    /// The records were not signed. The release was not published.
    #[error("the release was not signed")]
    Sign(#[from] SignError),
    /// The store failed.
    #[error("the release was not stored")]
    Store(#[from] StoreError),
    /// The build was given up: the program is ending.
    #[error("the build was interrupted")]
    Interrupted,
}

/// A path that is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Relative to the release, escaped.
    pub path: String,
    /// Why, the end of the sentence "PATH ...".
    pub reason: String,
}

impl BuildError {
    /// One line per particular: each refused path, each failed gate, the last output of a step.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Refused { refusals } => refusals
                .iter()
                .map(|refusal| format!("`{}` {}", refusal.path, refusal.reason))
                .collect(),
            Self::Gates { results, source } => {
                let failed = results.iter().filter(|result| result.has_failed());
                let failed = failed.flat_map(GateResult::lines);
                let cause = source.iter().flat_map(|source| source.details());
                failed.chain(cause).collect()
            }
            Self::Step { output, .. } | Self::StepTime { output, .. } => output.clone(),
            Self::WroteElsewhere { trespasses, .. } => some(
                trespasses
                    .iter()
                    .map(|trespass| format!("{} `{}`", trespass.what, trespass.path)),
            ),
            Self::Sum {
                announced, found, ..
            } => vec![format!("announced {announced}"), format!("found {found}")],
            Self::Undeclared { uses } => uses
                .iter()
                .map(|found| format!("{} in {}:{}", found.name, found.path, found.line))
                .collect(),
            Self::PackageChanged { before, now, .. } => vec![
                format!("first seen as {}", before.short()),
                format!("now {}", now.short()),
            ],
            Self::Checks { failed, .. } => failed.iter().flat_map(check_lines).collect(),
            Self::StepRefused { said, .. } | Self::Git { said, .. } => said.clone(),
            Self::Rebuild { source, .. } => source.details(),
            _ => Vec::new(),
        }
    }

    /// What to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => error.hint(),
            Self::NoProgram { program, .. } => Some(match program.as_str() {
                "node" | "npm" => "`apt install nodejs npm`, or put Node.js into PATH".to_owned(),
                "php" => "`apt install php-cli`".to_owned(),
                "mariadbd" | "mariadb-install-db" => "`apt install mariadb-server`".to_owned(),
                program => format!("`apt install {program}`"),
            }),
            Self::NoRepository { .. } => Some(
                "`git init` and commit, or build the files as they are with `--dirty`".to_owned(),
            ),
            Self::Ownership { folder } => Some(format!(
                "if you trust its owner: `git config --global --add safe.directory {}`, with the repository's top folder",
                folder.display()
            )),
            Self::NoCommit { revision, .. } if revision == "HEAD" => Some(
                "nothing was committed here yet: `git add` and `git commit`, or build the files as they are with `--dirty`".to_owned(),
            ),
            Self::NoCommit { .. } => Some(
                "a shallow clone has only its last commits: `git fetch origin <commit>`, and `git fetch --tags` for tags".to_owned(),
            ),
            Self::NoPrefix { .. } => {
                Some("the project's folder must be committed before it can be built".to_owned())
            }
            Self::NoObject { .. } => {
                Some("this is a partial clone: `git fetch --refetch --no-filter` completes it".to_owned())
            }
            Self::NoSubmodule { .. } => Some(
                "`git submodule update --init --recursive` brings it; or leave it out with `[build] exclude`".to_owned(),
            ),
            Self::Changed { .. } => {
                Some("build again when nobody writes there; a commit never changes".to_owned())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("make it readable and its folder accessible for the user that builds".to_owned())
            }
            Self::Refused { .. } => {
                Some("remove them, or leave them out with `[build] exclude`".to_owned())
            }
            Self::Step { command, .. } if command.starts_with("composer validate") => Some(
                "when composer.lock is old: `composer update --lock`, and commit it".to_owned(),
            ),
            Self::Step { log, .. } | Self::StepTime { log, .. } => {
                Some(format!("the whole output is in {}", log.display()))
            }
            Self::WroteElsewhere { step, .. } => Some(format!(
                "name what belongs to the release in `[build.step.{step}] outputs`; let it write the rest into $TMPDIR"
            )),
            Self::NoOutput { step, .. } => Some(format!(
                "see the step's output with `relstore build --verbose`; what it makes is named in `[build.step.{step}] outputs`"
            )),
            Self::PackageChanged { package, .. } => Some(format!(
                "compare both before you trust it; `relstore build --accept-package {package}` takes the new files"
            )),
            Self::Undeclared { uses } => uses.first().map(|found| {
                format!("`[build.env] {} = \"...\"`, empty if it shall be so", found.name)
            }),
            Self::NoSandbox { remedy, .. } => Some(remedy.clone()),
            Self::StepRefused { hint, .. } => Some((*hint).to_owned()),
            Self::Gates { .. } => Some(
                "nothing was stored; a gate that cannot hold for this application is named in `[gates] off`".to_owned(),
            ),
            Self::Checks { .. } => Some(
                "nothing was stored; `required = false` lets a release be made without a check, `--no-checks` without all".to_owned(),
            ),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room on this disk; nothing was stored".to_owned())
            }
            Self::Archive { source, .. } => source.hint(),
            Self::Sum { .. } => Some("nothing was stored; copy both files again".to_owned()),
            Self::OtherRelease { .. } => {
                Some("nothing was published; export the release again".to_owned())
            }
            Self::Rebuild { source, .. } => source.hint(),
            Self::Lock(error) => error.hint(),
            Self::Sign(error) => error.hint(),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// As many lines as people read, and how many more there are.
fn some(lines: impl Iterator<Item = String>) -> Vec<String> {
    const SHOWN: usize = 20;
    let mut lines: Vec<String> = lines.collect();
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The end of a check's output, then how it ended.
fn check_lines(check: &CheckResult) -> Vec<String> {
    let name = &check.name;
    let output = check.last_output.iter();
    let mut lines: Vec<String> = output.map(|line| format!("{name}: {line}")).collect();
    lines.push(match (&check.outcome, check.exit_code) {
        (CheckOutcome::TimedOut, _) => format!("check `{name}` was stopped: {}", check.command),
        (_, Some(code)) => format!(
            "check `{name}` failed with exit status {code}: {}",
            check.command
        ),
        (_, None) => format!("check `{name}` failed: {}", check.command),
    });
    lines
}

fn failed(results: &[GateResult]) -> usize {
    results.iter().filter(|result| result.has_failed()).count()
}

/// Puts the attempt and the path into an I/O error.
pub(crate) trait IoContext<T> {
    /// Names what was attempted on which path.
    fn at(self, what: &'static str, path: &Path) -> Result<T, BuildError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, BuildError> {
        self.map_err(|error| BuildError::Io {
            what,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
