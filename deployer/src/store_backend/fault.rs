//! What went wrong on the other machine or on the way there, as errors of a store.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use relstore_store::StoreError;

use crate::protocol::{STORE_PROTOCOL, StoreFault, StoreRefused};
use crate::transport::TransportError;

/// Why a connection to a store is of no use any more.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Lost {
    /// It ended.
    #[error("the connection was lost: {detail}")]
    Closed {
        /// What is known about the reason.
        detail: String,
    },
    /// Nothing moved while answers were awaited.
    #[error("nothing moved for {} s", limit.as_secs_f32())]
    Stalled {
        /// The time waited.
        limit: Duration,
    },
    /// The other side sends what makes no sense.
    #[error("the host helper cannot be understood: {detail}")]
    Garbled {
        /// What is wrong with it.
        detail: String,
    },
    /// The other side speaks another version.
    #[error(
        "the host helper speaks version {theirs} of the store protocol, this program {STORE_PROTOCOL}"
    )]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// A file of this machine that was to be sent cannot be read.
    #[error("the file to send cannot be read: {detail}")]
    Unreadable {
        /// Why.
        detail: String,
    },
}

impl Lost {
    fn hint(&self) -> &'static str {
        match self {
            Self::Closed { .. } | Self::Stalled { .. } => {
                "run it again: what has arrived stays, and only the rest is sent"
            }
            Self::Garbled { .. } | Self::Version { .. } => {
                "use the same version of relstore on both sides; a forced command in authorized_keys names the helper that runs"
            }
            Self::Unreadable { .. } => "look at the disk of this machine, then run it again",
        }
    }
}

/// Why a helper's store is not the one that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("this key may only use the store in {root} there")]
struct OtherRoot {
    root: String,
}

/// Where a failure happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    /// The attempt.
    pub(super) what: &'static str,
    /// The object.
    pub(super) name: &'a str,
    /// The store.
    pub(super) place: &'a str,
}

impl At<'_> {
    /// What the helper refused, as the same error that a local store gives, with the place in it.
    pub(super) fn refused(self, refused: StoreRefused) -> StoreError {
        let (name, message) = (self.name.to_owned(), printable(&refused.message));
        let kind = match refused.fault {
            StoreFault::Conflict => return StoreError::Conflict { name },
            StoreFault::Damaged => {
                let what = message;
                return StoreError::Damaged { name, what };
            }
            StoreFault::ReadOnly => {
                let place = self.place.to_owned();
                return StoreError::ReadOnly { place };
            }
            StoreFault::NoSpace => io::ErrorKind::StorageFull,
            StoreFault::Permission => io::ErrorKind::PermissionDenied,
            StoreFault::Io | StoreFault::Protocol => io::ErrorKind::Other,
        };
        StoreError::Io {
            what: self.what,
            path: PathBuf::from(format!("{}/{}", self.place, self.name)),
            source: io::Error::new(kind, message),
        }
    }

    /// A connection that was lost.
    pub(super) fn lost(self, lost: Lost) -> StoreError {
        let hint = lost.hint().to_owned();
        self.remote(hint, lost)
    }

    /// A connection that was never made.
    pub(super) fn unreached(self, error: TransportError) -> StoreError {
        let hint = error.hint();
        self.remote(hint, error)
    }

    /// A helper that serves another folder.
    pub(super) fn other_root(self, root: &str) -> StoreError {
        let root = printable(root);
        let hint = format!("name {root} in the store's URL, or use another key");
        self.remote(hint, OtherRoot { root })
    }

    fn remote(
        self,
        hint: String,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::Remote {
            what: self.what,
            name: self.name.to_owned(),
            place: self.place.into(),
            hint: Some(hint.into()),
            source: Box::new(source),
        }
    }
}

/// Words of another machine as text that cannot steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AT: At<'_> = At {
        what: "write",
        name: "a/b",
        place: "ssh://host/srv",
    };

    fn refused(fault: StoreFault) -> StoreError {
        let message = "cannot write /srv/a/b: \x1b[31mno".to_owned();
        AT.refused(StoreRefused { fault, message })
    }

    #[test]
    fn refusals_are_the_errors_of_a_local_store_with_the_place_in_them() {
        assert!(matches!(
            refused(StoreFault::Conflict),
            StoreError::Conflict { name } if name == "a/b"
        ));
        assert!(matches!(
            refused(StoreFault::ReadOnly),
            StoreError::ReadOnly { place } if place == "ssh://host/srv"
        ));
        assert!(matches!(
            refused(StoreFault::Damaged),
            StoreError::Damaged { name, .. } if name == "a/b"
        ));
        let full = refused(StoreFault::NoSpace);
        assert_eq!(full.to_string(), "cannot write ssh://host/srv/a/b");
        assert!(full.hint().unwrap().contains("room"));
        let StoreError::Io { source, .. } = full else {
            panic!("{full:?}");
        };
        assert_eq!(source.to_string(), "cannot write /srv/a/b: [31mno");
        assert!(matches!(
            refused(StoreFault::Permission),
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied
        ));
    }

    #[test]
    fn a_lost_connection_says_to_run_it_again() {
        let detail = "reset".to_owned();
        let error = AT.lost(Lost::Closed { detail });
        assert_eq!(error.to_string(), "cannot write a/b at ssh://host/srv");
        assert!(error.hint().unwrap().starts_with("run it again"));
    }
}
