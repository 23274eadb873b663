//! Brings a release from a store to the hosts of an environment.
//!
//! Two sides speak [`protocol`]: the program (feature `client`) and the host helper
//! `relstore-host`, which is built without it: no SSH, no TLS, no name look-ups.

pub mod protocol;
#[cfg(feature = "client")]
pub mod transport;
