//! One connection to a helper that serves a store: requests out, answers in, both all the time.
//!
//! ```text
//! ask -> Work -> writer task -> channel -> helper
//!                 | Awaited, in the order sent
//! ask <- answer <- reader task <- channel <- helper
//! ```
//! The reader takes what comes whether the writer waits or not, so that neither side can block
//! the other. Any failure ends the connection for all who wait on it.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::answer::{Answer, Outcome, Partial};
use super::fault::Lost;
use super::{Request, Source};
use crate::frames::Frames;
use crate::protocol::{
    MAX_PART, Message, ProtocolError, STORE_PROTOCOL, StoreDelete, StoreGet, StoreHello, StoreList,
    StorePart, StorePut, StorePutEnd, StoreRefused, StoreSettle,
};
use crate::session::Wire;
use crate::transport::Link;

/// Requests that wait for the writer.
const QUEUE: usize = 256;
/// Bytes that are gathered before they are written.
const GATHER: usize = 256 << 10;

/// Why an answer did not come.
#[derive(Debug)]
pub(super) enum Failed {
    /// The helper refused the request.
    Refused(StoreRefused),
    /// The connection is of no use any more.
    Lost(Lost),
}

/// A request and who asks.
struct Work {
    request: Request,
    answer: oneshot::Sender<Outcome>,
}

/// An answer that is awaited.
struct Awaited {
    partial: Partial,
    answer: oneshot::Sender<Outcome>,
}

/// What the tasks of a connection share.
#[derive(Debug, Default)]
struct State {
    /// Set once, by whoever fails first.
    lost: OnceLock<Lost>,
    /// Bytes sent: progress, beside what comes in.
    sent_bytes: AtomicU64,
    /// Requests without an answer.
    awaited: AtomicUsize,
}

/// An open connection; ends with the value, once what was asked is answered.
#[derive(Debug)]
pub(super) struct Connection {
    hello: StoreHello,
    work: mpsc::Sender<Work>,
    state: Arc<State>,
}

impl Connection {
    /// Reads what the helper says first and starts the tasks. `limit` is the longest time in
    /// which nothing moves while answers are awaited.
    pub(super) async fn open(wire: Wire, limit: Duration) -> Result<Self, Lost> {
        let mut frames = Frames::new(wire.reader);
        let hello = match tokio::time::timeout(limit, frames.next()).await {
            Err(_) => return Err(Lost::Stalled { limit }),
            Ok(Ok(Message::StoreHello(hello))) => hello,
            Ok(Ok(other)) => return Err(garbled(format!("it began with {}", other.name()))),
            Ok(Err(error)) => return Err(ended(error, wire.link.as_ref()).await),
        };
        if hello.protocol != STORE_PROTOCOL {
            let theirs = hello.protocol;
            return Err(Lost::Version { theirs });
        }
        let state = Arc::new(State::default());
        let (work, works) = mpsc::channel(QUEUE);
        // Not bounded: whoever asks waits for the answer, so there are no more than askers.
        let (awaited, queue) = mpsc::unbounded_channel();
        let writer = tokio::spawn(Sender::new(wire.writer, Arc::clone(&state)).run(works, awaited));
        let receiver = Receiver {
            frames,
            queue,
            state: Arc::clone(&state),
            link: wire.link,
            limit,
        };
        tokio::spawn(receiver.run(writer));
        Ok(Self { hello, work, state })
    }

    pub(super) fn hello(&self) -> &StoreHello {
        &self.hello
    }

    /// Whether it can still be asked.
    pub(super) fn is_lost(&self) -> bool {
        self.state.lost.get().is_some() || self.work.is_closed()
    }

    /// Asks and waits for the answer. One that is not waited for any more is thrown away when it
    /// comes; what was asked is done.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, Failed> {
        let (answer, answered) = oneshot::channel();
        // An error here shows as an answer that never comes.
        let _ = self.work.send(Work { request, answer }).await;
        match answered.await {
            Ok(outcome) => outcome.map_err(Failed::Refused),
            Err(_) => Err(Failed::Lost(self.state.why())),
        }
    }
}

