//! One SSH connection to a host: opened, its key checked, logged in, commands run on it.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Preferred, cipher};
use tokio::net::TcpStream;

use super::bootstrap::{self, Start};
use super::channel::{Channel, Counters, Link, Meter, Metered, Process, Tail, printable};
use super::known_hosts::{KnownHosts, Verdict, fingerprint};
use super::pump::{self, Farewell};
use super::ssh_config::{self, Settings};
use super::{Caller, HelperBinary, Limits, Service, ShownKey, SshTarget, TransportError, auth};

/// Receive window of a channel in bytes: enough for 100 ms at 640 Mbit/s.
const WINDOW: u32 = 8 << 20;

/// Unanswered questions for a sign of life before the connection is given up.
const KEEPALIVES: usize = 3;

/// Opens a connection to `target` and a channel to the helper on it.
pub(super) async fn open(
    target: &SshTarget,
    service: Service,
    base: &str,
    helper: &HelperBinary,
    caller: &Caller,
) -> Result<Channel, TransportError> {
    let settings = ssh_config::resolve(target, caller).await?;
    let connection = Connection::open(&settings, &caller.limits).await?;

    let serve = bootstrap::start_command(service, base, helper);
    if let Start::Running(channel) = bootstrap::start(connection.exec(&serve).await?).await? {
        return Ok(*channel);
    }
    let script = bootstrap::install_command(base, helper);
    let installed = bootstrap::install(connection.exec(&script).await?, base, helper).await?;

    // Also when the script found it intact: another deploy may have copied it in between.
    match bootstrap::start(connection.exec(&serve).await?).await? {
        Start::Running(mut channel) => {
            channel.link.installed = installed;
            Ok(*channel)
        }
        Start::Absent { exit, output } => Err(TransportError::HelperDoesNotRun {
            host: settings.label,
            exit,
            output,
        }),
    }
}

/// A connection that is logged in.
struct Connection {
    handle: Arc<Handle<HostKeyCheck>>,
    label: String,
    wire: Meter,
    limit: Duration,
    farewell: Farewell,
}

impl Connection {
    async fn open(settings: &Settings, limits: &Limits) -> Result<Self, TransportError> {
        let files = settings.known_hosts.clone();
        let known = tokio::task::spawn_blocking(move || KnownHosts::read(&files));
        let known = known.await.map_err(|error| TransportError::Closed {
            host: settings.label.clone(),
            doing: "reading host keys",
            detail: error.to_string(),
        })??;
        let config = Arc::new(client::Config {
            window_size: WINDOW,
            keepalive_interval: Some(limits.keepalive),
            keepalive_max: KEEPALIVES,
            preferred: preferred(&known.algorithms(&settings.names)),
            ..client::Config::default()
        });
        let wire = Meter::default();
        let stream = Metered::new(connect(settings, limits.connect).await?, &wire);
        let farewell = Farewell::default();
        let check = HostKeyCheck {
            settings: settings.clone(),
            known,
            farewell: farewell.clone(),
        };
        let greeting = client::connect_stream(config, stream, check);
        let mut handle = match tokio::time::timeout(limits.connect, greeting).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(Refusal::HostKey(error))) => return Err(*error),
            Ok(Err(Refusal::Ssh(source))) => {
                return Err(TransportError::Handshake {
                    host: settings.label.clone(),
                    source,
                });
            }
            Err(_) => {
                return Err(TransportError::Stalled {
                    host: settings.label.clone(),
                    doing: "agreeing on an SSH session",
                    limit: limits.connect,
                    output: String::new(),
                });
            }
        };
        auth::log_in(&mut handle, settings, limits.idle).await?;
        Ok(Self {
            handle: Arc::new(handle),
            label: settings.label.clone(),
            wire,
            limit: limits.idle,
            farewell,
        })
    }

    /// Starts `command` on a new channel, without waiting for the server's consent: a refusal
    /// shows as an end without exit status.
    async fn exec(&self, command: &str) -> Result<Channel, TransportError> {
        let closed = |error: russh::Error| TransportError::Closed {
            host: self.label.clone(),
            doing: "opening a channel",
            detail: self.farewell.words().unwrap_or_else(|| error.to_string()),
        };
        let opened = async {
            let channel = self.handle.channel_open_session().await?;
            channel.exec(true, command).await?;
            Ok(channel)
        };
        let channel = match tokio::time::timeout(self.limit, opened).await {
            Ok(channel) => channel.map_err(closed)?,
            Err(_) => {
                return Err(TransportError::Stalled {
                    host: self.label.clone(),
                    doing: "opening a channel",
                    limit: self.limit,
                    output: String::new(),
                });
            }
        };
        let counters = Counters {
            payload: Meter::default(),
            wire: self.wire.clone(),
        };
        let stderr = Tail::default();
        let handle = Arc::clone(&self.handle);
        let (reader, writer, link) =
            pump::start(channel, handle, stderr.clone(), self.farewell.clone());
        Ok(Channel {
            reader: Box::new(Metered::new(reader, &counters.payload)),
            writer: Box::new(Metered::new(writer, &counters.payload)),
            link: Link {
                host: self.label.clone(),
                stderr,
                counters,
                installed: false,
                limit: self.limit,
                process: Process::Ssh(link),
            },
        })
    }
}

