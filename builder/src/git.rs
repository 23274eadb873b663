//! Questions to the `git` program. Its environment is cleared to what it needs, so that no
//! variable redirects it; nothing it is asked to do writes, or runs what a repository configures.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::BuildError;
use crate::process;

/// git, for one folder.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    program: PathBuf,
    folder: PathBuf,
    search_path: String,
    home: Option<PathBuf>,
    /// Whether the folder is a repository without files, whatever its configuration says of a
    /// work tree.
    bare: bool,
}

impl Git {
    /// Finds the program. `home` is where git looks for the user's `safe.directory`.
    pub(crate) fn find(
        folder: &Path,
        search_path: &str,
        home: Option<&Path>,
    ) -> Result<Self, BuildError> {
        let program = process::find(search_path, "git").ok_or_else(|| BuildError::NoProgram {
            program: "git".to_owned(),
            user: "reading the source".to_owned(),
        })?;
        Ok(Self {
            program,
            folder: folder.to_owned(),
            search_path: search_path.to_owned(),
            home: home.map(Path::to_owned),
            bare: false,
        })
    }

    /// The same program, asked in another work tree.
    pub(crate) fn at(&self, folder: PathBuf) -> Self {
        Self {
            folder,
            bare: false,
            ..self.clone()
        }
    }

    /// The same program, asked for the objects in a folder of this repository: its owner is the
    /// one that git has already agreed to.
    pub(crate) fn at_objects(&self, folder: PathBuf) -> Self {
        Self {
            folder,
            bare: true,
            ..self.clone()
        }
    }

    /// A command with arguments still to come.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", &self.search_path)
            .env("LC_ALL", "C")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .arg("-C")
            .arg(&self.folder)
            .args(["-c", "core.fsmonitor=false"])
            .stdin(Stdio::null());
        if let Some(home) = &self.home {
            command.env("HOME", home);
        }
        if self.bare {
            command
                .env("GIT_DIR", &self.folder)
                .env("GIT_WORK_TREE", &self.folder);
        }
        command
    }

    /// Runs a command to its end; `Ok(Err(stderr))` when git says no.
    pub(crate) fn ask(&self, mut command: Command) -> Result<Result<Vec<u8>, String>, BuildError> {
        let output = command
            .output()
            .map_err(|source| self.start_error(source))?;
        Ok(if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        })
    }

    /// Runs a command that must succeed.
    pub(crate) fn output(&self, what: &'static str, args: &[&str]) -> Result<Vec<u8>, BuildError> {
        let mut command = self.command();
        command.args(args);
        self.ask(command)?.map_err(|said| self.failure(what, &said))
    }

    pub(crate) fn start_error(&self, source: std::io::Error) -> BuildError {
        BuildError::Start {
            program: self.program.clone(),
            source,
        }
    }

    /// The error for what git wrote on stderr.
    pub(crate) fn failure(&self, what: &'static str, said: &str) -> BuildError {
        let folder = self.folder.clone();
        if said.contains("dubious ownership") {
            BuildError::Ownership { folder }
        } else if said.contains("not a git repository") {
            BuildError::NoRepository { folder }
        } else {
            BuildError::Git {
                what,
                said: said.lines().map(str::to_owned).collect(),
            }
        }
    }

    /// The full name of a commit; `None` when the name means none.
    pub(crate) fn commit(&self, revision: &str) -> Result<Option<String>, BuildError> {
        // `-x` and control characters name no commit; git would take some for options.
        if revision.is_empty() || revision.starts_with('-') || revision.contains(char::is_control) {
            return Ok(None);
        }
        let mut command = self.command();
        command
            .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
            .arg(format!("{revision}^{{commit}}"));
        match self.ask(command)? {
            Ok(name) => {
                let name = String::from_utf8_lossy(&name).trim().to_owned();
                let hex = name
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                Ok((hex && matches!(name.len(), 40 | 64)).then_some(name))
            }
            Err(said) if said.trim().is_empty() || said.contains("Needed a single revision") => {
                Ok(None)
            }
            Err(said) => match self.failure("look up the commit", &said) {
                BuildError::Git { .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    /// When a commit was made, in seconds since 1970; a time before that is 0.
    pub(crate) fn time_of(&self, commit: &str) -> Result<u64, BuildError> {
        let args = ["rev-list", "--max-count=1", "--timestamp", commit];
        let said = self.output("read the commit's time", &args)?;
        let said = String::from_utf8_lossy(&said);
        let time = said
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<i64>().ok());
        time.map(|time| u64::try_from(time).unwrap_or(0))
            .ok_or_else(|| self.failure("read the commit's time", &said))
    }

    /// The top folder of the work tree; `None` where there is none, as in a bare repository.
    pub(crate) fn top(&self) -> Result<Option<PathBuf>, BuildError> {
        let mut command = self.command();
        command.args(["rev-parse", "--show-toplevel"]);
        Ok(self.ask(command)?.ok().map(path_of))
    }

    /// The folder that all work trees of the repository share, absolute.
    pub(crate) fn common_folder(&self) -> Result<PathBuf, BuildError> {
        let args = ["rev-parse", "--git-common-dir"];
        let said = self.output("find the repository", &args)?;
        Ok(self.folder.join(path_of(said)))
    }

    /// Whether the folder is the top of a work tree, not a folder in one.
    pub(crate) fn is_top(&self) -> Result<bool, BuildError> {
        let mut command = self.command();
        command.args(["rev-parse", "--show-cdup"]);
        Ok(match self.ask(command)? {
            Ok(way_up) => way_up == b"\n",
            Err(said) => match self.failure("find the repository", &said) {
                error @ BuildError::Ownership { .. } => return Err(error),
                _ => false,
            },
        })
    }

    /// The folder's path in its repository, raw bytes with a `/` at the end; empty at the top.
    pub(crate) fn prefix(&self) -> Result<Vec<u8>, BuildError> {
        let mut prefix = self.output("find the repository", &["rev-parse", "--show-prefix"])?;
        prefix.pop_if(|byte| *byte == b'\n');
        Ok(prefix)
    }
}

/// A path as git prints it, with a line end.
fn path_of(mut said: Vec<u8>) -> PathBuf {
    said.pop_if(|byte| *byte == b'\n');
    PathBuf::from(OsString::from_vec(said))
}
