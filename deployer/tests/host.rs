//! The host helper's real binary, spoken to over pipes.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "host/caches.rs"]
mod caches;
#[path = "host/client.rs"]
mod client;
#[path = "host/cycle.rs"]
mod cycle;
#[path = "host/damage.rs"]
mod damage;
#[path = "host/edges.rs"]
mod edges;
#[path = "host/interrupted.rs"]
mod interrupted;
#[path = "host/refusals.rs"]
mod refusals;
#[path = "host/store.rs"]
mod store;
#[path = "host/tree.rs"]
mod tree;
