//! Who may read: everybody, or whoever has the token.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use relstore_deployer::Secret;

/// Who may read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// Everybody who reaches the address.
    Everybody,
    /// Whoever sends the token with this digest: digests are compared in constant time.
    Token(blake3::Hash),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It has no token.
    Missing,
    /// It has another one.
    Wrong,
}

impl Access {
    /// Asks for this token.
    pub(crate) fn token(token: &Secret) -> Self {
        Self::Token(blake3::hash(token.reveal().as_bytes()))
    }

    /// Whether a network could reach what nobody guards.
    pub(crate) fn is_open(&self, address: SocketAddr) -> bool {
        matches!(self, Self::Everybody) && !address.ip().to_canonical().is_loopback()
    }

    /// Whether a request may be answered.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let Self::Token(digest) = self else {
            return Ok(());
        };
        let sent = headers.get(AUTHORIZATION).ok_or(Refused::Missing)?;
        match sent.as_bytes().split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
                // `blake3::Hash` compares in constant time.
                let same = blake3::hash(token) == *digest;
                same.then_some(()).ok_or(Refused::Wrong)
            }
            _ => Err(Refused::Wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sent(value: &str) -> HeaderMap {
        [(AUTHORIZATION, value.parse().unwrap())]
            .into_iter()
            .collect()
    }

    #[test]
    fn only_the_token_opens() {
        let access = Access::token(&Secret::new("tok-1"));
        assert_eq!(access.check(&sent("Bearer tok-1")), Ok(()));
        assert_eq!(access.check(&sent("bearer tok-1")), Ok(()));
        assert_eq!(access.check(&HeaderMap::new()), Err(Refused::Missing));
        for value in [
            "Bearer tok-2",
            "Bearer tok-1 ",
            "Bearer ",
            "Basic tok-1",
            "tok-1",
            "",
        ] {
            assert_eq!(access.check(&sent(value)), Err(Refused::Wrong), "{value:?}");
        }
        assert_eq!(Access::Everybody.check(&HeaderMap::new()), Ok(()));
        assert!(!format!("{access:?}").contains("tok-1"));
    }

    #[test]
    fn an_address_of_the_network_is_open_without_a_token() {
        let open = |text: &str| Access::Everybody.is_open(text.parse().unwrap());
        for text in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(!open(text), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(open(text), "{text}");
        }
        let token = Access::token(&Secret::new("tok-1"));
        assert!(!token.is_open("0.0.0.0:1".parse().unwrap()));
    }
}
