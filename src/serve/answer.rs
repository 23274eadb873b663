//! From a request to an answer (RFC 9110): who asks, for what, and whether they have it already.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, RANGE, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::Shared;
use super::access::{Access, Refused};
use super::objects::Found;
use super::range::{Wanted, wanted};
use crate::error::CommandError;
use crate::exit_code::ExitCode;

pub(super) async fn answer(shared: &Shared, request: Request) -> Response {
    if let Err(refused) = shared.access.check(request.headers()) {
        return refusal(refused);
    }
    let head = request.method() == Method::HEAD;
    if !head && request.method() != Method::GET {
        let headers = [(ALLOW, "GET, HEAD")];
        return (
            headers,
            said(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD"),
        )
            .into_response();
    }
    let path = request.uri().path();
    let name = path.strip_prefix('/').unwrap_or(path);
    let Ok(name) = percent_decode_str(name).decode_utf8() else {
        return absent();
    };
    let found = match shared.objects.find(&name).await {
        Ok(Some(found)) => found,
        Ok(None) => return absent(),
        Err(error) => return failed(shared, &error),
    };
    match present(shared, found, request.headers(), head).await {
        Ok(Some(response)) => response,
        Ok(None) => absent(),
        Err(error) => failed(shared, &error),
    }
}

/// The answer for an object that is there; `None` when it goes while it is read.
async fn present(
    shared: &Shared,
    found: Found,
    headers: &HeaderMap,
    head: bool,
) -> Result<Option<Response>, relstore_store::StoreError> {
    let scope = match shared.access {
        Access::Everybody => "public",
        Access::Token(_) => "private",
    };
    let keep = match found.lasting {
        true => format!("{scope}, max-age=31536000, immutable"),
        false => format!("{scope}, no-cache"),
    };
    let (size, etag) = (found.size, found.etag.clone());
    let mut response = Response::builder()
        .header(ETAG, &etag)
        .header(CACHE_CONTROL, keep)
        .header(ACCEPT_RANGES, "bytes");
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    if text(IF_NONE_MATCH).is_some_and(|list| matches(list, &etag)) {
        let response = response
            .status(StatusCode::NOT_MODIFIED)
            .body(Body::empty());
        return Ok(response.ok());
    }
    // A part of another object than the client has is of no use to it.
    let same = text(IF_RANGE).is_none_or(|known| known == etag);
    let range = match wanted(text(RANGE).filter(|_| same && !head), size) {
        Wanted::All => 0..size,
        Wanted::Part(range) => {
            let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            response = response.status(StatusCode::PARTIAL_CONTENT);
            response = response.header(CONTENT_RANGE, part);
            range
        }
        Wanted::Outside => {
            let response = response
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(CONTENT_RANGE, format!("bytes */{size}"))
                .body(Body::empty());
            return Ok(response.ok());
        }
    };
    response = response
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, range.end - range.start);
    let body = if head {
        Body::empty()
    } else {
        match found.read(range).await? {
            Some(body) => Body::from_stream(body),
            None => return Ok(None),
        }
    };
    Ok(response.body(body).ok())
}

/// Whether a list of ETags has this one.
fn matches(list: &str, etag: &str) -> bool {
    let one = |known: &str| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag
    };
    list.split(',').any(one)
}

/// A short answer for people, that nobody keeps.
fn said(status: StatusCode, text: &'static str) -> Response {
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
    ];
    (status, headers, format!("{text}\n")).into_response()
}

fn absent() -> Response {
    said(StatusCode::NOT_FOUND, "no such object")
}

fn refusal(refused: Refused) -> Response {
    let (challenge, text) = match refused {
        Refused::Missing => ("Bearer realm=\"relstore\"", "a token is needed"),
        Refused::Wrong => (
            "Bearer realm=\"relstore\", error=\"invalid_token\"",
            "the token is wrong",
        ),
    };
    let headers = [(WWW_AUTHENTICATE, challenge)];
    (headers, said(StatusCode::UNAUTHORIZED, text)).into_response()
}

/// The store could not be read: told to whoever runs the server, not to the client.
fn failed(shared: &Shared, error: &relstore_store::StoreError) -> Response {
    let error = CommandError::of(ExitCode::Failure, error).to_string();
    shared.output.warning(error.trim_start_matches("error: "));
    said(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the store could not be read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_object_is_found_in_a_list_of_etags() {
        for list in ["\"a\"", "\"b\", \"a\"", "W/\"a\"", "*"] {
            assert!(matches(list, "\"a\""), "{list}");
        }
        for list in ["\"b\"", "a", "", "\"a"] {
            assert!(!matches(list, "\"a\""), "{list}");
        }
    }
}
