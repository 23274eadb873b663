//! Why a service is not there.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::BuildError;

/// A failure to start a service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A program is not installed.
    #[error("`{program}` is not installed: `apt install mariadb-server`")]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
    /// A program could not be started.
    #[error("a program could not be started")]
    Start(#[source] Box<BuildError>),
    /// The private folder could not be prepared.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The attempt.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program ended that should have gone on, or ended with a failure.
    #[error("`{program}` ended with {status}")]
    Ended {
        /// Its name.
        program: &'static str,
        /// `exit status: 1`, `signal: 9`.
        status: String,
        /// Its last lines.
        said: Vec<String>,
    },
    /// A program took too long.
    #[error("`{program}` was not ready within {} s", limit.as_secs())]
    TimedOut {
        /// Its name.
        program: &'static str,
        /// How long was waited.
        limit: Duration,
        /// Its last lines.
        said: Vec<String>,
    },
}

impl ServiceError {
    /// The whole story, one line per fact: what the program said, the error, its causes.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = match self {
            Self::Ended { said, .. } | Self::TimedOut { said, .. } => said.clone(),
            _ => Vec::new(),
        };
        lines.push(self.to_string());
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            lines.push(format!("caused by: {cause}"));
            source = cause.source();
        }
        lines
    }
}

/// Puts the attempt and the path into an I/O error.
pub(super) trait IoContext<T> {
    /// Names what was attempted on which path.
    fn at(self, what: &'static str, path: &Path) -> Result<T, ServiceError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, ServiceError> {
        self.map_err(|error| ServiceError::Io {
            what,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
