//! Byte channels to a running host helper, on this machine or over SSH.
//!
//! [`open`] returns a [`Channel`] whose reader stands directly behind [`MAGIC`]: whatever a login
//! shell printed before is skipped. The helper is named after its own hash and copied to the host
//! only when that host lacks it, on the same connection:
//!
//! ```text
//! <base>/.relstore/helper/<sha256>/relstore-host      0700, run by absolute path
//! ```
//! [`open_store`] does the same in the folder of a store.
//!
//! Nothing is guessed: an unknown or changed host key, a setting of `~/.ssh/config` that cannot be
//! honoured, an unusable key are errors that say what to do ([`TransportError::hint`]). What
//! travels on the channel is [`crate::protocol`]'s business.

mod auth;
mod bootstrap;
mod channel;
mod error;
mod helper;
mod known_hosts;
mod local;
mod preamble;
mod pump;
mod ssh;
mod ssh_config;
mod target;

use std::path::PathBuf;
use std::time::Duration;

pub use crate::protocol::MAGIC;
pub use channel::{Channel, Exit, Link, Reader, Traffic, Writer};
pub use error::{KeyAttempt, ShownKey, TransportError};
pub use helper::HelperBinary;
pub use known_hosts::KnownKey;
pub use target::SshTarget;

/// Where a host is and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A folder of this machine.
    Local,
    /// A host behind an SSH server.
    Ssh(SshTarget),
}

/// What the calling machine brings to a connection. The library reads no environment variables
/// and looks for no home folder: the program passes both.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The local user's name: the remote user when nothing else says one.
    pub user: Option<String>,
    /// The local user's home folder, for `~` in paths.
    pub home: Option<PathBuf>,
    /// The socket of the ssh agent (`SSH_AUTH_SOCK`).
    pub agent_socket: Option<PathBuf>,
    /// The `ssh` program that evaluates the user's SSH configuration with `-G`.
    pub ssh_program: PathBuf,
    /// A configuration file for `ssh -F` in place of the user's and the system's.
    pub ssh_config: Option<PathBuf>,
    /// How long to wait for what.
    pub limits: Limits,
}

impl Default for Caller {
    /// Returns a caller without user, home and agent; `ssh` is looked up in `PATH`.
    fn default() -> Self {
        Self {
            user: None,
            home: None,
            agent_socket: None,
            ssh_program: PathBuf::from("ssh"),
            ssh_config: None,
            limits: Limits::default(),
        }
    }
}

/// Time limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the TCP connection, and again for the SSH handshake: 10 s.
    pub connect: Duration,
    /// Without any progress while authenticating, copying or starting the helper, or while
    /// waiting for its end: 30 s.
    pub idle: Duration,
    /// Silence after which the server is asked for a sign of life; a connection on which four
    /// such questions stay unanswered is closed: 15 s.
    pub keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            keepalive: Duration::from_secs(15),
        }
    }
}

/// What a helper does in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    /// Deploys to it.
    Base,
    /// Keeps a store in it.
    Store,
}

impl Service {
    /// Returns the words before the folder on the helper's command line.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Base => ["serve", "--base"],
            Self::Store => ["store", "--root"],
        }
    }
}

/// Opens a channel to a host helper that serves the base folder `base` at `endpoint`, after
/// copying `helper` there when it is missing.
///
/// Fails with the [`TransportError`] that names the first thing in the way. A failure leaves
/// nothing on the host but, at most, the helper itself.
pub async fn open(
    endpoint: &Endpoint,
    base: &str,
    helper: &HelperBinary,
    caller: &Caller,
) -> Result<Channel, TransportError> {
    open_service(endpoint, Service::Base, base, helper, caller).await
}

/// Opens a channel to a host helper that keeps a store in the folder `root` at `endpoint`; as
/// [`open`] otherwise.
pub async fn open_store(
    endpoint: &Endpoint,
    root: &str,
    helper: &HelperBinary,
    caller: &Caller,
) -> Result<Channel, TransportError> {
    open_service(endpoint, Service::Store, root, helper, caller).await
}

async fn open_service(
    endpoint: &Endpoint,
    service: Service,
    folder: &str,
    helper: &HelperBinary,
    caller: &Caller,
) -> Result<Channel, TransportError> {
    let folder = target::checked_base(folder)?;
    match endpoint {
        Endpoint::Local => local::open(service, folder, helper, caller).await,
        Endpoint::Ssh(target) => ssh::open(target, service, folder, helper, caller).await,
    }
}
