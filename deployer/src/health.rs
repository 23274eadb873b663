//! Health after the switch: HTTP requests that have to be answered with 200 by the new release.
//!
//! Redirects are not followed: a redirect to a login page would end in a 200. An answer that says
//! which release it comes from (header `X-Release`, or the top-level member `release` of a JSON
//! body, as 64 hex digits) has to name the expected one; others only count.

use std::sync::Once;
use std::time::Duration;

use relstore_store::id::ReleaseId;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::environment::HealthCheck;

/// Time limit of one request, connection included.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// What is read of an answer's body at most: enough to find the release in it.
const BODY_LIMIT: usize = 64 << 10;
/// What of the body an error shows.
const EXCERPT_BYTES: usize = 200;

/// Why the environment does not count as healthy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// No request could be made at all.
    #[error("no health request can be made: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
    /// No answer came.
    #[error("GET {url} got no answer ({reason}), attempt {attempts} of {attempts}")]
    NoAnswer {
        /// The URL, without user and password.
        url: String,
        /// `connection refused`, `no answer within 10 s`, ...
        reason: String,
        /// Attempts made.
        attempts: u32,
    },
    /// The answer's status is not 200.
    #[error(
        "GET {url} answered {status}, attempt {attempts} of {attempts}{}",
        excerpt_suffix(excerpt)
    )]
    Status {
        /// The URL, without user and password.
        url: String,
        /// The status code.
        status: u16,
        /// The beginning of the body.
        excerpt: String,
        /// Attempts made.
        attempts: u32,
    },
    /// The answer comes from another release.
    #[error(
        "GET {url} was answered by another release, {answered}, attempt {attempts} of {attempts}"
    )]
    OtherRelease {
        /// The URL, without user and password.
        url: String,
        /// The release that answered.
        answered: ReleaseId,
        /// Attempts made.
        attempts: u32,
    },
}

fn excerpt_suffix(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!(": {excerpt}")
    }
}

/// All checks passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healthy {
    /// Answers with status 200.
    pub answers: u32,
    /// How many of them named the expected release.
    pub confirmed: u32,
    /// The attempt that passed, from 1.
    pub attempt: u32,
}

/// Makes all `checks` until all pass in one attempt, at most `attempts` times (at least once)
/// with a pause of `interval` between. An answer that names a release has to name one of
/// `expected`.
///
/// # Errors
/// The [`HealthError`] of the first check that failed in the last attempt.
pub async fn check(
    checks: &[HealthCheck],
    expected: &[ReleaseId],
    attempts: u32,
    interval: Duration,
) -> Result<Healthy, HealthError> {
    let attempts = attempts.max(1);
    let client = client(checks)?;
    let mut attempt = 1;
    loop {
        let answers = checks.iter().map(|check| request(&client, check, expected));
        let answers = futures::future::join_all(answers).await;
        let failure = match answers.into_iter().collect::<Result<Vec<bool>, Failure>>() {
            Ok(confirmed) => {
                return Ok(Healthy {
                    answers: confirmed.len() as u32,
                    confirmed: confirmed.iter().filter(|&&confirmed| confirmed).count() as u32,
                    attempt,
                });
            }
            Err(failure) => failure,
        };
        if attempt == attempts {
            return Err(failure.after(attempts));
        }
        attempt += 1;
        tokio::time::sleep(interval).await;
    }
}

/// The longest that [`check`] can take.
#[must_use]
pub fn time_limit(attempts: u32, interval: Duration) -> Duration {
    REQUEST_LIMIT
        .saturating_add(interval)
        .saturating_mul(attempts.max(1))
}

/// A failed request, not yet knowing whether another attempt follows.
struct Failure {
    url: String,
    kind: FailureKind,
}

enum FailureKind {
    NoAnswer(String),
    Status(u16, String),
    OtherRelease(ReleaseId),
}

impl Failure {
    fn after(self, attempts: u32) -> HealthError {
        let url = self.url;
        match self.kind {
            FailureKind::NoAnswer(reason) => HealthError::NoAnswer {
                url,
                reason,
                attempts,
            },
            FailureKind::Status(status, excerpt) => HealthError::Status {
                url,
                status,
                excerpt,
                attempts,
            },
            FailureKind::OtherRelease(answered) => HealthError::OtherRelease {
                url,
                answered,
                attempts,
            },
        }
    }
}

fn client(checks: &[HealthCheck]) -> Result<reqwest::Client, HealthError> {
    static PROVIDER: Once = Once::new();
    // Fails only when the process has a provider already, which then serves as well.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut builder = reqwest::Client::builder()
        .timeout(REQUEST_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would answer from elsewhere than the hosts.
        .no_proxy()
        // Every attempt is a new connection, as every visitor's is.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("relstore/", env!("CARGO_PKG_VERSION")));
    if !checks.iter().any(|check| check.url.starts_with("https:")) {
        // The system's certificates are not needed, so a machine without any will do.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| HealthError::Client {
        reason: chain(&error),
    })
}

/// Returns whether the answer named the expected release.
async fn request(
    client: &reqwest::Client,
    check: &HealthCheck,
    expected: &[ReleaseId],
) -> Result<bool, Failure> {
    let url = shown(&check.url);
    let fail = |kind| Failure {
        url: url.clone(),
        kind,
    };
    let mut headers = HeaderMap::new();
    if let Some(bearer) = &check.bearer {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", bearer.reveal())).map_err(|_| {
                fail(FailureKind::NoAnswer(
                    "the token is no valid header value".into(),
                ))
            })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let response = client.get(&check.url).headers(headers).send().await;
    let mut response = response.map_err(|error| fail(FailureKind::NoAnswer(reason(error))))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < BODY_LIMIT {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            // The status of a failure says more than the end of its body.
            Err(_) if status != 200 => break,
            Err(error) => return Err(fail(FailureKind::NoAnswer(reason(error)))),
        }
    }
    if status != 200 {
        // Redacted before it is cut: the cut could leave a part of the token that nobody finds.
        let body = String::from_utf8_lossy(&body);
        let text = check
            .bearer
            .as_ref()
            .map_or(body.to_string(), |bearer| bearer.redact(&body));
        return Err(fail(FailureKind::Status(status, excerpt(&text))));
    }
    match answered_by(response.headers(), &body) {
        Some(other) if !expected.contains(&other) => Err(fail(FailureKind::OtherRelease(other))),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

/// The release an answer says it comes from.
fn answered_by(headers: &HeaderMap, body: &[u8]) -> Option<ReleaseId> {
    let header = headers
        .get("x-release")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    header.or_else(|| {
        let json: serde_json::Value = serde_json::from_slice(body).ok()?;
        json.get("release")?.as_str()?.parse().ok()
    })
}

/// The beginning of a body as one line of printable text.
fn excerpt(body: &str) -> String {
    let text = &body[..body.floor_char_boundary(EXCERPT_BYTES)];
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars()
        .map(plain)
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The URL without user and password.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", REQUEST_LIMIT.as_secs());
    }
    chain(&error.without_url())
}

/// The innermost cause: what the outer ones say (`error sending request`) helps nobody.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
