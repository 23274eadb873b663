//! A failure on the host, as it is told to the program.

use std::io;
use std::path::Path;

use crate::protocol::{Reason, Refused};

/// What failed, why, and what to do; becomes a [`Refused`].
#[derive(Debug)]
pub(crate) struct HostError {
    reason: Reason,
    message: String,
    causes: Vec<String>,
    hint: String,
}

pub(crate) type Result<T> = std::result::Result<T, HostError>;

impl HostError {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            causes: Vec::new(),
            hint: String::new(),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// The message and its causes in one line, for the ledger and the journal.
    pub(crate) fn line(&self) -> String {
        std::iter::once(&self.message)
            .chain(&self.causes)
            .cloned()
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// The reply; `state` says what the base is like now.
    pub(crate) fn refused(self, state: String) -> Refused {
        Refused {
            reason: self.reason,
            message: self.message,
            causes: self.causes,
            state,
            hint: self.hint,
        }
    }
}

/// Puts the attempt and the path into a failed system call.
pub(crate) trait At<T> {
    fn at(self, what: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let (reason, hint) = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    (Reason::DiskFull, "make room on the host (bytes or inodes), then deploy again; what arrived is kept")
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    (Reason::Base, "the deploy user must own the base and all folders in it but the contents of shared/")
                }
                _ => (Reason::Io, "look at the host's disk and at this path, then deploy again"),
            };
            HostError::new(reason, format!("cannot {what} {}", path.display())).cause(error.to_string()).hint(hint)
        })
    }
}
