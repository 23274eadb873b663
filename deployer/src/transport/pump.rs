//! The streams of one SSH channel: a task takes apart what arrives, reader and writer are its ends.
//!
//! ```text
//! server -> Pump -> SshReader (stdout)          SshWriter (stdin) -> server
//!                -> Tail (stderr)               its end: EOF
//!                -> SshLink (exit status)
//! ```
//! When the pump ends, writes fail instead of waiting for a window that nobody opens any more.
//! The connection ends with link, reader and writer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use russh::client::{self, Handle};
use russh::{ChannelMsg, ChannelReadHalf, Disconnect};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};

use super::channel::{Exit, Tail, Writer, printable};
use super::ssh::HostKeyCheck;

/// Pieces that wait for the reader before the pump waits too.
const WAITING_PIECES: usize = 16;

/// Why a connection ended, as far as it said so.
#[derive(Debug, Clone, Default)]
pub(super) struct Farewell(Arc<Mutex<Option<String>>>);

impl Farewell {
    pub(super) fn say(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(super) fn words(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Starts the pump of `channel` and returns the ends of its streams.
pub(super) fn start(
    channel: russh::Channel<client::Msg>,
    handle: Arc<Handle<HostKeyCheck>>,
    stderr: Tail,
    farewell: Farewell,
) -> (SshReader, SshWriter, SshLink) {
    let (input, output) = channel.split();
    let (pieces, received) = mpsc::channel(WAITING_PIECES);
    let (writing, written) = oneshot::channel();
    let (ended, exit) = oneshot::channel();
    let (alive, gone) = oneshot::channel();
    let reader = SshReader {
        pieces: received,
        current: Bytes::new(),
    };
    let writer = SshWriter {
        open: Some((Box::new(Box::pin(output.make_writer())), writing)),
        gone,
    };
    let link = SshLink { exit, handle };
    let pump = Pump {
        input,
        pieces: Some(pieces),
        stderr,
        farewell,
        _alive: alive,
    };
    tokio::spawn(pump.run(ended));
    // Not the pump's work: EOF waits behind what was written, which the connection takes only
    // while the pump takes what arrives.
    tokio::spawn(async move {
        // Resolves with the end of the writer, by an error because nothing is ever sent.
        let _ = written.await;
        // On a closed channel there is nobody left to tell.
        let _ = output.eof().await;
    });
    (reader, writer, link)
}

/// Sends EOF by its end.
type Writing = oneshot::Sender<()>;

/// The hold of a `Link` on its connection.
pub(super) struct SshLink {
    exit: oneshot::Receiver<Result<Exit, String>>,
    handle: Arc<Handle<HostKeyCheck>>,
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

/// Takes apart what arrives on a channel.
struct Pump {
    input: ChannelReadHalf,
    pieces: Option<mpsc::Sender<io::Result<Bytes>>>,
    stderr: Tail,
    farewell: Farewell,
    /// Tells the writer by its end.
    _alive: oneshot::Sender<()>,
}

impl Pump {
    /// Runs until the channel closes.
    async fn run(mut self, ended: oneshot::Sender<Result<Exit, String>>) {
        let mut exit = Exit::default();
        let (mut told, mut closed) = (false, false);
        while let Some(message) = self.input.wait().await {
            match message {
                ChannelMsg::Data { data } => self.pass(Ok(data)).await,
                ChannelMsg::ExtendedData { data, ext: 1 } => self.stderr.push(&data),
                ChannelMsg::ExitStatus { exit_status } => {
                    exit.code = Some(exit_status);
                    told = true;
                }
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    let name = format!("{signal_name:?}");
                    exit.signal = Some(printable(name.as_bytes()));
                    told = true;
                }
                ChannelMsg::Failure => {
                    self.stderr.push(b"the server refuses to run commands\n");
                    told = true;
                    break;
                }
                ChannelMsg::Eof => self.pieces = None,
                ChannelMsg::Close => {
                    closed = true;
                    break;
                }
                _ => {}
            }
        }
        if told || closed {
            let _ = ended.send(Ok(exit));
            return;
        }
        let words = self
            .farewell
            .words()
            .unwrap_or_else(|| "no reason given".into());
        let lost = io::Error::new(io::ErrorKind::ConnectionReset, words.clone());
        self.pass(Err(lost)).await;
        let _ = ended.send(Err(words));
    }

    /// Hands a piece to the reader and waits while the reader is behind; without a reader it is
    /// dropped.
    async fn pass(&mut self, piece: io::Result<Bytes>) {
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).await.is_err()
        {
            self.pieces = None;
        }
    }
}

/// Reads the pieces a [`Pump`] passes on.
pub(super) struct SshReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
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
pub(super) struct SshWriter {
    open: Option<(Writer, Writing)>,
    gone: oneshot::Receiver<()>,
}

impl AsyncWrite for SshWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.open.is_some() && Pin::new(&mut self.gone).poll(cx).is_ready() {
            self.open = None;
        }
        match &mut self.open {
            Some(_) if buf.is_empty() => Poll::Ready(Ok(0)),
            Some((stream, _)) => Pin::new(stream).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.open {
            Some((stream, _)) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open = None;
        Poll::Ready(Ok(()))
    }
}
