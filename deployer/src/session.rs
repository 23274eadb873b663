//! A conversation with one host helper: typed requests, limits of time, what the helper prints.
//!
//! The helper takes an end of the conversation for the end of the program and undoes whatever is
//! not confirmed. So dropping a `Session` at any point is safe, and is what a cancelled deploy
//! does.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::environment::Host;
use crate::event::{Event, Listener};
use crate::failure::StepError;
use crate::frames::Frames;
use crate::protocol::{self, Hello, Message, PROTOCOL, ProtocolError};
use crate::transport::{self, Caller, Channel, HelperBinary, Link, Traffic, TransportError};

/// Longest silence while the helper starts and settles what an earlier program left.
const HELLO_LIMIT: Duration = Duration::from_secs(300);
/// Longest time one write may take: [`protocol::MAX_PART`] on a slow line.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// How long a helper that no longer listens is listened to.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Lines of a command's output that an error shows.
const TAIL_LINES: usize = 20;

/// Both directions of a channel to a host helper, behind its magic bytes.
pub struct Wire {
    /// What the helper writes.
    pub reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// What the helper reads.
    pub writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    /// The connection under both, when there is one.
    pub link: Option<Link>,
}

impl From<Channel> for Wire {
    fn from(channel: Channel) -> Self {
        Self {
            reader: channel.reader,
            writer: channel.writer,
            link: Some(channel.link),
        }
    }
}

/// Opens channels to hosts.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Opens a channel to a helper that serves `base` on `host`.
    async fn connect(&self, host: &Host, base: &str) -> Result<Wire, TransportError>;
}

/// The real connections: this machine or SSH, with the helper that lies beside the program.
#[derive(Debug, Clone)]
pub struct Connector {
    /// The helper to run on the hosts.
    pub helper: HelperBinary,
    /// What this machine brings.
    pub caller: Caller,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, host: &Host, base: &str) -> Result<Wire, TransportError> {
        let channel = transport::open(&host.endpoint, base, &self.helper, &self.caller).await?;
        Ok(channel.into())
    }
}

/// A reply of the protocol, taken out of the message that came.
pub(crate) trait Reply: Sized {
    /// The reply, or the message back when it is another one.
    fn take(message: Message) -> Result<Self, Box<Message>>;
}

macro_rules! replies {
    ($($name:ident),* $(,)?) => { $(
        impl Reply for protocol::$name {
            fn take(message: Message) -> Result<Self, Box<Message>> {
                match message { Message::$name(reply) => Ok(reply), other => Err(Box::new(other)) }
            }
        }
    )* };
}
replies!(
    Hello,
    Locked,
    ManifestAccepted,
    Checked,
    Ran,
    Warmed,
    Switched,
    WentBack,
    Pruned,
    Verified,
    Entries,
    Recorded,
    Done,
    State,
);

/// Reply to requests that may ask for blobs.
pub(crate) enum OrNeed<T> {
    /// The reply proper.
    Reply(T),
    /// These are missing.
    Need(Vec<relstore_store::id::BlobId>),
}

macro_rules! or_need {
    ($($name:ident),*) => { $(
        impl Reply for OrNeed<protocol::$name> {
            fn take(message: Message) -> Result<Self, Box<Message>> {
                match message {
                    Message::$name(reply) => Ok(Self::Reply(reply)),
                    Message::Need(need) => Ok(Self::Need(need.blobs)),
                    other => Err(Box::new(other)),
                }
            }
        }
    )* };
}
or_need!(Received, Materialised);

/// A conversation with the helper of one host.
pub(crate) struct Session<'a> {
    host: String,
    reader: Frames,
    writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    link: Option<Link>,
    listener: Listener<'a>,
    step: String,
    tail: VecDeque<String>,
    sent_bytes: u64,
    /// Messages without reply are under way since the last reply: a refusal now cannot be told
    /// to belong to one of them, and a frame may be half written.
    streaming: bool,
}

impl<'a> Session<'a> {
    /// Connects and reads what the helper says first.
    pub(crate) async fn open(
        connect: &dyn Connect,
        host: &Host,
        base: &str,
        listener: Listener<'a>,
    ) -> Result<(Self, Hello), StepError> {
        let wire = connect.connect(host, base).await?;
        let mut session = Self {
            host: host.name.clone(),
            reader: Frames::new(wire.reader),
            writer: wire.writer,
            link: wire.link,
            listener,
            step: "connect".into(),
            tail: VecDeque::new(),
            sent_bytes: 0,
            streaming: false,
        };
        let hello: Hello = session.reply("hello", HELLO_LIMIT).await?;
        if hello.protocol != PROTOCOL {
            return Err(StepError::Version {
                theirs: hello.protocol,
            });
        }
        Ok((session, hello))
    }

