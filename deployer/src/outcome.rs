//! What a deploy came to, and what each host serves after it.

use std::fmt;
use std::time::Duration;

use relstore_store::id::ReleaseId;

use crate::protocol::Current;

/// What a host serves, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serving {
    /// This release.
    Release(ReleaseId),
    /// Nothing: there is no `current`.
    Nothing,
    /// Something relstore did not make, in words.
    Foreign(String),
    /// Nobody knows, and why.
    Unknown(String),
}

impl Serving {
    /// Returns the release, if it is one.
    #[must_use]
    pub fn release(&self) -> Option<ReleaseId> {
        match self {
            Self::Release(release) => Some(*release),
            _ => None,
        }
    }
}

impl From<&Current> for Serving {
    fn from(current: &Current) -> Self {
        match current {
            Current::Absent => Self::Nothing,
            Current::Release(release) => Self::Release(*release),
            Current::Foreign(what) => Self::Foreign(what.clone()),
        }
    }
}

/// What one host serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTruth {
    /// The host.
    pub host: String,
    /// What it serves.
    pub serving: Serving,
}

impl fmt::Display for HostTruth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match &self.serving {
            Serving::Release(release) => write!(f, "{host} serves {}", release.short()),
            Serving::Nothing => write!(f, "{host} serves nothing yet"),
            Serving::Foreign(what) => write!(f, "{host}: `current` is {what}"),
            Serving::Unknown(why) => write!(f, "what {host} serves is not known: {why}"),
        }
    }
}

/// How a successful deploy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every host serves the release now; at least one did not before.
    Live,
    /// Every host served it already; its warm state was made anew, from a changed `.env` or PHP.
    Refreshed,
    /// There was nothing to do.
    Unchanged,
}

impl Ending {
    /// Returns the word for ledgers and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Refreshed => "refreshed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One host after a successful deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOutcome {
    /// The host.
    pub host: String,
    /// What it served before; `None` on a first deploy.
    pub before: Option<ReleaseId>,
    /// Whether `current` was moved.
    pub switched: bool,
    /// When, milliseconds since 1970 by the host's clock.
    pub switched_at_ms: Option<i64>,
    /// Bytes written to its helper.
    pub sent_bytes: u64,
    /// Bytes read from its helper.
    pub received_bytes: u64,
    /// Bytes sent on the TCP connection, handshake and encryption included.
    pub wire_sent_bytes: u64,
    /// Bytes received on the TCP connection.
    pub wire_received_bytes: u64,
    /// Number of its ledger entry; `None` when it could not be written.
    pub ledger_number: Option<u64>,
}

/// A successful deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The release that every host serves.
    pub release: ReleaseId,
    /// How it ended.
    pub ending: Ending,
    /// All hosts, in the order of the environment.
    pub hosts: Vec<HostOutcome>,
    /// Health answers, when any were asked for.
    pub health: Option<crate::health::Healthy>,
    /// Wall time.
    pub took: Duration,
}
