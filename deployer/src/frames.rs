//! Frames out of a channel, for the side of the program.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::protocol::{self, Message, ProtocolError};

/// Room for one read, in bytes.
const READ: usize = 64 << 10;

/// Frames out of a stream of bytes. What was read stays in the buffer when a caller stops
/// waiting, so that nothing is lost and the next call goes on there.
pub(crate) struct Frames {
    reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
    buffer: BytesMut,
    received_bytes: u64,
}

impl Frames {
    /// Takes a stream that stands in front of a frame.
    pub(crate) fn new(reader: Box<dyn AsyncRead + Send + Sync + Unpin>) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            received_bytes: 0,
        }
    }

    /// Bytes read so far.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The next frame; [`ProtocolError::Closed`] only at a frame's border.
    pub(crate) async fn next(&mut self) -> Result<Message, ProtocolError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.buffer.reserve(READ);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Err(ProtocolError::Closed),
                Ok(0) => return Err(ProtocolError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.received_bytes += count as u64,
                Err(error) => return Err(ProtocolError::Io(error)),
            }
        }
    }

    fn buffered(&mut self) -> Result<Option<Message>, ProtocolError> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = protocol::frame_length(*length)? as usize;
        let Some(frame) = self.buffer.get(4..4 + length) else {
            return Ok(None);
        };
        let message = Message::decode(frame)?;
        self.buffer.advance(4 + length);
        Ok(Some(message))
    }
}
