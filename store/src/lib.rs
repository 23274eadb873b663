//! Bytes and names: the content-addressed store of relstore.
//!
//! Knows neither PHP nor SSH nor a terminal. Pure parts: [`id`], [`name`], [`manifest`], [`diff`],
//! [`bundle::toc`], [`bundle::layout`], [`signature`], [`allowed_signers`]. Effects: [`backend`], [`fs`], and what [`store::Store`]
//! does with them. CPU work runs on rayon, reads on tokio; the seam is in [`import`] and
//! [`store::Store::read_blobs`].

pub mod allowed_signers;
pub mod archive;
pub mod backend;
mod blocking;
pub mod bundle;
pub mod catalog;
pub mod checkout;
pub mod derivation;
pub mod diff;
pub mod error;
pub mod event;
pub mod export;
mod file;
pub mod fs;
pub mod fsck;
pub mod gc;
mod generation;
pub mod id;
pub mod import;
pub mod index;
mod link_loop;
pub mod listing;
pub mod manifest;
pub mod name;
mod pack;
pub mod package;
pub mod place;
pub mod probe;
pub mod record;
pub mod refs;
pub mod release;
mod relied;
pub mod revoked;
pub mod scan;
mod shape;
pub mod signature;
mod spool;
pub mod stats;
pub mod stop;
pub mod store;
pub mod structure;
#[cfg(feature = "testing")]
pub mod testing;
mod tombstone;
pub mod transfer;
pub mod trust;

pub use error::StoreError;
pub use store::Store;