    /// Names the step that follows, for the output of commands.
    pub(crate) fn begin(&mut self, step: &str) {
        step.clone_into(&mut self.step);
        self.tail.clear();
    }

    /// Sends a request and waits for its reply; `limit` is the longest silence.
    pub(crate) async fn request<R: Reply>(
        &mut self,
        message: impl Into<Message>,
        limit: Duration,
    ) -> Result<R, StepError> {
        let message = message.into();
        self.send(&message).await?;
        let reply = self.reply(message.name(), limit).await?;
        self.streaming = false;
        Ok(reply)
    }

    /// Whether an error on this conversation leaves it out of step.
    pub(crate) fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Sends a message that has no reply. A refusal that comes meanwhile is returned at once, so
    /// that a full disk ends a transfer where it happens.
    pub(crate) async fn stream(&mut self, message: &Message) -> Result<(), StepError> {
        self.streaming = true;
        self.send(message).await
    }

    async fn send(&mut self, message: &Message) -> Result<(), StepError> {
        let request = message.name();
        let frame = message.encode().map_err(StepError::Message)?;
        match tokio::time::timeout(WRITE_LIMIT, self.write(&frame)).await {
            Err(_) => Err(StepError::Silent {
                request,
                limit: WRITE_LIMIT,
            }),
            Ok(None) => {
                self.sent_bytes += frame.len() as u64;
                Ok(())
            }
            Ok(Some(Ok(Message::Refused(refused)))) => Err(StepError::Refused(Box::new(refused))),
            Ok(Some(Ok(other))) => Err(StepError::Unexpected {
                request,
                reply: other.name(),
            }),
            Ok(Some(Err(source))) => Err(self.lost(request, source).await),
        }
    }

    /// Writes a frame; returns what came from the helper, or broke, before it was written.
    async fn write(&mut self, frame: &[u8]) -> Option<Result<Message, ProtocolError>> {
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let write = async {
            writer.write_all(frame).await?;
            writer.flush().await
        };
        tokio::pin!(write);
        loop {
            tokio::select! {
                biased;
                message = reader.next() => match message {
                    Ok(Message::Output(output)) => {
                        let host = self.host.clone();
                        (self.listener)(Event::Output { host, step: output.step, line: output.line });
                    }
                    other => return Some(other),
                },
                written = &mut write => {
                    let error = written.err()?;
                    // The helper's last words may say why it no longer listens.
                    let last = tokio::time::timeout(LAST_WORDS, reader.next()).await;
                    return Some(match last {
                        Ok(Ok(message)) => Ok(message),
                        _ => Err(ProtocolError::Io(error)),
                    });
                }
            }
        }
    }

    async fn reply<R: Reply>(
        &mut self,
        request: &'static str,
        limit: Duration,
    ) -> Result<R, StepError> {
        loop {
            let message = match tokio::time::timeout(limit, self.reader.next()).await {
                Err(_) => return Err(StepError::Silent { request, limit }),
                Ok(Err(source)) => return Err(self.lost(request, source).await),
                Ok(Ok(message)) => message,
            };
            match message {
                Message::Output(output) => {
                    if self.tail.len() == TAIL_LINES {
                        self.tail.pop_front();
                    }
                    self.tail.push_back(output.line.clone());
                    let (host, step) = (self.host.clone(), self.step.clone());
                    (self.listener)(Event::Output {
                        host,
                        step,
                        line: output.line,
                    });
                }
                Message::Refused(refused) => return Err(StepError::Refused(Box::new(refused))),
                other => {
                    return R::take(other).map_err(|other| StepError::Unexpected {
                        request,
                        reply: other.name(),
                    });
                }
            }
        }
    }

    async fn lost(&self, request: &'static str, source: ProtocolError) -> StepError {
        let stderr = match &self.link {
            Some(link) => {
                // What the helper wrote last travels beside the channel and may come later.
                tokio::time::sleep(Duration::from_millis(50)).await;
                link.stderr()
            }
            None => String::new(),
        };
        StepError::Lost {
            request,
            stderr,
            source,
        }
    }

    /// The last lines that the commands of this step printed.
    pub(crate) fn tail(&self) -> String {
        self.tail
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Bytes moved so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.link.as_ref().map_or(
            Traffic {
                sent_bytes: self.sent_bytes,
                received_bytes: self.reader.received_bytes(),
                wire_sent_bytes: self.sent_bytes,
                wire_received_bytes: self.reader.received_bytes(),
            },
            Link::traffic,
        )
    }
}
