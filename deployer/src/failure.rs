//! Why one step of a deploy failed, on one host or for all of them.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use relstore_store::StoreError;
use relstore_store::id::BlobId;

use crate::health::HealthError;
use crate::protocol::{Ended, PROTOCOL, ProtocolError, Reason, Refused};
use crate::transport::TransportError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// No connection to the host.
    #[error(transparent)]
    Transport(Box<TransportError>),
    /// The host helper refused.
    #[error("{}", .0.message)]
    Refused(Box<Refused>),
    /// The host helper speaks another protocol; guessing could misread what the host serves.
    #[error("the host helper speaks protocol {theirs}, this program {PROTOCOL}")]
    Version {
        /// The helper's.
        theirs: u32,
    },
    /// The connection to the host helper broke.
    #[error(
        "the connection to the host was lost during `{request}`{}",
        suffix(stderr)
    )]
    Lost {
        /// The request that had no answer yet.
        request: &'static str,
        /// What the helper wrote to its standard error.
        stderr: String,
        /// How it broke.
        source: ProtocolError,
    },
    /// The host helper did not answer in time.
    #[error("the host did not answer `{request}` within {} s", limit.as_secs())]
    Silent {
        /// The request.
        request: &'static str,
        /// The time waited.
        limit: Duration,
    },
    /// The host helper answered something else than was asked.
    #[error("the host answered `{request}` with `{reply}`")]
    Unexpected {
        /// The request.
        request: &'static str,
        /// The reply.
        reply: &'static str,
    },
    /// A message that cannot be sent.
    #[error("a message to the host cannot be made")]
    Message(#[source] ProtocolError),
    /// `current` on the host is not relstore's; replacing it could destroy what is served.
    #[error("`current` on the host is {what}, which relstore did not make")]
    Foreign {
        /// What it is.
        what: String,
    },
    /// A command on the host failed.
    #[error("`{command}` {}{}", ended_text(*ended), suffix(output))]
    Command {
        /// Program and arguments.
        command: String,
        /// How it ended.
        ended: Ended,
        /// The last lines it printed.
        output: String,
    },
    /// Required files or folders are not in the release.
    #[error("{} of the release's required files and folders fail", failures.len())]
    Gates {
        /// One line each.
        failures: Vec<String>,
    },
    /// The new release does not answer as it should.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// The store cannot deliver what is to be sent.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// What the host wants was sent twice and did not arrive as what its id says.
    #[error("{} blobs do not arrive intact, the first is {first}", count)]
    Corrupt {
        /// How many.
        count: usize,
        /// One of them.
        first: BlobId,
    },
    /// The host asks for a blob that the release does not have.
    #[error("the host asks for blob {blob}, which the release does not have")]
    Stranger {
        /// The blob.
        blob: BlobId,
    },
    /// The compressor failed.
    #[error("a pack cannot be compressed")]
    Compress(#[source] io::Error),
    /// Work in the background ended before it answered: the program is shutting down.
    #[error("the work was interrupted")]
    Interrupted,
}

impl From<TransportError> for StepError {
    fn from(error: TransportError) -> Self {
        Self::Transport(Box::new(error))
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// How a command ended, as the end of a sentence.
fn ended_text(ended: Ended) -> String {
    match ended {
        Ended::Exited(code) => format!("ended with status {code}"),
        Ended::Signalled(signal) => format!("was ended by signal {signal}"),
        Ended::TimedOut => "did not end within its time limit".into(),
        Ended::NotStarted => "could not be started".into(),
    }
}

fn suffix(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(":\n{text}")
    }
}

impl StepError {
    /// Returns the causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        match self {
            Self::Refused(refused) => refused.causes.clone(),
            Self::Gates { failures } => failures.clone(),
            _ => {
                let mut causes = Vec::new();
                let mut source = self.source();
                while let Some(cause) = source {
                    causes.push(cause.to_string());
                    source = cause.source();
                }
                causes
            }
        }
    }

    /// Returns what to do next, when there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Transport(error) => Some(error.hint()),
            Self::Refused(refused) => Some(refused.hint.clone()).filter(|hint| !hint.is_empty()),
            Self::Store(error) => error.hint(),
            Self::Version { .. } => {
                Some("install `relstore` and `relstore-host` of the same version".into())
            }
            Self::Foreign { .. } => {
                Some("move `current` away on the host, or choose another base".into())
            }
            Self::Lost { .. } | Self::Silent { .. } => {
                Some("check the network and the host, then deploy again; what arrived is kept".into())
            }
            Self::Command { ended: Ended::NotStarted, command, .. } => {
                let program = command.split(' ').next().unwrap_or_default();
                Some(format!("install `{program}` on the host, or correct its path in the configuration"))
            }
            Self::Command { ended: Ended::TimedOut, .. } => {
                Some("raise `timeout` of the environment, or find out what the command waits for".into())
            }
            Self::Command { .. } => {
                Some("run the command on the host, in the release's folder, to see it fail".into())
            }
            Self::Health(HealthError::OtherRelease { .. }) => Some(
                "the web server still serves the old code: check `reload`, and that nginx passes `$realpath_root`".into(),
            ),
            Self::Health(_) => Some("the application's log on the host says why".into()),
            Self::Corrupt { .. } => {
                Some("check this store and the host's disk; `relstore build` makes the blobs anew".into())
            }
            _ => None,
        }
    }

    /// Returns whether another deploy holds the lock.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.reason == Reason::Busy)
    }

    /// Returns whether the host can no longer be asked on this connection. Anything unexpected
    /// counts: a connection that is out of step says nothing that could be relied on.
    #[must_use]
    pub fn breaks_session(&self) -> bool {
        matches!(
            self,
            Self::Transport(_)
                | Self::Version { .. }
                | Self::Lost { .. }
                | Self::Silent { .. }
                | Self::Unexpected { .. }
                | Self::Message(_)
                // These stop in the middle of a transfer.
                | Self::Store(_)
                | Self::Compress(_)
                | Self::Interrupted
        )
    }
}

/// One failed step.
#[derive(Debug)]
pub struct Failure {
    /// The host; `None` for what concerns all of them.
    pub host: Option<String>,
    /// The step's name, as in the plan.
    pub step: String,
    /// Why.
    pub error: StepError,
}

impl Failure {
    /// Returns the failure in one line, then its causes.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let place = self
            .host
            .as_ref()
            .map(|host| format!(" on {host}"))
            .unwrap_or_default();
        let mut lines = vec![format!("`{}`{place}: {}", self.step, self.error)];
        lines.extend(self.error.causes());
        lines
    }
}
