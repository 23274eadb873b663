//! One line on stderr per answer, when its last byte is gone or the client is:
//!
//! ```text
//! GET index/3f9c...-0 200 4711 B 3 ms 10.0.0.7:51234
//! ```
//! Never the query or a header: either may hold a token.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Peer;
use crate::output::{Output, printable};

/// Longer names are cut.
const LONGEST: usize = 200;

/// A line that is written when the entry is dropped.
pub(super) struct Entry {
    output: Output,
    asked: String,
    status: u16,
    bytes: u64,
    /// Bytes that the answer announces; unknown before there is one.
    announced: Option<u64>,
    since: Instant,
    peer: Peer,
}

impl Entry {
    pub(super) fn new(output: Output, peer: Peer, request: &Request) -> Self {
        let path = printable(request.uri().path());
        let path: String = path.trim_start_matches('/').chars().take(LONGEST).collect();
        Self {
            output,
            asked: format!("{} {path}", request.method()),
            status: 0,
            bytes: 0,
            announced: None,
            since: Instant::now(),
            peer,
        }
    }

    /// Goes along with an answer to its end, and with it the answer's turn.
    pub(super) fn follow(
        mut self,
        response: Response,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Response {
        self.status = response.status().as_u16();
        let (head, body) = response.into_parts();
        let length = head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        self.announced = match body.is_end_stream() {
            true => Some(0),
            false => length.or(body.size_hint().exact()),
        };
        let followed = Followed {
            body,
            entry: self,
            _turn: turn,
        };
        Response::from_parts(head, Body::new(followed))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.output.quiet {
            return;
        }
        let Self {
            asked,
            status,
            bytes,
            peer,
            ..
        } = self;
        let took = self.since.elapsed().as_millis();
        let whole = self.announced == Some(*bytes);
        let cut = if whole { "" } else { " cut" };
        self.output
            .note(&format!("{asked} {status} {bytes} B {took} ms {peer}{cut}"));
    }
}

struct Followed {
    body: Body,
    entry: Entry,
    _turn: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
