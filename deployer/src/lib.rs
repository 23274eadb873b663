//! Brings a release from a store to the hosts of an environment.
//!
//! Two sides speak [`protocol`]: the program (feature `client`) and the host helper
//! `relstore-host`, which is built without it: no SSH, no TLS, no name look-ups.

#[cfg(feature = "client")]
pub mod environment;
#[cfg(feature = "client")]
pub mod error;
#[cfg(feature = "client")]
pub mod event;
#[cfg(feature = "client")]
pub mod execute;
#[cfg(feature = "client")]
pub mod failure;
#[cfg(feature = "client")]
mod frames;
#[cfg(feature = "client")]
pub mod health;
pub mod host;
#[cfg(feature = "client")]
mod host_run;
#[cfg(feature = "client")]
pub mod inspect;
pub mod ledger;
#[cfg(feature = "client")]
pub mod outcome;
#[cfg(feature = "client")]
mod pack;
#[cfg(feature = "client")]
pub mod plan;
pub mod protocol;
mod raw_bytes;
#[cfg(feature = "client")]
mod revert;
#[cfg(feature = "client")]
pub mod secret;
#[cfg(feature = "client")]
pub mod session;
#[cfg(feature = "client")]
mod steps;
#[cfg(feature = "client")]
pub mod store_backend;
#[cfg(all(test, feature = "client"))]
mod testing;
#[cfg(feature = "client")]
mod transfer;
#[cfg(feature = "client")]
pub mod transport;

#[cfg(feature = "client")]
pub use error::DeployError;
#[cfg(feature = "client")]
pub use execute::{Deployment, deploy};
#[cfg(feature = "client")]
pub use inspect::{history, preview, rollback_target, status, verify};
#[cfg(feature = "client")]
pub use secret::Secret;
#[cfg(feature = "client")]
pub use store_backend::SshBackend;
