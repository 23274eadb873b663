//! A byte channel to a running host helper, and what can be said about it.
//!
//! Reader and writer may be moved into tasks of their own; the [`Link`] stays behind, keeps the
//! connection alive and knows how the helper ended. Dropping all three closes the connection: the
//! helper sees the end of its input.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::TransportError;
use super::pump::SshLink;

/// How much of the other side's stderr is kept, in bytes.
const TAIL: usize = 16 << 10;

/// How long the last words of an ended local process are waited for.
const STDERR_GRACE: Duration = Duration::from_millis(500);

/// Reading end of a channel.
pub type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;
/// Writing end of a channel.
pub type Writer = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// A channel to a host helper that has printed its magic bytes.
pub struct Channel {
    /// What the helper writes, from its first frame on.
    pub reader: Reader,
    /// What the helper reads. Shutting it down, or dropping it, ends the helper's input.
    pub writer: Writer,
    /// The connection under both.
    pub link: Link,
}

impl Channel {
    /// Ends the helper's input, discards what it still writes and waits for its end.
    pub async fn finish(self) -> Result<Exit, TransportError> {
        drop(self.writer);
        drop(self.reader);
        self.link.finish().await
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("host", &self.link.host)
            .finish_non_exhaustive()
    }
}

/// The connection of a [`Channel`].
pub struct Link {
    pub(super) host: String,
    pub(super) stderr: Tail,
    pub(super) counters: Counters,
    pub(super) installed: bool,
    pub(super) limit: Duration,
    pub(super) process: Process,
}

/// The far end's process, as seen from here.
pub(super) enum Process {
    Local {
        child: Child,
        /// Ends when all of its stderr is kept.
        stderr: JoinHandle<()>,
    },
    Ssh(SshLink),
}

impl Link {
    /// Returns the host as configured, for messages.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the last 16 KiB that the far end wrote to its stderr, without control characters.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Returns whether the helper had to be copied to the host first.
    pub fn installed_helper(&self) -> bool {
        self.installed
    }

    /// Returns the bytes moved so far.
    pub fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    /// Waits for the end of the helper and closes the connection. The helper ends when its input
    /// does, so the writer must be shut down or dropped before. Fails with
    /// [`TransportError::Stalled`] when the helper is still there after the idle limit, and
    /// with [`TransportError::Closed`] when the connection is lost first.
    pub async fn finish(self) -> Result<Exit, TransportError> {
        let doing = "waiting for the end of the host helper";
        let host = self.host;
        let ended = async {
            match self.process {
                Process::Local { mut child, stderr } => match child.wait().await {
                    Ok(status) => {
                        // A process that it left behind may hold the pipe open.
                        let _ = tokio::time::timeout(STDERR_GRACE, stderr).await;
                        Ok(Exit::from(status))
                    }
                    Err(error) => Err(error.to_string()),
                },
                Process::Ssh(link) => link.finish().await,
            }
        };
        match tokio::time::timeout(self.limit, ended).await {
            Ok(Ok(exit)) => Ok(exit),
            Ok(Err(detail)) => Err(TransportError::Closed {
                host,
                doing,
                detail,
            }),
            Err(_) => Err(TransportError::Stalled {
                host,
                doing,
                limit: self.limit,
                output: self.stderr.text(),
            }),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status.
    pub code: Option<u32>,
    /// The signal that ended it, `KILL` or `9`.
    pub signal: Option<String>,
}

impl Exit {
    /// Returns whether the process ended by itself with status 0.
    pub fn success(&self) -> bool {
        self.code == Some(0) && self.signal.is_none()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.signal, self.code) {
            (Some(signal), _) => write!(f, "ended by signal {signal}"),
            (None, Some(code)) => write!(f, "exit status {code}"),
            (None, None) => f.write_str("no exit status"),
        }
    }
}

impl From<std::process::ExitStatus> for Exit {
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: status.code().and_then(|code| u32::try_from(code).ok()),
            signal: status.signal().map(|signal| signal.to_string()),
        }
    }
}

/// Bytes moved by a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Written to the helper.
    pub sent_bytes: u64,
    /// Read from the helper, its magic bytes and a shell's chatter included.
    pub received_bytes: u64,
    /// Sent on the TCP connection, with handshake, encryption and a copied helper; locally the
    /// same as `sent_bytes`.
    pub wire_sent_bytes: u64,
    /// Received on the TCP connection; locally the same as `received_bytes`.
    pub wire_received_bytes: u64,
}

/// Two counters that streams add to.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Meter {
    pub(super) fn total(&self) -> u64 {
        self.sent.load(Ordering::Relaxed) + self.received.load(Ordering::Relaxed)
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Ends when nothing was counted for `limit`, at the latest after twice that time.
    pub(super) async fn stalled(&self, limit: Duration) {
        let mut last = self.total();
        loop {
            tokio::time::sleep(limit).await;
            let now = self.total();
            if now == last {
                return;
            }
            last = now;
        }
    }
}

/// The meters of a channel and of the connection it runs on.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    pub(super) payload: Meter,
    pub(super) wire: Meter,
}

impl Counters {
    fn traffic(&self) -> Traffic {
        Traffic {
            sent_bytes: self.payload.sent.load(Ordering::Relaxed),
            received_bytes: self.payload.received.load(Ordering::Relaxed),
            wire_sent_bytes: self.wire.sent.load(Ordering::Relaxed),
            wire_received_bytes: self.wire.received.load(Ordering::Relaxed),
        }
    }
}

/// A stream that counts.
#[derive(Debug)]
pub(super) struct Metered<T> {
    inner: T,
    meter: Meter,
}

impl<T> Metered<T> {
    pub(super) fn new(inner: T, meter: &Meter) -> Self {
        let meter = meter.clone();
        Self { inner, meter }
    }

    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.meter.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.meter.add_received(buf.filled().len() - before);
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.count(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.count(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The end of a stream of text, bounded.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
}

impl Tail {
    pub(super) fn push(&self, data: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend(data);
        let excess = bytes.len().saturating_sub(TAIL);
        bytes.drain(..excess);
    }

    pub(super) fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = bytes.as_slices();
        printable(&[front, back].concat())
    }
}

/// Returns bytes of another machine as text that cannot steer a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let harmless = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars()
        .filter(harmless)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_tail_keeps_the_end_and_no_control_characters() {
        let tail = Tail::default();
        tail.push(&vec![b'x'; TAIL]);
        tail.push(b"\x1b[31mlast\r\n\x07line\n");
        let text = tail.text();
        assert!(
            text.ends_with("[31mlast\nline") && text.len() <= TAIL,
            "{}",
            text.len()
        );
    }

    #[tokio::test]
    async fn metered_streams_count_what_passed() {
        let (near, mut far) = tokio::io::duplex(64);
        let meter = Meter::default();
        let mut near = Metered::new(near, &meter);
        near.write_all(b"12345").await.unwrap();
        far.write_all(b"123").await.unwrap();
        near.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!(meter.sent.load(Ordering::Relaxed), 5);
        assert_eq!(meter.received.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn exits_say_how() {
        let killed = Exit {
            code: None,
            signal: Some("KILL".into()),
        };
        assert_eq!(killed.to_string(), "ended by signal KILL");
        assert!(!killed.success() && !Exit::default().success());
        assert_eq!(Exit::default().to_string(), "no exit status");
    }
}