impl State {
    /// Notes why, unless that is known already; before anybody learns that there is no answer.
    fn lose(&self, lost: Lost) {
        let _ = self.lost.set(lost);
    }

    fn why(&self) -> Lost {
        let unknown = || Lost::Closed {
            detail: "no reason given".to_owned(),
        };
        self.lost.get().cloned().unwrap_or_else(unknown)
    }
}

/// Writes requests.
struct Sender {
    writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    gathered: Vec<u8>,
    state: Arc<State>,
}

impl Sender {
    fn new(writer: Box<dyn AsyncWrite + Send + Sync + Unpin>, state: Arc<State>) -> Self {
        Self {
            writer,
            gathered: Vec::new(),
            state,
        }
    }

    /// Runs until nobody asks any more, or the channel fails; the reader then sees its end.
    async fn run(
        mut self,
        mut works: mpsc::Receiver<Work>,
        awaited: mpsc::UnboundedSender<Awaited>,
    ) {
        while let Some(work) = works.recv().await {
            let mut next = Some(work);
            while let Some(work) = next {
                if work.answer.is_closed() {
                    next = works.try_recv().ok();
                    continue; // nobody waits: not asked at all
                }
                self.state.awaited.fetch_add(1, Ordering::Relaxed);
                // Known before it is asked: the answer may come at once.
                let partial = Partial::to(&work.request);
                let answer = work.answer;
                if awaited.send(Awaited { partial, answer }).is_err() {
                    return;
                }
                let sent = self.request(work.request).await;
                self.proceed(sent).await;
                if self.state.lost.get().is_some() {
                    return;
                }
                next = works.try_recv().ok();
            }
            let sent = self.flush().await;
            self.proceed(sent).await;
        }
    }

    /// Goes on where nothing failed. A channel that takes no more is left to the reader, which
    /// learns why and ends this task.
    async fn proceed(&self, sent: Result<(), Lost>) {
        match sent {
            Ok(()) => {}
            Err(Lost::Closed { .. }) => std::future::pending().await,
            Err(lost) => self.state.lose(lost),
        }
    }

    async fn request(&mut self, request: Request) -> Result<(), Lost> {
        match request {
            Request::Get {
                name,
                offset,
                length,
            } => {
                let get = StoreGet {
                    name,
                    offset,
                    length,
                };
                self.send(get).await
            }
            Request::List { prefix } => self.send(StoreList { prefix }).await,
            Request::Delete { name } => self.send(StoreDelete { name }).await,
            Request::Settle { folder } => self.send(StoreSettle { folder }).await,
            Request::Put {
                name,
                advisory,
                source,
            } => {
                self.send(StorePut { name, advisory }).await?;
                let length = match source {
                    Source::Bytes(bytes) => self.bytes(&bytes).await?,
                    Source::File(file) => self.file(&file).await?,
                };
                self.send(StorePutEnd { length }).await
            }
        }
    }

    async fn bytes(&mut self, bytes: &Bytes) -> Result<u64, Lost> {
        for part in bytes.chunks(MAX_PART) {
            let bytes = part.to_vec();
            self.send(StorePart { bytes }).await?;
        }
        Ok(bytes.len() as u64)
    }

