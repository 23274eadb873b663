//! One read: requests until all bytes are there. A body that was cut goes on where it ended.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue,
    IF_NONE_MATCH, LOCATION, RANGE,
};
use reqwest::{Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::client::same_origin;
use super::failure::{Failure, HttpError, innermost};
use super::range::{ContentRange, unsatisfied};
use super::{HttpBackend, pause};
use crate::error::StoreError;

const MAX_REDIRECTS: u32 = 5;
/// Fewer bytes than this within the idle limit are no progress.
const MIN_PROGRESS: u64 = 16 << 10;
/// A try that brought as much as this, in bytes, does not count as a failed one.
const GOOD_TRY: usize = 64 << 10;
/// What is reserved for a body before any of it came.
const RESERVE: u64 = 8 << 20;

/// Which bytes of an object are wanted; without a length all from `offset`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) offset: u64,
    pub(super) length: Option<u64>,
}

impl Wanted {
    pub(super) const ALL: Self = Self {
        offset: 0,
        length: None,
    };
}

/// What a read ends with.
pub(super) enum Answer {
    Absent,
    NotModified,
    Body {
        bytes: Bytes,
        etag: Option<HeaderValue>,
    },
}

/// How an answer ended that is no failure.
enum Step {
    Absent,
    NotModified,
    Done,
    /// The server sent a part of what was asked for.
    More,
}

/// What came so far.
#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    etag: Option<HeaderValue>,
}

impl HttpBackend {
    /// Reads an object, or tells that it is still the one with the ETag `known`.
    pub(super) async fn read(
        &self,
        name: &str,
        wanted: Wanted,
        known: Option<HeaderValue>,
    ) -> Result<Answer, StoreError> {
        let failed = |failure: Failure, tries| {
            let name = crate::name::escape(name.as_bytes());
            failure.after_tries(tries, "read", name, self.shown())
        };
        let Some(url) = self.url_of(name) else {
            return Err(failed(Failure::last(HttpError::Name), 1));
        };
        let mut got = Got::default();
        let mut tries = 1;
        loop {
            let before = got.bytes.len();
            match self.step(&url, wanted, known.as_ref(), &mut got).await {
                Ok(Step::Absent) => return Ok(Answer::Absent),
                Ok(Step::NotModified) => return Ok(Answer::NotModified),
                Ok(Step::Done) => {
                    return Ok(Answer::Body {
                        bytes: got.bytes.into(),
                        etag: got.etag,
                    });
                }
                Ok(Step::More) => {}
                Err(failure) => {
                    if got.bytes.len() >= before.saturating_add(GOOD_TRY) {
                        tries = 1;
                    }
                    if !failure.again || tries >= self.limits.tries {
                        return Err(failed(failure, tries));
                    }
                    tries += 1;
                    let chance = fastrand::f64();
                    let first = self.limits.pause;
                    tokio::time::sleep(pause::before(tries, first, failure.after, chance)).await;
                }
            }
        }
    }

