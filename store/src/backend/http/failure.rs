//! Why a read failed, and whether another try can help.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::StoreError;
use crate::listing::ListingError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Setting(&'static str),
    #[error("{} holds no certificates that can be read", path.display())]
    Certificates { path: PathBuf },
    #[error("no request can be made: {reason}")]
    Client { reason: String },
    #[error("no answer ({reason})")]
    NoAnswer { reason: String },
    #[error("no secure connection ({reason})")]
    Tls { reason: String },
    #[error("nothing, or next to nothing, arrived for {} s", limit.as_secs_f32())]
    Stalled { limit: Duration },
    #[error("the answer was cut after {got} bytes")]
    Cut { got: u64 },
    #[error("the server answered {status}")]
    Status { status: u16 },
    #[error("the server wants a token")]
    TokenMissing,
    #[error("the server refused the token")]
    TokenWrong,
    #[error("it redirects to {to}, which is neither the store's server nor https")]
    Redirect { to: String },
    #[error("it redirects without an end")]
    RedirectLoop,
    #[error("the server compressed it ({encoding}), though asked not to")]
    Encoded { encoding: String },
    #[error("the server sent other bytes than asked for ({answered})")]
    Range { answered: String },
    #[error("it has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("it changed while it was read")]
    Changed,
    #[error("no object can have this name")]
    Name,
    #[error("there is none")]
    NoListing,
    #[error("{0}")]
    Listing(#[from] ListingError),
}

/// The error that a read ends with.
#[derive(Debug, thiserror::Error)]
#[error("{error}, {tries} tries")]
struct AfterTries {
    error: HttpError,
    tries: u32,
}

/// A failed try.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: HttpError,
    /// Whether another try can help.
    pub(super) again: bool,
    /// When the server wants to be asked again.
    pub(super) after: Option<Duration>,
    hint: Option<&'static str>,
}

impl Failure {
    /// One that is the same at every try.
    pub(super) fn last(error: HttpError) -> Self {
        let hint = match &error {
            HttpError::TokenMissing => Some("give a token for this store"),
            HttpError::TokenWrong => Some("see whether the token is the one for this store"),
            HttpError::Status { status: 403 } => {
                Some("see what the server allows: the token, if there is one, does not do")
            }
            HttpError::Tls { .. } => {
                Some("if the server has a certificate of your own, name its authority with `ca`")
            }
            HttpError::NoListing => Some(
                "`relstore push` and `relstore gc` write listing.zst; `relstore serve` always has one",
            ),
            HttpError::Encoded { .. } => Some("switch off compression for the store's folder"),
            _ => None,
        };
        Self {
            error,
            again: false,
            after: None,
            hint,
        }
    }

    /// One that may go away.
    pub(super) fn again(error: HttpError) -> Self {
        Self {
            again: true,
            ..Self::last(error)
        }
    }

    pub(super) fn after(mut self, after: Option<Duration>) -> Self {
        self.after = after;
        self
    }

    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// One of a request that got no answer.
    pub(super) fn of_request(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let reason = innermost(&error);
        if is_tls(&error) {
            Self::last(HttpError::Tls { reason })
        } else if error.is_builder() {
            Self::last(HttpError::Client { reason })
        } else {
            Self::again(HttpError::NoAnswer { reason })
        }
    }

    /// What the caller of the store sees.
    pub(super) fn at(self, what: &'static str, name: String, place: String) -> StoreError {
        self.after_tries(1, what, name, place)
    }

    /// The same, after several tries.
    pub(super) fn after_tries(
        self,
        tries: u32,
        what: &'static str,
        name: String,
        place: String,
    ) -> StoreError {
        let error = self.error;
        StoreError::Remote {
            what,
            name,
            place: place.into(),
            hint: self.hint.map(Into::into),
            source: if tries > 1 {
                Box::new(AfterTries { error, tries })
            } else {
                Box::new(error)
            },
        }
    }
}

/// The innermost cause: what the outer ones say (`error sending request`) helps nobody.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Whether the two sides could not agree on a secure connection: that is the same at every try.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    // An I/O error that wraps another one does not name it as its source.
    let wrapped = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|inner| is_tls(inner))
        || error.source().is_some_and(is_tls)
}