    async fn file(&mut self, file: &tempfile::NamedTempFile) -> Result<u64, Lost> {
        let unreadable = |error: io::Error| Lost::Unreadable {
            detail: error.to_string(),
        };
        let mut opened = file.reopen().map_err(unreadable)?;
        let mut length = 0;
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let bytes = next_part(&mut opened)?;
                Ok((opened, bytes))
            });
            let read = read
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)));
            let (again, bytes) = read.map_err(unreadable)?;
            opened = again;
            if bytes.is_empty() {
                return Ok(length);
            }
            length += bytes.len() as u64;
            self.send(StorePart { bytes }).await?;
        }
    }

    async fn send(&mut self, message: impl Into<Message>) -> Result<(), Lost> {
        let frame = message.into().encode();
        let frame = frame.map_err(|error| garbled(error.to_string()))?;
        self.gathered.extend_from_slice(&frame);
        if self.gathered.len() >= GATHER {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        let closed = |error: io::Error| Lost::Closed {
            detail: error.to_string(),
        };
        self.writer
            .write_all(&self.gathered)
            .await
            .map_err(closed)?;
        self.writer.flush().await.map_err(closed)?;
        let sent_bytes = self.gathered.len() as u64;
        self.state
            .sent_bytes
            .fetch_add(sent_bytes, Ordering::Relaxed);
        self.gathered.clear();
        Ok(())
    }
}

/// The next bytes of a file, as many as one part holds; none at its end.
fn next_part(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(MAX_PART);
    file.take(MAX_PART as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads answers.
struct Receiver {
    frames: Frames,
    queue: mpsc::UnboundedReceiver<Awaited>,
    state: Arc<State>,
    link: Option<Link>,
    limit: Duration,
}

impl Receiver {
    /// Runs until the channel ends. Whoever still waits then learns it by the end of `queue`.
    async fn run(mut self, writer: JoinHandle<()>) {
        self.answers().await;
        // It may wait for room in a channel that nobody empties any more.
        writer.abort();
    }

    async fn answers(&mut self) {
        let mut current = None;
        loop {
            let message = match self.message().await {
                Ok(message) => message,
                Err(lost) => return self.state.lose(lost),
            };
            let Some(awaited) = current.take().or_else(|| self.queue.try_recv().ok()) else {
                let detail = format!("{} came unasked", message.name());
                return self.state.lose(garbled(detail));
            };
            let Awaited { partial, answer } = awaited;
            match partial.take(message) {
                Err(detail) => return self.state.lose(garbled(detail)),
                Ok(Err(partial)) => current = Some(Awaited { partial, answer }),
                Ok(Ok(outcome)) => {
                    self.state.awaited.fetch_sub(1, Ordering::Relaxed);
                    // Who does not wait any more does not need it.
                    let _ = answer.send(outcome);
                }
            }
        }
    }

    /// The next message. Silence is a failure only while an answer is awaited and nothing is
    /// sent either.
    async fn message(&mut self) -> Result<Message, Lost> {
        let limit = self.limit;
        loop {
            let before = self.moved_bytes();
            match tokio::time::timeout(limit, self.frames.next()).await {
                Ok(Ok(message)) => return Ok(message),
                Ok(Err(error)) => return Err(ended(error, self.link.as_ref()).await),
                Err(_) => {
                    let waiting = self.state.awaited.load(Ordering::Relaxed) > 0;
                    if waiting && self.moved_bytes() == before {
                        return Err(Lost::Stalled { limit });
                    }
                }
            }
        }
    }

    fn moved_bytes(&self) -> u64 {
        self.frames.received_bytes() + self.state.sent_bytes.load(Ordering::Relaxed)
    }
}

fn garbled(detail: String) -> Lost {
    Lost::Garbled { detail }
}

/// Why a channel ended, with the helper's own words where there are any.
async fn ended(error: ProtocolError, link: Option<&Link>) -> Lost {
    let mut detail = error.to_string();
    match error {
        ProtocolError::Closed => {}
        ProtocolError::Io(source) => detail = format!("{detail}: {source}"),
        _ => return garbled(detail),
    }
    // What the helper wrote last travels beside the channel and may come later.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let words = link.map(Link::stderr).unwrap_or_default();
    if !words.is_empty() {
        detail = format!("{detail}; it says: {words}");
    }
    Lost::Closed { detail }
}