    /// One request for what is missing, and as much of its answer as comes.
    async fn step(
        &self,
        url: &Url,
        wanted: Wanted,
        known: Option<&HeaderValue>,
        got: &mut Got,
    ) -> Result<Step, Failure> {
        let from = wanted.offset.saturating_add(got.bytes.len() as u64);
        let mut headers = HeaderMap::new();
        // Compressed bodies have no ranges, and bundles are compressed already.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(known) = known.filter(|_| got.bytes.is_empty()) {
            headers.insert(IF_NONE_MATCH, known.clone());
        }
        if from > 0 || wanted.length.is_some() {
            let range = HeaderValue::try_from(range_header(wanted, from));
            headers.insert(RANGE, range.map_err(|_| Failure::last(HttpError::Name))?);
        }
        let response = self.send(url, &headers).await?;
        let text = |name| {
            let value = response.headers().get(name);
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Step::Absent),
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Step::NotModified),
            StatusCode::RANGE_NOT_SATISFIABLE if headers.contains_key(RANGE) => {
                let total = text(CONTENT_RANGE).as_deref().and_then(unsatisfied);
                return match total {
                    // It became shorter than what of it is here.
                    Some(total) if !got.bytes.is_empty() && total != from => restart(got),
                    _ => Ok(Step::Done),
                };
            }
            status => return Err(refused(status, self.bearer.is_some(), response.headers())),
        }
        if let Some(encoding) = text(CONTENT_ENCODING).filter(|name| name != "identity") {
            return Err(Failure::last(HttpError::Encoded { encoding }));
        }
        let etag = response.headers().get(ETAG).cloned();
        if got.bytes.is_empty() {
            got.etag = etag;
        } else if etag != got.etag {
            return restart(got);
        }
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = text(CONTENT_RANGE).unwrap_or_default();
            self.part(response, wanted, from, &range, got).await
        } else {
            self.whole(response, wanted, from, got).await
        }
    }

    /// Takes the body of an answer that has the bytes from `from` on.
    async fn part(
        &self,
        response: Response,
        wanted: Wanted,
        from: u64,
        header: &str,
        got: &mut Got,
    ) -> Result<Step, Failure> {
        let asked = wanted
            .length
            .map(|length| wanted.offset.saturating_add(length.max(1)));
        let fits =
            |range: &ContentRange| range.first == from && asked.is_none_or(|end| range.last < end);
        let Some(range) = ContentRange::parse(header).filter(fits) else {
            let answered = header.to_owned();
            return Err(Failure::last(HttpError::Range { answered }));
        };
        if wanted.length == Some(0) {
            return Ok(Step::Done);
        }
        self.take(response, 0, range.length(), Some(range.length()), got)
            .await?;
        let end = range.last.saturating_add(1);
        let whole = asked == Some(end) || range.total == Some(end);
        Ok(if whole { Step::Done } else { Step::More })
    }

    /// Takes what is missing from the body of an answer that has all bytes.
    async fn whole(
        &self,
        response: Response,
        wanted: Wanted,
        from: u64,
        got: &mut Got,
    ) -> Result<Step, Failure> {
        let left = match wanted.length {
            Some(length) => length.saturating_sub(got.bytes.len() as u64),
            None => u64::MAX,
        };
        let total = response.content_length();
        let expected = total.map(|total| total.saturating_sub(from).min(left));
        if left > 0 {
            self.take(response, from, left, expected, got).await?;
        }
        Ok(Step::Done)
    }

    /// Adds the body to what is here: without the first `skip` bytes, at most `most`. `expected` is
    /// how many there are to be, where that is known.
    async fn take(
        &self,
        mut response: Response,
        mut skip: u64,
        most: u64,
        expected: Option<u64>,
        got: &mut Got,
    ) -> Result<(), Failure> {
        let room = self.limits.bytes.saturating_sub(got.bytes.len() as u64);
        let too_large = || {
            let limit = self.limits.bytes;
            Failure::last(HttpError::TooLarge { limit })
        };
        if expected.is_some_and(|expected| expected > room) {
            return Err(too_large());
        }
        let reserve = expected.unwrap_or_default().min(RESERVE);
        got.bytes.reserve(usize::try_from(reserve).unwrap_or(0));
        let (mut taken, mut pace) = (0, Pace::new(self.limits.idle));
        while taken < most {
            let chunk = pace.wait(response.chunk()).await?.map_err(|error| {
                let reason = innermost(&error.without_url());
                Failure::again(HttpError::NoAnswer { reason })
            })?;
            let Some(chunk) = chunk else { break };
            pace.came(chunk.len() as u64);
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let chunk = &chunk[skipped as usize..];
            let part = (most - taken).min(chunk.len() as u64);
            taken += part;
            if taken > room {
                return Err(too_large());
            }
            got.bytes.extend_from_slice(&chunk[..part as usize]);
        }
        if expected.is_some_and(|expected| taken < expected) {
            let got = got.bytes.len() as u64;
            return Err(Failure::again(HttpError::Cut { got }));
        }
        Ok(())
    }

    /// Sends a request and follows redirects: within the store's own server, and to others by https.
    /// Only the store's own server gets the token.
    async fn send(&self, url: &Url, headers: &HeaderMap) -> Result<Response, Failure> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.client.get(at.clone()).headers(headers.clone());
            let own = same_origin(&at, &self.base);
            if let Some(bearer) = self.bearer.as_ref().filter(|_| own) {
                request = request.header(AUTHORIZATION, bearer.header());
            }
            let answer = Pace::new(self.limits.idle).wait(request.send()).await?;
            let response = answer.map_err(Failure::of_request)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|value| value.to_str().ok());
            let next = location.and_then(|text| at.join(text).ok());
            at = next.ok_or_else(|| {
                let status = response.status().as_u16();
                Failure::last(HttpError::Status { status })
            })?;
            if !same_origin(&at, &self.base) && at.scheme() != "https" {
                let to = format!("{}://{}", at.scheme(), at.host_str().unwrap_or_default());
                return Err(Failure::last(HttpError::Redirect { to }));
            }
        }
        Err(Failure::last(HttpError::RedirectLoop))
    }

    fn shown(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

/// The value of `Range` for what is missing from `from` on. No range is empty: for none, one byte.
fn range_header(wanted: Wanted, from: u64) -> String {
    match wanted.length {
        Some(length) if length < u64::MAX - wanted.offset => {
            let last = (wanted.offset + length).saturating_sub(1).max(from);
            format!("bytes={from}-{last}")
        }
        _ => format!("bytes={from}-"),
    }
}

/// Another object has the name now, or another copy of the server answers: from the beginning.
fn restart(got: &mut Got) -> Result<Step, Failure> {
    *got = Got::default();
    Err(Failure::again(HttpError::Changed))
}

/// What an answer without the object means.
fn refused(status: StatusCode, token_sent: bool, headers: &HeaderMap) -> Failure {
    match status.as_u16() {
        401 if token_sent => Failure::last(HttpError::TokenWrong),
        401 => Failure::last(HttpError::TokenMissing),
        status @ (408 | 429 | 500 | 502 | 503 | 504) => {
            Failure::again(HttpError::Status { status }).after(pause::asked(headers))
        }
        status => Failure::last(HttpError::Status { status }),
    }
}

/// Ends a wait in which too little comes, however long the whole takes.
struct Pace {
    limit: Duration,
    until: Instant,
    came: u64,
}

impl Pace {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            until: Instant::now() + limit,
            came: 0,
        }
    }

    async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = self.limit;
        let done = timeout_at(self.until, work).await;
        done.map_err(|_| Failure::again(HttpError::Stalled { limit }))
    }

    fn came(&mut self, bytes: u64) {
        self.came += bytes;
        if self.came >= MIN_PROGRESS {
            *self = Self::new(self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_ask_for_what_is_missing() {
        let header = |offset, length, from| range_header(Wanted { offset, length }, from);
        assert_eq!(header(0, Some(1), 0), "bytes=0-0");
        assert_eq!(header(5, Some(10), 5), "bytes=5-14");
        assert_eq!(header(5, Some(10), 9), "bytes=9-14");
        assert_eq!(header(5, Some(0), 5), "bytes=5-5");
        assert_eq!(header(0, Some(0), 0), "bytes=0-0");
        assert_eq!(header(5, Some(u64::MAX), 5), "bytes=5-");
        assert_eq!(header(0, None, 7), "bytes=7-");
    }
}
