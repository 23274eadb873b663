//! The host helper: everything that runs on the server. See `docs/host.md`.

mod accounts;
mod base;
mod blobs;
mod book;
mod command;
mod disk;
mod error;
mod journal;
mod lock;
mod materialise;
mod pending;
mod prune;
mod receive;
mod serve;
mod shared;
mod store;
mod switch;
mod verify;
mod warm;

pub use command::step;
pub use serve::serve;
pub use store::serve_store;