/// Connects to the first address of the host that answers. Each address gets its share of the
/// time, so that a dead one cannot use up all of it.
async fn connect(settings: &Settings, limit: Duration) -> Result<TcpStream, TransportError> {
    let (label, port) = (&settings.label, settings.port);
    let unresolved = |source| TransportError::Resolve {
        host: label.clone(),
        name: settings.host.clone(),
        source,
    };
    let expired = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
    let look_up = tokio::net::lookup_host((settings.host.as_str(), port));
    let addresses: Vec<SocketAddr> = match tokio::time::timeout(limit, look_up).await {
        Ok(found) => found.map_err(unresolved)?.collect(),
        Err(_) => return Err(unresolved(expired())),
    };
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            // Requests are small and wait for answers: nothing may wait for more to send.
            Ok(Ok(stream)) => match stream.set_nodelay(true) {
                Ok(()) => return Ok(stream),
                Err(error) => last = error,
            },
            Ok(Err(error)) => last = error,
            Err(_) => last = expired(),
        }
    }
    Err(TransportError::Connect {
        host: label.clone(),
        port,
        source: last,
    })
}

/// Returns the algorithms to ask for: those of recorded host keys first. RSA is left out: this
/// build cannot check its signatures.
fn preferred(recorded: &[&str]) -> Preferred {
    let defaults = Preferred::DEFAULT;
    let mut keys: Vec<Algorithm> = defaults
        .key
        .iter()
        .filter(|key| !matches!(key, Algorithm::Rsa { .. }))
        .cloned()
        .collect();
    keys.sort_by_key(|key| !recorded.contains(&key.as_str()));
    // AES-GCM runs in hardware on nearly every server, ChaCha20 on none.
    let mut ciphers = vec![cipher::AES_256_GCM];
    ciphers.extend(
        defaults
            .cipher
            .iter()
            .filter(|name| **name != cipher::AES_256_GCM),
    );
    Preferred {
        key: Cow::Owned(keys),
        cipher: Cow::Owned(ciphers),
        ..defaults
    }
}

/// Judges the server's key.
pub(super) struct HostKeyCheck {
    settings: Settings,
    known: KnownHosts,
    farewell: Farewell,
}

/// Why the SSH library gives up.
#[derive(Debug)]
pub(super) enum Refusal {
    HostKey(Box<TransportError>),
    Ssh(Box<russh::Error>),
}

impl From<russh::Error> for Refusal {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(Box::new(error))
    }
}

impl client::Handler for HostKeyCheck {
    type Error = Refusal;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Refusal> {
        let key = shown.public_key();
        let host = self.settings.label.clone();
        let shown = || {
            Box::new(ShownKey {
                algorithm: key.algorithm().as_str().to_owned(),
                fingerprint: fingerprint(&key),
                name: self.settings.names.name.clone(),
            })
        };
        let error = match self.known.check(&self.settings.names, &key) {
            Verdict::Known => return Ok(true),
            Verdict::Revoked(key) => TransportError::HostKeyRevoked { host, key },
            Verdict::Unknown(known) => TransportError::HostKeyUnknown {
                host,
                shown: shown(),
                known,
            },
            Verdict::Changed(known) => TransportError::HostKeyChanged {
                host,
                shown: shown(),
                known,
            },
        };
        Err(Refusal::HostKey(Box::new(error)))
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Refusal>) -> Result<(), Refusal> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => printable(info.message.as_bytes()),
            DisconnectReason::Error(Refusal::Ssh(error)) => error.to_string(),
            DisconnectReason::Error(Refusal::HostKey(error)) => error.to_string(),
        };
        self.farewell.say(text);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}
