//! One SSH connection to a host: opened, its key checked, logged in, commands run on it.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect, Preferred, cipher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::bootstrap::{self, Start};
use super::channel::{Channel, Counters, Exit, Link, Meter, Metered, Process, Tail, Writer};
use super::known_hosts::{KnownHosts, Verdict, fingerprint};
use super::ssh_config::{self, Settings};
use super::{Caller, HelperBinary, Limits, SshTarget, TransportError, auth};

/// Receive window of a channel in bytes: enough for 100 ms at 640 Mbit/s.
const WINDOW: u32 = 8 << 20;

/// Unanswered questions for a sign of life before the connection is given up.
const KEEPALIVES: usize = 3;

/// Opens a connection to `target` and a channel to the helper on it.
pub(super) async fn open(
    target: &SshTarget,
    base: &str,
    helper: &HelperBinary,
    caller: &Caller,
) -> Result<Channel, TransportError> {
    let settings = ssh_config::resolve(target, caller).await?;
    let connection = Connection::open(&settings, &caller.limits).await?;

    let serve = bootstrap::serve_command(base, helper);
    let failed = match bootstrap::start(connection.exec(&serve).await?).await? {
        Start::Running(channel) => return Ok(*channel),
        Start::Absent { exit, output } => (exit, output),
    };
    let script = bootstrap::install_command(base, helper);
    let channel = connection.exec(&script).await?;
    bootstrap::install(channel, base, helper, failed).await?;

    match bootstrap::start(connection.exec(&serve).await?).await? {
        Start::Running(mut channel) => {
            channel.link.installed = true;
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

/// Why a connection ended, as far as it said so.
type Farewell = Arc<Mutex<Option<String>>>;

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
            farewell: Arc::clone(&farewell),
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
            detail: last_words(&self.farewell).unwrap_or_else(|| error.to_string()),
        };
        let opened = async {
            let channel = self.handle.channel_open_session().await?;
            channel.exec(true, command).await?;
            Ok(channel)
        };
        let (input, output) = match tokio::time::timeout(self.limit, opened).await {
            Ok(channel) => channel.map_err(closed)?.split(),
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
        let (pieces, received) = mpsc::channel(16);
        let (writing, written) = oneshot::channel();
        let (linked, unlinked) = oneshot::channel();
        let (ended, exit) = oneshot::channel();
        let writer = SshWriter {
            inner: Some(Box::new(Box::pin(output.make_writer()))),
            _open: writing,
        };
        let pump = Pump {
            input,
            output,
            pieces: Some(pieces),
            stderr: stderr.clone(),
            farewell: Arc::clone(&self.farewell),
        };
        tokio::spawn(pump.run(written, unlinked, ended));
        Ok(Channel {
            reader: Box::new(Metered::new(SshReader::new(received), &counters.payload)),
            writer: Box::new(Metered::new(writer, &counters.payload)),
            link: Link {
                host: self.label.clone(),
                stderr,
                counters,
                installed: false,
                limit: self.limit,
                process: Process::Ssh(SshLink {
                    exit,
                    handle: Arc::clone(&self.handle),
                    _open: linked,
                }),
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
        let name = self.settings.names.name.clone();
        let algorithm = key.algorithm().as_str().to_owned();
        let fingerprint = fingerprint(&key);
        let error = match self.known.check(&self.settings.names, &key) {
            Verdict::Known => return Ok(true),
            Verdict::Revoked(key) => TransportError::HostKeyRevoked { host, key },
            Verdict::Unknown(known) => TransportError::HostKeyUnknown {
                host,
                algorithm,
                fingerprint,
                name,
                known,
            },
            Verdict::Changed(known) => TransportError::HostKeyChanged {
                host,
                algorithm,
                fingerprint,
                name,
                known,
            },
        };
        Err(Refusal::HostKey(Box::new(error)))
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Refusal>) -> Result<(), Refusal> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                super::channel::printable(info.message.as_bytes())
            }
            DisconnectReason::Error(Refusal::Ssh(error)) => error.to_string(),
            DisconnectReason::Error(Refusal::HostKey(error)) => error.to_string(),
        };
        *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

fn last_words(farewell: &Farewell) -> Option<String> {
    farewell
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// The hold of a [`Link`] on its connection.
pub(super) struct SshLink {
    exit: oneshot::Receiver<Result<Exit, String>>,
    handle: Arc<Handle<HostKeyCheck>>,
    _open: oneshot::Sender<()>,
}

impl SshLink {
    /// Waits for the exit status; closes the connection when this was its last channel.
    pub(super) async fn finish(self) -> Result<Exit, String> {
        let exit = self.exit.await.unwrap_or_else(|_| Err(String::new()));
        if let Some(handle) = Arc::into_inner(self.handle) {
            // Politeness: the connection closes with the handle anyway.
            let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
        }
        exit
    }
}

/// Takes apart what arrives on a channel. Holds the channel open for as long as the link lives.
struct Pump {
    input: ChannelReadHalf,
    output: ChannelWriteHalf<client::Msg>,
    pieces: Option<mpsc::Sender<io::Result<Bytes>>>,
    stderr: Tail,
    farewell: Farewell,
}

impl Pump {
    /// Runs until the channel closes or `unlinked` resolves; sends EOF when `written` does.
    async fn run(
        mut self,
        mut written: oneshot::Receiver<()>,
        mut unlinked: oneshot::Receiver<()>,
        ended: oneshot::Sender<Result<Exit, String>>,
    ) {
        let mut exit = Exit::default();
        let (mut told, mut closed, mut writing) = (false, false, true);
        loop {
            let message = tokio::select! {
                message = self.input.wait() => message,
                _ = &mut written, if writing => {
                    writing = false;
                    // On a closed channel the message below tells.
                    let _ = self.output.eof().await;
                    continue;
                }
                _ = &mut unlinked => return,
            };
            match message {
                Some(ChannelMsg::Data { data }) => self.pass(Ok(data), &mut unlinked).await,
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => self.stderr.push(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    exit.code = Some(exit_status);
                    told = true;
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    let name = format!("{signal_name:?}");
                    exit.signal = Some(super::channel::printable(name.as_bytes()));
                    told = true;
                }
                Some(ChannelMsg::Failure) => {
                    self.stderr.push(b"the server refuses to run commands\n");
                    told = true;
                    break;
                }
                Some(ChannelMsg::Eof) => self.pieces = None,
                Some(ChannelMsg::Close) => {
                    closed = true;
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
        if told || closed {
            let _ = ended.send(Ok(exit));
            return;
        }
        let words = last_words(&self.farewell).unwrap_or_else(|| "no reason given".into());
        let lost = io::Error::new(io::ErrorKind::ConnectionReset, words.clone());
        self.pass(Err(lost), &mut unlinked).await;
        let _ = ended.send(Err(words));
    }

    /// Hands a piece to the reader and waits while the reader is behind; without a reader it is
    /// dropped.
    async fn pass(&mut self, piece: io::Result<Bytes>, unlinked: &mut oneshot::Receiver<()>) {
        if let Some(pieces) = &self.pieces {
            let gone = tokio::select! {
                sent = pieces.send(piece) => sent.is_err(),
                _ = unlinked => true,
            };
            if gone {
                self.pieces = None;
            }
        }
    }
}

/// Reads the pieces a [`Pump`] passes on.
struct SshReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl SshReader {
    fn new(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        let current = Bytes::new();
        Self { pieces, current }
    }
}

impl AsyncRead for SshReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.current = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..length]);
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Writes to a channel; its end, by shutdown or drop, is the end of the far side's input.
struct SshWriter {
    inner: Option<Writer>,
    _open: oneshot::Sender<()>,
}

impl AsyncWrite for SshWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The pump sends EOF behind all that was written.
        self.inner = None;
        let (closed, _) = oneshot::channel();
        self._open = closed;
        Poll::Ready(Ok(()))
    }
}
